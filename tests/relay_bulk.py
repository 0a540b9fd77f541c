#!/usr/bin/env python3
"""Bulk between two peers through a relay on this machine: by two TLS tunnels, and by UDP; in turn, several rounds.

    cargo build --release --bin relay --bin peer
    python3 tests/relay_bulk.py --programs target/release [--rounds 5] [--bytes 1G] [--other PROGRAM]

Prints a line a run, then medians: MB/s (10^6 bytes) at the application, and the relay's CPU seconds per GB. Where peers are
to use tunnels, the relay says that it is to be found by UDP at 127.0.0.2, where nobody is.

--other measures another system's relay in the same rounds: a program called as `PROGRAM relay --bind IP:PORT`, which
answers TLS at PORT+1, `PROGRAM accept --relay https://IP:PORT`, and `PROGRAM connect --relay URL --peer ID --relay-only
--bytes N --down`, all of which print one JSON object, with `id`, `up_mb_s` and `down_mb_s`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from relay_load import cpu_seconds

# A program has so many seconds to say that it is there.
START = 30
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def count(text):
    return int(text[:-1]) * UNITS[text[-1]] if text[-1] in UNITS else int(text)


class Way:
    """A relay, a peer that waits at it, and how another gets there. Its processes live as long as it does."""

    def __init__(self, name):
        self.name, self.processes, self.results = name, [], []

    def start(self, *command):
        """Starts a program that goes on, and gives its first line."""
        words = [str(word) for word in command]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.processes.append(process)
        late = threading.Timer(START, process.kill)
        late.start()
        line = process.stdout.readline()
        late.cancel()
        return json.loads(line or sys.exit(f"FAILED: {' '.join(words)} said nothing"))

    def measure(self, bytes):
        relay = self.processes[0].pid
        before = cpu_seconds(relay)
        up, down = self.transfer(bytes)
        cpu = (cpu_seconds(relay) - before) / (2 * bytes / 1e9)
        self.results.append((up, down, cpu))
        print(f"{self.name:12} up {up:6.0f} MB/s   down {down:6.0f} MB/s   {cpu:5.2f} s of the relay's CPU per GB", flush=True)

    def end(self):
        for process in reversed(self.processes):
            process.kill()
            process.wait()


class Direc(Way):
    def __init__(self, name, programs, folder, tunnels):
        super().__init__(name)
        self.peer, self.folder = programs / "peer", folder
        places = ["--public", "127.0.0.2"] if tunnels else []
        ready = self.start(programs / "relay", "--listen", "127.0.0.1:0", *places, "--https", "0",
                           "--data-dir", folder / "relay", "--json")
        self.url = ready["https"].replace("127.0.0.2", "127.0.0.1") if tunnels else ready["url"]
        self.id = self.start(*self.as_peer("server"), "serve", "--allow", "any")["id"]

    def as_peer(self, name):
        return [self.peer, "--relay", self.url, "--key", self.folder / f"{name}.key", "--no-portmap", "--json"]

    def transfer(self, bytes):
        return [self.bench(bytes, direction) for direction in ("--up", "--down")]

    def bench(self, bytes, direction):
        command = [*self.as_peer("client"), "--path", "relay", "bench", self.id, "--bytes", bytes, direction]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300, check=True)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        result = next(line for line in lines if line["event"] == "summary")
        return result["bytes"] / 1e6 / result["seconds"]


class Other(Way):
    def __init__(self, program, port):
        super().__init__(program.stem)
        self.program, self.url = program, f"https://127.0.0.1:{port + 1}"
        self.start(program, "relay", "--bind", f"127.0.0.1:{port}")
        self.id = self.start(program, "accept", "--relay", self.url, "--bind", "127.0.0.1:0")["id"]

    def transfer(self, bytes):
        command = [self.program, "connect", "--relay", self.url, "--peer", self.id, "--relay-only", "--bytes", bytes,
                   "--max-secs", 120, "--pings", 1, "--down"]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300, check=True)
        result = json.loads(done.stdout.splitlines()[-1])
        return result["up_mb_s"], result["down_mb_s"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=Path, default=Path("target/release"), help="where relay and peer are")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bytes", type=count, default="1G", help="each way; may end in K, M or G (powers of 1,024)")
    parser.add_argument("--other", type=Path, help="another system's program")
    parser.add_argument("--port", type=int, default=23400, help="where that one's relay listens, and at the next one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ways = []
        try:
            for name in ("tunnels", "udp"):
                place = Path(folder) / name
                place.mkdir()
                ways.append(Direc(name, options.programs, place, name == "tunnels"))
            if options.other:
                ways.append(Other(options.other, options.port))
            for _ in range(options.rounds):
                for way in ways:
                    way.measure(options.bytes)
        finally:
            for way in ways:
                way.end()
    print(f"\nmedians of {options.rounds} rounds, {options.bytes / 1e9:.2f} GB each way")
    for way in ways:
        up, down, cpu = (statistics.median(values) for values in zip(*way.results))
        print(f"{way.name:12} up {up:6.0f} MB/s   down {down:6.0f} MB/s   {cpu:5.2f} s of the relay's CPU per GB")


if __name__ == "__main__":
    main()
