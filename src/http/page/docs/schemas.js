
// --- Schemas, in sentences ---

const nameOf = (reference) => reference.split("/").pop();
let whole = {};

/// What a reference stands for; anything else is itself.
function resolve(node) {
  if (!node || !node.$ref || !node.$ref.startsWith("#/components/") || node.$ref.includes("/schemas/")) return node;
  return node.$ref.slice(2).split("/").reduce((place, part) => place[part], whole);
}

/// A text in which `this` is code, and long numbers are readable.
function prose(text, tag = "p") {
  const grouped = (part) => part.replace(/\b\d{5,15}\b/g, (digits) => number(Number(digits)));
  return make(tag, {}, text.split("`").map((part, index) => (index % 2 ? make("code", {}, part) : grouped(part))));
}

const code = (text) => make("code", {}, text);
const json = (value) => make("pre", {}, typeof value === "string" ? value : JSON.stringify(value, null, 2));
const number = (value) => value.toLocaleString("en");
const capital = (text) => text.replace(/^./, (first) => first.toUpperCase());

/// "a, b or c".
function either(parts) {
  return parts.flatMap((part, index) => [index === 0 ? "" : index === parts.length - 1 ? " or " : ", ", part].flat());
}

function range(least, most, unit) {
  if (least !== undefined && most !== undefined) return least === most ? ` of ${number(least)} ${unit}` : ` of ${number(least)} to ${number(most)} ${unit}`;
  if (most !== undefined) return ` of at most ${number(most)} ${unit}`;
  return least !== undefined ? ` of at least ${number(least)} ${unit}` : "";
}

function bounds({ minimum: least, maximum: most }) {
  if (least !== undefined && most !== undefined) return ` from ${number(least)} to ${number(most)}`;
  if (most !== undefined) return ` up to ${number(most)}`;
  return least !== undefined ? ` from ${number(least)} on` : "";
}

const KINDS = {
  string: (schema) => [schema.contentEncoding ? `text in ${schema.contentEncoding}` : "a text", range(schema.minLength, schema.maxLength, "characters"), ...(schema.pattern ? [" that matches ", code(schema.pattern)] : [])],
  integer: (schema) => [`a whole number${bounds(schema)}`],
  number: (schema) => [`a number${bounds(schema)}`],
  boolean: () => [code("true"), " or ", code("false")],
  null: () => [code("null")],
  array: ({ items, minItems, maxItems }) => [`a list${range(minItems, maxItems, "elements")}`, ...(items && isShort(items) ? [", each ", ...phrase(items)] : [])],
  object: () => ["an object"],
};

/// Whether a phrase says all of it.
const isShort = (schema) => !schema.properties && !schema.allOf && !schema.description && (!schema.items || isShort(schema.items)) && ways(schema).every(isShort);
const ways = ({ anyOf, oneOf }) => anyOf || oneOf || [];

/// What a schema is, as a part of a sentence.
function phrase(schema) {
  const parts = [];
  if (schema.$ref) parts.push([make("a", { href: `#shape-${nameOf(schema.$ref)}` }, nameOf(schema.$ref))]);
  else if ("const" in schema) parts.push(["always ", code(JSON.stringify(schema.const))]);
  else if (schema.enum) parts.push([schema.enum.length > 1 ? "one of " : "always ", ...either(schema.enum.map((value) => [code(JSON.stringify(value))]))]);
  else if (schema.type) parts.push(either([schema.type].flat().map((type) => KINDS[type](schema))));
  else if (ways(schema).length && ways(schema).every(isShort)) parts.push(either(ways(schema).map(phrase)));
  if (schema.not && schema.not.pattern) parts.push([" but none that matches ", code(schema.not.pattern)]);
  if ("default" in schema) parts.push(["; ", code(JSON.stringify(schema.default)), " if it is left out"]);
  return parts.flat().filter((part) => part !== "");
}

/// The same as a sentence of its own; nothing if there is nothing to say.
function sentence(schema) {
  const parts = phrase(schema);
  if (!parts.length) return null;
  if (typeof parts[0] === "string") parts[0] = capital(parts[0]);
  return make("p", {}, ...parts, ".");
}

/// Whether its members, or its description, say more than its type alone would.
const isPlain = (schema) => (schema.type === "object" && schema.properties) || (schema.description && ["object", "string"].includes(schema.type) && phrase(schema).join("").length < 10 && !schema.enum);

function shape(schema) {
  const box = make("div", { class: "schema" }, isPlain(schema) ? null : sentence(schema), schema.description ? prose(schema.description) : null);
  if (schema.properties) {
    const required = schema.required || [];
    box.append(members(Object.entries(schema.properties).map(([member, property]) => [member, required.includes(member), property])));
  }
  if (schema.items && !isShort(schema.items)) box.append(make("p", {}, "Each element:"), shape(schema.items));
  if (ways(schema).length && !ways(schema).every(isShort)) box.append(make("p", {}, "One of these:"), ...ways(schema).map(shape));
  if (schema.allOf) box.append(...schema.allOf.map(shape));
  if (!box.childElementCount) box.append(make("p", {}, "Anything."));
  return box;
}

/// Names with what each is: `[name, whether it is required, schema]`.
function members(list) {
  return make("dl", { class: "members" }, ...list.flatMap(([member, isRequired, schema]) => [
    make("dt", {}, breakable(member, "code"), " ", make("span", { class: "quiet" }, isRequired ? "required" : "optional")),
    make("dd", {}, shape(schema)),
  ]));
}
