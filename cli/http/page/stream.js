// The task stream: a row for each worker, time to the right; each finished part is drawn with what its time went to.
// The times are the worker's own; a part ends where its report came in.

import { make, shape, bytes, rate, seconds, count } from "./make.js";

const SPAN = 600e3, MOST = 8000;
const KINDS = ["wait", "fetch", "fuse", "wait", "put"];
const NAMES = { wait: "wait", fetch: "fetch", fuse: "fuse", put: "put" };
// Parts of one worker that are drawn below each other; more share the last line.
const LANES = 6, LANE = 7;

export class Stream {
  constructor() { this.all = []; this.last = 0; }

  take(answer) {
    // A coordinator that was started again counts from 1.
    this.all.push(...answer.stretches);
    if (answer.stretches.length) this.last = answer.stretches[answer.stretches.length - 1].number;
    const oldest = answer.now - SPAN;
    this.all = this.all.filter(s => s.ended >= oldest).slice(-MOST);
    return answer.stretches.length;
  }

  show(into, now, workers) {
    const byWorker = new Map();
    for (const s of this.all) (byWorker.get(s.worker) || byWorker.set(s.worker, []).get(s.worker)).push(s);
    if (!byWorker.size) return into.replaceChildren(make("p", { class: "faint" }, "No part was finished in the last ten minutes."));
    const began = Math.min(...this.all.map(s => s.ended - length(s)));
    const from = Math.max(now - SPAN, Math.min(began, now - 10e3)), span = now - from;
    const names = Math.min(into.clientWidth * .32, 24 + 7 * Math.max(...[...byWorker.keys()].map(name => name.length)));
    const width = Math.max(520, into.clientWidth - names), x = at => (Math.max(at, from) - from) / span * width;
    const labels = make("div", { class: "labels", "aria-hidden": "true" });
    const paths = { wait: [], fetch: [], fuse: [], put: [] }, drawn = [], lines = [];
    let y = 2;
    for (const name of [...byWorker.keys()].sort()) {
      const ends = [], top = y;
      const list = byWorker.get(name).sort((a, b) => (a.ended - length(a)) - (b.ended - length(b)));
      for (const s of list) {
        // Waiting for memory is drawn only where there is room for it.
        const start = s.ended - length(s) + s.stages[0];
        let lane = ends.findIndex(end => end <= start);
        if (lane < 0) lane = Math.min(ends.length, LANES - 1);
        ends[lane] = s.ended;
        let at = start;
        s.stages.forEach((took, i) => {
          if (!i) return;
          const [a, b] = [x(at), x(at + took)];
          at += took;
          if (at < from || b - a < .05) return;
          paths[KINDS[i]].push("M" + a.toFixed(1) + " " + (y + lane * LANE) + "H" + b.toFixed(1) + "v" + (LANE - 1) + "H" + a.toFixed(1) + "z");
        });
        drawn.push({ s, x1: x(start), x2: x(s.ended), y: y + lane * LANE });
      }
      const height = Math.max(2, ends.length) * LANE + 4;
      labels.append(label(name, height));
      y += height;
      lines.push(y - 2);
    }
    const svg = shape("svg", { width, height: y + 16, role: "img", "aria-label": "task stream of " + count(byWorker.size, "worker") });
    for (const line of lines) svg.append(shape("line", { class: "axis", x1: 0, x2: width, y1: line, y2: line }));
    for (const [kind, d] of Object.entries(paths)) if (d.length) svg.append(shape("path", { class: kind, d: d.join("") }));
    svg.append(shape("text", { x: 0, y: y + 12 }, seconds(span / 1000) + " ago"), shape("text", { x: width, y: y + 12, "text-anchor": "end" }, "now"));
    const said = make("div", { class: "said faint number" }, count(this.all.length, "part") + " in " + seconds(span / 1000) + "; " + shares(this.all));
    svg.addEventListener("pointermove", event => {
      const box = svg.getBoundingClientRect(), px = event.clientX - box.left, py = event.clientY - box.top;
      const hit = drawn.find(d => px >= d.x1 && px <= d.x2 && py >= d.y && py < d.y + LANE);
      if (hit) said.textContent = hit.s.worker + ", task " + hit.s.task + ", part " + hit.s.piece + (hit.s.bytes ? ", " + bytes(hit.s.bytes) : "") + ": " +
        ["waited", "fetched", "fused", "held", "put"].map((word, i) => word + " " + short(hit.s.stages[i])).join(", ");
    });
    const before = into.querySelector(".chart"), chart = make("div", { class: "chart", tabindex: "0" }, labels, svg);
    const at = before ? before.scrollLeft : chart.scrollWidth;
    into.dataset.width = into.clientWidth;
    into.replaceChildren(chart, said, make("div", { class: "key" }, Object.keys(NAMES).map(kind => make("span", {}, make("i", { class: kind }), NAMES[kind]))));
    chart.scrollLeft = at;
  }

  // Bytes of each worker's parts over the last minute.
  byWorker(now) {
    const of = new Map();
    for (const s of this.all) {
      const sum = of.get(s.worker) || of.set(s.worker, { worker: s.worker, parts: 0, bytes: 0, recent: 0, times: [0, 0, 0, 0, 0] }).get(s.worker);
      sum.parts++; sum.bytes += s.bytes;
      if (now - s.ended < 60e3) sum.recent += s.bytes;
      s.stages.forEach((took, i) => sum.times[i] += took);
    }
    const first = Math.min(...this.all.map(s => s.ended - length(s))), over = Math.max(1, Math.min(60, (now - first) / 1000));
    return [...of.values()].map(sum => ({ ...sum, rate: sum.recent / over })).sort((a, b) => b.rate - a.rate);
  }
}

const length = s => s.stages.reduce((sum, took) => sum + took, 0);
const short = ms => ms < 1000 ? Math.round(ms) + " ms" : (ms / 1000).toFixed(1) + " s";

// What the time of all parts went to.
export function shares(all) {
  const sums = { fetch: 0, fuse: 0, put: 0, wait: 0 };
  for (const s of all) s.stages.forEach((took, i) => { sums[KINDS[i]] += took; });
  const total = Object.values(sums).reduce((a, b) => a + b, 0) || 1;
  return Object.entries(sums).map(([kind, sum]) => kind + " " + Math.round(100 * sum / total) + " %").join(", ");
}

function label(name, height) {
  const element = make("div", { title: name }, name);
  element.style.height = element.style.lineHeight = height + "px";
  return element;
}
