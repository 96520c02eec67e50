
// --- Charts: axes, gridlines, and the values under the pointer ---

const span = () => document.querySelector("#span input:checked").value;
const HEIGHT = 190;
const [LEFT, RIGHT, TOP, BOTTOM] = [66, 10, 8, 22];

function perSecond(history, sum) {
  return Array.from({ length: history.steps }, (_, step) => sum(step) / history.step_seconds);
}

const both = (p50, p99) => [["p50: half are faster", p50], ["p99: 99 of 100 are faster", p99]];
const rate = (n) => `${short(n)}/s`;
const share = (n) => `${short(n)} %`;

const CHARTS = [
  { id: "outcomes", title: "Events a second, by outcome", text: rate,
    series: (h) => OUTCOMES.map((outcome) => [outcome, perSecond(h, (n) => TYPES.reduce((sum, type) => sum + events_at(h, type, outcome, n), 0))]) },
  { id: "types", title: "Events a second, by type", text: rate,
    series: (h) => TYPES.map((type) => [type, perSecond(h, (n) => OUTCOMES.reduce((sum, outcome) => sum + events_at(h, type, outcome, n), 0))]) },
  { id: "latency", title: "Time to answer POST /events", text: milliseconds, isLog: true, series: (h) => both(h.p50_ms, h.p99_ms) },
  { id: "delay", title: "From acceptance to the end of an event", text: milliseconds, isLog: true, series: (h) => both(h.delay_p50_ms, h.delay_p99_ms) },
  { id: "cache-latency", title: "Time of a pipeline to Redis", text: milliseconds, isLog: true, series: (h) => both(h.cache_p50_ms, h.cache_p99_ms) },
  { id: "admission", title: "Admission in use, of its limit", text: share, top: 100,
    series: (h, { admission }) => [
      ["events", h.admission_events.map((n) => (100 * n) / admission.max_events)],
      ["bytes", h.admission_bytes.map((n) => (100 * n) / admission.max_bytes)],
    ] },
];

/// The step under the pointer, of all charts: they share their time.
let pointed = null;
/// The end of the last step.
let until = 0;

function charts(status) {
  until = status.history.until_ms || Date.now();
  CHARTS.forEach((one) => chart(one, status));
}

function card({ id, title }) {
  const known = at(`chart-${id}`);
  if (known) return known;
  const plot = make("div", { class: "plot", tabindex: 0, role: "slider", "aria-labelledby": `chart-${id}-title`, "aria-describedby": `chart-${id}-text`,
    "aria-valuemin": 0, "aria-valuemax": 0, "aria-valuenow": 0, "aria-valuetext": "nothing yet" }, draw("svg", { class: "chart", "aria-hidden": "true" }));
  const made = make("figure", { id: `chart-${id}`, class: "card" }, make("figcaption", { id: `chart-${id}-title` }, title), plot,
    make("p", { class: "readout" }), make("ul", { class: "legend", id: `chart-${id}-text` }));
  plot.addEventListener("pointermove", (event) => point(step_at(plot, event)));
  plot.addEventListener("pointerleave", () => point(null));
  plot.addEventListener("blur", () => point(null));
  plot.addEventListener("keydown", (event) => move(event));
  at("charts").append(made);
  return made;
}

function step_at(plot, event) {
  const box = plot.getBoundingClientRect();
  const part = (event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT);
  const steps = seen.history.steps;
  return part < -0.02 || part > 1.02 || !steps ? null : Math.round(179 * part) - (180 - steps);
}

function move(event) {
  const last = seen.history.steps - 1;
  const from = pointed === null ? last : pointed;
  const to = { ArrowLeft: from - 1, ArrowRight: from + 1, PageUp: from - 12, PageDown: from + 12, Home: 0, End: last }[event.key];
  if (to === undefined || last < 0) return;
  event.preventDefault();
  point(Math.min(last, Math.max(0, to)));
}

function point(step) {
  pointed = step !== null && (step < 0 || step >= seen.history.steps) ? null : step;
  CHARTS.forEach((one) => chart(one, seen));
}

/// The highest tick and the ticks: round numbers, or powers of ten.
function scale({ isLog, top: fixed }, values) {
  const most = Math.max(...values, 0);
  if (isLog) {
    const low = Math.floor(Math.log10(Math.max(1e-2, Math.min(...values, 1))));
    const high = Math.max(low + 2, Math.ceil(Math.log10(Math.max(most, 1e-2)) - 1e-9));
    return { ticks: Array.from({ length: high - low + 1 }, (_, n) => 10 ** (low + n)), part: (value) => (Math.log10(Math.max(value, 10 ** low)) - low) / (high - low) };
  }
  if (fixed) return { ticks: [0, 25, 50, 75, 100], part: (value) => Math.min(1, value / fixed) };
  const step = nice((most || 1) / 4);
  const top = step * Math.max(1, Math.ceil((most || 1) / step - 1e-9));
  return { ticks: Array.from({ length: Math.round(top / step) + 1 }, (_, n) => n * step), part: (value) => value / top };
}

function nice(raw) {
  const unit = 10 ** Math.floor(Math.log10(raw));
  return unit * [1, 2, 5, 10].find((times) => times * unit >= raw * 0.999);
}

function chart(one, status) {
  const figure = card(one);
  const [, plot, readout, legend] = figure.children;
  const width = Math.max(200, plot.clientWidth);
  const lines = one.series(status.history, status);
  const axis = scale(one, lines.flatMap(([, values]) => values.filter((value) => value !== null)));
  const frame = { width, history: status.history, x: (step) => LEFT + ((180 - status.history.steps + step) * (width - LEFT - RIGHT)) / 179, y: (value) => HEIGHT - BOTTOM - axis.part(value) * (HEIGHT - TOP - BOTTOM) };
  const svg = plot.firstChild;
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  svg.replaceChildren(...grid(one, axis, frame), ...lines.flatMap(([, values], index) => pieces(values, frame).map((points) => draw("polyline", { class: `s${index}`, points }))), ...marks(lines, frame));
  legends(legend, one, lines);
  read(one, lines, plot, readout, status.history);
}

function grid({ text }, { ticks }, { width, history, x, y }) {
  const level = ticks.flatMap((tick) => [draw("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(tick), y2: y(tick) }), draw("text", { x: LEFT - 6, y: y(tick) + 4, "text-anchor": "end" }, text(tick))]);
  const seconds = history.step_seconds * 179;
  const upright = [0, 1, 2, 3].flatMap((third) => {
    const [place, anchor] = [LEFT + (third * (width - LEFT - RIGHT)) / 3, ["start", "middle", "middle", "end"][third]];
    return [draw("line", { class: "grid", x1: place, x2: place, y1: TOP, y2: HEIGHT - BOTTOM }), draw("text", { x: place, y: HEIGHT - 6, "text-anchor": anchor }, clock(until - seconds * 1000 * (1 - third / 3), "short"))];
  });
  return [...level, ...upright];
}

/// Where the pointer is.
function marks(lines, { x, y }) {
  if (pointed === null) return [];
  const dots = lines.flatMap(([, values], index) => (values[pointed] === null || values[pointed] === undefined ? [] : [draw("circle", { class: `s${index}`, cx: x(pointed), cy: y(values[pointed]), r: 3.5 })]));
  return [draw("line", { class: "cursor", x1: x(pointed), x2: x(pointed), y1: TOP, y2: HEIGHT - BOTTOM }), ...dots];
}

/// The lines of a chart: a new one after each gap. The newest is at the right.
function pieces(values, { x, y }) {
  const lines = [[]];
  values.forEach((value, step) => (value === null ? lines.push([]) : lines[lines.length - 1].push([x(step), y(value)])));
  const text = (points) => points.map((point) => point.map((part) => part.toFixed(1)).join(",")).join(" ");
  return lines.filter((points) => points.length).map((points) => text(points.length > 1 ? points : [points[0], [points[0][0] + 2, points[0][1]]]));
}

function legends(legend, { text }, lines) {
  renew(legend, lines.map(([label]) => label), () => lines.map(([label], index) => make("li", {},
    draw("svg", { viewBox: "0 0 36 12", "aria-hidden": "true" }, draw("line", { class: `s${index}`, x1: 0, y1: 6, x2: 36, y2: 6, "stroke-width": 3 })),
    make("span", {}, label), make("span", { class: "figures" }))));
  lines.forEach(([, values], index) => {
    const there = values.filter((value) => value !== null);
    const last = values.length ? values[values.length - 1] : null;
    say(legend.children[index].lastChild, there.length ? `now ${last === null ? "–" : text(last)}, most ${text(Math.max(...there))}` : "none");
  });
}

/// Says what is under the pointer, or how to find out.
function read({ text }, lines, plot, readout, history) {
  const step = pointed === null ? history.steps - 1 : pointed;
  const ms = until - (history.steps - 1 - step) * history.step_seconds * 1000;
  const values = lines.map(([label, values]) => `${label.split(":")[0]} ${values[step] === null || values[step] === undefined ? "–" : text(values[step])}`).join(", ");
  const told = step < 0 ? "nothing yet" : `${clock(ms)}: ${values}`;
  plot.setAttribute("aria-valuemax", Math.max(0, history.steps - 1));
  plot.setAttribute("aria-valuenow", Math.max(0, step));
  plot.setAttribute("aria-valuetext", told);
  say(readout, told);
  readout.classList.toggle("pointed", pointed !== null);
}

at("span").addEventListener("change", () => {
  pointed = null;
  look();
});
new ResizeObserver(() => seen && CHARTS.forEach((one) => chart(one, seen))).observe(at("charts"));
