#!/usr/bin/env python3
"""Transfers in both directions at once while paths change and relays are killed: nothing that was sent may be lost.

    cargo build --release --bin relay --bin peer --example soak
    python3 tests/soak.py --programs target/release                          # 1,000 transfers of 1 GiB each way
    python3 tests/soak.py --programs target/release --seconds 60 --bytes 64M # a minute of it
    sudo python3 tests/soak.py --natlab PATH --hours 8                       # behind NATs, and over bad links, too

Each transfer draws what it does from the seed and its own number:

    soak   `examples/soak`: several streams, small writes and patterns of writes, readers that stop; hashes at both ends
    pipe   a pipe through `peer connect` and `peer serve --echo`, written and read by fits and starts
    lab    `examples/soak` between two hosts of the laboratory of network namespaces (--natlab, root): real NATs, delay,
           loss, reordering, addresses that change

Meanwhile something breaks and is mended every other second: relays are killed and started again, processes stopped, the
direct path blocked, packets lost. Without root it runs in a user namespace, where the system allows that; what it could
not do is said at the start and at the end.

A transfer fails if a byte is missing or wrong, if its connection ends, or if nothing moves for --patience seconds. Its
line has the command that repeats it. What the programs said goes to --keep, or the last of it to standard error.

Exit code: 0 all transfers passed; 1 not; 2 nothing could be run.
"""

import argparse
import hashlib
import os
import random
import re
import select
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from laboratory import READY_ID, READY_URL, Run, clean_up_on_signals, relay_command
from relay_bulk import count
from soak_places import (
    END, FAULTS, START, Breaker, Failed, House, LabPlan, Packets, enter_namespace, is_root, moves
)

TRANSFERS = 1000
# Of the laboratory's faults, those that break something: the others mend it.
BREAKING = {fault for fault, _, _ in FAULTS}
# How often each kind is drawn.
KINDS = {"soak": 3, "pipe": 2, "lab": 2}
# No transfer takes longer than this and a second for so many bytes each way: it would not be stuck, but of no use.
LONGEST = 600
SLOWEST = 1 << 20
# Content repeats after this many bytes, a prime.
PERIOD = 1_048_573
# A reader reads so often in the same way, at most.
READS = 1000
# Lines of a failed transfer that are shown.
TOLD = 60
# A connection that ended explains itself within this time.
EXPLAINED = 1


@dataclass
class Plan:
    """What a transfer is like."""

    number: int
    seed: int
    kind: str
    path: str
    relays: int
    bytes: int

    @classmethod
    def draw(cls, options, number):
        rng = random.Random(f"{options.seed}/{number}")
        kinds = [kind for kind in KINDS if kind in options.kinds]
        return cls(number, rng.getrandbits(48), rng.choices(kinds, [KINDS[kind] for kind in kinds])[0],
                   rng.choice(["auto", "auto", "relay"]), rng.choice([1, 1, 2]), options.bytes)

    def rng(self, purpose):
        return random.Random(f"{self.seed}/{purpose}")

    @property
    def limit(self):
        return LONGEST + self.bytes / SLOWEST


@dataclass
class Result:
    """What came of a transfer."""

    plan: Plan
    bytes: int = 0
    moves: int = 0
    kills: int = 0
    troubles: int = 0
    seconds: float = 0
    why: str = None
    about: str = ""
    story: str = ""

    def text(self):
        verdict = "ok  " if self.why is None else "FAIL"
        return (f"{verdict} {self.plan.number:5} {self.plan.kind} {self.plan.path:5} {self.about:24} "
                f"{self.bytes / 1e6:8.1f} MB {self.seconds:6.1f} s  {self.moves:3} moves, {self.kills} kills, "
                f"{self.troubles} troubles" + (f"\n     {self.why}" if self.why else ""))


# ---------------------------------------------------------------- over loopback

def soak(house, options, result):
    """A transfer by examples/soak. The client's word is enough: the server sends its hash of a stream only once all of its
    own checks have passed. Whether the server learns that the connection was closed is left to the troubles."""
    plan = result.plan
    action = ["transfer", house.id, "--seed", plan.seed, "--bytes", plan.bytes, "--path", plan.path,
              "--patience", options.patience]
    client = house.open("client", house.peer("client", action))
    with Broken(house, client, result):
        if not client.said('"event":"summary"', plan.limit):
            raise Failed(f"no summary (exit {client.process.poll()}, limit {plan.limit:.0f} s)")
    summary = client.events("summary")[0]
    result.bytes, result.moves = summary["bytes"], client.moves()
    if summary["why"] is not None:
        raise Failed(summary["why"])


class Broken:
    """While this lasts, something breaks every other second."""

    def __init__(self, house, client, result):
        self.house, self.result = house, result
        self.breaker = Breaker(result.plan.rng("troubles"), house.troubles(client), client)

    def __enter__(self):
        self.breaker.start()

    def __exit__(self, kind, *_):
        try:
            self.breaker.end()
        except Failed:
            # What failed first counts.
            if kind is None:
                raise
        finally:
            self.result.troubles, self.result.kills = len(self.breaker.told) // 2, self.house.kills
            self.house.told = self.breaker.told


class Feed(threading.Thread):
    """Writes to the client's standard input by fits and starts, and closes it."""

    def __init__(self, rng, total, sink):
        super().__init__(daemon=True)
        self.rng, self.left, self.sink = rng, total, sink
        self.content, self.hash, self.sent = memoryview(rng.randbytes(PERIOD) * 2), hashlib.sha256(), 0

    def run(self):
        try:
            while self.left:
                self.go_on()
            self.sink.close()
        except (BrokenPipeError, ValueError):
            # The client has ended; why, it says itself.
            pass

    def go_on(self):
        manner = self.rng.randrange(6)
        if manner == 0:
            time.sleep(self.rng.uniform(0, 0.3))
        elif manner == 1:
            for _ in range(self.rng.randint(1, 3000)):
                self.write(self.rng.randint(1, 1500))
        else:
            size = 1 << self.rng.randint(12, 20)
            for _ in range(self.rng.randint(1, max(1, self.left // size // 4))):
                self.write(size)

    def write(self, size):
        size, start = min(size, self.left), self.sent % PERIOD
        piece = self.content[start:start + size]
        self.hash.update(piece)
        self.sink.write(piece)
        self.sink.flush()
        self.left -= size
        self.sent += size


class Drain:
    """Reads the client's standard output by fits and starts."""

    def __init__(self, rng, source, feed, options, limit):
        self.rng, self.source, self.feed, self.patience = rng, source, feed, options.patience
        self.until = time.monotonic() + limit
        self.hash, self.received, self.moved, self.since = hashlib.sha256(), 0, 0, time.monotonic()

    def all(self):
        """Until the end of the client's output."""
        while True:
            if self.rng.random() < 0.3:
                time.sleep(self.rng.uniform(0, 1))
            size = 1 << self.rng.randint(6, 20)
            much = size * self.rng.randint(1, READS)
            while much > 0:
                data = self.some(size)
                if not data:
                    return
                much -= len(data)

    def some(self, size):
        while not select.select([self.source], [], [], 1)[0]:
            self.check()
        data = os.read(self.source.fileno(), size)
        self.hash.update(data)
        self.received += len(data)
        self.check()
        return data

    def check(self):
        now, moved = time.monotonic(), self.received + self.feed.sent
        if moved != self.moved:
            self.moved, self.since = moved, now
        if now - self.since > self.patience:
            raise Failed(f"stuck: no byte has moved for {self.patience} s; {self.feed.sent} sent, {self.received} back")
        if now > self.until:
            raise Failed(f"too slow: {self.feed.sent} bytes sent, {self.received} back")


def pipe(house, options, result):
    """A pipe through `peer connect` and back."""
    plan = result.plan
    client = house.open("client", house.peer("client", ["--path", plan.path, "connect", house.id]), pipe=True)
    feed = Feed(plan.rng("feed"), plan.bytes, client.process.stdin)
    drain = Drain(plan.rng("drain"), client.process.stdout, feed, options, plan.limit)
    feed.start()
    try:
        with Broken(house, client, result):
            drain.all()
        try:
            code = client.process.wait(START)
        except subprocess.TimeoutExpired:
            raise Failed(f"all {drain.received} bytes came back, but the client does not end") from None
    finally:
        client.end()
        feed.join(END)
        result.bytes, result.moves = feed.sent + drain.received, house.server.moves()
    if code != 0 or feed.left or drain.received != plan.bytes:
        why = client.said("^peer: ", EXPLAINED)
        raise Failed(f"exit code {code} after {feed.sent} bytes sent and {drain.received} back: {why}")
    if drain.hash.digest() != feed.hash.digest():
        raise Failed("the SHA-256 of what came back is not that of what was sent")


def over_loopback(options, packets, result, transfer):
    plan = result.plan
    result.about = f"loopback, {plan.relays} relay{'s' * (plan.relays > 1)}"
    with tempfile.TemporaryDirectory(prefix="direc-soak-") as folder:
        house = House(options.programs, Path(folder), plan, packets)
        try:
            transfer(house, options, result)
        except Failed:
            result.story = story(house)
            raise
        finally:
            house.close()


def story(house):
    """What happened and what the programs said, in order."""
    told = [(at, f"*** {what}") for at, what in getattr(house, "told", [])]
    told += [(at, f"{program.name}: {line}") for program in house.all for at, line in program.lines]
    told.sort()
    return "".join(f"{at - told[0][0]:9.3f} s  {text}\n" for at, text in told)


# ---------------------------------------------------------------- in the laboratory

def in_laboratory(options, result):
    plan = result.plan
    lab = LabPlan.draw(plan.rng("lab"), plan.bytes)
    result.about = f"{lab.types[0]} x {lab.types[1]}, {lab.links}"
    command = lab.command(options.natlab, options.programs, relay_command(shlex.quote(str(options.programs))), plan,
                          options.patience, (READY_URL, READY_ID))
    try:
        run = Run(command, plan.limit + 2 * START)
    except subprocess.TimeoutExpired:
        raise Failed(f"the laboratory did not come to an end within {plan.limit + 2 * START:.0f} s") from None
    made = [line["fault"] for line in run.lab("fault")]
    result.kills, result.troubles = made.count("relay-kill"), sum(fault in BREAKING for fault in made)
    result.moves = moves([line for _, line in run.said("client") if line.get("event") == "path"])
    result.story = "".join(f"{line}\n" for line in run.output.splitlines()) + run.errors
    result.bytes = run.summary["bytes"] if run.summary else 0
    if run.leftovers:
        raise Failed(f"left behind: {', '.join(run.leftovers)}")
    for line in run.lab("not-ready"):
        raise Failed(f"the {line['proc']} did not come up")
    for line in run.lab("fault-failed"):
        raise Failed(f"{line['fault']} failed: {line['error']}")
    if run.summary is None:
        raise Failed(f"no summary, exit {run.exit}")
    if run.summary["why"] is not None or run.exit != 0:
        raise Failed(run.summary["why"] or f"exit {run.exit}")


# ---------------------------------------------------------------- the run

class Soak:
    """All transfers, and what they add up to."""

    def __init__(self, options, packets):
        self.options, self.packets, self.began, self.results = options, packets, time.monotonic(), []
        self.until = self.began + options.seconds if options.seconds else float("inf")

    def all(self):
        number = self.options.first
        last = number + self.options.transfers if self.options.transfers else float("inf")
        while number < last and time.monotonic() < self.until:
            self.one(Plan.draw(self.options, number))
            number += 1

    def one(self, plan):
        began, result = time.monotonic(), Result(plan)
        try:
            if plan.kind == "lab":
                in_laboratory(self.options, result)
            else:
                over_loopback(self.options, self.packets, result, soak if plan.kind == "soak" else pipe)
        except Failed as failure:
            result.why = str(failure)
        result.seconds = time.monotonic() - began
        self.results.append(result)
        print(result.text(), flush=True)
        if result.why is not None:
            self.tell(result)

    def tell(self, result):
        print(f"     again: {self.options.again} --first {result.plan.number} --transfers 1", flush=True)
        if self.options.keep:
            name = Path(self.options.keep) / f"{self.options.seed}-{result.plan.number}.txt"
            name.write_text(result.story, encoding="utf-8")
            print(f"     what the programs said: {name}", flush=True)
        else:
            print("\n".join(result.story.splitlines()[-TOLD:]), file=sys.stderr, flush=True)

    def summary(self):
        results = self.results
        failed = [result for result in results if result.why is not None]
        kinds = ", ".join(f"{sum(r.plan.kind == kind for r in results)} {kind}" for kind in KINDS)
        print(f"\n{len(results)} transfers ({kinds}) in {time.monotonic() - self.began:.0f} s: "
              f"{sum(r.bytes for r in results) / 1e9:.2f} GB, {sum(r.moves for r in results)} path changes, "
              f"{sum(r.kills for r in results)} relay kills, {sum(r.troubles for r in results)} troubles in all, "
              f"{len(failed)} failures (seed {self.options.seed})")
        return len(failed)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=Path, default=Path("target/release"),
                        help="where relay, peer and examples/soak are")
    parser.add_argument("--seconds", type=float, help="no transfer begins after so long")
    parser.add_argument("--hours", type=float, help="the same in hours")
    parser.add_argument("--transfers", type=int, help=f"how many ({TRANSFERS} unless a time is given)")
    parser.add_argument("--bytes", type=count, default="1G", help="each way; may end in K, M or G (powers of 1,024)")
    parser.add_argument("--seed", type=int, help="what decides everything (default: another one each time)")
    parser.add_argument("--first", type=int, default=1, help="the first transfer's number")
    parser.add_argument("--kinds", help="soak,pipe,lab (default: all that can be run)")
    parser.add_argument("--patience", type=int, default=60, help="seconds in which some byte must move (60)")
    parser.add_argument("--natlab", help="the laboratory's program")
    parser.add_argument("--keep", metavar="DIR", help="what the programs of failed transfers said goes there")
    parser.add_argument("--plain", action="store_true", help="no namespace: as where nobody may make one")
    options = parser.parse_args()
    if options.hours:
        options.seconds = options.hours * 3600
    if not options.transfers and not options.seconds:
        options.transfers = TRANSFERS
    options.programs = options.programs.absolute()
    if options.seed is None:
        # Kept when the namespace is entered.
        options.seed = int(os.environ.setdefault("DIREC_SOAK_SEED", str(random.randrange(1 << 32))))
    options.again = " ".join(shlex.quote(word) for word in again(options))
    return parser, options


def again(options):
    words = [sys.argv[0], "--programs", str(options.programs), "--seed", str(options.seed),
             "--bytes", str(options.bytes)]
    for name in ("natlab", "kinds"):
        if getattr(options, name):
            words += [f"--{name}", getattr(options, name)]
    return words + (["--plain"] if options.plain else [])


def kinds(parser, options, missing):
    """What can be run of what is wanted."""
    wanted = options.kinds.split(",") if options.kinds else list(KINDS)
    unknown = [kind for kind in wanted if kind not in KINDS]
    if unknown:
        parser.error(f"--kinds {','.join(unknown)}: there are {', '.join(KINDS)}")
    if "lab" in wanted and not (options.natlab and is_root()):
        missing.append("behind NATs, with reordering and new addresses: " +
                       ("needs root" if options.natlab else "no laboratory (--natlab)"))
        wanted.remove("lab")
    return wanted


def main():
    parser, options = parse()
    lacking = [name for name in ("relay", "peer", "examples/soak") if not (options.programs / name).is_file()]
    if lacking:
        print(f"soak: {options.programs} has no {', '.join(lacking)}: cargo build --release --bin relay --bin peer "
              "--example soak, or --programs DIR", file=sys.stderr)
        return 2
    packets = Packets(namespace=not options.plain and enter_namespace())
    missing = packets.missing
    options.kinds = kinds(parser, options, missing)
    if not options.kinds:
        return 2
    clean_up_on_signals()
    if options.keep:
        os.makedirs(options.keep, exist_ok=True)
    for what in missing:
        print(f"NOT DONE: {what}", flush=True)
    print(f"seed {options.seed}, {options.bytes} bytes each way", flush=True)
    run = Soak(options, packets)
    try:
        run.all()
    finally:
        failures = run.summary()
        for what in missing:
            print(f"NOT DONE: {what}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
