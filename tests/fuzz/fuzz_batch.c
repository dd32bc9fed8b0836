/* The input of a batch: any bytes, cut into lines of at most so many bytes (the first two bytes
 * say), each read as a request. Lines join to what was cut; a request that is accepted is one that
 * can run, and a result or an error is a line that reads back with the request's id. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/json.h"
#include "launch/batch.h"
#include "launch/lines.h"
#include "tests/fuzz/fuzz_requests.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct completion_terms terms;

static void check_line(char *line, size_t bytes, const struct job *j)
{
    CHECK(bytes >= 1 && memchr(line, '\n', bytes) == line + bytes - 1, "not one line");
    struct js *v = js_parse(line, bytes, "output");
    size_t n;
    CHECK(v, "%s", error_text());
    const char *id = js_string(js_member(v, "id"), &n);
    CHECK(id && n == j->id_bytes && memcmp(id, j->id, n) == 0, "another id");
    js_free(v);
    free(line);
}

static void read_line(const char *line, size_t bytes, size_t number)
{
    struct job j;
    struct request_result r = {.n_new = 0, .finish = FINISH_LENGTH};
    size_t n;
    char *out;
    int status = job_read(&j, &terms, line, bytes, number);
    CHECK(j.id && j.id_bytes, "no id");
    error_capture(true);
    if (status == 0) {
        check_runnable(&j.completion.request);
        r.n_prompt = j.completion.request.n;
        while (r.n_new < j.completion.request.n_predict &&
               !job_token(&j, j.completion.prompt[r.n_new % j.completion.request.n]))
            r.n_new++;
        out = job_result(&j, &r, &n);
    } else {
        CHECK(*j.error, "refused without a word");
        out = job_error(&j, j.error, &n);
    }
    check_line(out, n, &j);
    job_close(&j);
}

static void check_lines(int fd, const char *bytes, size_t size, size_t most)
{
    struct line_reader r;
    enum line_result got;
    char *line;
    size_t n, at = 0;
    lines_open(&r, fd, most);
    for (size_t number = 1; (got = lines_next(&r, true, &line, &n)) != LINE_END; number++) {
        const char *end = memchr(bytes + at, '\n', size - at);
        size_t whole = (size_t)((end ? end : bytes + size) - (bytes + at));
        CHECK(got == (whole > most ? LINE_TOO_LONG : LINE_READ), "%zu bytes: %d", whole, (int)got);
        CHECK(got == LINE_TOO_LONG || n == whole, "expected %zu bytes, found %zu", whole, n);
        CHECK(memcmp(line, bytes + at, n < whole ? n : whole) == 0, "other bytes");
        at += whole + (end != NULL);
        if (got == LINE_READ)
            read_line(line, n, number);
    }
    CHECK(at == size, "%zu bytes left", size - at);
    lines_close(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!terms.c)
        terms = request_terms();
    if (size < 2)
        return 0;
    const char *text = (const char *)data + 2;
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    CHECK(fd >= 0 && write(fd, text, size - 2) == (ssize_t)(size - 2) &&
              lseek(fd, 0, SEEK_SET) == 0,
          "no memory");
    check_lines(fd, text, size - 2, (size_t)(data[0] | data[1] << 8));
    close(fd);
    return 0;
}
