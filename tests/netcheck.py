#!/usr/bin/env python3
"""Checks that `peer netcheck` says what each kind of NAT is, behind real kernel NATs in the laboratory.

    tests/netcheck.py --natlab PATH [--bin target/release] [--types a,b,..] [--out FILE]

A row is a NAT type of the laboratory and what must be said of it; `None` is "not known". Exit code: 0 all rows right;
1 not; 2 the laboratory could not run.
"""

import argparse
import os
import sys

from laboratory import READY_HTTPS, READY_URL, Run, prepare, relay_command, write_out

EIM, APDM = "endpoint_independent", "address_and_port_dependent"
OPEN, STRICT = "ignores_ports", "address_and_port_dependent"
# The verdicts where this side's NAT gives each destination another port: it counts them up, or draws them.
COUNTED, DRAWN = "unless_random", "unless_symmetric"
FIELDS = ("verdict", "nat", "mapping", "ports", "filtering", "clash_prone", "hairpin")

ROWS = {
    "none":           ("everyone", False, EIM, "preserved", OPEN, False, None),
    "fw4":            ("most", False, EIM, "preserved", STRICT, False, None),
    "easy":           ("most", True, EIM, "preserved", STRICT, False, False),
    "strict":         ("most", True, EIM, "preserved", STRICT, False, False),
    "double":         ("most", True, EIM, "preserved", STRICT, False, False),
    "eim-eif":        ("everyone", True, EIM, "preserved", OPEN, False, False),
    "eim-adf":        ("everyone", True, EIM, "preserved", OPEN, False, False),
    "eim-apdf":       ("most", True, EIM, "preserved", STRICT, False, False),
    "eim-eif-x":      ("everyone", True, EIM, "other", OPEN, False, False),
    "eim-adf-x":      ("everyone", True, EIM, "other", OPEN, False, False),
    "eim-apdf-x":     ("most", True, EIM, "other", STRICT, False, False),
    "hairpin":        ("most", True, EIM, "preserved", STRICT, False, True),
    "clash":          ("most_in_order", True, EIM, "preserved", STRICT, True, False),
    "sym":            (DRAWN, True, APDM, "other", STRICT, None, False),
    "sym-seq":        (COUNTED, True, APDM, "sequential", STRICT, None, False),
    "double-sym":     (DRAWN, True, APDM, "other", STRICT, None, False),
    "udp-blocked":    ("nothing", None, None, None, None, None, None),
    "udp-443-only":   ("nothing", None, None, None, None, None, None),
}

# The same at a relay that answers HTTPS as well, and whether UDP gets out by what is said.
HTTPS_ROWS = {
    "easy":           (True, "most"),
    "udp-blocked":    (False, "https_only"),
    "udp-443-only":   (False, "https_only"),
}


def command(natlab, binaries, kind, https=False):
    return [
        natlab, "run", "--a", kind, "--b", "none", "--delay-ms", "20",
        "--relay-cmd", relay_command(binaries) + (" --https 443" if https else ""),
        "--relay-ready", READY_HTTPS if https else READY_URL,
        "--client-cmd", f"{binaries}/peer --relay '{{url}}' --json netcheck", "--timeout", "30",
    ]


def ask(natlab, binaries, kind, https=False):
    """What was said."""
    done = Run(command(natlab, binaries, kind, https))
    said = next((line for _, line in done.said("client") if line.get("event") == "netcheck"), None)
    if said is None:
        print(done.errors + done.output[-2000:], file=sys.stderr)
    return said


def check_https(natlab, binaries, kind):
    """What was said of a relay that is reached by HTTPS, if need be, and what of it is wrong."""
    said = ask(natlab, binaries, kind, https=True)
    if said is None:
        return None, ["nothing was said"]
    right = dict(zip(("udp", "verdict"), HTTPS_ROWS[kind]))
    if not right["udp"]:
        right |= {"addresses": [], "mapping": None}
    return said, [f"{field}: {said.get(field)!r}, not {value!r}" for field, value in right.items()
                  if said.get(field) != value]


def check(natlab, binaries, kind):
    """What was said, and what of it is wrong."""
    said = ask(natlab, binaries, kind)
    if said is None:
        return None, ["nothing was said"]
    wrong = [f"{field}: {said.get(field)!r}, not {right!r}"
             for field, right in zip(FIELDS, ROWS[kind]) if said.get(field) != right]
    if said.get("port_step") is None and said.get("ports") == "sequential":
        wrong.append("no port_step")
    return said, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--natlab", required=True)
    parser.add_argument("--bin", default="target/release")
    parser.add_argument("--types", default=",".join(ROWS))
    parser.add_argument("--out")
    options = parser.parse_args()
    if not prepare("netcheck"):
        return 2
    binaries, failed, lines = os.path.abspath(options.bin), 0, []
    kinds = options.types.split(",")
    checks = [(kind, kind, check) for kind in kinds]
    checks += [(f"{kind}, HTTPS", kind, check_https) for kind in kinds if kind in HTTPS_ROWS]
    for name, kind, checked in checks:
        said, wrong = checked(options.natlab, binaries, kind)
        failed += bool(wrong)
        lines.append(f"{name:>19} {'WRONG ' + '; '.join(wrong) if wrong else (said or {}).get('meaning')}")
        print(lines[-1], flush=True)
    write_out(options.out, "\n".join(lines) + "\n")
    print(f"{len(lines) - failed} right, {failed} wrong")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
