
// --- Try it ---

/// Headers that the browser or this page sees to.
const OWN_HEADERS = ["X-Request-Id", "traceparent", "tracestate", "Content-Encoding"];
const MAX_SHOWN = 20_000;
let made_ids = 0;

function field(label, input) {
  const id = `try-${(made_ids += 1)}`;
  input.id = id;
  return make("div", {}, make("label", { for: id }, label), input);
}

function parameter_field({ name: parameter, in: place, required, example, schema }) {
  const values = schema && schema.enum;
  const attributes = { "data-name": parameter, "data-in": place, autocomplete: "off", spellcheck: "false" };
  const input = values ? make("select", attributes, make("option", { value: "" }, "–"), ...values.map((value) => make("option", { value }, String(value)))) : make("input", attributes);
  if (example !== undefined && !values) input.placeholder = example;
  input.required = Boolean(required);
  return field(`${parameter}${required ? "" : " (optional)"}`, input);
}

/// The body, with the examples of the document to begin with.
function body_fields(media) {
  const examples = Object.entries(media).flatMap(([type, { examples = {} }]) => Object.entries(examples).map(([example, { summary, value }]) => ({ type, title: summary || example, value })));
  const text = make("textarea", { rows: 8, spellcheck: "false", "data-body": "" });
  const type = make("select", { "data-type": "" }, ...Object.keys(media).map((value) => make("option", { value }, value)));
  const choice = make("select", {}, ...examples.map(({ title }, index) => make("option", { value: index }, title)));
  const choose = () => {
    const { type: given, value } = examples[choice.value] || { value: "" };
    text.value = typeof value === "string" ? value : JSON.stringify(value, null, 2);
    if (given) type.value = given;
  };
  choice.addEventListener("change", choose);
  choose();
  return [examples.length ? field("Begin with this example", choice) : null, field("Media type", type), field("Body", text)];
}

/// What the form asks for: path and query, and the options of `fetch`.
function asked(form, path, method) {
  const given = (place) => [...form.querySelectorAll(`[data-in=${place}]`)].filter(({ value }) => value !== "").map(({ dataset, value }) => [dataset.name, value]);
  let target = path;
  for (const [parameter, value] of given("path")) target = target.replace(`{${parameter}}`, encodeURIComponent(value));
  const query = new URLSearchParams(given("query")).toString();
  const [body, type] = [form.querySelector("[data-body]"), form.querySelector("[data-type]")];
  const sent = { ...headers(), ...Object.fromEntries(given("header")), ...(body ? { "Content-Type": type.value } : {}) };
  return { target: query ? `${target}?${query}` : target, options: { method: method.toUpperCase(), headers: sent, ...(body ? { body: body.value } : {}), cache: "no-store" } };
}

/// The same for a shell. The token is not written out.
function command({ target, options }) {
  const quoted = (text) => `'${text.replace(/'/g, "'\\''")}'`;
  const sent = Object.entries(options.headers).map(([header, value]) => `-H ${header === "Authorization" ? '"Authorization: Bearer $TOKEN"' : quoted(`${header}: ${value}`)}`);
  const body = options.body === undefined ? [] : [`--data-binary ${quoted(options.body)}`];
  return [`curl -X ${options.method}`, ...sent, ...body, quoted(location.origin + target)].join(" ");
}

async function answered({ target, options }, state, out) {
  say(state, "sending…");
  const begun = performance.now();
  try {
    const response = await fetch(target, options);
    const text = await response.text();
    const elsewhere = response.status === 404 ? " With an admin port, some routes are on the other port." : "";
    say(state, `answered ${response.status} in ${Math.round(performance.now() - begun)} ms.${elsewhere}`);
    const told = [...response.headers].filter(([header]) => ["content-type", "x-request-id", "retry-after", "allow", "preference-applied"].includes(header));
    out.textContent = `${told.map(([header, value]) => `${header}: ${value}`).join("\n")}\n\n${pretty(text)}`;
    out.hidden = false;
  } catch (error) {
    say(state, `no answer: ${error.message}`);
    out.hidden = true;
  }
}

function pretty(text) {
  const cut = (shown) => (shown.length > MAX_SHOWN ? `${shown.slice(0, MAX_SHOWN)}…` : shown);
  try {
    return cut(JSON.stringify(JSON.parse(text), null, 2));
  } catch {
    return cut(text);
  }
}

function attempt(path, method, operation, parameters) {
  const fields = parameters.filter(({ name: parameter }) => !OWN_HEADERS.includes(parameter)).map(parameter_field);
  const isWrite = method === "post";
  const title = `${method.toUpperCase()} ${path}`;
  const form = make("form", {}, ...fields, ...(operation.requestBody ? body_fields(operation.requestBody.content) : []),
    isWrite ? make("p", { class: "warn" }, "This goes to the running service and takes effect.") : null,
    make("div", { class: "row" }, make("button", { type: "submit" }, "Send")));
  const [state, out, shell] = [make("p", { role: "status", "aria-live": "polite" }), make("pre", { tabindex: 0, role: "region", "aria-label": `Answer to ${title}` }), make("pre", { tabindex: 0, role: "region", "aria-label": `Command for ${title}` })];
  out.hidden = true;
  const refresh = () => say(shell, command(asked(form, path, method)));
  form.addEventListener("input", refresh);
  form.addEventListener("submit", (submitted) => {
    submitted.preventDefault();
    refresh();
    answered(asked(form, path, method), state, out);
  });
  const box = make("details", { class: "try" }, make("summary", {}, "Try it"), form, state, out, make("p", { class: "quiet" }, "The same in a shell:"), shell);
  box.addEventListener("toggle", refresh);
  return box;
}

at("token").value = sessionStorage.getItem(STORED) || "";
at("token").addEventListener("input", () => {
  const token = at("token").value.trim();
  if (token) sessionStorage.setItem(STORED, token);
  else sessionStorage.removeItem(STORED);
});
at("token-form").addEventListener("submit", (submitted) => submitted.preventDefault());
