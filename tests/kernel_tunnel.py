#!/usr/bin/env python3
"""Runs the real programs where networks let no UDP pass, against others, and writes a table.

    tests/kernel_tunnel.py --natlab PATH [--bin target/release] [--blocked a,b] [--others a,b,..] [--delay 40] [--out FILE]

The laboratory is the one of kernel_nat.py. Each blocked type meets each other one and each blocked one, in both roles;
both peers know the relay's https:// URL and nothing else, and have nothing kept. A pair passes if both peers are ready
in time, counted from their start, the client is connected, all its pings come back, and the laboratory has seen no
packet that went straight.

Exit code: 0 all pairs pass; 1 not; 2 the laboratory could not run.
"""

import argparse
import os
import statistics
import sys

from laboratory import READY_HTTPS, READY_ID, Run, peer_command, prepare, relay_command, serve_command, write_out

BLOCKED = "udp-blocked,udp-443-only"
OTHERS = "none,easy,sym"
PINGS = 5
# Milliseconds from the start of a peer until the relay knows it: all of HTTPS, and QUIC.
READY_MS = 1000


def command(natlab, binaries, a, b, delay):
    return [
        natlab, "run", "--a", a, "--b", b, "--delay-ms", str(delay),
        "--relay-cmd", f"{relay_command(binaries)} --https 443", "--relay-ready", READY_HTTPS,
        "--server-cmd", serve_command(binaries), "--capture", READY_ID,
        "--client-cmd", peer_command(binaries, "a", f"ping {{peer}} --count {PINGS} --interval 100"), "--timeout", "40",
    ]


def ready_ms(done, who):
    return next((line["ms"] for _, line in done.said(who) if line.get("event") == "ready"), None)


def by_https(done, who):
    return any(line.get("event") == "relay_way" and line.get("by") == "https" for _, line in done.said(who))


def run(natlab, binaries, pair, delay):
    done = Run(command(natlab, binaries, *pair, delay))
    summary = done.summary or {}
    if not summary:
        print(f"{pair}: {done.why_no_summary()}", file=sys.stderr)
    result = {
        "pair": pair, "ready": (ready_ms(done, "client"), ready_ms(done, "server")),
        "https": (by_https(done, "client"), by_https(done, "server")),
        "connected": summary.get("connected_ms"), "lost": summary.get("lost"), "sent": summary.get("sent"),
        "direct": bool(done.lab("direct-packet")),
    }
    result["passed"] = passed(result)
    return result


def passed(result):
    ready = all(ms is not None and ms <= READY_MS for ms in result["ready"])
    pinged = result["sent"] == PINGS and result["lost"] == 0
    return ready and result["connected"] is not None and pinged and not result["direct"]


def shown(result):
    def ms(value):
        return "never" if value is None else f"{value:.0f}"
    a, b = result["pair"]
    ways = " / ".join("HTTPS" if https else "UDP" for https in result["https"])
    ready = " / ".join(map(ms, result["ready"]))
    return f"| {a} × {b} | {ready} | {ways} | {ms(result['connected'])} | {'yes' if result['passed'] else 'NO'} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--natlab", required=True)
    parser.add_argument("--bin", default="target/release")
    parser.add_argument("--blocked", default=BLOCKED)
    parser.add_argument("--others", default=OTHERS)
    parser.add_argument("--delay", type=int, default=40)
    parser.add_argument("--out")
    options = parser.parse_args()
    if not prepare("kernel_tunnel"):
        return 2
    blocked, others = options.blocked.split(","), options.others.split(",")
    pairs = [pair for a in blocked for b in others for pair in ((a, b), (b, a))]
    pairs += [(a, b) for a in blocked for b in blocked]
    rows = [f"| D = {options.delay} ms | ready, ms | relay reached by | connected, ms | passed |", "|---" * 5 + "|"]
    print("\n".join(rows), flush=True)
    results = []
    for pair in pairs:
        results.append(run(options.natlab, os.path.abspath(options.bin), pair, options.delay))
        rows.append(shown(results[-1]))
        print(rows[-1], flush=True)
    ready = [ms for r in results for ms, https in zip(r["ready"], r["https"]) if ms is not None and https]
    if ready:
        rows.append(f"\nReady by HTTPS after {statistics.median(ready):.0f} ms in the median, {max(ready):.0f} ms at most.")
        print(rows[-1])
    write_out(options.out, "\n".join(rows) + "\n")
    good = sum(r["passed"] for r in results)
    print(f"{good} passed, {len(results) - good} failed")
    return 0 if good == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
