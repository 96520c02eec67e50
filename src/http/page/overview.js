"use strict";
// Whatever comes from the service is text: it is set by textContent, and never becomes markup.
const EVERY_MS = 2000;
const TYPES = ["SET", "GET", "DELETE", "DELETE_PATTERN", "unknown"];
const OUTCOMES = ["ok", "rejected", "unavailable"];
const LINE = ["intake", "validation", "router", "writer"];
const BRANCH = ["fetcher", "scanner"];
const DUTY = {
  intake: "splits bodies into events",
  validation: "checks each event",
  router: "keeps the order",
  writer: "writes to Redis",
  fetcher: "downloads blobs",
  scanner: "deletes by pattern",
};

const at = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

function make(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function draw(name, attributes, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/// Changes what has changed and nothing else, so that readers of the screen are not disturbed.
function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function count(number) {
  return number.toLocaleString("en");
}

function short(number) {
  if (number >= 100) return count(Math.round(number));
  return String(Math.round(number * 10) / 10);
}

function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (number >= 1024 && unit < units.length - 1) [number, unit] = [number / 1024, unit + 1];
  return `${short(number)} ${units[unit]}`;
}

function milliseconds(number) {
  return number === null ? "–" : `${number < 10 ? Math.round(number * 100) / 100 : short(number)} ms`;
}

function duration(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const from = parts.findIndex(([size]) => seconds >= size);
  if (from < 0) return "0 s";
  const [[size, name], next] = [parts[from], parts[from + 1]];
  const rest = next ? Math.floor((seconds % size) / next[0]) : 0;
  return `${Math.floor(seconds / size)} ${name}${rest ? ` ${rest} ${next[1]}` : ""}`;
}

// --- The token, for this tab alone ---

const STORED = "redis-cache-sync token";

function headers() {
  const token = sessionStorage.getItem(STORED);
  return token ? { Authorization: `Bearer ${token}` } : {};
}

at("door-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(STORED, at("token").value.trim());
  at("token").value = "";
  look();
});

function shut() {
  const had = sessionStorage.getItem(STORED) !== null;
  sessionStorage.removeItem(STORED);
  const wasOpen = at("door").hidden;
  at("door").hidden = false;
  at("all").hidden = true;
  tell(had ? "that token is not accepted" : "a token is needed", "warn");
  if (wasOpen || had) at("token").focus();
}

function tell(text, mood) {
  say(at("state"), text);
  at("state").className = mood;
}

// --- The parts of the page ---

function facts(list, pairs) {
  if (list.childElementCount !== pairs.length * 2) {
    list.replaceChildren(...pairs.flatMap(([name]) => [make("dt", {}, name), make("dd")]));
  }
  pairs.forEach(([, text, mood], index) => {
    const place = list.children[index * 2 + 1];
    say(place, text);
    place.className = mood || "";
  });
}

function actors(list, names, pipeline, before, after) {
  const known = new Map(pipeline.map((actor) => [actor.actor, actor]));
  if (!list.childElementCount) {
    const box = (name) => make("li", { "data-actor": name }, make("div", { class: "actor" },
      make("div", { class: "name" }), make("div", { class: "quiet duty" }), make("div", { class: "figures" })));
    list.append(...[...before, ...names, ...after].map((name) => box(typeof name === "string" ? name : name[0])));
  }
  const fill = (name, duty, figures, isDown) => {
    const box = [...list.children].find((item) => item.dataset.actor === name).firstChild;
    say(box.children[0], name);
    say(box.children[1], duty);
    say(box.children[2], figures);
    box.classList.toggle("down", isDown);
  };
  for (const name of names) {
    const { running, waiting, restarts, stuck } = known.get(name);
    fill(name, DUTY[name], `${stuck ? "STUCK, " : ""}${running} run, ${count(waiting)} wait, ${count(restarts)} restarts`, stuck);
  }
  for (const [name, duty, figures, isDown] of [...before, ...after]) fill(name, duty, figures, isDown);
}

const CHARTS = [
  { id: "types", title: "Events a second, by type", text: (n) => `${short(n)}/s`,
    series: (h) => TYPES.map((type) => [type, perSecond(h, (n) => OUTCOMES.reduce((sum, o) => sum + h.events[type][o][n], 0))]) },
  { id: "outcomes", title: "Events a second, by outcome", text: (n) => `${short(n)}/s`,
    series: (h) => OUTCOMES.map((outcome) => [outcome, perSecond(h, (n) => TYPES.reduce((sum, t) => sum + h.events[t][outcome][n], 0))]) },
  { id: "latency", title: "Time to answer POST /events", text: milliseconds,
    series: (h) => [["p50: half are faster", h.p50_ms], ["p99: 99 of 100 are faster", h.p99_ms]] },
  { id: "cache-latency", title: "Time of a pipeline to Redis", text: milliseconds,
    series: (h) => [["p50: half are faster", h.cache_p50_ms], ["p99: 99 of 100 are faster", h.cache_p99_ms]] },
  { id: "admission", title: "Admission in use", text: (n) => `${short(n)} %`,
    series: (h, s) => [
      ["events", h.admission_events.map((n) => (100 * n) / s.admission.max_events)],
      ["bytes", h.admission_bytes.map((n) => (100 * n) / s.admission.max_bytes)],
    ] },
];

function perSecond(history, sum) {
  return Array.from({ length: history.steps }, (_, at) => sum(at) / history.step_seconds);
}

function chart({ id, title, text, series }, status) {
  let card = at(`chart-${id}`);
  if (!card) {
    card = make("section", { id: `chart-${id}` }, make("figure", {},
      make("figcaption", { id: `chart-${id}-title` }, title),
      draw("svg", { class: "chart", role: "img", viewBox: "0 0 180 60", preserveAspectRatio: "none", "aria-labelledby": `chart-${id}-title`, "aria-describedby": `chart-${id}-text` }),
      make("p", { class: "quiet" }), make("ul", { class: "legend", id: `chart-${id}-text` })));
    at("charts").append(card);
  }
  const [, svg, scale, legend] = card.firstChild.children;
  const lines = series(status.history, status);
  const known = lines.flatMap(([, values]) => values.filter((value) => value !== null));
  const top = Math.max(...known, 0);
  say(scale, known.length ? `the last 15 minutes; the top is ${text(top)}` : "nothing in the last 15 minutes");
  svg.replaceChildren(...lines.flatMap(([, values], index) => pieces(values, top).map((points) => draw("polyline", { class: `s${index}`, points }))));
  if (legend.childElementCount !== lines.length) {
    legend.replaceChildren(...lines.map(([name], index) => make("li", {},
      draw("svg", { viewBox: "0 0 36 12", "aria-hidden": "true" }, draw("line", { class: `s${index}`, x1: 0, y1: 6, x2: 36, y2: 6, "stroke-width": 3 })),
      make("span", {}, name), make("span", { class: "figures" }))));
  }
  lines.forEach(([, values], index) => {
    const there = values.filter((value) => value !== null);
    const last = values.length ? values[values.length - 1] : null;
    const now = last === null ? "–" : text(last);
    say(legend.children[index].lastChild, there.length ? `now ${now}, most ${text(Math.max(...there))}` : "none");
  });
}

/// The lines of a chart: a new one after each gap. The newest is at the right.
function pieces(values, top) {
  const [lines, from] = [[], 180 - values.length];
  let line = [];
  values.forEach((value, index) => {
    if (value !== null) return line.push(`${from + index},${58 - (56 * value) / (top || 1)}`);
    if (line.length) lines.push(line);
    line = [];
  });
  if (line.length) lines.push(line);
  return lines.map((points) => (points.length > 1 ? points : [points[0], points[0].replace(/^\d+/, (x) => +x + 1)]).join(" "));
}

function failures(list) {
  at("no-failures").hidden = list.length > 0;
  at("failures-table").hidden = list.length === 0;
  const newest = JSON.stringify(list[0] || null) + list.length;
  if (at("failures").dataset.newest === newest) return;
  at("failures").dataset.newest = newest;
  at("failures").replaceChildren(...list.map((failure) => {
    const time = make("time", { datetime: new Date(failure.at_ms).toISOString() }, new Date(failure.at_ms).toLocaleTimeString());
    const cells = [time, failure.event || "–", failure.id || "–", failure.problem, failure.detail, failure.request_id];
    return make("tr", {}, ...cells.map((cell, index) => make("td", index === 2 || index === 5 ? { class: "code" } : {}, cell)));
  }));
}

function counts(events) {
  if (!at("counts").childElementCount) {
    at("counts").append(...TYPES.map((type) => make("tr", {}, make("th", { scope: "row" }, type), ...OUTCOMES.map(() => make("td", { class: "number" })))));
  }
  TYPES.forEach((type, row) => OUTCOMES.forEach((outcome, column) => {
    say(at("counts").children[row].children[column + 1], count(events[type][outcome]));
  }));
}

function used(id, name, now, most, text) {
  at(id).value = most ? now / most : 0;
  say(at(`${id}-text`), `${name}: ${text(now)} of ${text(most)}`);
}

function show(status) {
  const { service, admission, queue, blobs, cache, sources, latency, pipeline, history } = status;
  at("door").hidden = true;
  at("all").hidden = false;
  document.title = `${status.ready ? "" : "not ready: "}redis-cache-sync${service.cluster ? ` in ${service.cluster}` : ""}`;
  tell(status.ready ? "✓ ready" : `✗ not ready: ${status.reasons.join("; ")}`, status.ready ? "good" : "bad");
  actors(at("line"), LINE, pipeline, [["HTTP", "POST /events", `${count(admission.events)} events in progress`, false]],
    [["Redis", cache.where, cache.up ? "up" : "DOWN", !cache.up]]);
  actors(at("branch"), BRANCH, pipeline, [], []);
  CHARTS.forEach((one) => chart(one, { ...status, history }));
  counts(status.events);
  used("admission-events", "Events", admission.events, admission.max_events, count);
  used("admission-bytes", "Bytes", admission.bytes, admission.max_bytes, bytes);
  facts(at("queue"), [
    ["age of the oldest event in progress", `${short(queue.oldest_age_seconds)} s`],
    ["p50 / p99 from acceptance to the end, 15 min", `${milliseconds(queue.delay.p50_ms)} / ${milliseconds(queue.delay.p99_ms)}`],
    ["hosts of blobs that are down", count(blobs.hosts_down), blobs.hosts_down ? "bad" : ""],
    ["slowest hosts, mean of an attempt", blobs.hosts.map(({ host, mean_ms, failed }) => `${host} ${milliseconds(mean_ms)}${failed ? `, ${count(failed)} failed` : ""}`).join("; ") || "–"],
  ]);
  facts(at("sources"), sources.map(({ source, format, received, ignored, mean_lag_seconds }) => [
    `${source} (${format})`,
    `${count(received)} received, ${count(ignored)} ignored${mean_lag_seconds === null ? "" : `, ${short(mean_lag_seconds)} s behind the storage on average`}`,
  ]));
  at("sources-card").hidden = !sources.length;
  journal(status.journal);
  facts(at("cache"), [
    ["state", cache.up ? "✓ up" : "✗ down", cache.up ? "good" : "bad"],
    ["where", cache.where],
    ["reconnects", count(cache.reconnects)],
    ["p50 / p99 of a pipeline, 15 min", `${milliseconds(cache.latency.p50_ms)} / ${milliseconds(cache.latency.p99_ms)}`],
  ]);
  facts(at("service"), [
    ["version", service.version],
    ["cluster", service.cluster || "–"],
    ["up for", duration(service.uptime_seconds)],
    ["memory", service.memory_bytes === null ? "–" : bytes(service.memory_bytes)],
    ["p50 / p99 of POST /events, 15 min", `${milliseconds(latency.p50_ms)} / ${milliseconds(latency.p99_ms)}`],
  ]);
  at("elsewhere").hidden = service.takes_events;
  at("post").hidden = !service.takes_events;
  failures(status.failures);
}

// --- Looking, again and again ---

let timer = 0;
let isPaused = false;

async function look() {
  clearTimeout(timer);
  try {
    const response = await fetch("/status.json", { headers: headers(), cache: "no-store" });
    if (response.status === 401) return shut();
    if (!response.ok) throw new Error(`status ${response.status}`);
    show(await response.json());
  } catch (error) {
    tell(`✗ no answer from the service (${error.message}); retrying`, "bad");
  }
  if (!isPaused && !document.hidden) timer = setTimeout(look, EVERY_MS);
}

at("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  at("pause").setAttribute("aria-pressed", String(isPaused));
  if (isPaused) clearTimeout(timer);
  else look();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else if (!isPaused && at("door").hidden) look();
});

// --- The form ---

function chosen() {
  const kind = at("kind").value;
  const isShown = { "key-fields": kind !== "JSON", "set-fields": kind === "SET", "id-fields": kind !== "JSON", "json-fields": kind === "JSON" };
  for (const [fields, shown] of Object.entries(isShown)) at(fields).hidden = at(fields).disabled = !shown;
  say(at("key-label"), kind === "PREVIEW" ? "Pattern, such as sess:*" : "Key");
}

function written() {
  const [kind, key] = [at("kind").value, at("key").value];
  if (kind === "JSON") return at("json").value;
  const made = { key: kind === "PREVIEW" ? "DELETE_PATTERN" : kind };
  if (at("id").value) made.id = at("id").value;
  const data = { GET: [key], DELETE: [key], PREVIEW: { patterns: [key], dry_run: true }, SET: { key, value: at("value").value } }[kind];
  made.value = { data };
  if (kind === "SET" && at("ttl").value) made.value.ttl = at("ttl").value;
  return JSON.stringify(made);
}

at("kind").addEventListener("change", chosen);
at("post").addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  say(at("answer-state"), "sending…");
  try {
    const response = await fetch("/events", { method: "POST", headers: { ...headers(), "Content-Type": "application/json" }, body: written() });
    const answer = await response.json();
    say(at("answer-state"), `answered ${response.status}: ${answer.status === response.status ? answer.title : answer.status}`);
    at("answer").textContent = JSON.stringify(answer, null, 2);
    at("answer").hidden = false;
  } catch (error) {
    say(at("answer-state"), `no answer: ${error.message}`);
    at("answer").hidden = true;
  }
  look();
});
