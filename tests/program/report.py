#!/usr/bin/env python3
"""Checks of epmoe report's page, for report.sh.

report.py check PAGE FILE…          every number of the page stands in the files, as its element says
report.py fit FILE; report.py project FILE    write a file with the keys of docs/projection.md
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


def way(ranks):
    return {"strategy": "exact", "dedup": "on", "combine": "rows", "wire": "model", "step_s": 3e-3 / ranks + 1e-3, "home_s": 1e-3,
            "experts_s": 2e-3 / ranks, "exchange_s": 1e-3 / ranks, "exchange_share": 0.25, "speed_up": 1.5, "out_bytes": 1000.5,
            "back_bytes": 2000, "messages_out": 4, "messages_back": 4, "busiest_out_bytes": 1000}


def fit():
    keys = ("alpha_s_per_message", "lambda_s_per_lap", "beta_out_s_per_byte", "beta_back_s_per_byte", "nu_s_per_narrowed_byte",
            "sigma_s_per_lap_between_work", "gamma_s_per_row", "gamma_s_per_expert", "home_s_per_step", "home_s_per_row",
            "home_s_per_row_position", "home_s_per_output")
    settings = [{"kind": ("lap", "alone", "experts")[i % 3], "ranks": 1 if i % 3 else 5, "rows": 2**i, "position": 0, "held_out": i % 4 == 0, "measured_s": 1.1e-5 * 2**i,
                 "again_s": 1e-5 * 2**i, "predicted_s": 1.05e-5 * 2**i, "relative_error": 0.125,
                 **{k: None if i % 3 else w for k, w in (("strategy", "exact"), ("dedup", "on"), ("combine", "rows"), ("wire", "model"))}}
                for i in range(12)]
    return {"kind": "epmoe fit", "format": 1, "version": "0.1.0", "machine": {"processor": "a processor", "isa": "avx2", "cores": 2, "hosts": 1},
            "ranks": 5, "threads": 1, "ranks_at_once": 2, "transport": "local", "model": None,
            "coefficients": {k: 10.0 ** -(6 + i % 4) if i < 5 else None for i, k in enumerate(keys)}, "measured": {},
            "goodness": {"fitted": 9, "held_out": 3, "r2": 0.987, "fitted_median_relative_error": 0.05,
                         "held_out_median_relative_error": 0.08, "held_out_most_relative_error": 0.21, "noise_floor": 0.04},
            "settings": settings}


def project():
    entries = [{"ranks": r, "coordinators": 1, "workers": r - 1, "workers_with_experts": min(r - 1, 60), "kind": kind, "rows": 1.5,
                "alone_s": 2e-3, "placement": "even", "best": way(r), "best_of_all": way(2 * r), "ways": [], "per_rank": [],
                "extrapolated": ["ranks", "bytes"] if r > 8 else []} for kind in ("decode", "prefill") for r in (2, 8, 64)]
    return {"command": "project", "commit": "0123456789ab", "routing": "emma.routing", "fit": "fit.json", "topology": None,
            "counts": "counted", "wire_time": "modelled", "experts_time": "fit", "home_time": "fit", "exchange_time": "fit",
            "relative_error": 0.08, "model": {"name": "a model"}, "coordinators": 1, "overlap": "off", "steps": {}, "projections": entries}


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
    elif what in ("fit", "project"):
        json.dump(fit() if what == "fit" else project(), open(names[0], "w"))
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
