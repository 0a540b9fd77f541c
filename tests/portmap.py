#!/usr/bin/env python3
"""Runs `peer` behind routers with a real miniupnpd, in network namespaces.

    tests/portmap.py [--bin target/release]

A port is mapped, and given back at the end: with PCP; with NAT-PMP, for which packets of PCP's version are dropped at the
router; and with UPnP-IGD of both versions, for which miniupnpd speaks neither of the others. `peer netcheck` says which.

Then two peers whose routers give each destination another port, at random, and let in only what was asked for: nothing but
the relay leads from one to the other, until one of the routers maps a port. In both roles.

Needs root, iproute2, nftables and miniupnpd (Debian: miniupnpd-nftables). Exit code: 0 right; 1 not; 2 it could not run.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from laboratory import prepare

# In no range that is reserved: miniupnpd maps no port of an address that it takes for private. Nothing leaves the
# namespaces.
RELAY = "11.1.1.10"
RULES = """table inet filter {
chain input { type filter hook input priority 0; policy accept; %s }
chain forward { type filter hook forward priority 0; policy drop; ct state established,related accept; iifname "lan" accept; jump miniupnpd; }
chain miniupnpd { }
chain prerouting { type nat hook prerouting priority dstnat; jump prerouting_miniupnpd; }
chain prerouting_miniupnpd { }
chain postrouting { type nat hook postrouting priority srcnat; jump postrouting_miniupnpd; oifname "wan" masquerade%s; }
chain postrouting_miniupnpd { }
}
"""
WITHOUT_PCP = "udp dport 5351 @th,64,8 2 drop;"
DATAGRAMS = "enable_natpmp=yes\nenable_upnp=no"
IGD = "enable_natpmp=no\nenable_upnp=yes\nforce_igd_desc_v1=%s"
CONFIG = """ext_ifname=wan
listening_ip=lan
%s
secure_mode=yes
upnp_table_name=filter
upnp_nat_table_name=filter
upnp_forward_chain=miniupnpd
upnp_nat_chain=prerouting_miniupnpd
upnp_nat_postrouting_chain=postrouting_miniupnpd
uuid=00000000-0000-0000-0000-000000000001
allow 1024-65535 192.168.0.0/16 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""
PATIENCE = 10


def sh(command):
    return subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout


class Home:
    """A host and its router: WAN 11.1.1.(1 + number), LAN 192.168.number.0/24."""

    def __init__(self, number):
        self.number, self.wan, self.host = number, f"11.1.1.{number + 1}", f"192.168.{number}.10"
        self.router = f"192.168.{number}.1"


class Place:
    """Homes, and the internet: a switch, at which the relay is too."""

    def __init__(self, homes, rules):
        self.prefix, self.running, self.names = f"pm{os.getpid()}", [], []
        self.folder = tempfile.mkdtemp(prefix=self.prefix)
        try:
            net = self.space("net")
            sh(f"ip -n {net} link add eth0 type bridge && ip -n {net} link set eth0 up")
            sh(f"ip -n {net} address add {RELAY}/24 dev eth0")
            for home in homes:
                self.build(home, net, rules)
        except BaseException:
            self.clear()
            raise

    def name(self, what):
        return f"{self.prefix}-{what}"

    def space(self, what):
        name = self.name(what)
        sh(f"ip netns add {name}")
        self.names.append(name)
        sh(f"ip -n {name} link set lo up")
        return name

    def build(self, home, net, rules):
        host, router = self.space(f"host{home.number}"), self.space(f"router{home.number}")
        sh(f"ip link add eth0 netns {host} type veth peer name lan netns {router}")
        sh(f"ip link add home{home.number} netns {net} type veth peer name wan netns {router}")
        sh(f"ip -n {net} link set home{home.number} master eth0 up")
        for space, link, address in ((host, "eth0", home.host), (router, "lan", home.router), (router, "wan", home.wan)):
            sh(f"ip -n {space} address add {address}/24 dev {link} && ip -n {space} link set {link} up")
        sh(f"ip -n {host} route add default via {home.router} && ip -n {router} route add default via {RELAY}")
        sh(f"ip netns exec {router} sysctl -qw net.ipv4.ip_forward=1")
        subprocess.run(["ip", "netns", "exec", router, "nft", "-f", "-"], input=rules, text=True, check=True)

    def start(self, where, command, output=subprocess.DEVNULL):
        program = subprocess.Popen(["ip", "netns", "exec", self.name(where), *command.split()], stdout=output,
                                   stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True,
                                   env=dict(os.environ, HOME=self.folder, XDG_DATA_HOME=self.folder))
        self.running.append(program)
        return program

    def miniupnpd(self, home, speaks):
        path = os.path.join(self.folder, "miniupnpd.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(CONFIG % speaks)
        self.start(f"router{home.number}", f"miniupnpd -d -f {path} -P {self.folder}/pid")
        time.sleep(1)

    def relay(self, binaries):
        relay = self.start("net", f"{binaries}/relay --listen {RELAY}:4433 --json", subprocess.PIPE)
        return event(relay, "ready")["url"]

    def peer(self, binaries, home, url, action):
        key = f"{self.folder}/{home.number}.key"
        command = f"{binaries}/peer --relay {url} --key {key} --json {action}"
        return self.start(f"host{home.number}", command, subprocess.PIPE)

    def netcheck(self, binaries, home, url):
        check = self.start(f"host{home.number}", f"{binaries}/peer --relay {url} --json netcheck", subprocess.PIPE)
        return json.loads(check.communicate(timeout=PATIENCE)[0])

    def mappings(self, home):
        router = self.name(f"router{home.number}")
        return sh(f"ip netns exec {router} nft list chain inet filter prerouting_miniupnpd")

    def clear(self):
        for program in self.running:
            program.kill()
            program.wait()
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def event(program, name):
    """The next event of this name."""
    for line in program.stdout:
        value = json.loads(line)
        if value.get("event") == name:
            return value
    raise RuntimeError(f"ended without {name}")


def mapped(binaries, protocol, speaks, rules):
    """A port is mapped, and given back. Gives what was wrong."""
    home = Home(1)
    place, wrong = Place([home], rules), []
    signal.alarm(60)
    try:
        place.miniupnpd(home, speaks)
        url = place.relay(binaries)
        checked = place.netcheck(binaries, home, url)["port_mapping"]
        print(f"{protocol:>8} netcheck: {checked}", flush=True)
        if not checked.startswith(f"{home.wan}:") or f" by {protocol}, " not in checked:
            wrong.append(f"netcheck found {checked}")
        peer = place.peer(binaries, home, url, "serve --echo --allow any")
        said = event(peer, "port_mapping")
        print(f"{protocol:>8} mapped {said['external']} for {said['seconds']} s", flush=True)
        if said["protocol"] != protocol:
            wrong.append(f"by {said['protocol']}")
        if not said["external"].startswith(f"{home.wan}:"):
            wrong.append(f"another address than {home.wan}")
        if f"dnat ip to {home.host}:" not in place.mappings(home):
            wrong.append(f"the router has no such rule: {place.mappings(home)}")
        peer.send_signal(signal.SIGINT)
        peer.wait(PATIENCE)
        until = time.monotonic() + PATIENCE
        while "dnat" in place.mappings(home) and time.monotonic() < until:
            time.sleep(0.1)
        if "dnat" in place.mappings(home):
            wrong.append("not given back")
    finally:
        signal.alarm(0)
        place.clear()
    return wrong


def met(binaries, caller, portmap, speaks):
    """How a call between the two homes of which the first one's router maps ports ends: the ping's summary."""
    homes = [Home(1), Home(2)]
    callee = 1 - caller
    place = Place(homes, RULES % ("", " fully-random"))
    signal.alarm(60)
    try:
        place.miniupnpd(homes[0], speaks)
        url, wish = place.relay(binaries), "" if portmap else "--no-portmap "
        server = place.peer(binaries, homes[callee], url, f"{wish}serve --echo --allow any")
        ready = event(server, "ready")
        if portmap and callee == 0:
            event(server, "port_mapping")
        client = place.peer(binaries, homes[caller], url, f"{wish}ping {ready['id']} --count 60 --interval 50")
        return event(client, "summary")
    finally:
        signal.alarm(0)
        place.clear()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default="target/release")
    options = parser.parse_args()
    if not prepare("portmap"):
        return 2
    missing = [program for program in ("ip", "nft", "miniupnpd") if shutil.which(program) is None]
    if missing:
        print(f"portmap: NOT RUN, missing: {', '.join(missing)}", file=sys.stderr)
        return 2
    binaries, failed = os.path.abspath(options.bin), False
    for protocol, speaks, rules in (
        ("PCP", DATAGRAMS, RULES % ("", "")),
        ("NAT-PMP", DATAGRAMS, RULES % (WITHOUT_PCP, "")),
        ("UPnP-IGD", IGD % "no", RULES % ("", "")),
        ("UPnP-IGD", IGD % "yes", RULES % ("", "")),
    ):
        wrong = mapped(binaries, protocol, speaks, rules)
        print(f"{protocol:>8} {'WRONG: ' + '; '.join(wrong) if wrong else 'right'}", flush=True)
        failed |= bool(wrong)
    for what, caller, portmap, speaks, path in (
        ("no port mapped", 1, False, DATAGRAMS, "relay"),
        ("the called side's, by PCP", 1, True, DATAGRAMS, "direct"),
        ("the calling side's, by PCP", 0, True, DATAGRAMS, "direct"),
        ("the called side's, by UPnP-IGD", 1, True, IGD % "no", "direct"),
        ("the calling side's, by UPnP-IGD", 0, True, IGD % "no", "direct"),
    ):
        summary = met(binaries, caller, portmap, speaks)
        right = summary["path"] == path
        print(f"{what}: {summary['path']}, direct after {summary['direct_ms']} ms: {'right' if right else 'WRONG'}", flush=True)
        failed |= not right
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
