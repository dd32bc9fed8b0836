#!/usr/bin/env python3
"""Write tests/golden/perplexity.json: what transformers makes of texts, window by window.

    pip install -r tools/requirements.txt
    python tools/make_perplexity_golden.py

The loop is that of transformers' guide "Perplexity of fixed-length models": the labels of a window
that an earlier one has scored are -100, and the model shifts labels by one itself and returns the
mean over those that are left. How many those are is counted here from the shifted labels. The guide
subtracts one from the labels before the shift instead, which is one too few in every window but the
first (unless the windows do not overlap): its own figure is kept as `guide_nats_per_token`.

All is on the CPU in float32, the weights widened exactly from the file.
"""

import json
import os

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
MODEL = "models/austen-moe"
TEXT = "models/austen-moe/held-out.txt"
OUT = "tests/golden/perplexity.json"

# bytes of the text (None: all), window, stride
CASES = [
    (None, 512, 256),
    (None, 2048, 1024),
    (4000, 256, 256),  # no window sees the one before: its first token is not scored
    (4000, 256, 255),  # and here it is
    (1500, 64, 1),
    (4000, 100, 37),
    (1000, 2048, 1024),  # one window holds all
    (1000, 2, 1),  # one token of context
    (1000, 3, 2),
]


@torch.no_grad()
def perplexity(model, ids, window, stride):
    """Return the sums of the loop over `ids`."""
    nats, scored, fed, before = 0.0, 0, 0, 0
    guide_nats, guide_scored = 0.0, 0
    for begin in range(0, len(ids), stride):
        end = min(begin + window, len(ids))
        row = ids[begin:end][None]
        labels = row.clone()
        labels[:, : -(end - before)] = -100
        count = int((labels[:, 1:] != -100).sum())
        if count:  # of a last window of one token transformers' mean is NaN
            loss = model(row, labels=labels, use_cache=False).loss.item()
            nats += loss * count
            scored += count
            fed += end - begin
            guide = int((labels != -100).sum()) - 1
            guide_nats += loss * guide
            guide_scored += guide
        before = end
        if end == len(ids):
            break
    guide_mean = guide_nats / guide_scored if guide_scored else None
    return nats / scored, scored, fed, guide_mean


def case(model, tokenizer, size, window, stride):
    text = open(os.path.join(ROOT, TEXT), "rb").read()[:size]
    ids = tokenizer(text.decode(), return_tensors="pt").input_ids[0]
    print(f"{len(text)} bytes, window {window}, stride {stride}", flush=True)
    mean, scored, fed, guide = perplexity(model, ids, window, stride)
    return {
        "bytes": len(text),
        "window": window,
        "stride": stride,
        "tokens": len(ids),
        "tokens_scored": scored,
        "tokens_in": fed,
        "nats_per_token": mean,
        "guide_nats_per_token": guide,
    }


def main():
    folder = os.path.join(ROOT, MODEL)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    golden = {
        "made_with": f"transformers {transformers.__version__}, torch {torch.__version__}",
        "model": MODEL,
        "text": TEXT,
        "cases": [case(model, tokenizer, *c) for c in CASES],
    }
    with open(os.path.join(ROOT, OUT), "w") as file:
        json.dump(golden, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
