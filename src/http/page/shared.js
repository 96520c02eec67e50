"use strict";
// What both pages are made with. Whatever comes from the service is text: it is set by textContent, and never becomes markup.
const SVG = "http://www.w3.org/2000/svg";

const at = (id) => document.getElementById(id);

function filled(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children.flat().filter((child) => child !== null));
  return node;
}

const make = (name, attributes = {}, ...children) => filled(document.createElement(name), attributes, children);
const draw = (name, attributes = {}, ...children) => filled(document.createElementNS(SVG, name), attributes, children);

/// Changes what has changed and nothing else, so that readers of the screen are not disturbed.
function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/// Makes the children anew if what they show has changed.
function renew(node, shown, children) {
  const key = JSON.stringify(shown);
  if (node.dataset.shown === key) return;
  node.dataset.shown = key;
  node.replaceChildren(...children());
}

/// A name that may be long: it breaks behind what parts it, and elsewhere only if it must.
function breakable(text, tag = "span", parting = /(?<=.[/:?&=_,-])(?=[^/:?&=_,-])/) {
  const parts = text.split(parting);
  return make(tag, { class: "name" }, ...parts.flatMap((part, index) => (index ? [make("wbr"), part] : [part])));
}

/// The same of a host, which has dots between its parts.
const host_name = (text) => breakable(text, "span", /(?<=.[/:.-])(?=[a-z])|(?=:\d+$)/i);

// --- The token, for this tab alone ---

const STORED = "redis-cache-sync token";

function headers() {
  const token = sessionStorage.getItem(STORED);
  return token ? { Authorization: `Bearer ${token}` } : {};
}
