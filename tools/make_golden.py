#!/usr/bin/env python3
"""Make the golden files of tests/golden: what Hugging Face transformers computes.

    pip install -r tools/requirements.txt
    python tools/make_golden.py                   # tests/golden/models: every tiny checkpoint
    python tools/make_golden.py moe-60 dense-gqa  # some of them
    python tools/make_golden.py --austen          # tests/golden/austen, from models/austen-moe

Made with transformers 5.23.0 and torch 2.13.0, on the CPU with one thread; the versions that
made a golden file are recorded in it (safetensors metadata). The checkpoints come out the same
byte for byte, the logits to rounding. tests/golden/README.md says what the files hold.

A tiny checkpoint has random weights, but not every random checkpoint is useful: logits of an
untrained model are often almost equal, and then rounding decides, not what the test is about. So
seeds are tried, from the one in the table on, until each greedy token wins by a clear margin, and
tokens of the prompt are drawn again until no routing decision in it is close. Both rules use float32
only. Then each case is checked: each tensor and each switch of the configuration must change the
logits, and transformers' own variants of attention and experts must agree.
"""

import argparse
import copy
import json
import os
import re
import shutil
import sys
from dataclasses import dataclass

# Set before torch is imported: bfloat16 without AMX, so that the files are the same on all processors.
# (Also, oneDNN crashes on virtual machines that announce AMX without its tile palettes.)
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")

import safetensors.torch
import torch
import transformers
from golden_cases import CASES
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

# Limits that a case must keep. Shares of the range of its logits:
GREEDY_MARGIN = 2e-3  # between the best and the second token, everywhere on the greedy path
VARIANTS_AGREE = 1e-5  # other attention and experts implementations, in float32
VISIBLE = 5e-3  # what a wrong switch or a missing tensor must change at least
# Router logits, between the last expert chosen and the first not chosen:
PROMPT_ROUTING_MARGIN = 0.3  # several times the noise of bfloat16
GREEDY_ROUTING_MARGIN = 1e-3
PROBABILITY_MARGIN = 1e-5  # the same between probabilities
DISTINCT = 12  # different tokens among the greedy ones

# ------------------------------------------------------------------------ checkpoints

# Factors over 1/sqrt(fan-in), chosen so that every part of a layer changes the logits.
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
    """Check that the checkpoint, read again, has the weights that were written, bit for bit."""
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
    """Take the prompt whose greedy tokens win by the largest margin."""
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
