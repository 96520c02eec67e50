
// --- The journal and its dead letters ---

function journal(state) {
  at("journal-card").hidden = at("letters-card").hidden = at("jump-letters").hidden = !state;
  if (!state) return;
  facts(at("journal"), [
    ["state", state.up ? "✓ up" : "✗ down", state.up ? "good" : "bad"],
    ["fed by", state.lease ? "this replica" : "another replica, or nobody while it is empty"],
    ["events that wait", `${count(state.events)} of ${count(state.max_events)}`],
    ["age of the oldest", `${short(state.oldest_age_seconds)} s`],
    ["dead letters", count(state.dead_letters), state.dead_letters ? "warn" : ""],
  ]);
  if (state.dead_letters && !lists) tried(() => list({}));
}

/// What is listed: the filter it was asked with, and where the list goes on.
let listed = { ids: [], next: null, filter: {} };
/// How often a list was asked for: an answer that another request has overtaken is not shown.
let lists = 0;

async function tried(work) {
  try {
    await work();
  } catch (error) {
    say(at("letters-state"), `✗ ${error.message}`);
  }
}

function wanted_letters() {
  const filter = {};
  for (const name of ["source", "problem", "key", "age"]) {
    const text = at(`letters-${name}`).value.trim();
    if (text) filter[name] = text;
  }
  return filter;
}

async function list(filter, after) {
  at("letter").hidden = true;
  const own = (lists += 1);
  const { letters, next } = await ask(`/dead-letters.json?${new URLSearchParams(after ? { ...filter, after } : filter)}`);
  if (own !== lists) return;
  listed = { ids: letters.map(({ id }) => id), next, filter };
  at("letters").replaceChildren(...letters.map(letter_row));
  at("letters-table").hidden = !letters.length;
  at("letters-more-row").hidden = !next;
  at("letters-replay").disabled = at("letters-drop").disabled = !letters.length || !seen.may_write;
  say(at("letters-state"), letters.length ? `${count(letters.length)} listed${next ? ", there may be more" : ""}` : "None.");
}

function letter_row({ id, problem, source, keys, died, attempts }) {
  const button = (name, work) => {
    const made = make("button", { type: "button", class: "small", "aria-label": `${name} ${id}` }, name);
    made.addEventListener("click", () => tried(work));
    return made;
  };
  const changing = seen.may_write ? [" ", button("Replay", () => change("replay", [id])), " ", button("Drop", () => change("drop", [id]))] : [];
  const doing = [button("Show", () => detail(id)), ...changing];
  const when = Number.isNaN(Date.parse(died)) ? make("span", {}, died) : moment(Date.parse(died));
  const cells = [["Given up", when], ["Problem", problem], ["Source", source || "–"], ["Keys", keys.length ? breakable(keys.join(" "), "code") : "–"], ["Attempts", count(attempts)], ["What to do", doing]];
  const classes = { Attempts: "number", "What to do": "wide" };
  return make("tr", {}, ...cells.map(([label, cell]) => make("td", { "data-label": label, class: classes[label] || "" }, make("div", {}, cell))));
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
  const why = stays.length ? `; ${count(stays.length)} were left, the first because ${stays[0].why}` : "";
  say(at("letters-state"), `${count(done)} ${how === "drop" ? "dropped" : "put back into the journal"}${why}`);
}

at("letters-filter").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  tried(() => list(wanted_letters()));
});
at("letters-more").addEventListener("click", () => tried(() => list(listed.filter, listed.next)));
at("letters-replay").addEventListener("click", () => tried(() => change("replay", listed.ids)));
at("letters-drop").addEventListener("click", () => {
  const text = `Drop ${listed.ids.length} dead letters for good?`;
  if (confirm(text)) tried(() => change("drop", listed.ids));
});

chosen();
look();
