#!/usr/bin/env python3
"""Make the golden files of tests/golden: what Hugging Face transformers computes.

    pip install -r tools/requirements.txt
    python tools/make_golden.py                   # tests/golden/models: every tiny checkpoint
    python tools/make_golden.py moe-60 dense-gqa  # some of them
    python tools/make_golden.py --austen          # tests/golden/austen, from models/austen-moe

Made with transformers 5.23.0 and torch 2.13.0, on the CPU with one thread; the versions that
made a golden file are recorded in it (safetensors metadata). The checkpoints come out the same
byte for byte, the logits to rounding. tests/golden/README.md says what the files hold.

A tiny checkpoint is random, but not any random checkpoint will do: logits of an untrained model
are often near ties, and a test that hangs on a tie tests nothing. So seeds are tried, from the
one in the table on, until the greedy path has clear winners, and the prompt is redrawn token by
token until no routing decision in it is close. Both rules look at float32 only. Then each case is
checked: that each tensor and each switch of the configuration shows in the logits, that
transformers' own variants of attention and experts agree.
"""

import argparse
import copy
import json
import os
import re
import shutil
import sys
from dataclasses import dataclass, field

# Before torch is imported: bfloat16 without AMX, so that the files do not depend on who has it
# (and virtual machines that announce it without its tile palettes crash oneDNN).
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")

import safetensors.torch
import torch
import transformers
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MODELS = os.path.join(TOP, "tests", "golden", "models")
AUSTEN = os.path.join(TOP, "models", "austen-moe")
AUSTEN_GOLDEN = os.path.join(TOP, "tests", "golden", "austen")
CLASSES = {
    family: (getattr(transformers, name + "Config"), getattr(transformers, name + "ForCausalLM"))
    for family, name in (
        ("qwen2_moe", "Qwen2Moe"), ("qwen2", "Qwen2"), ("qwen3_moe", "Qwen3Moe"), ("qwen3", "Qwen3"),
        ("olmoe", "Olmoe"), ("mixtral", "Mixtral"),
    )
}  # fmt: skip
DENSE = ("qwen2", "qwen3")
GREEDY = 64

# What a case must keep to. Shares of the range of its logits:
GREEDY_MARGIN = 2e-3  # between the best and the second token, everywhere on the greedy path
VARIANTS_AGREE = 1e-5  # other attention and experts implementations, in float32
VISIBLE = 5e-3  # what a wrong switch or a missing tensor must change at least
# Router logits, between the last expert chosen and the first not chosen:
PROMPT_ROUTING_MARGIN = 0.3  # several times the noise of bfloat16
GREEDY_ROUTING_MARGIN = 1e-3
PROBABILITY_MARGIN = 1e-5  # the same between probabilities
DISTINCT = 12  # different tokens among the greedy ones


@dataclass
class Case:
    name: str
    seed: int
    config: dict  # as transformers 5 has it, "rope_theta" aside
    dtype: str = "bfloat16"  # of the file
    form: int = 5  # of config.json: as transformers 4 or 5 writes it
    layout: str = "separate"  # experts one by one; "fused"; "sharded": separate, in three files
    prompt: int = 48
    embedding: float = 1.0  # standard deviation
    generation: dict | None = None  # generation_config.json
    wrong: dict = field(default_factory=dict)  # misreadings of config.json that must show


def moe(layers, hidden, heads, kv_heads, experts, top_k, expert, shared, vocab, theta, **more):
    return {
        "model_type": "qwen2_moe", "num_hidden_layers": layers, "hidden_size": hidden,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "num_experts": experts,
        "num_experts_per_tok": top_k, "moe_intermediate_size": expert,
        "shared_expert_intermediate_size": shared, "intermediate_size": 44, "vocab_size": vocab,
        "rope_theta": theta, "max_position_embeddings": 512, **more,
    }  # fmt: skip


def dense(layers, hidden, heads, kv_heads, ffn, vocab, theta, **more):
    return {
        "model_type": "qwen2", "num_hidden_layers": layers, "hidden_size": hidden,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "intermediate_size": ffn,
        "vocab_size": vocab, "rope_theta": theta, "max_position_embeddings": 512, **more,
    }  # fmt: skip


def shape(family, layers, hidden, heads, kv_heads, vocab, theta, **more):
    return {
        "model_type": family, "num_hidden_layers": layers, "hidden_size": hidden,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "vocab_size": vocab,
        "rope_theta": theta, "max_position_embeddings": 512, **more,
    }  # fmt: skip


def experts(number, top_k, width):
    """The keys of qwen3_moe."""
    return {"num_experts": number, "num_experts_per_tok": top_k, "moe_intermediate_size": width,
            "intermediate_size": 44}  # fmt: skip


def wide_experts(key, number, top_k, width):
    """The keys of families all of whose layers have experts."""
    return {key: number, "num_experts_per_tok": top_k, "intermediate_size": width}


CASES = [
    # The shape of Qwen1.5-MoE-A2.7B's config.json: qkv_bias and mlp_only_layers are not there.
    Case("moe-published", 31, moe(2, 64, 4, 4, 6, 2, 16, 24, 128, 1000000.0, eos_token_id=127, bos_token_id=127),
         form=4, generation={"bos_token_id": 127, "do_sample": False, "eos_token_id": 127, "max_new_tokens": 2048},
         wrong={"norm_topk_prob": True, "rope_theta": 1e4, "num_experts_per_tok": 3}),
    Case("moe-60", 6, moe(2, 36, 2, 2, 60, 4, 7, 26, 101, 1e6, eos_token_id=100),
         form=4, wrong={"norm_topk_prob": True, "rope_theta": 1e4, "num_experts_per_tok": 5}),
    # Fewer routed rows than experts; and fewer tokens than a tile has rows.
    Case("moe-60-short", 1, moe(2, 40, 4, 2, 60, 6, 8, 24, 127, 1e4, norm_topk_prob=True, eos_token_id=[5, 6]),
         prompt=9, wrong={"norm_topk_prob": False, "num_experts_per_tok": 5}),
    Case("moe-renormalised", 9, moe(3, 48, 3, 1, 5, 2, 23, 31, 97, 1e4, norm_topk_prob=True, qkv_bias=False),
         wrong={"norm_topk_prob": False, "rope_theta": 1e6}),
    # Small embeddings let the epsilon of the first norm show.
    Case("moe-top-1", 7, moe(2, 40, 4, 4, 7, 1, 17, 24, 111, 1e4, rms_norm_eps=1e-5, eos_token_id=None),
         dtype="float32", embedding=0.01,
         wrong={"norm_topk_prob": True, "rms_norm_eps": 1e-6, "num_experts_per_tok": 2}),
    Case("moe-sparse-step-2", 3, moe(4, 40, 5, 1, 6, 3, 24, 40, 131, 10000, decoder_sparse_step=2, eos_token_id=[0, 130]),
         form=4, generation={"do_sample": True, "eos_token_id": [130, 129], "temperature": 0.7, "top_k": 20,
                             "top_p": 0.8, "repetition_penalty": 1.05, "pad_token_id": 129},
         wrong={"norm_topk_prob": True, "num_experts_per_tok": 2}),
    Case("moe-mlp-only-layers", 17, moe(5, 40, 2, 2, 5, 2, 16, 24, 119, 1e4, mlp_only_layers=[0, 3], norm_topk_prob=True),
         dtype="float16", wrong={"norm_topk_prob": False}),
    Case("moe-fused", 11, moe(2, 48, 6, 2, 12, 3, 20, 32, 320, 1e6, eos_token_id=319),
         layout="fused", form=4, wrong={"norm_topk_prob": True, "rope_theta": 1e4}),
    Case("moe-sharded", 13, moe(3, 48, 3, 3, 6, 2, 24, 40, 128, 1e6, eos_token_id=[126, 127], qkv_bias=False),
         layout="sharded", wrong={"norm_topk_prob": True, "rope_theta": 1e4}),
    # An odd width that no number of heads divides: head_dim is stated, and attention is 40 wide.
    Case("moe-head-dim", 6, moe(2, 45, 4, 2, 7, 3, 23, 33, 103, 1e4, head_dim=10, tie_word_embeddings=True),
         embedding=0.3, wrong={"norm_topk_prob": True, "rope_theta": 1e6}),
    # Several blocks of 64 keys.
    Case("moe-long", 9, moe(2, 40, 4, 2, 9, 2, 17, 30, 113, 1e4, eos_token_id=112), prompt=150,
         wrong={"norm_topk_prob": True, "rope_theta": 1e6}),
    Case("dense-tied", 28, dense(3, 54, 3, 3, 70, 257, 1e6, tie_word_embeddings=True, rms_norm_eps=1e-5, eos_token_id=256),
         form=4, embedding=0.3, wrong={"rope_theta": 1e4}),
    Case("dense-gqa", 3, dense(2, 44, 6, 2, 57, 125, 1e4, eos_token_id=[1, 2], head_dim=16),
         dtype="float32", wrong={"rope_theta": 1e6}),
    # The shape of Qwen3-30B-A3B's config.json: heads are together wider than hidden.
    Case("qwen3-moe-published", 2, shape("qwen3_moe", 2, 32, 4, 2, 101, 1e6, **experts(8, 3, 12), head_dim=16,
                                         norm_topk_prob=True, mlp_only_layers=[], decoder_sparse_step=1,
                                         attention_bias=False, eos_token_id=100),
         form=4, generation={"do_sample": True, "eos_token_id": [100, 98], "temperature": 0.6, "top_k": 20, "top_p": 0.95},
         wrong={"norm_topk_prob": False, "rope_theta": 1e4, "num_experts_per_tok": 2}),
    Case("qwen3-moe-fused", 18, shape("qwen3_moe", 3, 40, 2, 1, 97, 1e4, **experts(6, 2, 16), head_dim=10,
                                     mlp_only_layers=[1], tie_word_embeddings=True),
         layout="fused", embedding=0.3, wrong={"norm_topk_prob": True, "rope_theta": 1e6}),
    # No head_dim: hidden_size says it.
    Case("qwen3-moe-sparse-step-2", 8, shape("qwen3_moe", 2, 36, 3, 3, 90, 1e4, **experts(7, 2, 11),
                                             decoder_sparse_step=2, rms_norm_eps=1e-5),
         dtype="float32", embedding=0.01, wrong={"norm_topk_prob": True, "rms_norm_eps": 1e-6}),
    Case("qwen3-moe-long", 19, shape("qwen3_moe", 2, 32, 4, 1, 96, 1e4, **experts(10, 4, 9), head_dim=14,
                                    norm_topk_prob=True),
         layout="sharded", prompt=150, wrong={"norm_topk_prob": False, "rope_theta": 1e6}),
    # The shape of Qwen3-0.6B's config.json.
    Case("qwen3-published", 3, shape("qwen3", 2, 32, 4, 2, 103, 1e6, intermediate_size=52, head_dim=16,
                                     tie_word_embeddings=True, attention_bias=False, eos_token_id=102),
         form=4, embedding=0.3, generation={"do_sample": True, "eos_token_id": [102, 100], "temperature": 0.6,
                                            "top_k": 20, "top_p": 0.95},
         wrong={"rope_theta": 1e4}),
    # No head_dim in config.json, so each of the heads is 128 wide.
    Case("qwen3-head-dim", 7, shape("qwen3", 2, 24, 2, 1, 80, 1e4, intermediate_size=33),
         form=4, wrong={"rope_theta": 1e6}),
    Case("qwen3-half", 2, shape("qwen3", 3, 42, 3, 3, 110, 1e4, intermediate_size=40, head_dim=14),
         dtype="float16", layout="sharded", wrong={"rope_theta": 1e6}),
    Case("qwen3-eps", 6, shape("qwen3", 2, 40, 5, 1, 100, 1e4, intermediate_size=47, head_dim=8, rms_norm_eps=1e-5),
         dtype="float32", embedding=0.01, wrong={"rms_norm_eps": 1e-6}),
    # The shape of Mixtral-8x7B's config.json.
    Case("mixtral-published", 9, shape("mixtral", 2, 32, 4, 2, 100, 1e6, **wide_experts("num_local_experts", 8, 2, 20),
                                       bos_token_id=1, eos_token_id=2, sliding_window=None, rms_norm_eps=1e-5),
         form=4, wrong={"rope_theta": 1e4, "num_experts_per_tok": 3}),
    Case("mixtral-head-dim", 4, shape("mixtral", 2, 45, 4, 2, 103, 1e4, **wide_experts("num_local_experts", 5, 3, 23),
                                      head_dim=10, tie_word_embeddings=True, sliding_window=512),
         embedding=0.3, wrong={"num_experts_per_tok": 2}),
    # Neither theta, nor how many experts a token has, is in config.json.
    Case("mixtral-defaults", 12, shape("mixtral", 3, 32, 4, 1, 96, None, num_local_experts=6, intermediate_size=14),
         form=4, dtype="float32", layout="sharded", wrong={"rope_theta": 1e4, "num_experts_per_tok": 1}),
    Case("mixtral-long", 20, shape("mixtral", 2, 40, 4, 4, 90, 1e4, **wide_experts("num_local_experts", 4, 1, 20),
                                  rms_norm_eps=1e-4),
         embedding=0.01, prompt=150, wrong={"rope_theta": 1e6, "rms_norm_eps": 1e-5}),
    # The shape of OLMoE-1B-7B's config.json.
    Case("olmoe-published", 2, shape("olmoe", 2, 32, 4, 4, 100, 1e4, **wide_experts("num_experts", 12, 4, 12),
                                     norm_topk_prob=False, clip_qkv=None, eos_token_id=99, rms_norm_eps=1e-5),
         form=4, wrong={"norm_topk_prob": True, "num_experts_per_tok": 3}),
    Case("olmoe-gqa", 2, shape("olmoe", 2, 48, 6, 2, 96, 1e4, **wide_experts("num_experts", 5, 2, 20),
                               norm_topk_prob=True, tie_word_embeddings=True),
         layout="sharded", embedding=0.3, wrong={"norm_topk_prob": False, "rope_theta": 1e6}),
    # No num_key_value_heads: as many as heads.
    Case("olmoe-eps", 10, shape("olmoe", 3, 40, 2, None, 97, 1e4, **wide_experts("num_experts", 6, 2, 14),
                               rms_norm_eps=1e-4),
         dtype="float32", embedding=0.01, wrong={"rms_norm_eps": 1e-5, "norm_topk_prob": True}),
    Case("olmoe-long", 7, shape("olmoe", 2, 36, 3, 3, 90, 1e6, **wide_experts("num_experts", 9, 3, 10)),
         layout="fused", prompt=150, wrong={"norm_topk_prob": True, "rope_theta": 1e4}),
    # Scaled positions; prompt and greedy tokens go beyond the length of training.
    Case("yarn", 2, shape("qwen3_moe", 2, 32, 4, 2, 100, 1e6, **experts(6, 2, 12), head_dim=16,
                                    norm_topk_prob=True, max_position_embeddings=160,
                                    rope_scaling={"rope_type": "yarn", "factor": 4.0, "beta_fast": 2.0,
                                                  "original_max_position_embeddings": 40}),
         form=4, wrong={"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
    Case("yarn-mscale", 46, shape("qwen2", 2, 40, 2, 1, 90, 1e4, intermediate_size=44, max_position_embeddings=256,
                                 rope_scaling={"rope_type": "yarn", "factor": 8.0, "beta_fast": 4.0, "beta_slow": 0.5,
                                               "mscale": 0.7, "mscale_all_dim": 0.2, "truncate": False,
                                               "original_max_position_embeddings": 32}),
         wrong={"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 8.0,
                                    "original_max_position_embeddings": 32}}),
    Case("linear", 28, shape("olmoe", 2, 32, 2, 2, 90, 1e4, **wide_experts("num_experts", 5, 2, 14),
                            max_position_embeddings=128, rope_scaling={"type": "linear", "factor": 2.5}),
         form=4, wrong={"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}),
    Case("dynamic", 1, shape("qwen2", 2, 32, 2, 1, 90, 1e4, intermediate_size=44, max_position_embeddings=64,
                             rope_scaling={"rope_type": "dynamic", "factor": 4.0})),
    # The prompt itself goes beyond: its positions turn as its whole length says.
    Case("dynamic-long", 1, shape("mixtral", 2, 32, 4, 2, 90, 1e4, **wide_experts("num_local_experts", 5, 2, 14),
                                  head_dim=8, max_position_embeddings=64,
                                  rope_scaling={"rope_type": "dynamic", "factor": 2.0}),
         prompt=110, wrong={"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}),
]  # fmt: skip

# ------------------------------------------------------------------------ checkpoints

# Gains over 1/sqrt(fan-in). They make every part of a layer matter.
GAINS = {
    "q_proj": 1.4, "k_proj": 1.4, "v_proj": 1.0, "o_proj": 1.5,
    "gate": 2.0, "shared_expert_gate": 1.5,
    "gate_proj": 1.2, "up_proj": 1.2, "gate_up_proj": 1.2, "down_proj": 2.5,
    "lm_head": 3.0,
}  # fmt: skip


def make_config(case):
    """The configuration object that config.json stands for."""
    values = {"bos_token_id": None, "eos_token_id": None, **case.config}
    theta, scaling = values.pop("rope_theta"), values.pop("rope_scaling", {"rope_type": "default"})
    make = CLASSES[values.pop("model_type")][0]
    if theta is None:
        theta = make.default_theta
    scaling = {"rope_type": scaling.get("type"), **scaling, "rope_theta": theta}
    scaling.pop("type", None)
    return make(rope_parameters=scaling, **values)


def random_tensor(case, name, shape, generator):
    noise = torch.randn(shape, generator=generator)
    if re.search("norm.weight$", name):
        return 1 + 0.25 * noise
    if name.endswith(".bias"):
        return 0.4 * noise
    if "embed_tokens" in name:
        return case.embedding * noise
    kind = name.removesuffix(".weight").split(".")[-1]
    return GAINS[kind] / shape[-1] ** 0.5 * noise


def make_model(case, seed):
    """A model in float32 whose weights are random numbers of the case's type."""
    config = make_config(case)
    config._attn_implementation, config._experts_implementation = "sdpa", "eager"
    model = CLASSES[config.model_type][1](config).eval()
    generator = torch.Generator().manual_seed(1000 * seed + sum(map(ord, case.name)))
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            value = random_tensor(case, name, parameter.shape, generator)
            parameter.copy_(value.to(getattr(torch, case.dtype)))
    return model


def config_in_form_4(case):
    """config.json as transformers 4 wrote it for the published models: what is default is left out."""
    config = make_config(case)
    out = {
        "architectures": [CLASSES[config.model_type][1].__name__],
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "rms_norm_eps": config.rms_norm_eps,
        "tie_word_embeddings": False,
        "torch_dtype": case.dtype,
        "transformers_version": "4.39.0.dev0",
        "use_cache": True,
    }
    if config.model_type.startswith("qwen"):
        out |= {"max_window_layers": 21, "sliding_window": 32768, "use_sliding_window": False}
    if config.model_type in ("qwen2_moe", "qwen3_moe"):
        out |= {"decoder_sparse_step": 1, "norm_topk_prob": False}
    if config.model_type not in DENSE:
        out |= {"output_router_logits": False, "router_aux_loss_coef": 0.001}
    out |= case.config
    if case.config["rope_theta"] is None:
        del out["rope_theta"]
    return out


def write_json(folder, name, value):
    with open(os.path.join(folder, name), "w") as file:
        json.dump(value, file, indent=2, sort_keys=True)
        file.write("\n")


def write_checkpoint(case, model, folder):
    """Write the files of a checkpoint in the case's layout, form and type."""
    shutil.rmtree(folder, ignore_errors=True)
    config = copy.deepcopy(model.config)
    config.dtype = case.dtype
    weights = model.state_dict()
    # Not by from_pretrained(): it keeps the names that tensors have in memory.
    model = CLASSES[config.model_type][1](config).to(getattr(torch, case.dtype))
    model.load_state_dict(weights)
    bytes_in_all = sum(p.numel() * p.element_size() for p in model.parameters())
    shard = bytes_in_all * 2 // 5 if case.layout == "sharded" else 10**9
    model.save_pretrained(folder, max_shard_size=shard)
    if case.layout == "fused":
        tensors = {name: p.data for name, p in model.named_parameters()}
        safetensors.torch.save_file(tensors, os.path.join(folder, "model.safetensors"), {"format": "pt"})
    if case.form == 4:
        os.remove(os.path.join(folder, "generation_config.json"))
        write_json(folder, "config.json", config_in_form_4(case))
    if case.generation:
        write_json(folder, "generation_config.json", {**case.generation, "transformers_version": "4.39.0.dev0"})


def load(folder, dtype=torch.float32, attention="sdpa", experts="eager", **options):
    """The default experts_implementation, grouped_mm, does not take odd widths; eager does."""
    model, report = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation=attention, experts_implementation=experts,
        output_loading_info=True, **options
    )  # fmt: skip
    missing = set(report["missing_keys"])
    if model.config.tie_word_embeddings:
        missing.discard("lm_head.weight")
    assert not missing, f"{folder}: {sorted(missing)} missing"
    return model.eval()


# ------------------------------------------------------------------------ computing


@dataclass
class Run:
    logits: torch.Tensor  # [tokens, vocabulary]
    router: list  # a layer each: [tokens, experts]
    top_k: int


def reset_rope(model):
    """Dynamic frequencies are kept from the longest text so far until a short one comes."""
    model(torch.tensor([[0]]), use_cache=False)


@torch.no_grad()
def run(model, tokens):
    reset_rope(model)
    sparse = model.config.model_type not in DENSE
    out = model(torch.tensor([tokens]), use_cache=False, **({"output_router_logits": True} if sparse else {}))
    router = [layer.float() for layer in out.router_logits] if sparse else []
    return Run(out.logits[0].float(), router, getattr(model.config, "num_experts_per_tok", 0))


def routing_margins(run):
    """For each token, the narrowest gap of any layer between router logits chosen and not chosen."""
    margins = torch.full((len(run.logits),), torch.inf)
    for layer in run.router:
        ordered = layer.sort(-1, descending=True).values
        margins = torch.minimum(margins, ordered[:, run.top_k - 1] - ordered[:, run.top_k])
    return margins


def probability_margin(run):
    """The same gap between probabilities, over all tokens."""
    return routing_margins(Run(run.logits, [layer.softmax(-1) for layer in run.router], run.top_k)).min().item()


def chosen_experts(run):
    return [layer.topk(run.top_k).indices.sort(-1).values for layer in run.router]


def flips(a, b):
    """How many (token, layer) choose other experts in one run than in the other."""
    return sum((x != y).any(-1).sum().item() for x, y in zip(chosen_experts(a), chosen_experts(b)))


def span(logits):
    return (logits.max() - logits.min()).item()


def greedy_margins(logits):
    best = logits.topk(2).values
    return best[:, 0] - best[:, 1]


@torch.no_grad()
def greedy_tokens(model, tokens):
    """The greedy continuation, with the cache, and its logits; the end-of-text token does not stop it."""
    reset_rope(model)
    out, path, cache = [], [], None
    step = torch.tensor([tokens])
    for _ in range(GREEDY):
        answer = model(step, past_key_values=cache, use_cache=True)
        cache = answer.past_key_values
        path.append(answer.logits[0, -1])
        out.append(path[-1].argmax().item())
        step = torch.tensor([out[-1:]])
    return out, torch.stack(path)


def clear_prompt(model, count, seed):
    """Random tokens; the first one that is routed by a narrow margin is redrawn until none is."""
    generator = torch.Generator().manual_seed(seed)

    def draw(n):
        return torch.randint(model.config.vocab_size, (n,), generator=generator).tolist()

    tokens = draw(count)
    for _ in range(20 * count):
        narrow = routing_margins(run(model, tokens)) < PROMPT_ROUTING_MARGIN
        if not narrow.any():
            return tokens
        tokens[narrow.nonzero()[0].item()] = draw(1)[0]
    return None


@dataclass
class Golden:
    tokens: list
    greedy: list
    rows: list
    f32: Run
    bf16: Run
    greedy_margin: float  # a share of the range
    routing_margin: float  # of probabilities, prompt and greedy tokens
    path_margin: float  # of router logits, prompt and greedy tokens

    def range(self):
        return span(self.f32.logits)

    def noise(self):
        """RMS distance of bfloat16's logits from float32's, over the rows that are kept."""
        return (self.bf16.logits - self.f32.logits)[self.rows].square().mean().sqrt().item()


def compute(model, tokens, rows):
    """All that is known in float32; bfloat16 is added later."""
    f32 = run(model, tokens)
    greedy, path = greedy_tokens(model, tokens)
    whole = run(model, tokens + greedy)
    if model.config.rope_parameters["rope_type"] != "dynamic":  # else each position keeps its own frequencies
        path = whole.logits[len(tokens) - 1 : -1]
    assert path.argmax(-1).tolist() == greedy, "with and without the cache, the greedy tokens differ"
    return Golden(
        tokens, greedy, rows, f32, None,
        greedy_margins(path).min().item() / span(f32.logits),
        probability_margin(whole),
        routing_margins(whole).min().item(),
    )  # fmt: skip


def rows_to_keep(count, vocabulary, most):
    """Which prompt positions keep their logits: all when that is small, else some, evenly spread."""
    if vocabulary <= 128:
        return list(range(count))
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})


def write_golden(golden, path, note=""):
    tensors = {
        "tokens": torch.tensor(golden.tokens, dtype=torch.int32),
        "greedy": torch.tensor(golden.greedy, dtype=torch.int32),
        "rows": torch.tensor(golden.rows, dtype=torch.int32),
        "logits_f32": golden.f32.logits[golden.rows].contiguous(),
        "logits_bf16": golden.bf16.logits[golden.rows].contiguous(),
    }
    made_with = f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}{note}"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    safetensors.torch.save_file(tensors, path, {"made_with": made_with})


# ------------------------------------------------------------------------ checking


def distance(a, b):
    """Greatest difference of two runs' logits, as a share of the range."""
    return (a.logits - b.logits).abs().max().item() / span(a.logits)


def check_variants(folder, golden):
    other = run(load(folder, attention="eager", experts="batched_mm"), golden.tokens)
    far = distance(golden.f32, other)
    assert far <= VARIANTS_AGREE, f"{folder}: other attention and experts differ by {far:.1e} of the range"


def check_tensors_show(model, golden):
    """Replace each tensor by what a loader that forgot it would have: zeros, or ones for a norm."""
    for name, parameter in model.named_parameters():
        kept = parameter.data.clone()
        parameter.data.fill_(1.0 if "norm" in name else 0.0)
        far = distance(golden.f32, run(model, golden.tokens))
        parameter.data.copy_(kept)
        assert far >= VISIBLE, f"{name} changes the logits by only {far:.1e} of the range"


def check_switches_show(case, folder, golden):
    for key, value in case.wrong.items():
        config = AutoConfig.from_pretrained(folder)
        if key == "rope_theta":
            config.rope_parameters = {"rope_type": "default", "rope_theta": value}
        else:
            assert getattr(config, key) != value
            setattr(config, key, value)
        far = distance(golden.f32, run(load(folder, config=config), golden.tokens))
        assert far >= VISIBLE, f"{case.name}: {key} = {value} changes the logits by only {far:.1e} of the range"


def check_weights(model, folder):
    """What was written and read again is what was meant, bit for bit."""
    read = load(folder).state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(value, read[name]), f"{folder}: {name} was not read as written"


# ------------------------------------------------------------------------ the work


def is_clear(golden):
    return (
        golden.greedy_margin >= GREEDY_MARGIN
        and golden.path_margin >= GREEDY_ROUTING_MARGIN
        and golden.routing_margin >= PROBABILITY_MARGIN
    )


def find_seed(case):
    """The first seed, from the case's on, that gives a case worth testing."""
    for seed in range(case.seed, case.seed + 500):
        model = make_model(case, seed)
        tokens = clear_prompt(model, case.prompt, seed)
        if tokens is None:
            continue
        rows = rows_to_keep(case.prompt, model.config.vocab_size, 20)
        golden = compute(model, tokens, rows)
        if is_clear(golden) and len(set(golden.greedy)) >= DISTINCT:
            return seed, model, golden
    sys.exit(f"{case.name}: no seed will do")


def size_of(folder):
    return sum(os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder))


def report(name, seed, golden, size):
    print(
        f"| {name} | {seed} | {size / 1024:.0f} | {len(golden.tokens)} | {golden.range():.1f}"
        f" | {golden.greedy_margin:.4f} | {len(set(golden.greedy))}"
        f" | {golden.routing_margin:.1e} | {golden.noise():.4f} | {flips(golden.f32, golden.bf16)} |",
        flush=True,
    )


def make_case(case):
    folder = os.path.join(MODELS, case.name)
    seed, model, golden = find_seed(case)
    write_checkpoint(case, model, folder)
    check_weights(model, folder)
    golden.bf16 = run(load(folder, torch.bfloat16), golden.tokens)
    check_variants(folder, golden)
    check_tensors_show(model, golden)
    check_switches_show(case, folder, golden)
    write_golden(golden, os.path.join(folder, "golden.safetensors"), f", seed {seed}")
    report(case.name, seed, golden, size_of(folder))


AUSTEN_START = "It is a truth universally acknowledged, that a "
AUSTEN_TEXTS = [
    "single man in possession of a good fortune, must be in want of a wife. However little known the feelings or views"
    " of such a man may be on his first entering a neighbourhood, this truth is so well fixed in the minds of the"
    " surrounding families,",
    "young woman of sense and spirit, who has passed a whole winter in Bath without one agreeable acquaintance, will be"
    " glad to return to the country. Miss Dashwood had been there three weeks, and had seen nobody whom she could wish"
    " to see again;",
    "letter which is long expected must always disappoint. When it was brought to Emma at breakfast, she put it aside"
    " with great composure, and did not open it till her father had been settled by the fire and Mr. Knightley was"
    " gone away.",
    "clergyman with a good living and a handsome person can want nothing but a wife. Mr. Elton was of the same opinion"
    " as his neighbours; and having walked three times in one week to Hartfield, he was soon talked of by everybody in"
    " Highbury.",
]


def austen_prompts():
    """Prompts of 32 to 48 tokens, each the beginning of one of the texts."""
    tokenizer = Tokenizer.from_file(os.path.join(AUSTEN, "tokenizer.json"))
    for text in AUSTEN_TEXTS:
        ids = tokenizer.encode(AUSTEN_START + text).ids
        yield from (ids[:n] for n in range(32, min(49, len(ids) + 1)))


def make_austen():
    """Of all prompts, take the one whose greedy continuation has the clearest winners."""
    model = load(AUSTEN)
    vocabulary = model.config.vocab_size
    all_golden = [compute(model, tokens, rows_to_keep(len(tokens), vocabulary, 24)) for tokens in austen_prompts()]
    golden = max((g for g in all_golden if g.routing_margin >= PROBABILITY_MARGIN), key=lambda g: g.greedy_margin)
    assert golden.greedy_margin >= GREEDY_MARGIN / 2, f"the best margin is {golden.greedy_margin:.1e} of the range"
    golden.bf16 = run(load(AUSTEN, torch.bfloat16), golden.tokens)
    check_variants(AUSTEN, golden)
    write_golden(golden, os.path.join(AUSTEN_GOLDEN, "golden.safetensors"))
    report("austen-moe", "", golden, size_of(AUSTEN_GOLDEN))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help="tiny checkpoints to make; all by default")
    parser.add_argument("--austen", action="store_true", help="make tests/golden/austen instead")
    options = parser.parse_args()
    unknown = set(options.cases) - {case.name for case in CASES}
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    print("| case | seed | KiB | prompt | range | greedy margin | distinct | routing margin | bf16 RMS | flips |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    if options.austen:
        make_austen()
        return
    for case in CASES:
        if not options.cases or case.name in options.cases:
            make_case(case)


if __name__ == "__main__":
    main()
