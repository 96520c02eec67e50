
// --- Search ---

/// Details that the search has opened, to be closed again.
let opened = [];

function search() {
  const wanted = at("search").value.trim().toLowerCase();
  opened.forEach((details) => (details.open = false));
  opened = [];
  const parts = [...document.querySelectorAll("[data-part]")];
  const found = parts.filter((part) => !wanted || part.textContent.toLowerCase().includes(wanted));
  parts.forEach((part) => (part.hidden = !found.includes(part)));
  const ids = new Set(found.map(({ dataset }) => dataset.part));
  for (const link of at("contents").querySelectorAll("a")) link.parentElement.hidden = !ids.has(link.hash.slice(1));
  for (const list of at("contents").querySelectorAll("ul")) list.hidden = list.previousElementSibling.hidden = ![...list.children].some(({ hidden }) => !hidden);
  say(at("search-state"), wanted ? `${found.length} of ${parts.length} parts have it${found.length ? "; Enter goes to the first" : ""}` : "");
  mark(wanted ? found : [], wanted);
}

/// Marks what was found, and opens what it is folded into.
function mark(parts, wanted) {
  const ranges = [];
  for (const part of parts) {
    const texts = document.createTreeWalker(part, NodeFilter.SHOW_TEXT);
    while (texts.nextNode() && ranges.length < 2000) {
      const place = texts.currentNode.data.toLowerCase().indexOf(wanted);
      if (place < 0) continue;
      const range_ = new Range();
      range_.setStart(texts.currentNode, place);
      range_.setEnd(texts.currentNode, place + wanted.length);
      ranges.push(range_);
      const folded = texts.currentNode.parentElement.closest("details:not([open]):not(.try)");
      if (folded && !texts.currentNode.parentElement.closest("summary")) opened.push(folded);
    }
  }
  if (opened.length <= 20) opened.forEach((details) => (details.open = true));
  else opened = [];
  if (window.CSS && CSS.highlights) {
    CSS.highlights.clear();
    if (ranges.length) CSS.highlights.set("found", new Highlight(...ranges));
  }
}

at("search").addEventListener("input", search);
at("search-form").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  const first = document.querySelector("[data-part]:not([hidden])");
  if (first) {
    first.scrollIntoView();
    first.querySelector("h2").tabIndex = -1;
    first.querySelector("h2").focus();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || /INPUT|TEXTAREA|SELECT/.test(document.activeElement.tagName)) return;
  event.preventDefault();
  at("search").focus();
});
// A link leads also to what the search has hidden.
window.addEventListener("hashchange", () => {
  const target = at(location.hash.slice(1));
  if (!target || !target.closest("[hidden]")) return;
  at("search").value = "";
  search();
  target.scrollIntoView();
});

// Where there is room for it, the contents are open.
at("contents-fold").open = matchMedia("(min-width: 60rem)").matches;

fetch("/openapi.json")
  .then((response) => (response.ok ? response.json() : Promise.reject(new Error(`status ${response.status}`))))
  .then(show)
  .catch((error) => say(at("state"), `/openapi.json could not be read: ${error.message}`));
