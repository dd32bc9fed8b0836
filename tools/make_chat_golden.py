#!/usr/bin/env python3
"""Write tests/golden/chat: chat templates, and what transformers' apply_chat_template makes of them.

    pip install transformers==5.24.0
    python tools/make_chat_golden.py

tokenizer.json        a vocabulary of single bytes for the tiny checkpoints, 101 tokens
conversations.jsonl   a list of messages a line
known.jsonl           {"name", "template", "texts"}: templates that epmoe renders, each conversation
                      rendered with add_generation_prompt
ids.jsonl             the token ids of each conversation with the first of those templates
refused.jsonl         {"name", "template", "says"}: templates of another kind, and a word that the
                      refusal must hold
mutants.jsonl         {"template", "texts"}: known templates with a few characters changed, and the
                      first three conversations (null: an error). epmoe refuses each, or renders this
"""

import json
import os
import random

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

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

REFUSED = {
    "qwen2.5-no-default": (QWEN25.replace("{%- else %}\n        {{- '<|im_start|>system", "{%- elif x %}\n        {{- '<|im_start|>system"), "tools"),
    "qwen2.5-other-tools": (QWEN25.replace("{%- if tools %}", "{%- if not tools %}"), "tools"),
    "qwen2.5-unclosed": (QWEN25[: QWEN25.index("{%- for message in messages")], "tools"),
    "llama3": (
        "{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
        " + message['content'] | trim + '<|eot_id|>' }}{% endfor %}",
        "Llama 3",
    ),
    "mistral": (
        "{{ bos_token }}{% for message in messages %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% endfor %}",
        "Mistral",
    ),
    "gemma": ("{{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + m['role'] }}{% endfor %}", "Gemma"),
    "zephyr": ("{% for m in messages %}{{ '<|assistant|>\n' + m['content'] + eos_token }}{% endfor %}", "Zephyr"),
    "empty": ("", "another kind"),
    "prompt-only": ("{{ messages[0]['content'] }}", "another kind"),
    "unclosed": (PLAIN_SYSTEM[:-3], "another ChatML"),
    "trimmed": (PLAIN_SYSTEM.replace("message['content']", "message['content'] | trim"), "another ChatML"),
    "no-newline": (PLAIN_SYSTEM.replace(" + '\n'}}", "}}"), "another ChatML"),
    "other-role": (PLAIN_SYSTEM.replace("assistant\n'", "model\n'"), "another ChatML"),
    "two-systems": (LOOP + with_system("a<|im_end|>\n<|im_start|>user\nb") + LATER, "another ChatML"),
    "bos": ("{{ bos_token }}" + PLAIN_SYSTEM, "another ChatML"),
    "text-behind": (PLAIN_SYSTEM + "!", "another ChatML"),
    "no-generation-prompt": (PLAIN_SYSTEM[: PLAIN_SYSTEM.index("{% if add_gen")], "another ChatML"),
    "date": (LOOP + with_system("Today is ' + date + '.") + LATER, "another ChatML"),
}


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def system(text):
    return {"role": "system", "content": text}


CONVERSATIONS = [
    [user("Hello")],
    [system("Be brief."), user("Hello"), assistant("Hi."), user("Bye")],
    [user("Hello"), assistant("Hi")],
    [system("Be brief."), user("Hello")],
    [user("Hello"), assistant("Hi"), user("How are you?")],
    [user("")],
    [system(""), user("empty system")],
    [user(" leading and trailing ")],
    [user("\nnewlines\n\n")],
    [user("tabs\tand\r\nreturns")],
    [user("quotes ' and \" and \\ and \\n")],
    [user("{{ 7 * 7 }} {% raw %} {# no #}")],
    [user("special <|im_end|>\n<|im_start|>system\ninside")],
    [user("<|endoftext|>")],
    [user("<|im_start|>")],
    [user("almost < |im_start|> <|im_start| >")],
    [user("naïve café")],
    [user("你好，世界")],
    [user("😀 emoji 👩‍👩‍👧")],
    [user("e\u0301 is not yet é")],
    [user("nul \u0000 inside")],
    [user("a" * 300)],
    [system("A"), system("B"), user("two systems")],
    [user("late system"), system("S"), user("go")],
    [assistant("I begin")],
    [assistant("I begin"), user("and I answer")],
    [user("one"), user("two"), user("three")],
    [user("q"), assistant("a"), user("q"), assistant("a"), user("q"), assistant("a")],
    [{"role": "tool", "content": "42"}],
    [user("weather?"), {"role": "tool", "content": '{"t": 21}'}, assistant("21 degrees")],
    [{"role": "User", "content": "capital"}],
    [{"role": "a role with spaces", "content": "x"}],
    [system("only a system")],
    [system("S"), assistant("ends with an answer")],
    [user("&lt;html&gt; <b>bold</b>")],
    [user("line one\nline two"), assistant("- a\n- b\n"), user("```c\nint x;\n```")],
]


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


def mutate(text, rng):
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        i = rng.randrange(len(text))
        j = i + rng.choice([1, 1, 2, 5, 12])
        new = rng.choice(["", "", " ", "\n", "-", "+", "'", '"', "x", "~", "{", "}", "\\n", "|", text[i:j] * 2])
        text = text[:i] + new + text[rng.choice([i, j]) :]
    return text


def main():
    tokenizer_file = os.path.join(FOLDER, "tokenizer.json")
    write_tokenizer(tokenizer_file)
    Tokenizer.from_file(tokenizer_file)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=tokenizer_file)

    def render(template, messages, tokenize=False):
        return tokenizer.apply_chat_template(
            messages, chat_template=template, add_generation_prompt=True, tokenize=tokenize, return_dict=False
        )

    def try_render(template, messages):
        try:
            return render(template, messages)
        except Exception:  # whatever Jinja has to say
            return None

    write_lines("conversations.jsonl", CONVERSATIONS)
    write_lines(
        "known.jsonl",
        ({"name": n, "template": t, "texts": [render(t, c) for c in CONVERSATIONS]} for n, t in (KNOWN | WITH_TOOLS).items()),
    )
    write_lines("ids.jsonl", (render(PLAIN_SYSTEM, c, tokenize=True) for c in CONVERSATIONS))
    write_lines("refused.jsonl", ({"name": n, "template": t, "says": s} for n, (t, s) in REFUSED.items()))
    rng = random.Random(1)
    seeds = list(KNOWN.values())
    mutants = []
    while len(mutants) < MUTANTS:
        template = mutate(rng.choice(seeds), rng)
        mutants.append({"template": template, "texts": [try_render(template, c) for c in CONVERSATIONS[:3]]})
    # of a template with tools, what is printed without tools is changed
    first, last = QWEN25.index("{%- else %}\n    {%- if messages[0]"), QWEN25.index('    {%- elif message.role == "assistant"')
    for _ in range(MUTANTS // 2):
        template = QWEN25[:first] + mutate(QWEN25[first:last], rng) + QWEN25[last:]
        mutants.append({"template": template, "texts": [try_render(template, c) for c in CONVERSATIONS[:3]]})
    write_lines("mutants.jsonl", mutants)
    print(f"{len(KNOWN)} known, {len(REFUSED)} refused, {len(CONVERSATIONS)} conversations, {len(mutants)} mutants")


if __name__ == "__main__":
    main()
