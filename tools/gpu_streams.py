#!/usr/bin/env python3
"""Print the table "Bytes under way" of docs/gpu.md: how many bytes the products of a decode step of
Qwen1.5-MoE-A2.7B, batch 1, keep under way on a GPU. To keep memory busy a device needs bandwidth times
latency bytes under way (Little's law); a block of threads of kernels/cuda/stream.cuh has 64 bytes a
lane. Counted are all blocks of the device, in all rounds but the last, and in the last, in which fewer
blocks have a tile.
usage: tools/gpu_streams.py"""
from gpu_roofs import BF16, DIM, EXPERT, EXPERTS, GPUS, HEAD, HEADS, KV_HEADS, SHARED, TOP_K, VOCAB

TILE, WARP_BYTES, BLOCKS, WARPS = 16, 32 * 64, 3, 8  # outputs; in flight; a multiprocessor's blocks
# Multiprocessors, and seconds from asking for bytes to having them, of a busy memory
DEVICES = {"A100 80 GB": (108, 600e-9), "H100 SXM": (132, 700e-9), "H200": (132, 700e-9)}
# Name; tiles and inputs of each kind, the longest first; whether more warps may take a tile each
PRODUCTS = [
    ("q k v", [((HEADS + 2 * KV_HEADS) * HEAD, DIM)], True),
    ("o", [(DIM, HEADS * HEAD)], True),
    ("router", [(EXPERTS + 1, DIM)], True),
    ("gate and up", [(2 * SHARED, DIM), (TOP_K * 2 * EXPERT, DIM)], False),
    ("down", [(DIM, SHARED), (TOP_K * DIM, EXPERT)], False),
    ("logits", [(VOCAB, DIM)], True),
]


def spread(kinds, wide, units):
    """Blocks, warps of each, and the bytes that each block reads: tiles dealt round."""
    tiles = [inputs * BF16 * TILE for outputs, inputs in kinds for _ in range(-(-outputs // TILE))]
    warps = 2 * WARPS if wide and len(tiles) <= units else WARPS
    blocks = len(tiles) if warps > WARPS else min(len(tiles), units * BLOCKS)
    return tiles, warps, [sum(tiles[i::blocks]) for i in range(blocks)]


def main():
    print("| product | tiles | KB each |", *(f"{g}: blocks | rounds | under way, needed, MB | at the end |"
                                             for g in DEVICES))
    print("|---|--:|--:|" + "--:|--:|--:|--:|" * len(DEVICES))
    for name, kinds, wide in PRODUCTS:
        cells = []
        for gpu, (units, latency) in DEVICES.items():
            tiles, warps, loads = spread(kinds, wide, units)
            needed = GPUS[gpu][1] * latency
            last = sum(load > max(loads) - tiles[-1] / 2 for load in loads)
            share = min(1, last * warps * WARP_BYTES / needed)
            cells.append(f"{len(loads)} | {len(tiles) / len(loads):.2f} "
                         f"| {len(loads) * warps * WARP_BYTES / 1e6:.1f}, {needed / 1e6:.1f} "
                         f"| {share:.0%}")
        sizes = " and ".join(dict.fromkeys(f"{k * BF16 * TILE / 1e3:.0f}" for _, k in kinds))
        print(f"| {name} | {len(tiles):,} | {sizes} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
