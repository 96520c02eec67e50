"""The real daemon as a process of its own, over its embedded cache, on a port it was given."""

import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request

TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(os.path.dirname(__file__), "../../target"))
BINARY = os.path.abspath(os.path.join(TARGET, "debug/redis-cache-sync"))
PATIENCE = 30


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Redis:
    """`with Redis() as redis`: a redis-server with these options besides, on a free port inside."""

    def __init__(self, *options):
        self.options = options

    def __enter__(self):
        self.directory = tempfile.TemporaryDirectory()
        # The bus of a cluster listens 10,000 above it.
        self.port = next(port for port in iter(free_port, None) if port <= 55_000)
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--dir", self.directory.name, *self.options]
        self.process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
        until = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                assert time.monotonic() < until, "redis-server did not start"
                time.sleep(0.02)

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.directory.cleanup()


class Daemon:
    """`with Daemon(**settings) as daemon`: listens inside, and has ended behind."""

    def __init__(self, binary=BINARY, **settings):
        self.binary = binary
        self.settings = {"PORT": "0", "BIND": "127.0.0.1", "CACHE_BACKEND": "embedded", **settings}

    def __enter__(self):
        self.directory = tempfile.TemporaryDirectory()
        self.process = subprocess.Popen(
            [self.binary], env=self.settings, cwd=self.directory.name, stderr=subprocess.PIPE, text=True
        )
        lines = []
        for line in self.process.stderr:
            lines.append(line)
            if found := re.search(r"listening address=(\S+) cache=", line):
                self.url = f"http://{found[1]}"
                break
        else:
            raise AssertionError("the daemon did not listen:\n" + "".join(lines))
        self.admin_url = None
        if "ADMIN_PORT" in self.settings:
            found = re.search(r"listening for probes and metrics address=(\S+)", self.process.stderr.readline())
            self.admin_url = f"http://{found[1]}"
        self.drain = threading.Thread(target=self.process.stderr.read, daemon=True)
        self.drain.start()
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.directory.cleanup()

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=PATIENCE) as answer:
            return json.load(answer)

    def post(self, event, token=None, prefer=None, path="/events"):
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        headers |= {"Prefer": prefer} if prefer else {}
        request = urllib.request.Request(f"{self.url}{path}", json.dumps(event).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
