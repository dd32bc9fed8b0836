"""Small templates for make_chat_golden.py: each construct of Jinja that epmoe runs, and its edges. Each is rendered with
VARIABLES; what Jinja refuses, epmoe must refuse, too."""

VARIABLES = {
    "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}, {"role": "user", "content": ""}],
    "text": "  Hello, Wörld 世界 😀\n",
    "word": "abc",
    "empty": "",
    "n": 7,
    "x": 2.5,
    "yes": True,
    "no": False,
    "nothing": None,
    "numbers": [3, 1, 2],
    "words": ["b", "A", "c"],
    "nested": {"a": {"b": [1, {"c": "deep"}]}, "items": "shadowed", "z": None},
    "quotes": "it's \"quoted\" \\ and\ttab \u0001 \u007f \u200b \u00e9 \u2028",
    "reals": [0.1, 1e16, 1e15, 1e-5, 0.0001, 123456789.125, -0.0, 1e100, 5e-324, 100.0],
}

EXPRESSIONS = """
n + 1|n - 10|n * 3|n / 2|n // 2|-7 // 2|-7 % 3|7 % -3|n ** 2|2 ** 3 ** 2|-2 ** 2|n / 7|n + x|x * 2|x // 1|-x % 2|yes + yes
'a' + 'b' ~ 1 + 2 if no else 'a' ~ 1 + '2'|'a' ~ none ~ true ~ 1.0 ~ [1]|word * 3|'ab' 'cd'|numbers + [4]|1 + 'a'|'a' + 1|n + nothing
1 < 2 < 3|1 < 3 < 2|1 == 1.0|1 == true|'a' < 'b'|'a' < 1|none == none|[1, 2] == [1, 2]|(1, 2) == [1, 2]|[1, 2] < [1, 3]|1 != 2
undefined_name == other_undefined|undefined_name < 1|'a' in word|'' in word|'d' not in word|2 in numbers|'a' in nested|'q' in nothing|1 in word
'x' in undefined_name|not yes|not not empty|yes and word|no and word|empty or 'else'|word or fail|1 if yes|1 if no|(1 if no) is defined
1 if no else 2 if no else 3|undefined_name|undefined_name.a|nested.q|nested.q.r|nested.a.b[1].c|nested['a']['b'][0]|nested.a.b.1.c|nested.z|nested.z.y
nested['items']|nested.items is callable|nested.items() | list | length|nested.get('q')|nested.get('q', 5)|nested.get('z', 5)|nested.keys() | list|nested.values() | first
numbers[0]|numbers[-1]|numbers[9]|numbers[9] is defined|numbers[1:]|numbers[:-1]|numbers[::-1]|numbers[::2]|numbers[5:]|numbers[-2:9]|numbers[::0]|numbers[2:0:-1]
numbers[:1]|word[::-1]|word[1]|word[-1]|word[5]|word[1:2]|text[9:12]|text[-3:]|text | trim|text | length|text.strip() | length|word['x']|numbers['x'] is defined
'aXbXc'.split('X')|'aXbXc'.split('X', 1)|' a  b '.split()|' a  b  c '.split(none, 1)|''.split('x')|''.split()|'a'.split('')|'xxabxx'.strip('x')|'xyabyx'.lstrip('xy')
'abc'.rstrip('cb')|'\\n\\na\\n'.strip('\\n')|'世世a'.strip('世')|'abc'.startswith('a')|'abc'.endswith(('x', 'c'))|'abc'.startswith('')|'ab'.upper()|'AB'.lower()|'ab cd'.title()
"it's".title()|'aBC'.capitalize()|'abcabc'.replace('b', 'X')|'abcabc'.replace('b', 'X', 1)|'abc'.find('c')|'abc'.find('z')|'世界c'.find('c')|'abab'.count('ab')|'-'.join(words)
'a\\nb\\n'.splitlines()|''.splitlines()|'prefix'.removeprefix('pre')|'prefix'.removesuffix('fix')|'a'.removeprefix('b')|numbers.index(2)|numbers.count(1)|numbers.index(9)|numbers.append(1)
words | join(', ')|words | join|numbers | join('-')|messages | map(attribute='role') | join(' ')|words | map('upper') | list|words | map('replace', 'b', 'x') | join|nested | length
messages | selectattr('role', 'equalto', 'user') | list | length|messages | rejectattr('content') | list|messages | selectattr('content') | map(attribute='content') | list
[1, none, '', 'a', 0] | select | list|[1, none, 'a'] | reject('none') | list|[1, 2, 3, 4] | select('even') | list|[1, 2, 3] | select('greaterthan', 1) | list|[] | first|[] | last is defined
numbers | sort|words | sort|words | sort(reverse=true)|words | sort(case_sensitive=true)|messages | sort(attribute='role') | map(attribute='role') | list|numbers | first|numbers | last
numbers | reverse | list|word | reverse|word | first|word | last|word | list|nested | list|nested | dictsort|nested.a | items | list|undefined_name | items | list|nothing | items
'5' | int|'5.9' | int|'x' | int|'x' | int(3)|5.9 | int|none | int|'2.5' | float|'x' | float|' 7 ' | int|-5 | abs|x | abs|-x | abs|-5|abs|yes | int
undefined_name | default('d')|nothing | default('d')|nothing | default('d', true)|empty | d('d', boolean=true)|undefined_name | default|word | default('d')|undefined_name | length|nothing | length
n | string + 'x'|numbers | string|nested | string|nested.a|none | string|true|x|1.0|-0.0|1e3|100000000000000000000.0|reals|reals | tojson|quotes|[quotes]|quotes | tojson
nested | tojson|nested | tojson(indent=2)|[] | tojson(indent=2)|{} | tojson(indent=1)|quotes | tojson(ensure_ascii=true)|text | tojson(ensure_ascii=true)|{'b': 1, 'a': {'d': 2, 'c': 3}} | tojson(sort_keys=true)
[1, 2] | tojson(separators=(',', ':'))|{'a': 1} | tojson(separators=(',', ':'), indent=0)|undefined_name | tojson|none | tojson|(1, 2) | tojson|{'a': [(1,), ()]} | tojson
word is defined|undefined_name is undefined|none is none|1 is number|true is number|1.0 is float|1 is integer|true is integer|'a' is string|{} is mapping|[] is sequence|'a' is iterable|1 is iterable
yes is true|1 is true|no is false|3 is odd|4 is even|6 is divisibleby 3|6 is divisibleby(4)|none is sameas none|true is sameas(true)|1 is in [1, 2]|1 is eq 1|2 is gt 1|word is not none
word is not defined|'a' is not in word|range is callable|undefined_name is iterable|undefined_name is mapping|yes is boolean|1 is boolean|2 is ge 2|2 is le(1)|2 is ne 2|2 is lessthan 3
range(3) | list|range(1, 4) | list|range(5, 0, -2) | list|range(0) | list|range(3) | length|range(200000)|range(1, 2, 0)|namespace(a=1).a|namespace(a=1).b|namespace({'a': 2}).a
dict(a=1, b=2)|dict({'a': 1}, b=2)|[1, 'a', none, true, 1.5, [2], (3,), {'k': 'v'}]|()|(1)|(1,)|{'a': 1, 'a': 2}|[1, 2,]|{'a': 1,}|"double"|'a\\tb\\x41\\u00e9\\U0001f600\\101\\q\\''|'\\\\n'
1_000|0x10|1.5e3|01|1.|.5|1e|'unclosed|a b|1 +|(1|[1|{1|n n|x.|x[|x[]|x[1,2]|n | nofilter|n is notest|n | |1 if|not|a is|*n|**n|f(*n)|f(**n)|f(a=1, a=2)|f(a=1, 2)
raise_exception('stop')|raise_exception('a ' ~ n)|word.nomethod()|word.nomethod|word()|nothing()|undefined_name()|numbers.0|'%s' | string|'a'.join([1])|word | safe|word | safe ~ '<b>'
loop|loop is defined|caller is defined|true and false or true|not true or true|1 + 2 * 3 - 4 / 2|(1 + 2) * 3|'a' if 'b' in 'abc' and not 'z' in 'abc' else 'c'|n is number and x is float
word[0] ~ word[1:] | upper|-n | abs|(-n) | abs|n - -1|n--1|+n|- n|not n == 7|n == 7 != no|word|upper|word |upper |lower|messages[-1]['role']|messages[0].role ~ messages[1]['content']|messages|length - 1
messages[1:] | length|messages[::-1][0].content|messages | last|messages[0] == messages[2]|messages[0].content is string|messages[0].tool_calls is defined|messages[0].tool_calls|not messages[0].tool_calls
"""

TEMPLATES = [
    "[{{ '\\x1c\\x1d\\x1e\\x1f\\x0b\\x0c\\x85\\xa0\\u2028\\u2029\\u3000\\u2009a\\u180e\\ufeff\\u200b '.strip() }}]",
    "{{ ' \\x1ca\\x85b\\u200bc\\u3000d '.split() }}",
    "{% for m in messages %}{{ loop.index }}/{{ loop.index0 }}/{{ loop.revindex }}/{{ loop.revindex0 }}/{{ loop.first }}/{{ loop.last }}/{{ loop.length }}/{{ loop.depth }} {% endfor %}",
    "{% for m in messages %}{{ loop.previtem.role if loop.previtem else '-' }}>{{ loop.nextitem.role if loop.nextitem is defined else '-' }} {% endfor %}",
    "{% for m in messages if m.role == 'user' %}{{ loop.index }}{{ loop.last }}{{ m.content }};{% else %}none{% endfor %}",
    "{% for m in messages if m.role == 'nobody' %}x{% else %}none{% endfor %}",
    "{% for i in numbers %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in numbers %}{% if i == 1 %}{% break %}{% endif %}{{ i }}{% else %}no{% endfor %}",
    "{% for i in numbers %}{% for j in numbers %}{% if j == i %}{% break %}{% endif %}{{ i }}{{ j }} {% endfor %}{{ loop.index }}{% endfor %}",
    "{% for k, v in nested.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k in nested %}{{ k }}{% endfor %}{% for c in word %}{{ c }}.{% endfor %}{% for i in undefined_name %}x{% endfor %}",
    "{% for a, b in [(1, 2), [3, 4], 'xy'] %}{{ a }}{{ b }};{% endfor %}",
    "{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}",
    "{% for a, b in [1] %}{{ a }}{% endfor %}",
    "{% for i in 5 %}{{ i }}{% endfor %}",
    "{% for i in nothing %}{{ i }}{% endfor %}",
    "{% set a = 1 %}{% for i in numbers %}{{ a }}{% set a = a + i %}{% endfor %}{{ a }}",
    "{% set a = 1 %}{% if yes %}{% set a = 2 %}{% endif %}{{ a }}",
    "{% set ns = namespace(a=1) %}{% for i in numbers %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}",
    "{% set ns = namespace() %}{% set ns.new = 'x' %}{{ ns.new }}{{ ns.old is defined }}",
    "{% set word.x = 1 %}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set c = 1, 2 %}{{ c }}",
    "{% set a %}  block {{ n }} {% endset %}[{{ a }}]{{ a | trim | length }}",
    "{% set a %}{% set b = 1 %}{% endset %}{{ b is defined }}",
    "{% macro m(a, b=2) %}{{ a }}-{{ b }};{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(b=4, a=5) }}{{ m() }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(c=2) }}",
    "{% macro m(a) %}{{ a }}{{ n }}{{ later }}{% endmacro %}{% set later = 'L' %}{{ m('x') | upper }}",
    "{% macro f(i) %}{{ i }}{% if i > 0 %}{{ f(i - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
    "{% macro f(i) %}{% set a = i %}{{ a }}{% endmacro %}{{ f(1) }}{{ a is defined }}",
    "{% macro f(i) %}{{ loop is defined }}{% endmacro %}{% for i in numbers %}{{ f(i) }}{% endfor %}",
    "{% macro f(a, b=a) %}{{ b }}{% endmacro %}{{ f(3) }}",
    "{% if n == 1 %}a{% elif n == 7 %}b{% elif yes %}c{% else %}d{% endif %}",
    "{% if no %}a{% else %}{% if no %}b{% else %}c{% endif %}{% endif %}",
    "{% if no %}{% elif no %}{% endif %}x",
    "{% generation %}{{ word }}{% set a = 1 %}{% endgeneration %}{{ a is defined }}",
    "  {% if yes %}\n  a\n  {% endif %}\n  b\n",
    "  {%- if yes -%}\n  a\n  {%- endif -%}\n  b\n\n",
    "  {%+ if yes +%}\n  a\n  {%+ endif +%}\n  b",
    "x  {% if yes %}  y  {% endif %}  z",
    "a\n  {{ word }}\n  b\n  {{- word -}}\n  c",
    "a {# comment #}\n b\n  {# comment #}\nc {#- all -#} d {#+ x +#}\n e",
    "{# {{ x }} {% if %} #}z",
    "a\r\nb\rc{{ '\r\n' }}{% if yes %}\r\nd{% endif %}\r\n",
    "{% raw %}{{ x }} {% if %} {# no #}{% endraw %}\n{%- raw -%}  {{ y }}  {%- endraw -%}  z",
    "{% raw %}\n x\n {% endraw %}\ny",
    "\u00a0{%- if yes -%}\u2003a\u3000{%- endif -%}\u1680b",
    "{{ {'a': {'b': 1}}['a']['b'] }}{{ {'}}': 1} }}",
    "{{ '{{' }}{{ \"}}\" }}{{ '%}' }}",
    "{ { x } } {{ '' }} {x} {%- if yes %}%}{% endif %}",
    "{{- word -}}  {{ word }}\n\n",
    "{{ word }}\n",
    "\n{{ word }}\n\n\n",
    "{% if yes %}\n\na{% endif %}",
    "{%if yes%}a{%endif%}{{word}}{{-word-}}",
    "{% for i in range(3) -%}\n {{ i }}\n{%- endfor %}",
    "{% if yes %}a",
    "{% endif %}",
    "{% for i in numbers %}{% endif %}",
    "{% if yes %}{% endfor %}{% endif %}",
    "{% else %}",
    "{{ word",
    "{% if yes",
    "{# word",
    "{% raw %} word",
    "{% unknown %}",
    "{% break %}",
    "{% if a if b %}x{% endif %}",
    "{% for i in a if b else c %}x{% endfor %}",
    "{% set a %}",
    "{% set 1 = 2 %}",
    "{% set a = %}",
    "{% macro %}{% endmacro %}",
    "{% macro m(a %}{% endmacro %}",
    "{% for in numbers %}{% endfor %}",
    "{% for i numbers %}{% endfor %}",
    "{{ }}",
    "{{ word }",
    "{{ (1, 2 }}",
    "{{ word) }}",
    "{%%}",
    "{{ [1, 2][0] }}{{ (1, 2)[1] }}{{ 'abc'[1] }}{{ {'a': 1}.a }}",
    "{% set x = [] %}{% for i in numbers %}{% set x = x + [i] %}{% endfor %}{{ x }}",
    "{%- set ns = namespace(found=false) -%}{%- for m in messages -%}{%- if m['role'] == 'system' -%}{%- set ns.found = true -%}{%- endif -%}{%- endfor -%}{{ ns.found }}",
    "{% set loop_messages = messages[1:] if messages[0].role == 'user' else messages %}{{ loop_messages | length }}",
    "{% for message in messages | selectattr('role', 'equalto', 'user') %}{{ message.content }}{{ loop.last }}{% endfor %}",
    "{% if 'a' is string and n is not none and messages is iterable %}yes{% endif %}",
    "{{ messages[0]['role'] + ': ' + messages[0]['content'] | trim + '\\n' }}",
    "{{ 'a' if yes else raise_exception('never') }}",
]


def templates():
    for line in EXPRESSIONS.strip().split("\n"):
        for n, part in enumerate(split(line)):
            yield "{{ " + part + " }}"
    yield from TEMPLATES


def split(line):
    """At the bars without a space on either side, and those in pairs of a filter stay."""
    parts, now = [], ""
    for i, c in enumerate(line):
        alone = c == "|" and line[i - 1 : i] != " " and line[i + 1 : i + 2] != " "
        if alone:
            parts.append(now)
            now = ""
        else:
            now += c
    return [*parts, now]
