#!/usr/bin/env python3
"""Write tests/golden/tokenizer/kinds: small tokenizers of each published kind, and their ids.

    pip install tokenizers==0.23.3 transformers==5.23.0
    python tools/make_tokenizer_kinds.py

Each NAME.json has the structure that the models it is named for publish, and a vocabulary trained
on this repository's documents and the golden strings. NAME.jsonl has a line [text, ids, decoded]
for each string: what tokenizers makes of it with the tokens of the post-processor, and what it
makes of those ids again, special tokens included; then lines of [null, ids, decoded] for ids in
no order.

mixtral            Mixtral, Llama 2: Prepend and Replace as normalisers, no pre-tokenizer
llama-normalized   the same, as older files of Llama 2 have it: added tokens with `normalized`
mixtral-metaspace  the same vocabulary in the newer form, Metaspace with prepend_scheme first
olmoe              GPT-NeoX: GPT-2's pattern, added tokens that are runs of spaces
qwen3              Qwen3: Qwen's pattern, merges as pairs, added tokens that are not special
gpt2.jsonl         olmoe's vocabulary and merges as GPT2Tokenizer of transformers reads them

The ids of olmoe and qwen3 are also compared with what transformers makes of the same vocabulary in
vocab.json, merges.txt and tokenizer_config.json.
"""

import glob
import json
import os
import random
import tempfile

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from make_tokenizer_golden import FOLDER
from qwen_tokenizer import SPLIT

HERE = os.path.join(os.path.dirname(__file__), "..")
OUT = os.path.join(FOLDER, "kinds")
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
MORE = [
    "<s>a", "a<s>b", "a <s>b", " <s> <s>", "<s>", "</s></s>", "x</s>\n<s> y", "<unk>", "<pad>", "▁", "▁▁a", "a▁b ▁",
    "<0x41>", "<0x0A>\n", "a <0x41> b", "  a", "   a  b   c    d", " a<s> a", "a\n b\n  c\n   d", "e\u0301 <s>e\u0301",
    "\u0301<s>\u0301", "你好<s>世界 你", "😀<s>😀 😀", "<think>\nx </think>", "|||IP_ADDRESS|||:80",
    "a" + " " * 2 + "b" + " " * 3 + "c" + " " * 23 + "d" + " " * 24 + "e" + " " * 25 + "f" + " " * 60 + "g",
    "\n" + " " * 8 + "return x\n" + " " * 4 + "\ty", "the the  the   the", "of the of the",
]  # fmt: skip


def strings():
    with open(os.path.join(FOLDER, "strings.jsonl")) as file:
        return [json.loads(line) for line in file] + MORE


KEPT = set("你好世界的中文。，あかがでの—’“”…→─│😀\u0301\u0323")


def corpus():
    """Lines to train on, of few letters: the trainer's own limit takes others at each run. U+0000
    is none, as the JSON reader here takes none in a key."""
    for text in all_lines():
        yield "".join(c for c in text if 0 < ord(c) < 0x180 or c in KEPT)


def all_lines():
    paths = sorted(glob.glob(os.path.join(HERE, "docs", "*.md"))) + [os.path.join(HERE, "README.md")]
    for path in paths:
        with open(path, encoding="utf-8") as file:
            yield from file
    yield from strings()


def trained(tokenizer, size, first):
    """Return the vocabulary and the merges, as pairs, that training gives."""
    alphabet = pre_tokenizers.ByteLevel.alphabet() if tokenizer.decoder else []
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=first, initial_alphabet=alphabet, max_token_length=12,
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(corpus(), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], model["merges"]


def added(vocab, content, normalized=False, special=True):
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": normalized, "special": special}
    return {"id": vocab[content], "content": content, **flags}


def with_next_ids(vocab, tokens):
    """Return added tokens, of which those that the vocabulary lacks have the next ids."""
    numbers = dict(vocab)
    for content, _ in tokens:
        numbers.setdefault(content, len(numbers))
    return [added(numbers, content, **flags) for content, flags in tokens]


def tokenizer_json(**parts):
    return {"version": "1.0", "truncation": None, "padding": None, **parts}


def bpe(vocab, merges, **changes):
    model = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
        "fuse_unk": False, "byte_fallback": False, "vocab": vocab, "merges": merges,
    }  # fmt: skip
    return {**model, **changes}


def mixtral_kinds():
    start = Tokenizer(models.BPE())
    marks = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    start.normalizer = normalizers.Sequence(marks)
    vocab, merges = trained(start, 1000, ["<unk>", "<s>", "</s>"] + BYTES)
    decoder = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]
    template = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [
            {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "<s>", "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}},
        ],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [vocab["<s>"]], "tokens": ["<s>"]}},
    }  # fmt: skip
    prepend = {"type": "Prepend", "prepend": "▁"}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    forms = {
        "mixtral": (False, {"type": "Sequence", "normalizers": [prepend, replace]}, None),
        "llama-normalized": (True, {"type": "Sequence", "normalizers": [prepend, replace]}, None),
        "mixtral-metaspace": (False, None, metaspace),
    }
    for name, (normalized, normalizer, pre_tokenizer) in forms.items():
        lines = [" ".join(pair) for pair in merges] if pre_tokenizer is None else merges
        yield name, tokenizer_json(
            added_tokens=[added(vocab, token, normalized) for token in ["<unk>", "<s>", "</s>"]],
            normalizer=normalizer,
            pre_tokenizer=pre_tokenizer,
            post_processor=template,
            decoder={"type": "Sequence", "decoders": decoder},
            model=bpe(vocab, lines, unk_token="<unk>", fuse_unk=True, byte_fallback=True),
        )


def olmoe():
    start = Tokenizer(models.BPE())
    start.normalizer = normalizers.NFC()
    start.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    start.decoder = decoders.ByteLevel()
    vocab, merges = trained(start, 900, ["|||IP_ADDRESS|||", "<|padding|>"])
    plain = {"normalized": True, "special": False}
    tokens = [("|||IP_ADDRESS|||", plain), ("<|padding|>", {})]
    tokens += [(" " * n, plain) for n in range(24, 1, -1)]
    tokens += [("|||EMAIL_ADDRESS|||", plain), ("<|endoftext|>", {})]
    return tokenizer_json(
        added_tokens=with_next_ids(vocab, tokens),
        normalizer={"type": "NFC"},
        pre_tokenizer={"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True},
        post_processor={
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {},
        },
        decoder={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True},
        model={key: v for key, v in bpe(vocab, [" ".join(pair) for pair in merges]).items() if key != "byte_fallback"},
    )


def qwen3():
    start = Tokenizer(models.BPE())
    start.normalizer = normalizers.NFC()
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False}
    pre_tokenizer = {"type": "Sequence", "pretokenizers": [split, byte_level]}
    whole = {**json.loads(start.to_str()), "pre_tokenizer": pre_tokenizer, "decoder": byte_level}
    vocab, merges = trained(Tokenizer.from_str(json.dumps(whole)), 900, [])
    tokens = [("<|endoftext|>", {}), ("<|im_start|>", {}), ("<|im_end|>", {}), ("<|vision_start|>", {})]
    tokens += [(token, {"special": False}) for token in ["<tool_call>", "</tool_call>", "<think>", "</think>"]]
    model = bpe(vocab, merges, continuing_subword_prefix="", end_of_word_suffix="", ignore_merges=False)
    return tokenizer_json(
        added_tokens=with_next_ids(vocab, tokens),
        normalizer={"type": "NFC"},
        pre_tokenizer=pre_tokenizer,
        post_processor=byte_level,
        decoder=byte_level,
        model=model,
    )


def ids_in_no_order(tokenizer):
    """Return lists of ids whose tokens of single bytes make up characters, so that no byte is lost."""
    generator = random.Random(2)
    byte_ids = [tokenizer.token_to_id(token) for token in BYTES]
    byte_level = byte_ids[0] is None
    size = tokenizer.get_vocab_size()
    if byte_level:  # any token may be a part of a character: take those that are ASCII
        usable = [i for i in range(size) if tokenizer.decode([i], skip_special_tokens=False).isascii()]
    else:
        usable = [i for i in range(size) if i not in byte_ids]
    for _ in range(60):
        ids = []
        for _ in range(generator.randint(1, 12)):
            if not byte_level and generator.random() < 0.3:
                ids += [byte_ids[byte] for byte in generator.choice(["你", "é", "😀", " ", "a"]).encode()]
            else:
                ids.append(generator.choice(usable))
        yield ids


def write(name, value, lines):
    if value:
        with open(os.path.join(OUT, name + ".json"), "w", encoding="utf-8") as file:
            json.dump(value, file, ensure_ascii=False, separators=(",", ":"))
    with open(os.path.join(OUT, name + ".jsonl"), "w", encoding="utf-8") as file:
        file.writelines(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines)


def lines_of(tokenizer):
    for text in strings():
        ids = tokenizer.encode(text).ids
        yield [text, ids, tokenizer.decode(ids, skip_special_tokens=False)]
    for ids in ids_in_no_order(tokenizer):
        yield [None, ids, tokenizer.decode(ids, skip_special_tokens=False)]


def from_files(value, tokenizer_class, older=False):
    """Return what transformers reads from the same vocabulary in vocab.json and merges.txt, with
    added tokens in tokenizer_config.json, or in the older files."""
    import transformers

    tokens = value["added_tokens"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in value["model"]["merges"]]
    decoder = {str(token["id"]): {k: v for k, v in token.items() if k != "id"} for token in tokens}
    files = {"vocab.json": value["model"]["vocab"], "tokenizer_config.json": {"tokenizer_class": tokenizer_class}}
    if older:
        special = [token["content"] for token in tokens if token["special"]]
        files["added_tokens.json"] = {token["content"]: token["id"] for token in reversed(tokens)}
        files["special_tokens_map.json"] = {"eos_token": special[0], "additional_special_tokens": special}
    else:
        files["tokenizer_config.json"]["added_tokens_decoder"] = decoder
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            with open(os.path.join(folder, name), "w") as file:
                json.dump(content, file)
        with open(os.path.join(folder, "merges.txt"), "w", encoding="utf-8") as file:
            file.write("#version: 0.2\n" + "\n".join(merges) + "\n")
        return getattr(transformers, tokenizer_class).from_pretrained(folder).backend_tokenizer


def main():
    os.makedirs(OUT, exist_ok=True)
    kinds = dict(mixtral_kinds())
    kinds["olmoe"] = olmoe()
    kinds["qwen3"] = qwen3()
    for name, value in kinds.items():
        write(name, value, lines_of(Tokenizer.from_str(json.dumps(value))))
    for name, tokenizer_class in [("olmoe", "GPTNeoXTokenizer"), ("qwen3", "Qwen2Tokenizer")]:
        whole = Tokenizer.from_str(json.dumps(kinds[name]))
        for older in [False, True]:
            files = from_files(kinds[name], tokenizer_class, older)
            for text in strings():
                assert whole.encode(text).ids == files.encode(text).ids, (name, older, text)
    write("gpt2", None, lines_of(from_files(kinds["olmoe"], "GPT2Tokenizer")))


if __name__ == "__main__":
    main()
