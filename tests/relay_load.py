#!/usr/bin/env python3
"""A relay under load: idle peers, and hostile TCP clients beside real ones.

    cargo build --release --bin relay --example crowd
    python3 tests/relay_load.py --programs target/release idle --peers 5000 --seconds 120
    python3 tests/relay_load.py --programs target/release hostile --hostile 2000 --real 100

`idle` prints the relay's memory for each peer and the CPU time that keeping them costs. `hostile` fetches the relay's
description over TLS with `--real` clients, alone and beside silent, slow and garbage-talking ones that come back as soon
as they are thrown out; it fails if a real one does. The hostile ones come from 127.0.0.2 and upwards, as from a botnet.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


def memory(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Relay:
    def __init__(self, programs, folder):
        flags = ["--listen", "127.0.0.1:0", "--https", "0", "--data-dir", folder, "--json"]
        # All peers are at one address here, which a relay on the internet would take for one network's.
        settings = {**os.environ, "DIREC_RELAY_LIMITS_REGISTERED_PER_ADDRESS": "100000"}
        self.process = subprocess.Popen(
            [programs / "relay", *flags], env=settings, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        ready = json.loads(self.process.stdout.readline())
        self.url = ready["url"]
        self.https_port = urllib.parse.urlsplit(ready["https"]).port

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def idle(options):
    with tempfile.TemporaryDirectory() as folder, Relay(options.programs, folder) as relay:
        pid, empty = relay.process.pid, memory(relay.process.pid)
        began = time.monotonic()
        crowd = subprocess.Popen(
            [options.programs / "examples" / "crowd", relay.url, str(options.peers)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        try:
            if crowd.stdout.readline().strip() != "registered":
                sys.exit("FAILED: the peers could not register")
            took, registering = time.monotonic() - began, cpu_seconds(pid)
            time.sleep(options.settle)
            before, since = cpu_seconds(pid), time.monotonic()
            time.sleep(options.seconds)
            spent, passed = cpu_seconds(pid) - before, time.monotonic() - since
            full = memory(pid)
        finally:
            crowd.kill()
            crowd.wait()
        print(f"{options.peers} peers registered in {took:.1f} s, {registering / options.peers * 1e3:.2f} ms of CPU each")
        print(f"memory: {empty / 1e6:.1f} MB empty, {full / 1e6:.1f} MB full, {(full - empty) / options.peers / 1e3:.1f} KB a peer")
        print(f"idle for {passed:.0f} s: {spent:.2f} s of CPU, {spent / passed * 100:.2f} % of a core")


async def fetch(port, context):
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    writer.write(b"GET /.well-known/direc HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    answer = await reader.read(-1)
    writer.close()
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise OSError(f"unexpected answer {answer[:60]!r}")
    return time.monotonic() - began


async def real_clients(options, port, context):
    """Each fetches some times, with pauses, for the time given."""
    times, failures = [], []

    async def client():
        until = time.monotonic() + options.seconds
        while time.monotonic() < until:
            await asyncio.sleep(random.uniform(0, 2))
            try:
                times.append(await asyncio.wait_for(fetch(port, context), 10))
            except (OSError, asyncio.TimeoutError, ssl.SSLError) as error:
                failures.append(repr(error))

    await asyncio.gather(*(client() for _ in range(options.real)))
    return times, failures


async def hostile_client(number, port):
    """Silent, a byte now and then, or garbage at once; thrown out, it comes back."""
    source = (f"127.0.{number // 64 // 250}.{number // 64 % 250 + 2}", 0)
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=source)
            if number % 3 == 0:
                await reader.read(1)
            elif number % 3 == 1:
                hello = bytes([0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3])
                for byte in hello * 50:
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(1)
            else:
                writer.write(random.randbytes(300))
                await reader.read(-1)
            writer.close()
        except OSError:
            pass
        await asyncio.sleep(0.5)


async def hostile_crowd(count, port):
    await asyncio.gather(*(hostile_client(number, port) for number in range(count)))


def be_hostile(count, port):
    """In a process of its own: its work must not pass for the relay's."""
    asyncio.run(hostile_crowd(count, port))


async def hostile(options, port):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    runs = {"alone": await real_clients(options, port, context)}
    crowd = multiprocessing.get_context("spawn").Process(target=be_hostile, args=(options.hostile, port), daemon=True)
    crowd.start()
    try:
        await asyncio.sleep(5)
        runs[f"beside {options.hostile} hostile ones"] = await real_clients(options, port, context)
    finally:
        crowd.kill()
    failed = False
    for name, (times, failures) in runs.items():
        times.sort()
        middle, late, worst = statistics.median(times), times[int(len(times) * 0.99)], times[-1]
        print(f"{options.real} real clients {name}: {len(times)} fetches, {len(failures)} failed; "
              f"median {middle * 1e3:.1f} ms, 99 % {late * 1e3:.1f} ms, worst {worst * 1e3:.1f} ms")
        for failure in sorted(set(failures)):
            failed = True
            print(f"  {failures.count(failure)} x {failure}")
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=Path, default=Path("target/release"), help="where relay and examples/crowd are")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("idle")
    one.add_argument("--peers", type=int, default=5000)
    one.add_argument("--settle", type=float, default=10)
    one.add_argument("--seconds", type=float, default=120)
    other = commands.add_parser("hostile")
    other.add_argument("--hostile", type=int, default=2000)
    other.add_argument("--real", type=int, default=100)
    other.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    if options.command == "idle":
        return idle(options)
    with tempfile.TemporaryDirectory() as folder, Relay(options.programs, folder) as relay:
        before = cpu_seconds(relay.process.pid)
        failed = asyncio.run(hostile(options, relay.https_port))
        print(f"the relay took {cpu_seconds(relay.process.pid) - before:.1f} s of CPU in all")
        if failed:
            sys.exit("FAILED: real clients noticed")


if __name__ == "__main__":
    main()
