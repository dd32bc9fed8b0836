/* Ctrl-C, SIGTERM and SIGHUP (the terminal is gone): the process prints one line and ends at once,
 * with the conventional exit code (130, 143, 129), and no unfinished file is left. Finished results
 * are not lost by that: they are on disk before the next step begins. */
#pragma once

#include <stdbool.h>

#include "transport/transport.h"

/* Begin to watch for signals, and have writes beyond the limit of a file's size fail as on a full
 * disk, not end the process. Must be called before any other thread is started. quiet: print no
 * line (for workers under mpirun). place_follows: the command runs a model, so the line says that
 * the run is starting until signals_place() is called. */
void signals_open(bool quiet, bool place_follows);
/* From now on the line says where p is. NULL: from now on the line says where the last p is now. */
void signals_place(const struct pulse *p);
/* From now on the watching thread calls taken() for each signal, with its number and how many have
 * come. SIGUSR1, as which launch/mpirun.sh passes Ctrl-C on, is one of them; without a taken()
 * (NULL) it has no effect. If taken() returns true, the process goes on. If false, the process
 * ends, and no signals_on() returns from then on, so that another thread cannot end it with another
 * code. When this returns, the taken() of before is not running. */
void signals_on(bool (*taken)(void *context, int number, int times), void *context);
