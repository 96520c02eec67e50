#!/usr/bin/env bash
# cloudevents 10.0.0 (npm) on Node, beside cloudevents 2.2.0 (PyPI): one event in binary mode, with the subject `a 漢.txt`.
# Expected: a header's value has everything but visible ASCII percent-encoded (HTTP protocol binding of CloudEvents 1.0, section
# 3.1.3.2), as the toolkit of Python does it: `a%20%E6%BC%A2.txt`.
# Seen: the toolkit of JavaScript puts the text into the header as it is. Node's fetch cannot send it ("Cannot convert argument to a
# ByteString"), so the event cannot be sent in this mode at all; with `é` it is sent as the one byte of Latin-1, which is no UTF-8.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/python" -m pip --quiet --disable-pip-version-check install cloudevents==2.2.0
npm install --prefix "$dir" --silent --no-audit --no-fund cloudevents@10.0.0
"$dir/venv/bin/python" - <<'PY'
from cloudevents.core.bindings.http import to_binary_event
from cloudevents.core.v1.event import CloudEvent

event = CloudEvent({"type": "t", "source": "/s", "id": "1", "specversion": "1.0", "subject": "a 漢.txt"}, {})
subject = to_binary_event(event).headers["ce-subject"]
print("Python:", subject)
assert subject == "a%20%E6%BC%A2.txt", subject
PY
cat >"$dir/send.mjs" <<'JS'
import assert from "node:assert";
import http from "node:http";
import { CloudEvent, HTTP } from "cloudevents";

const message = (subject) => HTTP.binary(new CloudEvent({ type: "t", source: "/s", subject, data: {} }));
let sent;
const server = http.createServer((request, response) => {
  sent = request.headers["ce-subject"];
  response.end();
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const url = `http://127.0.0.1:${server.address().port}/`;
const post = ({ headers, body }) => fetch(url, { method: "POST", headers, body });

console.log("JavaScript:", message("a 漢.txt").headers["ce-subject"]);
assert.equal(message("a 漢.txt").headers["ce-subject"], "a 漢.txt");
await assert.rejects(post(message("a 漢.txt")), /ByteString/);
await post(message("é"));
// Node shows each byte as a character.
console.log("é is sent as the bytes", Buffer.from(sent, "latin1"));
assert.deepEqual([...Buffer.from(sent, "latin1")], [0xe9]);
server.close();
server.closeAllConnections();
JS
node "$dir/send.mjs"
echo 'as described'
