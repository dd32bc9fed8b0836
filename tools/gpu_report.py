#!/usr/bin/env python3
"""Write the report of tools/gpu_check.sh from the files of its steps. The first page says what passed,
compares each figure with the roof measured in the same run and with its target, and says what the figures
decide; then come all steps and the ends of their logs. Reads DIR/PART/steps.tsv (name, seconds planned,
taken, result), DIR/PART/NAME.log, and NAME.json or NAME.csv of the steps that write one.
usage: tools/gpu_report.py DIR > report.md"""
import csv
import json
import os
import re
import sys

import gpu_roofs

PARTS = ("correct", "speed")
LOG_LINES, LONG_LOGS, LONG_LINES = 40, ("phases", "variants"), 250
VARIANTS = ("routed experts", "shared expert", "prefetch")  # what gpu_bench --variants decides
NCU = [("time", "gpu__time_duration.sum"),
       ("memory, % of peak", "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed"),
       ("SM, % of peak", "sm__throughput.avg.pct_of_peak_sustained_elapsed"),
       ("warps active, %", "sm__warps_active.avg.pct_of_peak_sustained_active"),
       ("L2 hits, %", "lts__t_sector_hit_rate.pct"),
       ("registers", "launch__registers_per_thread")]


class Part:
    """The files that the steps of one part wrote."""

    def __init__(self, folder, name):
        self.folder, self.name = os.path.join(folder, name), name
        self.about = self.text("about").splitlines()
        self.steps = [line.split("\t") for line in self.text("steps.tsv").splitlines()]
        self.result = {step[0]: step[3] for step in self.steps}

    def text(self, file):
        try:
            with open(os.path.join(self.folder, file), encoding="utf-8", errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def log(self, step):
        return self.text(step + ".log")

    def ok(self, step):
        return self.result.get(step) == "ok"

    def bench(self, step):
        """The JSON of a step that passed, or None."""
        return json.loads(self.text(step + ".json")) if self.ok(step) else None


def results(bench, kind):
    """The results "pp" or "tg" of bench, by batch."""
    return {r["batch"]: r for r in bench["results"] if r["test"].startswith(kind)} if bench else {}


def table(head, rows):
    return ["", "| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|",
            *("| " + " | ".join(row) + " |" for row in rows), ""]


# ---- what passed ----

def last_words(part, step):
    lines = [line for line in part.log(step).splitlines() if line.strip()]
    return lines[-1][:160] if lines else "it said nothing"


def passed(part):
    count = sum(step[3] == "ok" for step in part.steps)
    skipped = [step for step in part.steps if step[3].startswith("skipped")]
    failed = [step for step in part.steps if step[3].startswith("failed")]
    lines = [f"**{part.name}**: {count} of {len(part.steps)} steps passed, {len(failed)} failed, "
             f"{len(skipped)} skipped. {'; '.join(part.about)}.",
             *(line for line in part.log("device").splitlines()[:1])]
    lines += [f"- {s[0]}: {s[3]}: {last_words(part, s[0])}" for s in failed]
    lines += [f"- {s[0]}: {s[3]}" for s in skipped]
    return lines + [""]


# ---- figures beside roof and target ----

def is_reference(bench):
    return bench["model"]["layers"] == gpu_roofs.LAYERS and "qwen1.5-moe-a2.7b" in bench["model"]["name"]


def prefill_target(bench, result):
    """The target in seconds, or None for a shape or a way that the reference does not have."""
    if not is_reference(bench) or result["batch"] != 1 or result["ranks"] > 1:
        return None
    roof, n = bench["machine"]["roof"], int(result["test"][2:])
    gpu_roofs.GPUS["measured"] = (roof["flops"], roof["read_bytes_per_s"])
    _, weights, _, flops = gpu_roofs.totals(gpu_roofs.layer(n, n))
    return gpu_roofs.prefill_target("measured", weights, flops)


def figure_row(name, bench, result):
    found, roof = result["tokens_per_s"]["median"], result["roof_tokens_per_s"]
    prefill = result["test"].startswith("pp")
    target = None if prefill or result["ranks"] > 1 else gpu_roofs.DECODE * roof
    if prefill and prefill_target(bench, result):
        target = int(result["test"][2:]) / prefill_target(bench, result)
    ms = 1e3 * result["ttft_s" if prefill else "tpot_s"]
    verdict = "" if not target else "yes" if found >= target else "no"
    return [f"{name}, {'prefill' if prefill else 'decode'}, batch {result['batch']}", f"{ms:.3g}",
            f"{found:.1f} ± {result['tokens_per_s']['sd']:.1f}", f"{roof:.1f}",
            f"{100 * found / roof:.0f} %" if roof else "unknown", f"{target:.1f}" if target else "none", verdict]


def figures(part):
    rows, roofs = [], set()
    for step, name in (("early_on", "early launch on"), ("early_on_again", "the same again"),
                       ("early_off", "early launch off"), ("batches", "many sequences"),
                       ("virtual_ranks", "virtual ranks"), ("nccl_asking", "2 ranks by NCCL, asking"),
                       ("nccl_blocking", "2 ranks by NCCL, blocking")):
        bench = part.bench(step)
        if bench:
            rows += [figure_row(name, bench, r) for r in bench["results"]]
            roof = bench["machine"]["roof"]
            roofs.add(f"{roof['flops'] * 1e-12:.0f} TFLOP/s, {roof['read_bytes_per_s'] * 1e-9:.0f} GB/s")
    if not rows:
        return ["No workload ran, so there are no figures.", ""]
    lines = ["Each roof is the one its own run measured "
             f"({'; '.join(sorted(roofs))}). Targets, of one rank: decode {gpu_roofs.DECODE:.0%} of the roof; "
             f"prefill of the reference workload {gpu_roofs.OF_PEAK:.0%} of peak or {gpu_roofs.OF_READING:.0%} of "
             "the time to read the weights, whichever binds."]
    lines += table(["what", "ms a step", "tokens/s", "roof", "of roof", "target", "met"], rows)
    return lines + peer(part) + loaded(part)


def peer(part):
    found = [line for line in part.log("transformers").splitlines() if line.startswith("transformers on")]
    return [*found, ""] if part.ok("transformers") and found else []


def loaded(part):
    lines = [line for line in part.log("loading").splitlines()
             if re.search(r"/s$", line) or "pinned:" in line]
    return [*(f"- {line.strip()}" for line in lines), ""] if part.ok("loading") else []


# ---- what the phases cannot add up to ----

def phase_sums(part):
    """{batch (0: prefill): seconds of the phases of a whole step}, and the time that gpu_bench says is left over."""
    sums, left, batch = {}, {}, None
    for line in part.log("phases").splitlines():
        title = re.match(r"A layer of (?:decode, batch (\d+)|prefill)", line)
        total = re.match(r"A layer: .* ending: ([\d.]+) ms", line)
        if title:
            batch = int(title[1] or 0)
        elif total and batch is not None:
            sums[batch] = float(total[1]) * 1e-3
        elif line.startswith("What the phases cannot add up to: "):
            left[batch] = line.split(": ", 1)[1]
    return sums, left


def adding_up(part):
    bench, (sums, left), lines = part.bench("early_on"), phase_sums(part), []
    for kind, batch, field, name in (("pp", 0, "ttft_s", "prefill"), ("tg", 1, "tpot_s", "decode, batch 1")):
        whole = results(bench, kind).get(1)
        if whole and batch in sums:
            whole = whole[field]
            lines.append(f"- {name}: the phases, each by itself, take {sums[batch] * 1e3:.3f} ms, the whole step "
                         f"{whole * 1e3:.3f} ms: {(whole - sums[batch]) * 1e3:+.3f} ms are between the phases "
                         "(starts of kernels, the host, what early launch hides).")
        if batch in left:
            lines.append(f"- {name}, by gpu_bench: {left[batch]}")
    profiled = re.search(r"^\| tg\d+ +\| +1 \| +1 \| +([\d.]+) ", part.log("profile"), re.M)
    decode = results(bench, "tg").get(1)
    if profiled and decode:
        lines.append("- `--profile` plays no graph, its calls are made one by one: it decodes "
                     f"{float(profiled[1]):.1f} tokens/s, the workload {decode['tokens_per_s']['median']:.1f}. Its "
                     "phases say how a step's time is spread, not how long a step takes.")
    return lines or ["Phases and workload did not both run, so nothing can be added up."]


# ---- decisions ----

def decode_speed(part, step):
    result = results(part.bench(step), "tg").get(1)
    return result["tokens_per_s"]["median"] if result else None


def decide_early(part, same):
    on, again, off = (decode_speed(part, s) for s in ("early_on", "early_on_again", "early_off"))
    if None in (on, again, off):
        return "open: the three workloads did not all run"
    mean, spread = (on + again) / 2, abs(on - again)
    said = f"decode {on:.1f} and {again:.1f} tokens/s on, {off:.1f} off"
    if same and same.startswith("failed"):
        return f"off, until step early_same passes ({said})"
    if abs(mean - off) <= spread:
        return f"on, as it is: no difference beyond that of the two runs with it ({said})"
    return f"{'on' if mean > off else 'off'} ({said})"


def decide_nccl(part):
    asking, blocking = (decode_speed(part, s) for s in ("nccl_asking", "nccl_blocking"))
    if None in (asking, blocking):
        return "open: the two workloads with NCCL did not both run"
    return (f"{'blocking' if blocking > asking else 'asking'} "
            f"(decode of 2 ranks {blocking:.1f} tokens/s blocking, {asking:.1f} asking)")


def decisions(speed, correct):
    same = correct.result.get("early_same") if correct else None
    told = [line[len("decision:"):].strip() for line in speed.log("variants").splitlines()
            if line.startswith("decision:")]
    told += [f"{what}: open: step variants did not decide it" for what in VARIANTS
             if not any(what in line for line in told)]
    return [f"- early launch, of the whole workload: {decide_early(speed, same)}",
            f"- NCCL's communicator: {decide_nccl(speed)}", *(f"- {line}" for line in told)]


# ---- hardware counters ----

def number(text):
    try:
        return f"{float(text.replace(',', '')):.4g}"
    except ValueError:
        return text


def counters(part):
    """A table with one row for each kernel, from ncu's raw page, whose second row has the units."""
    lines = [line for line in part.text("ncu.csv").splitlines() if line.startswith('"')]
    rows = list(csv.DictReader(lines))
    if not part.ok("ncu") or len(rows) < 2:
        return []
    known = [(name, column) for name, column in NCU if column in rows[0]]
    kernels = [[f"`{row['Kernel Name'][:60]}`", *(number(row[column]) for _, column in known)] for row in rows[1:]]
    units = [f"{name} ({rows[0][column]})" if name == "time" else name for name, column in known]
    return ["### Counters of the heaviest kernels", *table(["kernel", *units], kernels)]


# ---- the report ----

def page(parts):
    yield "# GPU report\n"
    for part in parts.values():
        yield from passed(part)
    if "speed" in parts:
        yield "## Figures\n"
        yield from figures(parts["speed"])
        yield "## Decisions\n"
        yield from decisions(parts["speed"], parts.get("correct"))
        yield "\n## What does not add up\n"
        yield from adding_up(parts["speed"])
        yield ""
        yield from counters(parts["speed"])


def steps(parts):
    yield "## Steps\n"
    for part in parts.values():
        yield from table([part.name, "planned, s", "took, s", "result"],
                         [[s[0], s[1], s[2], s[3]] for s in part.steps])
    for part in parts.values():
        for name, *_ in part.steps:
            lines = [line[:300] for line in part.log(name).replace("\r", "\n").splitlines() if line.strip()]
            most = LONG_LINES if name in LONG_LOGS else LOG_LINES
            yield f"\n### {part.name}: {name}\n\n```"
            yield from lines[-most:]
            yield "```"


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    parts = {name: Part(sys.argv[1], name) for name in PARTS
             if os.path.exists(os.path.join(sys.argv[1], name, "steps.tsv"))}
    for line in [*page(parts), *steps(parts)]:
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
