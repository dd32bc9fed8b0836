#!/usr/bin/env python3
"""Make tests/golden/models/qwen3-moe-fp8: a tiny checkpoint in fp8, and what transformers makes of it.

    pip install -r tools/requirements.txt accelerate
    python tools/make_fp8_golden.py

As Qwen3-30B-A3B-FP8 is published, every projection is a matrix of F8_E4M3 with a factor for each
block of rows and columns in weight_scale_inv; but the blocks are small, and of unlike sides. The
factors of attention are BF16, those of experts F32: transformers, which multiplies out where there is
no GPU, rounds experts to the type of their factors even where it computes in float32. Everything
else is as make_golden.py has it.
"""

import json
import os
import re
import sys

import safetensors.torch
import torch
from golden_cases import Case, experts, shape

import make_golden as golden_tools

BLOCK = (16, 32)
CASE = Case(
    "qwen3-moe-fp8", 11,
    shape("qwen3_moe", 2, 64, 4, 2, 101, 1e6, **experts(6, 2, 32), head_dim=16, norm_topk_prob=True,
          mlp_only_layers=[], decoder_sparse_step=1, attention_bias=False, eos_token_id=100),
    form=4, wrong={"norm_topk_prob": False},
)  # fmt: skip
QUANTIZED = re.compile(r"\.(q|k|v|o|gate|up|down)_proj\.weight$")
GREATEST = 448.0  # in e4m3


def in_blocks(weight):
    rows, columns = weight.shape
    return weight.reshape(rows // BLOCK[0], BLOCK[0], columns // BLOCK[1], BLOCK[1])


def quantize(weight, scale_type):
    """Return the matrix in fp8 and its factors."""
    blocks = in_blocks(weight.float())
    scales = (blocks.abs().amax((1, 3)) / GREATEST).to(scale_type)
    values = (blocks / scales.float()[:, None, :, None]).clamp(-GREATEST, GREATEST)
    return values.reshape(weight.shape).to(torch.float8_e4m3fn), scales


def dequantize(values, scales):
    return (in_blocks(values.float()) * scales.float()[:, None, :, None]).reshape(values.shape)


def write_in_fp8(folder):
    """Replace the projections of a checkpoint; return what they are as float32."""
    path, config_path = os.path.join(folder, "model.safetensors"), os.path.join(folder, "config.json")
    tensors, meant = safetensors.torch.load_file(path), {}
    for name in [name for name in tensors if QUANTIZED.search(name)]:
        scale_type = torch.bfloat16 if "self_attn" in name else torch.float32
        tensors[name], tensors[name + "_scale_inv"] = quantize(tensors[name], scale_type)
        meant[name] = dequantize(tensors[name], tensors[name + "_scale_inv"])
    safetensors.torch.save_file(tensors, path, {"format": "pt"})
    with open(config_path) as file:
        config = json.load(file)
    config["quantization_config"] = {
        "activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": list(BLOCK),
        "modules_to_not_convert": ["lm_head", "model.layers.0.mlp.gate", "model.layers.1.mlp.gate"],
    }  # fmt: skip
    golden_tools.write_json(folder, "config.json", config)
    return meant


def check_weights(model, meant, dtype):
    """Check that transformers multiplies out the same weights as this script, bit for bit."""
    found = model.state_dict()
    for name, value in meant.items():
        value = value.to(dtype)
        at = re.match(r"(.*\.experts)\.(\d+)\.(gate|up|down)_proj\.weight", name)
        if not at:
            assert torch.equal(found[name], value), name
            continue
        fused = found[at[1] + (".down_proj" if at[3] == "down" else ".gate_up_proj")][int(at[2])]
        half = len(fused) // 2
        part = {"down": fused, "gate": fused[:half], "up": fused[half:]}[at[3]]
        assert torch.equal(part, value), name


def main():
    torch.set_num_threads(1)
    golden_tools.transformers.utils.logging.set_verbosity_error()
    golden_tools.transformers.utils.logging.disable_progress_bar()
    folder = os.path.join(golden_tools.MODELS, CASE.name)
    for seed in range(CASE.seed, CASE.seed + 500):
        golden_tools.write_checkpoint(CASE, golden_tools.make_model(CASE, seed), folder)
        meant = write_in_fp8(folder)
        model = golden_tools.load(folder).float()  # what is not in fp8 was left in bf16
        check_weights(model, meant, torch.float32)
        tokens = golden_tools.clear_prompt(model, CASE.prompt, seed)
        golden = tokens and golden_tools.compute(model, tokens, golden_tools.rows_to_keep(CASE.prompt, 101, 20))
        if golden and golden_tools.is_clear(golden) and len(set(golden.greedy)) >= golden_tools.DISTINCT:
            break
    else:
        sys.exit("no seed will do")
    narrow = golden_tools.load(folder, torch.bfloat16)
    check_weights(narrow, meant, torch.bfloat16)
    golden.bf16 = golden_tools.run(narrow, golden.tokens)
    golden_tools.check_tensors_show(model, golden)
    golden_tools.write_golden(golden, os.path.join(folder, "golden.safetensors"), f", seed {seed}")
    golden_tools.report(CASE.name, seed, golden, golden_tools.size_of(folder))


if __name__ == "__main__":
    main()
