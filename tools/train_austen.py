#!/usr/bin/env python3
"""Train models/austen-moe, a small qwen2_moe that has read Jane Austen's novels.

    pip install -r tools/requirements.txt
    apt-get install r-base-core r-cran-janeaustenr      # the text
    python tools/train_austen.py                        # train, write models/austen-moe
    python tools/train_austen.py --evaluate models/austen-moe

The model has the routing shape of Qwen1.5-MoE-A2.7B (60 experts, top-4 without
renormalisation, one gated shared expert) at a width that fits 16 MB in bf16.
Six novels are little text (3.9 MB), so the model over-fits without regularisation:
dropout on the embeddings and on each residual branch, noise in the input tokens, and
an average of the weights. Only this script has it: the saved model is a plain
qwen2_moe. The last 15 % of Persuasion are not trained on.

Most steps train on rows of 512 tokens, the last ones on rows of 2048. Without these
the model's text becomes bad soon after its 512th token.
"""

import argparse
import copy
import dataclasses
import json
import math
import os
import re
import subprocess
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM
from transformers.models.qwen2_moe.modeling_qwen2_moe import load_balancing_loss_func

HELD_OUT_NOVEL = "Persuasion"
HELD_OUT_SHARE = 0.15
VOCABULARY = 4096
POSITIONS = 2048
END = "<|endoftext|>"
SPECIAL = [END, "<|im_start|>", "<|im_end|>"]
PROMPT = "It is a truth universally acknowledged"

# The pre-tokenizer of Qwen2.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

BYTES = {"add_prefix_space": False, "trim_offsets": False, "use_regex": False}

# --------------------------------------------------------------------------- text

EXTRACT = """
b <- janeaustenr::austen_books()
for (n in levels(b$book)) writeLines(c(paste0("\\f", n), b$text[b$book == n]), useBytes = TRUE)
"""
HEADING = re.compile(r"(chapter|volume) ([ivxlc]+|\d+)\.?", re.IGNORECASE)
LAST_LINE = re.compile(r"(the end|finis|a note on the text)\.?", re.IGNORECASE)


def read_novels():
    """Return {title: lines} of the six novels in r-cran-janeaustenr."""
    try:
        done = subprocess.run(["Rscript", "-e", EXTRACT], capture_output=True, check=True)
    except FileNotFoundError:
        sys.exit("Rscript is missing: install r-base-core and r-cran-janeaustenr")
    except subprocess.CalledProcessError as error:
        sys.exit("R cannot load r-cran-janeaustenr:\n" + error.stderr.decode())
    novels = {}
    for part in done.stdout.decode("utf-8").split("\f")[1:]:
        title, *lines = part.splitlines()
        novels[title] = lines
    return novels


def chapters_of(lines):
    """Return a novel's chapters, each a list of paragraphs, without title page and headings."""
    chapters, paragraph = [], []
    for line in [*lines, ""]:
        line = line.strip()
        if LAST_LINE.fullmatch(line):
            break
        if HEADING.fullmatch(line):
            chapters.append([])
        elif line:
            paragraph.append(line)
        elif paragraph:
            if chapters:
                chapters[-1].append(" ".join(paragraph))
            paragraph = []
    if paragraph:
        chapters[-1].append(" ".join(paragraph))
    return [chapter for chapter in chapters if chapter]


def split_held_out(chapters, share):
    """Cut a novel's last `share` of paragraphs off; return (training, held out)."""
    left = int((1 - share) * sum(len(chapter) for chapter in chapters))
    training, held_out = [], []
    for chapter in chapters:
        training.append(chapter[:left])
        held_out.append(chapter[left:])
        left = max(0, left - len(chapter))
    return [c for c in training if c], [c for c in held_out if c]


def read_documents():
    """Return (training documents, held-out documents); a document is the text of a chapter."""
    training, held_out = [], []
    for title, lines in read_novels().items():
        chapters = chapters_of(lines)
        if title == HELD_OUT_NOVEL:
            chapters, held_out = split_held_out(chapters, HELD_OUT_SHARE)
        training += chapters
    return ["\n\n".join(c) for c in training], ["\n\n".join(c) for c in held_out]


# ---------------------------------------------------------------------- tokenizer


def train_tokenizer(documents):
    """Train a byte-level BPE in the form of Qwen2's; the special tokens take the last ids."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(**BYTES),
    ])
    tokenizer.post_processor = processors.ByteLevel(**BYTES)
    tokenizer.decoder = decoders.ByteLevel(**BYTES)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    # As in Qwen2's file; the trainer writes null.
    tokenizer.model.continuing_subword_prefix = ""
    tokenizer.model.end_of_word_suffix = ""
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    return tokenizer


def save_tokenizer(tokenizer, folder):
    """Write tokenizer.json, and a tokenizer_config.json that names the class Qwen2 uses."""
    tokenizer.save(os.path.join(folder, "tokenizer.json"))
    config = {
        "add_prefix_space": False,
        "additional_special_tokens": SPECIAL[1:],
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": END,
        "errors": "replace",
        "model_max_length": POSITIONS,
        "pad_token": END,
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as file:
        json.dump(config, file, indent=2)
        file.write("\n")


# -------------------------------------------------------------------------- model


def new_model(end):
    """Return an untrained qwen2_moe of 7.3 million parameters; `end` is the id that ends a text."""
    config = Qwen2MoeConfig(
        vocab_size=VOCABULARY,
        hidden_size=192,
        intermediate_size=640,  # of dense layers, of which there are none
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=6,
        num_experts=60,
        num_experts_per_tok=4,
        norm_topk_prob=False,
        moe_intermediate_size=40,
        shared_expert_intermediate_size=160,
        router_aux_loss_coef=0.01,
        tie_word_embeddings=True,
        max_position_embeddings=POSITIONS,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        bos_token_id=end,
        eos_token_id=end,
    )
    model = Qwen2MoeForCausalLM(config)
    model.set_experts_implementation("grouped_mm")  # several times as fast as "eager"
    return model


def add_dropout(model, rate):
    """Drop, while training, a share of the embeddings and of what each block adds to them."""

    def drop(module, _, output):
        if isinstance(output, tuple):  # attention returns (output, weights)
            return F.dropout(output[0], rate, module.training), *output[1:]
        return F.dropout(output, rate, module.training)

    model.model.embed_tokens.register_forward_hook(drop)
    for layer in model.model.layers:
        layer.self_attn.register_forward_hook(drop)
        layer.mlp.register_forward_hook(drop)


def balance_loss(router_logits, config):
    """Return the load-balancing loss of the Switch Transformer, 4 when all experts are used alike.

    Each layer is balanced by itself. transformers' own loss adds up the layers, so an idle expert of
    one layer and a busy one of the same number in another layer cancel out.
    """
    losses = [
        load_balancing_loss_func((logits,), config.num_experts, config.num_experts_per_tok)
        for logits in router_logits
    ]
    return sum(losses) / len(losses)


def save_model(model, folder):
    """Write config, generation defaults and a bf16 copy of the weights; the model stays in f32."""
    rounded = copy.deepcopy(model).to(torch.bfloat16)
    rounded.generation_config = GenerationConfig(
        do_sample=True,
        temperature=0.8,
        top_k=40,
        max_new_tokens=200,
        bos_token_id=model.config.bos_token_id,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.eos_token_id,
    )
    rounded.save_pretrained(folder)


# --------------------------------------------------------------------- evaluation


@torch.no_grad()
def evaluate(model, ids, window=512, fresh=256):
    """Return (nats per token, expert counts [layer, expert]) over `ids`.

    The windows overlap: each scores its last `fresh` tokens (the first one scores all),
    so that every later token sees at least `window - fresh` tokens before it.
    """
    config = model.config
    counts = torch.zeros(config.num_hidden_layers, config.num_experts, dtype=torch.long)
    ids = torch.as_tensor(ids)
    nats, scored = 0.0, 0
    for end in range(window, len(ids) + fresh, fresh):
        row = ids[max(0, end - window) : end + 1]
        unseen = min(end, len(ids) - 1) - scored
        if unseen <= 0:
            break
        output = model(row[None, :-1], output_router_logits=True, use_cache=False)
        logits = output.logits[0, -unseen:].float()
        nats += F.cross_entropy(logits, row[-unseen:], reduction="sum").item()
        for layer, router in enumerate(output.router_logits):
            chosen = router[-unseen:].float().topk(config.num_experts_per_tok).indices
            counts[layer] += torch.bincount(chosen.flatten(), minlength=config.num_experts)
        scored += unseen
    return nats / scored, counts


def usage_line(counts):
    """Say how evenly one layer's experts are used."""
    share = counts.double() / counts.sum()
    entropy = -(share * share.clamp_min(1e-12).log2()).sum().item()
    return (
        f"busiest {100 * share.max():.2f} %  least {100 * share.min():.2f} %  "
        f"max/mean {share.max() * len(share):.2f}  "
        f"entropy {entropy:.3f} of {math.log2(len(share)):.3f} bits"
    )


def encode_all(tokenizer, documents):
    """Return the ids of the documents, each followed by the end of text."""
    end = tokenizer.token_to_id(END)
    return [np.array(e.ids + [end]) for e in tokenizer.encode_batch(documents)]


def report(folder):
    """Print perplexity, bits per byte and expert use of a saved model on the held-out text."""
    _, documents = read_documents()
    tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    end = tokenizer.token_to_id(END)
    ids = np.concatenate([[end], *encode_all(tokenizer, documents)])
    size = sum(len(d.encode()) for d in documents)
    print(f"held out, the end of {HELD_OUT_NOVEL}: {len(ids) - 1} tokens, {size} bytes")
    for dtype, window in ((torch.float32, 512), (torch.float32, POSITIONS), (torch.bfloat16, 512)):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        loss, counts = evaluate(model, ids, window)
        bits = loss * (len(ids) - 1) / math.log(2) / size
        print(
            f"{str(dtype)[6:]:8}  window {window:4}  "
            f"perplexity {math.exp(loss):.2f}  bits per byte {bits:.4f}"
        )
        if dtype == torch.bfloat16:
            for layer, row in enumerate(counts):
                print(f"  layer {layer}: {usage_line(row)}")
    sample(folder)


def sample(folder):
    """Print a greedy continuation of the prompt and three sampled with the model's own defaults."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer(PROMPT, return_tensors="pt")
    for seed in range(4):
        torch.manual_seed(seed)
        ids = model.generate(**prompt, do_sample=seed > 0, max_new_tokens=100)
        text = tokenizer.decode(ids[0], skip_special_tokens=True)
        print(f"\n--- {f'seed {seed}' if seed else 'greedy'}\n{text}")


# ----------------------------------------------------------------------- training


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonalised steps, for matrices and stacks of them.

    torch.optim.Muon takes no stacks, and the experts of a layer are one.
    """

    def __init__(self, parameters, lr, weight_decay, momentum=0.95):
        super().__init__(parameters, dict(lr=lr, weight_decay=weight_decay, momentum=momentum))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                average = self.state[p].setdefault("average", torch.zeros_like(p))
                average.lerp_(p.grad, 1 - group["momentum"])
                step = orthogonalise(p.grad.lerp(average, group["momentum"]))
                step *= 0.2 * max(p.shape[-2:]) ** 0.5  # about the length of a step of AdamW
                p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(step, alpha=group["lr"])


def orthogonalise(matrices):
    """Move the singular values of each matrix towards 1 by five Newton-Schulz steps."""
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = matrices if wide else matrices.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x if wide else x.mT


def new_optimizers(model, options):
    """Muon for the matrices between embedding and head, AdamW for everything else."""
    matrices, tables, vectors = [], [], []
    for name, p in model.named_parameters():
        if "embed" in name or "gate.weight" in name:
            tables.append(p)
        else:
            (matrices if p.dim() > 1 else vectors).append(p)
    others = [
        {"params": tables, "weight_decay": options.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return [
        Muon(matrices, lr=options.muon_rate, weight_decay=options.weight_decay),
        torch.optim.AdamW(others, lr=options.rate, betas=(0.9, 0.95), fused=True),
    ]


def batches(documents, rows, length, rng):
    """Yield [rows, length + 1] for ever: chapters in a new order, cut elsewhere, every epoch."""
    while True:
        order = rng.permutation(len(documents))
        stream = np.concatenate([documents[i] for i in order])
        stream = np.roll(stream, rng.integers(len(stream)))
        starts = rng.permutation(np.arange(0, len(stream) - length - 1, length))
        for first in range(0, len(starts) - rows + 1, rows):
            cuts = [stream[s : s + length + 1] for s in starts[first : first + rows]]
            yield torch.from_numpy(np.stack(cuts))


def add_noise(inputs, rate):
    """Replace a share of the input tokens by other tokens of the batch."""
    others = inputs.flatten()[torch.randint(inputs.numel(), inputs.shape)]
    return torch.where(torch.rand(inputs.shape) < rate, others, inputs)


def learn(model, optimizers, batch, noise):
    """Take one step; return the loss in nats per token."""
    output = model(add_noise(batch[:, :-1], noise), output_router_logits=True, use_cache=False)
    loss = F.cross_entropy(output.logits.flatten(0, 1), batch[:, 1:].flatten())
    balance = balance_loss(output.router_logits, model.config)
    (loss + model.config.router_aux_loss_coef * balance).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


@torch.no_grad()
def follow(average, model, step):
    """Move the averaged weights towards the model's current ones."""
    share = 1 - min(0.998, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), share)


def set_rates(optimizers, step, done, scale, warm_up):
    """Set the learning rates: up over the first steps, then down in a line to zero."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            full = group.setdefault("full_lr", group["lr"])
            group["lr"] = full * scale * min(1.0, (step + 1) / warm_up) * (1 - done)


def prepare(options):
    """Train and write the tokenizer; return (end of text, training documents, held-out ids)."""
    documents, held_out = read_documents()
    tokenizer = train_tokenizer(documents)
    os.makedirs(options.out, exist_ok=True)
    save_tokenizer(tokenizer, options.out)
    with open(os.path.join(options.out, "held-out.txt"), "w") as file:  # for epmoe perplexity
        file.write("\n\n".join(held_out) + "\n")
    end = tokenizer.token_to_id(END)
    documents = encode_all(tokenizer, documents)
    held_out = np.concatenate([[end], *encode_all(tokenizer, held_out)])
    print(f"{sum(map(len, documents))} tokens to learn, {len(held_out) - 1} held out", flush=True)
    return end, documents, held_out


@dataclasses.dataclass
class Stage:
    """A part of the training: how many steps, of how many rows, of how many tokens."""

    steps: int
    rows: int
    length: int
    scale: float = 1.0  # of the learning rates
    noise: float = 0.0
    minutes: float = math.inf


def train(options):
    """Train the tokenizer, then the model on short rows, then briefly on rows of full length."""
    torch.manual_seed(options.seed)
    torch.use_deterministic_algorithms(True)
    rng = np.random.default_rng(options.seed)
    end, documents, held_out = prepare(options)
    model = new_model(end)
    add_dropout(model, options.dropout)
    rows = options.tokens // options.length
    first = Stage(options.steps, rows, options.length, noise=options.noise, minutes=options.minutes)
    train_stage(model, first, documents, held_out, rng, options)
    rows = options.tokens // POSITIONS
    stretch = Stage(options.stretch_steps, rows, POSITIONS, scale=0.4)
    train_stage(model, stretch, documents, held_out, rng, options)


def train_stage(model, stage, documents, held_out, rng, options):
    """Train; leave the averaged weights in the model, and now and then in the folder."""
    average = copy.deepcopy(model).eval()
    model.train()
    optimizers = new_optimizers(model, options)
    stream = batches(documents, stage.rows, stage.length, rng)
    start, losses, step, done = time.time(), [], 0, 0.0
    while done < 1:
        set_rates(optimizers, step, done, stage.scale, warm_up=max(1, stage.steps // 10))
        losses.append(learn(model, optimizers, next(stream), stage.noise * (1 - done)))
        follow(average, model, step)
        step += 1
        minutes = (time.time() - start) / 60
        done = max(step / stage.steps, minutes / stage.minutes)
        if step % options.every == 0 or done >= 1:
            held = held_line(*evaluate(average, held_out, stage.length))
            speed = step * stage.rows * stage.length / minutes / 60
            print(
                f"step {step:5}  loss {np.mean(losses[-50:]):.3f}  {held}  "
                f"{speed:.0f} tokens/s  {max(0, 1 / done - 1) * minutes:.1f} min left",
                flush=True,
            )
            save_model(average, options.out)
    model.load_state_dict(average.state_dict())


def held_line(loss, counts):
    """Say how the model does on the held-out text."""
    uneven = counts.max(dim=1).values / counts.float().mean(dim=1)
    return f"held out {loss:.3f} (perplexity {math.exp(loss):.2f}, busiest/mean {uneven.max():.2f})"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--evaluate", metavar="FOLDER", help="only evaluate a saved model")
    parser.add_argument("--out", default="models/austen-moe", help="where to write (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=math.inf, help="end the first stage then")
    parser.add_argument("--stretch-steps", type=int, default=225, help="more, on full rows")
    parser.add_argument("--tokens", type=int, default=4096, help="tokens a step")
    parser.add_argument("--length", type=int, default=512, help="tokens a row")
    parser.add_argument("--rate", type=float, default=2e-3, help="learning rate of AdamW")
    parser.add_argument("--muon-rate", type=float, default=5e-3, help="learning rate of Muon")
    parser.add_argument("--weight-decay", type=float, default=0.2)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--noise", type=float, default=0.03, help="share of wrong inputs at first")
    parser.add_argument("--every", type=int, default=100, help="steps between two evaluations")
    options = parser.parse_args()
    if options.evaluate:
        report(options.evaluate)
    else:
        train(options)
        report(options.out)


if __name__ == "__main__":
    main()
