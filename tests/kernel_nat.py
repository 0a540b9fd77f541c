#!/usr/bin/env python3
"""Runs the real programs behind real kernel NATs, in a laboratory of network namespaces, and writes a table.

    tests/kernel_nat.py --natlab PATH [--bin target/release] [--types a,b,..] [--delays 0,40] [--out FILE]

The laboratory is not part of this repository; it is a program with the calling convention below (`natlab run ...`,
JSON lines out) that needs root. A pair passes if the client says it went direct and the laboratory itself has seen a
packet that came neither from the relay nor from the host's own gateway.

Exit code: 0 all pairs direct and the median in time; 1 not; 2 the laboratory could not run.
"""

import argparse
import os
import statistics
import sys

from laboratory import READY_ID, READY_URL, Run, peer_command, prepare, relay_command, serve_command, write_out

TYPES = "none,easy,eim-eif-x,eim-apdf-x,double,strict"
PINGS = 20
# Milliseconds from connect to the first path event "direct", in the median over all pairs, by one-way delay.
BOUND_MS = {40: 200}


def command(natlab, binaries, a, b, delay):
    ping = peer_command(binaries, "a", f"ping {{peer}} --count {PINGS} --interval 50")
    return [
        natlab, "run", "--a", a, "--b", b, "--delay-ms", str(delay),
        "--relay-cmd", relay_command(binaries), "--relay-ready", READY_URL,
        "--server-cmd", serve_command(binaries), "--capture", READY_ID,
        "--client-cmd", ping, "--timeout", "30",
    ]


def run(natlab, binaries, a, b, delay):
    """One pair: what the client's summary says, and whether the laboratory saw a direct packet."""
    done = Run(command(natlab, binaries, a, b, delay))
    if done.summary is None:
        print(f"{a} x {b}: {done.why_no_summary()}", file=sys.stderr)
    seen = bool(done.lab("direct-packet"))
    return {"a": a, "b": b, "delay": delay, "seen": seen, "exit": done.exit, **(done.summary or {})}


def run_twice_if_need_be(*pair):
    """Without a summary something broke around the client: that says nothing of the NATs, and gets one more try."""
    result = run(*pair)
    return result if "path" in result else run(*pair)


def table(results, types, delay):
    rows = [f"| D = {delay} ms | " + " | ".join(types) + " |", "|---" * (len(types) + 1) + "|"]
    cells = {(r["a"], r["b"]): r for r in results if r["delay"] == delay}
    for a in types:
        row = []
        for b in types:
            cell = cells[a, b]
            row.append(f"{cell['direct_ms']:.0f}" if passed(cell) else "relay")
        rows.append(f"| {a} | " + " | ".join(row) + " |")
    return "\n".join(rows)


def passed(result):
    return result["seen"] and result.get("path") == "direct" and result.get("direct_ms") is not None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--natlab", required=True)
    parser.add_argument("--bin", default="target/release")
    parser.add_argument("--types", default=TYPES)
    parser.add_argument("--delays", default="0,40")
    parser.add_argument("--out")
    options = parser.parse_args()
    if not prepare("kernel_nat"):
        return 2
    binaries = os.path.abspath(options.bin)
    types = options.types.split(",")
    delays = [int(delay) for delay in options.delays.split(",")]
    results, failed = [], False
    for delay in delays:
        for a in types:
            for b in types:
                result = run_twice_if_need_be(options.natlab, binaries, a, b, delay)
                results.append(result)
                verdict = f"direct in {result['direct_ms']:.0f} ms" if passed(result) else "NOT DIRECT"
                print(f"D={delay:3} ms  {a:>12} x {b:<12} {verdict}", flush=True)
    text = []
    for delay in delays:
        here = [r for r in results if r["delay"] == delay]
        direct = [r["direct_ms"] for r in here if passed(r)]
        median = statistics.median(direct) if direct else None
        text += [table(results, types, delay), ""]
        shown = "none" if median is None else f"median {median:.0f} ms from connect"
        text.append(f"{len(direct)} of {len(here)} pairs direct, {shown}.\n")
        failed |= len(direct) < len(here) or (delay in BOUND_MS and median > BOUND_MS[delay])
    print("\n".join(text))
    write_out(options.out, "\n".join(text))
    print(f"{sum(map(passed, results))} passed, {len(results) - sum(map(passed, results))} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
