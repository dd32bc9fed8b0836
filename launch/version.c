#include <stdio.h>

#include "base/json.h"
#include "commit.h"
#include "kernels/device.h"
#include "launch/launch.h"
#include "launch/line_edit.h"
#include "model/libraries.h"
#include "proto/control.h"
#include "serve/http.h"

const char *program_version(void)
{
    return EPMOE_VERSION " (" EPMOE_COMMIT ")";
}

const char *program_libraries(void)
{
    static char text[256];
    snprintf(text, sizeof text, "%s, %s, %s, %s, %s, %s", transport_mpi_version(),
             control_library(), js_library(), model_libraries(), http_library(),
             line_edit_library());
    return text;
}

void print_version(void)
{
    printf("epmoe %s\ninstruction sets usable here:", program_version());
    for (int isa = 0; isa < ISA_COUNT; isa++)
        if (isa_available() & 1u << isa)
            printf(" %s", isa_name((enum isa)isa));
    printf("\nlibraries: %s\n", program_libraries());
}
