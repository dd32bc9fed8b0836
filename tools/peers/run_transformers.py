#!/usr/bin/env python3
"""transformers on the CPU, bf16; --how eager, grouped_mm or batched_mm: its experts_implementation."""
import torch
import transformers

import work


def main():
    o = work.arguments(__doc__)
    torch.set_num_threads(o.threads)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        o.model, dtype=torch.bfloat16, experts_implementation=o.how or "grouped_mm").eval()
    vocabulary = model.config.vocab_size

    def step(tokens, cache):
        out = model(tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return out.logits[:, -1:].argmax(-1), out.past_key_values

    def generate(token, cache, new):
        for _ in range(new):
            token, cache = step(token, cache)

    def run(batch, length, new):
        prompts = torch.tensor([work.tokens(s, length, vocabulary) for s in range(batch)])
        prefill, (token, cache) = work.seconds(lambda: step(prompts, None))
        decode, _ = work.seconds(lambda: generate(token, cache, new))
        return prefill, decode

    with torch.inference_mode():
        figures = work.measure(o, run)
    work.answer(f"transformers {transformers.__version__}, torch {torch.__version__}", figures)


if __name__ == "__main__":
    main()
