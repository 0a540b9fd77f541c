"""What the scripts that run the real programs in the laboratory have in common.

The laboratory is a program with the calling convention of `natlab run` (JSON lines out) that needs root.
"""

import glob
import json
import os
import signal
import subprocess
import sys
import tempfile

READY_URL = r'"url":\s*"(?P<url>[^"]+)"'
READY_HTTPS = r'"https":\s*"(?P<url>[^"]+)"'
READY_ID = r'"id":\s*"([^"]+)"'


def clean_up_on_signals():
    """A script that is ended by a signal ends its runs and programs first."""
    def leave(number, _):
        raise SystemExit(128 + number)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, leave)


def prepare(program):
    """Whether the laboratory can run. A script that is ended by a signal ends its runs first."""
    clean_up_on_signals()
    if os.geteuid() == 0:
        return True
    print(f"{program}: needs root", file=sys.stderr)
    return False


def relay_command(binaries, public="{relay_ip}", data="relay", listen="0.0.0.0:4433"):
    return f"{binaries}/relay --listen {listen} --public {public} --data-dir {{tmp}}/{data} --json"


def peer_command(binaries, key, action, relays=("{url}",)):
    urls = " ".join(f"--relay '{url}'" for url in relays)
    return f"{binaries}/peer {urls} --key {{tmp}}/{key}.key --json {action}"


def serve_command(binaries, relays=("{url}",)):
    return peer_command(binaries, "b", "serve --echo --allow any", relays)


class Run:
    """One run of the laboratory: its exit code, its lines, and what was said beside them."""

    def __init__(self, command, timeout=120):
        with tempfile.TemporaryFile("w+") as errors:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, text=True, timeout=timeout,
                                  check=False)
            errors.seek(0)
            self.errors = errors.read()
        self.exit, self.output = done.returncode, done.stdout
        self.lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    def said(self, who):
        """The JSON lines of one program: the laboratory's time, and what it said."""
        return [(line["t"], line["json"]) for line in self.lines
                if line.get("who") == who and isinstance(line.get("json"), dict)]

    def lab(self, event):
        """The laboratory's own events of one kind."""
        return [line for line in self.lines if line.get("who") == "natlab" and line.get("event") == event]

    @property
    def summary(self):
        """The client's last word."""
        client = [line for _, line in self.said("client")]
        return next((line for line in reversed(client) if line.get("event") == "summary"), None)

    def why_no_summary(self):
        return f"no summary, exit {self.exit}\n{self.errors}{self.output[-2000:]}"

    @property
    def leftovers(self):
        """Namespaces, folders and processes of this run that are still there."""
        left = []
        for prefix in (line["prefix"] for line in self.lab("lab")):
            for pattern in (f"/run/netns/{prefix}-*", f"/etc/netns/{prefix}-*", f"{tempfile.gettempdir()}/{prefix}-*"):
                left += glob.glob(pattern)
            left += [f"process {pid}" for pid in processes_with(prefix)]
        return left


def processes_with(word):
    """Processes whose command line has this word."""
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as file:
                if word.encode() in file.read():
                    yield path.split("/")[2]
        except OSError:
            pass


def write_out(path, text):
    if path:
        with open(path, "w", encoding="utf-8") as out:
            out.write(text)
