
// --- The pipeline, and tables that sort ---

const LINE = ["intake", "validation", "router", "writer"];
const BRANCH = ["fetcher", "scanner", "appender", "feeder"];
const DUTY = {
  intake: "splits bodies into events",
  validation: "checks each event",
  router: "keeps the order of each key",
  writer: "writes to Redis",
  fetcher: "downloads blobs",
  scanner: "deletes by pattern",
  appender: "writes to the journal",
  feeder: "feeds from the journal",
};

function flow({ pipeline, admission, cache, journal: kept }) {
  const known = new Map(pipeline.map((actor) => [actor.actor, actor]));
  const actor = (kind) => {
    const { running, wanted, waiting, restarts, stuck } = known.get(kind);
    const pool = stuck ? "STUCK" : running < wanted ? `only ${running} of ${wanted} run` : `${running} running`;
    return [kind, DUTY[kind], [pool, `${count(waiting)} waiting`, `${count(restarts)} ${restarts === 1 ? "restart" : "restarts"}`], stuck ? "down" : running < wanted ? "short" : waiting ? "busy" : ""];
  };
  const http = ["HTTP", "POST /events and sources", [`${count(admission.events)} events`, `${bytes(admission.bytes)} in progress`], admission.events ? "busy" : ""];
  const redis = ["Redis", cache.where, [cache.up ? "up" : "DOWN", `${count(cache.reconnects)} reconnects`], cache.up ? "" : "down"];
  boxes(at("line"), [http, ...LINE.map(actor), redis]);
  const isThere = (kind) => known.has(kind) && (kept || !["appender", "feeder"].includes(kind));
  boxes(at("branch"), BRANCH.filter(isThere).map(actor));
}

function boxes(list, shown) {
  renew(list, shown, () => shown.map(([title, duty, figures, mood]) => make("li", { "data-actor": title },
    make("div", { class: `actor ${mood}` }, make("div", { class: "title" }, title), make("div", { class: "quiet duty" }, breakable(duty)), make("div", { class: "figures" }, ...figures.map((figure) => make("div", {}, figure)))))));
}

/// A table whose columns sort by a click on their heads.
function sortable(id, columns, byDefault) {
  const state = { column: byDefault, isDown: true, rows: [] };
  const heads = columns.map(({ label, isNumber }, index) => {
    const button = make("button", { type: "button", class: "sort" }, label);
    button.addEventListener("click", () => {
      [state.isDown, state.column] = [state.column === index ? !state.isDown : Boolean(isNumber), index];
      fill();
    });
    return make("th", { scope: "col", class: isNumber ? "number" : "" }, button);
  });
  at(`${id}-head`).append(...heads);
  function fill() {
    const { of } = columns[state.column];
    const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : (a ?? -1) - (b ?? -1));
    const rows = [...state.rows].sort((a, b) => compare(of(a), of(b)) * (state.isDown ? -1 : 1));
    heads.forEach((head, index) => (index === state.column ? head.setAttribute("aria-sort", state.isDown ? "descending" : "ascending") : head.removeAttribute("aria-sort")));
    const focused = at(id).contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    renew(at(id), rows, () => rows.map((row) => make("tr", {}, ...columns.map(({ label, of, text, cell, isNumber, isWide, mood }, index) => {
      const shown = text ? text(of(row)) : of(row);
      const given = { class: `${isNumber ? "number" : ""} ${isWide ? "wide" : ""} ${of(row) === null ? "none" : ""} ${mood ? mood(row) : ""}`.trim() };
      const content = cell ? cell(row) : isNumber ? shown : breakable(shown);
      return index ? make("td", { "data-label": label, ...given }, content) : make("th", { scope: "row", ...given }, content);
    }))));
    const again = [...at(id).querySelectorAll("a")].find((link) => link.getAttribute("href") === focused);
    if (again) again.focus({ preventScroll: true });
  }
  return (rows) => {
    state.rows = rows;
    fill();
  };
}

const show_sources = sortable("sources", [
  { label: "Source", of: ({ source, format }) => `${source} (${format})` },
  { label: "Got", of: ({ received }) => received, text: count, isNumber: true },
  { label: "Ignored", of: ({ ignored }) => ignored, text: count, isNumber: true },
  { label: "Failed", of: ({ source }) => failed.filter((one) => one.source === source).length, text: count, isNumber: true, mood: ({ source }) => (failed.some((one) => one.source === source) ? "warn" : "") },
  { label: "Behind", of: ({ mean_lag_seconds }) => mean_lag_seconds, text: (lag) => (lag === null ? "–" : `${short(lag)} s`), isNumber: true },
], 1);

const show_hosts = sortable("hosts", [
  { label: "Host", of: ({ host }) => host, cell: ({ host }) => host_name(host) },
  { label: "Got", of: ({ ok }) => ok, text: count, isNumber: true },
  { label: "Failed", of: ({ failed }) => failed, text: count, isNumber: true, mood: ({ failed }) => (failed ? "warn" : "") },
  { label: "Mean", of: ({ mean_ms }) => mean_ms, text: milliseconds, isNumber: true },
  { label: "State", of: ({ host }) => host_state(host), mood: ({ host }) => (host_state(host) === "fails" ? "warn" : "") },
], 3);

/// As the health has it.
function host_state(host) {
  const isIt = ({ part, name: which, state }) => state !== "ok" && (part === "host" ? which : part === "store" ? `store/${which}` : "") === host;
  return seen.health.some(isIt) ? "fails" : "✓";
}

function counts(events) {
  if (!at("counts").childElementCount) {
    at("counts").append(...TYPES.map((type) => make("tr", {}, make("th", { scope: "row" }, breakable(type)), ...OUTCOMES.map(() => make("td", { class: "number" })))));
  }
  TYPES.forEach((type, row) => OUTCOMES.forEach((outcome, column) => {
    const number = events[type][outcome];
    say(at("counts").children[row].children[column + 1], number < 10_000_000 ? count(number) : `${short(number / 1e6)} M`);
  }));
}

/// Half, and 99 of 100, beside each other.
function times(rows) {
  renew(at("times"), rows, () => rows.map(([label, { p50_ms, p99_ms }]) => make("tr", {}, make("th", { scope: "row" }, label), ...[p50_ms, p99_ms].map((ms) => make("td", { class: "number" }, milliseconds(ms))))));
}

function used(id, label, now, most, text) {
  at(id).value = most ? now / most : 0;
  say(at(`${id}-text`), `${label}: ${text(now)} of ${text(most)}`);
}

function tables({ service, admission, queue, blobs, cache, sources, latency, events }) {
  at("sources-card").hidden = at("jump-sources").hidden = !sources.length;
  show_sources(sources);
  at("no-hosts").hidden = blobs.hosts.length > 0;
  at("hosts-table").hidden = !blobs.hosts.length;
  show_hosts(blobs.hosts);
  counts(events);
  used("admission-events", "Events", admission.events, admission.max_events, count);
  used("admission-bytes", "Bytes", admission.bytes, admission.max_bytes, bytes);
  times([["an answer to POST /events", latency], ["from acceptance to the end", queue.delay], ["a pipeline to Redis", cache.latency]]);
  facts(at("cache"), [
    ["state", cache.up ? "✓ up" : "✗ down", cache.up ? "good" : "bad"],
    ["where", cache.where],
    ["reconnects", count(cache.reconnects)],
  ]);
  facts(at("service"), [
    ["version", service.version],
    ["cluster", service.cluster || "–"],
    ["up for", duration(service.uptime_seconds)],
    ["memory", service.memory_bytes === null ? "–" : bytes(service.memory_bytes)],
    ["hosts that do not answer", count(blobs.hosts_down), blobs.hosts_down ? "bad" : ""],
  ]);
}
