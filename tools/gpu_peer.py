#!/usr/bin/env python3
"""Compare epmoe with transformers, on the GPU if there is one (on a CPU only to try this script).

Without files: speed on the checkpoint --model, or on Qwen1.5-MoE-A2.7B's shape with random weights
of its own, bf16, batch 1: prefill (to the first token), decode and the total.
With files of `epmoe logits`: how far each and transformers in bf16 are from transformers in f32 on
the same tokens. Fails when a file is further off than twice what transformers itself is.
usage: tools/gpu_peer.py [-p 1500] [-n 40] [-r 3] [--tiny]
       tools/gpu_peer.py --model DIR --tokens 1,2,3 NAME=FILE ...
       tools/gpu_peer.py --show-tokens 64          ids for `epmoe logits --tokens`"""
import argparse
import os
import sys
import time

# oneDNN may choose AMX instructions which not every virtual machine runs
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
TIMES_THE_PEER, LEAST_VOCAB = 2.0, 512


def ids(n):
    """Tokens that every vocabulary has."""
    return [(i * 7919 + 13) % LEAST_VOCAB for i in range(n)]


def config(tiny):
    from transformers import Qwen2MoeConfig

    import gpu_roofs as shape

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


def random_model(tiny, device):
    import torch
    from transformers import Qwen2MoeForCausalLM

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        return Qwen2MoeForCausalLM(config(tiny)).eval()


def load(path, dtype, device, **how):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(path, dtype=dtype, **how).to(device).eval()


def now(device):
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def run(model, prompt, generate, device):
    start = now(device)
    out = model(prompt, use_cache=True, logits_to_keep=1)
    token = out.logits[:, -1:].argmax(-1)
    first = now(device)
    for _ in range(generate):
        out = model(token, past_key_values=out.past_key_values, use_cache=True)
        token = out.logits[:, -1:].argmax(-1)
    return first - start, now(device) - first


def print_speed(model, o, device):
    import torch

    layers = model.config.num_hidden_layers
    prompt = torch.randint(0, model.config.vocab_size, (1, o.p), device=device)
    run(model, prompt, 2, device)
    times = sorted(run(model, prompt, o.n, device) for _ in range(o.r))
    prefill, decode = times[len(times) // 2]
    how = getattr(model.config, "_experts_implementation", "unknown")
    print(f"transformers on {device}, {layers} layers, experts by {how}: {o.p} in, {o.n} out, median of {o.r}: "
          f"prefill {prefill * 1e3:.1f} ms ({o.p / prefill:.0f} tokens/s), "
          f"decode {o.n / decode:.1f} tokens/s, all {prefill + decode:.3f} s")


def logits(model, tokens, device):
    import torch

    return model(torch.tensor([tokens], device=device)).logits[0].float().cpu()


def compare(name, found, reference):
    """Prints a row, returns the RMS error in parts of the reference's RMS."""
    error = found - reference
    rms = (error.square().mean() / reference.square().mean()).sqrt().item()
    same = (found.argmax(-1) == reference.argmax(-1)).float().mean().item()
    print(f"| {name} | {rms:.2e} | {error.abs().max().item():.3g} | {100 * same:.1f} % |")
    return rms


def judge(model, o, device):
    """True when every file is about as good as transformers in bf16."""
    import torch
    from safetensors.torch import load_file

    tokens = [int(t) for t in o.tokens.split(",")]
    peer = logits(model, tokens, device)
    exact = load(o.model, torch.float32, device, experts_implementation="eager")
    reference = logits(exact, tokens, device)
    del exact
    print(f"logits of {len(tokens)} tokens beside transformers in f32 "
          f"(RMS {reference.square().mean().sqrt().item():.3g}):\n\n"
          "| who | RMS error, of RMS | worst | same best token |\n|---|--:|--:|--:|")
    limit = TIMES_THE_PEER * compare("transformers, bf16", peer, reference)
    good = True
    for file in o.files:
        name, path = file.split("=", 1)
        rms = compare(name, load_file(path)["logits"], reference)
        if not rms <= limit:
            print(f"gpu_peer: {name}: expected an RMS error of at most {limit:.2e}, found {rms:.2e}",
                  file=sys.stderr)
            good = False
    print()
    return good


def main():
    options = argparse.ArgumentParser()
    options.add_argument("-p", type=int, default=1500)
    options.add_argument("-n", type=int, default=40)
    options.add_argument("-r", type=int, default=3)
    options.add_argument("--tiny", action="store_true")
    options.add_argument("--model")
    options.add_argument("--tokens", default="")
    options.add_argument("--show-tokens", type=int, default=0)
    options.add_argument("files", nargs="*")
    o = options.parse_args()
    if o.show_tokens:
        print(",".join(str(t) for t in ids(o.show_tokens)))
        return 0
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.inference_mode():
        model = (load(o.model, torch.bfloat16, device) if o.model
                 else random_model(o.tiny, device))
        if o.files:
            return 0 if judge(model, o, device) else 1
        print_speed(model, o, device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
