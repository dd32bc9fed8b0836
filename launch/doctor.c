/* epmoe doctor: prints what this machine and build can do, and advice on what is missing. */
#include "launch/doctor.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/check.h"
#include "base/json.h"
#include "base/log.h"
#include "launch/launch.h"

static const char *const verdicts[] = {"ok", "hint", "missing"};

void finding(struct findings *f, enum verdict v, const char *name, const char *format, ...)
{
    CHECK(f->n < MAX_FINDINGS, "more than %d findings", MAX_FINDINGS);
    struct finding *x = &f->list[f->n++];
    va_list args;
    va_start(args, format);
    *x = (struct finding){.verdict = v};
    snprintf(x->name, sizeof x->name, "%s", name);
    vsnprintf(x->text, sizeof x->text, format, args);
    va_end(args);
}

void advice(struct findings *f, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(f->list[f->n - 1].advice, sizeof f->list->advice, format, args);
    va_end(args);
}

static void read_line(char *line, size_t size, FILE *stream)
{
    if (!stream || !fgets(line, (int)size, stream))
        line[0] = 0;
    line[strcspn(line, "\n")] = 0;
}

void first_line(char *line, size_t size, const char *path)
{
    FILE *stream = fopen(path, "r");
    read_line(line, size, stream);
    if (stream)
        fclose(stream);
}

void first_line_of(char *line, size_t size, const char *command)
{
    FILE *stream = popen(command, "r");
    read_line(line, size, stream);
    if (stream)
        pclose(stream);
}

static void print_text(const struct findings *f)
{
    for (int i = 0; i < f->n; i++) {
        const struct finding *x = &f->list[i];
        printf("%-8s %-14s %s\n", verdicts[x->verdict], x->name, x->text);
        if (x->advice[0])
            printf("%-8s %-14s -> %s\n", "", "", x->advice);
    }
}

static void print_json(const struct findings *f)
{
    struct js *root = js_new_object(), *list = js_new_array();
    for (int i = 0; i < f->n; i++) {
        struct js *x = js_new_object();
        js_set(x, "verdict", js_new_text(verdicts[f->list[i].verdict]));
        js_set(x, "name", js_new_text(f->list[i].name));
        js_set(x, "found", js_new_text(f->list[i].text));
        js_set(x, "advice", js_new_text(f->list[i].advice));
        js_push(list, x);
    }
    js_set(root, "findings", list);
    js_print(root, stdout, 2);
    js_free(root);
}

int command_doctor(struct process *p, int argc, char **argv)
{
    struct findings f = {.n = 0};
    int format = 0;
    (void)p;
    struct command_spec spec = {
        "doctor",
        "Tell what this machine and build can do, and what to do about what is missing.",
        "[-o text|json]",
        NULL,
        NULL,
        "ok: as it should be. hint: it works, and could be better. missing: not there."};
    struct option_spec table[] = {{"output", 'o', OPTION_CHOICE, &format, "text|json",
                                   "form of the report (text)", 0, 0, NULL},
                                  {0}};
    int status = options_parse(&spec, table, argc, argv);
    if (status)
        return status == OPTIONS_HELP ? 0 : status;
    look_at_machine(&f);
    look_at_software(&f);
    if (format == 0)
        print_text(&f);
    else
        print_json(&f);
    return 0;
}
