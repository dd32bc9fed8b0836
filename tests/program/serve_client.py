"""A server that a test starts, and what clients ask of it: shared by the parts of serve.py."""
import atexit, http.client, json, os, re, signal, socket, subprocess, tempfile, time

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
MODEL = ROOT + "/models/austen-moe"


class Server:
    """A server on a free port; `before` starts it (mpirun)."""

    def __init__(self, epmoe, *options, model=MODEL, before=(), env=None):
        self.log = tempfile.NamedTemporaryFile("w+")
        command = [*before, epmoe, "serve", "-m", model, "--port", "0", *options]
        self.process = subprocess.Popen(command, stderr=self.log, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
                                        env={**os.environ, **(env or {})})
        atexit.register(self.process.kill)
        found = self.await_log(r"on http://(\S+):(\d+)")
        self.host, self.port = found[1].strip("[]"), int(found[2])

    def said(self):
        return open(self.log.name).read()

    def await_log(self, pattern):
        for _ in range(6000):
            found = re.search(pattern, self.said())
            if found:
                return found
            assert self.process.poll() is None, f"it has ended: {self.process.returncode}: {self.said()}"
            time.sleep(0.01)
        raise AssertionError(f"expected {pattern} on stderr, found {self.said()}")

    def connect(self):
        return http.client.HTTPConnection(self.host, self.port, timeout=600)

    def ask(self, method, path, body=None, headers={}):
        """(status, headers, body); a body that is no bytes is sent as JSON."""
        c = self.connect()
        data = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
        c.request(method, path, data, headers)
        r = c.getresponse()
        text = r.read()
        c.close()
        return r.status, r.headers, text

    def post(self, path, body, want=200):
        status, _, text = self.ask("POST", path, body)
        assert status == want, f"{path} {body}: expected {want}, found {status}: {text}"
        return json.loads(text)

    def complete(self, want=200, **fields):
        return self.post("/v1/completions", fields, want)

    def tokens_for(self, most, least=50, seconds=4):
        """So many new tokens that a request outlasts what the test does meanwhile: `most`, or fewer where a build is
        so slow that these few take some seconds, too."""
        start = time.monotonic()
        self.complete(prompt="Emma", max_tokens=16, ignore_eos=True)
        self.await_metric("requests_running", 0)  # it counts as running for a moment after its answer
        return max(least, min(most, int(seconds * 16 / (time.monotonic() - start))))

    def refuses(self, name, want=400, path="/v1/completions", **fields):
        error = self.post(path, fields, want)["error"]
        assert name in error["message"] and error["type"], f"{fields}: expected {name} in {error}"

    def metric(self, name):
        text = self.ask("GET", "/metrics")[2].decode()
        return float(re.search(rf"^epmoe_{re.escape(name)} (\S+)$", text, re.M)[1])

    def await_metric(self, name, value):
        for _ in range(3000):
            if self.metric(name) == value:
                return
            time.sleep(0.01)
        raise AssertionError(f"{name}: expected {value}, found {self.metric(name)}")

    def end(self, number=signal.SIGTERM, want=0):
        self.process.send_signal(number)
        code = self.process.wait(60)
        assert code == want, f"expected exit code {want}, found {code}: {self.said()}"


def events(response):
    """The JSON of a stream's events; the last is [DONE]."""
    found, done = [], False
    for line in response:
        line = line.decode().rstrip("\n")
        assert line == "" or line.startswith("data: "), line
        if line == "data: [DONE]":
            done = True
        elif line:
            assert not done
            found.append(json.loads(line[6:]))
    return found, done


def stream(server, path, body):
    c = server.connect()
    c.request("POST", path, json.dumps(body))
    r = c.getresponse()
    assert r.status == 200, r.read()
    assert r.headers["Content-Type"] == "text/event-stream"
    return events(r)


def batch(epmoe, requests, *options):
    """What epmoe batch answers, by id."""
    with tempfile.TemporaryDirectory() as folder:
        with open(folder + "/in", "w") as f:
            f.writelines(json.dumps(r) + "\n" for r in requests)
        subprocess.run([epmoe, "batch", "-m", MODEL, "-i", folder + "/in", "-o", folder + "/out", "-t", "1", "-q",
                        *options], check=True)
        return {v["id"]: v for v in map(json.loads, open(folder + "/out"))}


def requests_of(n):
    return [{"id": f"r{i}", "prompt": "Emma Woodhouse, chapter %d" % i, "max_tokens": 1 + i * 17 % 60, "seed": i,
             "temperature": i % 3 * 0.6, "ignore_eos": True, "frequency_penalty": i % 2 * 0.5,
             "stop": ["\n\n\n"] if i % 5 else None} for i in range(n)]


def without_id(r):
    return {k: v for k, v in r.items() if k != "id"}


def slow_request(tokens=1500):
    return json.dumps(dict(prompt="Emma", max_tokens=tokens, ignore_eos=True, temperature=0))


def raw(s, body, stream=False):
    """A connection on which a request was sent and nothing is read."""
    c = socket.create_connection((s.host, s.port))
    if stream:
        body = json.dumps({**json.loads(body), "stream": True})
    c.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: {s.host}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    return c
