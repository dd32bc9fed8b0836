#!/usr/bin/env python3
"""Print what tools/scaling.sh has measured as a table, and draw it as a picture.

tools/plot_scaling.py scaling.csv docs/scaling.svg build/release/epmoe
Bounds are those that the program's `inspect` prints for the same work, with this machine's speed.
Needs matplotlib (pip install matplotlib).
"""
import csv
import json
import re
import statistics
import subprocess
import sys

import matplotlib

matplotlib.use("Agg")
matplotlib.rcParams["svg.hashsalt"] = "epmoe"
from matplotlib import pyplot  # noqa: E402

MODEL = "synth:qwen1.5-moe-a2.7b:4"
# What is measured: the test's name and batch, bench's prompt and new tokens, a title.
SERIES = [
    ("pp256", "1", (256, 12), "prefill of 256 tokens"),
    ("pp1500", "1", (1500, 4), "prefill of 1500 tokens"),
    ("tg12", "1", (256, 12), "decode, one sequence"),
    ("tg12", "32", (8, 12), "decode, 32 sequences"),
]


def read(path):
    """{(hosts, cpu, rate, test, batch): [tokens per second]}"""
    figures = {}
    with open(path, newline="") as f:
        for row in csv.DictReader(f):
            key = (int(row["hosts"]), row["cpu"], row["rate"], row["test"], row["batch"])
            figures.setdefault(key, []).append(float(row["tokens_per_s"]))
    return figures


def expected(epmoe, hosts, work, batch, test):
    """(speed-up, bound) as `epmoe inspect` expects them."""
    prompt, new = work
    text = subprocess.run(
        [epmoe, "inspect", MODEL, "--ranks", str(hosts), "-t", "1", "-o", "json",
         "--expect", f"{prompt},{new},{batch}"],
        check=True, capture_output=True, text=True).stdout
    phase = json.loads(text)["plan"]["expected"]["prefill" if test.startswith("pp") else "decode"]
    return phase["speed_up"], phase["speed_up_at_most"]


def points(figures, epmoe, test, batch, work):
    """[(hosts, cpu, speed-up, least, most, expected, bound)], hosts ascending."""
    found = []
    for hosts, cpu, rate, of, rows in sorted(figures):
        if (of, rows, rate) != (test, batch, "-") or hosts == 1:
            continue
        alone = figures[1, cpu, "-", test, batch]
        these = figures[hosts, cpu, "-", test, batch]
        ratios = [a / b for a, b in zip(these, alone)]
        found.append((hosts, cpu, statistics.median(ratios), min(ratios), max(ratios),
                      *expected(epmoe, hosts, work, batch, test)))
    return found


def print_hosts(series):
    print("| | hosts | each | times as fast as one | range of the rounds | expected | at most |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for title, found in series:
        for hosts, cpu, median, least, most, wanted, bound in found:
            print(f"| {title} | {hosts} | {cpu} core | {median:.2f} | {least:.2f} to {most:.2f} "
                  f"| {wanted:.2f} | {bound:.2f} |")


def print_rates(figures):
    print("\n| five hosts of 0.34 core, tokens/s by link | " +
          " | ".join(title for *_, title in SERIES[:3]) + " |\n|---|--:|--:|--:|")
    bits = {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9}

    def speed(rate):
        number, unit = re.fullmatch(r"([0-9.]+)([kmg]bit)", rate).groups()
        return float(number) * bits[unit]
    rates = sorted({key[2] for key in figures if key[2] != "-"}, key=speed)
    for hosts, rate in [(1, "-")] + [(5, rate) for rate in rates + ["-"]]:
        cells = [f"{statistics.median(figures[hosts, '0.34', rate, test, batch]):.1f}"
                 for test, batch, *_ in SERIES[:3]]
        name = "one host" if hosts == 1 else "as fast as memory" if rate == "-" else rate
        print(f"| {name} | " + " | ".join(cells) + " |")


def draw(series, path):
    figure, axes = pyplot.subplots(1, len(series), figsize=(3.4 * len(series), 3.4), sharey=True)
    for axis, (title, found) in zip(axes, series):
        hosts = [1] + [p[0] for p in found]
        axis.plot(hosts, [1] + [p[6] for p in found], "--", color="0.6", label="at most")
        axis.plot(hosts, [1] + [p[5] for p in found], ":", color="C0", label="expected")
        axis.errorbar(hosts, [1] + [p[2] for p in found],
                      yerr=[[0] + [p[2] - p[3] for p in found], [0] + [p[4] - p[2] for p in found]],
                      marker="o", capsize=3, color="C1", label="measured")
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("hosts")
        axis.set_xticks(hosts)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("times as fast as one host")
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    figures = read(sys.argv[1])
    series = [(title, points(figures, sys.argv[3], test, batch, work))
              for test, batch, work, title in SERIES]
    print_hosts(series)
    print_rates(figures)
    draw(series, sys.argv[2])


if __name__ == "__main__":
    main()
