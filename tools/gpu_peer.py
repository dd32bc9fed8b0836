#!/usr/bin/env python3
"""transformers on the reference workload: Qwen1.5-MoE-A2.7B's shape with random weights of its own,
bf16, batch 1, on the GPU. Prints prefill time (to the first token), decode rate and the total.
usage: tools/gpu_peer.py [-p 1500] [-n 40] [-r 3] [--tiny]"""
import argparse
import time

import torch
from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM

import gpu_roofs as shape


def config(tiny):
    if tiny:
        return Qwen2MoeConfig(vocab_size=512, hidden_size=64, num_hidden_layers=2,
                              num_attention_heads=4, num_key_value_heads=2,
                              moe_intermediate_size=32, shared_expert_intermediate_size=48,
                              intermediate_size=96, num_experts=6, num_experts_per_tok=2)
    return Qwen2MoeConfig(vocab_size=shape.VOCAB, hidden_size=shape.DIM,
                          num_hidden_layers=shape.LAYERS, num_attention_heads=shape.HEADS,
                          num_key_value_heads=shape.KV_HEADS, moe_intermediate_size=shape.EXPERT,
                          shared_expert_intermediate_size=shape.SHARED,
                          intermediate_size=shape.SHARED, num_experts=shape.EXPERTS,
                          num_experts_per_tok=shape.TOP_K, max_position_embeddings=8192)


def now(device):
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


@torch.inference_mode()
def run(model, prompt, generate, device):
    start = now(device)
    out = model(prompt, use_cache=True, logits_to_keep=1)
    token = out.logits[:, -1:].argmax(-1)
    first = now(device)
    for _ in range(generate):
        out = model(token, past_key_values=out.past_key_values, use_cache=True)
        token = out.logits[:, -1:].argmax(-1)
    return first - start, now(device) - first


def main():
    options = argparse.ArgumentParser()
    options.add_argument("-p", type=int, default=1500)
    options.add_argument("-n", type=int, default=40)
    options.add_argument("-r", type=int, default=3)
    options.add_argument("--tiny", action="store_true")
    o = options.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = Qwen2MoeForCausalLM(config(o.tiny)).eval()
        prompt = torch.randint(0, model.config.vocab_size, (1, o.p))
    run(model, prompt, 2, device)
    times = sorted(run(model, prompt, o.n, device) for _ in range(o.r))
    prefill, decode = times[len(times) // 2]
    print(f"transformers on {device}: {o.p} in, {o.n} out, median of {o.r}: "
          f"prefill {prefill * 1e3:.1f} ms ({o.p / prefill:.0f} tokens/s), "
          f"decode {o.n / decode:.1f} tokens/s, all {prefill + decode:.3f} s")


if __name__ == "__main__":
    main()
