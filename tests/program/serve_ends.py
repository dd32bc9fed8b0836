"""The parts of serve.py in which the server ends: by a signal, and when a rank is lost."""
import concurrent.futures, json, os, re, signal, subprocess, sys

from serve_client import Server, slow_request


def ends(epmoe, *options, before=()):
    # the first signal: what runs is finished, what waits is refused
    s = Server(epmoe, "-t", "1", "--max-batch", "1", *options, before=before)
    tokens = s.tokens_for(1500)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        running = pool.submit(s.ask, "POST", "/v1/completions", slow_request(tokens))
        s.await_metric("requests_running", 1)
        waiting = pool.submit(s.ask, "POST", "/v1/completions", slow_request())
        s.await_metric("requests_waiting", 1)
        s.process.send_signal(signal.SIGINT)
        assert waiting.result()[0] == 503
        assert json.loads(running.result()[2])["usage"]["completion_tokens"] == tokens
    code = s.process.wait(60)
    assert code == 0, f"expected exit code 0, found {code}: {s.said()}"
    # the second: at once, with an error for each client
    s = Server(epmoe, "-t", "1", "--max-batch", "8", *options, before=before)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        running = [pool.submit(s.ask, "POST", "/v1/completions", json.dumps(dict(
            prompt="Emma", max_tokens=2000, n=8, temperature=1, ignore_eos=True))) for i in range(3)]
        s.await_metric("requests_running", 8)
        s.await_metric("requests_waiting", 16)
        s.process.send_signal(signal.SIGINT)
        s.await_log("finishing what runs")
        s.process.send_signal(signal.SIGINT)
        assert [r.result()[0] for r in running] == [503] * 3
    code = s.process.wait(60)
    assert code == 130, f"expected exit code 130, found {code}: {s.said()}"


def mpi_ends(epmoe, runner):
    ends(epmoe, before=[runner, "-n", "3"])


def lost(epmoe, freeze, *options, asked=True):
    """A rank that is a thread freezes: every client gets an error, and the exit code is 4."""
    s = Server(epmoe, "-t", "1", "--ranks", "3", "--timeout", "2", "--max-batch", "2", *options)
    s.complete(prompt="It", max_tokens=2)
    frozen = subprocess.Popen([freeze, str(s.process.pid), "rank 2"], stdout=subprocess.PIPE, text=True)
    if frozen.stdout.readline() != "frozen\n":
        s.process.kill()
        print("skipped: ptrace is not allowed here")
        sys.exit(77)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        calls = [pool.submit(s.ask, "POST", "/v1/completions", slow_request()) for i in range(4 * asked)]
        for r in calls:
            assert r.result()[0] == 503 and "lost a rank" in r.result()[2].decode(), r.result()
    code = s.process.wait(60)
    assert code == 4 and "lost rank 2" in s.said() and ("idle" in s.said()) == (not asked), (code, s.said())
    frozen.wait()


def lost_idle(epmoe, freeze):
    """It freezes while nobody asks for anything: it is noticed all the same."""
    lost(epmoe, freeze, asked=False)


def stopped_idle(epmoe, runner):
    """The same of a process under mpirun that is stopped."""
    s = Server(epmoe, "-t", "1", "--timeout", "2", before=[runner, "-n", "3"], env={"EPMOE_SERVE_TEST": str(os.getpid())})
    s.complete(prompt="It", max_tokens=2)
    os.kill(rank_of(2), signal.SIGSTOP)
    code = s.process.wait(60)
    assert code == 4 and re.search("lost rank 2 .* no sign of life for 2.0 s, idle", s.said()), (code, s.said())


def killed(epmoe, runner):
    """A rank of mpirun is killed: the same."""
    s = Server(epmoe, "-t", "1", "--max-batch", "2", before=[runner, "-n", "3"], env={"EPMOE_SERVE_TEST": str(os.getpid())})
    s.complete(prompt="It", max_tokens=2)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        asked = [pool.submit(s.ask, "POST", "/v1/completions", json.dumps(dict(
            prompt="Emma", max_tokens=2000, n=2, temperature=1, ignore_eos=True))) for i in range(4)]
        s.await_metric("requests_running", 2)
        s.await_metric("requests_waiting", 6)
        os.kill(rank_of(2), signal.SIGKILL)
        assert all(r.result()[0] == 503 for r in asked), [r.result() for r in asked]
    code = s.process.wait(60)
    assert code == 4 and "lost rank 2" in s.said(), (code, s.said())


def rank_of(rank):
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            entries = open(f"/proc/{p}/environ", "rb").read().split(b"\0")
            name = open(f"/proc/{p}/comm").read()
        except OSError:
            continue
        if name == "epmoe\n" and f"EPMOE_SERVE_TEST={os.getpid()}".encode() in entries and \
                f"OMPI_COMM_WORLD_RANK={rank}".encode() in entries:
            return int(p)
    raise AssertionError("no such rank")
