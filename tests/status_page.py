#!/usr/bin/env python3
"""The relay's status page in a real browser: headless Chromium renders it, nothing else is fetched, nobody is named.

    cargo build --bins
    python3 tests/status_page.py --programs target/debug [--screenshots FOLDER]

Skips, loudly, where there is no Chromium.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars",
]


def browser():
    return next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)


def browse(program, profile, url, *flags):
    command = [program, *FLAGS, f"--user-data-dir={profile}", *flags, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    if done.returncode != 0:
        sys.exit(f"FAILED: the browser ended with {done.returncode}: {done.stderr[-500:]}")
    return done


def check(condition, what):
    if not condition:
        sys.exit(f"FAILED: {what}")
    print(f"ok: {what}")


def number(page, name):
    found = re.search(rf'id="{name}">([^<]*)<', page)
    return found and found.group(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=Path, default=Path("target/debug"))
    parser.add_argument("--screenshots", type=Path, help="where to leave light.png and dark.png")
    options = parser.parse_args()
    program = browser()
    if program is None:
        print("!!! NOT RUN: the status page needs chromium")
        return
    running = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        try:
            flags = ["--listen", "127.0.0.1:0", "--admin", "0", "--json", "--data-dir", folder]
            relay = subprocess.Popen(
                [options.programs / "relay", *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            running.append(relay)
            url = json.loads(relay.stdout.readline())["url"]
            page_url = next(found.group(0) for line in relay.stderr if (found := re.search(r"http://\S+/", line)))
            peer = [options.programs / "peer", "--relay", url, "--json", "--key"]
            server = subprocess.Popen(
                [*peer, folder / "server.key", "serve", "--echo", "--allow", "any"], stdout=subprocess.PIPE, text=True,
                stderr=subprocess.DEVNULL,
            )
            running.append(server)
            identity = json.loads(server.stdout.readline())["id"]
            ping = [*peer, folder / "client.key", "--path", "relay", "ping", identity, "--count", "3", "--interval", "100"]
            done = subprocess.run(ping, capture_output=True, text=True, timeout=60)
            check(done.returncode == 0, f"a ping goes over the relay {done.stderr[-200:]}")

            page = browse(program, folder / "profile", page_url, "--dump-dom").stdout
            check(number(page, "peers") == "1", "the page counts one peer")
            check(number(page, "introductions") == "1", "and one introduction")
            check(re.fullmatch(r"[\d.]+ (B|KB)", number(page, "relayed") or ""), "and the bytes that were relayed")
            check(identity not in page and "127.0.0.1" not in page, "it names nobody, and no address")
            check(not re.search(r"<script|src=|href=|url\(", page), "it needs nothing else")
            shots = options.screenshots or folder
            shots.mkdir(parents=True, exist_ok=True)
            for name, more in (("light", []), ("dark", ["--blink-settings=preferredColorScheme=0"])):
                shot = shots.resolve() / f"{name}.png"
                browse(program, folder / "profile", page_url, f"--screenshot={shot}", "--window-size=1000,820", *more)
                check(shot.stat().st_size > 10_000, f"it is drawn ({name})")
            light, dark = ((shots / f"{name}.png").read_bytes() for name in ("light", "dark"))
            check(light != dark, "by night in other colours than by day")
        finally:
            for process in running:
                process.kill()
                process.wait()


if __name__ == "__main__":
    main()
