#!/usr/bin/env python3
"""A relay that was built with `--features acme`, and a real ACME authority: Pebble, Let's Encrypt's own for tests.

    cargo build --workspace --features acme --bin relay && mv target/debug/relay target/debug/relay-acme
    cargo build --workspace --bins
    python3 tests/acme.py --relay target/debug/relay-acme --programs target/debug

The authority is away at the relay's first start, comes, certifies the relay at the host localhost, is killed, and the
relay goes on with what it has kept; another one's certificates are for seconds, and are renewed; one cannot see the relay.
Peers that are told nothing but https://localhost:PORT, and those that have a pin, get in all the while. A fifth of the
requests' numbers is rejected, as authorities may do.

Skips, loudly, where there is no pebble (Debian: apt-get install pebble).
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

NOBODY = "aebagbafaydqqcikbmga2dqpcaireeyuculbogazdinryhi6d4qa"
PATIENCE = 60
# What is certified is for the authority's own HTTPS here, which is not verified but to fetch its root.
UNVERIFIED = ssl._create_unverified_context()


def check(condition, what):
    if not condition:
        raise AssertionError(what)
    print(f"ok: {what}", flush=True)


def everywhere():
    """Localhost is at ::1 as well on some machines, and the authority picks."""
    try:
        with socket.socket(socket.AF_INET6) as tcp:
            tcp.bind(("::", 0))
        return "[::]"
    except OSError:
        return "127.0.0.1"


def free_port():
    with socket.socket() as tcp:
        tcp.bind(("127.0.0.1", 0))
        return tcp.getsockname()[1]


def until_taken(port):
    """Waits for somebody who takes connections there."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise AssertionError(f"nobody is at port {port}")


class Program:
    """A program that runs, and what it has said so far on both its outputs."""

    running = []

    def __init__(self, *command, **environment):
        self.process = subprocess.Popen(
            [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            text=True, env=dict(os.environ, **environment),
        )
        self.lines, self.news = [], threading.Condition()
        Program.running.append(self)
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        for line in self.process.stdout:
            with self.news:
                self.lines.append(line.rstrip())
                self.news.notify_all()

    def said(self, pattern, count=1):
        """The line that matches this for the `count`th time, as soon as there is one."""
        def found():
            return [line for line in self.lines if re.search(pattern, line)]

        with self.news:
            if not self.news.wait_for(lambda: len(found()) >= count, PATIENCE):
                raise AssertionError(f"never said {pattern!r}: {self.lines[-20:]}")
            return found()[count - 1]

    def has_said(self, pattern):
        with self.news:
            return any(re.search(pattern, line) for line in self.lines)

    def end(self, how=signal.SIGKILL):
        self.process.send_signal(how)
        self.process.wait(PATIENCE)


class Authority:
    """Pebble. Its own HTTPS has the certificate and key in `tls`; relays are at this port, it believes."""

    def __init__(self, folder, tls, relay_port, seconds, port=None):
        self.port, self.manage = port or free_port(), free_port()
        self.file = folder / f"pebble-{self.port}.json"
        self.directory = f"https://localhost:{self.port}/dir"
        self.file.write_text(json.dumps({"pebble": {
            "listenAddress": f"127.0.0.1:{self.port}", "managementListenAddress": f"127.0.0.1:{self.manage}",
            "certificate": str(tls), "privateKey": str(tls), "httpPort": free_port(), "tlsPort": relay_port,
            "certificateValidityPeriod": seconds,
        }}), encoding="utf-8")

    def start(self, rejects="20"):
        """It rejects so many nonces of a hundred, good ones too."""
        self.program = Program("pebble", "-config", self.file, PEBBLE_VA_NOSLEEP="1", PEBBLE_WFE_NONCEREJECT=rejects)
        for port in (self.port, self.manage):
            until_taken(port)
        return self

    def root(self, path):
        """Whom peers have to believe."""
        with urllib.request.urlopen(f"https://localhost:{self.manage}/roots/0", context=UNVERIFIED) as answer:
            path.write_bytes(answer.read())
        return path


class Lab:
    def __init__(self, options, folder):
        self.with_acme, self.without = options.relay, options.programs / "relay"
        self.peer_program, self.folder = options.programs / "peer", folder
        self.data, self.port = folder / "data", free_port()

    def relay(self, program, *flags, acme=None):
        """A relay at localhost; gives it, and its HTTPS URL."""
        text = f"listen = '127.0.0.1:0'\npublic = 'localhost'\ndata_dir = '{self.data}'\n"
        text += f"https.listen = '{everywhere()}:{self.port}'\nadmin.listen = 0\n"
        if acme:
            text += f"[acme]\nhosts = ['localhost']\ncontact = 'you@example.org'\n{acme}\n"
        file = self.folder / "relay.toml"
        file.write_text(text, encoding="utf-8")
        relay = Program(program, "--config", file, "--json", *flags)
        ready = json.loads(relay.said('"event":"ready"'))
        relay.pages = re.search(r"http://\S+/", relay.said("status and metrics")).group(0)
        return relay, ready["https"]

    def peer(self, url, *words, ca=None, key="peer.key"):
        command = [self.peer_program, "--relay", url, "--key", self.folder / key, "--json"]
        command += ["--relay-ca", ca] if ca else []
        # What an earlier start has kept must not help.
        shutil.rmtree(self.folder / "direc", ignore_errors=True)
        return Program(*command, *words, XDG_CONFIG_HOME=str(self.folder), XDG_DATA_HOME=str(self.folder))

    def gets_in(self, url, ca=None):
        """Whether a peer reaches the relay: past HTTPS and QUIC it is told that there is no such peer."""
        peer = self.peer(url, "ping", NOBODY, ca=ca)
        peer.process.wait(PATIENCE)
        time.sleep(0.1)
        return peer.has_said("no such peer")

    def shown(self):
        """The certificate that the relay shows."""
        return ssl.get_server_certificate(("localhost", self.port))


def metric(relay, name):
    with urllib.request.urlopen(relay.pages + "metrics") as answer:
        found = re.search(rf"^direc_{name} (\S+)$", answer.read().decode(), re.MULTILINE)
    return found and float(found.group(1))


def speaks_acme_tls(port):
    """Whether somebody who would see a challenge's answer is spoken to."""
    context = ssl._create_unverified_context()
    context.set_alpn_protocols(["acme-tls/1"])
    try:
        with socket.create_connection(("localhost", port)) as tcp, context.wrap_socket(tcp, server_hostname="localhost"):
            return True
    except (ssl.SSLError, ConnectionError) as why:
        return "ALERT_NO_APPLICATION_PROTOCOL" not in str(why).upper().replace(" ", "_")


def certified(lab, tls):
    """An authority that is away at first, certifies, and is killed."""
    plain, pinned = lab.relay(lab.without)
    check("#sha256-" in pinned, "without an authority a relay's URL has a pin")
    check(not speaks_acme_tls(lab.port), "and it does not speak acme-tls/1")
    plain.end()

    authority = Authority(lab.folder, tls, lab.port, 86_400)
    keys = f"directory = '{authority.directory}'\nca = '{tls}'"
    relay, url = lab.relay(lab.with_acme, acme=keys)
    check("#" not in url, "with one its URL is bare")
    relay.said("no certificate yet: asking")
    why = relay.said(f"no new certificate from {authority.directory}")
    check("Connection refused" in why and "asking again in 10" in why, f"an authority that is away is named: {why}")
    check(lab.gets_in(pinned), "the relay is up meanwhile, for who has its pin")
    check(not lab.gets_in(url, ca=tls), "and for nobody else")
    failed = metric(relay, "https_failed_total")

    authority.start()
    relay.said("certified for localhost until")
    root = authority.root(lab.folder / "root.pem")
    check(lab.gets_in(url, ca=root), "once the authority is there, whoever believes it gets in")
    check(lab.gets_in(pinned), "and who had the pin still does")
    check(metric(relay, "https_failed_total") == failed, "the authority's visits are no failures")
    left = metric(relay, "https_certificate_until_seconds") - time.time()
    check(0 < left <= 86_400, "the metrics say when the certificate runs out")
    modes = {oct(file.stat().st_mode & 0o777) for file in (lab.data / "acme").iterdir()}
    check(len(list((lab.data / "acme").iterdir())) == 2 and modes == {"0o600"}, "account and certificate are its owner's")
    shown = lab.shown()
    relay.process.send_signal(signal.SIGHUP)
    relay.said("reloaded")
    check(lab.shown() == shown, "SIGHUP leaves the certificate alone")
    relay.end()
    authority.program.end()

    relay, url = lab.relay(lab.with_acme, acme=keys)
    check(lab.gets_in(url, ca=root) and lab.shown() == shown, "the next start goes by what was kept, without the authority")
    check(not relay.has_said("no certificate yet|no new certificate"), "which is not missed")
    relay.end()
    return pinned


def renewed(lab, tls, pinned):
    """Certificates for seconds, one after the other."""
    authority = Authority(lab.folder, tls, lab.port, 20).start()
    root = authority.root(lab.folder / "root.pem")
    relay, url = lab.relay(lab.with_acme, acme=f"directory = '{authority.directory}'\nca = '{tls}'")
    relay.said("no certificate yet: asking")
    print("ok: what another authority has certified is not shown as this one's", flush=True)
    relay.said("certified for localhost until")
    first = lab.shown()
    server = lab.peer(url, "serve", "--echo", "--allow", "any", ca=root, key="server.key")
    identity = json.loads(server.said('"event":"ready"'))["id"]
    relay.said("certified for localhost until", count=2)
    check(lab.shown() != first, "a certificate is renewed before it runs out")
    ping = lab.peer(url, "ping", identity, "--count", "1", ca=root)
    check(ping.process.wait(PATIENCE) == 0, "the next peer believes the new one, and reaches one that came by the old one")
    check(lab.gets_in(pinned), "the pin is the same")
    server.end()
    relay.end()
    authority.program.end()


def unseen(lab, tls):
    """Authorities that do not get as far."""
    authority = Authority(lab.folder, tls, free_port(), 86_400).start(rejects="0")
    relay, _ = lab.relay(lab.with_acme, acme=f"directory = '{authority.directory}'\nca = '{tls}'")
    why = relay.said("no new certificate")
    check("it does not see this relay at TCP port 443 of localhost" in why, f"a host that leads elsewhere is named: {why}")
    check("asking again in 15 min" in why, "and the authority is left in peace for a while")
    relay.end()
    relay, _ = lab.relay(lab.with_acme, acme=f"directory = '{authority.directory}'")
    why = relay.said("no new certificate")
    words = ("nobody trusted here vouches for its own certificate", "this machine trusts no certificate authority")
    check(any(word in why for word in words), f"an authority that nobody vouches for is not believed: {why}")
    relay.end()
    relay, _ = lab.relay(lab.with_acme, acme=f"directory = 'https://localhost:{authority.port}/nothing'\nca = '{tls}'")
    why = relay.said("no new certificate")
    check("it refuses the directory, with HTTP status 404" in why, f"what is no directory is named: {why}")
    relay.end()
    authority.program.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--relay", type=Path, default=Path("target/debug/relay-acme"), help="the one with ACME")
    parser.add_argument("--programs", type=Path, default=Path("target/debug"), help="where peer is, and a relay without")
    options = parser.parse_args()
    if shutil.which("pebble") is None:
        print("!!! NOT RUN: ACME needs pebble")
        return
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(options, Path(folder))
        try:
            # The authority's own certificate is one of a relay's making.
            tls = lab.folder / "authority" / "relay-https.pem"
            flags = ["--listen", "127.0.0.1:0", "--https", "0", "--public", "localhost", "--data-dir", tls.parent, "--json"]
            made = Program(lab.without, *flags)
            made.said('"event":"ready"')
            made.end()
            pinned = certified(lab, tls)
            renewed(lab, tls, pinned)
            unseen(lab, tls)
        except AssertionError as what:
            sys.exit(f"FAILED: {what}")
        finally:
            for program in Program.running:
                program.process.kill()
                program.process.wait()


if __name__ == "__main__":
    main()
