"""A server made of the standard library that leaves processes everywhere; run by its path.

    python fake.py PORT PIDS [--silent] [--dies-at-once] [--deaf] [--until FILE]

It starts a child in its own process group and a grandchild in a session of its own whose parent
ends at once; both sleep and, like the server itself with --deaf, take no notice of SIGTERM. PIDS
gets the ids of all three.
"""

import argparse
import http.server
import json
import os
import signal
import sys
import time
from pathlib import Path


def sleeper(*, leaves: bool) -> int:
    """A sleeping process's id: a child, or an orphan in a session of its own."""
    read, write = os.pipe()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if leaves:
            os.setsid()
            if os.fork():
                os._exit(0)
        os.write(write, str(os.getpid()).encode())
        os.close(write)
        time.sleep(120)
        os._exit(0)
    os.close(write)
    return int(os.read(read, 32))


PAGES = {
    "/v1/models": json.dumps({"data": [{"id": "fake-model"}]}),
    "/metrics": "# TYPE fake_total counter\nfake_total 1\n",
}


class Handler(http.server.BaseHTTPRequestHandler):
    """Lists one model and has a page of metrics."""

    def do_GET(self) -> None:
        page = PAGES.get(self.path)
        self.send_response(404 if page is None else 200)
        self.end_headers()
        self.wfile.write((page or "").encode())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("pids", type=Path)
    for flag in ("--silent", "--dies-at-once", "--deaf"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--until", type=Path, help="answers once it is there")
    asked = parser.parse_args()
    pids = [os.getpid(), sleeper(leaves=False), sleeper(leaves=True)]
    asked.pids.write_text(json.dumps(pids))
    print("loading weights", flush=True)
    if asked.dies_at_once:
        print("no room on the device", file=sys.stderr, flush=True)
        sys.exit(3)
    if asked.deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if asked.silent:
        time.sleep(120)
    while asked.until and not asked.until.exists():
        time.sleep(0.02)
    http.server.HTTPServer(("127.0.0.1", asked.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
