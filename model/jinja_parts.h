/* What the files of jinja.h share: values, nodes, and the state of one reading or rendering.
 *
 * All memory is from one arena and is freed together, so an error may leave by longjmp (jinja_fail)
 * from anywhere. Texts are UTF-8 without a 0 at their end; lists, and
 * objects but for namespaces, do not change once they are made. */
#pragma once

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "model/jinja.h"

enum { JINJA_MOST_ARGS = 4, JINJA_ERROR_BYTES = 512 };

enum jinja_kind {
    JINJA_UNDEFINED, // text says why, for errors
    JINJA_NONE,
    JINJA_BOOL,
    JINJA_INT,
    JINJA_REAL,
    JINJA_TEXT,
    JINJA_LIST,
    JINJA_DICT,
    JINJA_NAMESPACE,
    JINJA_LOOP,
    JINJA_MACRO,
    JINJA_METHOD,   // of a value, not called yet
    JINJA_FUNCTION, // text is its name
};

struct jinja_text {
    const char *at;
    size_t bytes;
};

struct jinja_value {
    enum jinja_kind kind;
    bool safe; // a text that `| safe` marked: Python's + and methods would escape what they add
    union {
        bool truth;
        int64_t integer;
        double real;
        struct jinja_text text;
        struct jinja_list *list;
        struct jinja_dict *dict; // of a namespace, too
        struct jinja_loop *loop;
        struct jinja_macro *macro;
        struct jinja_method *method;
    };
};

struct jinja_list {
    struct jinja_value *at;
    size_t n;
    bool tuple; // Python prints and compares tuples in another way
};

struct jinja_entry {
    struct jinja_text key;
    struct jinja_value value;
    bool read; // the template has looked it up
};

struct jinja_dict {
    struct jinja_entry *at; // in the order in which they were put in
    size_t n, room;
};

struct jinja_method {
    struct jinja_value self;
    const struct jinja_function *function;
};

struct jinja_loop {
    const struct jinja_list *items;
    size_t i;
};

enum jinja_op {
    /* Expressions. */
    NODE_CONST,   // value
    NODE_NAME,    // text
    NODE_LIST,    // list
    NODE_TUPLE,   // list
    NODE_DICT,    // list: key, value, key, value …
    NODE_MEMBER,  // a.text
    NODE_ITEM,    // a[b]
    NODE_SLICE,   // a[list]: from, to, step, which are NODE_CONST none where left out
    NODE_CALL,    // a(list)
    NODE_FILTER,  // a | text(list)
    NODE_TEST,    // a is text(list)
    NODE_NOT,     // not a
    NODE_MINUS,   // -a
    NODE_PLUS,    // +a
    NODE_AND,     // a and b
    NODE_OR,      // a or b
    NODE_BINARY,  // a text b, for + - * / // % ** ~
    NODE_COMPARE, // a, then list of NODE_COMPARE with text and b
    NODE_CHOICE,  // a if b else c; c may be NULL
    NODE_KEYWORD, // text=a, among the arguments of a call
    /* Statements. */
    NODE_DATA,     // value
    NODE_PRINT,    // a
    NODE_IF,       // if a: body, else other, which is one NODE_IF for an elif
    NODE_FOR,      // for a in b if c: body, else other
    NODE_SET,      // a = b
    NODE_CAPTURE,  // a = what body prints
    NODE_MACRO,    // text(list of NODE_NAME, whose a is the default or NULL): body
    NODE_BLOCK,    // body
    NODE_BREAK,    //
    NODE_CONTINUE, //
};

struct jinja_node {
    enum jinja_op op;
    int line;
    struct jinja_text text;
    struct jinja_value value;
    struct jinja_node *a, *b, *c;
    struct jinja_node *list, *body, *other; // the first of several, which go on by next
    struct jinja_node *next;
};

struct jinja_scope {
    struct jinja_scope *up; // NULL: the variables that were given
    struct jinja_dict names;
};

struct jinja_macro {
    const struct jinja_node *node;
    struct jinja_scope *scope; // where it was defined
};

struct jinja_buffer {
    char *text;
    size_t bytes, room;
};

/* One reading or rendering. */
struct jinja_run {
    struct arena *memory;
    size_t most_bytes;
    uint64_t steps, most_steps;
    int depth, line;
    struct jinja_scope *scope;
    struct jinja_buffer *out;
    jmp_buf failed;
    bool raised; // the template itself raised the exception
    char error[JINJA_ERROR_BYTES];
};

struct jinja {
    struct arena memory;
    char *name;
    struct jinja_node *body;
    struct jinja_text *names; // [n_names] of variables and members
    size_t n_names;
};

/* Arguments that were given, by the number that their name has in the function's list; NULL: not
 * given. */
typedef const struct jinja_value *jinja_given[JINJA_MOST_ARGS];

struct jinja_function {
    const char *name;
    struct jinja_value (*call)(struct jinja_run *r, const struct jinja_value *self,
                               jinja_given given);
    const char *args[JINJA_MOST_ARGS]; // their names; the first `least` must be given
    int least;
};

/* Arguments of a call, before a function's names are asked. */
struct jinja_args {
    struct jinja_value *at;
    size_t n;
    struct jinja_dict keywords;
};

/* jinja_run.c: limits and errors. */
void jinja_fail(struct jinja_run *r, const char *format, ...)
    __attribute__((noreturn, format(printf, 2, 3)));
void *jinja_alloc(struct jinja_run *r, size_t bytes);
void jinja_step(struct jinja_run *r, size_t steps);
void jinja_enter(struct jinja_run *r); // one level deeper
void jinja_leave(struct jinja_run *r);
void jinja_put(struct jinja_run *r, struct jinja_buffer *b, const char *text, size_t bytes);
void jinja_put_text(struct jinja_run *r, struct jinja_buffer *b, struct jinja_text t);

/* jinja_read.c: the template as nodes, in r's memory. */
struct jinja_node *jinja_read(struct jinja_run *r, struct jinja_text source, struct jinja *t);
/* jinja_exec.c */
void jinja_exec(struct jinja_run *r, const struct jinja_node *first);
struct jinja_value jinja_call_macro(struct jinja_run *r, const struct jinja_macro *m,
                                    const struct jinja_args *args);
/* jinja_eval.c */
void jinja_refuse_safe(struct jinja_run *r, const struct jinja_value *v);
struct jinja_value jinja_eval(struct jinja_run *r, const struct jinja_node *n);
struct jinja_value jinja_call(struct jinja_run *r, const struct jinja_function *f,
                              const struct jinja_value *self, const struct jinja_args *args);
/* jinja_member.c: a.name and a[item] */
struct jinja_value jinja_member(struct jinja_run *r, const struct jinja_value *v,
                                struct jinja_text name);
struct jinja_value jinja_item(struct jinja_run *r, const struct jinja_value *v,
                              const struct jinja_value *at);
struct jinja_value jinja_slice(struct jinja_run *r, const struct jinja_value *v,
                               const struct jinja_value *range);
/* jinja_operators.c */
struct jinja_value jinja_binary(struct jinja_run *r, struct jinja_text sign,
                                const struct jinja_value *a, const struct jinja_value *b);
bool jinja_compare(struct jinja_run *r, struct jinja_text sign, const struct jinja_value *a,
                   const struct jinja_value *b);
bool jinja_equal(struct jinja_run *r, const struct jinja_value *a, const struct jinja_value *b);
bool jinja_less(struct jinja_run *r, const struct jinja_value *a, const struct jinja_value *b);
bool jinja_contains(struct jinja_run *r, const struct jinja_value *whole,
                    const struct jinja_value *part);

/* jinja_value.c */
extern const struct jinja_value jinja_none;
struct jinja_value jinja_bool(bool v);
struct jinja_value jinja_int(int64_t v);
struct jinja_value jinja_real(double v);
struct jinja_value jinja_text(const char *at, size_t bytes);
struct jinja_value jinja_word(const char *text); // to the 0 at its end
struct jinja_value jinja_undefined(struct jinja_run *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
struct jinja_list *jinja_list_new(struct jinja_run *r, size_t n);
struct jinja_value jinja_list_value(struct jinja_list *l);
void jinja_dict_put(struct jinja_run *r, struct jinja_dict *d, struct jinja_text key,
                    struct jinja_value v);
struct jinja_entry *jinja_dict_find(struct jinja_run *r, const struct jinja_dict *d,
                                    struct jinja_text key);
struct jinja_value jinja_from_js(struct jinja_run *r, const struct js *v);
bool jinja_truth(const struct jinja_value *v);
bool jinja_is_number(const struct jinja_value *v); // a truth value is one, too
bool jinja_is(struct jinja_text t, const char *word);
const char *jinja_kind_name(const struct jinja_value *v); // "a text", "a list", …
struct jinja_list *jinja_items(struct jinja_run *r, const struct jinja_value *v); // to iterate
struct jinja_text jinja_expect_text(struct jinja_run *r, const struct jinja_value *v,
                                    const char *what);
int64_t jinja_expect_int(struct jinja_run *r, const struct jinja_value *v, const char *what);
/* What Python's str() makes of it. */
struct jinja_text jinja_str(struct jinja_run *r, const struct jinja_value *v);
/* jinja_print.c */
void jinja_put_str(struct jinja_run *r, struct jinja_buffer *b, const struct jinja_value *v);
void jinja_put_json(struct jinja_run *r, struct jinja_buffer *b, const struct jinja_value *v,
                    jinja_given given);

/* jinja_text.c: texts, character by character. */
size_t jinja_length(struct jinja_text t);               // in characters
size_t jinja_offset(struct jinja_text t, size_t index); // bytes before that character
size_t jinja_space_begin(struct jinja_text t);          // bytes of whitespace
size_t jinja_space_end(struct jinja_text t);            // bytes up to the whitespace at the end
bool jinja_valid(struct jinja_text t);                  // is it UTF-8?
enum { JINJA_LEFT = 1, JINJA_RIGHT = 2 };
struct jinja_text jinja_strip(struct jinja_text t, int sides, const struct jinja_value *characters);

/* Tables; NULL: there is none of that name. */
const struct jinja_function *jinja_filter(struct jinja_text name); // _filters.c
const struct jinja_function *jinja_test(struct jinja_text name);   // _tests.c
const struct jinja_function *jinja_method(struct jinja_run *r, const struct jinja_value *self,
                                          struct jinja_text name); // _methods.c
bool jinja_is_function(struct jinja_text name);                    // _functions.c
struct jinja_value jinja_call_function(struct jinja_run *r, struct jinja_text name,
                                       const struct jinja_args *args);
