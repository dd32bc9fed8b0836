"""What all workers of tools/peers share: the arguments, the tokens and the answer.

A worker is a script that peers.py runs with the Python of the peer's own environment. It loads the
model, warms up, does the work once, and prints one line of JSON:
    {"version": "...", "prefill": tokens/s, "decode": {"1": tokens/s, "8": tokens/s}}
"""
import argparse
import json
import time

WARM_UP = 32  # tokens


def arguments(doc):
    """The work that every worker is asked to do."""
    options = argparse.ArgumentParser(description=doc)
    options.add_argument("--model", required=True, help="checkpoint directory, or a GGUF file")
    options.add_argument("--prompt", type=int, default=1500, help="tokens of the prompt at batch 1")
    options.add_argument("--batch-prompt", type=int, default=64, help="and at any larger batch")
    options.add_argument("--new", type=int, default=40, help="tokens that each sequence generates")
    options.add_argument("--batches", type=numbers, default=[1], help="e.g. 1,8,32")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--how", default="", help="the peer's own choice of code")
    return options.parse_args()


def numbers(text):
    return [int(n) for n in text.split(",")]


def tokens(sequence, length, vocabulary):
    """Fixed token ids, different for each sequence."""
    x, ids = sequence + 1, []
    for _ in range(length):
        x = (x * 1664525 + 1013904223) % 2**32
        ids.append(x * vocabulary >> 32)
    return ids


def measure(o, run):
    """run(batch, length, new) does the work and returns the seconds of the prompts and of the new
    tokens. Returns the figures of the answer."""
    run(1, min(o.prompt, WARM_UP), 2)
    figures = {"prefill": None, "decode": {}}
    for batch in o.batches:
        length = o.prompt if batch == 1 else o.batch_prompt
        prefill, decode = run(batch, length, o.new)
        if batch == 1:
            figures["prefill"] = length / prefill
        figures["decode"][str(batch)] = batch * o.new / decode
    return figures


def seconds(call):
    """(seconds, result) of call()."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def answer(version, figures):
    print(json.dumps({"version": version, **figures}), flush=True)
