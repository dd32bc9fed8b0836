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
static int runner = -1;                                   // the file of launch/mpirun.sh
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; // of starting and place
static const struct pulse *place;
static char last[192]; // where it was when the ranks parted

/* "in layer 3 of step 7 …", or nothing where there is no place to tell. */
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

/* Under the runner rank 0's words go to a file of its, since mpirun would not pass on the last
 * ones. One write, so that it holds a whole line whenever this process is killed. */
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
        fputs("\r\033[K", stderr); // a progress bar, or ^C
    find_place(where, sizeof where);
    warn("%s%s%s", word, *where ? " " : "", where);
}

/* A thread, not a handler: it may call anything. For the runner it keeps the place up to date, too:
 * mpirun may kill this process without a warning. */
static void *wait_for_signal(void *unused)
{
    const struct timespec interval = {0, runner < 0 ? 999999999 : 100000000};
    int number;
    (void)unused;
    while ((number = sigtimedwait(&awaited, NULL, &interval)) < 0)
        tell_runner("at");
    outfile_discard();
    if (!silent)
        say(number == SIGINT ? "interrupted" : "terminated");
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
    const char *words = getenv("EPMOE_LAST_WORDS");
    if (words && place_follows && !quiet)
        runner = open(words, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
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
    if (place && !p) // mpirun may end a rank that is on its way out
        pulse_place(place, last, sizeof last);
    place = p;
    pthread_mutex_unlock(&mutex);
}
