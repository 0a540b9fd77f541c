#!/usr/bin/env python3
"""Watches a host of the laboratory from within its namespace, beside the program under test; JSON lines out.

    tests/watch.py RELAY_IP & exec PROGRAM

Knows nothing but packets. `at` and the like are seconds of CLOCK_MONOTONIC, which is the same in every namespace.

    {"watch": "start"}                         it watches
    {"watch": "data", "src", "at", "silent"}   QUIC data from this source, for the first time or again after a silence
    {"watch": "gap", "from", "to", "before", "after"}   no QUIC data from anywhere in between
    {"watch": "silent", "since", "at"}         no QUIC data until now; told after 1, 2, 4 … s
    {"watch": "sources", "at", "packets"}      how many of them came from which source in the last quarter of a second
    {"watch": "net", "lost", "back"}           the host had no network: from the first ping to the relay's host that was
                                               not answered until the first answer after it, less the usual round trip
                                               (a packet may wait in the host until its gateway is found)

Ends with the process that started it.
"""

import ctypes
import errno
import json
import os
import select
import socket
import struct
import sys
import time

GAP = 0.06
COUNT_EVERY = 0.25
SILENT = 1
PING_EVERY = 0.01
# Pings lost in a row that mean that the network is gone, and not that the line is bad.
PINGS_LOST = 4
# IPv4 packets shorter than this are acknowledgements and the like.
DATA_LENGTH = 200
ETH_P_IP = 0x0800
SO_ATTACH_FILTER = 26
SO_TIMESTAMPNS = 35
RELAYS = b"\xcb\x00\x71"  # 203.0.113.0/24
# First bytes of a peer's QUIC packets as the relay forwards them, and (at least) as they come straight.
RELAYED = 0x08
QUIC = 0x40


def say(what, **fields):
    fields = {key: round(value, 4) if isinstance(value, float) else value for key, value in fields.items()}
    # One write, so that the program's own lines stay whole.
    os.write(1, (json.dumps({"watch": what, **fields}) + "\n").encode())


def data_socket():
    """All UDP packets of some length."""
    program = [
        (0x30, 0, 0, 9), (0x15, 0, 3, 17),            # protocol UDP
        (0x28, 0, 0, 2), (0x35, 0, 1, DATA_LENGTH),   # total length
        (0x06, 0, 0, 64), (0x06, 0, 0, 0),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(program), ctypes.addressof(code)))
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.setblocking(False)
    return sock


class Data:
    """QUIC data that arrives: from where, and when none did."""

    def __init__(self):
        self.sock, self.last, self.source, self.sources = data_socket(), None, None, {}
        self.counts, self.counted, self.silence = {}, time.monotonic(), SILENT

    def fileno(self):
        return self.sock.fileno()

    def ready(self):
        # Timestamps are the kernel's, by the wall clock.
        skew = time.time() - time.monotonic()
        while True:
            try:
                packet, extra, _, address = self.sock.recvmsg(64, 64)
            except BlockingIOError:
                return
            if address[2] != socket.PACKET_HOST or address[0] == "lo":
                continue
            at = time.monotonic()
            for level, kind, value in extra:
                if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
                    seconds, nanoseconds = struct.unpack("qq", value[:16])
                    at = seconds + nanoseconds / 1e9 - skew
            self.packet(packet, at)

    def packet(self, packet, at):
        header = (packet[0] & 15) * 4
        if len(packet) <= header + 8:
            return
        first, (port,) = packet[header + 8], struct.unpack(">H", packet[header:header + 2])
        # Bare QUIC from the relay is between it and the peer.
        relay = packet[12:15] == RELAYS
        if not (first == RELAYED if relay else first >= QUIC):
            return
        kind = "relay" if relay else "direct"
        source = f"{kind} {socket.inet_ntoa(packet[12:16])}:{port}"
        if self.last is not None and at - self.last > GAP:
            say("gap", **{"from": self.last, "to": at, "before": self.source, "after": source})
        before = self.sources.get(source)
        if before is None or at - before > GAP:
            say("data", src=source, at=at, silent=None if before is None else at - before)
        self.sources[source] = self.last = at
        self.source = source
        self.counts[source] = self.counts.get(source, 0) + 1

    def count(self, now):
        if now - self.counted >= COUNT_EVERY:
            if self.counts:
                say("sources", at=now, packets=self.counts)
                self.silence = SILENT
            elif self.last is not None and now - self.last >= self.silence:
                say("silent", since=self.last, at=now)
                self.silence *= 2
            self.counts, self.counted = {}, now


class Pings:
    """ICMP echo requests to the relay's host. Each has an identifier of its own, and so its own entry in a NAT: none
    is lost to a mapping that has gone stale."""

    def __init__(self, target):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self.sock.setblocking(False)
        self.target, self.number, self.sent, self.answered, self.rtt = target, 0, {}, None, float("inf")

    def fileno(self):
        return self.sock.fileno()

    def send(self):
        self.number = self.number % 0xffff + 1
        self.sent[self.number] = time.monotonic()
        total = 0x0800 + self.number
        checksum = ~(total + (total >> 16)) & 0xffff
        packet = struct.pack(">BBHHH", 8, 0, checksum, self.number, 0)
        try:
            self.sock.sendto(packet, (self.target, 0))
        except OSError as error:
            if error.errno not in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EPERM, errno.EAGAIN,
                                   errno.ENOBUFS, errno.EINVAL):
                raise

    def ready(self):
        while True:
            try:
                packet = self.sock.recv(256)
            except OSError:
                return
            header = (packet[0] & 15) * 4
            kind, _, _, number, _ = struct.unpack(">BBHHH", packet[header:header + 8])
            if kind == 0 and number in self.sent:
                self.answer(self.sent[number])

    def answer(self, sent):
        now = time.monotonic()
        self.rtt = min(self.rtt, now - sent)
        if self.answered is None or sent > self.answered:
            missed = [at for at in self.sent.values() if self.answered is not None and self.answered < at < sent]
            if len(missed) >= PINGS_LOST:
                say("net", lost=min(missed), back=now - self.rtt)
            self.answered = sent
            self.sent = {number: at for number, at in self.sent.items() if at > sent}


def main():
    # The laboratory stops and kills the program's process group: this is not of it.
    os.setsid()
    parent = os.getppid()
    data, pings = Data(), Pings(sys.argv[1])
    say("start", at=time.monotonic())
    due = time.monotonic()
    while os.getppid() == parent:
        now = time.monotonic()
        if now >= due:
            pings.send()
            # A scheduler that held this process up must not make a burst of pings.
            due = max(due + PING_EVERY, now)
        data.count(now)
        ready, _, _ = select.select([data, pings], [], [], max(0, due - time.monotonic()))
        for source in ready:
            source.ready()


if __name__ == "__main__":
    try:
        main()
    except (BrokenPipeError, KeyboardInterrupt):
        pass
