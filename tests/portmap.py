#!/usr/bin/env python3
"""Runs `peer` behind a router with a real miniupnpd, in network namespaces: a port is mapped, and given back at the end.

    tests/portmap.py [--bin target/release]

With PCP; with NAT-PMP, for which packets of PCP's version are dropped at the router; and with UPnP-IGD of both versions,
for which miniupnpd speaks neither of the others. Needs root, iproute2,
nftables and miniupnpd (Debian: miniupnpd-nftables). Exit code: 0 right; 1 not; 2 it could not run.
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
WAN, RELAY, HOST, ROUTER = "11.1.1.2", "11.1.1.10", "192.168.1.10", "192.168.1.1"
RULES = """table inet filter {
chain input { type filter hook input priority 0; policy accept; %s }
chain forward { type filter hook forward priority 0; policy drop; ct state established,related accept; iifname "lan" accept; jump miniupnpd; }
chain miniupnpd { }
chain prerouting { type nat hook prerouting priority dstnat; jump prerouting_miniupnpd; }
chain prerouting_miniupnpd { }
chain postrouting { type nat hook postrouting priority srcnat; jump postrouting_miniupnpd; oifname "wan" masquerade; }
chain postrouting_miniupnpd { }
}
"""
WITHOUT_PCP = 'udp dport 5351 @th,64,8 2 drop;'
DATAGRAMS = "enable_natpmp=yes\nenable_upnp=no"
IGD = "enable_natpmp=no\nenable_upnp=yes\nforce_igd_desc_v1=%s"
CONFIG = f"""ext_ifname=wan
listening_ip=lan
%s
secure_mode=yes
upnp_table_name=filter
upnp_nat_table_name=filter
upnp_forward_chain=miniupnpd
upnp_nat_chain=prerouting_miniupnpd
upnp_nat_postrouting_chain=postrouting_miniupnpd
uuid=00000000-0000-0000-0000-000000000001
allow 1024-65535 192.168.1.0/24 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""
PATIENCE = 10


def sh(command):
    return subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout


class Place:
    """A host, its router, and the internet."""

    def __init__(self, rules):
        self.prefix, self.running = f"pm{os.getpid()}", []
        self.folder = tempfile.mkdtemp(prefix=self.prefix)
        host, router, net = (f"{self.prefix}-{name}" for name in ("host", "router", "net"))
        self.names = {"host": host, "router": router, "net": net}
        for name in self.names.values():
            sh(f"ip netns add {name} && ip -n {name} link set lo up")
        sh(f"ip link add eth0 netns {host} type veth peer name lan netns {router}")
        sh(f"ip link add eth0 netns {net} type veth peer name wan netns {router}")
        for name, link, address in ((host, "eth0", HOST), (router, "lan", ROUTER), (router, "wan", WAN), (net, "eth0", RELAY)):
            sh(f"ip -n {name} address add {address}/24 dev {link} && ip -n {name} link set {link} up")
        sh(f"ip -n {host} route add default via {ROUTER} && ip -n {router} route add default via {RELAY}")
        sh(f"ip netns exec {router} sysctl -qw net.ipv4.ip_forward=1")
        subprocess.run(["ip", "netns", "exec", router, "nft", "-f", "-"], input=rules, text=True, check=True)

    def start(self, where, command, output=subprocess.DEVNULL):
        program = subprocess.Popen(["ip", "netns", "exec", self.names[where], *command.split()], stdout=output,
                                   stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True,
                                   env=dict(os.environ, HOME=self.folder, XDG_DATA_HOME=self.folder))
        self.running.append(program)
        return program

    def mappings(self):
        return sh(f"ip netns exec {self.names['router']} nft list chain inet filter prerouting_miniupnpd")

    def clear(self):
        for program in self.running:
            program.kill()
            program.wait()
        for name in self.names.values():
            subprocess.run(["ip", "netns", "del", name], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def event(program, name):
    """The next event of this name."""
    for line in program.stdout:
        value = json.loads(line)
        if value.get("event") == name:
            return value
    raise RuntimeError(f"ended without {name}")


def run(binaries, protocol, rules, speaks):
    place, wrong = Place(rules), []
    signal.alarm(60)
    try:
        config = os.path.join(place.folder, "miniupnpd.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(CONFIG % speaks)
        place.start("router", f"miniupnpd -d -f {config} -P {place.folder}/pid")
        time.sleep(1)
        relay = place.start("net", f"{binaries}/relay --listen {RELAY}:4433 --json", subprocess.PIPE)
        url = event(relay, "ready")["url"]
        peer = place.start("host", f"{binaries}/peer --relay {url} --json serve --echo --allow any", subprocess.PIPE)
        said = event(peer, "port_mapping")
        print(f"{protocol:>8} mapped {said['external']} for {said['seconds']} s", flush=True)
        if said["protocol"] != protocol:
            wrong.append(f"by {said['protocol']}")
        if not said["external"].startswith(f"{WAN}:"):
            wrong.append(f"another address than {WAN}")
        if f"dnat ip to {HOST}:" not in place.mappings():
            wrong.append(f"the router has no such rule: {place.mappings()}")
        peer.send_signal(signal.SIGINT)
        peer.wait(PATIENCE)
        until = time.monotonic() + PATIENCE
        while "dnat" in place.mappings() and time.monotonic() < until:
            time.sleep(0.1)
        if "dnat" in place.mappings():
            wrong.append("not given back")
    finally:
        signal.alarm(0)
        place.clear()
    return wrong


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
    failed = False
    for protocol, rules, speaks in (
        ("PCP", RULES % "", DATAGRAMS),
        ("NAT-PMP", RULES % WITHOUT_PCP, DATAGRAMS),
        ("UPnP-IGD", RULES % "", IGD % "no"),
        ("UPnP-IGD", RULES % "", IGD % "yes"),
    ):
        wrong = run(os.path.abspath(options.bin), protocol, rules, speaks)
        print(f"{protocol:>8} {'WRONG: ' + '; '.join(wrong) if wrong else 'right'}", flush=True)
        failed |= bool(wrong)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
