
// --- Is it well, and if not, since when and why ---

const PARTS = { service: "Service", redis: "Redis", journal: "Journal", admission: "Admission", store: "Store", host: "Host" };
const SIGNS = { ok: "✓", degraded: "!", down: "✗" };
const MOODS = { ok: "good", degraded: "warn", down: "bad" };

function health(status) {
  const wrong = status.health.filter(({ state }) => state !== "ok").sort((a, b) => b.state.localeCompare(a.state));
  const isDown = wrong.some(({ state }) => state === "down");
  const letters = status.journal ? status.journal.dead_letters : 0;
  const more = letters ? ` ${count(letters)} dead ${letters === 1 ? "letter waits" : "letters wait"} to be looked at.` : "";
  const things = wrong.length === 1 ? "One thing is" : `${count(wrong.length)} things are`;
  say(at("verdict"), `${wrong.length ? `${isDown ? "✗" : "!"} ${things} not well.` : "✓ All is well."}${more}`);
  at("verdict").className = wrong.length ? (isDown ? "bad" : "warn") : "good";
  renew(at("troubles"), wrong, () => wrong.map(trouble));
  wrong.forEach(({ since_ms }, index) => say(at("troubles").children[index].querySelector(".for"), since(since_ms)));
  renew(at("parts"), status.health.map(({ part, name: which, state }) => [part, which, state]), () => status.health.map(({ part, name: which, state }) =>
    make("li", { class: MOODS[state] }, make("span", {}, `${SIGNS[state]} ${PARTS[part]}`), which ? [" ", breakable(which)] : null)));
  figures(status);
}

/// What is shown is no longer known to be so.
function outdated() {
  if (!seen) return;
  say(at("verdict"), `✗ This replica does not answer. What is shown is from ${clock(seen_at)}.`);
  at("verdict").className = "bad";
}

function trouble({ part, name: which, state, since_ms, why }) {
  return make("li", { class: MOODS[state] },
    make("p", { class: "what" }, make("strong", { class: MOODS[state] }, `${SIGNS[state]} ${PARTS[part]} `), which ? breakable(which) : null),
    make("p", { class: "when quiet" }, make("span", { class: "for" }), since_ms === null ? null : [", from ", moment(since_ms)]),
    make("p", { class: "why" }, breakable(why)));
}

function since(ms) {
  return ms === null ? "at this moment" : `for ${duration(Math.max(0, Math.round((Date.now() - ms) / 1000)))}`;
}

/// Figures, each under its name.
function tiles(list, pairs) {
  renew(list, pairs.map(([label]) => label), () => pairs.map(([label]) => make("div", {}, make("dt", {}, label), make("dd"))));
  pairs.forEach(([, text, mood], index) => {
    const place = list.children[index].lastChild;
    say(place, text);
    place.className = mood || "";
  });
}

/// The figures that one looks at first.
function figures({ history, latency, admission, queue, failures: failed, service, events }) {
  const last = history.steps - 1;
  const rate = last < 0 ? 0 : TYPES.reduce((sum, type) => sum + OUTCOMES.reduce((sum, outcome) => sum + events_at(history, type, outcome, last), 0), 0) / history.step_seconds;
  const total = (outcome) => TYPES.reduce((sum, type) => sum + events[type][outcome], 0);
  const recent = failed.filter(({ at_ms }) => at_ms > Date.now() - 900_000).length;
  const full = Math.max(admission.events / admission.max_events, admission.bytes / admission.max_bytes);
  tiles(at("figures"), [
    ["events a second now", short(rate)],
    ["ok since the start", count(total("ok"))],
    ["failed since the start", count(total("rejected") + total("unavailable")), total("unavailable") ? "warn" : ""],
    ["failures in 15 minutes", recent >= 50 ? "50 or more" : count(recent), recent ? "warn" : ""],
    ["p50 of an answer", milliseconds(latency.p50_ms)],
    ["p99 of an answer", milliseconds(latency.p99_ms)],
    ["admission in use", `${short(100 * full)} %`, full >= 0.9 ? "bad" : ""],
    ["oldest that waits", `${short(queue.oldest_age_seconds)} s`, queue.oldest_age_seconds > 5 ? "warn" : ""],
    ["up for", duration(service.uptime_seconds)],
  ]);
}

const events_at = (history, type, outcome, step) => history.events[type][outcome][step];
