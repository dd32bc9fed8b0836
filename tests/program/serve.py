#!/usr/bin/env python3
"""epmoe serve from outside, by plain sockets and http.client: what serve.sh asks for by name.

    serve.py WHAT EPMOE [ARGUMENT...]
"""
import concurrent.futures, http.client, json, os, random, re, signal, socket, subprocess, sys, tempfile, time

from serve_client import Server, events, stream, batch, raw, requests_of, slow_request, without_id, MODEL, ROOT
from serve_ends import ends, killed, lost, lost_idle, mpi_ends, stopped_idle


# ---- the API ----

def api(epmoe):
    s = Server(epmoe, "-t", "1")
    assert json.loads(s.ask("GET", "/health")[2]) == {"status": "ok"}
    assert s.ask("HEAD", "/health")[0] == 200
    model = json.loads(s.ask("GET", "/v1/models")[2])["data"][0]
    assert model["id"] == "austen-moe" and model["max_model_len"] == 2048
    assert s.ask("GET", "/nothing")[0] == 404
    status, headers, _ = s.ask("GET", "/v1/completions")
    assert status == 405 and "POST" in headers["Allow"]
    assert s.ask("POST", "/health", {})[0] == 405
    ids = s.post("/tokenize", {"prompt": "It is a truth\u2014"})
    assert ids["count"] == len(ids["tokens"])
    assert s.post("/detokenize", {"tokens": ids["tokens"]})["prompt"] == "It is a truth\u2014"
    fields(s, epmoe)
    refusals(s)
    streams(s)
    status, headers, page = s.ask("GET", "/")
    assert status == 200 and headers["Content-Type"].startswith("text/html") and b"</html>" in page
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert not re.search(rb"(src|href)=|https?://|url\(", page), "the page is one file"
    live(s)
    s.end()


def live(s):
    """What the panel shows adds up: each row goes through top_k experts a layer."""
    config = json.load(open(MODEL + "/config.json"))
    now = counted(s, 50, config["num_experts_per_tok"])
    assert now["chat"] is False and now["model"] == "austen-moe"
    assert len(now["layers"]) == config["num_hidden_layers"]
    assert all(len(l) == config["num_experts"] for l in now["layers"])
    assert sum(now["ranks"]) >= sum(map(sum, now["layers"]))


def counted(s, rows, top_k):
    """What the panel shows after so many rows more. Counts are shown a moment after the answer, so those of an
    earlier answer may come in between, once: then it is tried again."""
    look, sums = lambda: json.loads(s.ask("GET", "/live")[2]), lambda v: [sum(l) for l in v["layers"]]
    for _ in range(3):
        wanted = [n + rows * top_k for n in sums(look())]
        s.complete(prompt=[5], max_tokens=rows, ignore_eos=True)
        for _ in range(500):
            now = look()
            if sums(now) == wanted:
                return now
            time.sleep(0.01)
    raise AssertionError((sums(now), wanted))


def fields(s, epmoe):
    base = dict(prompt="It is a truth", temperature=0, max_tokens=8)
    plain = s.complete(**base)
    text = plain["choices"][0]["text"]
    assert plain["usage"] == {"prompt_tokens": 4, "completion_tokens": 8, "total_tokens": 12,
                              "prompt_tokens_details": {"cached_tokens": 0}}
    assert plain["choices"][0]["finish_reason"] == "length" and plain["choices"][0]["logprobs"] is None
    assert s.complete(prompt="It is a truth", temperature=0)["usage"]["completion_tokens"] == 16
    assert s.complete(**base, echo=True)["choices"][0]["text"] == "It is a truth" + text
    ids = s.post("/tokenize", {"prompt": "It is a truth"})["tokens"]
    assert s.complete(**{**base, "prompt": ids})["choices"][0]["text"] == text
    stop = s.complete(**base, stop=[text[4:8]])["choices"][0]
    assert stop["text"] == text[:4] and stop["finish_reason"] == "stop"
    # logprobs are probabilities: greedy picks the best, and each token's is told
    told = s.complete(**base, logprobs=2)["choices"][0]
    marks = told["logprobs"]
    assert told["text"] == text and "".join(marks["tokens"]) == text
    assert [max(b.values()) for b in marks["top_logprobs"]] == marks["token_logprobs"]
    assert marks["text_offset"] == [text.index("".join(marks["tokens"][i:])) for i in range(8)]
    echoes(s, ids, base, text)
    pieces(s)
    bests(s)
    # a bias makes a token come, and another one never come
    token = ids[1]
    assert s.complete(**base, logit_bias={str(token): 100})["choices"][0]["text"] == \
        s.post("/detokenize", {"tokens": [token] * 8})["prompt"]
    first = s.post("/tokenize", {"prompt": text})["tokens"][0]
    assert not s.complete(**base, logit_bias={str(first): -100})["choices"][0]["text"].startswith(text[:1])
    always = {str(token): 30}
    assert len(set(s.post("/tokenize", {"prompt": s.complete(
        **base, logit_bias=always, frequency_penalty=2)["choices"][0]["text"]})["tokens"])) < 3
    # n texts: those of seed, seed + 1, ...
    hot = dict(prompt="Emma", temperature=1, max_tokens=12)
    three = s.complete(**hot, n=3, seed=5)
    assert [c["index"] for c in three["choices"]] == [0, 1, 2] and three["usage"]["completion_tokens"] == 36
    for i, choice in enumerate(three["choices"]):
        assert choice["text"] == s.complete(**hot, seed=5 + i)["choices"][0]["text"]
    assert len({c["text"] for c in three["choices"]}) == 3
    two = s.complete(**{**hot, "prompt": ["Emma", "It is a truth"]}, n=2, seed=5)["choices"]
    assert two[0]["text"] == three["choices"][0]["text"] and len(two) == 4
    assert len({s.complete(**hot)["choices"][0]["text"] for _ in range(3)}) == 3, "each request without a seed is new"
    # the same bytes as batch, alone and in company
    many = requests_of(12)
    wanted = batch(epmoe, many)
    for parallel, some in (1, many[:5]), (12, many):
        with concurrent.futures.ThreadPoolExecutor(parallel) as pool:
            for r, found in zip(some, pool.map(lambda r: s.complete(**without_id(r)), some)):
                w = wanted[r["id"]]
                assert found["choices"][0]["text"] == w["text"], (found, w)
                assert found["choices"][0]["finish_reason"] == w["finish_reason"]
                assert found["usage"]["completion_tokens"] == w["usage"]["completion_tokens"]


def echoes(s, ids, base, text):
    """The prompt's log probabilities are those that its tokens have when they are generated, greedily or forced."""
    told = s.complete(**base, echo=True, logprobs=3)["choices"][0]
    marks = told["logprobs"]
    assert told["text"] == "It is a truth" + text == "".join(marks["tokens"]) and len(ids) == 4
    assert marks["token_logprobs"][0] is None and marks["top_logprobs"][0] is None
    assert all(len(v) == 12 for v in marks.values())
    assert [told["text"][o:] for o in marks["text_offset"]] == ["".join(marks["tokens"][i:]) for i in range(12)]
    all_ids = s.post("/tokenize", {"prompt": told["text"]})["tokens"]
    for i in 1, 3, 4, 11:  # at token i: what the model says after the tokens before it
        after = s.complete(prompt=all_ids[:i], max_tokens=1, temperature=0, logprobs=3)["choices"][0]["logprobs"]
        assert after["top_logprobs"][0] == marks["top_logprobs"][i], i
    forced = s.complete(prompt=ids[:1], max_tokens=1, logit_bias={str(ids[1]): 100}, logprobs=0, temperature=0)
    assert forced["choices"][0]["logprobs"]["token_logprobs"] == marks["token_logprobs"][1:2]
    # special tokens of a prompt are part of its text
    special = s.complete(prompt="<|im_start|>user hi<|im_end|>", max_tokens=0, echo=True, logprobs=0)["choices"][0]
    offsets, tokens = special["logprobs"]["text_offset"], special["logprobs"]["tokens"]
    assert special["text"] == "<|im_start|>user hi<|im_end|>" == "".join(tokens)
    assert [special["text"][o:] for o in offsets] == ["".join(tokens[i:]) for i in range(len(tokens))]
    # as a prompt alone, of many rows, whose beginning is in the KV cache already; and as a stream
    long = dict(prompt=told["text"] * 12, max_tokens=0, logprobs=1)
    first = s.complete(**{**long, "max_tokens": 1})
    whole = s.complete(**long, echo=True)
    assert "".join(whole["choices"][0]["logprobs"]["tokens"]) == whole["choices"][0]["text"] == long["prompt"]
    assert whole["usage"]["completion_tokens"] == 0
    assert whole["usage"]["prompt_tokens"] == len(whole["choices"][0]["logprobs"]["tokens"]) > 128
    assert whole["usage"]["prompt_tokens_details"]["cached_tokens"] == 0 and first["usage"]["completion_tokens"] == 1
    assert whole["choices"][0]["logprobs"]["token_logprobs"][1:12] == marks["token_logprobs"][1:]
    all_ids = s.post("/tokenize", {"prompt": long["prompt"]})["tokens"]
    for i in 40, 100, len(all_ids) - 1:
        after = s.complete(prompt=all_ids[:i], max_tokens=1, temperature=0, logprobs=1)["choices"][0]["logprobs"]
        assert after["top_logprobs"][0] == whole["choices"][0]["logprobs"]["top_logprobs"][i], i
    found, done = stream(s, "/v1/completions", {**base, "echo": True, "logprobs": 3, "stream": True})
    for key in marks:
        assert sum((e["choices"][0]["logprobs"][key] for e in found), []) == marks[key], key


def pieces(s):
    """Tokens that are parts of a character, or of none: text_offset is where a token's text begins in the text."""
    ids = s.post("/tokenize", {"prompt": "😀"})["tokens"]
    assert len(ids) == 4, ids
    for prompt, offsets in [(ids + ids, [0, 1, 1, 1, 1, 2, 2, 2]), (ids[1:], [0, 1, 2]), (ids[:1] * 3, [0, 1, 2]),
                            (ids[:2] + ids, [0, 1, 1, 2, 2, 2])]:
        told = s.complete(prompt=prompt, max_tokens=0, echo=True, logprobs=0)["choices"][0]
        assert told["logprobs"]["text_offset"] == offsets, (told, offsets)
    # a character that begins in the prompt
    whole = {"max_tokens": 1, "temperature": 0, "prompt": [ids[0]] + ids[:3], "logit_bias": {str(ids[3]): 100}}
    assert s.complete(**whole, echo=True)["choices"][0]["text"] == "\ufffd😀"
    assert s.complete(**whole)["choices"][0]["text"] == "\ufffd"
    found, done = stream(s, "/v1/completions", {**whole, "echo": True, "stream": True})
    assert "".join(e["choices"][0]["text"] for e in found) == "\ufffd😀"
    assert s.complete(**{**whole, "max_tokens": 0}, echo=True)["choices"][0]["text"] == "\ufffd\ufffd"
    odd = s.complete(prompt="It", max_tokens=3, temperature=0, logprobs=0, logit_bias={str(ids[1]): 100})["choices"][0]
    assert odd["text"] == "\ufffd" * 3 and odd["logprobs"]["text_offset"] == [0, 1, 2], odd


def bests(s):
    """best_of: the n of its texts whose tokens have the greatest mean log probability, the best first."""
    hot = dict(prompt="Emma", temperature=1.5, max_tokens=5, ignore_eos=True, seed=11)
    mean = lambda c: sum(c["logprobs"]["token_logprobs"]) / len(c["logprobs"]["token_logprobs"])
    all_of = s.complete(**hot, n=6, logprobs=0)["choices"]
    best = s.complete(**hot, n=2, best_of=6, logprobs=0)
    assert best["choices"] == [{**c, "index": i} for i, c in enumerate(sorted(all_of, key=mean, reverse=True)[:2])]
    assert best["usage"]["completion_tokens"] == 6 * 5 and best["usage"]["prompt_tokens"] == 1
    quiet = s.complete(**{**hot, "prompt": ["It is a truth", "Emma"]}, best_of=6)["choices"]
    assert [c["index"] for c in quiet] == [0, 1] and quiet[1]["text"] == best["choices"][0]["text"]
    assert quiet[0]["logprobs"] is None


def refusals(s):
    good = dict(prompt="It", max_tokens=1)
    s.complete(**good, tools=[], response_format={"type": "text"}, user="x", tool_choice="none", service_tier="auto",
               metadata={"a": "b"}, suffix=None, best_of=1, store=False)
    for name, value in dict(temperature="hot", top_p=1.5, top_k=-2, min_p=2, seed="x", stop=[1], n=0, logprobs=6,
                            frequency_penalty=3, presence_penalty="x", repetition_penalty=0, logit_bias={"a": 1},
                            max_tokens=-1, echo=1, stream="yes", best_of=0, tools=[{}], tool_choice="auto",
                            response_format={"type": "json_object"}, suffix="x", nonsense=1, messages=[],
                            stop_token_ids=[-1], ignore_eos=0, stream_options={}, service_tier="flex").items():
        s.refuses(name, **{**good, name: value})
    s.refuses("model", want=404, **good, model="gpt-4")
    s.refuses("max_tokens: expected at most 2047 new tokens after 1 of the prompt, found 4096: the "
              "context has 2048 positions", prompt="It", max_tokens=4096)
    s.refuses("prompt: expected at most 2048 tokens, found 2049", prompt=[5] * 2049)
    s.refuses("suffix: expected an empty string", **good, suffix="\0x")
    s.refuses("stop_token_ids: expected token ids from 0 to 4095, found 4096", **good, stop_token_ids=[4096])
    s.refuses("logit_bias: expected at most 1024 token ids, found 1025", **good,
              logit_bias={str(i): 1 for i in range(1025)})
    s.refuses('logit_bias: expected token ids from 0 to 4095, found "05"', **good, logit_bias={"05": 1})
    s.complete(**good, logit_bias={"0": 1, "5": 1})
    s.refuses("tokens: expected token ids from 0 to 4095, found 9999", path="/detokenize", tokens=[1, 9999])
    s.refuses("prompt: expected token ids from 0 to 4095, found 4096", path="/tokenize", prompt=[4096])
    s.refuses("prompt", max_tokens=4)
    s.refuses("prompt", prompt=[])
    s.refuses("prompt", prompt=["a"] * 129)
    s.refuses("best_of: expected n, 1, with stream true", **good, best_of=2, stream=True)
    s.refuses("best_of: expected an integer from 3 to 128, found 2", **good, best_of=2, n=3)
    s.refuses("found 2 times best_of 65", prompt=["a", "b"], best_of=65)
    s.refuses("token ids from 0", prompt=[1, 99999])
    s.refuses("chat_template", path="/v1/chat/completions", messages=[{"role": "user", "content": "a"}])
    s.refuses("top_logprobs", path="/v1/chat/completions", messages=[], top_logprobs=1)
    for body in b"", b"{", b"[]", b'{"prompt": "\xff"}', b'{"prompt": "a", "prompt": "b"}', b"[" * 5000, b"\0" * 10:
        status, _, text = s.ask("POST", "/v1/completions", body)
        assert status == 400 and json.loads(text)["error"]["message"], (body, status, text)


def streams(s):
    body = dict(prompt="It is a truth", temperature=0, max_tokens=24, seed=3, logprobs=1)
    whole = s.complete(**body)["choices"][0]
    found, done = stream(s, "/v1/completions", {**body, "stream": True, "stream_options": {"include_usage": True}})
    assert done and found[-1]["choices"] == [] and found[-1]["usage"]["completion_tokens"] == 24
    assert all(e["usage"] is None and e["object"] == "text_completion" for e in found[:-1])
    pieces = [e["choices"][0] for e in found[:-1]]
    assert "".join(p["text"] for p in pieces) == whole["text"]
    assert [p["finish_reason"] for p in pieces] == [None] * (len(pieces) - 1) + ["length"]
    for key in "tokens", "token_logprobs", "text_offset":
        assert sum((p["logprobs"][key] for p in pieces), []) == whole["logprobs"][key], key
    found, done = stream(s, "/v1/completions", {**body, "logprobs": None, "n": 3, "temperature": 1, "stream": True})
    texts = [c["text"] for c in s.complete(**{**body, "n": 3, "temperature": 1})["choices"]]
    for i in range(3):
        assert "".join(e["choices"][0]["text"] for e in found if e["choices"][0]["index"] == i) == texts[i]


def chat(epmoe, model):
    s = Server(epmoe, "-t", "1", "--name", "tiny", model=model)
    path, body = "/v1/chat/completions", dict(model="tiny", messages=[
        {"role": "system", "content": "You answer."},
        {"role": "user", "content": [{"type": "text", "text": "Hello"}, {"type": "text", "text": " there"}]},
        {"role": "assistant", "content": "Yes?", "refusal": None, "tool_calls": None, "annotations": []},
        {"role": "user", "content": "Again"}], max_completion_tokens=6, temperature=0, ignore_eos=True)
    whole = s.post(path, {**body, "logprobs": True, "top_logprobs": 2})
    choice = whole["choices"][0]
    assert whole["object"] == "chat.completion" and choice["message"]["role"] == "assistant"
    assert len(choice["logprobs"]["content"]) == 6 and len(choice["logprobs"]["content"][0]["top_logprobs"]) == 2
    assert choice["logprobs"]["content"][0]["top_logprobs"][0]["logprob"] == choice["logprobs"]["content"][0]["logprob"]
    told = sum((e["bytes"] for e in choice["logprobs"]["content"]), [])
    assert bytes(told).decode(errors="replace") == choice["message"]["content"]
    found, done = stream(s, path, {**body, "stream": True})
    assert done and found[0]["object"] == "chat.completion.chunk"
    assert found[0]["choices"][0]["delta"]["role"] == "assistant"
    assert "".join(e["choices"][0]["delta"]["content"] for e in found) == choice["message"]["content"]
    # each of the best has a name of its own, also those that are a part of a character
    marks = s.complete(prompt="Hello you", max_tokens=12, temperature=0, echo=True, logprobs=5)["choices"][0]["logprobs"]
    assert [len(b) for b in marks["top_logprobs"][1:]] == [5] * 20, marks
    assert any(sum(t.startswith("bytes:\\x") for t in b) > 1 for b in marks["top_logprobs"][1:]), marks
    part = s.complete(prompt="é", max_tokens=0, echo=True, logprobs=0)["choices"][0]
    assert part["text"] == "é" and part["logprobs"]["tokens"] == ["bytes:\\xc3", "bytes:\\xa9"], part
    prompt = s.post("/tokenize", {"messages": body["messages"]})
    assert prompt["count"] == whole["usage"]["prompt_tokens"]
    s.refuses("part 1 of content", path=path, messages=[{"role": "user", "content": [{"type": "image_url"}]}])
    s.refuses("name", path=path, messages=[{"role": "user", "content": "a", "name": "b"}])
    s.end()


def prefix(epmoe):
    """A conversation whose turns begin alike: the same bytes with kept blocks and without, at less work."""
    kept, fresh = Server(epmoe, "-t", "1"), Server(epmoe, "-t", "1", "--no-prefix-cache")
    text = "It is a truth universally acknowledged, that " * 12
    for turn in range(3):
        ask = dict(prompt=text, max_tokens=70, temperature=0.7, seed=turn, repetition_penalty=1.1, ignore_eos=True)
        a, b = kept.complete(**ask), fresh.complete(**ask)
        assert a["choices"] == b["choices"], turn
        reused = a["usage"]["prompt_tokens_details"]["cached_tokens"]
        assert b["usage"]["prompt_tokens_details"]["cached_tokens"] == 0 and reused % 64 == 0
        assert turn == 0 or reused >= before // 64 * 64 - 64, (turn, reused, before)
        text += a["choices"][0]["text"] + " And then?"
        before = a["usage"]["prompt_tokens"]
    assert kept.metric("prompt_tokens_reused_total") > kept.metric("prompt_tokens_total") / 2
    assert kept.metric("kv_blocks_used") == 0 and fresh.metric("prompt_tokens_reused_total") == 0
    kept.end()
    fresh.end()


# ---- who may ask ----

def framing(s):
    """A request is answered only where its end is clear: behind another, none is found that a proxy has not seen."""
    body = b'{"prompt": "a"}'
    hidden = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    one, two = b"Content-Length: %d\r\n" % len(body), b"Content-Length: %d\r\n" % (len(body) + len(hidden))
    chunks, chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body), b"Transfer-Encoding: chunked\r\n"
    for lines, sent, codes in [(one, body, [b"200", b"200"]), (chunked, chunks, [b"200", b"200"]),
                               (one + two, body, [b"400"]), (two + one, body, [b"400"]),
                               (chunked + one, chunks, [b"400"]), (one + chunked, chunks, [b"400"]),
                               (b"Transfer-Encoding: gzip\r\n", body, [b"400"]),
                               (one + b"Host: localhost\r\n", body, [b"400"])]:
        with socket.create_connection((s.host, s.port), 60) as c:
            c.sendall(b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\n" + lines + b"\r\n" + sent + hidden)
            said = b"".join(iter(lambda: c.recv(1 << 16), b""))
        assert re.findall(rb"HTTP/1.1 (\d+)", said) == codes, (lines, said)


def guards(epmoe):
    names = [f"epmoe{i}.example" for i in range(15)] + ["epmoe.example"]
    s = Server(epmoe, "-t", "1", "--allow-origin", "https://chat.example",
               *(word for name in names for word in ("--allow-host", name)))
    here = f"{s.host}:{s.port}"
    for host, want in {here: 200, "localhost:1": 200, "epmoe.example": 200, "evil.example": 403, "": 403,
                       "127.0.0.1.evil.example": 403}.items():
        assert s.ask("GET", "/health", headers={"Host": host})[0] == want, host
    for origin, want in {"http://" + here: 200, "https://chat.example": 200, "https://evil.example": 403, "null": 403,
                         f"http://{here}.evil.example": 403}.items():
        status, headers, _ = s.ask("POST", "/tokenize", {"prompt": "a"}, {"Origin": origin})
        assert status == want, origin
        assert headers["Access-Control-Allow-Origin"] == ("https://chat.example" if "chat" in origin else None)
    status, headers, _ = s.ask("OPTIONS", "/v1/completions", headers={"Origin": "https://chat.example"})
    assert status == 204 and "authorization" in headers["Access-Control-Allow-Headers"]
    for asked, granted in {"authorization,x-stainless-os": True, "x<y": False}.items():
        status, headers, _ = s.ask("OPTIONS", "/v1/completions", headers={
            "Origin": "https://chat.example", "Access-Control-Request-Headers": asked})
        assert status == 204 and (headers["Access-Control-Allow-Headers"] == asked) == granted, asked
    framing(s)
    s.end()
    wrong = {"--allow-origin": ("*", "chat.example", "https://chat.example/", "https://"),
             "--allow-host": ("*", "https://chat.example", "chat.example:80", ""), "--system": ("You answer.",)}
    for option, value in ((option, v) for option in wrong for v in wrong[option]):
        r = subprocess.run([epmoe, "serve", "-m", MODEL, "--port", "0", option, value], capture_output=True,
                           text=True, timeout=60, stdin=subprocess.DEVNULL)
        assert r.returncode == 2 and f"{option}: expected" in r.stderr and r.stderr.count("\n") == 1, (value, r)
    with tempfile.NamedTemporaryFile("w", suffix=".keys") as keys:
        keys.write("# two keys\n  sesame \r\n\n\t# none\nsecret-2 # the second\n")
        keys.flush()
        s = Server(epmoe, "-t", "1", "--api-key-file", keys.name, "--access-log", "--host", "0.0.0.0")
        s.host = "127.0.0.1"
        for key, want in {"Bearer sesame": 200, "bearer secret-2": 200, "Bearer sesam": 401, "Bearer sesamx": 401, "Bearer Secret-2": 401, "Bearer sesamee": 401,
                          "Bearer ": 401, "sesame": 401, "Bearer # two keys": 401, None: 401}.items():
            status, headers, _ = s.ask("GET", "/v1/models", headers={"Authorization": key} if key else {})
            assert status == want, key
        assert headers["WWW-Authenticate"] == "Bearer"
        assert s.ask("GET", "/metrics")[0] == 401 and s.ask("GET", "/health")[0] == 200
        assert "sesam" not in s.said() and "secret" not in s.said() and "GET /v1/models 401" in s.said()
        s.end()


# ---- under load ----

def load(epmoe):
    s = Server(epmoe, "-t", "1", "--max-batch", "2", "--queue", "3", "--max-body", "64K")
    # two run and three wait; the sixth is told to come again, and nobody is lost
    held = [raw(s, slow_request(2000), i == 0) for i in range(2)]
    s.await_metric("requests_running", 2)
    held += [raw(s, slow_request(2000)) for i in range(3)]
    s.await_metric("requests_waiting", 3)
    status, headers, text = s.ask("POST", "/v1/completions", slow_request(1))
    assert status == 429 and headers["Retry-After"] and "queue" in json.loads(text)["error"]["message"], (status, text)
    for c in held:
        c.close()
    s.await_metric("requests_running", 0)
    s.await_metric("requests_waiting", 0)
    assert s.metric("kv_blocks_used") == 0
    assert s.complete(prompt="It", max_tokens=2, ignore_eos=True)["usage"]["completion_tokens"] == 2
    # texts that may run and wait together are taken, and more are never
    assert len(s.complete(prompt="It", max_tokens=1, n=5)["choices"]) == 5
    s.refuses("n: expected at most 5 texts in all", prompt="It", max_tokens=1, n=6)
    # limits
    assert s.ask("POST", "/v1/completions", b"x" * (65 << 10))[0] == 413
    c = http.client.HTTPConnection(s.host, s.port)
    c.request("POST", "/v1/completions", iter([b"x" * 40000] * 3), encode_chunked=True,
              headers={"Transfer-Encoding": "chunked"})
    r = c.getresponse()
    assert r.status == 413 and "--max-body" in json.loads(r.read())["error"]["message"]
    assert s.ask("GET", "/health", headers={"X": "x" * 40000})[0] in (400, 413, 431)
    for bad in b"\x16\x03\x01\x02\0\x01", b"GET\r\n\r\n", b"\0" * 100, b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n":
        c = socket.create_connection((s.host, s.port))
        c.sendall(bad)
        c.close()
    # a reader that does not read slows nobody, and gets all in the end
    much = slow_request(s.tokens_for(1900))
    late = raw(s, much, stream=True)
    whole = s.complete(**json.loads(much))["choices"][0]["text"]
    r = http.client.HTTPResponse(late)
    r.begin()
    found, done = events(r)
    assert done and "".join(e["choices"][0]["text"] for e in found) == whole
    s.end()


def leaving(epmoe):
    """Clients that leave give their places back, waiting and running, streaming and not: of hours of work
    nothing is left, and those who stay go on."""
    s = Server(epmoe, "-t", "1", "--max-batch", "4", "--queue", "1000")
    many = json.dumps(dict(prompt="Emma", max_tokens=2000, n=128, temperature=1, ignore_eos=True))
    held = [raw(s, many, stream=i % 2 == 0) for i in range(6)]
    s.await_metric("requests_running", 4)
    s.await_metric("requests_waiting", 6 * 128 - 4)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        stays = pool.submit(s.complete, prompt="Emma", max_tokens=20, ignore_eos=True)
        s.await_metric("requests_waiting", 6 * 128 - 3)
        for c in held:
            c.close()
        assert stays.result()["usage"]["completion_tokens"] == 20
    s.await_metric("requests_running", 0)
    assert s.metric("requests_waiting") == 0 and s.metric("kv_blocks_used") == 0
    assert s.metric("new_tokens_total") < 6 * 128 * 2000 / 4
    s.end()


def gpu(epmoe):
    """On emulated GPUs, one and three between which NCCL moves rows: clients together get what batch gets there, and a
    prompt that is asked again has its beginning in the cache."""
    os.environ["EPMOE_EMULATED_GPUS"] = "3"
    first = "It is a truth universally acknowledged, that a single man in possession of a good fortune " * 4
    many = [{"id": p, "prompt": p, "max_tokens": 4, "temperature": 0, "ignore_eos": True} for p in ("Emma", "It is", first)]
    wanted = batch(epmoe, many, "--device", "cuda")
    for ranks in [], ["--ranks", "3"]:
        s = Server(epmoe, "-t", "1", "--device", "cuda", *ranks)
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            for r, found in zip(many, pool.map(lambda r: s.complete(**without_id(r)), many)):
                assert found["choices"][0]["text"] == wanted[r["id"]]["text"], (ranks, found, wanted[r["id"]])
        again = s.complete(**without_id(many[2]))
        assert again["choices"][0]["text"] == wanted[first]["text"], (ranks, again)
        assert again["usage"]["prompt_tokens_details"]["cached_tokens"] > 0, again
        s.end()


def load_tool(epmoe):
    """tools/serve_load.py: every request is answered and its figures add up; serve against batch, also of a model
    without a tokenizer, for which it makes one."""
    tool = [sys.executable, ROOT + "/tools/serve_load.py"]
    s = Server(epmoe, "-t", "1", "--max-batch", "4")
    size = ["--requests", "9", "--prompt", "5", "--new", "12", "-c", "4"]
    for more in [], ["--stream"]:
        f = json.loads(subprocess.run([*tool, "load", f"http://{s.host}:{s.port}", *size, "-o", "json", *more], check=True,
                                      stdout=subprocess.PIPE).stdout)
        assert f["requests"] == 9 and abs(f["tokens_per_s"] * f["seconds"] - 9 * 17) < 1e-6, f
        assert abs(f["new_tokens_per_s"] * f["seconds"] - 9 * 12) < 1e-6 and ("itl_s" in f) == bool(more), f
        for q in (v for v in f.values() if isinstance(v, dict)):
            assert 0 <= q["p50"] <= q["p90"] <= q["p99"] <= f["seconds"], f
    assert f["ttft_s"]["p50"] <= f["latency_s"]["p50"] and s.metric("new_tokens_total") == 2 * 9 * 12
    s.end()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([epmoe, "synth", "--preset", "tiny-moe", "-o", folder + "/model"], check=True, stderr=subprocess.DEVNULL)
        said = subprocess.run([*tool, "compare", epmoe, "-m", folder + "/model", *size, "--vocabulary", "90", "--rounds", "2",
                               "--", "-t", "1"], check=True, stdout=subprocess.PIPE, text=True).stdout
        assert said.count("9 of 9 texts the same") == 2 and "9 requests, 4 clients: serve / batch " in said, said


def rss(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{pid}/status").read())[1]) << 10


def storm(epmoe, seconds="10", clients="200"):
    """Many clients at once, some of which leave in the middle or send what is no request: no answer is lost or
    differs from epmoe batch, and memory does not grow."""
    many = requests_of(40)
    wanted = batch(epmoe, many)
    s = Server(epmoe, "-t", "1", "--queue", "1000")
    counts = dict(answers=0, streams=0, left=0, bad=0)
    until = time.monotonic() + float(seconds)

    def client(number):
        draw = random.Random(number)
        while time.monotonic() < until or min(counts.values()) == 0:  # longer if one kind has not been yet
            r = draw.choice(many)
            kind = draw.choice(["whole", "whole", "stream", "leave", "bad"])
            if kind == "bad":
                body = draw.randbytes(draw.randrange(200)) if draw.random() < 0.5 else json.dumps(r)[:-draw.randrange(1, 30)]
                assert s.ask("POST", "/v1/completions", body)[0] == 400
                counts["bad"] += 1
            elif kind == "leave":
                c = raw(s, json.dumps({**without_id(r), "n": 3}), stream=draw.random() < 0.5)
                time.sleep(draw.random() * 0.05)
                c.close()
                counts["left"] += 1
            elif kind == "stream":
                found, done = stream(s, "/v1/completions", {**without_id(r), "stream": True})
                assert done and "".join(e["choices"][0]["text"] for e in found) == wanted[r["id"]]["text"]
                counts["streams"] += 1
            else:
                assert s.complete(**without_id(r))["choices"][0]["text"] == wanted[r["id"]]["text"]
                counts["answers"] += 1

    with concurrent.futures.ThreadPoolExecutor(int(clients)) as pool:
        work = [pool.submit(client, i) for i in range(int(clients))]
        time.sleep(float(seconds) / 2)
        half = rss(s.process.pid)
        for w in work:
            w.result()
    s.await_metric("requests_running", 0)
    assert s.metric("requests_waiting") == 0 and s.metric("kv_blocks_used") == 0
    full = rss(s.process.pid)
    print(f"{counts}, memory {half >> 20} MiB after half, {full >> 20} MiB at the end")
    assert full < half + (64 << 20)
    s.end()


def races(epmoe):
    """For ThreadSanitizer: HTTP's threads and the engine's meet in each way that they can, in a few seconds."""
    s = Server(epmoe, "-t", "1", "--ranks", "2", "--max-batch", "3", "--access-log")
    body = dict(prompt="Emma", max_tokens=6, temperature=1, ignore_eos=True)

    def client(i):
        s.complete(**body, n=3, best_of=4, logprobs=1, echo=True)
        assert stream(s, "/v1/completions", {**body, "n": 2, "stream": True})[1]
        s.refuses("nonsense", **body, nonsense=i)
        c = raw(s, json.dumps({**body, "max_tokens": 500, "n": 4}), stream=i % 2 == 0)
        for path in "/metrics", "/live", "/health", "/v1/models":
            assert s.ask("GET", path)[0] == 200
        c.close()

    try:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(client, range(4)))
            tokens = s.tokens_for(500)
            last = pool.submit(s.ask, "POST", "/v1/completions", json.dumps({**body, "max_tokens": tokens}))
            s.await_metric("requests_running", 1)
            s.process.send_signal(signal.SIGINT)
            assert last.result()[0] == 200
    except Exception:
        print(s.said(), file=sys.stderr) # ThreadSanitizer's report, at which the server ends
        raise
    code = s.process.wait(60)
    assert code == 0, f"expected exit code 0, found {code}: {s.said()}"


def openai(epmoe, model):
    """OpenAI's own client (PyPI: openai), in this interpreter."""
    import openai as api
    s = Server(epmoe, "-t", "1")
    client = api.OpenAI(base_url=f"http://{s.host}:{s.port}/v1", api_key="none", max_retries=0)
    assert [m.id for m in client.models.list()] == ["austen-moe"]
    ask = dict(model="austen-moe", prompt="It is a truth", max_tokens=12, temperature=0)
    whole = client.completions.create(**ask, logprobs=2, n=2)
    assert len(whole.choices) == 2 and whole.choices[0].logprobs.token_logprobs and whole.usage.total_tokens == 28
    pieces = list(client.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    assert "".join(p.choices[0].text for p in pieces if p.choices) == whole.choices[0].text
    assert pieces[-1].usage.completion_tokens == 12
    for wrong, kind in (dict(model="gpt-4"), api.NotFoundError), (dict(temperature=-1), api.BadRequestError), \
            (dict(extra_body={"nonsense": 1}), api.BadRequestError):
        try:
            client.completions.create(**{**ask, **wrong})
            raise AssertionError(wrong)
        except kind as e:
            assert e.body["message"], e
    s.end()
    s = Server(epmoe, "-t", "1", "--name", "tiny", model=model)
    client = api.OpenAI(base_url=f"http://{s.host}:{s.port}/v1", api_key="none", max_retries=0)
    talk = [{"role": "user", "content": "Hello"}]
    for turn in range(3):
        made = client.chat.completions.create(model="tiny", messages=talk, max_completion_tokens=8, temperature=0,
                                              logprobs=True, top_logprobs=2, extra_body={"ignore_eos": True})
        assert len(made.choices[0].logprobs.content) == 8
        pieces = client.chat.completions.create(model="tiny", messages=talk, max_completion_tokens=8, temperature=0,
                                                stream=True, extra_body={"ignore_eos": True})
        assert "".join(p.choices[0].delta.content or "" for p in pieces) == made.choices[0].message.content
        talk += [made.choices[0].message, {"role": "user", "content": "And?"}] # the answer as the client has it
    s.end()


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    {f.__name__: f for f in (api, chat, prefix, guards, load, load_tool, leaving, gpu, storm, races, openai, ends, mpi_ends, lost, lost_idle, stopped_idle, killed)}[what](*arguments)
