#!/usr/bin/env python3
"""Print the tables of docs/gpu.md: how many bytes a layer of Qwen1.5-MoE-A2.7B reads and writes on a
GPU, and how long that takes at the roof. A phase takes as long as its bytes at full bandwidth or its
FLOPs at the peak of dense bf16, whichever is longer; phases do not overlap. Weights count once a phase,
activations in the types in which the kernels read and write them.
usage: tools/gpu_roofs.py [--prompt 1500] [--generate 40]"""
import argparse

DIM, HEADS, HEAD, KV_HEADS, LAYERS = 2048, 16, 128, 16, 24
EXPERTS, TOP_K, EXPERT, SHARED, VOCAB = 60, 4, 1408, 5632, 151936
BF16, F32, INT = 2, 4, 4
GPUS = {"A100 80 GB": (312e12, 2.04e12), "H100 SXM": (990e12, 3.35e12), "H200": (990e12, 4.8e12)}
# The targets: shares of the bandwidth roof in decode, and of the peak or of the bound by reading weights in prefill
DECODE, OF_PEAK, OF_READING = 0.70, 0.45, 0.80


class Phase:
    """Bytes of weights, other bytes and FLOPs of one phase."""

    def __init__(self, name, weights, rest, flops):
        self.name, self.weights, self.bytes, self.flops = name, weights, weights + rest, flops

    def seconds(self, gpu):
        peak, bandwidth = GPUS[gpu]
        return max(self.bytes / bandwidth, self.flops / peak)


def matmul(name, n, outputs, inputs, rest, matrices=1, rows=None):
    """The phase in which each of n rows goes through one of `matrices`; rows: all (row, matrix) pairs."""
    return Phase(name, matrices * outputs * inputs * BF16, rest,
                 2 * (rows or n) * outputs * inputs)


def layer(n, context):
    """n rows of one sequence whose last sees `context` positions."""
    kv, qkv = KV_HEADS * HEAD, (HEADS + 2 * KV_HEADS) * HEAD
    seen = sum(range(context - n + 1, context + 1))  # (query, key) pairs
    hit = EXPERTS * (1 - (1 - TOP_K / EXPERTS) ** n)  # how many experts have rows, if all are equally likely
    pairs, norm = n * TOP_K, n * DIM * (F32 + BF16)
    x_updated = 2 * n * DIM * F32
    return [
        matmul("norm, q k v", n, qkv, DIM, norm + n * (DIM * BF16 + qkv * F32)),
        Phase("rope, KV append", 0, n * (qkv * F32 + qkv * BF16), 3 * n * (HEADS + KV_HEADS) * HEAD),
        Phase("attention", 0, 2 * context * kv * BF16 + 2 * n * HEADS * HEAD * BF16,
              4 * seen * HEADS * HEAD),
        matmul("o", n, DIM, HEADS * HEAD, n * HEADS * HEAD * BF16 + x_updated),
        matmul("norm, router", n, EXPERTS + 1, DIM, norm + n * (DIM * BF16 + (EXPERTS + 1) * F32)),
        Phase("route, sort", 0, n * (EXPERTS + 1) * F32 + 8 * pairs * INT, 5 * n * EXPERTS),
        matmul("experts, gate and up", n, 2 * EXPERT, DIM, pairs * (DIM + EXPERT) * BF16,
               hit, pairs),
        matmul("experts, down", n, DIM, EXPERT, pairs * (DIM + EXPERT) * BF16, hit, pairs),
        matmul("shared, gate and up", n, 2 * SHARED, DIM, n * (DIM + SHARED) * BF16),
        matmul("shared, down", n, DIM, SHARED, n * (SHARED * BF16 + DIM * F32)),
        Phase("combine", 0, pairs * DIM * BF16 + n * DIM * F32 + 2 * x_updated,
              2 * (pairs + n) * DIM),
    ]


def outside():
    """The phase of one row's logits. The embedding is too small to count."""
    return matmul("logits (once a step)", 1, VOCAB, DIM, DIM * (F32 + 2 * BF16) + VOCAB * F32)


def number(x):
    return f"{x:.3g}" if x < 100 else f"{x:,.0f}"


def table(title, phases):
    print(f"{title}\n")
    print("| phase | weights, MB | all bytes, MB | GFLOP |", *(f"{g}, us |" for g in GPUS))
    print("|---|--:|--:|--:|" + "--:|" * len(GPUS))
    for p in phases + [outside()]:
        times = " ".join(f"{number(p.seconds(g) * 1e6)} |" for g in GPUS)
        print(f"| {p.name} | {number(p.weights / 1e6)} | {number(p.bytes / 1e6)} "
              f"| {number(p.flops / 1e9)} | {times}")
    times, weights, moved, flops = totals(phases)
    print(f"| **{LAYERS} layers and logits** | {number(weights / 1e6)} | {number(moved / 1e6)} "
          f"| {number(flops / 1e9)} |", *(f"{number(t * 1e6)} |" for t in times.values()))
    print()
    return times, weights, flops


def totals(phases):
    """Seconds on each GPU, bytes of weights, all bytes, FLOPs: of all layers and the logits."""
    every = [(LAYERS, p) for p in phases] + [(1, outside())]
    weights, moved, flops = (sum(n * getattr(p, what) for n, p in every)
                             for what in ("weights", "bytes", "flops"))
    return {g: sum(n * p.seconds(g) for n, p in every) for g in GPUS}, weights, moved, flops


def prefill_target(gpu, weights, flops):
    """45 % of peak or 80 % of the weight-read bound, whichever binds."""
    peak, bandwidth = GPUS[gpu]
    return max(flops / (OF_PEAK * peak), weights / (OF_READING * bandwidth))


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--prompt", type=int, default=1500)
    options.add_argument("--generate", type=int, default=40)
    o = options.parse_args()
    middle = o.prompt + o.generate // 2
    decode, _, _ = table(f"Decode, batch 1, at position {middle}, a layer:", layer(1, middle))
    prefill, weights, flops = table(f"Prefill of {o.prompt} tokens in one step, a layer:",
                                    layer(o.prompt, o.prompt))
    print(f"{o.prompt} in, {o.generate} out, at the roof, and what is aimed at "
          f"(decode {DECODE:.0%} of the roof; prefill {OF_PEAK:.0%} of peak or {OF_READING:.0%} "
          "of the time to read the weights, whichever binds):\n")
    print("| | prefill, ms | target, ms | decode, tokens/s | target, tokens/s | all, s | target, s |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for g in GPUS:
        wanted = prefill_target(g, weights, flops)
        roof = prefill[g] + o.generate * decode[g]
        print(f"| {g} | {prefill[g] * 1e3:.1f} | {wanted * 1e3:.1f} | {1 / decode[g]:.0f} "
              f"| {DECODE / decode[g]:.0f} | {roof:.3f} "
              f"| {wanted + o.generate * decode[g] / DECODE:.3f} |")


if __name__ == "__main__":
    main()
