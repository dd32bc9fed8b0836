/* Ctrl-C and SIGTERM: the process ends at once, with one line and the conventional code (130, 143).
 * Nothing finished is lost by that: results are on disk before the next step begins. */
#pragma once

#include "transport/transport.h"

/* Before any other thread is started. quiet: say nothing (a worker under mpirun). place_follows:
 * until signals_place() the run is starting. */
void signals_open(bool quiet, bool place_follows);
/* From here on the line says where the run was (NULL: it stays where it is). */
void signals_place(const struct pulse *p);
