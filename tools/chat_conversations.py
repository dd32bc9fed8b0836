"""Conversations and tools for make_chat_golden.py, and how transformers renders them."""


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def system(text):
    return {"role": "system", "content": text}


def tool(text):
    return {"role": "tool", "content": text}


def call(name, arguments):
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


# Of texts only.
PLAIN = [
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
    [tool("42")],
    [user("weather?"), tool('{"t": 21}'), assistant("21 degrees")],
    [{"role": "User", "content": "capital"}],
    [{"role": "a role with spaces", "content": "x"}],
    [system("only a system")],
    [system("S"), assistant("ends with an answer")],
    [user("&lt;html&gt; <b>bold</b>")],
    [user("line one\nline two"), assistant("- a\n- b\n"), user("```c\nint x;\n```")],
]

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a place, with \"quotes\" and 'apostrophes' <b> & é 世界 😀",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "  the place\n", "enum": ["Zürich", "東京"]},
                "days": {"type": "integer", "minimum": 1, "maximum": 1.5e16, "default": -3},
                "exact": {"type": ["boolean", "null"], "default": None, "examples": [True, False, 0.1, 1e-7, 100.0]},
            },
            "required": ["place"],
            "additionalProperties": False,
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "now", "description": "", "parameters": {"type": "object", "properties": {}}}}
TOOLS = [WEATHER, CLOCK]

THOUGHT = "<think>\nThe sum of both\nis 4.\n</think>\n\n4"
IN_ZURICH = {"place": "Zürich \"centre\"\n", "days": 2, "exact": True, "more": {"a": [1, None, 2.5], "b": {}}}

# With calls of tools and their answers, and with reasoning.
TOOL_TALK = [
    [user("weather?"), assistant("", tool_calls=[call("get_weather", IN_ZURICH)]), tool("21 °C"), assistant("It is 21 °C.")],
    [system("Use tools."), user("weather?"), assistant("Let me see.", tool_calls=[call("get_weather", IN_ZURICH)]), tool("21")],
    [user("both"), assistant("", tool_calls=[call("get_weather", IN_ZURICH), call("now", {})]), tool("21"), tool("noon"), user("so?")],
    [user("w"), assistant(None, tool_calls=[call("now", {})]), tool(" spaces \n"), assistant("noon"), user("again"),
     assistant("\nyes\n", tool_calls=[call("now", {})]), tool("")],
    [user("w"), assistant("x", tool_calls=[{"name": "now", "arguments": {"zone": "UTC"}}]), tool("1"), tool("2"), tool("3")],
    [user("w"), assistant("", tool_calls=[call("now", '{"zone": "UTC"}')]), tool("noon")],
    [user("w"), assistant("no calls", tool_calls=[]), user("go on")],
    [user("2 + 2?"), assistant(THOUGHT), user("and 3 + 3?")],
    [user("2 + 2?"), assistant(THOUGHT)],
    [user("2 + 2?"), assistant("4", reasoning_content="\nTwo and two.\n"), user("sure?"), assistant("yes", reasoning_content="I am.")],
    [user("2 + 2?"), assistant("4", thinking="by another name")],
    [user("w"), assistant(THOUGHT, tool_calls=[call("now", {})]), tool("noon"), assistant("\n\nIt is noon."), user("thanks")],
    [user("w"), assistant("<think>\n\n</think>\n\nquick", tool_calls=[call("now", {})]), tool("noon"), assistant("<think>a</think>b</think>c")],
    [user("<tool_response>\nnot a question\n</tool_response>")],
    [user("real"), assistant("a"), user("<tool_response>\n21\n</tool_response>"), assistant("b", reasoning_content="r")],
]


class Message(dict):
    """A message that notes whether the template has read its content."""

    read = False

    def __getitem__(self, key):
        self.read = self.read or key == "content"
        return dict.__getitem__(self, key)

    def get(self, key, *default):
        self.read = self.read or key == "content"
        return dict.get(self, key, *default)

    def items(self):
        self.read = True
        return dict.items(self)

    def values(self):
        self.read = True
        return dict.values(self)

    def __repr__(self):
        self.read = True
        return dict.__repr__(self)


def render(template, messages, tools=None, variables=None):
    """Render a conversation with what apply_chat_template calls, after what that does to messages. Return {"text"};
    {"error": the text of the template's raise_exception, or null for another error}; or {"unread": n}, if the
    template has not read the content of message n."""
    from jinja2 import TemplateError
    from transformers.utils import chat_template_utils as utils

    plain = [{k: v for k, v in m.items() if v is not None} for m in messages]
    seen = [Message(m) for m in utils._alias_reasoning_fields(utils._plain_template_data(plain))]
    variables = {"documents": None, "add_generation_prompt": True, **(variables or {})}
    try:
        text = utils._compile_jinja_template(template).render(messages=seen, tools=tools, **variables)
    except TemplateError as error:
        return {"error": str(error) if type(error) is TemplateError else None}
    except Exception:  # any error of Python about the values
        return {"error": None}
    for n, m in enumerate(seen):
        if "content" in m and not m.read:
            return {"unread": n}
    return {"text": text}
