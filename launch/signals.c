#include "launch/signals.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"

enum { LINE_BYTES = 256 };

static sigset_t awaited;
static bool silent, starting;
static int runner = -1; // the file in which launch/mpirun.sh wants rank 0's last line; -1: none
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; // guards starting, place and last
static const struct pulse *place;
static char last[192]; // where the run was when the ranks ended

/* out := where the run is, "in layer 3 of step 7 …"; "" if that is not known. */
static void find_place(char *out, size_t size)
{
    pthread_mutex_lock(&mutex);
    if (starting)
        snprintf(out, size, "while starting; no step was finished");
    else if (place)
        pulse_place(place, out, size);
    else
        snprintf(out, size, "%s", last);
    pthread_mutex_unlock(&mutex);
}

/* Under launch/mpirun.sh, rank 0 writes its last line to the script's file, as mpirun does not pass
 * on what a rank prints when it is killed. It is one write, so that the file always holds a whole
 * line. */
static bool tell_runner(const char *word)
{
    char where[192], line[LINE_BYTES + 1];
    if (runner < 0)
        return false;
    find_place(where, sizeof where);
    int n = snprintf(line, sizeof line, "%s %s", word, where);
    memset(line + n, ' ', (size_t)(LINE_BYTES - n));
    line[LINE_BYTES - 1] = '\n';
    return pwrite(runner, line, LINE_BYTES, 0) == LINE_BYTES;
}

static void say(const char *word)
{
    char where[192];
    if (tell_runner(word))
        return;
    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr); // wipe the line, on which a progress bar or ^C may be
    find_place(where, sizeof where);
    warn("%s%s%s", word, *where ? " " : "", where);
}

static pthread_mutex_t taker_mutex = PTHREAD_MUTEX_INITIALIZER; // guards these:
static bool (*taker)(void *context, int number, int times);
static void *taker_context;

void signals_on(bool (*taken)(void *context, int number, int times), void *context)
{
    pthread_mutex_lock(&taker_mutex);
    taker = taken;
    taker_context = context;
    pthread_mutex_unlock(&taker_mutex);
}

/* Whether the process goes on after this signal. If not, the mutex stays locked, so that no other
 * thread gets past signals_on() and ends the process with another code. */
static bool is_taken(int number)
{
    static int times;
    pthread_mutex_lock(&taker_mutex);
    bool taken = taker ? taker(taker_context, number, ++times) : number == SIGUSR1;
    if (taken)
        pthread_mutex_unlock(&taker_mutex);
    return taken;
}

/* Waits for signals on a thread of its own, which may call any function; a handler may not. It also
 * keeps the place in the script's file up to date, as mpirun may kill this process without a
 * warning. */
static void *wait_for_signal(void *unused)
{
    const struct timespec interval = {0, runner < 0 ? 999999999 : 100000000};
    int number;
    (void)unused;
    while ((number = sigtimedwait(&awaited, NULL, &interval)) < 0 || is_taken(number))
        tell_runner("at");
    outfile_discard();
    if (!silent)
        say(number == SIGINT ? "interrupted" : number == SIGHUP ? "hung up" : "terminated");
    _exit(128 + number);
}

/* Have the thread wait for this signal. A signal that is ignored, as set by nohup or a shell's `&`,
 * stays ignored. */
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
    const char *words = getenv("EPMOE_LAST_WORDS");
    if (words && place_follows && !quiet)
        runner = open(words, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    sigemptyset(&awaited);
    await(SIGINT);
    await(SIGTERM);
    await(SIGHUP);
    await(SIGUSR1);
    signal(SIGXFSZ, SIG_IGN); // so that write() returns an error when a file grows too large
    pthread_sigmask(SIG_BLOCK, &awaited, NULL);
    CHECK(pthread_create(&thread, NULL, wait_for_signal, NULL) == 0, "no thread for signals");
    pthread_detach(thread);
}

void signals_place(const struct pulse *p)
{
    pthread_mutex_lock(&mutex);
    starting = false;
    if (place && !p) // keep the last place: mpirun may still kill this rank while it ends
        pulse_place(place, last, sizeof last);
    place = p;
    pthread_mutex_unlock(&mutex);
}
