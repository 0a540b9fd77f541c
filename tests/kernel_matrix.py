#!/usr/bin/env python3
"""Runs the real programs behind every pair of the laboratory's NATs, and writes a table beside the textbook's.

    tests/kernel_matrix.py --natlab PATH [--bin target/release] [--delays 0,40] [--types a,b,..] [--only 'sym x *,..']
                           [--rounds 10] [--jobs 2] [--results FILE.jsonl] [--out FILE.md]

The laboratory is not part of this repository; it is a program with the calling convention of `natlab run` (JSON lines
out) and `natlab selftest` (the textbook: what plain punching reaches) that needs root. A pair is direct if a ping of
the client's was answered on a direct path and the laboratory itself has seen a packet that came neither from the relay
nor from the host's own gateway; relayed if pings were answered within the time in which ports may be guessed (some, where
the two have no way in common), none of them directly; otherwise nothing came through. Pairs in which an early packet may do harm are run --rounds times.

Several laboratories run side by side (--jobs). Results are kept as they come, one JSON object a line: what is in
--results already is not run again.

Exit code: 0 every pair that the textbook makes is direct, in every round, and all others are connected; 1 not; 2 the
laboratory could not run.
"""

import argparse
import fnmatch
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass

from laboratory import (
    READY_HTTPS, READY_ID, READY_URL, Run, peer_command, prepare, relay_command, serve_command, write_out,
)

TYPES = (
    "none,fw4,easy,eim-eif,eim-adf,eim-apdf,eim-eif-x,eim-adf-x,eim-apdf-x,sym,sym-seq,double,double-eim,double-sym,"
    "udp-blocked,udp-443-only,short-timeout,strict,clash,easy+ban,fw6"
)
# Where the order of punches decides, one run says little.
DELICATE = {("clash", "easy"), ("easy", "clash"), ("clash", "clash"), ("easy+ban", "easy"), ("easy", "easy+ban")}
# Guessing may take 10 s (issue 4's measure); then some for the pings on their way.
INTERVAL_MS, PINGS = 100, 120
# Where the two have no way in common, there is nothing to wait for.
FEW_PINGS = 20
# As long as a peer may take to be ready.
READY_S = 12
TIMEOUT_S = 40
# Types without IPv4, and without UDP.
V6_ONLY = {"fw6"}
NO_UDP_TYPES = {"udp-blocked", "udp-443-only"}
# The textbook's words.
MAKES, NO_UDP, NO_FAMILY = "ok", "no-udp", "na"


@dataclass(frozen=True)
class Pair:
    """One run to be made."""
    a: str
    b: str
    delay: int
    round: int

    def __str__(self):
        times = f", round {self.round + 1}" if self.round else ""
        return f"D={self.delay:3} ms  {self.a:>13} x {self.b:<13}{times}"


def is_apart(pair):
    """Whether the two have no way in common but through a relay."""
    sides = {pair.a, pair.b}
    return bool(sides & NO_UDP_TYPES) or len({side in V6_ONLY for side in sides}) > 1


def relay(binaries, pair):
    """A relay that both can reach, on the families that they have, and how its URL is read."""
    families = {side in V6_ONLY for side in (pair.a, pair.b)}
    if families == {False}:
        line = relay_command(binaries)
    elif families == {True}:
        line = relay_command(binaries, public="{relay_ip6}", listen="[{relay_ip6}]:4433")
    else:
        line = relay_command(binaries, public="{relay_host}", listen="[::]:4433")
    return (f"{line} --https 443", READY_HTTPS) if {pair.a, pair.b} & NO_UDP_TYPES else (line, READY_URL)


def command(natlab, binaries, pair):
    count = FEW_PINGS if is_apart(pair) else PINGS
    ping = peer_command(binaries, "a", f"ping {{peer}} --count {count} --interval {INTERVAL_MS}")
    relay_line, ready = relay(binaries, pair)
    return [
        natlab, "run", "--a", pair.a, "--b", pair.b, "--delay-ms", str(pair.delay),
        "--relay-cmd", relay_line, "--relay-ready", ready,
        "--server-cmd", serve_command(binaries), "--capture", READY_ID, "--ready-timeout", str(READY_S),
        "--client-cmd", ping, "--timeout", str(TIMEOUT_S), "--until", '"event":"ping".*"path":"direct"',
    ]


def run(natlab, binaries, pair):
    """What came of a pair, as it is kept."""
    began = time.monotonic()
    try:
        done = Run(command(natlab, binaries, pair), timeout=2 * TIMEOUT_S)
    except (subprocess.TimeoutExpired, OSError) as error:
        return {**asdict(pair), "outcome": "nothing", "why": str(error)[:300]}
    said = [line for _, line in done.said("client")]
    pings = [line for line in said if line.get("event") == "ping"]
    moved = next((line for line in said if line.get("event") == "path" and line.get("path") == "direct"), {})
    straight, seen = any(ping["path"] == "direct" for ping in pings), bool(done.lab("direct-packet"))
    if straight != seen and straight:
        outcome, why = "nothing", "the client says direct, and the laboratory saw no direct packet"
    elif straight:
        outcome, why = "direct", None
    elif pings:
        outcome, why = "relayed", None
    else:
        outcome, why = "nothing", (done.errors.strip().splitlines() or [f"exit {done.exit}"])[-1][:300]
    return {**asdict(pair), "outcome": outcome, "direct_ms": moved.get("ms"), "why": why,
            "took_s": round(time.monotonic() - began, 1)}


class Results:
    """What has been run, in memory and in a file."""

    def __init__(self, path):
        self.path, self.lock, self.runs, self.textbook = path, threading.Lock(), {}, None
        if path and os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                for line in file:
                    try:
                        self.take(json.loads(line))
                    except ValueError:
                        pass  # It was ended while it wrote.

    def take(self, entry):
        if "textbook" in entry:
            self.textbook = entry["textbook"]
        else:
            self.runs[Pair(entry["a"], entry["b"], entry["delay"], entry["round"])] = entry

    def add(self, entry):
        with self.lock:
            self.take(entry)
            if self.path:
                with open(self.path, "a", encoding="utf-8") as file:
                    file.write(json.dumps(entry) + "\n")

    def of(self, a, b, delay):
        return [entry for pair, entry in self.runs.items() if (pair.a, pair.b, pair.delay) == (a, b, delay)]

    def expected(self, a, b):
        return (self.textbook or {}).get(a, {}).get(b)


def textbook(natlab):
    """What plain punching reaches in the laboratory: its own measurement, which takes a minute."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        subprocess.run([natlab, "selftest", "--json", out.name], stdout=subprocess.DEVNULL, check=True, timeout=600)
        return json.load(out)["matrix"]


def wanted(options, types):
    """All runs that are asked for, the single ones first: a table is soon whole."""
    patterns = [pattern.strip() for pattern in options.only.split(",")]
    for number in range(options.rounds):
        for delay in options.delays:
            for a in types:
                for b in types:
                    often = (a, b) in DELICATE
                    if (often or number == 0) and any(fnmatch.fnmatchcase(f"{a} x {b}", p) for p in patterns):
                        yield Pair(a, b, delay, number)


# ---------------------------------------------------------------- tables

def cell(results, a, b, delay):
    """What stands in a table's cell."""
    runs = results.of(a, b, delay)
    if not runs:
        return ""
    expected, direct = results.expected(a, b), [entry for entry in runs if entry["outcome"] == "direct"]
    if len(direct) == len(runs):
        worst = max(entry["direct_ms"] or 0 for entry in runs)
        text = f"{worst:.0f}" + ("" if expected in (MAKES, None) else " +")
    elif direct:
        text = f"{len(direct)} of {len(runs)}"
    elif all(entry["outcome"] == "relayed" for entry in runs):
        text = "relay"
    else:
        text = "none"
    return f"**{text}**" if expected == MAKES and len(direct) < len(runs) else text


def table(results, types, delay):
    rows = [f"| D = {delay} ms | " + " | ".join(types) + " |", "|---" * (len(types) + 1) + "|"]
    rows += [f"| {a} | " + " | ".join(cell(results, a, b, delay) for b in types) + " |" for a in types]
    return "\n".join(rows)


def counts(results, types, delay):
    """How the pairs of one delay came out, against the textbook."""
    tally = {}
    for a in types:
        for b in types:
            runs = results.of(a, b, delay)
            if not runs:
                continue
            outcomes = {entry["outcome"] for entry in runs}
            outcome = outcomes.pop() if len(outcomes) == 1 else "mixed"
            key = results.expected(a, b), outcome
            tally[key] = tally.get(key, 0) + 1
    def number(outcome, *expected):
        return sum(n for (e, o), n in tally.items() if (not expected or e in expected) and outcome in (o, "any"))
    udp = [key for key in {e for e, _ in tally} if key not in (NO_UDP, NO_FAMILY)]
    beyond = number("direct") - number("direct", MAKES)
    return (
        f"{sum(tally.values())} pairs. With UDP on one family: {number('direct', *udp)} direct of {number('any', *udp)}; "
        f"of the {number('any', MAKES)} that plain punching makes {number('direct', MAKES)}, and {beyond} besides. "
        f"Relayed: {number('relayed')}, {number('relayed', NO_UDP)} of them for want of UDP and "
        f"{number('relayed', NO_FAMILY)} of a common family. Sometimes direct: {number('mixed')}. "
        f"Nothing came through: {number('nothing')}."
    )


def repeated(results, delay):
    lines = []
    for a, b in sorted(DELICATE):
        runs = results.of(a, b, delay)
        if runs:
            direct = sum(entry["outcome"] == "direct" for entry in runs)
            lines.append(f"{a} × {b}: {direct} of {len(runs)} direct.")
    return " ".join(lines)


def report(results, types, delays):
    head = (
        "# The real programs behind every pair of kernel NATs\n\n"
        "Written by `sudo tests/kernel_matrix.py --natlab PATH --out FILE`; what the types stand for, the laboratory's "
        "documentation says. The textbook is the laboratory's own measurement of plain punching, row first, column 50 ms "
        "later.\n\n"
        "Milliseconds from connect to data on the direct path (the slowest of several rounds), client down, server "
        "across. `+`: plain punching does not make it. **Bold**: it does, and here it failed. `none`: nothing came "
        "through.\n"
    )
    parts = [head]
    for delay in delays:
        rounds = repeated(results, delay)
        parts += [table(results, types, delay), "", counts(results, types, delay), *([rounds] if rounds else []), ""]
    return "\n".join(parts)


def failed(results):
    """Runs that plain punching would have made, and those in which nothing came through at all."""
    return [p for p, entry in results.runs.items() if entry["outcome"] == "nothing"
            or results.expected(p.a, p.b) == MAKES and entry["outcome"] != "direct"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--natlab", required=True)
    parser.add_argument("--bin", default="target/release")
    parser.add_argument("--types", default=TYPES)
    parser.add_argument("--only", default="*", metavar="'A x B,..'", help="pairs, with * and ?")
    parser.add_argument("--delays", default="0,40")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--results", metavar="FILE.jsonl")
    parser.add_argument("--out", metavar="FILE.md")
    options = parser.parse_args()
    options.delays = [int(delay) for delay in options.delays.split(",")]
    if not prepare("kernel_matrix"):
        return 2
    binaries, types, results = os.path.abspath(options.bin), options.types.split(","), Results(options.results)
    if results.textbook is None:
        print("the textbook's matrix, measured by the laboratory: a minute", flush=True)
        results.add({"textbook": textbook(options.natlab)})
    todo = [pair for pair in wanted(options, types) if pair not in results.runs]
    begun = time.monotonic()

    def one(pair):
        result = run(options.natlab, binaries, pair)
        # Something must come through: where nothing did, the machine may have been busy.
        if result["outcome"] == "nothing":
            result = run(options.natlab, binaries, pair)
        results.add(result)
        return result

    with ThreadPoolExecutor(options.jobs) as pool:
        runs = {pool.submit(one, pair): pair for pair in todo}
        try:
            for number, future in enumerate(as_completed(runs), 1):
                result = future.result()
                took = f"{result['direct_ms']:.0f} ms" if result.get("direct_ms") else result.get("why") or ""
                left = (time.monotonic() - begun) / number * (len(todo) - number) / 60
                print(f"{runs[future]}  {result['outcome']} {took}  [{number} of {len(todo)}, {left:.0f} min left]",
                      flush=True)
        finally:
            pool.shutdown(cancel_futures=True)
    text = report(results, types, options.delays)
    print(text)
    write_out(options.out, text)
    bad = failed(results)
    for pair in bad:
        print(f"{results.runs[pair]['outcome'].upper()}: {pair}")
    print(f"{len(results.runs) - len(bad)} passed, {len(bad)} failed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
