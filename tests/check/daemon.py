"""The real daemon as a process of its own, over its embedded cache, on a port it was given."""

import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import urllib.request

TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(os.path.dirname(__file__), "../../target"))
BINARY = os.path.abspath(os.path.join(TARGET, "debug/redis-cache-sync"))
PATIENCE = 30


class Daemon:
    """`with Daemon(**settings) as daemon`: listens inside, and has ended behind."""

    def __init__(self, **settings):
        self.settings = {"PORT": "0", "BIND": "127.0.0.1", "CACHE_BACKEND": "embedded", **settings}

    def __enter__(self):
        self.directory = tempfile.TemporaryDirectory()
        self.process = subprocess.Popen(
            [BINARY], env=self.settings, cwd=self.directory.name, stderr=subprocess.PIPE, text=True
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

    def post(self, event, token=None):
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        request = urllib.request.Request(f"{self.url}/events", json.dumps(event).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
