"""A real SeaweedFS with its S3 gateway, whose filer notifies an endpoint, and what clients do to the objects of its bucket."""

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
import obstore.store

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from daemon import PATIENCE  # noqa: E402

BUCKET = "photos"
TOKEN = "0123456789abcdef"
ACCESS_KEY, SECRET_KEY = "cache-reader", "a-secret-of-the-gateway"
CLIENTS = 6
WEBHOOK = """[notification.webhook]
enabled = true
endpoint = "{endpoint}"
bearer_token = "{token}"
"""
IDENTITY = {"name": "all", "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}], "actions": ["Admin"]}


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
    """`with SeaweedFS(endpoint) as weed`: a master, a volume server, a filer that notifies this endpoint, and an S3 gateway that
    checks signatures, with an empty bucket."""

    def __init__(self, endpoint):
        self.endpoint = endpoint

    def __enter__(self):
        self.directory = tempfile.TemporaryDirectory()
        path = self.directory.name
        with open(os.path.join(path, "notification.toml"), "w", encoding="utf-8") as file:
            file.write(WEBHOOK.format(endpoint=self.endpoint, token=TOKEN))
        with open(os.path.join(path, "identities.json"), "w", encoding="utf-8") as file:
            json.dump({"identities": [IDENTITY]}, file)
        master, volume, filer, s3 = free_ports(4)
        self.filer, self.s3 = f"http://127.0.0.1:{filer}", f"http://127.0.0.1:{s3}"
        binary = os.path.join(os.path.dirname(sys.executable), "weed")
        command = [
            binary, "server", f"-dir={path}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-master.port={master}",
            f"-volume.port={volume}", "-filer", f"-filer.port={filer}", "-s3", f"-s3.port={s3}", "-s3.config=identities.json",
            "-volume.max=20", "-master.volumeSizeLimitMB=64",
        ]
        self.log = open(os.path.join(path, "log"), "w+", encoding="utf-8")
        self.process = subprocess.Popen(command, cwd=path, stdout=self.log, stderr=self.log, env={"HOME": path})
        try:
            self.begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.log.close()
        self.directory.cleanup()

    def begin(self):
        """Its parts find each other one after the other."""
        config = botocore.config.Config(
            s3={"addressing_style": "path"}, retries={"max_attempts": 10}, max_pool_connections=2 * CLIENTS,
        )
        keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY, "region_name": "us-east-1"}
        # One for all threads: to make another takes longer than a hundred requests.
        self.client = boto3.client("s3", endpoint_url=self.s3, config=config, **keys)
        # Takes a tenth of the processor time, and no name with an empty part.
        self.quick = obstore.store.S3Store(
            BUCKET, endpoint=self.s3, access_key_id=ACCESS_KEY, secret_access_key=SECRET_KEY, region="us-east-1",
            virtual_hosted_style_request=False, client_options={"allow_http": True},
        )

        def is_there():
            try:
                self.client.create_bucket(Bucket=BUCKET)
                self.client.put_object(Bucket=BUCKET, Key="first", Body=b"first")
                return True
            except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
                return False

        assert until(is_there, 60), "SeaweedFS did not begin"

    def put(self, name, body):
        if "//" in name:
            self.client.put_object(Bucket=BUCKET, Key=name, Body=body)
        else:
            self.quick.put(name, body)

    def delete(self, name):
        self.client.delete_object(Bucket=BUCKET, Key=name)

    def get(self, name):
        if "//" in name:
            return self.client.get_object(Bucket=BUCKET, Key=name)["Body"].read()
        return bytes(self.quick.get(name).bytes())

    def rename(self, old, new):
        source = urllib.parse.quote(f"/buckets/{BUCKET}/{old}")
        url = f"{self.filer}/buckets/{BUCKET}/{urllib.parse.quote(new)}?mv.from={source}"
        urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=PATIENCE).read()

    def listed(self):
        """Names, with sizes and entity tags."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        objects = (entry for page in pages for entry in page.get("Contents", []))
        return {entry["Key"]: (entry["Size"], entry["ETag"].strip('"')) for entry in objects}

    def objects(self):
        """Names, with their bytes, read one by one."""
        names = list(self.listed())
        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
            return dict(zip(names, pool.map(self.get, names)))


def until(condition, patience=PATIENCE):
    end = time.monotonic() + patience
    while not (told := condition()):
        if time.monotonic() > end:
            return told
        time.sleep(0.2)
    return told


def work(weed, names, empty, seed):
    """What one client does to objects of its own, each several times. Of those in `empty` the first bytes are none."""
    chance = random.Random(seed)
    for name in names:
        weed.put(name, b"" if name in empty else chance.randbytes(chance.randrange(1, 3000)))
    for name in chance.sample(names, len(names) // 2):
        weed.put(name, chance.randbytes(chance.randrange(1, 3000)))
    gone = chance.sample(names, len(names) // 3)
    for name in gone[: len(gone) // 2]:
        weed.delete(name)
    for name in gone[len(gone) // 2 :]:
        weed.rename(name, f"renamed {name}")
    for name in gone[: len(gone) // 4]:
        weed.put(name, b"again " + chance.randbytes(chance.randrange(1, 3000)))


def at_once(weed, names, empty=frozenset(), seed=0):
    """All the work, by several clients at once."""
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        shares = [names[client::CLIENTS] for client in range(CLIENTS)]
        for future in [pool.submit(work, weed, share, empty, seed + at) for at, share in enumerate(shares)]:
            future.result()
