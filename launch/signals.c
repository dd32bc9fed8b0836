#include "launch/signals.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"

static sigset_t awaited;
static bool silent, starting;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; // of starting and place
static const struct pulse *place;

/* Where the line goes: to the runner, which knows better what the end was (launch/mpirun.sh; mpirun
 * would not pass it on any more), or to stderr. */
static void write_line(const char *line)
{
    const char *runner = getenv("EPMOE_LAST_WORDS");
    FILE *f = runner ? fopen(runner, "w") : NULL;
    if (!f) {
        warn("%s", line);
        return;
    }
    fprintf(f, "%s\n", line);
    fclose(f);
}

static void say(int number)
{
    const char *name = number == SIGINT ? "interrupted" : "terminated";
    char where[192] = "", line[256];
    pthread_mutex_lock(&mutex);
    if (starting)
        snprintf(where, sizeof where, "while starting; no step was finished");
    if (place)
        pulse_place(place, where, sizeof where);
    pthread_mutex_unlock(&mutex);
    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr); // a progress bar, or ^C
    snprintf(line, sizeof line, "%s%s%s", name, *where ? " " : "", where);
    write_line(line);
}

/* A thread, not a handler: it may call anything. */
static void *wait_for_signal(void *unused)
{
    int number = 0;
    (void)unused;
    while (sigwait(&awaited, &number) != 0)
        ;
    outfile_discard();
    if (!silent)
        say(number);
    _exit(128 + number);
}

/* What a shell's `&` or nohup has set to be ignored stays so. */
static void await(int number)
{
    struct sigaction now;
    if (sigaction(number, NULL, &now) == 0 && now.sa_handler != SIG_IGN)
        sigaddset(&awaited, number);
}

void signals_open(bool quiet, bool place_follows)
{
    pthread_t thread;
    silent = quiet;
    starting = place_follows;
    sigemptyset(&awaited);
    await(SIGINT);
    await(SIGTERM);
    pthread_sigmask(SIG_BLOCK, &awaited, NULL);
    CHECK(pthread_create(&thread, NULL, wait_for_signal, NULL) == 0, "no thread for signals");
    pthread_detach(thread);
}

void signals_place(const struct pulse *p)
{
    pthread_mutex_lock(&mutex);
    starting = false;
    place = p;
    pthread_mutex_unlock(&mutex);
}
