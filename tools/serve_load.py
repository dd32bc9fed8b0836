#!/usr/bin/env python3
"""Load on an OpenAI-compatible server over HTTP: throughput, and percentiles of what each request saw. Only
Python's standard library.

    tools/serve_load.py load http://127.0.0.1:8080 -i requests.jsonl [-c 32] [--stream] [--key KEY]
    tools/serve_load.py compare build/release/epmoe -m MODEL [-i requests.jsonl] [-c 32] [--rounds 3] [-- -t 2]

The requests are lines of `epmoe batch` (docs/batch.md); without -i they are random token ids, --requests of
--prompt tokens that each make --new tokens, greedily and to the last. -c clients take the next request as soon as
they have an answer.

load     TTFT, TPOT and ITL need --stream; without it the latency and the throughput are told.
compare  starts `epmoe serve` and sends it all requests, then gives the same file to `epmoe batch`, both with
         --max-batch as -c says and the options after --, in turn; prints new tokens/s of both, their ratio, and
         whether the texts are the same. A model without tokenizer.json, as `epmoe synth` writes it, gets a
         stand-in beside links to its files: the server's answers are texts, so it needs some tokenizer.
"""
import argparse, asyncio, json, os, random, re, statistics, subprocess, sys, tempfile, time
from urllib.parse import urlsplit


def parse_arguments():
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-i", "--input", metavar="FILE", help="requests, one a line")
    common.add_argument("-c", "--clients", type=int, default=32, help="requests at a time (32)")
    common.add_argument("--requests", type=int, default=64, help="without -i: how many (64)")
    common.add_argument("--prompt", type=int, default=64, help="without -i: tokens of each prompt (64)")
    common.add_argument("--new", type=int, default=64, help="without -i: new tokens of each (64)")
    common.add_argument("--vocabulary", type=int, default=1000, help="without -i: ids are below this (1000)")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    load = commands.add_parser("load", parents=[common])
    load.add_argument("url")
    load.add_argument("--stream", action="store_true", help="server-sent events, for TTFT, TPOT and ITL")
    load.add_argument("--key", help="the server's API key")
    load.add_argument("-o", "--output", choices=["md", "json"], default="md")
    compare = commands.add_parser("compare", parents=[common])
    compare.add_argument("epmoe")
    compare.add_argument("-m", "--model", required=True, help="a checkpoint directory")
    compare.add_argument("--rounds", type=int, default=3, help="of serve and batch in turn (3)")
    arguments = sys.argv[1:]
    split = arguments.index("--") if "--" in arguments else len(arguments)
    o = parser.parse_args(arguments[:split])
    o.options = arguments[split + 1:]
    if o.options and o.command == "load":
        parser.error("expected options after -- with compare, found them with load")
    return o


def requests_of(o):
    if o.input:
        with open(o.input) as f:
            return [json.loads(line) for line in f if line.strip()]
    draw = random.Random(1)
    return [{"id": f"r{i}", "prompt": [draw.randrange(o.vocabulary) for _ in range(o.prompt)], "max_tokens": o.new,
             "temperature": 0, "ignore_eos": True} for i in range(o.requests)]


# ---- one request ----

async def read_head(reader):
    """(status, headers) of an answer."""
    status = int((await reader.readline()).split()[1])
    headers = {}
    while (line := (await reader.readline()).strip()):
        name, value = line.decode().split(":", 1)
        headers[name.lower()] = value.strip()
    return status, headers


async def pieces(reader, headers):
    """The body as it comes."""
    if headers.get("transfer-encoding") != "chunked":
        yield await reader.readexactly(int(headers["content-length"]))
        return
    while (size := int(await reader.readline(), 16)):
        yield await reader.readexactly(size)
        await reader.readexactly(2)


async def events(reader, headers):
    """The JSON of a stream's events."""
    left = b""
    async for piece in pieces(reader, headers):
        *whole, left = (left + piece).split(b"\n\n")
        for event in whole:
            if event != b"data: [DONE]":
                yield json.loads(event.removeprefix(b"data: "))


def text_of(choice):
    return choice["text"] if "text" in choice else (choice.get("message") or choice["delta"]).get("content") or ""


class Answer:
    """What one request saw; times in seconds from when it was sent."""

    def __init__(self, fields):
        self.fields, self.text, self.times, self.usage, self.latency = fields, "", [], None, 0

    def take(self, body, since):
        if "error" in body:
            sys.exit(f"serve_load: {self.fields}: expected an answer, found {body['error']['message']}")
        for choice in body["choices"]:
            self.text += text_of(choice) if choice["index"] == 0 else ""
            if text_of(choice):
                self.times.append(since)
        self.usage = body.get("usage") or self.usage


async def ask(o, fields):
    answer = Answer(fields)
    url = urlsplit(o.url)
    body = {k: v for k, v in fields.items() if k != "id"}
    if o.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    data = json.dumps(body).encode()
    path = "/v1/chat/completions" if "messages" in fields else "/v1/completions"
    key = f"Authorization: Bearer {o.key}\r\n" if o.key else ""
    reader, writer = await asyncio.open_connection(url.hostname, url.port or 80, limit=1 << 26)
    start = time.monotonic()
    writer.write(f"POST {path} HTTP/1.1\r\nHost: {url.netloc}\r\n{key}Connection: close\r\n"
                 f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
    status, headers = await read_head(reader)
    if o.stream and status == 200:
        async for event in events(reader, headers):
            answer.take(event, time.monotonic() - start)
    else:
        answer.take(json.loads(b"".join([piece async for piece in pieces(reader, headers)])), 0)
    answer.latency = time.monotonic() - start
    writer.close()
    return answer


async def ask_all(o, requests):
    """(seconds, answers in the order of the requests)"""
    answers, left = [None] * len(requests), iter(range(len(requests)))

    async def client():
        for i in left:
            answers[i] = await ask(o, requests[i])

    start = time.monotonic()
    await asyncio.gather(*(client() for _ in range(min(o.clients, len(requests)))))
    return time.monotonic() - start, answers


# ---- figures ----

def quantiles(values):
    """As epmoe bench has them: the least value that a share p of all does not exceed."""
    values = sorted(values)
    at = lambda p: values[max(0, -int(-p * len(values) // 1) - 1)]
    return {"mean": sum(values) / len(values), "p50": at(0.5), "p90": at(0.9), "p99": at(0.99)}


def figures(o, seconds, answers):
    new = sum(a.usage["completion_tokens"] for a in answers)
    tokens = sum(a.usage["total_tokens"] for a in answers)
    f = {"requests": len(answers), "clients": o.clients, "seconds": seconds, "requests_per_s": len(answers) / seconds,
         "new_tokens_per_s": new / seconds, "tokens_per_s": tokens / seconds}
    first = [a.times[0] for a in answers if a.times]
    tpot = [(a.times[-1] - a.times[0]) / (a.usage["completion_tokens"] - 1) for a in answers
            if a.times and a.usage["completion_tokens"] > 1]
    itl = [after - before for a in answers for before, after in zip(a.times, a.times[1:])]
    if o.stream:
        f |= {name: quantiles(values) for name, values in (("ttft_s", first), ("tpot_s", tpot), ("itl_s", itl)) if values}
    return f | {"latency_s": quantiles([a.latency for a in answers])}


def print_figures(f):
    print(f"{f['requests']} requests, {f['clients']} at a time, {f['seconds']:.2f} s: {f['requests_per_s']:.4g} requests/s, "
          f"{f['new_tokens_per_s']:.1f} tokens/s out, {f['tokens_per_s']:.1f} in and out\n")
    print("|            |       mean |        p50 |        p90 |        p99 |")
    print("|------------|-----------:|-----------:|-----------:|-----------:|")
    for name, label in ("ttft_s", "TTFT ms"), ("tpot_s", "TPOT ms"), ("itl_s", "ITL ms"), ("latency_s", "latency ms"):
        if name in f:
            print(f"| {label:10} |" + "".join(f" {1e3 * f[name][p]:10.1f} |" for p in ("mean", "p50", "p90", "p99")))


# ---- serve and batch, one after the other ----

def byte_characters():
    """How byte-level tokenizers write the 256 bytes."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in shown]
    return [chr(b) for b in shown] + [chr(256 + i) for i in range(len(hidden))]


def with_tokenizer(model, folder):
    """The model, or links to it beside a tokenizer of single bytes whose further ids have made-up texts."""
    if os.path.exists(model + "/tokenizer.json"):
        return model
    for name in os.listdir(model):
        os.symlink(os.path.realpath(f"{model}/{name}"), f"{folder}/{name}")
    with open(model + "/config.json") as f:
        size = json.load(f)["vocab_size"]
    words = byte_characters()[:size]
    words += [f"<{i}>" for i in range(len(words), size)]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    with open(folder + "/tokenizer.json", "w") as f:
        json.dump({"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
                   "pre_tokenizer": level, "post_processor": None, "decoder": level,
                   "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
                             "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False,
                             "vocab": {word: i for i, word in enumerate(words)}, "merges": []}}, f)
    return folder


def serve_once(o, model, requests):
    """(new tokens/s, texts) of the server."""
    command = [o.epmoe, "serve", "-m", model, "--port", "0", "--max-batch", str(o.clients), "--queue",
               str(max(256, len(requests))), "--no-prefix-cache", *o.options]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    said = []
    for line in server.stderr:
        said.append(line)
        if found := re.search(r"on (http://\S+)", line):
            break
    else:
        sys.exit(f"serve_load: expected the server's address, found {''.join(said)}")
    o.url, o.stream, o.key = found[1], False, None
    asyncio.run(ask(o, {**requests[0], "max_tokens": 1}))
    seconds, answers = asyncio.run(ask_all(o, requests))
    server.terminate()
    server.stderr.read()
    if server.wait() != 0:
        sys.exit(f"serve_load: expected the server to end well, found exit code {server.returncode}")
    return sum(a.usage["completion_tokens"] for a in answers) / seconds, [a.text for a in answers]


def batch_once(o, model, requests, folder):
    """(new tokens/s, texts) of epmoe batch, which counts from when the model is loaded."""
    with open(folder + "/in.jsonl", "w") as f:
        f.writelines(json.dumps(r) + "\n" for r in requests)
    if os.path.exists(folder + "/out.jsonl"):
        os.unlink(folder + "/out.jsonl")
    run = subprocess.run([o.epmoe, "batch", "-m", model, "-i", folder + "/in.jsonl", "-o", folder + "/out.jsonl",
                          "--max-batch", str(o.clients), *o.options], stderr=subprocess.PIPE, text=True)
    found = re.search(r"generated \d+ in [0-9.]+ s, ([0-9.]+) tokens/s", run.stderr)
    if run.returncode or not found:
        sys.exit(f"serve_load: expected batch to tell tokens/s, found exit code {run.returncode}: {run.stderr}")
    with open(folder + "/out.jsonl") as f:
        lines = {line["id"]: line.get("text") for line in map(json.loads, f)}
    return float(found[1]), [lines[r["id"]] for r in requests]


def compare(o):
    requests = [{"id": f"line-{i}", **r} for i, r in enumerate(requests_of(o), 1)]
    ratios = []
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as stand_in:
        model = with_tokenizer(os.path.realpath(o.model), stand_in)
        for turn in range(o.rounds):
            served, texts = serve_once(o, model, requests)
            batched, wanted = batch_once(o, model, requests, folder)
            same = sum(a == b for a, b in zip(texts, wanted))
            ratios.append(served / batched)
            print(f"round {turn + 1}: serve {served:.1f}, batch {batched:.1f} new tokens/s, ratio {served / batched:.3f}; "
                  f"{same} of {len(requests)} texts the same", flush=True)
            if same < len(requests):
                sys.exit("serve_load: expected the same texts of serve and batch")
    print(f"{len(requests)} requests, {o.clients} clients: serve / batch {statistics.median(ratios):.3f} (median)")


def main():
    o = parse_arguments()
    if o.command == "compare":
        return compare(o)
    f = figures(o, *asyncio.run(ask_all(o, requests_of(o))))
    print(json.dumps(f, indent=2)) if o.output == "json" else print_figures(f)


if __name__ == "__main__":
    main()
