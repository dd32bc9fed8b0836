#!/usr/bin/env python3
"""Turn qwen.tiktoken (the vocabulary of Qwen 1 to 2.5) into a tokenizer.json.

    python tools/qwen_tokenizer.py qwen.tiktoken tokenizer.json

Needs nothing but Python. qwen.tiktoken has a token a line: its bytes in base64, and its rank,
which is its id. tokenizer.json wants the pair that each token was merged from: it is what byte-pair
encoding makes of the token's bytes when only the tokens of lower rank may be used. The other
parts are as in the tokenizer.json of Qwen1.5.
"""

import base64
import json
import sys

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
ADDED = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def read_ranks(path):
    """Return {bytes: rank}."""
    with open(path, "rb") as file:
        pairs = (line.split() for line in file if line.strip())
        return {base64.b64decode(token): int(rank) for token, rank in pairs}


def alphabet():
    """Return GPT-2's letter for each byte: printable ones stand for themselves."""
    letters, unprinted = [], 0
    for byte in range(256):
        if 0x21 <= byte <= 0x7E or (byte >= 0xA1 and byte != 0xAD):
            letters.append(chr(byte))
        else:
            letters.append(chr(256 + unprinted))
            unprinted += 1
    return letters


def split_token(token, ranks):
    """Return the two tokens that `token` was merged from."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        merged = [ranks.get(a + b, len(ranks)) for a, b in zip(parts, parts[1:])]
        at = merged.index(min(merged))
        if merged[at] >= ranks[token]:
            sys.exit(f"token {ranks[token]} is no merge of two earlier ones")
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def tokenizer(ranks):
    """Return the contents of tokenizer.json."""
    letters = alphabet()
    ordered = sorted(ranks, key=ranks.get)
    spell = {token: "".join(letters[byte] for byte in token) for token in ordered}
    pairs = [split_token(token, ranks) for token in ordered if len(token) > 1]
    added = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": len(ranks) + i, "content": text, **added} for i, text in enumerate(ADDED)],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {spell[token]: ranks[token] for token in ordered},
            "merges": [f"{spell[a]} {spell[b]}" for a, b in pairs],
        },
    }


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    ranks = read_ranks(sys.argv[1])
    if sorted(ranks.values()) != list(range(len(ranks))):
        sys.exit(f"{sys.argv[1]}: the ranks are not 0, 1, 2, ...")
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        json.dump(tokenizer(ranks), file, ensure_ascii=False)


if __name__ == "__main__":
    main()
