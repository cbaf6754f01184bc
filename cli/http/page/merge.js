// The page of one merge.

import { make, bytes, rate, seconds, time, bar, stateOf, events, hint, cell, head, count, ENDED } from "./make.js";
import { showGrid } from "./grid.js";
import { Stream } from "./stream.js";

let id = null, about = null, parts = {}, stream = null, turn = 0, gridText = "";

export function leave() { id = null; }

// Charts are drawn for the width of the window.
addEventListener("resize", () => { gridText = ""; turn = 0; });

// Draws the frame once; what is in it is renewed. So what a person has scrolled or selected stays.
export async function show(into, wanted, get, known) {
  about = known;
  if (id !== wanted || !into.firstChild) {
    id = wanted; stream = new Stream(); turn = 0; gridText = "";
    parts = {};
    const section = (name, title, ...inside) => make("section", { class: name }, title ? make("h2", {}, title) : null, ...inside.map(child => { parts[child.dataset.part] = child; return child; }));
    const part = (name, tag, kind) => make(tag || "div", { "data-part": name, class: kind });
    into.replaceChildren(
      make("p", {}, make("a", { href: "#" }, "← all merges")),
      section("merge", null, part("top")),
      section("commands-of", "Commands", part("commands", "dl", "commands")),
      section("layers", "Layers", part("grid")),
      section("experts", "Experts", part("experts")),
      section("stream", "Task stream", part("stream"), part("by", "div", "wide")),
      section("happened", "What happened", part("happened", "ul", "events")),
      section("remarks", "Remarks of the plan", part("remarks", "ul", "events")));
  }
  const at = "api/merges/" + encodeURIComponent(wanted);
  const answer = await get(at);
  if (id !== wanted) return;
  showTop(answer);
  showCommands(answer);
  events(parts.happened, answer.happenings, answer.now, "Nothing since the coordinator was started.");
  if (answer.earlier) parts.happened.append(make("li", { class: "faint" }, "and " + answer.earlier + " before"));
  parts.remarks.replaceChildren(...answer.details.remarks.map(text => make("li", {}, text)));
  parts.remarks.parentNode.hidden = !answer.details.remarks.length;
  const active = !ENDED.includes(answer.merge.state);
  // The layer set of a large model is long; it changes slowly.
  if (turn++ % 2 === 0 || !active) {
    const [grid, piece] = await Promise.all([active ? get(at + "/grid") : null, get(at + "/stream?after=" + stream.last)]);
    if (id !== wanted) return;
    if (piece.stretches.length && piece.stretches[0].number < stream.last) stream = new Stream();
    const text = JSON.stringify(grid);
    parts.grid.parentNode.hidden = !grid || !grid.columns.length;
    parts.experts.parentNode.hidden = !grid || !grid.experts;
    if (grid && text !== gridText) {
      gridText = text;
      showGrid(parts.grid, grid, "the layer set");
      if (grid.experts) showGrid(parts.experts, grid.experts, "the experts");
    }
    stream.take(piece);
    parts.stream.parentNode.hidden = !active && !stream.all.length;
    stream.show(parts.stream, active || !stream.all.length ? piece.now : stream.all[stream.all.length - 1].ended);
    showWorkers(stream.byWorker(piece.now));
  }
}

function showTop({ now, merge, details }) {
  const end = merge.ended || now, state = stateOf(merge);
  const fact = (name, value) => value === null || value === "" ? null : make("div", {}, make("dt", {}, name), make("dd", { class: "number" }, value));
  const trace = details.trace && (about.trace_url
    ? make("a", { href: about.trace_url.replaceAll("{trace}", details.trace), rel: "noreferrer" }, details.trace) : details.trace);
  parts.top.replaceChildren(...[
    make("div", { class: "row" }, make("h2", {}, "Merge " + merge.id), make("span", { class: "badge " + state }, state),
      merge.waiting && state === "waiting" ? make("span", { class: "faint" }, merge.waiting + "; it goes on when one joins") : null),
    make("div", { class: "url" }, make("span", { class: "faint" }, "to "), merge.output),
    make("div", { class: "url" }, make("span", { class: "faint" }, "from "), merge.base),
    make("ol", { class: "names url" }, details.adapters.slice(0, 100).map(([path, weight]) => make("li", {}, path + (weight === 1 ? "" : " × " + weight)))),
    details.adapters.length > 100 ? make("div", { class: "faint" }, "and " + (details.adapters.length - 100) + " adapters more") : null,
    bar(merge),
    merge.failure ? make("div", { class: "failure" }, make("b", {}, merge.failure.kind + ": "), merge.failure.message, hint(merge.failure.hint)) : null,
    make("dl", { class: "facts" },
      fact("done", bytes(merge.bytes_done) + " of " + bytes(merge.bytes_total)),
      fact("tasks", merge.tasks_done + " of " + merge.tasks_total + (merge.tasks_running ? ", " + merge.tasks_running + " running" : "")),
      fact(merge.ended ? "rate over all" : "rate of the last minute", rate(merge.rate)),
      merge.ended ? null : fact("time left", seconds(merge.eta_seconds)),
      fact("submitted", time(merge.submitted, now)),
      fact("started", time(merge.began, now)),
      merge.ended ? fact("ended", time(merge.ended, now)) : null,
      fact("duration", merge.began ? seconds((end - merge.began) / 1000) : "–"),
      merge.ended ? null : fact("workers", merge.workers),
      fact("attempts again", count(merge.retries, "retry", "retries") + (merge.expired ? ", " + count(merge.expired, "lease") + " expired" : "") + (merge.repeated ? ", " + merge.repeated + " repeated" : "")),
      merge.parts_kept ? fact("kept of earlier runs", count(merge.parts_kept, "part")) : null,
      fact("device", merge.device_class),
      details.priority ? fact("priority", details.priority) : null,
      details.plan ? fact("plan", details.plan.slice(0, 16)) : null,
      details.trace ? fact("trace", trace) : null,
      ...details.options.map(([name, values]) => fact(name, values.join(", "))))].filter(Boolean));
}

// Quoted for a shell.
const quoted = text => /^[\w@%+=:,.\/-]+$/.test(text) ? text : "'" + text.replaceAll("'", "'\\''") + "'";

function showCommands({ merge }) {
  // An address of all interfaces is reached by the name under which this page was.
  const coordinator = about.coordinator.replace(/\/\/(0\.0\.0\.0|\[::\]):/, "//" + location.hostname + ":");
  const to = " --coordinator " + quoted(coordinator), over = ENDED.includes(merge.state);
  const list = [["look at it", "shardfuse get " + merge.id + to]];
  if (!over) list.push(["follow it", "shardfuse watch " + merge.id + to], ["stop it", "shardfuse cancel " + merge.id + to]);
  if (["failed", "cancelled", "held"].includes(merge.state)) list.push(["begin it again", "shardfuse retry " + merge.id + to]);
  if (merge.state === "done") list.push(["check it", "shardfuse verify " + quoted(merge.output)]);
  if (["failed", "cancelled"].includes(merge.state)) list.push(["remove what it left", "shardfuse clean " + quoted(merge.output)]);
  const text = JSON.stringify(list);
  if (parts.commands.dataset.shown === text) return;
  parts.commands.dataset.shown = text;
  parts.commands.replaceChildren(...list.flatMap(([what, command]) => {
    const code = make("code", {}, command), button = make("button", { type: "button", "aria-label": "copy: " + what }, "copy");
    button.addEventListener("click", () => copy(code, command, button));
    return [make("dt", { class: "faint" }, what), make("dd", { class: "command" }, code), button];
  }), ...(coordinator.startsWith("https:") ? [make("dd", { class: "faint all" }, "They need --tls-ca, --tls-cert and --tls-key, or the variables for them.")] : []));
}

async function copy(code, command, button) {
  // Without TLS a browser gives no clipboard to pages of other machines; then the command is selected.
  const done = await navigator.clipboard?.writeText(command).then(() => true, () => false);
  if (!done) getSelection().selectAllChildren(code);
  button.textContent = done ? "copied" : "selected";
  setTimeout(() => { button.textContent = "copy"; }, 1500);
}

function showWorkers(list) {
  const names = head([["worker"], ["written, last minute", "number"], ["parts, ten minutes", "number"], ["bytes", "number"], ["fetch", "number"], ["fuse", "number"], ["put", "number"], ["wait", "number"]]);
  parts.by.replaceChildren(make("table", { class: "cards" }, names, list.slice(0, 200).map(sum => {
    const [wait, fetch, fuse, hold, put] = sum.times, total = wait + fetch + fuse + hold + put || 1;
    const part = (name, took) => cell(name, Math.round(100 * took / total) + " %", "number");
    return make("tr", {}, cell(null, make("b", {}, sum.worker)), cell("written", rate(sum.rate), "number"), cell("parts", sum.parts, "number"), cell("bytes", bytes(sum.bytes), "number"),
      part("fetch", fetch), part("fuse", fuse), part("put", put), part("wait", wait + hold));
  })));
  parts.by.hidden = !list.length;
}
