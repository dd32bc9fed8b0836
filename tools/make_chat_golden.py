#!/usr/bin/env python3
"""Write tests/golden/chat: chat templates, and what transformers makes of them.

    pip install transformers==5.23.0
    python tools/make_chat_golden.py

tokenizer.json        a vocabulary of single bytes for the tiny checkpoints, 101 tokens
templates/            chat templates as models publish them, which this script reads
conversations.jsonl   a list of messages a line
tools.json            the tools that a conversation may have
published.jsonl       {"template", "conversation": its line, from 0, "tools": true or false, "kwargs", and "text", "error"
                      or "unread" (chat_conversations.py)}: what each published template makes of each conversation
known.jsonl           {"name", "template", "texts"}: ChatML in other spellings, and the first conversations rendered with
                      add_generation_prompt (null: an error, or a message is left out)
ids.jsonl             the token ids of those conversations with the first of these templates
variables.json        what expressions.jsonl may name
expressions.jsonl     {"template", "text"}: small templates, one for each construct; null: an error
mutants.jsonl         {"template", "texts"}: templates with a few characters changed, and the first three conversations
                      (null: an error, or a message is left out). epmoe refuses each, or renders this
"""

import glob
import json
import os
import random
import sys

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

sys.path.insert(0, os.path.dirname(__file__))
from chat_conversations import PLAIN, TOOL_TALK, TOOLS, render
from chat_expressions import VARIABLES, templates

FOLDER = os.path.join(os.path.dirname(__file__), "..", "tests", "golden", "chat")
MUTANTS = 200

LOOP = "{% for message in messages %}"
SYSTEM = (
    "{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\n%s<|im_end|>\n' }}{% endif %}"
)
LATER = (
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
EARLIEST = (
    "{{'<|im_start|>' + message['role'] + '\n' + message['content']}}"
    "{% if (loop.last and add_generation_prompt) or not loop.last %}{{ '<|im_end|>' + '\n'}}{% endif %}{% endfor %}"
    "{% if add_generation_prompt and messages[-1]['role'] != 'assistant' %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PREFACE = (
    "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
)


def with_system(text):
    return SYSTEM.replace("%s", text)


PLAIN_SYSTEM = LOOP + with_system("You are a helpful assistant") + LATER
INDENTED = """{%- if not add_generation_prompt is defined -%}
    {%- set add_generation_prompt = false -%}
{%- endif -%}
{# Messages, each between its marks. #}
{%- for message in messages -%}
    {%- if loop.first and messages[0].role != "system" -%}
        {{- "<|im_start|>system\\n" ~ "You are \\"indented\\", it's true." ~ "<|im_end|>\\n" -}}
    {%- endif -%}
    {{- "<|im_start|>" + message.role + "\\n" -}}
    {{- message.content -}}
    {{- "<|im_end|>\\n" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- "<|im_start|>assistant\\n" -}}
{%- endif -%}
"""
BLOCKS = """{% for message in messages %}
    {% if loop.first and messages[0]['role'] != 'system' %}
<|im_start|>system
Bare text, on two
lines.<|im_end|>
    {% endif %}
<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}
"""
QWEN25 = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' }}
    {%- endif %}
    {{- "\\n\\n# Tools\\n\\nYou may call one or more functions.\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools>\\n{\\"name\\": <function-name>}<|im_end|>\\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- message.content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def without_branches(text):
    """Qwen2.5's template without its branches for calls of tools and their answers."""
    first, last = text.index('    {%- elif message.role == "assistant"'), text.index("    {%- endif %}\n{%- endfor %}\n{%- if add")
    return text[:first] + text[last:]


# They print system, user and assistant messages only, and tools in ways of their own.
WITH_TOOLS = {"qwen2.5": QWEN25, "qwen2.5-short": without_branches(QWEN25)}

# Bare text ends a line; Jinja drops only the template's own last newline.
KNOWN = {
    "qwen1.5": PLAIN_SYSTEM,
    "qwen2": LOOP + with_system("You are a helpful assistant.") + LATER,
    "plain": LOOP + LATER,
    "earliest": LOOP + with_system("You are a helpful assistant") + EARLIEST,
    "earliest-plain": LOOP + EARLIEST,
    "earliest-newline": LOOP + EARLIEST.replace("{% endfor %}", "{% endfor %}\n"),
    "prefaced": PREFACE + LOOP + LATER,
    "prefaced-system": PREFACE + PLAIN_SYSTEM,
    "escaped": PLAIN_SYSTEM.replace("\n", "\\n"),
    "double-quotes": PLAIN_SYSTEM.replace("'", '"'),
    "members": PLAIN_SYSTEM.replace("message['role']", "message.role").replace("message['content']", "message.content"),
    "last-newline": PLAIN_SYSTEM + "\n",
    "spaces": PLAIN_SYSTEM.replace("{%", "{%  ").replace("{{", "{{  ").replace(" + ", "+"),
    "indented": INDENTED,
    "blocks": BLOCKS,
    "empty-system": LOOP + with_system("") + LATER,
    "unicode-system": LOOP + with_system("Du bist ein hilfreicher Assistent. 你是一个助手 😀\n\tZeile 2") + LATER,
}

def byte_characters():
    """The 256 printable characters of byte-level BPE, by byte."""
    same = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {b: chr(b) for b in same}
    for n, b in enumerate(b for b in range(256) if b not in table):
        table[b] = chr(256 + n)
    return table


def write_tokenizer(path):
    characters = byte_characters()
    tokens = [characters[b] for b in [*range(33, 127), 32, 10, 0xC3, 0xA9]]
    special = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
    flags = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    byte_level = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=False, use_regex=False)
    split = dict(type="Split", pattern={"Regex": r"\s+|\S+"}, behavior="Isolated", invert=False)
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": len(tokens) + i, "content": s, **flags} for i, s in enumerate(special)],
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
            "vocab": {t: i for i, t in enumerate(tokens)},
            "merges": [],
        },
    }
    with open(path, "w", encoding="utf-8") as f:
        json.dump(content, f, ensure_ascii=False)
        f.write("\n")


def write_lines(name, values):
    with open(os.path.join(FOLDER, name), "w", encoding="utf-8") as f:
        for v in values:
            f.write(json.dumps(v) + "\n")


TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
NEW = ["", "", " ", "\n", "-", "+", "'", '"', "x", "~", "{", "}", "\\n", "|", "(", ")", "[", "]", ",", "1", " not ", " if ", "loop", "."]


def mutate(text, rng):
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        i = rng.randrange(len(text))
        j = i + rng.choice([1, 1, 2, 5, 12])
        k = rng.randrange(len(text))
        new = rng.choice([*NEW, text[i:j] * 2, text[k : k + 9]])
        text = text[:i] + new + text[rng.choice([i, j]) :]
    return text


def check(tokenizer, template, messages, tools, kwargs, made):
    """apply_chat_template itself must say the same."""
    kwargs = {"add_generation_prompt": True, **kwargs}
    try:
        text = tokenizer.apply_chat_template(messages, tools=tools, chat_template=template, tokenize=False, **kwargs)
    except Exception as error:
        assert "error" in made and (made["error"] is None or made["error"] == str(error)), (made, error)
        return
    assert "unread" in made or made["text"] == text, (made, text)


def published(folder, tokenizer):
    """Lines of published.jsonl. Switches are tried where the template has them."""

    def one(messages, tools, kwargs):
        made = render(template, messages, tools, {**TOKENS, **kwargs})
        check(tokenizer, template, messages, tools, kwargs, made)
        return {"template": os.path.basename(path), "conversation": n, "tools": bool(tools), "kwargs": kwargs, **made}

    for path in sorted(glob.glob(os.path.join(folder, "*.jinja"))):
        with open(path, encoding="utf-8", newline="") as f:
            template = f.read()
        for n, messages in enumerate(PLAIN + (TOOL_TALK if "tool_calls" in template else [])):
            yield one(messages, None, {})
            yield one(messages, None, {"add_generation_prompt": False})
            if "tools" in template:
                yield one(messages, TOOLS, {})
            if "enable_thinking" in template:
                yield one(messages, None, {"enable_thinking": False})
                yield one(messages, TOOLS, {"enable_thinking": True})


def text_of(template, messages):
    return render(template, messages).get("text")


def expression(template):
    given = {**VARIABLES, "tools": None}
    try:
        return chat_template_utils._compile_jinja_template(template).render(**given)
    except Exception:  # whatever Jinja or Python has to say
        return None


def make_mutants(seeds, n, rng):
    for _ in range(n):
        template = mutate(rng.choice(seeds), rng)
        yield {"template": template, "texts": [text_of(template, c) for c in PLAIN[:3]]}


def main():
    tokenizer_file = os.path.join(FOLDER, "tokenizer.json")
    write_tokenizer(tokenizer_file)
    Tokenizer.from_file(tokenizer_file)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=tokenizer_file)

    speaking = PreTrainedTokenizerFast(tokenizer_file=tokenizer_file, **TOKENS)

    def ids(messages):
        return tokenizer.apply_chat_template(
            messages, chat_template=PLAIN_SYSTEM, add_generation_prompt=True, return_dict=False
        )

    write_lines("conversations.jsonl", PLAIN + TOOL_TALK)
    write_lines("tools.json", [TOOLS])
    write_lines("published.jsonl", published(os.path.join(FOLDER, "templates"), speaking))
    known = (KNOWN | WITH_TOOLS).items()
    write_lines("known.jsonl", ({"name": n, "template": t, "texts": [text_of(t, c) for c in PLAIN]} for n, t in known))
    write_lines("ids.jsonl", map(ids, PLAIN))
    write_lines("variables.json", [VARIABLES])
    write_lines("expressions.jsonl", ({"template": t, "text": expression(t)} for t in templates()))
    rng = random.Random(1)
    small = list(KNOWN.values())
    large = [open(path, encoding="utf-8", newline="").read() for path in sorted(glob.glob(os.path.join(FOLDER, "templates", "*.jinja")))]
    write_lines("mutants.jsonl", [*make_mutants(small, MUTANTS, rng), *make_mutants(large, MUTANTS // 2, rng)])


if __name__ == "__main__":
    main()
