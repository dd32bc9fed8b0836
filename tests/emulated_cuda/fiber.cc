#include "fiber.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "report.h"
#include "sanitizers.h"

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emulated
{

enum { STACK_BYTES = 256 << 10, GUARD_BYTES = 4096 };

static __thread fiber *arriving, *leaving; // of the switch under way

/* AddressSanitizer keeps the bounds of the stack it is on: the first time away from an OS thread's
 * own stack tells us what they are. */
static void arrived()
{
#if EMULATED_ASAN
    const void *bottom;
    size_t bytes;
    __sanitizer_finish_switch_fiber(arriving->fake, &bottom, &bytes);
    if (!leaving->bottom) {
        leaving->bottom = bottom;
        leaving->bytes = bytes;
    }
#endif
}

static void start()
{
    arrived();
    arriving->body();
    die("a fiber's body has returned");
}

static void before_switch(fiber *from, fiber *to)
{
    leaving = from;
    arriving = to;
#if EMULATED_ASAN
    __sanitizer_start_switch_fiber(&from->fake, to->bottom, to->bytes);
#endif
}

#if defined(__x86_64__)

/* Saves what a callee must keep, changes stacks, and returns on the other one. */
extern "C" void emulated_switch(void **from, void *to);
asm(R"(
    .text
    .type emulated_switch, @function
emulated_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size emulated_switch, . - emulated_switch
)");

static void prepare(fiber *f)
{
    void **top = (void **)((uintptr_t)f->bottom + f->bytes);
    *--top = nullptr; // where start() would return to; it keeps the stack aligned as for a call
    *--top = (void *)start;
    top -= 6;
    f->stack = top;
}

void fiber_switch(fiber *from, fiber *to)
{
    before_switch(from, to);
    emulated_switch(&from->stack, to->stack);
    arrived();
}

#else

static void prepare(fiber *f)
{
    ucontext_t *u = (ucontext_t *)malloc(sizeof *u);
    getcontext(u);
    u->uc_stack.ss_sp = (void *)f->bottom;
    u->uc_stack.ss_size = f->bytes;
    u->uc_link = nullptr;
    makecontext(u, start, 0);
    f->stack = u;
}

void fiber_switch(fiber *from, fiber *to)
{
    if (!from->stack)
        from->stack = malloc(sizeof(ucontext_t));
    before_switch(from, to);
    swapcontext((ucontext_t *)from->stack, (ucontext_t *)to->stack);
    arrived();
}

#endif

fiber *fiber_new(void (*body)())
{
    char *memory = (char *)mmap(nullptr, GUARD_BYTES + STACK_BYTES, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        die("no memory for a fiber's stack");
    mprotect(memory, GUARD_BYTES, PROT_NONE);
    fiber *f = (fiber *)calloc(1, sizeof *f);
    f->body = body;
    f->bottom = memory + GUARD_BYTES;
    f->bytes = STACK_BYTES;
    prepare(f);
    return f;
}

void fiber_free(fiber *f)
{
    unpoison((void *)f->bottom, f->bytes); // others will have these addresses
    munmap((char *)f->bottom - GUARD_BYTES, GUARD_BYTES + STACK_BYTES);
#ifndef __x86_64__
    free(f->stack);
#endif
    free(f);
}

} // namespace emulated
