#!/usr/bin/env python3
"""Write tests/golden/sampling.jsonl: which tokens transformers may draw from a row of logits.

usage: make_sampling_golden.py OUT.jsonl

The first line says what made it. Each other line is {"generation": a generation_config.json,
"logits": a row, "said": the tokens so far, "n_prompt": how many of them are the prompt's, "kept":
the tokens that may be drawn, ascending}; without do_sample that is the one that is taken. The
processors and their order are those of generate().
"""

import json
import random
import sys

import torch
import transformers
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

VOCAB = 120
EOS = [7, 11]

SAMPLING = [
    {},
    {"top_k": 0},
    {"top_k": 100},
    {"temperature": 0.5, "top_k": 0, "top_p": 0.9},
    {"temperature": 2.0, "top_k": 40, "top_p": 0.6},
    {"min_p": 0.1},
    {"min_p": 1.0},
    {"min_p": 0.02, "top_k": 0, "temperature": 1.7},
    {"top_k": 0, "typical_p": 0.2},
    {"top_k": 0, "typical_p": 0.9, "temperature": 0.7},
    {"top_k": 30, "top_p": 0.95, "min_p": 0.01, "typical_p": 0.5, "temperature": 1.3},
    {"top_k": 20, "typical_p": 0.01},
    {"repetition_penalty": 1.4, "top_p": 0.8, "top_k": 0},
]
BANS = [
    {"suppress_tokens": [3, 5, 8]},
    {"begin_suppress_tokens": [2, 4, 6, 7]},
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 2},
    {"no_repeat_ngram_size": 3},
    {"bad_words_ids": [[9], [7], [1, 2], [2, 1, 3], [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]]},
    {"min_new_tokens": 3},
    {"min_length": 7},
    {"min_length": 8},
    {"min_length": 9},
    {"min_new_tokens": 2, "suppress_tokens": list(range(60, 110)), "repetition_penalty": 1.2},
]


def processors(model, keys, n_prompt):
    config = GenerationConfig(eos_token_id=EOS, **keys)
    config, _ = model._prepare_generation_config(config)
    model._prepare_special_tokens(config, False, device="cpu")
    return model._get_logits_processor(config, input_ids_seq_length=n_prompt, device="cpu")


def case(model, draw, keys, n_new, banning):
    said = [draw.randrange(4 if banning else VOCAB) for _ in range(draw.randint(6, 9))]
    n_prompt = len(said) - n_new
    row = [round(draw.gauss(0, 1.5), 4) for _ in range(VOCAB)]
    for token in EOS + [1, 2, 3]:  # what is banned would often be taken
        row[token] = round(row[token] + draw.choice([0.0, 9.0]) * banning, 4)
    scores = processors(model, keys, n_prompt)(torch.tensor([said]), torch.tensor([row]))[0]
    if keys.get("do_sample"):
        kept = [t for t in range(VOCAB) if scores[t] > -torch.inf]
    else:
        kept = [int(scores.argmax())]
    generation = dict(eos_token_id=EOS, **keys)
    return dict(generation=generation, logits=row, said=said, n_prompt=n_prompt, kept=kept)


def main():
    torch.manual_seed(0)
    draw = random.Random(1)
    model = Qwen2ForCausalLM(
        Qwen2Config(vocab_size=VOCAB, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                    num_attention_heads=1, num_key_value_heads=1)
    )
    lines = [dict(made_with=f"transformers {transformers.__version__}, torch {torch.__version__}")]
    for keys in SAMPLING:
        lines += [case(model, draw, dict(do_sample=True, **keys), n, False) for n in (0, 2)]
    for keys in BANS:
        lines += [case(model, draw, dict(do_sample=True, top_k=0, **keys), n, True) for n in (0, 1, 4)]
        lines += [case(model, draw, dict(keys), n, True) for n in (0, 2)]
    with open(sys.argv[1], "w") as out:
        for line in lines:
            out.write(json.dumps(line) + "\n")


main()
