
// --- Routes ---

const GROUPS = { events: "Events", sources: "Notifications of storage", operation: "Operating the service", pages: "Pages" };
/// Ids of the groups whose titles are there.
const titled = new Set();

function content(media) {
  return Object.entries(media || {}).map(([type, { schema, examples }]) => make("div", {},
    make("h4", {}, code(type)),
    schema && Object.keys(schema).length ? shape(schema) : null,
    ...Object.entries(examples || {}).map(([example, { summary, value }]) =>
      make("details", {}, make("summary", {}, "Example: ", prose(summary || example, "span")), json(value)))));
}

function named(heading, title, entries) {
  if (!entries.length) return null;
  return make("div", {}, make(heading, {}, title), members(entries.map(([entry, about]) => [entry, about.required, { ...about.schema, description: about.description }])));
}

function responses(all) {
  return Object.entries(all).map(([status, given]) => {
    const response = resolve(given);
    const told = Object.entries(response.headers || {}).map(([header, about]) => [header, resolve(about)]);
    return make("details", {}, make("summary", {}, make("strong", {}, status), " ", prose(response.description, "span")),
      named("h4", "Headers", told), ...content(response.content));
  });
}

const WAYS = { bearer: "a bearer token", tokenInUrl: "a token in the URL", webhookId: "a webhook signature" };

/// Who may ask.
function keys(security) {
  if (!security) return "Anybody may ask; no token is looked at.";
  const shown = security.map((way) => Object.keys(way)[0]).filter(Boolean).map((way) => WAYS[way] || way);
  const isOpen = security.some((way) => !Object.keys(way).length);
  if (!shown.length) return "Anybody may ask.";
  const asked = either(shown).join("");
  return isOpen ? `As this service is set up, anybody may ask. Where tokens or secrets are set, show ${asked}.` : `Show ${asked}.`;
}

function route(path, method, operation, common) {
  const id = `route-${operation.operationId}`;
  list_in_contents(GROUPS[operation.tags[0]] || "Other", id, `${method.toUpperCase()} ${path}`);
  const parameters = [...common, ...(operation.parameters || [])].map(resolve);
  const inHeaders = parameters.filter((parameter) => parameter.in === "header");
  const inUrl = parameters.filter((parameter) => parameter.in !== "header");
  const body = operation.requestBody;
  return make("section", { "aria-labelledby": id, "data-part": id },
    make("h2", { id }, make("span", { class: "method" }, method.toUpperCase()), " ", breakable(path, "code")),
    prose(operation.summary),
    operation.description ? prose(operation.description) : null,
    make("p", { class: "quiet" }, keys(operation.security)),
    attempt(path, method, operation, parameters),
    named("h3", "In the URL", inUrl.map((parameter) => [parameter.name, parameter])),
    named("h3", "Headers of the request", inHeaders.map((parameter) => [parameter.name, parameter])),
    body ? make("div", {}, make("h3", {}, "Body"), body.description ? prose(body.description) : null, ...content(body.content)) : null,
    make("h3", {}, "Answers"),
    ...responses(operation.responses));
}

// --- Contents ---

function list_in_contents(group, id, text) {
  const key = `contents-${group.replace(/\W/g, "-")}`;
  if (!titled.has(key)) {
    titled.add(key);
    at("contents").append(make("h2", { class: "group" }, group), make("ul", { id: key }));
  }
  at(key).append(make("li", {}, make("a", { href: `#${id}` }, breakable(text))));
}

function show(document_) {
  whole = document_;
  const { info, paths, components } = whole;
  say(at("title"), `${info.title} ${info.version}: API`);
  at("about").replaceChildren(prose(info.summary), prose(info.description));
  list_in_contents("General", "about-title", "About");
  list_in_contents("General", "security-title", "Authentication");
  for (const [path, { parameters = [], ...methods }] of Object.entries(paths)) {
    for (const [method, operation] of Object.entries(methods)) at("routes").append(route(path, method, operation, parameters));
  }
  at("security").append(...Object.entries(components.securitySchemes).flatMap(([scheme, about]) => [
    make("dt", {}, code(about.name || `Authorization: ${about.scheme}`), ` (${scheme})`), prose(about.description, "dd"),
  ]));
  for (const [shown, schema] of Object.entries(components.schemas)) {
    const id = `shape-${shown}`;
    list_in_contents("Schemas", id, shown);
    at("shapes").append(make("section", { "aria-labelledby": id, "data-part": id }, make("h2", { id }, shown), shape(schema)));
  }
  at("about-part").dataset.part = "about-title";
  at("security-part").dataset.part = "security-title";
  say(at("state"), "");
  const target = location.hash && at(location.hash.slice(1));
  if (target) target.scrollIntoView();
}
