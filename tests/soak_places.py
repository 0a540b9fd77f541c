"""Where the transfers of tests/soak.py run: this machine's loopback, and the laboratory of network namespaces.

On loopback every transfer has relays and a server of its own. In a network namespace of its own, which needs `unshare`
and root or unprivileged user namespaces, packets between the peers can be dropped by nftables.
"""

import collections
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

# A program has so many seconds to say that it is there, and to end.
START = 30
END = 10
# Lines of a program that are kept, for the story of a failure.
KEPT_LINES = 4000
# In the environment of the process that runs in the namespace: who made it, `root` or `user`.
INSIDE = "DIREC_SOAK_NAMESPACE"
# A transfer begins once the connection stands: a call while the relay is away may fail.
CONNECTED = re.compile(r'"event":"connected"|^connected to ')
PEER = "127.0.0.1"


class Failed(Exception):
    """A transfer failed, and why."""


class Program:
    """A process, and the lines that it has said, with their times."""

    def __init__(self, name, command, pipe=False):
        self.name, self.pipe = name, pipe
        self.lines, self.changed = collections.deque(maxlen=KEPT_LINES), threading.Condition()
        self.process = subprocess.Popen([str(word) for word in command], start_new_session=True, stderr=subprocess.PIPE,
                                        stdin=subprocess.PIPE if pipe else subprocess.DEVNULL, stdout=subprocess.PIPE)
        for stream in [self.process.stderr] + ([] if pipe else [self.process.stdout]):
            threading.Thread(target=self.collect, args=(stream,), daemon=True).start()

    def collect(self, stream):
        for line in stream:
            with self.changed:
                self.lines.append((time.monotonic(), line.decode(errors="replace").rstrip()))
                self.changed.notify_all()

    def said(self, pattern, seconds):
        """The first line that matches, waited for; `None` if it has not come by then or the process has ended."""
        until = time.monotonic() + seconds
        with self.changed:
            while True:
                for _, line in self.lines:
                    if re.search(pattern, line):
                        return line
                if time.monotonic() >= until or self.process.poll() is not None:
                    return None
                self.changed.wait(0.1)

    def events(self, kind):
        """The JSON lines of that event."""
        with self.changed:
            lines = [line for _, line in self.lines if line.startswith("{")]
        return [event for event in map(json.loads, lines) if event.get("event") == kind]

    def moves(self):
        """How often the connection went from one path to another."""
        return moves(self.events("path"))

    def kill(self, number=signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def end(self):
        """Ended, whatever it does, also when it is stopped."""
        self.kill()
        self.process.wait()


def moves(events):
    """How often a connection went to another path, by its `path` events: the first one tells where it began."""
    paths = [(event["path"], event["addr"]) for event in events]
    return sum(before != after for before, after in zip(paths, paths[1:]))


# ---------------------------------------------------------------- loopback

def enter_namespace():
    """Goes on in a network namespace of its own, in another process image, if this machine allows that."""
    if INSIDE in os.environ:
        return True
    who, flags = ("root", []) if os.geteuid() == 0 else ("user", ["--user", "--map-root-user"])
    command = ["unshare", *flags, "--net"]
    if not shutil.which("unshare") or subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        return False
    os.execvpe(command[0], [*command, sys.executable, *sys.argv], {**os.environ, INSIDE: who})


def is_root():
    """Whether this is root outside of the namespace, too."""
    return os.environ.get(INSIDE, "root" if os.geteuid() == 0 else "user") == "root"


class Packets:
    """What becomes of packets on loopback. In a namespace of its own only: other programs must not notice."""

    def __init__(self, namespace):
        self.missing = []
        self.nft = namespace and shutil.which("nft") is not None
        if not namespace:
            self.missing.append("dropping packets: no network namespace (root or unprivileged user namespaces)")
            self.netem = False
            return
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        if self.nft:
            # Where packets come in: there the sender does not notice.
            self.rules("add table inet soak; add chain inet soak in { type filter hook input priority 0; }")
        else:
            self.missing.append("dropping packets: nft is missing (Debian: apt-get install nftables)")
        self.netem = shutil.which("tc") is not None and self.queue("netem delay 1us") == 0
        self.whole()
        if not self.netem:
            self.missing.append("reordering on loopback: this kernel has no netem, or tc is missing")

    @staticmethod
    def rules(text):
        subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)

    @staticmethod
    def queue(text):
        command = ["tc", "qdisc", "replace", "dev", "lo", "root", *text.split()]
        return subprocess.run(command, capture_output=True, check=False).returncode

    def drop(self, which):
        self.rules(f"add rule inet soak in meta l4proto udp {which} drop")

    def whole(self):
        """Everything passes again."""
        if self.nft:
            self.rules("flush chain inet soak in")
        if self.netem:
            self.queue("pfifo_fast")


@dataclass
class Trouble:
    """Something that breaks, and how it is mended, after `longest` seconds at most."""

    name: str
    longest: float
    begin: callable
    mend: callable


class House:
    """Relays and a server at them, for one transfer over loopback."""

    def __init__(self, programs, folder, plan, packets):
        self.programs, self.folder, self.plan, self.packets = programs, folder, plan, packets
        self.all, self.commands, self.relays, self.urls, self.kills = [], [], [], [], 0
        try:
            for number in range(plan.relays):
                self.commands.append(self.relay_command(number))
                self.relays.append(self.open_relay(number))
                self.urls.append(json.loads(self.relays[number].said('"url"', 0))["url"])
            serve = ["serve"] if plan.kind == "soak" else ["serve", "--echo", "--allow", "any"]
            self.server = self.open("server", self.peer("server", serve), '"event":"ready"')
            self.id = self.server.events("ready")[0]["id"]
        except BaseException:
            self.close()
            raise

    def open(self, name, command, ready=None, pipe=False):
        program = Program(name, command, pipe)
        self.all.append(program)
        if ready and not program.said(ready, START):
            raise Failed(f"{name} did not come up within {START} s")
        return program

    def relay_command(self, number):
        """The same ports at each start."""
        host = f"127.0.0.{number + 2}"
        ports = free_ports(host, 4)
        return [self.programs / "relay", "--listen", f"{host}:{ports[0]}", "--public", host, "--punch-port", ports[1],
                "--punch-port", ports[2], "--knock-port", ports[3], "--json",
                "--data-dir", self.folder / f"relay{number}"]

    def open_relay(self, number):
        return self.open(f"relay {number}", self.commands[number], '"event":"ready"')

    def peer(self, name, action):
        urls = [word for url in self.urls for word in ("--relay", url)]
        if self.plan.kind == "soak":
            return [self.programs / "examples" / "soak", *urls, "--local", f"{PEER}:0", *action]
        json_lines = ["--json"] if name == "server" else []
        key = ["--key", self.folder / f"{name}.key"]
        return [self.programs / "peer", *urls, "--no-portmap", *key, *json_lines, *action]

    def troubles(self, client):
        """What can happen here to a connection that survives."""
        packets, whole = self.packets, self.packets.whole
        made = [
            Trouble("client stopped", 4, lambda: client.kill(signal.SIGSTOP), lambda: client.kill(signal.SIGCONT)),
            Trouble("server stopped", 4, lambda: self.server.kill(signal.SIGSTOP),
                    lambda: self.server.kill(signal.SIGCONT)),
        ]
        for number in range(self.plan.relays):
            # Twice: they are what this is about.
            made += 2 * [Trouble(f"relay {number} killed", 3, lambda number=number: self.kill_relay(number),
                                 lambda number=number: self.restart_relay(number))]
        if packets.nft:
            made += [
                Trouble("1 % of packets lost", 3, lambda: packets.drop("numgen random mod 100 < 1"), whole),
                Trouble("all packets lost", 4, lambda: packets.drop(""), whole),
            ]
            if self.plan.path == "auto":
                direct = f"ip saddr {PEER} ip daddr {PEER}"
                made += 3 * [Trouble("direct path blocked", 4, lambda: packets.drop(direct), whole)]
        if packets.netem:
            made += [
                Trouble("reordering", 3, lambda: packets.queue("netem delay 2ms reorder 95% 25%"), whole),
                Trouble("duplicates", 3, lambda: packets.queue("netem duplicate 2%"), whole),
            ]
        return made

    def kill_relay(self, number):
        self.kills += 1
        self.relays[number].end()

    def restart_relay(self, number):
        self.relays[number] = self.open_relay(number)

    def close(self):
        self.packets.whole()
        for program in self.all:
            program.end()


def free_ports(host, count):
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
    with contextlib.ExitStack() as stack:
        for udp in sockets:
            stack.enter_context(udp)
            udp.bind((host, 0))
        return [udp.getsockname()[1] for udp in sockets]


class Breaker(threading.Thread):
    """Makes one trouble after another until the transfer is over, and mends each."""

    def __init__(self, rng, troubles, client):
        super().__init__(daemon=True)
        self.rng, self.troubles, self.client = rng, troubles, client
        self.over, self.told, self.error = threading.Event(), [], None

    def run(self):
        try:
            if not self.client.said(CONNECTED, START):
                return
            while not self.over.wait(self.rng.uniform(0.1, 1.5)):
                trouble = self.rng.choice(self.troubles)
                self.tell(trouble.name)
                trouble.begin()
                try:
                    self.over.wait(self.rng.uniform(0.05, trouble.longest))
                finally:
                    trouble.mend()
                    self.tell(f"{trouble.name}: mended")
        except Exception as error:  # Told as the transfer's failure: the thread has nobody else to tell.
            self.error = error

    def tell(self, what):
        self.told.append((time.monotonic(), what))

    def end(self):
        self.over.set()
        self.join(2 * START)
        if self.error:
            raise Failed(f"the trouble could not be made: {self.error}")


# ---------------------------------------------------------------- the laboratory

TYPES = ["none", "easy", "eim-eif-x", "eim-apdf-x", "eim-adf", "double", "sym"]
# What links are like, and which part of the bytes they carry in reasonable time.
LINKS = [
    ("no delay", lambda rng: [], 4),
    ("delay", lambda rng: ["--delay-ms", rng.randint(2, 60)], 16),
    ("rate", lambda rng: ["--delay-ms", rng.randint(2, 40), "--rate-mbit", rng.randint(10, 200)], 64),
    ("loss", lambda rng: ["--delay-ms", rng.randint(2, 40), "--loss", rng.choice([0.1, 0.5, 1])], 256),
    ("reordering", lambda rng: ["--delay-ms", rng.randint(2, 40), "--link",
                                f"{rng.choice('ab')}:reorder={rng.randint(1, 5)},jitter={rng.randint(0, 3)}"], 256),
    ("duplicates", lambda rng: ["--delay-ms", rng.randint(2, 40), "--link", f"{rng.choice('ab')}:dup=2"], 64),
]
# Faults, what mends each, and after how many seconds at most.
FAULTS = [
    ("block-direct", "unblock-direct", 4), ("relay-kill", "relay-restart", 3), ("relay-down", "relay-up", 3),
    ("newip-a", None, 0), ("newip-b", None, 0), ("flush-a", None, 0), ("flush-b", None, 0),
    ("down-a", "up-a", 3), ("down-b", "up-b", 3), ("stop-a", "cont-a", 3), ("stop-b", "cont-b", 3),
    ("roam-a", "back-a", 5),
]
# Faults are made for so many seconds after the connection stands.
FAULTY = 60
SMALLEST = 1 << 20


@dataclass
class LabPlan:
    """What a laboratory's run is like: all of it drawn from one generator."""

    types: tuple
    links: str
    flags: list
    bytes: int
    faults: list = field(default_factory=list)

    @classmethod
    def draw(cls, rng, most):
        types = (rng.choice(TYPES), rng.choice(TYPES))
        links, flags, part = rng.choice(LINKS)
        plan = cls(types, links, [str(word) for word in flags(rng)], max(min(most, SMALLEST), most // part))
        at = rng.uniform(0.1, 2)
        while at < FAULTY:
            fault, mend, longest = rng.choice(FAULTS)
            if fault == "newip-a" and any("roam-a" in made for made in plan.faults):
                # A public host that has been away has lost the address that the laboratory would take from it.
                continue
            plan.faults.append(f"{at:.2f}:{fault}")
            at += rng.uniform(0.1, max(longest, 0.2))
            if mend:
                plan.faults.append(f"{at:.2f}:{mend}")
            at += rng.uniform(0.3, 3)
        return plan

    def command(self, natlab, programs, relay_command, plan, patience, ready):
        soak = f"{shlex.quote(str(programs / 'examples' / 'soak'))} --relay '{{url}}'"
        transfer = f"transfer {{peer}} --seed {plan.seed} --bytes {self.bytes} --path {plan.path} --patience {patience}"
        command = [natlab, "run", "--a", self.types[0], "--b", self.types[1], "--seed", str(plan.seed), *self.flags,
                   "--relay-cmd", relay_command, "--relay-ready", ready[0], "--server-cmd", f"{soak} serve",
                   "--capture", ready[1], "--client-cmd", f"{soak} {transfer}", "--cue", '"event":"connected"',
                   "--timeout", str(int(plan.limit))]
        for fault in self.faults:
            command += ["--fault", fault]
        return command
