"""Private objects of real stores are fetched: moto's S3, which checks signatures, Azurite by key and by SAS, and the emulator of Google's
storage. What is refused says why, a key is rotated without a restart, `reconcile` brings Redis in step, and no credential is ever told."""

import base64
import contextlib
import datetime
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

# Moto lets everything through until it is told otherwise.
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "1000000"

import boto3  # noqa: E402
from azure.storage.blob import AccountSasPermissions, BlobServiceClient, ResourceTypes, generate_account_sas  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from daemon import BINARY, PATIENCE, Daemon  # noqa: E402

BUCKET = "photos"
NAMES = ["plain.txt", "a b+c%2Fd/é//e?f#g", "%2F", "a//b", "sp ace", "pl+us", "q?x=1", "h#h", "(1)!'*~&=:@,;$[]", "empty"]
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def body(name):
    return b"" if name == "empty" else name.encode()


def free_port():
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return trial.getsockname()[1]


@contextlib.contextmanager
def server(command, port, **more):
    """A server on this port, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)
        try:
            end = time.monotonic() + 60
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    assert time.monotonic() < end and process.poll() is None, f"{command[0]} did not begin"
                    time.sleep(0.1)
            yield
        finally:
            process.kill()
            process.wait()


def set_object(daemon, key, store, name, bucket=BUCKET):
    """Status and detail of the one entry."""
    event = {"key": "SET", "value": {"data": {"key": key, "store": store, "object": f"{bucket}/{name}"}}}
    request = urllib.request.Request(f"{daemon.url}/events", json.dumps(event).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            result = json.load(answer)["results"][0]
    except urllib.error.HTTPError as refusal:
        result = json.load(refusal)["results"][0]
    return result["status"], result.get("problem", {}).get("detail", "")


def all_fetched(daemon, store, names=NAMES):
    for name in names:
        status, detail = set_object(daemon, f"{store}:{name}", store, name)
        assert status == "stored", (store, name, detail)
        event = {"key": "GET", "value": {"data": f"{store}:{name}"}}
        request = urllib.request.Request(f"{daemon.url}/events", json.dumps(event).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            assert json.load(answer)["results"][0]["value"].encode() == body(name), (store, name)


def refused(daemon, store, cause, name="plain.txt", bucket=BUCKET):
    status, detail = set_object(daemon, "refused", store, name, bucket)
    assert status == "rejected" and cause in detail, (store, status, detail)


def settings(name, **leaves):
    return {f"STORES_{name.upper()}_{leaf.upper()}": value for leaf, value in leaves.items()}


def tells_nothing(daemon, *secrets):
    told = urllib.request.urlopen(f"{daemon.url}/metrics", timeout=PATIENCE).read().decode()
    for secret in secrets:
        assert secret not in told, "a credential in the metrics"


def reconcile(environment, *more):
    with contextlib.ExitStack() as stack:
        port = free_port()
        stack.enter_context(server(["redis-server", "--port", str(port), "--save", ""], port))
        environment = {**environment, "REDIS_PORT": str(port), "SOURCES_PICS_STORE": "main", "SOURCES_PICS_KEY": "p:{object}"}

        def run(*arguments):
            command = [BINARY, "reconcile", "pics", "--bucket", BUCKET, *arguments]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, cwd=tempfile.gettempdir())
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        first, second = run("--yes"), run("--yes", *more)
        return first, second


def s3(folder):
    moto = ThreadedMotoServer(port=0, verbose=False)
    moto.start()
    url = "http://{}:{}".format(*moto.get_host_and_port())
    access = {"endpoint_url": url, "region_name": "us-east-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
    iam, client = boto3.client("iam", **access), boto3.client("s3", **access)
    iam.create_user(UserName="reader")
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    resources = [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"]
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": resources}]}
    iam.put_user_policy(UserName="reader", PolicyName="p", PolicyDocument=json.dumps(policy))
    for bucket in (BUCKET, "other"):
        client.create_bucket(Bucket=bucket)
        client.put_object(Bucket=bucket, Key="other", Body=b"x")
    client.delete_object(Bucket=BUCKET, Key="other")
    for name in NAMES:
        client.put_object(Bucket=BUCKET, Key=name, Body=body(name))
    request = urllib.request.Request(f"{url}/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"}, method="POST")
    urllib.request.urlopen(request, timeout=PATIENCE).read()

    identity, secret = key["AccessKeyId"], key["SecretAccessKey"]
    file = os.path.join(folder, "secret")
    with open(file, "w", encoding="utf-8") as opened:
        opened.write("not yet the secret")
    main = settings("main", kind="s3", endpoint=url, access_key_id=identity, secret_access_key=secret)
    environment = {
        **main,
        **settings("wrong", kind="s3", endpoint=url, access_key_id=identity, secret_access_key="wrong"),
        **settings("unknown", kind="s3", endpoint=url, access_key_id="AKIANOBODY", secret_access_key="wrong"),
        **settings("file", kind="s3", endpoint=url, access_key_id=identity, secret_access_key_file=file),
        **settings("platform", kind="s3", endpoint=url),
        "AWS_ACCESS_KEY_ID": identity,
        "AWS_SECRET_ACCESS_KEY": secret,
    }
    with Daemon(**environment) as daemon:
        all_fetched(daemon, "main")
        all_fetched(daemon, "platform", NAMES[:2])
        refused(daemon, "wrong", "the signature is wrong")
        refused(daemon, "unknown", "does not know the access key")
        refused(daemon, "main", "does not have the permission", "other", "other")
        refused(daemon, "main", "404", "gone")
        refused(daemon, "file", "the signature is wrong")
        with open(file, "w", encoding="utf-8") as opened:
            opened.write(f"{secret}\n")
        # The file was read a moment ago, when the store refused what was in it.
        end = time.monotonic() + PATIENCE
        while set_object(daemon, "rotated", "file", "plain.txt")[0] != "stored":
            assert time.monotonic() < end, "the new secret is not taken"
            time.sleep(0.1)
        tells_nothing(daemon, identity, secret, "Signature=")
    first, second = reconcile(main)
    assert f"{len(NAMES)} objects, 0 in step, {len(NAMES)} set" in first, first
    assert f"{len(NAMES)} objects, {len(NAMES)} in step, 0 set" in second, second
    moto.stop()


def azure(azurite):
    port = free_port()
    command = ["node", os.path.abspath(azurite), "--blobHost", "127.0.0.1", "--blobPort", str(port), "--silent", "--disableTelemetry", "--skipApiVersionCheck"]
    with server(command, port):
        endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
        client = BlobServiceClient(endpoint, credential={"account_name": ACCOUNT, "account_key": ACCOUNT_KEY})
        client.create_container(BUCKET)
        for name in NAMES:
            client.get_blob_client(BUCKET, name).upload_blob(body(name))
        now = datetime.datetime.now(datetime.timezone.utc)

        def token(hours):
            rights = AccountSasPermissions(read=True, list=True)
            types = ResourceTypes(object=True, container=True)
            until, start = now + datetime.timedelta(hours=hours), now - datetime.timedelta(days=1)
            return generate_account_sas(ACCOUNT, ACCOUNT_KEY, types, rights, until, start=start)

        wrong = base64.b64encode(b"0" * 64).decode()
        main = settings("main", kind="azure", endpoint=endpoint, account=ACCOUNT, account_key=ACCOUNT_KEY)
        environment = {
            **main,
            **settings("wrong", kind="azure", endpoint=f"http://127.0.0.1:{port}", account=ACCOUNT, account_key=wrong),
            **settings("sas", kind="azure", endpoint=endpoint, sas_token=token(1)),
            **settings("expired", kind="azure", endpoint=endpoint, sas_token="?" + token(-1)),
        }
        with Daemon(**environment) as daemon:
            all_fetched(daemon, "main")
            all_fetched(daemon, "sas")
            refused(daemon, "wrong", "403")
            refused(daemon, "expired", "the SAS token has expired")
            refused(daemon, "main", "404", "gone")
            refused(daemon, "main", "the bucket does not exist", bucket="nobucket")
            tells_nothing(daemon, ACCOUNT_KEY, "sig=")
        first, second = reconcile(main)
        assert f"{len(NAMES)} objects, 0 in step, {len(NAMES)} set" in first, first
        assert f"{len(NAMES)} objects, {len(NAMES)} in step, 0 set" in second, second


def google():
    port = free_port()
    emulator = os.path.join(os.path.dirname(sys.executable), "gcp-storage-emulator")
    command = [emulator, "start", "--host", "127.0.0.1", "--port", str(port), "--in-memory", "--default-bucket", BUCKET]
    # The emulator closes the connection of an upload without a body.
    names = [name for name in NAMES if name != "empty"]
    with server(command, port):
        endpoint = f"http://127.0.0.1:{port}"
        for name in names:
            quoted = urllib.parse.quote(name, safe="")
            url = f"{endpoint}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={quoted}"
            request = urllib.request.Request(url, body(name), {"Content-Type": "text/plain"}, method="POST")
            urllib.request.urlopen(request, timeout=PATIENCE).read()
        main = settings("main", kind="gcs", endpoint=endpoint, anonymous="true")
        with Daemon(**main) as daemon:
            all_fetched(daemon, "main", names)
            refused(daemon, "main", "404", "gone")
        first, _ = reconcile(main)
        assert f"{len(names)} objects, 0 in step, {len(names)} set" in first, first


def main(azurite=None):
    with tempfile.TemporaryDirectory() as folder:
        s3(folder)
    if azurite:
        azure(azurite)
    google()
    print("private objects of S3, Azure and Google are fetched, and Redis is brought in step with them")


if __name__ == "__main__":
    main(*sys.argv[1:])
