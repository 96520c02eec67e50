"""`reconcile` of many objects that are in step, beside listing them with the store's own client (boto3): time and memory. By hand, for it takes
minutes to set up: `python listing.py [OBJECTS]` with the packages of requirements.txt, a redis-server and `cargo build --release`."""

import os
import subprocess
import sys
import tempfile
import time

os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "1000000000"

import boto3  # noqa: E402
from stores import BUCKET, free_port, server, settings  # noqa: E402

BINARY = os.environ.get("BINARY", "target/release/redis-cache-sync")
MUST_RATIO, MUST_MIB = 1.3, 64
ROUNDS = 3
SETS = 4


def serve(port, objects):
    """A moto with these objects, put into it without HTTP."""
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends
    from moto.server import ThreadedMotoServer

    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    backend.create_bucket(BUCKET, "us-east-1")
    for number in range(objects):
        backend.put_object(BUCKET, f"folder/object-{number:06}.txt", b"x")
    ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False).start()
    sys.stdin.read()


def listed(endpoint):
    """Seconds that the store's own client takes to list everything, and how much that is."""
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    begun = time.monotonic()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    count = sum(len(page.get("Contents", [])) for page in pages)
    return time.monotonic() - begun, count


def high_water(pid):
    """MiB of memory that a process had at most; 0 once it has ended."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8") as status:
            return next((int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM:")), 0)
    except OSError:
        return 0


def reconciled(environment):
    """Exit code, seconds and MiB of one run, and what it said."""
    begun = time.monotonic()
    command = [os.path.abspath(BINARY), "reconcile", "pics", "--bucket", BUCKET, "--yes"]
    with tempfile.TemporaryFile("w+") as said:
        process, peak = subprocess.Popen(command, env=environment, stdout=said, stderr=subprocess.STDOUT), 0
        # What `wait4` says would count this program's own memory, of before the other was executed.
        while process.poll() is None:
            peak = max(peak, high_water(process.pid))
            time.sleep(0.02)
        took = time.monotonic() - begun
        said.seek(0)
        text = said.read()
    return process.returncode, took, peak, text


def main(objects=100_000):
    store, redis = free_port(), free_port()
    endpoint = f"http://127.0.0.1:{store}"
    moto = [sys.executable, os.path.abspath(__file__), "serve", str(store), str(objects)]
    with server(moto, store, stdin=subprocess.PIPE), server(["redis-server", "--port", str(redis), "--save", ""], redis):
        environment = {
            **settings("main", kind="s3", endpoint=endpoint, access_key_id="a", secret_access_key="b"),
            **{"REDIS_PORT": str(redis), "SOURCES_PICS_STORE": "main", "SOURCES_PICS_KEY": "p:{object}"},
        }
        # The store is slow, and on a busy machine gives some objects up to the next run.
        for _ in range(SETS):
            code, took, memory, text = reconciled(environment)
            if code == 0:
                break
        print(f"set: {took:.1f} s, {memory:.0f} MiB; {text.strip().splitlines()[-1]}")
        rounds = []
        for _ in range(ROUNDS):
            listing, count = listed(endpoint)
            code, took, memory, text = reconciled(environment)
            assert code == 0 and count == objects and f"{objects} objects, {objects} in step, 0 set" in text, (count, text)
            rounds.append((took / listing, memory))
            print(f"listed by boto3: {listing:.2f} s; reconciled: {took:.2f} s, {memory:.0f} MiB")
        ratio, memory = sorted(ratio for ratio, _ in rounds)[ROUNDS // 2], max(memory for _, memory in rounds)
        print(f"{ratio:.2f} of the time (at most {MUST_RATIO}), {memory:.0f} MiB (at most {MUST_MIB})")
        assert ratio <= MUST_RATIO and memory <= MUST_MIB


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]), int(sys.argv[3]))
    else:
        main(*map(int, sys.argv[1:]))
