#!/usr/bin/env python3
"""What reaches a chat template from outside: tools, calls and chat_template_kwargs of a request, --no-thinking.

    chat_templates.py EPMOE MODEL      a model with Qwen3's template and a vocabulary of single bytes
"""
import copy, json, os, subprocess, sys

from serve_client import Server

GOLDEN = os.path.join(os.path.dirname(__file__), "../golden/chat/")
PATH = "/v1/chat/completions"
QUIET = '{"enable_thinking": false}'


def lines(name):
    return [json.loads(line) for line in open(GOLDEN + name)]


def golden():
    """(messages, tools, kwargs, text) of Qwen3's texts, whose messages are OpenAI's."""
    conversations, tools = lines("conversations.jsonl"), lines("tools.json")[0]
    for made in lines("published.jsonl"):
        messages = conversations[made["conversation"]]
        calls = [c for m in messages for c in m.get("tool_calls", [])]
        usual = all("function" in c for c in calls) and not any("thinking" in m for m in messages)
        strings = [c for c in calls if isinstance(c.get("function", {}).get("arguments"), str)]
        if made["template"] == "qwen3-0.6b.jinja" and "text" in made and usual and not strings:
            yield messages, tools if made["tools"] else None, made["kwargs"], made["text"]


def with_strings(messages):
    """The same messages with arguments as clients send them: JSON in a string; and without empty contents."""
    messages = copy.deepcopy(messages)
    for m in messages:
        for c in m.get("tool_calls", []):
            c["function"]["arguments"] = json.dumps(c["function"]["arguments"]) if c["function"]["arguments"] else ""
        if m.get("tool_calls") and m["content"] == "":
            m["content"] = None
    return messages


def prompts(s):
    """The tokens are those of the text that transformers makes."""
    n = 0
    for messages, tools, kwargs, text in golden():
        wanted = s.post("/tokenize", {"prompt": text})["tokens"]
        fields = {"tools": tools, "chat_template_kwargs": kwargs}
        for form in messages, with_strings(messages):
            found = s.post("/tokenize", {"messages": form, **fields})["tokens"]
            assert found == wanted, (messages, tools, kwargs)
        n += 1
    assert n > 150, n
    # a completion has the same prompt: too long a one for this model with tools, a short one without
    body = dict(max_tokens=2, temperature=0)
    s.refuses(f"messages: expected at most 512 tokens, found {len(wanted)}: ", path=PATH, messages=messages, tools=tools,
              chat_template_kwargs=kwargs, **body)
    body |= dict(messages=[{"role": "user", "content": "Hi"}], chat_template_kwargs={"enable_thinking": False})
    answer = s.post(PATH, body)
    text = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    assert answer["usage"]["prompt_tokens"] == s.post("/tokenize", {"prompt": text})["count"]


def refusals(s):
    hi = [{"role": "user", "content": "Hi"}]

    def calls(**call):
        return [*hi, {"role": "assistant", "content": None, "tool_calls": [call]}]

    good = {"name": "f", "arguments": "{}"}
    for says, fields in [
        ("enable_thinkng", dict(chat_template_kwargs={"enable_thinkng": False})),
        ("chat_template_kwargs", dict(chat_template_kwargs=[1])),
        ("messages and tools beside it", dict(chat_template_kwargs={"tools": []})),
        ("tools: 1: expected", dict(tools=[{}])),
        ("tools: 1: expected", dict(tools=[{"type": "retrieval", "function": {"name": "f"}}])),
        ("tools", dict(tools="f")),
        ("messages: 2: tool_calls: 1: arguments", dict(messages=calls(function={"name": "f", "arguments": "{"}))),
        ("messages: 2: tool_calls: 1: arguments", dict(messages=calls(function={"name": "f", "arguments": "[]"}))),
        ("messages: 2: tool_calls: 1: expected a function", dict(messages=calls(type="function"))),
        ("strict", dict(messages=calls(function={**good, "strict": True}))),
        ("messages: 2: expected content", dict(messages=[*hi, {"role": "assistant", "content": None}])),
        ("messages: 2: expected a message that", dict(messages=[*hi, {"role": "developer", "content": "x"}])),
        ("reasoning_content: expected a string", dict(messages=[{**hi[0], "reasoning_content": 1}])),
    ]:
        s.refuses(says, path=PATH, **{"messages": hi, **fields})
    s.refuses("tools", prompt="a", tools=[{"type": "function", "function": good}])
    s.refuses("chat_template_kwargs", prompt="a", chat_template_kwargs={"enable_thinking": False})
    s.post(PATH, dict(messages=hi, tools=[], chat_template_kwargs=None, max_tokens=1))


def switch(epmoe, model):
    """--no-thinking of serve, run and chat, and a request that says otherwise."""
    hi = [{"role": "user", "content": "Hi"}]
    texts = {k.get("enable_thinking", True): t for m, tools, k, t in golden()
             if m == [{"role": "user", "content": "Hello"}] and not tools and "add_generation_prompt" not in k}
    assert texts[False] == texts[True] + "<think>\n\n</think>\n\n"
    s = Server(epmoe, "-t", "1", "--no-thinking", model=model)
    for thinks in None, True, False:
        kwargs = None if thinks is None else {"enable_thinking": thinks}
        found = s.post("/tokenize", {"messages": [{"role": "user", "content": "Hello"}], "chat_template_kwargs": kwargs})
        assert found == s.post("/tokenize", {"prompt": texts[bool(thinks)]}), thinks
    s.end()

    def run(*options, stdin=None):
        return subprocess.run([epmoe, *options, "-m", model, "-t", "1", "-n", "6", "--temp", "0"], input=stdin, text=True,
                              capture_output=True, check=True, timeout=120).stdout

    plain = [run("run", "-q", "--ids", "-p", texts[thinks]) for thinks in (True, False)]
    assert plain[0] != plain[1]
    assert run("run", "-q", "--ids", "--chat", "-p", "Hello") == plain[0]
    assert run("run", "-q", "--ids", "--chat", "-p", "Hello", "--no-thinking") == plain[1]
    said = [run("run", "-q", "--no-echo", "-p", texts[thinks]).rstrip("\n") for thinks in (True, False)]
    assert run("chat", stdin="Hello\n").startswith(said[0])
    assert run("chat", "--no-thinking", stdin="Hello\n").startswith(said[1])


def main(epmoe, model):
    s = Server(epmoe, "-t", "1", model=model)
    prompts(s)
    refusals(s)
    s.end()
    switch(epmoe, model)


if __name__ == "__main__":
    main(*sys.argv[1:])
