// Elements and words. Everything shown is put in as text, never as markup: names come from users, models and other machines.

export const byId = id => document.getElementById(id);

export function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) if (value !== null && value !== undefined) element.setAttribute(name, value);
  element.append(...children.flat().filter(child => child !== null && child !== undefined && child !== ""));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";
export function shape(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

export function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (n >= 999.5 && unit < units.length - 1) { n /= 1000; unit++; }
  return (unit === 0 ? Math.round(n) : n.toFixed(n < 100 ? 1 : 0)) + " " + units[unit];
}

export const rate = n => n === null || n === undefined ? "–" : bytes(n) + "/s";

export function seconds(s) {
  if (s === null || s === undefined) return "–";
  s = Math.max(0, Math.round(s));
  if (s < 60) return s + " s";
  if (s < 3600) return Math.floor(s / 60) + " min " + s % 60 + " s";
  if (s < 86400) return Math.floor(s / 3600) + " h " + Math.floor(s % 3600 / 60) + " min";
  return Math.floor(s / 86400) + " d " + Math.floor(s % 86400 / 3600) + " h";
}

// A time of day, with the date if it is another day.
export function time(ms, now) {
  if (!ms) return "–";
  const at = new Date(ms), today = new Date(now).toDateString() === at.toDateString();
  return (today ? "" : at.toLocaleDateString(undefined, { month: "short", day: "numeric" }) + " ") +
    at.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
}

export const count = (n, one, many) => n + " " + (n === 1 ? one : many || one + "s");

export const ENDED = ["done", "failed", "cancelled"];

// Waiting for a worker is a state of its own on the page.
export const stateOf = merge => merge.waiting && !ENDED.includes(merge.state) ? "waiting" : merge.state;

export function share(merge) {
  if (merge.state === "done") return 1;
  return merge.bytes_total ? Math.min(1, merge.bytes_done / merge.bytes_total) : 0;
}

export function bar(merge) {
  const percent = 100 * share(merge), fill = make("div");
  fill.style.width = percent.toFixed(1) + "%";
  return make("div", { class: "bar", role: "progressbar", "aria-label": "done", "aria-valuenow": Math.floor(percent), "aria-valuemin": 0, "aria-valuemax": 100 }, fill);
}

// What to do about something.
export const hint = text => text ? make("div", { class: "hint" }, make("b", {}, "hint: "), text) : null;

export function events(list, happenings, now, none) {
  const rows = happenings.map(event => make("li", { class: event.fault ? "fault" : null },
    make("span", { class: "faint number" }, time(event.at, now) + " "),
    event.worker ? make("b", {}, event.worker + " ") : null,
    make("span", { class: event.fault ? "failed-text" : null }, event.text),
    hint(event.hint)));
  list.replaceChildren(...(rows.length ? rows : [make("li", { class: "faint" }, none)]));
}

// A worker in a table: the cell names what it is where there is no head.
export const cell = (name, text, kind) => make("td", { class: kind, "data-name": name }, text);
export const head = names => make("tr", { class: "head" }, names.map(([name, kind]) => make("th", { class: kind }, name)));
