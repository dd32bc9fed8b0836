#!/usr/bin/env python3
"""KTransformers' kernel for the routed experts of one layer, bf16, of the model's shape with random
weights: milliseconds a call, by rows. experts.c measures epmoe's on the same routing."""
import argparse
import json
import statistics
import time
from pathlib import Path

import torch
import kt_kernel
from kt_kernel import kt_kernel_ext

import work


def shape(model):
    c = json.loads((Path(model) / "config.json").read_text())
    return c["num_experts"], c["num_experts_per_tok"], c["hidden_size"], c["moe_intermediate_size"]


def kernel():
    """The class for bf16 on this processor, best first, as kt_kernel itself chooses."""
    for name in ("AMXBF16_MOE", "AVX2BF16_MOE"):
        if hasattr(kt_kernel_ext.moe, name):
            return getattr(kt_kernel_ext.moe, name)
    raise SystemExit("run_kt_kernel: this kt-kernel has no kernel for bf16 on this processor")


class Layer:
    def __init__(self, dims, threads, most_rows):
        self.experts, self.top_k, self.dim, self.width = dims
        pool = kt_kernel_ext.WorkerPoolConfig()
        pool.subpool_count, pool.subpool_numa_map = 1, [0]
        pool.subpool_thread_count = [threads]
        self.cpu = kt_kernel_ext.CPUInfer(pool)
        config = kt_kernel_ext.moe.MOEConfig(self.experts, self.top_k, self.dim, self.width, 0)
        config.layer_idx, config.pool = 0, self.cpu.backend_
        config.max_len = most_rows
        weights = [self.random_experts(self.width, self.dim), self.random_experts(self.width, self.dim),
                   self.random_experts(self.dim, self.width)]
        config.gate_projs, config.up_projs, config.down_projs = (
            [[expert.data_ptr() for expert in w]] for w in weights)
        config.gate_scales = config.up_scales = config.down_scales = [[0] * self.experts]
        self.one = [w[0].float() for w in weights]
        self.moe = kernel()(config)
        order = torch.arange(self.experts, dtype=torch.int64)
        self.run(self.moe.load_weights_task(order.data_ptr()))

    def random_experts(self, n, k):
        """The same numbers in each expert, so that routing changes no result, in memory of its own."""
        one = (torch.randn(n, k) * 0.02).to(torch.bfloat16)
        return [one.clone() for _ in range(self.experts)]

    def run(self, task):
        self.cpu.submit(task)
        self.cpu.sync()

    def forward(self, experts):
        """Seconds of a call; experts: those of each row."""
        rows = len(experts)
        n = torch.tensor([rows], dtype=torch.int32)
        ids = torch.tensor(experts, dtype=torch.int64)
        weights = torch.full(ids.shape, 1 / self.top_k, dtype=torch.float32)
        x = torch.randn(rows, self.dim).to(torch.bfloat16)
        y = torch.zeros_like(x)
        start = time.perf_counter()
        self.run(self.moe.forward_task(n.data_ptr(), self.top_k, ids.data_ptr(), weights.data_ptr(),
                                       x.data_ptr(), y.data_ptr(), False))
        seconds = time.perf_counter() - start
        self.check(x[-1].float(), y[-1].float())
        return seconds

    def check(self, x, y):
        """The last row by its definition."""
        gate, up, down = self.one
        expected = down @ (torch.nn.functional.silu(gate @ x) * (up @ x))
        off = (y - expected).norm() / expected.norm()
        if not off < 0.03:
            raise SystemExit(f"run_kt_kernel: expected the experts' output, found it off by {off:.2g}")


class Routing:
    """The experts of row after row: random, distinct within a row, the same as experts.c has."""

    def __init__(self, experts, top_k):
        self.experts, self.top_k, self.x = experts, top_k, 1

    def draw(self):
        self.x = (self.x * 1664525 + 1013904223) % 2**32
        return self.x * self.experts >> 32

    def row(self):
        chosen = []
        while len(chosen) < self.top_k:
            expert = self.draw()
            if expert not in chosen:
                chosen.append(expert)
        return chosen


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", required=True, help="a directory with config.json")
    options.add_argument("--rows", type=work.numbers, default=[1, 8, 32, 128, 512, 1500])
    options.add_argument("--calls", type=int, default=9, help="their median is taken")
    options.add_argument("--threads", type=int, default=2)
    o = options.parse_args()
    dims = shape(o.model)
    layer, routing = Layer(dims, o.threads, max(o.rows)), Routing(*dims[:2])
    layer.forward([routing.row()])
    found = {}
    for rows in o.rows:
        times = [layer.forward([routing.row() for _ in range(rows)]) for _ in range(o.calls)]
        found[str(rows)] = statistics.median(times) * 1e3
    version = f"kt-kernel {kt_kernel.__version__}, {kernel().__name__}"
    work.answer(version, {"milliseconds": found})


if __name__ == "__main__":
    main()
