#!/usr/bin/env python3
"""Runs packet scripts through the Linux kernel's own NATs, and holds the simulator's boxes against them.

    tests/kernel_conformance.py --natlab PATH [--sim PROGRAM] [--types a,b,..] [--scripts a,b,..] [--long] [--record]

The laboratory is not part of this repository; it is a program (`natlab hold ...`) that needs root. The scripts and
their format are in direc-sim/tests/conformance. `--long` adds those that wait for the kernel's long timeouts (four
minutes). `--record` writes what the kernel said into the `.kernel` files, which hold the simulator where nobody is root.

Exit code: 0 simulator and kernel agree on every packet; 1 not; 2 the laboratory could not run.
"""

import argparse
import ctypes
import glob
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

from laboratory import prepare

HERE = os.path.dirname(os.path.abspath(__file__))
SCRIPTS = os.path.join(HERE, "..", "direc-sim", "tests", "conformance")
# As the laboratory has them; the last is given to relay 1 here.
SERVERS = {4: {"r1": "203.0.113.10", "r1b": "203.0.113.11", "r2": "203.0.113.20"},
           6: {"r1": "2001:db8:f:1::10", "r1b": "2001:db8:f:1::11", "r2": "2001:db8:f:2::10"}}
# Boxes with a public address for one host only.
BARE = ("none", "fw4")
# A packet that has not come by then is dropped: the laboratory's wires take no time. Less than scripts leave between two.
PATIENCE = 0.25
# A lab waits nearly all of its time.
JOBS = 8
CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


class Script:
    """One file: what it is for and its packets. The simulator reads it too, and refuses what is wrong with it."""

    def __init__(self, path):
        self.path, self.name = path, os.path.basename(path)[:-len(".script")]
        self.types, self.steps, self.long = [], [], False
        for line in open(path, encoding="utf-8"):
            words = line.split("#")[0].split()
            if words[:1] == ["types:"]:
                self.types += words[1:]
            elif words == ["long"]:
                self.long = True
            elif words:
                self.steps.append((float(words[0]), words[1], words[3], " ".join(words)))

    def endpoints(self):
        return sorted({end for _, sender, target, _ in self.steps for end in (sender, target.split("@")[0])})


def socket_in(namespace, address, port):
    """A UDP socket of that namespace. A thread's own namespace is changed for the moment."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if LIBC.setns(there, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {namespace}")
        try:
            made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        finally:
            LIBC.setns(home, CLONE_NEWNET)
    finally:
        os.close(home)
        os.close(there)
    made.bind((address, port))
    made.setblocking(False)
    return made


class Lab:
    """A laboratory that stands, with one or two hosts behind boxes of one type."""

    def __init__(self, natlab, boxes):
        second = ["--b", "none"] if boxes in BARE else ["--same-lan"]
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([natlab, "hold", "--a", boxes, *second], stdout=subprocess.PIPE,
                                        stderr=self.errors, text=True)
        self.nodes = {}
        for line in self.process.stdout:
            if line.startswith("{"):
                self.vars = json.loads(line).get("vars", {})
            elif line.startswith("ip netns exec "):
                self.nodes[line.split("# ")[1].strip()] = line.split()[3]
            if {"a", "b", "r1", "r2"} <= set(self.nodes):
                break
        else:
            self.errors.seek(0)
            raise RuntimeError(f"{boxes}: no laboratory: {self.errors.read()[-500:]}")
        self.address = dict(SERVERS[6 if ":" in self.vars["a_ip"] else 4], h1=self.vars["a_ip"])
        if boxes not in BARE:
            self.address["h2"] = self.vars["b_ip"]
        if ":" in self.vars["a_ip"]:
            subprocess.run(["ip", "netns", "exec", self.nodes["r1"], "ip", "addr", "add", SERVERS[6]["r1b"] + "/64",
                            "dev", "eth0", "nodad"], check=True)

    def node(self, host):
        return self.nodes[{"h1": "a", "h2": "b", "r1": "r1", "r1b": "r1", "r2": "r2"}[host]]

    def close(self):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.errors.close()


class Play:
    """One script in one lab."""

    def __init__(self, lab, script):
        self.lab, self.script = lab, script
        self.sockets = {}
        self.selector = selectors.DefaultSelector()
        self.seen, self.outside, self.labels, self.last = {}, {}, {}, None
        for end in script.endpoints():
            host, port = end.split(":")
            made = socket_in(lab.node(host), lab.address[host], int(port))
            self.sockets[end] = made
            self.selector.register(made, selectors.EVENT_READ, end)

    def run(self):
        start, lines = time.monotonic(), []
        try:
            for at, sender, target, text in self.script.steps:
                time.sleep(max(0, start + at - time.monotonic()))
                lines.append(f"{text}: {self.play(sender, target, text)}")
        finally:
            for made in self.sockets.values():
                made.close()
        return lines

    def play(self, sender, target, text):
        who, _, by = target.partition("@")
        host, port = who.split(":")
        if by == "kept":
            to = (self.outside[host], int(port)) if host in self.outside else None
        else:
            to = self.seen.get((who, by)) if by else (self.lab.address[host], int(port))
        if to is None:
            return "has no address yet"
        self.sockets[sender].sendto(text.encode(), to)
        until = time.monotonic() + PATIENCE
        while (left := until - time.monotonic()) > 0:
            for key, _ in self.selector.select(left):
                data, source = key.fileobj.recvfrom(2048)
                if data == text.encode():
                    return self.describe(sender, who, key.data, source[:2])
        return "dropped"

    def describe(self, sender, who, at, source):
        words = "arrives" if at == who else f"arrives at {at}"
        host, port = sender.split(":")
        if not host.startswith("h"):
            return words
        self.seen[sender, at] = source
        within = at.startswith("h")
        if within and source[0] == self.lab.address[host]:
            return words + ", from inside"
        if not within:
            self.outside[host] = source[0]
        return f"{words}, port {self.label(sender, int(port), source[1])}"

    def label(self, sender, own, port):
        if port == own:
            return "kept"
        others = self.labels.setdefault(sender, {})
        if port not in others:
            following = self.last is not None and port == self.last + 1
            others[port] = f"new{len(others) + 1}" + (" (+1)" if following else "")
            self.last = port
        return others[port]


def one_type(natlab, boxes, scripts):
    """All scripts of one type in one lab, one after the other: {script: lines}."""
    lab = Lab(natlab, boxes)
    # Who is banned in one script would be so in the next.
    scripts = sorted(scripts, key=lambda script: script.name == "ban")
    try:
        return {script.name: Play(lab, script).run() for script in scripts}
    finally:
        lab.close()


def simulated(sim, script, boxes):
    done = subprocess.run([*sim, "conform", script.path, "--a", boxes], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{script.name}: {done.stderr.strip()}")
    return done.stdout.splitlines()[1:]


def compare(kernel, simulator):
    """The lines that differ, both versions."""
    return [f"    {ours}\n      kernel{theirs[theirs.rindex(': '):]}"
            for ours, theirs in zip(simulator, kernel) if ours != theirs]


def recorded(path):
    sections, lines = {}, []
    if os.path.exists(path):
        for line in open(path, encoding="utf-8").read().splitlines():
            if line.startswith("== "):
                lines = sections.setdefault(line[3:], [])
            else:
                lines.append(line)
    return sections


def record(script, results):
    path = script.path[:-len(".script")] + ".kernel"
    sections = {**recorded(path), **{boxes: by[script.name] for boxes, by in results.items() if script.name in by}}
    with open(path, "w", encoding="utf-8") as out:
        for boxes in script.types:
            if boxes in sections:
                out.write(f"== {boxes}\n" + "".join(line + "\n" for line in sections[boxes]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--natlab", required=True)
    parser.add_argument("--sim", default="target/release/direc-sim", help="the simulator's program")
    parser.add_argument("--types", default="", help="only these boxes")
    parser.add_argument("--scripts", default="", help="only these scripts")
    parser.add_argument("--long", action="store_true", help="those that take minutes too")
    parser.add_argument("--record", action="store_true", help="write the .kernel files")
    args = parser.parse_args()
    if not prepare("kernel_conformance"):
        return 2
    scripts = [Script(path) for path in sorted(glob.glob(os.path.join(SCRIPTS, "*.script")))]
    wanted = [name for name in args.scripts.split(",") if name]
    scripts = [script for script in scripts if script.name in wanted or not wanted and (args.long or not script.long)]
    types = list(dict.fromkeys(boxes for script in scripts for boxes in script.types))
    types = [boxes for boxes in types if not args.types or boxes in args.types.split(",")]
    # The long ones first, so that all end about together.
    types.sort(key=lambda boxes: -sum(script.steps[-1][0] for script in scripts if boxes in script.types))

    with ThreadPoolExecutor(JOBS) as pool:
        jobs = {boxes: pool.submit(one_type, args.natlab, boxes, [s for s in scripts if boxes in s.types])
                for boxes in types}
        results, broken = {}, 0
        for boxes, job in jobs.items():
            try:
                results[boxes] = job.result()
            except (RuntimeError, OSError) as error:
                broken += 1
                print(f"kernel_conformance: {boxes}: {error}", file=sys.stderr)
    packets = wrong = 0
    for script in scripts:
        if args.record:
            record(script, results)
        for boxes in (boxes for boxes in script.types if boxes in results):
            kernel = results[boxes][script.name]
            differ = compare(kernel, simulated([args.sim], script, boxes))
            packets, wrong = packets + len(kernel), wrong + len(differ)
            if differ:
                print(f"{script.name}, {boxes}:\n" + "\n".join(differ))
    print(f"kernel conformance: {len(results)} kinds of boxes, {len(scripts)} scripts, {packets} packets, {wrong} differ")
    return 1 if wrong else 2 if broken or not packets else 0


if __name__ == "__main__":
    sys.exit(main())
