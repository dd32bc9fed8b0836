#!/usr/bin/env python3
"""epmoe chat: by a pipe, and on a terminal (pty): editing, history, Ctrl-C, pasting.

    chat.py EPMOE CHAT-MODEL
"""
import json, os, pty, re, select, signal, subprocess, sys, tempfile

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
TEXT_MODEL = ROOT + "/models/austen-moe"


def piped(epmoe, model, text, *options, command=("chat",)):
    r = subprocess.run([epmoe, *command, "-m", model, "-t", "1", *options], input=text, capture_output=True, text=True,
                       timeout=120)
    assert r.returncode == 0, r
    return r.stdout, r.stderr


def pipes(epmoe, chat_model):
    with tempfile.TemporaryDirectory() as folder:
        saved = folder + "/talk.json"
        # the same answers as epmoe run gives: of a text that goes on, and of messages
        out, err = piped(epmoe, TEXT_MODEL, f"It is a truth\n/save {saved}\n and\n/nonsense\n/exit\nnever\n", "--temp", "0",
                         "-n", "12")
        whole = subprocess.run([epmoe, "run", "-m", TEXT_MODEL, "-p", "It is a truth", "-n", "12", "--temp", "0", "-q",
                                "--no-echo", "-t", "1"], capture_output=True, text=True, check=True).stdout
        assert out.startswith(whole) and out.count("\n") == 2 and "chat_template" in err, (out, err)
        assert json.load(open(saved)) == {"prompt": "It is a truth" + whole.rstrip("\n")}
        assert "expected /reset, /save FILE or /exit" in err
        out, err = piped(epmoe, chat_model, f"Hello\nAgain \\\nand again\n/save {saved}\n/system Be brief.\nHi\n"
                         f"/save {saved}2\n/reset\nHello\n", "--temp", "0", "-n", "6")
        turns = json.load(open(saved))["messages"]
        assert [m["role"] for m in turns] == ["user", "assistant"] * 2
        assert turns[2]["content"] == "Again \nand again"
        # a CR belongs to the line's end, and a zero to the line
        talk = f"Hello\nAgain \\\nand again\na\0b\n/save {saved}\n/reset\nHi\n/exit\nnever\n"
        plain = piped(epmoe, chat_model, talk, "--temp", "0", "-n", "6"), json.load(open(saved))
        ended = piped(epmoe, chat_model, talk.replace("\n", "\r\n"), "--temp", "0", "-n", "6"), json.load(open(saved))
        assert plain == ended and plain[1]["messages"][4]["content"] == "a\0b", (plain, ended)
        assert json.load(open(saved + "2"))["messages"][0] == {"role": "system", "content": "Be brief."}
        # epmoe run --chat without a prompt is the same, with the same options
        hot = ["-n", "9", "--temp", "1", "--seed", "4", "--min-p", "0.02", "--repeat-penalty", "1.2", "--ignore-eos",
               "--system", "Be brief.", "--stop", "zzz"]
        talk = f"Hello\nAgain\n/save {saved}\n"
        once = piped(epmoe, chat_model, talk, *hot), json.load(open(saved))
        again = piped(epmoe, chat_model, talk, *hot, command=("run", "--chat")), json.load(open(saved))
        assert once == again and len(once[1]["messages"]) == 5, (once, again)
        assert piped(epmoe, chat_model, talk, *hot, "--seed", "5") != once[0]
        # what has no room is told, and forgotten
        out, err = piped(epmoe, chat_model, "x" * 5000 + f"\nHi\n/save {saved}\n", "-n", "4")
        assert "expected at most" in err and len(json.load(open(saved))["messages"]) == 2, err


class Terminal:
    def __init__(self, *command):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm"
            os.execv(command[0], command)
        self.seen = ""

    def await_text(self, pattern):
        """What came up to a match, which is taken."""
        while True:
            found = re.search(pattern, self.seen)
            if found:
                before, self.seen = self.seen[:found.end()], self.seen[found.end():]
                return before
            assert select.select([self.fd], [], [], 60)[0], f"expected {pattern}, found {self.seen!r}"
            try:
                self.seen += os.read(self.fd, 65536).decode(errors="replace")
            except OSError:
                raise AssertionError(f"it has ended; expected {pattern}, found {self.seen!r}")

    def type(self, text):
        os.write(self.fd, text.encode())

    def end(self):
        code = None
        while code is None:
            try:
                os.read(self.fd, 65536)
            except OSError:
                code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        assert code == 0, code


def terminal(epmoe):
    with tempfile.TemporaryDirectory() as folder:
        saved = folder + "/talk.json"
        t = Terminal(epmoe, "chat", "-m", TEXT_MODEL, "-t", "1", "-n", "1900", "--temp", "0")
        t.await_text("text> ")
        t.type("Emma\x7f\x7fma Wood\x01\x05house\r")  # erase, to the beginning, to the end
        t.await_text(r"(?s)house\r\n.{40}")
        t.type("\x03")  # stops the answer and not the program
        t.await_text("text> ")
        t.type(f"/save {saved}\r")
        t.await_text("saved to")
        text = json.load(open(saved))["prompt"]
        assert text.startswith("Emma Woodhouse") and len(text) < 6000, text
        t.await_text("text> ")
        t.type("/reset\r")
        t.await_text("text> ")
        t.type("\x1b[A\x1b[A\x1b[A\r")  # the third line before
        t.await_text(r"(?s)Woodhouse\S*\r\n.{40}")
        t.type("\x03")
        t.await_text("text> ")
        t.type("/reset\r")
        t.await_text("text> ")
        t.type("One line,\rand another\rand a third.\r")  # pasted; the terminal may show it once more
        t.await_text(r"(?s)third\.\S*\r\n(?!One).{20}")
        t.type("\x03")
        t.await_text("text> ")
        t.type(f"/save {saved}\r")
        t.await_text("saved to")
        assert json.load(open(saved))["prompt"].startswith("One line,\nand another\nand a third.")
        t.await_text("text> ")
        t.type("/exit\r")
        t.end()


def refused(epmoe, chat_model):
    """What a conversation does not have is refused by name."""
    for option in "--ids", "--no-echo", "--raw", "--profile":
        r = subprocess.run([epmoe, "run", "--chat", "-m", chat_model, option], input="Hello\n", capture_output=True,
                           text=True, timeout=120)
        assert r.returncode == 2 and r.stdout == "" and option in r.stderr and r.stderr.count("\n") == 1, r


def no_template(epmoe):
    """Nor is a system prompt dropped where no template takes it."""
    r = subprocess.run([epmoe, "chat", "-m", TEXT_MODEL, "--system", "Be brief."], input="Hello\n", capture_output=True,
                       text=True, timeout=120)
    assert r.returncode == 2 and r.stdout == "" and r.stderr.count("\n") == 1 and "--system: expected" in r.stderr, r


def terminal_of_run(epmoe):
    t = Terminal(epmoe, "run", "--chat", "-m", TEXT_MODEL, "-t", "1", "-n", "4", "--temp", "0")
    t.await_text("text> ")
    t.type("Emma\r")
    t.await_text(r"(?s)Emma\r\n.*text> ")
    t.type("/exit\r")
    t.end()


if __name__ == "__main__":
    pipes(*sys.argv[1:])
    terminal(sys.argv[1])
    terminal_of_run(sys.argv[1])
    refused(*sys.argv[1:])
    no_template(sys.argv[1])
