#!/usr/bin/env python3
"""Checks of epmoe report's page, for report.sh.

report.py check PAGE FILE…          every number of the page stands in the files, as its element says
report.py damage FILE OUT SEED      one value of the file is gone, or another one's kind
report.py set FILE OUT PATH JSON    one value of the file is this one
"""
import json
import random
import re
import sys
from decimal import Decimal
from html.parser import HTMLParser

VOID = {"meta", "br", "hr", "use", "link", "img", "input"}


def value_at(files, place):
    number, _, path = place[1:].partition("/")
    value = files[int(number) - 1]
    for step in path.split("/") if path else []:
        value = value[int(step)] if isinstance(value, list) else value[step]
    return value


class Page(HTMLParser):
    """Numbers, cells and the page's rules: nothing is loaded, nothing is run, ids are there once."""

    def __init__(self, files):
        super().__init__()
        self.files, self.stack, self.ids, self.figures = files, [], set(), 0
        self.numbers, self.cells, self.cell, self.data = 0, 0, None, None

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        assert tag not in ("script", "link", "img", "iframe", "object", "embed"), tag
        for name, text in attrs:
            assert not name.startswith("on"), attrs
            assert name not in ("src", "srcset", "data") and (name not in ("href", "xlink:href") or text[0] == "#"), attrs
        if "id" in a:
            assert a["id"] not in self.ids, f"twice: {a['id']}"
            self.ids.add(a["id"])
        self.figures += tag == "figure"
        if tag not in VOID:
            self.stack.append(tag)
        if tag == "td":
            self.cell = [a.get("class", ""), "", 0]
        if tag == "data":
            self.data = [a, ""]

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.stack.pop()

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        assert self.stack.pop() == tag, tag
        if tag == "data":
            self.number(*self.data)
            self.data = None
        if tag == "td":
            kind, text, numbers = self.cell
            assert "text" in kind or numbers == 1 or text in ("–", "yes", "no"), self.cell
            assert "text" in kind or numbers == 0 or text == "", self.cell
            self.cells, self.cell = self.cells + 1, None

    def handle_data(self, text):
        if self.data:
            self.data[1] += text
        elif self.cell:
            self.cell[1] += text
        elif "table" in self.stack and "th" not in self.stack:
            assert not re.search(r"\d", text), f"a number that is of no file: {text}"

    def number(self, a, shown):
        value = value_at(self.files, a["data-at"])
        assert isinstance(value, (int, float)) and not isinstance(value, bool), a
        if "data-over" in a:
            value /= value_at(self.files, a["data-over"])
        assert abs(float(a["value"]) - value) <= 1e-12 * abs(value), (a, value)
        half = Decimal(1).scaleb(Decimal(shown).as_tuple().exponent) / 2
        if "e" not in shown and "." not in shown and len(shown.lstrip("-")) > 3:
            half = max(half, Decimal(abs(float(shown))) * Decimal("0.005"))  # three digits that count
        assert abs(Decimal(value * float(a["data-scale"])) - Decimal(shown)) <= half * Decimal("1.000001"), (a, shown)
        self.numbers += 1
        if self.cell:
            self.cell[2] += 1


def check(path, names):
    files = [json.load(open(name)) for name in names]
    page, text = Page(files), open(path, encoding="utf-8").read()
    page.feed(text)
    assert page.stack == [] and "@import" not in text and "url(" not in re.sub(r"url\(#", "", text), page.stack
    for target in re.findall(r'href=[\'"]#([^\'"]+)', text):
        assert target in page.ids, f"nowhere: #{target}"
    captions = re.findall(r"<figcaption><b>Figure (\d+)\.</b> ([^<]+)", text)
    assert len(captions) == page.figures == text.count("<svg"), (len(captions), page.figures)
    print(page.figures, page.numbers, page.cells)


def places(value, path=()):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def set_at(value, path, new):
    for step in path[:-1]:
        value = value[step]
    if new is KeyError:
        del value[path[-1]]
    else:
        value[path[-1]] = new


def main(what, *names):
    if what == "check":
        check(names[0], names[1:])
    elif what == "damage":
        value, chance = json.load(open(names[0])), random.Random(int(names[2]))
        new = chance.choice([KeyError, None, "text", -1e300, [], {}, True, 10**18])
        set_at(value, chance.choice(list(places(value))), new)
        json.dump(value, open(names[1], "w"))
    else:
        value = json.load(open(names[0]))
        set_at(value, [int(s) if s.isdigit() else s for s in names[2].split("/")], json.loads(names[3]))
        json.dump(value, open(names[1], "w"))


if __name__ == "__main__":
    main(*sys.argv[1:])
