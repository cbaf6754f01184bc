// Workers, their throughput, what went wrong and what happened to them.

import { byId, make, shape, bytes, rate, seconds, count, events, cell, head } from "./make.js";

const STAGES = ["waiting", "fetching", "fusing", "putting"];

export function showWorkers(workers, total) {
  const names = head([["worker"], ["device"], ["state"], ["tasks", "number"], ["parts now"], ["read", "number"], ["written", "number"], ["memory", "number"], ["last sign", "number"]]);
  const rows = workers.map(w => make("tr", {},
    cell(null, make("b", {}, w.name)), cell(null, make("span", { class: "badge " + w.state }, w.state)), cell("device", w.device_class),
    cell("tasks", w.running + "/" + w.slots, "number"),
    cell("parts", STAGES.map((name, i) => w.stages[i] ? w.stages[i] + " " + name : "").filter(Boolean).join(", ") || "–"),
    cell("read", rate(w.read_rate), "number"), cell("written", rate(w.written_rate), "number"),
    cell("memory", bytes(w.memory_used) + " of " + bytes(w.memory_bytes), "number"),
    cell("last sign", seconds(w.silent_seconds) + " ago", "number")));
  for (const row of rows) row.insertBefore(row.children[2], row.children[1]);
  if (total > workers.length) rows.push(make("tr", {}, make("td", { colspan: 9, class: "faint all" }, "and " + (total - workers.length) + " more")));
  if (!rows.length) rows.push(make("tr", {}, make("td", { colspan: 9, class: "faint all" }, "No workers. Merges wait until one joins: shardfuse worker --coordinator URL")));
  byId("workers").replaceChildren(names, ...rows);
}

// What was logged as a warning or an error, and the faults of merges and workers, the newest first.
const SHOWN = 8, LATELY = 3600e3;
export function showErrors(status) {
  const logged = status.errors.map(e => ({ at: status.now - 1000 * e.age_seconds, fault: true, worker: null, text: (e.merge ? "merge " + e.merge + ": " : "") + e.message, hint: e.hint }));
  // What was logged of a fault that is told anyway is not told twice.
  const faults = status.happenings.filter(event => event.fault);
  const again = entry => faults.some(fault => fault.hint && fault.hint === entry.hint && Math.abs(fault.at - entry.at) < 2000);
  const all = [...logged.filter(entry => !again(entry)), ...faults].filter(event => status.now - event.at < LATELY).sort((a, b) => b.at - a.at);
  byId("h-errors").textContent = all.length ? "Errors of the last hour: " + count(all.length, "entry", "entries") : "Errors";
  events(document.querySelector("#errors .events"), all.slice(0, SHOWN * 4), status.now, "None in the last hour.");
}

export const showHappenings = status =>
  events(document.querySelector("#happened .events"), status.happenings.slice(0, 60), status.now, "Nothing since the coordinator was started.");

// Samples are [age in seconds, bytes read a second, bytes written a second], the oldest first.
export function showPlot(samples) {
  // As wide as it is shown, so that its words stay as large as the page's on a phone.
  const width = Math.max(280, byId("plot").clientWidth), height = 130, left = 70, bottom = 20;
  const svg = shape("svg", { width, height, viewBox: "0 0 " + width + " " + height, role: "img", "aria-label": "bytes a second over time" });
  const top = Math.max(1e6, ...samples.map(s => Math.max(s[1], s[2]))) * 1.1;
  const span = Math.max(60, ...samples.map(s => s[0]));
  const x = age => left + (width - left - 5) * (1 - age / span);
  const y = value => (height - bottom) * (1 - value / top) + 3;
  for (const part of [0, .5, 1]) {
    const value = top / 1.1 * part;
    svg.append(shape("line", { class: "axis", x1: left, x2: width - 5, y1: y(value), y2: y(value) }));
    svg.append(shape("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, rate(value)));
  }
  svg.append(shape("text", { x: left, y: height - 4 }, seconds(span) + " ago"), shape("text", { x: width - 5, y: height - 4, "text-anchor": "end" }, "now"));
  for (const [index, name] of [[1, "read"], [2, "written"]]) {
    const d = samples.map((s, i) => (i ? "L" : "M") + x(s[0]).toFixed(1) + " " + y(s[index]).toFixed(1)).join("");
    if (d) svg.append(shape("path", { class: name, d }));
  }
  byId("plot").dataset.width = byId("plot").clientWidth;
  byId("plot").replaceChildren(svg);
}
