
// --- The form: store, read, delete ---

const FIELDS = {
  GET: ["key", "id"], URL: ["url", "key", "set", "id"], STORE: ["store", "key", "set", "id"], SET: ["key", "value", "set", "id"],
  DELETE: ["key", "id"], PATTERN: ["key"], JSON: ["json"],
};
const BUTTONS = { GET: "Read", URL: "Store", STORE: "Store", SET: "Store", DELETE: "Delete", PATTERN: "Look what matches", JSON: "Send" };

/// Characters of a value in words; all of it is in the answer.
const MAX_SHOWN = 500;
/// Kinds of the form that change nothing.
const READS = ["GET", "PATTERN", "JSON"];

/// What the token does not permit is not offered.
function rights({ may_write }) {
  at("only-reads").hidden = may_write;
  for (const option of at("kind").options) {
    if (option.value !== "STORE") option.disabled = !may_write && !READS.includes(option.value);
  }
  say(at("kind").querySelector("[value=PATTERN]"), may_write ? "Delete by pattern: look first, then delete" : "Look what matches a pattern");
}

function stores(names) {
  renew(at("store"), names, () => names.map((value) => make("option", { value }, value)));
  const offer = at("kind").querySelector("[value=STORE]");
  offer.disabled = !names.length || !seen.may_write;
  say(offer, names.length ? "Store an object of a store" : "Store an object of a store (none is set up)");
}

function chosen() {
  const kind = at("kind").value;
  for (const fields of ["url", "store", "key", "value", "set", "id", "json"]) {
    at(`${fields}-fields`).hidden = at(`${fields}-fields`).disabled = !FIELDS[kind].includes(fields);
  }
  const isFree = kind === "URL";
  at("key").required = !isFree;
  say(at("key-label"), kind === "PATTERN" ? "Pattern, such as sess:*" : isFree ? "Key (empty: the path of the URL)" : "Key");
  say(at("send"), BUTTONS[kind]);
  forget();
}

/// What was shown of another question goes.
function forget() {
  at("second-look").hidden = at("found").hidden = at("answer").hidden = true;
  say(at("answer-state"), "");
}

function written() {
  const [kind, key] = [at("kind").value, at("key").value];
  if (kind === "JSON") return at("json").value;
  const entry = key ? { key } : {};
  const data = {
    GET: [key], DELETE: [key], PATTERN: { patterns: [key], dry_run: true }, SET: { key, value: at("value").value },
    URL: { ...entry, url: at("url").value }, STORE: { key, store: at("store").value, object: at("object").value },
  }[kind];
  const event = { key: { PATTERN: "DELETE_PATTERN", URL: "SET", STORE: "SET" }[kind] || kind, value: { data } };
  if (FIELDS[kind].includes("id") && at("id").value) event.id = at("id").value;
  if (FIELDS[kind].includes("set")) {
    if (at("ttl").value) event.value.ttl = at("ttl").value;
  }
  const text = JSON.stringify(event);
  // As it is written: a number in JavaScript would round a long one.
  const version = FIELDS[kind].includes("set") ? at("version").value.replace(/^0+(?=\d)/, "") : "";
  return version ? text.replace(/^\{/, `{"version":${version},`) : text;
}

async function send(text) {
  say(at("answer-state"), "sending…");
  try {
    const { status, answer } = await post(text);
    say(at("answer-state"), `answered ${status}: ${answer.status === status ? answer.title : answer.status}`);
    at("answer").textContent = JSON.stringify(answer, null, 2);
    at("answer").hidden = false;
    look();
    return answer;
  } catch (error) {
    say(at("answer-state"), `no answer: ${error.message}`);
    at("answer").hidden = true;
    return null;
  }
}

/// What a read found, in words.
async function tell_found({ key, status, value, encoding }) {
  const isHit = status === "hit";
  const size = isHit ? (encoding ? atob(value).length : new TextEncoder().encode(value).length) : 0;
  const beside = await ask(`/key.json?${new URLSearchParams({ key })}`).catch(({ message }) => ({ trouble: message }));
  const pairs = [["key", key], ["state", isHit ? "is there" : status === "miss" ? "is not there" : status]];
  if (isHit) pairs.push(["size", bytes(size)], [encoding ? "value, in base64" : "value", value.length > MAX_SHOWN ? `${value.slice(0, MAX_SHOWN)}… (the answer below has all of it)` : value]);
  const { expires_in_ms: left, version, trouble: unknown } = beside;
  if (isHit) pairs.push(["expires", left === null ? "never" : left === undefined ? "not known" : `in ${duration(Math.ceil(left / 1000))}`]);
  pairs.push(["version", version ? (version.kind === "place" ? "the storage's own order" : version.value) : "none"]);
  if (unknown) pairs.push(["not all is known", unknown]);
  const last = failed.find((one) => one.key === key);
  pairs.push(["last failure", last ? `${last.event} at ${clock(last.at_ms)}: ${last.problem}` : "none that this replica knows"]);
  at("found").hidden = false;
  facts(at("found"), pairs);
}

/// A preview that may be followed by the deletion of just that pattern.
function offer_deletion({ pattern, status, matched, estimated }) {
  if (status !== "preview" || !matched || !seen.may_write) return;
  const keys = `${estimated ? "about " : ""}${count(matched)} ${matched === 1 ? "key" : "keys"}`;
  say(at("second-look-text"), `${keys} ${matched === 1 ? "matches" : "match"} ${pattern}; the answer below shows ${matched === 1 ? "it" : "some of them"}. Delete ${matched === 1 ? "it" : "them all"}? This cannot be undone.`);
  at("second-look").dataset.pattern = pattern;
  at("second-look").hidden = false;
  at("second-look-no").focus();
}

at("kind").addEventListener("change", chosen);
at("post").addEventListener("input", forget);
at("post").addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  forget();
  const kind = at("kind").value;
  const answer = await send(written());
  const result = answer && answer.results && answer.results[0];
  if (result && kind === "GET") tell_found(result);
  if (result && kind === "PATTERN") offer_deletion(result);
});
at("second-look-yes").addEventListener("click", async () => {
  const { pattern } = at("second-look").dataset;
  at("second-look").hidden = true;
  await send(JSON.stringify({ key: "DELETE_PATTERN", value: { data: { patterns: [pattern] } } }));
  at("send").focus();
});
at("second-look-no").addEventListener("click", () => {
  forget();
  at("key").focus();
});
