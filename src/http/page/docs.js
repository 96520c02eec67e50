"use strict";
// Makes /openapi.json readable. What it says is text: it never becomes markup.
const at = (id) => document.getElementById(id);

function make(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children.filter((child) => child !== null));
  return node;
}

/// A text in which `this` is code.
function prose(text, tag = "p") {
  const parts = text.split("`");
  return make(tag, {}, ...parts.map((part, index) => (index % 2 ? make("code", {}, part) : part)));
}

function json(value) {
  return make("pre", {}, typeof value === "string" ? value : JSON.stringify(value, null, 2));
}

const nameOf = (reference) => reference.split("/").pop();
let whole = {};

/// What a reference stands for; anything else is itself.
function resolve(node) {
  if (!node || !node.$ref || !node.$ref.startsWith("#/components/") || node.$ref.includes("/schemas/")) return node;
  return node.$ref.slice(2).split("/").reduce((place, name) => place[name], whole);
}

// --- Schemas ---

const LIMITS = {
  minimum: "at least", maximum: "at most", minLength: "minimum characters:", maxLength: "maximum characters:",
  minItems: "minimum items:", maxItems: "maximum items:", pattern: "matches", default: "default",
};

/// What is said of a schema in a line.
function line(schema) {
  const parts = [];
  if (schema.$ref) parts.push(make("a", { href: `#shape-${nameOf(schema.$ref)}` }, nameOf(schema.$ref)));
  if (schema.type) parts.push([schema.type].flat().join(" or "));
  if ("const" in schema) parts.push(make("code", {}, JSON.stringify(schema.const)));
  if (schema.enum) parts.push(...schema.enum.map((value) => make("code", {}, JSON.stringify(value))));
  for (const [limit, words] of Object.entries(LIMITS)) {
    if (limit in schema) parts.push(make("span", { class: "quiet" }, `${words} ${schema[limit]}`));
  }
  if (schema.not) parts.push(make("span", { class: "quiet" }, "but not "), line(schema.not));
  if (!parts.length && !schema.properties && !schema.anyOf && !schema.oneOf && !schema.allOf) parts.push("anything");
  return make("span", {}, ...parts.flatMap((part, index) => (index ? [" ", part] : [part])));
}

function shape(schema) {
  const box = make("div", { class: "schema" }, line(schema));
  if (schema.description) box.append(prose(schema.description));
  if (schema.properties) {
    const required = schema.required || [];
    const list = make("ul");
    for (const [name, property] of Object.entries(schema.properties)) {
      list.append(make("li", {}, make("code", {}, name), required.includes(name) ? " (required)" : "", shape(property)));
    }
    box.append(list);
  }
  if (schema.items) box.append(make("div", {}, "each:", shape(schema.items)));
  for (const [kind, words] of [["allOf", "all of"], ["anyOf", "any of"], ["oneOf", "one of"]]) {
    if (schema[kind]) box.append(make("div", {}, `${words}:`, ...schema[kind].map(shape)));
  }
  return box;
}

// --- Routes ---

function content(media) {
  return Object.entries(media || {}).map(([type, { schema, examples }]) => make("div", {},
    make("h4", {}, make("code", {}, type)),
    schema ? shape(schema) : null,
    ...Object.entries(examples || {}).map(([name, { summary, value }]) =>
      make("details", {}, make("summary", {}, `Example: ${summary || name}`), json(value)))));
}

function named(heading, title, entries) {
  if (!entries.length) return null;
  return make("div", {}, make(heading, {}, title), make("ul", {}, ...entries.map(([name, about]) =>
    make("li", {}, make("code", {}, name), " ", shape({ ...about.schema, description: about.description })))));
}

function responses(all) {
  return Object.entries(all).map(([status, given]) => {
    const response = resolve(given);
    const headers = Object.entries(response.headers || {}).map(([name, header]) => [name, resolve(header)]);
    return make("details", {}, make("summary", {}, make("strong", {}, status), " ", prose(response.description, "span")),
      named("h4", "Headers", headers), ...content(response.content));
  });
}

function keys(security) {
  if (!security) return "Needs no authentication.";
  const ways = security.map((way) => Object.keys(way).join(" with ") || "nothing");
  return `Needs ${ways.join(", or ")}.`;
}

function route(path, method, operation, shared) {
  const id = `route-${operation.operationId}`;
  at("contents").append(make("li", {}, make("a", { href: `#${id}` }, `${method.toUpperCase()} ${path}`), " ", prose(operation.summary, "span")));
  const parameters = [...shared, ...(operation.parameters || [])].map(resolve);
  const inHeaders = parameters.filter((parameter) => parameter.in === "header");
  const inUrl = parameters.filter((parameter) => parameter.in !== "header");
  const body = operation.requestBody;
  return make("section", { "aria-labelledby": id },
    make("h2", { id }, make("span", { class: "method" }, method.toUpperCase()), " ", make("code", {}, path)),
    prose(operation.summary),
    operation.description ? prose(operation.description) : null,
    make("p", { class: "quiet" }, keys(operation.security)),
    named("h3", "In the URL", inUrl.map((parameter) => [parameter.name, parameter])),
    named("h3", "Headers of the request", inHeaders.map((parameter) => [parameter.name, parameter])),
    body ? make("div", {}, make("h3", {}, "Body"), body.description ? prose(body.description) : null, ...content(body.content)) : null,
    make("h3", {}, "Answers"),
    ...responses(operation.responses));
}

function show(document_) {
  whole = document_;
  const { info, paths, components } = whole;
  at("title").textContent = `${info.title} ${info.version}: API`;
  at("about").replaceChildren(prose(info.summary), prose(info.description));
  for (const [path, { parameters = [], ...methods }] of Object.entries(paths)) {
    for (const [method, operation] of Object.entries(methods)) at("routes").append(route(path, method, operation, parameters));
  }
  at("security").append(...Object.entries(components.securitySchemes).flatMap(([name, scheme]) => [
    make("dt", {}, make("code", {}, scheme.name || `Authorization: ${scheme.scheme}`), ` (${name})`), prose(scheme.description, "dd"),
  ]));
  at("shapes").append(...Object.entries(components.schemas).map(([name, schema]) =>
    make("div", {}, make("h3", { id: `shape-${name}` }, name), shape(schema))));
  at("state").textContent = "";
  const target = location.hash && at(location.hash.slice(1));
  if (target) target.scrollIntoView();
}

fetch("/openapi.json")
  .then((response) => (response.ok ? response.json() : Promise.reject(new Error(`status ${response.status}`))))
  .then(show)
  .catch((error) => (at("state").textContent = `/openapi.json could not be read: ${error.message}`));
