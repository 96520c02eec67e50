
const EVERY_MS = 2000;
const TYPES = ["SET", "GET", "DELETE", "DELETE_PATTERN", "unknown"];
const OUTCOMES = ["ok", "rejected", "unavailable"];
const count = (number) => number.toLocaleString("en");

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
  if (number === null) return "–";
  if (number >= 1000) return `${number < 10_000 ? Math.round(number / 10) / 100 : short(number / 1000)}\u00a0s`;
  return `${number < 10 ? Math.round(number * 100) / 100 : short(number)}\u00a0ms`;
}

function duration(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const from = parts.findIndex(([size]) => seconds >= size);
  if (from < 0) return "0 s";
  const [[size, unit], next] = [parts[from], parts[from + 1]];
  const rest = next ? Math.floor((seconds % size) / next[0]) : 0;
  return `${Math.floor(seconds / size)} ${unit}${rest ? ` ${rest} ${next[1]}` : ""}`;
}

const clock = (ms, style = "medium") => new Date(ms).toLocaleTimeString([], { timeStyle: style, hourCycle: "h23" });

/// The time of day, with the date if that is another day.
function moment(ms) {
  const then = new Date(ms);
  const isToday = then.toDateString() === new Date().toDateString();
  return make("time", { datetime: then.toISOString() }, isToday ? clock(ms) : `${then.toLocaleDateString()} ${clock(ms)}`);
}

function facts(list, pairs) {
  if (list.childElementCount !== pairs.length * 2) {
    list.replaceChildren(...pairs.flatMap(([label]) => [make("dt", {}, label), make("dd")]));
  }
  pairs.forEach(([label, text, mood], index) => {
    const [term, place] = [list.children[index * 2], list.children[index * 2 + 1]];
    say(term, label);
    if (place.textContent !== text) place.replaceChildren(breakable(text));
    place.className = mood || "";
  });
}

at("door-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(STORED, at("token").value.trim());
  at("token").value = "";
  look();
});

function shut(why) {
  const had = sessionStorage.getItem(STORED) !== null;
  sessionStorage.removeItem(STORED);
  const wasOpen = at("door").hidden;
  at("door").hidden = false;
  at("all").hidden = true;
  tell(why || (had ? "that token is not accepted" : "a token is needed"), "warn");
  if (wasOpen || had) at("token").focus();
}

function tell(text, mood) {
  say(at("state"), text);
  at("state").className = mood;
}

/// Asks, and has the answer or an error that says why there is none.
async function ask(path, options = {}) {
  const response = await fetch(path, { ...options, headers: { ...headers(), ...options.headers }, cache: "no-store" });
  if (response.status === 401) shut();
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.detail || answer.title || `status ${response.status}`);
  return answer;
}

/// Posts an event or several: the status, and the answer.
async function post(text) {
  const response = await fetch("/events", { method: "POST", headers: { ...headers(), "Content-Type": "application/json" }, body: text });
  return { status: response.status, answer: await response.json() };
}

// --- Looking, again and again ---

let timer = 0;
let isPaused = false;
/// The last that was seen, and when.
let seen = null;
let seen_at = 0;

function show(status) {
  [seen, seen_at] = [status, Date.now()];
  const { service } = status;
  at("door").hidden = true;
  at("all").hidden = false;
  document.title = `${status.ready ? "" : "not ready: "}redis-cache-sync${service.cluster ? ` in ${service.cluster}` : ""}`;
  tell(status.ready ? "✓ ready" : `✗ not ready: ${status.reasons.join("; ")}`, status.ready ? "good" : "bad");
  replicas(status);
  health(status);
  failures(status);
  charts(status);
  flow(status);
  tables(status);
  at("elsewhere").hidden = service.takes_events;
  at("post").hidden = !service.takes_events;
  rights(status);
  stores(status.stores);
  journal(status.journal);
}

async function look() {
  clearTimeout(timer);
  try {
    const response = await fetch(`/status.json?span=${span()}`, { headers: headers(), cache: "no-store" });
    if (response.status === 401) return shut();
    if (response.status === 403) return shut("that token may not read the state");
    if (!response.ok) throw new Error(`status ${response.status}`);
    show(await response.json());
  } catch (error) {
    tell(`✗ no answer from the service (${error.message}); retrying`, "bad");
    outdated();
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
