"""The cache follows a real SeaweedFS: objects written, overwritten, renamed and deleted by several clients at once, and in the end
what is stored is what its bucket lists."""

import concurrent.futures
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

import boto3
import botocore.config
import botocore.exceptions

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from daemon import PATIENCE, Daemon  # noqa: E402

OBJECTS = int(os.environ.get("SEAWEEDFS_OBJECTS", "2000"))
CLIENTS = 6
BUCKET = "photos"
# Longer than a filer takes to send what it has, five at a time.
QUIET = 120
WEBHOOK = """[notification.webhook]
enabled = true
endpoint = "{endpoint}"
bearer_token = "{token}"
"""
TOKEN = "0123456789abcdef"


def free_ports(count):
    """Ports that are free, and so are those 10,000 above them, on which SeaweedFS speaks gRPC."""
    found = []
    for port in random.sample(range(12000, 22000), 10000):
        try:
            for one in (port, port + 10000):
                with socket.socket() as trial:
                    trial.bind(("127.0.0.1", one))
            found.append(port)
        except OSError:
            continue
        if len(found) == count:
            return found
    raise AssertionError("no free ports")


class SeaweedFS:
    """`with SeaweedFS(endpoint) as weed`: a master, a volume server, a filer that notifies this endpoint, and an S3 gateway."""

    def __init__(self, endpoint):
        self.endpoint = endpoint

    def __enter__(self):
        self.directory = tempfile.TemporaryDirectory()
        path = self.directory.name
        with open(os.path.join(path, "notification.toml"), "w", encoding="utf-8") as file:
            file.write(WEBHOOK.format(endpoint=self.endpoint, token=TOKEN))
        master, volume, filer, s3 = free_ports(4)
        self.filer, self.s3 = f"http://127.0.0.1:{filer}", f"http://127.0.0.1:{s3}"
        binary = os.path.join(os.path.dirname(sys.executable), "weed")
        command = [
            binary, "server", f"-dir={path}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-master.port={master}",
            f"-volume.port={volume}", "-filer", f"-filer.port={filer}", "-s3", f"-s3.port={s3}", "-volume.max=20",
            "-master.volumeSizeLimitMB=64",
        ]
        self.log = open(os.path.join(path, "log"), "w+", encoding="utf-8")
        self.process = subprocess.Popen(command, cwd=path, stdout=self.log, stderr=self.log, env={"HOME": path})
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.log.close()
        self.directory.cleanup()

    def client(self):
        config = botocore.config.Config(s3={"addressing_style": "path"}, retries={"max_attempts": 10})
        keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
        return boto3.client("s3", endpoint_url=self.s3, config=config, **keys)

    def rename(self, old, new):
        source = urllib.parse.quote(f"/buckets/{BUCKET}/{old}")
        url = f"{self.filer}/buckets/{BUCKET}/{urllib.parse.quote(new)}?mv.from={source}"
        urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=PATIENCE).read()


def until(condition, patience=PATIENCE):
    end = time.monotonic() + patience
    while not (told := condition()):
        if time.monotonic() > end:
            return told
        time.sleep(0.2)
    return told


def begin(weed):
    """Its parts find each other one after the other."""
    client = weed.client()

    def is_there():
        try:
            client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="first", Body=b"first")
            return True
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
            return False

    assert until(is_there, 60), "SeaweedFS did not begin"


def work(weed, names, seed):
    """What one client does to objects of its own, each several times."""
    chance, client = random.Random(seed), weed.client()
    for name in names:
        client.put_object(Bucket=BUCKET, Key=name, Body=chance.randbytes(chance.randrange(1, 3000)))
    for name in chance.sample(names, len(names) // 2):
        client.put_object(Bucket=BUCKET, Key=name, Body=chance.randbytes(chance.randrange(1, 3000)))
    gone = chance.sample(names, len(names) // 3)
    for name in gone[: len(gone) // 2]:
        client.delete_object(Bucket=BUCKET, Key=name)
    for name in gone[len(gone) // 2 :]:
        weed.rename(name, f"renamed {name}")
    for name in gone[: len(gone) // 4]:
        client.put_object(Bucket=BUCKET, Key=name, Body=b"again " + chance.randbytes(chance.randrange(1, 3000)))


def listed(client):
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    objects = (entry for page in pages for entry in page.get("Contents", []))
    return {entry["Key"]: (entry["Size"], entry["ETag"].strip('"')) for entry in objects}


def cached(daemon, names):
    held = {}
    for start in range(0, len(names), 500):
        event = json.dumps({"key": "GET", "value": {"data": names[start : start + 500]}}).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
        request = urllib.request.Request(f"{daemon.url}/events", event, headers)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            for result in json.load(answer)["results"]:
                if result["status"] == "hit":
                    facts = json.loads(result["value"])
                    held[result["key"]] = (facts["size"], facts["etag"])
    return held


def main():
    settings = {"AUTH_TOKENS": TOKEN, "LOG_LEVEL": "error"}
    settings |= {"SOURCES_WEED_FORMAT": "seaweedfs", "SOURCES_WEED_VALUE": "facts"}
    with Daemon(**settings) as daemon, SeaweedFS(f"{daemon.url}/sources/weed") as weed:
        begin(weed)
        names = [f"d {number % 10}/é+{number}.bin" for number in range(OBJECTS)]
        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
            shares = [names[client::CLIENTS] for client in range(CLIENTS)]
            for future in [pool.submit(work, weed, share, seed) for seed, share in enumerate(shares)]:
                future.result()
        wanted = listed(weed.client())
        every = ["first", *names, *(f"renamed {name}" for name in names)]

        def differing():
            held = cached(daemon, every)
            return {name: (wanted.get(name), held.get(name)) for name in every if wanted.get(name) != held.get(name)}

        until(lambda: not differing(), QUIET)
        left = differing()
        assert not left, f"{len(left)} of {len(every)} differ: {dict(list(left.items())[:5])}"
        assert len(wanted) > OBJECTS // 2
    print(f"the cache is what SeaweedFS lists: {len(wanted)} objects")


if __name__ == "__main__":
    main()
