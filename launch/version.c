#include <stdio.h>

#include "commit.h"
#include "kernels/device.h"
#include "launch/launch.h"

const char *program_version(void)
{
    return EPMOE_VERSION " (" EPMOE_COMMIT ")";
}

void print_version(void)
{
    printf("epmoe %s\ninstruction sets: built and usable here:", program_version());
    for (int isa = 0; isa < ISA_COUNT; isa++)
        if (isa_available() & 1u << isa)
            printf(" %s", isa_name((enum isa)isa));
    printf("\nlibraries: %s, protobuf-c, jansson, PCRE2, utf8proc, OpenMP\n",
           transport_mpi_version());
}
