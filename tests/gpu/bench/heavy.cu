/* The heaviest kernels of a decode step and of a prefill, by bytes and FLOPs, for a profiler that
 * collects counters: it plays each many times, so there should be few. docs/gpu.md has the command.
 */
#include <nvtx3/nvToolsExt.h>
#include <stdio.h>

#include "tests/gpu/bench/step.h"

/* Ours by name; cuBLAS names its own by what they are made of. */
const char *const HEAVY_KERNELS =
    "^(ffn_stream|dense_stream|decode_split|ffn_grouped|prefill)$|gemm|nvjet|cutlass";

static void play_phases(const step &s, const std::vector<const char *> &names, bool tell)
{
    for (const char *name : names) {
        const work &w = s.phase(name);
        if (tell)
            printf("| %s: %s | %d | %.4g | %.4g |\n", s.decode ? "decode" : "prefill", name, w.rows,
                   w.bytes * 1e-6, w.flops * 1e-9);
        w.call(0);
    }
}

static void play_all(const step &decode, const step &prefill, bool tell)
{
    play_phases(decode, {"logits", "experts and shared", "q k v", "attention", "o"}, tell);
    play_phases(prefill, {"experts", "shared", "q k v", "attention"}, tell);
}

void play_heavy_kernels(rig &r)
{
    step decode(r, 1), prefill(r, 0);
    play_all(decode, prefill, false); // libraries load what they need
    if (dev_wait(&r.d) != 0)
        return;
    printf("\nIn this order, once each:\n\n| what | rows | MB | GFLOP |\n|---|--:|--:|--:|\n");
    nvtxRangePushA("profiled");
    play_all(decode, prefill, true);
    dev_wait(&r.d);
    nvtxRangePop();
}
