
// --- The journal and its dead letters ---

function journal(state) {
  at("journal-card").hidden = at("letters-card").hidden = !state;
  if (!state) return;
  facts(at("journal"), [
    ["state", state.up ? "✓ up" : "✗ down", state.up ? "good" : "bad"],
    ["fed by", state.lease ? "this replica" : "another replica, or nobody while it is empty"],
    ["events that wait", `${count(state.events)} of ${count(state.max_events)}`],
    ["age of the oldest", `${short(state.oldest_age_seconds)} s`],
    ["dead letters", count(state.dead_letters), state.dead_letters ? "warn" : ""],
  ]);
}

/// What is listed: the filter it was asked with, and where the list goes on.
let listed = { ids: [], next: null, filter: {} };

async function ask(path, options = {}) {
  const response = await fetch(path, { ...options, headers: { ...headers(), ...options.headers }, cache: "no-store" });
  if (response.status === 401) shut();
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.detail || answer.title || `status ${response.status}`);
  return answer;
}

async function tried(work) {
  try {
    await work();
  } catch (error) {
    say(at("letters-state"), `✗ ${error.message}`);
  }
}

function filled() {
  const filter = {};
  for (const name of ["source", "problem", "key", "age"]) {
    const text = at(`letters-${name}`).value.trim();
    if (text) filter[name] = text;
  }
  return filter;
}

async function list(filter, after) {
  at("letter").hidden = true;
  const { letters, next } = await ask(`/dead-letters.json?${new URLSearchParams(after ? { ...filter, after } : filter)}`);
  listed = { ids: letters.map(({ id }) => id), next, filter };
  at("letters").replaceChildren(...letters.map(row));
  at("letters-table").hidden = !letters.length;
  at("letters-more-row").hidden = !next;
  at("letters-replay").disabled = at("letters-drop").disabled = !letters.length;
  say(at("letters-state"), letters.length ? `${count(letters.length)} listed${next ? ", there may be more" : ""}` : "None.");
}

function row({ id, problem, source, keys, died, attempts }) {
  const button = (name, work) => {
    const made = make("button", { type: "button", "aria-label": `${name} ${id}` }, name);
    made.addEventListener("click", () => tried(work));
    return made;
  };
  const doing = make("td", {}, button("Show", () => detail(id)), " ", button("Replay", () => change("replay", [id])), " ", button("Drop", () => change("drop", [id])));
  const cells = [make("time", { datetime: died }, died), problem, source || "–", keys.join(" ") || "–", count(attempts)];
  return make("tr", {}, ...cells.map((cell, place) => make("td", place === 3 ? { class: "code" } : {}, cell)), doing);
}

async function detail(id) {
  const { letters } = await ask(`/dead-letters.json?${new URLSearchParams({ id })}`);
  at("letter").textContent = JSON.stringify(letters[0], null, 2);
  at("letter").hidden = false;
  at("letter").focus();
}

async function change(how, ids) {
  const { done, stays } = await ask(`/dead-letters/${how}`, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ ids }),
  });
  await list(listed.filter);
  const why = stays.length ? `; ${count(stays.length)} stay: ${stays[0].why}` : "";
  say(at("letters-state"), `${count(done)} ${how === "drop" ? "dropped" : "put back into the journal"}${why}`);
}

at("letters-filter").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  tried(() => list(filled()));
});
at("letters-more").addEventListener("click", () => tried(() => list(listed.filter, listed.next)));
at("letters-replay").addEventListener("click", () => tried(() => change("replay", listed.ids)));
at("letters-drop").addEventListener("click", () => {
  const text = `Drop ${listed.ids.length} dead letters for good?`;
  if (confirm(text)) tried(() => change("drop", listed.ids));
});

chosen();
look();
