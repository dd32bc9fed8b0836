#!/usr/bin/env python3
"""llama-cpp-python on a GGUF file (make_gguf.py writes it). One sequence only: its Python interface
evaluates no more at a time."""
import llama_cpp

import work


def main():
    o = work.arguments(__doc__)
    if o.batches != [1]:
        raise SystemExit("run_llama_cpp: expected --batches 1")
    llama = llama_cpp.Llama(o.model, n_ctx=o.prompt + o.new + 1, n_batch=2048, n_ubatch=2048,
                            n_threads=o.threads, n_threads_batch=o.threads, verbose=False)

    def generate(ids):
        for token in ids:
            llama.eval([token])

    def run(_, length, new):
        llama.reset()
        ids = work.tokens(0, length + new, llama.n_vocab())
        prefill, _ = work.seconds(lambda: llama.eval(ids[:length]))
        decode, _ = work.seconds(lambda: generate(ids[length:]))
        return prefill, decode

    work.answer(f"llama-cpp-python {llama_cpp.__version__}", work.measure(o, run))


if __name__ == "__main__":
    main()
