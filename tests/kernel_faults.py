#!/usr/bin/env python3
"""Runs the real programs through faults in a laboratory of network namespaces, and writes a table of the stalls.

    tests/kernel_faults.py --natlab PATH [--bin target/release] [--quick] [--cases a,b,..] [--directions up,down]
                           [--delays 20,40] [--loss 0,1] [--rate-mbit R] [--repeat N] [--out FILE] [--keep DIR]
                           [--story]

The laboratory is not part of this repository; it is a program with the calling convention of `natlab run` that needs
root. While `peer bench` sends at a steady rate, something breaks. A run passes if the longest time in which the
receiving application got nothing stays within the case's bound; beside it stands what a watcher in the receiver's
namespace saw of the packets (tests/watch.py). A run that fails is tried once more, and the second try counts: the
machine may have been busy. What happened in a run that failed is told in time, from the first fault on.

Cases that need two relays (marked 2) run only if they are named, or with `--cases all`.

Exit code: 0 all stalls within their bounds; 1 not; 2 the laboratory could not run.
"""

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from typing import Callable

from laboratory import READY_ID, READY_URL, Run, peer_command, prepare, relay_command, serve_command, write_out

RATE_MBIT = 30
# What QUIC's loss-based controller carries through the relay at the longest round trip; more would pile up in the
# sender, and the stalls would tell of that and not of the fault.
RATE_MBIT_WITH_LOSS = 0.5
SAMPLE = 0.1
# Seconds from when the connection is where it should be until the first fault: enough for the rate to be reached.
CALM = 4
# More than a sample holds of probes and checks.
DATA_IN_SAMPLE = 4000
CUES = {"auto": r'"event":"path".*"path":"direct"', "relay": r'"event":"first_byte"'}
RELAY_2_READY = (r'"url":\s*"(?:(?P<url>direc://203\.0\.113\.10:[^"]+)|(?P<url2>direc://203\.0\.113\.20:[^"]+))"')
# As many gaps between data packets as a story tells, the longest ones.
STORY_GAPS = 12
# Said in JSON, too.
KNOWN = re.compile(r"(\w+: )?(now (direct|relay)|connected (by|to)|closed by)").match
WATCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "watch.py")
A_TO_B = "ip saddr 198.51.100.8/29 ip daddr 198.51.100.16/29"
B_TO_A = "ip saddr 198.51.100.16/29 ip daddr 198.51.100.8/29"


class Unusable(Exception):
    """The run does not say what it was to say."""


# ---------------------------------------------------------------- what a run says

class Faulted(Run):
    """A run with faults, its lines in the laboratory's time."""

    def __init__(self, command, case, direction, timeout):
        super().__init__(command, timeout)
        self.case, self.direction = case, direction
        self.receiver = "server" if direction == "up" else "client"
        watched = [(t, line["at"]) for who in ("client", "server") for t, line in self.said(who)
                   if line.get("watch") in ("start", "data")]
        # Lines take a moment to get here; the fastest one tells the difference of the clocks.
        self.skew = min((t - at for t, at in watched), default=0)

    def watched(self, who, what):
        """What the watcher beside `who` saw."""
        lines = [line for _, line in self.said(who) if line.get("watch") == what]
        return [{k: v + self.skew if k in ("at", "from", "to", "since", "lost", "back") else v for k, v in line.items()}
                for line in lines]

    def paths(self, who):
        """When the connection took which path, as that side says."""
        lines = [(t, line) for t, line in self.said(who) if line.get("event") == "path"]
        start = min((t - line["ms"] / 1000 for t, line in lines), default=0)
        return [(start + line["ms"] / 1000, line["path"], line["addr"]) for _, line in lines]

    @property
    def cue(self):
        """From when fault times count. The laboratory looks at the lines as they come; so do we."""
        for line in self.lines:
            if line.get("who") == "client" and re.search(CUES[self.case.path], line.get("out", "")):
                return line["t"]
        raise Unusable("never direct" if self.case.path == "auto" else "never connected")

    def began(self, fault):
        """When this fault was about to be made."""
        return self.cue + next(at for at, name in self.case.faults if name == fault)

    def done(self, fault):
        """When it was made. The laboratory says so once it is."""
        name = fault.split(":", 1)[0]
        event = next((line for line in self.lab("fault") if line["fault"] == name), None)
        if event is None:
            raise Unusable(f"{name} was not made")
        return event["t"]

    def stall(self):
        """The receiving application's longest stall, in seconds."""
        if self.exit != 0 or self.summary is None or self.summary.get("longest_stall_ms") is None:
            raise Unusable(self.why_failed())
        return self.summary["longest_stall_ms"] / 1000

    def why_failed(self):
        for line in self.lab("not-ready"):
            return f"the {line['proc']} did not come up"
        if self.lab("timeout"):
            return "the client did not come to an end"
        said = [line.get("what") or line.get("reason") for _, line in self.said("client")
                if line.get("event") in ("error", "closed")]
        return next((f"client: {line}" for line in reversed(said) if line), f"no summary, exit {self.exit}")

    @property
    def gaps(self):
        """Times without data packets at the receiver while the connection stood. Short ones are not told."""
        over = min((t for t, line in self.said("client") if line.get("event") in ("error", "closed")),
                   default=float("inf"))
        return [gap for gap in self.watched(self.receiver, "gap") if gap["to"] < over]

    def seen_gap(self):
        """The longest of them, once the rate is reached."""
        start = self.cue + CALM - 0.5
        gaps = [gap["to"] - gap["from"] for gap in self.gaps if gap["to"] > start]
        # Where the program did not come to its end, the last silence is not the one after its work.
        endless = self.watched(self.receiver, "silent") if self.lab("timeout") else []
        return max(gaps + [silence["at"] - silence["since"] for silence in endless], default=0)

    def gap_after(self, start):
        """The longest of them that began after `start` and ended."""
        return max((gap["to"] - gap["from"] for gap in self.gaps if gap["from"] > start), default=0)

    def source_before(self, at):
        """Where most of the data came from just before then."""
        counts = [line["packets"] for line in self.watched(self.receiver, "sources") if line["at"] < at]
        return max(counts[-1], key=counts[-1].get) if counts else "nowhere"

    def direct_samples(self):
        """(when, bytes between the sites since the sample before) in the data's direction, as the laboratory counts."""
        sender, receiver = ("a", "b") if self.direction == "up" else ("b", "a")
        for line in self.lab("sample"):
            # Sites are a, b and, where a host roams to, a2, b2.
            yield line["t"], sum(size for name, size in line["bytes"].items()
                                 if re.fullmatch(f"{sender}2?_{receiver}2?", name))

    def story(self):
        """What happened, in milliseconds from the first fault on."""
        start = self.began(self.case.faults[0][1]) if self.case.faults else 0
        told = [(self.began(fault), f"fault: {fault[:60]}") for _, fault in self.case.faults]
        told += [(line["t"], f"fault made: {line['fault']}") for line in self.lab("fault")]
        told += [(line["t"], f"FAULT FAILED: {line['error']}") for line in self.lab("fault-failed")]
        for who in ("client", "server"):
            told += [(at, f"{who}: now {path} {addr}") for at, path, addr in self.paths(who)]
            told += [(t, f"{who}: {line['event']}: {line.get('what') or line.get('reason') or line.get('why')}")
                     for t, line in self.said(who)
                     if line.get("event") in ("error", "closed") or "relay" in str(line.get("event"))]
            for gap in self.watched(who, "net"):
                told += [(gap["lost"], f"{who}'s host: no network"), (gap["back"], f"{who}'s host: network again")]
        # On a bad line there are many.
        longest = sorted(self.gaps, key=lambda gap: gap["to"] - gap["from"])[-STORY_GAPS:]
        for gap in longest:
            told.append((gap["from"], f"{self.receiver}'s host: last data, by {gap['before']}"))
            silent = 1000 * (gap["to"] - gap["from"])
            told.append((gap["to"], f"{self.receiver}'s host: data by {gap['after']} after {silent:.0f} ms"))
        for line in self.watched(self.receiver, "data"):
            if line["silent"] is None:
                told.append((line["at"], f"{self.receiver}'s host: first data by {line['src']}"))
        for line in self.lines:
            if line.get("who") in ("client", "server", "relay", "relay2") and "err" in line and not KNOWN(line["err"]):
                told.append((line["t"], f"{line['who']} says: {line['err']}"))
            if line.get("who") in ("relay", "relay2") and (line.get("json") or {}).get("event") == "ready":
                told.append((line["t"], f"{line['who']}: ready"))
        seen = set()
        for at, text in sorted(told):
            if at >= start - 0.3 and (round(at, 3), text) not in seen:
                seen.add((round(at, 3), text))
                yield f"    {1000 * (at - start):+9.0f} ms  {text}"


# ---------------------------------------------------------------- how the stall is computed

def whole(run):
    """All of the longest stall."""
    return run.stall()


def after(end):
    """The longest stall, less the time until the network could be used again; or what came after that, if longer."""
    def measure(run):
        back = end(run)
        return max(run.stall() - max(0, back - run.began(run.case.faults[0][1])), run.gap_after(back))
    return measure


def network_back(who):
    """When that host could be reached again, by its pings; if none was lost, when the fault was made."""
    def end(run):
        fault = run.case.faults[0][1]
        gaps = [gap for gap in run.watched(who, "net") if gap["back"] > run.began(fault)]
        return max((gap["back"] for gap in gaps), default=run.done(fault))
    return end


def relay_ready(run):
    """When the relay that was started again said that it is there."""
    ready = [t for t, line in run.said("relay") if line.get("event") == "ready"]
    if len(ready) < 2:
        raise Unusable("the relay did not come back")
    return ready[-1]


def made(fault):
    return lambda run: run.done(fault)


def direct_again(run):
    """From unblocking until the client says that it is direct and data has come directly."""
    start = run.done("unblock-direct")
    said = [at for at, path, _ in run.paths("client") if path == "direct" and at > start]
    relayed = [at for at, path, _ in run.paths("client") if path == "relay" and at < start]
    came = [line["at"] for line in run.watched(run.receiver, "data")
            if line["src"].startswith("direct") and line["at"] > start]
    sampled = [t for t, size in run.direct_samples() if size > DATA_IN_SAMPLE and t > start]
    if not relayed:
        raise Unusable("never fell back to the relay")
    if not said or not came or not sampled:
        raise Unusable("never direct again")
    # A sample ends up to a period after the data it counts.
    return max(said[0], came[0], sampled[0] - SAMPLE) - start


# ---------------------------------------------------------------- the cases

@dataclass
class Case:
    name: str
    what: str
    bound: int
    faults: list
    measure: Callable = whole
    a: str = "easy"
    b: str = "easy"
    path: str = "auto"
    seconds: int = 12
    relays: int = 1
    # Milliseconds are counted above the longest stall of a run in which nothing breaks.
    above_calm: bool = False
    # Of a quick selection, in these directions.
    quick: tuple = ()


CALM_CASE = Case("calm", "nothing breaks", 0, [], seconds=10)


def hit_relay_in_use(folder, signal):
    """Of two relays the one in use is that whose link has carried more."""
    used = """awk '{sub(":", " ")} /to-r[12] / && $2 > most {most = $2; used = $1} END {print used}' /proc/net/dev"""
    return f"exec-inet:kill -{signal} $(cat {folder}/$({used}).pid)"


def cases(folder):
    one_way = "exec-inet:nft add rule inet lab direct {} drop"
    return [
        Case("block", "direct path blocked both ways", 600, [(CALM, "block-direct")], quick=("up", "down")),
        Case("block-ab", "direct path blocked from client to server", 600, [(CALM, one_way.format(A_TO_B))]),
        Case("block-ba", "direct path blocked from server to client", 600, [(CALM, one_way.format(B_TO_A))]),
        Case("newip-a", "client's NAT changes its address", 600, [(CALM, "newip-a")], quick=("up",)),
        Case("newip-b", "server's NAT changes its address", 600, [(CALM, "newip-b")], quick=("up",)),
        Case("flush-a", "client's endpoint-dependent NAT forgets", 600, [(CALM, "flush-a")], a="sym", b="eim-adf",
             quick=("up",)),
        Case("roam-a", "client roams, from when it has network", 500, [(CALM, "roam-a")], after(network_back("client")),
             quick=("up",)),
        Case("roam-b", "server roams, from when it has network", 500, [(CALM, "roam-b")],
             after(network_back("server"))),
        Case("roam-both", "both roam at once", 2000, [(CALM, "roam-a"), (CALM, "roam-b")]),
        Case("relay-kill", "relay killed while direct, above calm", 100, [(CALM, "relay-kill")], above_calm=True,
             quick=("up",)),
        Case("relay-restart", "relay back after 3 s while relayed, from then", 1000,
             [(CALM, "relay-kill"), (CALM + 3, "relay-restart")], after(relay_ready), path="relay", seconds=24),
        Case("unblock", "direct again once unblocked", 2000, [(CALM, "block-direct"), (CALM + 4, "unblock-direct")],
             direct_again, seconds=16, quick=("up",)),
        Case("suspend", "client suspended for 60 s, from resuming", 1000, [(CALM, "stop-a"), (CALM + 60, "cont-a")],
             after(made("cont-a")), seconds=75),
        Case("kill-of-two", "2: the relay in use killed, there is another", 2000,
             [(CALM, hit_relay_in_use(folder, "KILL"))], path="relay", relays=2),
        Case("drain-of-two", "2: the relay in use drained, there is another", 600,
             [(CALM, hit_relay_in_use(folder, "TERM"))], path="relay", relays=2),
    ]


@dataclass
class Result:
    case: Case
    direction: str
    delay: int
    loss: float
    # Milliseconds to be compared with the bound; none if the run could not say.
    value: float = None
    stall: float = None
    seen: float = None
    end: str = "?"
    why: str = ""
    load: float = field(default_factory=lambda: os.getloadavg()[0])

    @property
    def passed(self):
        return self.value is not None and (self.case is CALM_CASE or self.value <= self.case.bound)

    def text(self):
        shown = f"{self.value:6.0f} ms" if self.value is not None else f"  none ({self.why})"
        if self.stall is not None:
            shown += f"  stall {self.stall:.0f} ms, ends {self.end}"
        if self.seen is not None:
            shown += f"  packets {self.seen:.0f} ms"
        return f"{shown}  load {self.load:.1f}"


class Bench:
    def __init__(self, options, folder):
        self.options, self.folder, self.calm, self.left, self.number = options, folder, {}, [], 0
        self.binaries = os.path.abspath(options.bin)

    def command(self, case, direction, delay, loss):
        urls = ("{url}", "{url2}")[:case.relays]
        watch = f"python3 -S {WATCH} {{relay_ip}} & exec "
        rate = self.options.rate_mbit or (RATE_MBIT_WITH_LOSS if loss else RATE_MBIT)
        bench = f"bench {{peer}} --seconds {case.seconds} --rate-mbit {rate:g} --{direction}"
        pid = f"echo $$ > {self.folder}/to-r{{}}.pid; exec "
        command = [
            self.options.natlab, "run", "--a", case.a, "--b", case.b, "--delay-ms", str(delay), "--loss", str(loss),
            "--relay-cmd", pid.format(1) + relay_command(self.binaries),
            "--relay-ready", READY_URL if case.relays == 1 else RELAY_2_READY,
            "--server-cmd", watch + serve_command(self.binaries, urls), "--capture", READY_ID,
            "--client-cmd", watch + peer_command(self.binaries, "a", f"--path {case.path} {bench}", urls),
            "--cue", CUES[case.path], "--sample", str(SAMPLE), "--timeout", str(case.seconds + 20),
        ]
        if case.relays == 2:
            command += ["--relay2-cmd", pid.format(2) + relay_command(self.binaries, "{relay2_ip}", "relay2")]
        for at, fault in case.faults:
            command += ["--fault", f"{at}:{fault}"]
        return command

    def once(self, case, direction, delay, loss):
        result = Result(case, direction, delay, loss)
        run = Faulted(self.command(case, direction, delay, loss), case, direction, case.seconds + 80)
        self.left += run.leftovers
        self.keep(run, result)
        try:
            result.seen = 1000 * run.seen_gap()
            result.stall = 1000 * run.stall()
            result.end = run.summary["path"]
            if case.faults:
                self.check(run)
            result.value = max(0, 1000 * case.measure(run))
            if case.above_calm:
                result.value = max(0, result.value - self.calm_stall(direction, delay, loss))
        except Unusable as why:
            result.why = str(why)
        return result, run

    @staticmethod
    def check(run):
        """The fault met the path that it was meant for."""
        for line in run.lab("fault-failed"):
            raise Unusable(f"{line['fault']} failed: {line['error']}")
        for _, fault in run.case.faults:
            run.done(fault)
        source = run.source_before(run.began(run.case.faults[0][1]))
        if not source.startswith("relay" if run.case.path == "relay" else "direct"):
            raise Unusable(f"before the fault data came by {source}")

    def keep(self, run, result):
        self.number += 1
        if self.options.keep:
            name = f"{self.number:03}-{result.case.name}-{result.direction}-{result.delay}-{result.loss:g}.jsonl"
            write_out(os.path.join(self.options.keep, name), "".join(json.dumps(line) + "\n" for line in run.lines))

    def calm_stall(self, direction, delay, loss):
        if (direction, delay, loss) not in self.calm:
            self.measured(CALM_CASE, direction, delay, loss)
        result = self.calm.get((direction, delay, loss))
        if result is None:
            raise Unusable("no run in which nothing breaks")
        return result.value

    def measured(self, case, direction, delay, loss):
        """A result that counts, and on the way to it what is to be told."""
        for again in ("", " again"):
            result, run = self.once(case, direction, delay, loss)
            verdict = "" if case is CALM_CASE else "ok  " if result.passed else "MISS"
            print(f"D={delay:3} ms  loss {loss:g} %  {case.name:>13} {direction:<4} {verdict:4} {result.text()}{again}",
                  flush=True)
            if self.options.story or not result.passed:
                try:
                    print("\n".join(run.story()), flush=True)
                except Unusable:
                    print(run.why_no_summary(), file=sys.stderr)
            if result.passed:
                break
        if case is CALM_CASE and result.passed:
            self.calm[direction, delay, loss] = result
        return result


# ---------------------------------------------------------------- the table

def cell(results):
    if not results:
        return "–"
    shown = []
    for result in results:
        value = "none" if result.value is None else f"{result.value:.0f}"
        shown.append(value if result.passed else f"**{value}**")
    packets = [f"{result.seen:.0f}" for result in results if result.seen is not None]
    return "/".join(shown) + (f" ({'/'.join(packets)})" if packets else "")


def table(results, calm, delay, loss, directions):
    """Milliseconds, and in parentheses the longest gap between packets; what misses its bound is bold."""
    rows = [f"| RTT {2 * delay} ms, loss {loss:g} % | at most | " + " | ".join(directions) + " |",
            "|---" * (len(directions) + 2) + "|"]
    here = [r for r in results if (r.delay, r.loss) == (delay, loss)]
    named = {r.case.name: r.case for r in here}
    for case in named.values():
        cells = [cell([r for r in here if (r.case, r.direction) == (case, direction)]) for direction in directions]
        rows.append(f"| {case.what} | {case.bound} | " + " | ".join(cells) + " |")
    quiet = [calm.get((direction, delay, loss)) for direction in directions]
    if any(quiet):
        rows.append(f"| {CALM_CASE.what} | | " + " | ".join(cell([r] if r else []) for r in quiet) + " |")
    return "\n".join(rows)


# ---------------------------------------------------------------- command line

def plan(options, known):
    """Cases with their directions."""
    if options.quick:
        return [(case, case.quick) for case in known if case.quick]
    names = options.cases.split(",") if options.cases else [case.name for case in known if case.relays == 1]
    if names == ["all"]:
        names = [case.name for case in known]
    by_name = {case.name: case for case in known}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise SystemExit(f"kernel_faults: no case {', '.join(unknown)}; there are {', '.join(by_name)}")
    return [(by_name[name], options.directions.split(",")) for name in names]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--natlab", required=True)
    parser.add_argument("--bin", default="target/release")
    parser.add_argument("--cases", help="names, or `all`; without it, all that need one relay")
    parser.add_argument("--directions", default="up,down")
    parser.add_argument("--delays", help="one-way, ms (20,40)")
    parser.add_argument("--loss", help="per cent (0,1)")
    parser.add_argument("--rate-mbit", type=float, help=f"{RATE_MBIT}; with loss {RATE_MBIT_WITH_LOSS}")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a handful of cases at one delay, in three minutes")
    parser.add_argument("--out")
    parser.add_argument("--keep", metavar="DIR", help="each run's JSON lines go there")
    parser.add_argument("--story", action="store_true", help="tell what happened in runs that pass, too")
    options = parser.parse_args()
    if not prepare("kernel_faults"):
        return 2
    if options.keep:
        os.makedirs(options.keep, exist_ok=True)
    delays = [int(delay) for delay in (options.delays or ("20" if options.quick else "20,40")).split(",")]
    losses = [float(loss) for loss in (options.loss or ("0" if options.quick else "0,1")).split(",")]
    folder = tempfile.mkdtemp(prefix="kernel-faults-")
    try:
        todo = plan(options, cases(folder))
        bench, results = Bench(options, folder), []
        for delay in delays:
            for loss in losses:
                for case, directions in todo:
                    for direction in directions:
                        for _ in range(options.repeat):
                            results.append(bench.measured(case, direction, delay, loss))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    directions = [d for d in ("up", "down") if any(d in wanted for _, wanted in todo)]
    tables = [table(results, bench.calm, delay, loss, directions) for delay in delays for loss in losses]
    text = "\n\n".join(tables) + "\n"
    print("\n" + text)
    write_out(options.out, text)
    for left in bench.left:
        print(f"left behind: {left}", file=sys.stderr)
    passed = sum(result.passed for result in results)
    print(f"{passed} passed, {len(results) - passed} failed")
    return 0 if passed == len(results) and not bench.left else 1


if __name__ == "__main__":
    sys.exit(main())
