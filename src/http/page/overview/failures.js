
// --- What failed lately ---

/// Rows that are shown at first.
const FIRST_FAILURES = 8;
let failed = [];
let isAllShown = false;

function failures({ failures: list, sees_all_keys }) {
  failed = list;
  say(at("no-failures"), sees_all_keys ? "Nothing has failed since this replica started." : "This token sees some keys only, so failures are not listed.");
  at("no-failures").hidden = list.length > 0;
  at("failures-there").hidden = list.length === 0;
  options(at("failures-problem"), list.map(({ problem }) => problem), (problem) => problem);
  options(at("failures-source"), list.map(({ source }) => source || "/events"), (source) => source);
  // Whoever is in the table reads on undisturbed.
  if (!at("failures").contains(document.activeElement)) list_failures();
}

/// Offers each value once, behind the first option; what is chosen stays chosen.
function options(select, values) {
  const offered = [...new Set(values)].sort();
  const chosen = select.value;
  if (chosen && !offered.includes(chosen)) offered.push(chosen);
  const known = [...select.options].slice(1).map(({ value }) => value);
  if (known.join("\n") === offered.join("\n")) return;
  select.replaceChildren(select.options[0], ...offered.map((value) => make("option", { value }, value)));
  select.value = chosen;
}

function list_failures() {
  const text = at("failures-text").value.trim().toLowerCase();
  const [problem, source, kind] = ["problem", "source", "class"].map((filter) => at(`failures-${filter}`).value);
  const passes = (one) =>
    (!text || [one.key, one.url, one.id, one.request_id, one.detail, one.event].some((part) => part.toLowerCase().includes(text))) &&
    (!problem || one.problem === problem) && (!source || (one.source || "/events") === source) && (!kind || one.class === kind || (kind === "rejected" && !one.class));
  const fitting = failed.filter(passes);
  const shown = isAllShown ? fitting : fitting.slice(0, FIRST_FAILURES);
  const part = fitting.length === failed.length ? count(failed.length) : `${count(fitting.length)} of ${count(failed.length)}`;
  say(at("failures-count"), `${part} ${failed.length === 1 ? "failure" : "failures"}${fitting.length > shown.length ? `; the last ${shown.length} are shown` : ""}`);
  at("failures-more-row").hidden = fitting.length <= FIRST_FAILURES;
  say(at("failures-more"), isAllShown ? `Show the last ${FIRST_FAILURES}` : `Show all ${count(fitting.length)}`);
  renew(at("failures"), [shown.map(({ at_ms, request_id, key }) => [at_ms, request_id, key]), failed.length, [text, problem, source, kind], seen.may_write], () => shown.map(failure_row));
}

function failure_row(one) {
  const what = [one.event ? make("span", { class: "tag" }, one.event) : "no event", " ", breakable(one.key, "code"), one.url ? make("div", { class: "quiet url" }, breakable(one.url)) : null];
  const ids = [["request", one.request_id], ["event id", one.id]].filter(([, id]) => id);
  const more = make("details", {}, make("summary", {}, "More"), make("dl", { class: "facts left" }, ...ids.flatMap(([label, id]) => [make("dt", {}, label), make("dd", {}, breakable(id, "code"))]),
    make("dt", {}, "repeat"), make("dd", {}, !one.repeat ? one.no_repeat : seen.may_write ? "It has a version, so it never overwrites anything newer." : "This token may only read.")));
  const cells = [["Time", moment(one.at_ms)], ["What", what], ["From", breakable(one.source || "/events")],
    ["Problem", [make("strong", {}, one.problem), make("div", {}, breakable(one.detail)), more]], ["Attempts", count(one.attempts)], ["Repeat", again(one)]];
  const classes = { Attempts: "number", What: "wide", Problem: "wide", Repeat: one.repeat && seen.may_write ? "wide" : "none" };
  return make("tr", {}, ...cells.map(([label, cell]) => make("td", { "data-label": label, class: classes[label] || "" }, make("div", {}, cell))));
}

/// A button, where it is safe.
function again(one) {
  if (!one.repeat || !seen.may_write) return make("span", { class: "quiet" }, "–");
  if (!seen.service.takes_events) return make("span", { class: "quiet" }, "on the main port");
  const button = make("button", { type: "button", class: "small", "aria-label": `Repeat the store of ${one.key}` }, "Repeat");
  button.addEventListener("click", () => repeat(one, button));
  return button;
}

async function repeat({ repeat: event, key }, button) {
  button.disabled = true;
  say(at("repeat-state"), `repeating ${key}…`);
  try {
    const { answer } = await post(JSON.stringify(event));
    const result = (answer.results || [{ status: answer.title }])[0];
    const why = result.problem ? `: ${result.problem.detail}` : "";
    say(at("repeat-state"), `${key}: ${result.status}${why}`);
  } catch (error) {
    say(at("repeat-state"), `${key}: no answer (${error.message})`);
  }
  button.disabled = false;
  button.blur();
  look();
}

at("failures-more").addEventListener("click", () => {
  isAllShown = !isAllShown;
  list_failures();
});
at("failures-filter").addEventListener("input", list_failures);
at("failures-filter").addEventListener("submit", (submitted) => submitted.preventDefault());
