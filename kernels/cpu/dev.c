/* Opening a CPU device, its table of primitives, and the choice of an instruction set. */
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/memory.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/quant.h"

/* Up to this many rows, reading memory limits experts, and arithmetic limits pieces, which all rows
 * go through; side by side they use both. With more rows arithmetic limits both. */
enum { JOINT_FFN_MAX_ROWS = 64 };

/* ---- memory ---- */

static void *cpu_alloc(struct dev *d, size_t bytes)
{
    return d->memory_owner ? dev_alloc_host(d->memory_owner, bytes)
                           : arena_alloc(&d->memory, bytes);
}

static void *cpu_alloc_copy(struct dev *d, void *host, size_t bytes)
{
    (void)d, (void)bytes;
    return host;
}

static void cpu_copy(struct dev *d, void *to, const void *from, size_t bytes)
{
    (void)d;
    if (to != from && bytes)
        memcpy(to, from, bytes);
}

static uint64_t cpu_free_bytes(struct dev *d)
{
    (void)d;
    return memory_available();
}

static int cpu_wait(struct dev *d)
{
    (void)d;
    return 0;
}

/* A primitive has finished when it returns, so the host's clock gives the right times. */
static const struct trace_timer *cpu_time_marks(struct dev *d, size_t room)
{
    (void)d, (void)room;
    return NULL;
}

/* The CPU does not record: the caller makes the calls each time. */
static bool cpu_graph_begin(struct dev *d, uint64_t key)
{
    (void)d, (void)key;
    return true;
}

static void cpu_graph_end(struct dev *d)
{
    (void)d;
}

static void cpu_ffn_list_open(struct dev *d, struct ffn_list *list)
{
    (void)d;
    list->device = NULL;
}

/* What quantised rows take of the scratch: those of an ffn, or of a single product. */
static size_t quant_scratch(const struct dev_limits *most)
{
    size_t rows = (size_t)most->rows, piece_rows = (size_t)most->piece_rows;
    size_t dim = quant_row_bytes(most->dim),
           heads = quant_row_bytes(most->n_heads * most->head_dim);
    size_t ffn = rows * (dim + quant_row_bytes(most->ffn_width)) +
                 piece_rows * (dim + (size_t)most->pieces * quant_row_bytes(most->piece_width));
    size_t more = piece_rows > (size_t)most->logit_rows ? piece_rows : (size_t)most->logit_rows;
    size_t product = (rows > more ? rows : more) * (dim > heads ? dim : heads);
    return ffn > product ? ffn : product;
}

static void cpu_reserve(struct dev *d, const struct dev_limits *most)
{
    size_t hidden = (size_t)most->rows *
                    (row_bytes(most->type, most->ffn_width) + row_bytes(most->type, most->dim));
    size_t pieces =
        (size_t)most->piece_rows * (size_t)most->pieces * row_bytes(most->type, most->piece_width);
    size_t heads = (size_t)d->threads * attention_scratch_bytes(most->type, most->head_dim);
    size_t quantised = most->quantised ? quant_scratch(most) : 0;
    size_t together = hidden + pieces + quantised, need = together > heads ? together : heads;
    int runs = most->n_experts + most->pieces;
    if (runs > d->n_runs) {
        d->runs = arena_alloc(&d->memory, (size_t)runs * sizeof *d->runs);
        d->n_runs = runs;
    }
    if (need <= d->scratch_bytes)
        return;
    d->scratch = dev_alloc(d, need);
    d->scratch_bytes = need;
}

static void cpu_close(struct dev *d)
{
    arena_free(&d->memory);
    *d = (struct dev){0};
}

static const struct kernels kernels_cpu = {
    .name = "cpu",
    .embed = cpu_embed,
    .rmsnorm = cpu_rmsnorm,
    .matmul = cpu_matmul,
    .matmul_add = cpu_matmul_add,
    .ffn = cpu_ffn,
    .rope_append = cpu_rope_append,
    .attention = cpu_attention,
    .route = cpu_route,
    .gather = cpu_gather,
    .add_norm = cpu_add_norm,
    .sum_rows = cpu_sum_rows,
    .narrow = cpu_narrow,
    .widen = cpu_widen,
    .add_seen = cpu_add_seen,
    .penalise = cpu_penalise,
    .top = cpu_top,
    .matrix_bytes = cpu_matrix_bytes,
    .matrix_pack = cpu_matrix_pack,
    .matrix_pack_pair = cpu_matrix_pack_pair,
    .fill = cpu_fill,
    .kv_block_bytes = cpu_kv_block_bytes,
    .ffn_list_open = cpu_ffn_list_open,
    .alloc = cpu_alloc,
    .alloc_host = cpu_alloc,
    .alloc_copy = cpu_alloc_copy,
    .upload = cpu_copy,
    .download = cpu_copy,
    .free_bytes = cpu_free_bytes,
    .wait = cpu_wait,
    .time_marks = cpu_time_marks,
    .graph_begin = cpu_graph_begin,
    .graph_end = cpu_graph_end,
    .reserve = cpu_reserve,
    .close = cpu_close,
    .peak_flops = cpu_peak_flops,
    .quant_peak_flops = cpu_quant_peak_flops,
    .read_bandwidth = cpu_read_bandwidth,
};

/* ---- instruction sets ---- */

static bool has_plain(void)
{
    return true;
}

#ifdef EPMOE_X86
#include <cpuid.h>
#include <sys/syscall.h>

/* __builtin_cpu_supports also checks that the operating system saves the registers. Some compilers'
 * version of it does not know f16c, so that bit is read directly. */
static bool has_avx2(void)
{
    unsigned a, b, c = 0, d;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

/* Bit 4 of eax of leaf 7, subleaf 1, which some compilers' versions of __builtin_cpu_supports do
 * not know. */
static bool has_avx_vnni(void)
{
    unsigned a, b, c, d;
    return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1 << 4);
}

/* VNNI, which multiplies quantised weights, is in every processor that has BF16. */
static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni");
}

/* Besides the processor the operating system must agree: Linux gives a process room to save its
 * tiles only when it asks (Documentation/arch/x86/xstate.rst), which holds for all later threads.
 * The feature bits are those of leaf 7's edx. */
static bool has_amx(void)
{
    enum {
        REQUEST_PERMISSION = 0x1023,
        TILE_DATA = 18,
        BF16 = 1 << 22,
        TILES = 1 << 24,
        INT8 = 1 << 25
    };
    const unsigned all = BF16 | TILES | INT8;
    unsigned a, b, c, d = 0;
    return has_avx512() && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & all) == all &&
           syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

#define X86(loops, has) &loops, has
#else
#define X86(loops, has) NULL, NULL
#endif

static const struct {
    const char *name;
    const struct cpu_isa *loops; // NULL: this build has none
    bool (*runs_here)(void);
} isas[ISA_COUNT] = {
    [ISA_PLAIN] = {"plain", &isa_plain, has_plain},
    [ISA_AVX2] = {"avx2", X86(isa_avx2, has_avx2)},
    [ISA_AVX_VNNI] = {"avxvnni", X86(isa_avx_vnni, has_avx_vnni)},
    [ISA_AVX512] = {"avx512", X86(isa_avx512, has_avx512)},
    [ISA_AMX] = {"amx", X86(isa_amx, has_amx)},
};

const char *isa_name(enum isa isa)
{
    return isas[isa].name;
}

unsigned isa_built(void)
{
    unsigned built = 0;
    for (int isa = 0; isa < ISA_COUNT; isa++)
        built |= (unsigned)(isas[isa].loops != NULL) << isa;
    return built;
}

unsigned isa_available(void)
{
    unsigned available = 0;
    for (int isa = 0; isa < ISA_COUNT; isa++)
        available |= (unsigned)(isas[isa].loops && isas[isa].runs_here()) << isa;
    return available;
}

static void list_isas(char *text, size_t size, unsigned mask)
{
    size_t used = 0;
    text[0] = 0;
    for (int i = 0; i < ISA_COUNT; i++)
        if (mask >> i & 1)
            used += (size_t)snprintf(text + used, size - used, "%s%s", used ? ", " : "",
                                     isa_name((enum isa)i));
}

int isa_choose(enum isa *isa, unsigned common)
{
    const char *wish = getenv("EPMOE_ISA");
    for (int i = ISA_COUNT - 1; i >= 0; i--)
        if (common >> i & 1 && (!wish || strcmp(wish, isa_name((enum isa)i)) == 0)) {
            *isa = (enum isa)i;
            return STATUS_OK;
        }
    char list[64];
    list_isas(list, sizeof list, common);
    return fail(STATUS_USAGE, "EPMOE_ISA=%s is not one of what can be used here: %s",
                wish ? wish : "", list);
}

int usable_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return CPU_COUNT(&set) > 0 ? CPU_COUNT(&set) : 1;
    // the call above fails where there are more cores than a cpu_set_t has bits
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int)online : 1;
}

void dev_open_cpu(struct dev *d, enum isa isa, int threads)
{
    *d = (struct dev){.kernels = &kernels_cpu,
                      .cpu = isas[isa].loops,
                      .isa = isa,
                      .threads = threads,
                      .joint_ffn_max_rows = JOINT_FFN_MAX_ROWS};
    CHECK(d->cpu && threads >= 1, "isa %s, %d threads", isa_name(isa), threads);
}

void dev_use_cpu(struct dev *d, enum isa isa, int threads)
{
    CHECK(isas[isa].loops && threads >= 1 && !d->cuda, "isa %s, %d threads", isa_name(isa),
          threads);
    d->cpu = isas[isa].loops;
    d->isa = isa;
    d->threads = threads;
}

void dev_open_host(struct dev *d, struct dev *gpu)
{
    dev_open_cpu(d, gpu->isa, gpu->threads);
    d->memory_owner = gpu;
}
