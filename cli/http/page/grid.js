// The layer set: one cell for each kind of tensor and layer. As wide as the window allows; where it is wider, it scrolls below its labels.

import { make, shape } from "./make.js";

const STATES = ["waiting", "running", "done"];
const SMALLEST = 8, LARGEST = 16;

export function showGrid(into, grid, title) {
  const columns = grid.columns.length, rows = grid.rows.length;
  if (!columns || !rows) return into.replaceChildren();
  const counts = { waiting: 0, running: 0, done: 0 };
  for (const row of grid.rows) for (const state of row.cells) if (state) counts[state]++;
  const all = counts.waiting + counts.running + counts.done;
  const labels = make("div", { class: "labels", "aria-hidden": "true" });
  const room = Math.max(240, into.clientWidth) - Math.min(240, into.clientWidth * .32);
  const cell = Math.max(SMALLEST, Math.min(LARGEST, Math.floor(room / columns)));
  const top = 14, width = columns * cell, height = top + rows * cell;
  const svg = shape("svg", { width, height, role: "img", "aria-label": title + ": " + counts.done + " of " + all + " cells done, " + counts.running + " running" });
  const every = columns * cell / 26 > 1 ? Math.ceil(26 / cell) : 1;
  grid.columns.forEach((name, column) => {
    if (name !== "" && Number(name) % (every > 5 ? 10 : every > 1 ? 5 : 1) === 0) svg.append(shape("text", { x: column * cell, y: 10 }, name));
  });
  const paths = { waiting: [], running: [], done: [] };
  const side = cell - (cell > 9 ? 2 : 1);
  labels.append(label("", top));
  grid.rows.forEach((row, y) => {
    labels.append(label(row.name, cell));
    row.cells.forEach((state, x) => { if (state) paths[state].push("M" + x * cell + " " + (top + y * cell) + "h" + side + "v" + side + "h-" + side + "z"); });
  });
  for (const state of STATES) if (paths[state].length) svg.append(shape("path", { class: state, d: paths[state].join("") }));
  const said = make("div", { class: "said faint number" }, counts.done + " of " + all + " cells done, " + counts.running + " running" + (grid.more ? "; " + grid.more + " more kinds are not drawn" : ""));
  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect(), x = Math.floor((event.clientX - box.left) / cell), y = Math.floor((event.clientY - box.top - top) / cell);
    const row = grid.rows[y], state = row && row.cells[x];
    if (state) said.textContent = row.name + (grid.columns[x] === "" ? "" : ", " + grid.columns[x]) + ": " + state;
  });
  // Where a person has scrolled to stays.
  const before = into.querySelector(".chart"), chart = make("div", { class: "chart", tabindex: "0" }, labels, svg);
  const at = before ? before.scrollLeft : 0;
  into.dataset.width = into.clientWidth;
  into.replaceChildren(chart, said, make("div", { class: "key" }, STATES.map(name => make("span", {}, make("i", { class: name }), name))));
  chart.scrollLeft = at;
}

function label(name, height) {
  const element = make("div", { title: name || null }, name);
  element.style.height = element.style.lineHeight = height + "px";
  if (height < 11) element.style.fontSize = height + "px";
  return element;
}
