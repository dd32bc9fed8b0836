#!/usr/bin/env python3
"""llama.cpp by xllamacpp, its Python binding that comes compiled, on a GGUF file (make_gguf.py writes it). One
sequence; the times are llama.cpp's own."""
import sys

import xllamacpp

import work


def parameters(o):
    p = xllamacpp.CommonParams()
    p.model.path = o.model
    p.n_ctx = o.prompt + o.new + 64
    p.n_batch = p.n_ubatch = 2048
    p.n_parallel = 1
    p.cpuparams.n_threads = p.cpuparams_batch.n_threads = o.threads
    return p


def main():
    o = work.arguments(__doc__)
    if o.batches != [1]:
        sys.exit("run_xllamacpp: expected --batches 1")
    server = xllamacpp.Server(parameters(o))
    vocabulary = 32000  # smaller than the model's, which the binding does not tell; any ids take as long

    def run(_, length, new):
        answer = server.handle_completions({"prompt": work.tokens(0, length, vocabulary), "n_predict": new,
                                            "temperature": 0, "ignore_eos": True, "cache_prompt": False})
        times = answer["timings"]
        if times["prompt_n"] != length or times["predicted_n"] != new:
            sys.exit(f"run_xllamacpp: expected {length} and {new} tokens, found {times}")
        # the first new token comes with the prompt's logits: new - 1 steps are timed
        return times["prompt_ms"] / 1e3, times["predicted_ms"] / 1e3 * new / max(new - 1, 1)

    work.answer(f"xllamacpp {xllamacpp.__version__}", work.measure(o, run))


if __name__ == "__main__":
    main()
