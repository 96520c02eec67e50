"""What real senders send is taken: the toolkits of CloudEvents, Event Grid and Standard Webhooks, of Python and of JavaScript,
and the notifications that moto's S3 publishes by its SNS."""

import datetime
import http.server
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request

import boto3
import requests
from azure.core.credentials import AzureKeyCredential
from azure.core.messaging import CloudEvent as AzureCloudEvent
from azure.eventgrid import EventGridEvent, EventGridPublisherClient
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from moto.server import ThreadedMotoServer
from standardwebhooks import Webhook

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from daemon import PATIENCE, Daemon  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
TOKEN = "0123456789abcdef"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CREATED = "Microsoft.Storage.BlobCreated"


def blob(name):
    return {"api": "PutBlob", "contentLength": 3, "sequencer": "0A", "url": f"https://acct.blob.core.windows.net/c/{name}"}


def subject(name):
    return f"/blobServices/default/containers/c/blobs/{name}"


def stored(response, name):
    """The answer says that this key was stored, and nothing else."""
    events = response.json()["events"]
    keys = [(result["key"], result["status"]) for event in events for result in event["results"]]
    assert (response.status_code, keys) == (200, [(name, "stored")]), response.text


def cloud_events(url):
    attributes = {"type": CREATED, "source": "/s", "id": "1", "specversion": "1.0", "datacontenttype": "application/json"}
    for way, encode in (("binary", to_binary_event), ("structured", to_structured_event)):
        name = f"py {way} é%.txt"
        event = CloudEvent({**attributes, "subject": subject(name)}, blob(name))
        message = encode(event)
        headers = {**message.headers, "Authorization": f"Bearer {TOKEN}"}
        stored(requests.post(url, headers=headers, data=message.body, timeout=PATIENCE), name)


class Topic(http.server.BaseHTTPRequestHandler):
    """Stands where the client wants a topic to be, and hands on what it sends, headers and all."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        answer = requests.post(self.server.url, headers=headers, data=body, timeout=PATIENCE)
        self.server.answers.append(answer)
        self.send_response(answer.status_code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def event_grid(url):
    topic = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Topic)
    topic.url, topic.answers = f"{url}?token={TOKEN}", []
    threading.Thread(target=topic.serve_forever, daemon=True).start()
    client = EventGridPublisherClient(f"http://127.0.0.1:{topic.server_port}/api/events", AzureKeyCredential("key"))
    name = "py-event-grid.txt"
    client.send([EventGridEvent(event_type=CREATED, subject=subject(name), data=blob(name), data_version="")])
    stored(topic.answers[-1], name)
    name = "py-event-grid-cloud-event.txt"
    client.send(AzureCloudEvent(type=CREATED, source="/s", subject=subject(name), data=blob(name)))
    stored(topic.answers[-1], name)
    topic.shutdown()


def standard_webhooks(url):
    name = "py-signed.txt"
    body = json.dumps([{"id": "1", "eventType": CREATED, "subject": subject(name), "data": blob(name), "dataVersion": ""}])
    now = datetime.datetime.now(tz=datetime.timezone.utc)
    headers = {
        "Content-Type": "application/json",
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(SECRET).sign("msg_1", now, body),
    }
    stored(requests.post(url, headers=headers, data=body, timeout=PATIENCE), name)
    refused = requests.post(url, headers=headers, data=body + " ", timeout=PATIENCE)
    assert refused.status_code == 401, refused.text


def javascript(url, modules):
    command = ["node", os.path.join(modules, "senders.mjs"), url, TOKEN, SECRET]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=120).stdout
    told = [json.loads(line) for line in output.splitlines()]
    for line in told:
        assert (line["status"], line["keys"]) == (200, [f"js-{line['way']}.txt"]), line
    assert len(told) == 6, told


def moto(daemon):
    """A topic of moto, subscribed by the token in the URL, and its S3 that publishes to it."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    access = {
        "endpoint_url": f"http://{host}:{port}",
        "region_name": "us-east-1",
        "aws_access_key_id": "a",
        "aws_secret_access_key": "b",
    }
    try:
        sns, s3 = boto3.client("sns", **access), boto3.client("s3", **access)
        topic = sns.create_topic(Name="objects")["TopicArn"]
        sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=f"{daemon.url}/sources/sns?token={TOKEN}")
        s3.create_bucket(Bucket="photos")
        wanted = {"TopicConfigurations": [{"TopicArn": topic, "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}]}
        s3.put_bucket_notification_configuration(Bucket="photos", NotificationConfiguration=wanted)
        s3.put_object(Bucket="photos", Key="a b+c/é.txt", Body=b"hello")
        until(lambda: value(daemon, "a b+c/é.txt") is not None)
        assert json.loads(value(daemon, "a b+c/é.txt"))["size"] == 5
        s3.delete_object(Bucket="photos", Key="a b+c/é.txt")
        until(lambda: value(daemon, "a b+c/é.txt") is None)
    finally:
        server.stop()


def value(daemon, key):
    event = json.dumps({"key": "GET", "value": {"data": key}}).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
    request = urllib.request.Request(f"{daemon.url}/events", event, headers)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.load(answer)["results"][0].get("value")


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come to be so"
        threading.Event().wait(0.05)


def main():
    settings = {"AUTH_TOKENS": TOKEN, "LOG_LEVEL": "error"}
    for name, form in (("auto", "auto"), ("grid", "event-grid"), ("sns", "sns")):
        settings |= {f"SOURCES_{name.upper()}_FORMAT": form, f"SOURCES_{name.upper()}_VALUE": "facts"}
    # Its own lock holds in place of that of events.
    settings |= {"SOURCES_GRID_TOKENS": TOKEN, "SOURCES_GRID_WEBHOOK_SECRETS": SECRET}
    with Daemon(**settings) as daemon:
        cloud_events(f"{daemon.url}/sources/auto")
        event_grid(f"{daemon.url}/sources/grid")
        standard_webhooks(f"{daemon.url}/sources/grid")
        moto(daemon)
        if len(sys.argv) > 1:
            javascript(f"{daemon.url}/sources/grid", sys.argv[1])
    print("what real senders send is taken")


if __name__ == "__main__":
    main()
