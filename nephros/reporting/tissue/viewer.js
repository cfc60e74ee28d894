"use strict";
// Draws the tiles and outlines that are in view on one canvas; coordinates are pixels of the projection.
const data = JSON.parse(document.getElementById("data").textContent);
const canvas = document.getElementById("canvas"), context = canvas.getContext("2d");
const card = document.getElementById("card"), field = document.getElementById("find-id");
const filters = { classes: new Set(data.classes.map((_, label) => label).concat([null])), ood: "all", fill: true };
let view = { x: 0, y: 0, scale: 1 }, selected = null, pending = false;

for (const nucleus of data.nuclei) {
  nucleus.path = new Path2D();
  let left = Infinity, top = Infinity, right = -Infinity, bottom = -Infinity;
  for (const ring of nucleus.outline) {
    for (let i = 0; i < ring.length; i += 2) {
      const x = ring[i] / 10, y = ring[i + 1] / 10;
      i ? nucleus.path.lineTo(x, y) : nucleus.path.moveTo(x, y);
      left = Math.min(left, x); right = Math.max(right, x); top = Math.min(top, y); bottom = Math.max(bottom, y);
    }
    nucleus.path.closePath();
  }
  nucleus.box = [left, top, right, bottom];
  nucleus.color = nucleus.label === null ? "#a2a8b0" : data.classes[nucleus.label].color;
}

function isShown(nucleus) {
  return filters.classes.has(nucleus.label) && (filters.ood === "all" || (filters.ood === "out") === (nucleus.ood !== ""));
}

function inView(nucleus, size) {
  const [left, top, right, bottom] = nucleus.box;
  return right >= view.x && bottom >= view.y && left <= view.x + size.width / view.scale && top <= view.y + size.height / view.scale;
}

function loadTile(level, row, column) {
  const tiles = data.levels[level][row];
  if (typeof tiles[column] === "string") {
    const image = new Image();
    image.src = tiles[column];
    image.onload = redraw;
    tiles[column] = image;
  }
  return tiles[column];
}

function drawTiles(size) {
  const level = Math.max(0, Math.min(data.levels.length - 1, Math.floor(Math.log2(1 / (view.scale * devicePixelRatio)))));
  const side = data.tile * 2 ** level;
  context.imageSmoothingEnabled = view.scale < 4;
  for (let row = Math.max(0, Math.floor(view.y / side)); row < data.levels[level].length && row * side < view.y + size.height / view.scale; row++) {
    for (let column = Math.max(0, Math.floor(view.x / side)); column < data.levels[level][row].length && column * side < view.x + size.width / view.scale; column++) {
      const tile = loadTile(level, row, column);
      if (tile.complete && tile.naturalWidth) {
        context.drawImage(tile, column * side, row * side, tile.naturalWidth * 2 ** level, tile.naturalHeight * 2 ** level);
      }
    }
  }
}

function draw() {
  pending = false;
  const size = canvas.getBoundingClientRect(), ratio = devicePixelRatio;
  if (canvas.width !== Math.round(size.width * ratio) || canvas.height !== Math.round(size.height * ratio)) {
    canvas.width = Math.round(size.width * ratio);
    canvas.height = Math.round(size.height * ratio);
  }
  const scale = view.scale * ratio;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.setTransform(scale, 0, 0, scale, -view.x * scale, -view.y * scale);
  drawTiles(size);
  context.lineWidth = 1.6 / view.scale;
  for (const nucleus of data.nuclei) {
    if (!isShown(nucleus) || !inView(nucleus, size)) continue;
    if (filters.fill) {
      context.globalAlpha = 0.22;
      context.fillStyle = nucleus.color;
      context.fill(nucleus.path, "evenodd");
      context.globalAlpha = 1;
    }
    context.setLineDash(nucleus.ood ? [4 / view.scale, 2.6 / view.scale] : []);
    context.strokeStyle = nucleus.color;
    context.stroke(nucleus.path);
  }
  if (selected) {
    context.setLineDash([]);
    context.lineWidth = 3 / view.scale;
    context.strokeStyle = "#ffffff";
    context.stroke(selected.path);
  }
  drawBar(size);
}

function redraw() {
  if (!pending) { pending = true; requestAnimationFrame(draw); }
}

function drawBar(size) {
  const bar = document.getElementById("bar");
  if (data.pixel_um === null) return;
  const longest = size.width / 4 / view.scale * data.pixel_um;
  const power = 10 ** Math.floor(Math.log10(longest));
  const length = [5, 2, 1].map(digit => digit * power).find(candidate => candidate <= longest);
  document.getElementById("bar-line").style.width = `${length / data.pixel_um * view.scale}px`;
  document.getElementById("bar-text").textContent = `${Number(length.toPrecision(1))} µm`;
  bar.hidden = false;
}

function fit() {
  const size = canvas.getBoundingClientRect();
  view.scale = Math.min(size.width / data.width, size.height / data.height);
  view.x = (data.width - size.width / view.scale) / 2;
  view.y = (data.height - size.height / view.scale) / 2;
  redraw();
}

function zoomAt(x, y, factor) {
  const scale = Math.min(64, Math.max(0.5 * Math.min(canvas.clientWidth / data.width, canvas.clientHeight / data.height), view.scale * factor));
  view.x += x / view.scale - x / scale;
  view.y += y / view.scale - y / scale;
  view.scale = scale;
  redraw();
}

function nucleusAt(x, y) {
  context.setTransform(1, 0, 0, 1, 0, 0);
  return data.nuclei.find(n => isShown(n) && n.box[0] <= x && x <= n.box[2] && n.box[1] <= y && y <= n.box[3] && context.isPointInPath(n.path, x, y, "evenodd")) || null;
}

function element(tag, text, className) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
}

function select(nucleus) {
  selected = nucleus;
  card.replaceChildren();
  if (!nucleus) {
    card.append(element("p", "Click a nucleus to see its prediction.", "muted"));
    redraw();
    return;
  }
  card.append(element("h2", `Nucleus ${nucleus.id}: ${nucleus.label === null ? "no prediction" : data.classes[nucleus.label].name}`));
  const order = nucleus.p.map((p, label) => [p, label]).filter(([p]) => p !== null).sort((a, b) => b[0] - a[0]);
  for (const [p, label] of order) {
    const row = element("div", undefined, "probability"), meter = element("progress");
    meter.max = 1; meter.value = p; meter.setAttribute("aria-label", data.classes[label].name);
    row.append(element("span", data.classes[label].name), element("span", `${(100 * p).toFixed(1)}%`), meter);
    card.append(row);
  }
  const facts = element("dl"), fact = (name, value) => facts.append(element("dt", name), element("dd", value));
  if (nucleus.set) fact("prediction set", nucleus.set);
  if (nucleus.ood) fact("out of distribution", nucleus.ood);
  if (nucleus.centroid[0] !== null) fact("z, y, x", nucleus.centroid.join(", "));
  if (nucleus.um[0] !== null) fact("in µm", nucleus.um.join(", "));
  if (nucleus.voxels !== null) fact("volume", nucleus.um3 === null ? `${nucleus.voxels} voxels` : `${nucleus.voxels} voxels, ${nucleus.um3} µm³`);
  if (nucleus.border) fact("at the border", "yes");
  card.append(facts);
  redraw();
}

const pointers = new Map();
let travel = 0;
canvas.addEventListener("pointerdown", event => {
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
  if (pointers.size === 1) travel = 0;
});
canvas.addEventListener("pointermove", event => {
  const before = pointers.get(event.pointerId);
  if (!before) return;
  const [x, y] = [event.offsetX, event.offsetY];
  if (pointers.size === 2) {
    const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
    const distance = point => Math.hypot(point[0] - other[0], point[1] - other[1]);
    zoomAt((x + other[0]) / 2, (y + other[1]) / 2, distance([x, y]) / Math.max(1, distance(before)));
  }
  const share = 1 / pointers.size;
  view.x -= (x - before[0]) * share / view.scale;
  view.y -= (y - before[1]) * share / view.scale;
  travel += Math.hypot(x - before[0], y - before[1]);
  pointers.set(event.pointerId, [x, y]);
  canvas.classList.add("moving");
  redraw();
});
for (const kind of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(kind, event => {
    if (kind === "pointerup" && pointers.size === 1 && travel < 5) {
      select(nucleusAt(view.x + event.offsetX / view.scale, view.y + event.offsetY / view.scale));
    }
    pointers.delete(event.pointerId);
    canvas.classList.remove("moving");
  });
}
canvas.addEventListener("wheel", event => {
  event.preventDefault();
  zoomAt(event.offsetX, event.offsetY, Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)));
}, { passive: false });
canvas.addEventListener("keydown", event => {
  const step = 80 / view.scale, moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
  if (moves[event.key]) { view.x += moves[event.key][0]; view.y += moves[event.key][1]; redraw(); }
  else if (event.key === "+" || event.key === "=") zoomMiddle(1.5);
  else if (event.key === "-") zoomMiddle(1 / 1.5);
  else if (event.key === "0") fit();
  else if (event.key === "Escape") select(null);
  else return;
  event.preventDefault();
});

function zoomMiddle(factor) { zoomAt(canvas.clientWidth / 2, canvas.clientHeight / 2, factor); }
document.getElementById("in").onclick = () => zoomMiddle(1.5);
document.getElementById("out").onclick = () => zoomMiddle(1 / 1.5);
document.getElementById("fit").onclick = fit;
document.getElementById("fill").onchange = event => { filters.fill = event.target.checked; redraw(); };
for (const radio of document.getElementsByName("ood")) radio.onchange = () => { filters.ood = radio.value; redraw(); };
field.oninput = () => {
  const nucleus = data.nuclei.find(n => String(n.id) === field.value.trim());
  field.classList.toggle("missing", field.value.trim() !== "" && !nucleus);
  if (!nucleus) return;
  view.scale = Math.max(view.scale, 4);
  view.x = (nucleus.box[0] + nucleus.box[2] - canvas.clientWidth / view.scale) / 2;
  view.y = (nucleus.box[1] + nucleus.box[3] - canvas.clientHeight / view.scale) / 2;
  select(nucleus);
};

const counts = new Map();
for (const nucleus of data.nuclei) counts.set(nucleus.label, (counts.get(nucleus.label) || 0) + 1);
data.classes.forEach((entry, label) => {
  const row = element("label"), box = element("input"), swatch = element("span", undefined, "swatch");
  box.type = "checkbox"; box.checked = true;
  box.onchange = () => { box.checked ? filters.classes.add(label) : filters.classes.delete(label); redraw(); };
  swatch.style.background = entry.color;
  row.append(box, swatch, element("span", entry.name), element("span", (counts.get(label) || 0).toLocaleString("en"), "count"));
  document.getElementById("classes").append(row);
});
new ResizeObserver(redraw).observe(canvas);
fit();
