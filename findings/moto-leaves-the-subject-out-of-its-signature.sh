#!/usr/bin/env bash
# moto 5.2.5 (PyPI), SNS by its server over HTTP, beside cryptography.
# Expected: the signature of a notification is over Message, MessageId, Subject if there is one, Timestamp, TopicArn and Type, each
# name and value on a line of its own, as AWS documents it and its SDKs verify it.
# Seen: moto leaves out the subject. A message without one verifies under moto's own certificate; one with a subject does not, and
# does as soon as the subject is left out of the text. So a receiver that verifies as AWS says refuses every message with a subject.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/python" -m pip --quiet --disable-pip-version-check install 'moto[server]==5.2.5' boto3==1.44.8 cryptography==50.0.2
"$dir/venv/bin/python" - 2>/dev/null <<'PY'
import base64, http.server, json, queue, threading

import boto3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.x509 import load_pem_x509_certificate
from moto.server import ThreadedMotoServer
from moto.sns.models import sns_backends

received = queue.Queue()

class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        received.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

receiver = http.server.HTTPServer(("127.0.0.1", 0), Receiver)
threading.Thread(target=receiver.serve_forever, daemon=True).start()
moto = ThreadedMotoServer(port=0, verbose=False)
moto.start()
host, port = moto.get_host_and_port()
sns = boto3.client("sns", endpoint_url=f"http://{host}:{port}", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
topic = sns.create_topic(Name="t")["TopicArn"]
sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=f"http://127.0.0.1:{receiver.server_port}/")

def verifies(message, names):
    text = "".join(f"{name}\n{message[name]}\n" for name in names if name in message)
    pems = sns_backends["123456789012"]["us-east-1"]._message_public_keys
    key = load_pem_x509_certificate(pems[message["SigningCertURL"].rsplit("/", 1)[1]]).public_key()
    try:
        key.verify(base64.b64decode(message["Signature"]), text.encode(), PKCS1v15(), hashes.SHA256())
        return True
    except InvalidSignature:
        return False

documented = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
without = [name for name in documented if name != "Subject"]
sns.publish(TopicArn=topic, Message="hello")
plain = received.get(timeout=30)
sns.publish(TopicArn=topic, Message="hello", Subject="a subject")
with_subject = received.get(timeout=30)
print("without a subject:", verifies(plain, documented))
print("with a subject, as documented:", verifies(with_subject, documented))
print("with a subject, left out of the text:", verifies(with_subject, without))
assert with_subject["Subject"] == "a subject" and with_subject["SignatureVersion"] == "2"
assert verifies(plain, documented) and not verifies(with_subject, documented) and verifies(with_subject, without)
moto.stop()
PY
echo 'as described'
