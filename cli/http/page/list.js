// The merges: those on their way, and below them those that have ended. Filtered and searched here, without asking again.

import { byId, make, bytes, rate, seconds, time, bar, share, stateOf, count, cell, head } from "./make.js";

// Rows that are drawn; a search finds the others.
const ROWS = 200;
const STATES = ["queued", "planning", "waiting", "running", "publishing", "held", "failed", "cancelled", "done"];

let open = [], ended = [], total = 0, now = 0;

export function begin() {
  byId("state").append(make("option", { value: "" }, "all states"), ...STATES.map(name => make("option", { value: name }, name)));
  byId("search").addEventListener("input", draw);
  byId("state").addEventListener("change", draw);
}

export function showOpen(status) {
  open = status.merges; total = status.merges_total; now = status.now;
  drawOpen();
}

export function showEnded(merges) {
  ended = merges;
  drawEnded();
}

function draw() { drawOpen(); drawEnded(); }

function matching(merges) {
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean), state = byId("state").value;
  return merges.filter(merge => (!state || stateOf(merge) === state) && words.every(word => text(merge).includes(word)));
}

const text = merge => merge.text ||= [merge.id, merge.output, merge.base, ...merge.adapters].join(" ").toLowerCase();

function first(merge) {
  const names = merge.adapters.join(", ") + (merge.adapters_total > merge.adapters.length ? " and " + (merge.adapters_total - merge.adapters.length) + " more" : "");
  return [cell(null, make("span", { class: "badge " + stateOf(merge) }, stateOf(merge))),
    make("td", { class: "where" }, make("a", { href: "#" + merge.id }, merge.output), make("div", { class: "faint" }, merge.id),
      merge.failure ? make("div", { class: "failed-text" }, merge.failure.message.slice(0, 300)) : null,
      merge.waiting && stateOf(merge) === "waiting" ? make("div", { class: "faint" }, merge.waiting) : null),
    cell("adapters", names, "where")];
}

function drawOpen() {
  const found = matching(open);
  const names = head([["state"], ["output and id"], ["adapters"], ["started"], ["duration", "number"], ["done"], ["rate", "number"], ["time left", "number"]]);
  const rows = found.slice(0, ROWS).map(merge => make("tr", { class: "merge", "data-id": merge.id }, first(merge),
    cell("started", time(merge.began, now)),
    cell("duration", merge.began ? seconds((now - merge.began) / 1000) : "–", "number"),
    make("td", { class: "number" }, merge.bytes_total ? [bar(merge), Math.floor(100 * share(merge)) + " % of " + bytes(merge.bytes_total)] : "–",
      merge.retries ? make("div", { class: "faint" }, count(merge.retries, "retry", "retries")) : null),
    cell("rate", rate(merge.rate), "number"), cell("left", seconds(merge.eta_seconds), "number")));
  rows.push(...left(found.length - ROWS + (total - open.length), 8));
  if (!found.length) rows.push(make("tr", {}, make("td", { colspan: 8, class: "faint all" }, open.length ? "No merge on its way matches." : "No merges on their way.")));
  byId("open").replaceChildren(names, ...rows);
  byId("matching").textContent = open.length + " on their way, " + ended.length + " ended";
}

function drawEnded() {
  const found = matching(ended);
  const names = head([["state"], ["output and id"], ["adapters"], ["started"], ["duration", "number"], ["size", "number"], ["rate", "number"], ["ended", "number"]]);
  const rows = found.slice(0, ROWS).map(merge => make("tr", { class: "merge", "data-id": merge.id }, first(merge),
    cell("started", time(merge.began, now || merge.ended)),
    cell("duration", merge.began ? seconds((merge.ended - merge.began) / 1000) : "–", "number"),
    cell("size", merge.bytes_total ? bytes(merge.bytes_done) + (merge.state === "done" ? "" : " of " + bytes(merge.bytes_total)) : "–", "number"),
    cell("rate", rate(merge.rate), "number"), cell("ended", time(merge.ended, now || merge.ended), "number")));
  rows.push(...left(found.length - ROWS, 8));
  if (!found.length) rows.push(make("tr", {}, make("td", { colspan: 8, class: "faint all" }, ended.length ? "No ended merge matches." : "None has ended yet.")));
  byId("ended").replaceChildren(names, ...rows);
  byId("matching").textContent = open.length + " on their way, " + ended.length + " ended";
}

const left = (more, columns) => more > 0 ? [make("tr", {}, make("td", { colspan: columns, class: "faint all" }, "and " + more + " more: search for them"))] : [];
