// What the toolkits of JavaScript send: `node senders.mjs URL TOKEN SECRET` posts a notification in each way, and prints each
// way with the answer's status and the key that was stored.

import { AzureKeyCredential, EventGridPublisherClient } from "@azure/eventgrid";
import { CloudEvent, HTTP } from "cloudevents";
import { Webhook } from "standardwebhooks";

const [url, token, secret] = process.argv.slice(2);
const type = "Microsoft.Storage.BlobCreated";

/** The data of a blob that was written. */
function blob(name) {
  return { api: "PutBlob", contentLength: 3, sequencer: "0A", url: `https://acct.blob.core.windows.net/c/${name}` };
}

function subject(name) {
  return `/blobServices/default/containers/c/blobs/${name}`;
}

async function tell(way, response) {
  const answer = await response.json();
  console.log(JSON.stringify({ way, status: response.status, keys: answer.events.flatMap((event) => event.results.map((result) => result.key)) }));
}

function post(headers, body) {
  return fetch(url, { method: "POST", headers: { authorization: `Bearer ${token}`, ...headers }, body });
}

for (const [way, encode] of [["binary", HTTP.binary], ["structured", HTTP.structured]]) {
  const name = `js-${way}.txt`;
  const { headers, body } = encode(new CloudEvent({ type, source: "/s", subject: subject(name), data: blob(name) }));
  await tell(way, await post(headers, body));
}

const bytes = new TextEncoder().encode(JSON.stringify(blob("js-bytes.txt")));
const packed = HTTP.structured(new CloudEvent({ type, source: "/s", subject: subject("js-bytes.txt"), datacontenttype: "application/json", data: bytes }));
await tell("bytes", await post(packed.headers, packed.body));

for (const schema of ["EventGrid", "CloudEvent"]) {
  const name = `js-${schema}.txt`;
  let answer;
  const here = {
    name: "here",
    sendRequest(request, next) {
      request.url = url;
      request.allowInsecureConnection = true;
      request.headers.set("authorization", `Bearer ${token}`);
      return next(request).then((response) => (answer = response));
    },
  };
  const client = new EventGridPublisherClient("https://topic.example/api/events", schema, new AzureKeyCredential("key"), {
    additionalPolicies: [{ policy: here, position: "perRetry" }],
  });
  const event = schema === "EventGrid"
    ? { eventType: type, subject: subject(name), dataVersion: "", data: blob(name) }
    : { type, source: "/s", subject: subject(name), data: blob(name) };
  await client.send([event]);
  await tell(schema, { status: answer.status, json: async () => JSON.parse(answer.bodyAsText) });
}

const body = JSON.stringify([{ id: "1", eventType: type, subject: subject("js-signed.txt"), data: blob("js-signed.txt"), dataVersion: "" }]);
const now = new Date();
const signature = new Webhook(secret).sign("msg_1", now, body);
const headers = { "content-type": "application/json", "webhook-id": "msg_1", "webhook-timestamp": String(Math.floor(now / 1000)), "webhook-signature": signature };
await tell("signed", await fetch(url, { method: "POST", headers, body }));
