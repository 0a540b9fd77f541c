#!/usr/bin/env python3
"""Who is let in, on real pseudo-terminals: a person answers for `peer serve`, and what others send is only shown.

    cargo build --bins
    python3 tests/consent.py --programs target/debug [--only WORD]

Each story has a server on a terminal of its own; callers are other processes. Nothing is judged by time: what must come
is waited for, and what must not come is looked for once something later has come.
"""

import argparse
import base64
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

PATIENCE = 30
WAITING = "is being asked whether to let this peer in"


class Failed(Exception):
    pass


def check(condition, what, *seen):
    if not condition:
        raise Failed(f"{what}: {seen}" if seen else what)


class Terminal:
    """A program on a pseudo-terminal of its own: what it shows, and a keyboard."""

    def __init__(self, command, folder, stdout=None):
        self.screen, self.read_to = "", 0
        self.master, slave = pty.openpty()
        self.child = subprocess.Popen(
            [str(word) for word in command], stdin=slave, stdout=stdout or slave, stderr=slave, cwd=folder,
            env=environment(folder), start_new_session=True, preexec_fn=lambda: take_terminal(slave),
        )
        os.close(slave)

    def pump(self, wait):
        ready, _, _ = select.select([self.master], [], [], wait)
        try:
            more = os.read(self.master, 65536) if ready else b""
        except OSError:  # EIO: the program has gone.
            more = b""
        # Bytes, one to one: what a terminal would get.
        self.screen += more.decode("latin-1").replace("\r\n", "\n")
        return bool(more)

    def until(self, words):
        """Waits until these words are shown, behind those that were waited for before."""
        deadline = time.monotonic() + PATIENCE
        words = words.encode().decode("latin-1")
        while (at := self.screen.find(words, self.read_to)) < 0:
            if not self.pump(0.2) and (time.monotonic() > deadline or self.child.poll() is not None):
                raise Failed(f"no {words!r} on the terminal: {self.screen[self.read_to:]!r}")
        before, self.read_to = self.screen[self.read_to:at], at + len(words)
        return before

    def types(self, text):
        os.write(self.master, text.encode() if isinstance(text, str) else text)

    def end(self):
        self.child.send_signal(signal.SIGINT)
        deadline = time.monotonic() + PATIENCE
        while self.child.poll() is None:
            check(time.monotonic() < deadline, "the program does not end")
            self.pump(0.05)
        while self.pump(0):
            pass

    def kill(self):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        os.close(self.master)


def take_terminal(slave):
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)


def environment(folder):
    hidden = ("DIREC_", "https_proxy", "HTTPS_PROXY")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    return {**kept, "HOME": str(folder), "XDG_CONFIG_HOME": f"{folder}/config", "XDG_DATA_HOME": f"{folder}/data"}


class Caller:
    """A peer that calls, without a terminal: its events, and what it says on the side."""

    def __init__(self, story, name, *command, stdin=subprocess.DEVNULL):
        command = [story.peer, "--relay", story.url, "--json", "--key", f"{name}.key", *command]
        self.events, self.said = (open(story.folder / f"{name}.{end}", "w+b") for end in ("events", "said"))
        self.child = subprocess.Popen(
            [str(word) for word in command], stdin=stdin, stdout=self.events, stderr=self.said, cwd=story.folder,
            env=environment(story.folder),
        )
        story.running.append(self)

    def seen(self):
        lines = Path(self.events.name).read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def until(self, event):
        deadline = time.monotonic() + PATIENCE
        while not (found := [seen for seen in self.seen() if seen["event"] == event]):
            check(time.monotonic() < deadline, f"no {event}", self.seen(), Path(self.said.name).read_text())
            time.sleep(0.02)
        return found[0]

    def outcome(self):
        """`connected`, or why not."""
        deadline = time.monotonic() + PATIENCE
        while True:
            for seen in self.seen():
                if seen["event"] == "connected":
                    return "connected"
                if seen["event"] == "error":
                    return seen["what"]
            check(time.monotonic() < deadline, "no outcome", self.seen(), Path(self.said.name).read_text())
            time.sleep(0.02)

    def is_waiting(self):
        return not any(seen["event"] in ("connected", "error") for seen in self.seen())

    def hang_up(self):
        self.child.send_signal(signal.SIGINT)
        self.child.wait(PATIENCE)

    def kill(self):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        self.events.close()
        self.said.close()


def program(path):
    return path.resolve() if shutil.which(path) else sys.exit(f"no program {path}: cargo build --bins")


class Story:
    """A relay, a server on a terminal, and who calls."""

    def __init__(self, programs, folder):
        self.folder, self.running = folder, []
        self.peer, relay = (program(programs / name) for name in ("peer", "relay"))
        command = [relay, "--listen", "127.0.0.1:0", "--json"]
        self.relay = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=folder,
            env=environment(folder),
        )
        self.url = json.loads(self.relay.stdout.readline())["url"]

    def terminal(self, *command, stdout=None):
        terminal = Terminal([self.peer, "--relay", self.url, *command], self.folder, stdout)
        self.running.append(terminal)
        return terminal

    def serve(self, *flags):
        server = self.terminal("--key", "server.key", "serve", *flags)
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(r"^[a-z2-7]{52}$", server.screen, re.MULTILINE)):
            check(time.monotonic() < deadline, "the server does not say its ID", server.screen)
            server.pump(0.2)
        server.read_to, self.id = len(server.screen), found.group(0)
        return server

    def call(self, name, *flags):
        """A caller that pings until it is told not to."""
        return Caller(self, name, "ping", self.id, "--interval", "200", *flags)

    def asked(self, server, prompt):
        """Waits for a question, and gives the caller's ID and its short form."""
        shown = server.until(" wants to connect\n")
        identity = re.search(r"([a-z2-7]{52})$", shown)
        check(identity, "the question names the caller", shown)
        short = identity.group(1)[:8]
        server.until(prompt.format(short=f"{short}…"))
        return short

    def end(self):
        for program in self.running:
            program.kill()
        self.relay.kill()
        self.relay.wait()
        self.relay.stdout.close()


ALONE = "accept {short}? [y/n] "


def typed_before_the_question(story):
    server = story.serve()
    # Whole lines, and one that has not been ended.
    server.types("y\nyes\ny 1\ny")
    caller = story.call("caller")
    story.asked(server, ALONE)
    caller.until("asking")
    server.types("\n")
    # The line is empty by now: it is asked again.
    server.until("? [y/n] ")
    check(caller.is_waiting(), "nobody is let in by what was typed before")
    server.types("y\n")
    server.until("accepted ")
    check(caller.outcome() == "connected", "an answer lets in", caller.seen())


def a_stray_enter(story):
    server = story.serve()
    caller = story.call("caller")
    story.asked(server, ALONE)
    for line in ("\n", "\n", "what?\n"):
        server.types(line)
        server.until("? [y/n] ")
        check(caller.is_waiting(), "neither Enter nor nonsense is an answer", line)
    server.types("n\n")
    server.until("refused ")
    check("refused" in caller.outcome(), "an answer refuses", caller.seen())


def two_callers_in_any_order(story):
    server = story.serve()
    first = story.call("first")
    one = story.asked(server, ALONE)
    second = story.call("second")
    two = story.asked(server, "accept 1 " + f"{one}…" + ", 2 {short}? [y 1/n 1, and so on] ")
    check(one != two, "each question names its caller")
    server.types("y\n")
    server.until("several are waiting: name the number\n")
    check(first.is_waiting() and second.is_waiting(), "a bare answer is for nobody")
    server.until("and so on] ")
    server.types("y 2\n")
    server.until(f"accepted {two}…")
    check(second.outcome() == "connected", "the second comes in", second.seen())
    server.until(f"accept {one}…? [y/n] ")
    check(first.is_waiting(), "and the first still waits")
    third = story.call("third")
    three = story.asked(server, "accept 1 " + f"{one}…" + ", 3 {short}? [y 1/n 1, and so on] ")
    server.types("n 3\ny 1\n")
    server.until(f"refused {three}…")
    server.until(f"accepted {one}…")
    check(first.outcome() == "connected" and "refused" in third.outcome(), "each has its own answer")


def a_y_for_one_does_not_let_in_the_next(story):
    server = story.serve()
    first = story.call("first")
    story.asked(server, ALONE)
    server.types("y\ny\ny\ny")
    server.until("accepted ")
    check(first.outcome() == "connected", "the first comes in", first.seen())
    second = story.call("second")
    story.asked(server, ALONE)
    second.until("asking")
    server.types("\n")
    server.until("? [y/n] ")
    check(second.is_waiting(), "the second is asked for by itself")
    server.types("n\n")
    check("refused" in second.outcome(), "and refused by itself", second.seen())


def the_caller_hangs_up(story):
    server = story.serve()
    hasty = story.call("hasty")
    short = story.asked(server, ALONE)
    event = hasty.until("asking")
    check(event["peer"] == story.id, "the caller is told who is asked", event)
    check(WAITING in Path(hasty.said.name).read_text(), "in words, too")
    patient = story.call("patient")
    other = story.asked(server, "accept 1 " + f"{short}…" + ", 2 {short}? [y 1/n 1, and so on] ")
    hasty.hang_up()
    server.until(f"{short}… does not wait for an answer any longer\n")
    server.until(f"accept {other}…? [y/n] ")
    server.types("y 1\n")
    server.until("nobody waits under the number 1\n")
    server.until("? [y/n] ")
    server.types("y\n")
    server.until(f"accepted {other}…")
    check(patient.outcome() == "connected", "the other one comes in", patient.seen())


def lines_typed_to_a_connection(story):
    server = story.serve()
    friend = Caller(story, "friend", "connect", story.id, stdin=subprocess.PIPE)
    story.asked(server, ALONE)
    server.types("y\n")
    server.until("accepted ")
    friend.child.stdin.write(b"hello from the friend\n")
    friend.child.stdin.flush()
    server.until("hello from the friend\n")
    # Before the question is shown: to the connection as well.
    server.types("y\n")
    stranger = story.call("stranger")
    short = story.asked(server, "accept {short}? [y 2/n 2; other lines go to the connection] ")
    stranger.until("asking")
    for line in ("y\n", "yes\n", "are you there?\n", "\n"):
        server.types(line)
    server.until("that went to the connection; an answer names its number\n")

    def heard():
        return b"".join(base64.b64decode(seen["base64"]) for seen in friend.seen() if seen["event"] == "data")

    deadline = time.monotonic() + PATIENCE
    while heard() != b"y\ny\nyes\nare you there?\n\n":
        check(time.monotonic() < deadline, "every line goes to the connection", heard())
        time.sleep(0.02)
    check(stranger.is_waiting(), "and answers no question", stranger.seen())
    server.types("n 2\n")
    server.until(f"refused {short}…")
    check("refused" in stranger.outcome(), "an answer names its number", stranger.seen())
    friend.child.stdin.close()


def a_line_begun_before_the_question(story):
    server = story.serve()
    friend = Caller(story, "friend", "connect", story.id, stdin=subprocess.PIPE)
    story.asked(server, ALONE)
    server.types("y\n")
    server.until("accepted ")
    friend.child.stdin.write(b"hello\n")
    friend.child.stdin.flush()
    server.until("hello\n")
    # The next question's number, and no Enter yet.
    server.types("y 2")
    stranger = story.call("stranger")
    story.asked(server, "accept {short}? [y 2/n 2; other lines go to the connection] ")
    stranger.until("asking")
    server.types("\n")

    def heard():
        return b"".join(base64.b64decode(seen["base64"]) for seen in friend.seen() if seen["event"] == "data")

    deadline = time.monotonic() + PATIENCE
    while heard() != b"y 2\n":
        check(time.monotonic() < deadline, "the line goes to the connection", heard())
        time.sleep(0.02)
    check(stranger.is_waiting(), "and lets nobody in", stranger.seen())
    # Lines can be mended as before.
    server.types("y 3\x7f2\n")
    server.until("accepted ")
    check(stranger.outcome() == "connected", "an answer that was begun after the question does", stranger.seen())
    friend.child.stdin.close()


def ctrl_d(story):
    server = story.serve()
    first, second = story.call("first"), story.call("second")
    server.until("and so on] ")
    server.types("\x04")
    server.until("refused ")
    server.until("standard input has ended, so nobody can be asked")
    for caller in (first, second):
        check("refused" in caller.outcome(), "nobody comes in", caller.seen())
    late = story.call("late")
    server.until("nobody can be asked")
    check("refused" in late.outcome(), "nor later", late.seen())
    server.types("y\n")
    check(server.child.poll() is None, "the server goes on")


def what_others_send_is_shown_and_not_obeyed(story):
    hostile = "\x1b]0;title\x07\x1b[2J\x9b31m\u202egpj.exe\u202c a\rb \u2028\u200b".encode()
    hostile += b"\x9b\xff caf\xc3\xa9\tend\r\n"
    shown = "\\x1b]0;title\\x07\\x1b[2J\\u{9b}31m\\u{202e}gpj.exe\\u{202c} a\\rb \\u{2028}\\u{200b}"
    shown += "\\x9b\\xff café\tend"
    server = story.serve("--allow", "any")
    caller = Caller(story, "caller", "connect", story.id, stdin=subprocess.PIPE)
    caller.until("connected")
    # One byte at a time: characters and sequences come in pieces.
    for byte in hostile:
        caller.child.stdin.write(bytes([byte]))
        caller.child.stdin.flush()
        time.sleep(0.002)
    # A terminal shows a tab as it is, unless it is told otherwise.
    server.until(shown + "\n")
    caller.child.stdin.close()

    # The same the other way, to a client on a terminal; and unchanged where it is none.
    server.end()
    server = Caller(story, "source", "serve", "--allow", "any")
    story.id = server.until("ready")["id"]
    server.hang_up()
    source = subprocess.Popen(
        [str(story.peer), "--relay", story.url, "--key", "source.key", "serve", "--allow", "any"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=story.folder,
        env=environment(story.folder),
    )
    try:
        check(source.stdout.readline().decode().strip() == story.id, "the server is there")
        source.stdin.write(hostile)
        source.stdin.flush()
        client = story.terminal("--key", "client.key", "connect", story.id)
        client.until(shown + "\n")
        client.end()
        source.stdin.write(hostile)
        source.stdin.close()
        with open(story.folder / "raw", "w+b") as raw:
            client = story.terminal("--key", "client.key", "connect", story.id, stdout=raw)
            client.types("\x04")
            deadline = time.monotonic() + PATIENCE
            while (story.folder / "raw").read_bytes() != hostile:
                check(time.monotonic() < deadline, "bytes pass unchanged to a file")
                client.pump(0.02)
    finally:
        source.kill()
        source.wait()
        source.stdout.close()


STORIES = [
    typed_before_the_question, a_stray_enter, two_callers_in_any_order, a_y_for_one_does_not_let_in_the_next,
    the_caller_hangs_up, lines_typed_to_a_connection, a_line_begun_before_the_question, ctrl_d,
    what_others_send_is_shown_and_not_obeyed,
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=Path, default=Path("target/debug"))
    parser.add_argument("--only", default="", help="stories with this word in their names")
    options = parser.parse_args()
    for tell in STORIES:
        if options.only not in tell.__name__:
            continue
        with tempfile.TemporaryDirectory() as folder:
            story = Story(options.programs, Path(folder))
            try:
                tell(story)
            except (Failed, OSError) as failure:
                screens = [program.screen for program in story.running if isinstance(program, Terminal)]
                sys.exit(f"FAILED: {tell.__name__}: {failure}\nscreens: {screens}")
            finally:
                story.end()
        print(f"ok: {tell.__name__.replace('_', ' ')}", flush=True)


if __name__ == "__main__":
    main()
