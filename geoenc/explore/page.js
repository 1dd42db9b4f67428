"use strict";

// Numbers

const data = JSON.parse(document.getElementById("numbers").textContent);
const $ = (id) => document.getElementById(id);
const DEGREE = Math.PI / 180;
const RADIUS_KM = 6371.0088;
const LISTED = 10;
const NEAREST = 6;

function unpacked(text, Kind) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return new Kind(bytes.buffer);
}

const columns = data.columns;
const rows = columns.length;
const starts = columns.reduce((all, count) => [...all, all[all.length - 1] + count], [0]);
const count = starts[rows];
const lon = new Float64Array(count);
const lat = new Float64Array(count);
for (let row = 0; row < rows; row++)
  for (let i = 0; i < columns[row]; i++) {
    lon[starts[row] + i] = (360 * (i + 0.5)) / columns[row] - 180;
    lat[starts[row] + i] = 90 - (180 * (row + 0.5)) / rows;
  }
const vectors = unpacked(data.vectors, Int8Array);
const land = unpacked(data.land, Uint8Array);
const country = unpacked(data.country, Int16Array);
const colours = unpacked(data.colours, Uint8Array);
const classes = data.classes && {
  ...data.classes,
  index: unpacked(data.classes.index, data.classes.count > 65536 ? Uint32Array : Uint16Array),
  probability: unpacked(data.classes.probability, Uint16Array),
};
const training = data.training && {
  ...data.training,
  lonlat: unpacked(data.training.lonlat, Float32Array),
  label: data.training.label && unpacked(data.training.label, Int32Array),
};

/** cos(e(x), e(y)) of one place and all: the sum of scale^2 q q over the directions. */
function similarities(place) {
  const width = data.dimensions;
  const weight = data.scale.map((scale, k) => scale * scale * vectors[place * width + k]);
  const found = new Float32Array(count);
  for (let i = 0, at = 0; i < count; i++) {
    let sum = 0;
    for (let k = 0; k < width; k++) sum += weight[k] * vectors[at++];
    found[i] = sum;
  }
  return found;
}

function unit(x, y) {
  const across = Math.cos(y * DEGREE);
  return [across * Math.cos(x * DEGREE), across * Math.sin(x * DEGREE), Math.sin(y * DEGREE)];
}

function kilometres(x1, y1, x2, y2) {
  const [a, b] = [unit(x1, y1), unit(x2, y2)];
  const chord = Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]) / 2;
  return 2 * RADIUS_KM * Math.asin(Math.min(1, chord));
}

/** The place of the grid nearest to a point: one of the two beside it in the rows around it. */
function nearestPlace(x, y) {
  const upper = Math.floor(((90 - y) / 180) * rows - 0.5);
  let [best, least] = [-1, Infinity];
  for (const around of [upper, upper + 1]) {
    const row = Math.min(rows - 1, Math.max(0, around));
    const left = Math.floor(((x + 180) / 360) * columns[row] - 0.5);
    for (const column of [left, left + 1]) {
      const i = starts[row] + ((column + columns[row]) % columns[row]);
      const away = kilometres(x, y, lon[i], lat[i]);
      if (away < least) [best, least] = [i, away];
    }
  }
  return best;
}

/** The most similar places, each so far from the place and from those before it. */
function mostSimilar(place, similarity, apart, landOnly) {
  const order = Array.from({ length: count }, (_, i) => i)
    .filter((i) => i !== place && (!landOnly || land[i]))
    .sort((a, b) => similarity[b] - similarity[a] || a - b);
  const found = [place];
  for (const i of order) {
    if (found.length > LISTED) break;
    if (found.every((j) => kilometres(lon[i], lat[i], lon[j], lat[j]) >= apart)) found.push(i);
  }
  return found.slice(1);
}

// State

const view = { flat: false, lon: 10, lat: 20, zoom: 1 };
let place = -1;
let similarity = null;
let listed = [];
let layer = "colours";
let shown = colours;

// Colours

const VIRIDIS = ["440154", "482878", "3e4989", "31688e", "26828e", "1f9e89", "35b779", "6ece58", "b5de2b", "fde725"]
  .map((text) => [0, 2, 4].map((at) => parseInt(text.slice(at, at + 2), 16)));

/** Numbers as red, green and blue of each place. */
function scaled(values, low, high) {
  const found = new Uint8Array(3 * count);
  for (let i = 0; i < count; i++) {
    const at = Math.min(0.99999, Math.max(0, (values[i] - low) / (high - low || 1))) * (VIRIDIS.length - 1);
    const [below, part] = [Math.floor(at), at % 1];
    for (let c = 0; c < 3; c++)
      found[3 * i + c] = VIRIDIS[below][c] * (1 - part) + VIRIDIS[below + 1][c] * part;
  }
  return found;
}

function chance(number) {
  const found = new Float32Array(count);
  for (let at = 0; at < classes.index.length; at++)
    if (classes.index[at] === number) found[Math.floor(at / classes.top)] = classes.probability[at] / 65535;
  return found;
}

/** What the layer shows, and what its colours mean. */
function recolour() {
  const legend = $("legend");
  legend.textContent = "";
  if (layer === "colours") {
    shown = colours;
    legend.textContent = "Like colours: like embeddings (three principal components over land)";
    return;
  }
  const values = layer === "similarity" ? similarity : chance(Number(layer));
  const counted = Array.from(values.keys()).filter((i) => land[i] || !$("land").checked);
  let [low, high] = [1, -1];
  for (const i of counted) {
    low = Math.min(low, values[i]);
    high = Math.max(high, values[i]);
  }
  if (layer === "similarity") high = 1;
  else low = 0;
  shown = scaled(values, low, high);
  const bar = document.createElement("i");
  bar.style.background = `linear-gradient(90deg, ${VIRIDIS.map((c) => `rgb(${c})`)})`;
  const what = layer === "similarity" ? "Cosine similarity" : `P(${className(Number(layer))})`;
  legend.append(`${what} ${low.toFixed(2)}`, bar, high.toFixed(2));
}

function className(number) {
  return classes.names ? classes.names[number] : `class ${number}`;
}

// Views: forward turns (lon, lat) into pixels, inverse writes the (lon, lat) of a pixel, if any

const canvas = $("canvas");
const context = canvas.getContext("2d");
const raster = document.createElement("canvas");
const A = [1.340264, -0.081106, 0.000893, 0.003796];

/** Equal Earth: how far east a radian of longitude reaches, and y. */
function equalEarth(y) {
  const t = Math.asin((Math.sqrt(3) / 2) * Math.sin(y * DEGREE));
  const s = t * t;
  const slope = A[0] + 3 * A[1] * s + s ** 3 * (7 * A[2] + 9 * A[3] * s);
  return [(2 * Math.sqrt(3) * Math.cos(t)) / (3 * slope), t * (A[0] + A[1] * s + s ** 3 * (A[2] + A[3] * s))];
}

const [WIDE, HIGH] = [equalEarth(0)[0] * Math.PI, equalEarth(90)[1]];

function inverseEqualEarth(y) {
  let t = y / A[0];
  for (let step = 0; step < 8; step++) {
    const s = t * t;
    const error = t * (A[0] + A[1] * s + s ** 3 * (A[2] + A[3] * s)) - y;
    t -= error / (A[0] + 3 * A[1] * s + s ** 3 * (7 * A[2] + 9 * A[3] * s));
  }
  return Math.asin(Math.max(-1, Math.min(1, (2 * Math.sin(t)) / Math.sqrt(3)))) / DEGREE;
}

function wrapped(x) {
  return x - 360 * Math.floor((x + 180) / 360);
}

/** The geometry of one picture, in pixels of the stage. */
function scene() {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const [cx, cy] = [width / 2, height / 2];
  if (view.flat) {
    const scale = 0.97 * view.zoom * Math.min(width / (2 * WIDE), height / (2 * HIGH));
    const room = Math.max(0, HIGH - height / (2 * scale));
    const middle = Math.max(-room, Math.min(room, equalEarth(view.lat)[1]));
    view.lat = inverseEqualEarth(middle);
    let line = {};
    return {
      scale,
      forward(x, y) {
        const [factor, up] = equalEarth(y);
        return [cx + scale * factor * wrapped(x - view.lon) * DEGREE, cy - scale * (up - middle), true];
      },
      inverse(px, py, found) {
        if (py !== line.py) {
          const up = middle + (cy - py) / scale;
          const y = Math.abs(up) > HIGH ? NaN : inverseEqualEarth(up);
          line = { py, y, degree: 1 / scale / equalEarth(y)[0] / DEGREE };
        }
        const x = (px - cx) * line.degree;
        found[0] = wrapped(x + view.lon);
        found[1] = line.y;
        return Math.abs(x) <= 180;
      },
    };
  }
  const scale = 0.48 * view.zoom * Math.min(width, height);
  const centre = unit(view.lon, view.lat);
  const east = [-Math.sin(view.lon * DEGREE), Math.cos(view.lon * DEGREE), 0];
  const north = [
    -Math.sin(view.lat * DEGREE) * Math.cos(view.lon * DEGREE),
    -Math.sin(view.lat * DEGREE) * Math.sin(view.lon * DEGREE),
    Math.cos(view.lat * DEGREE),
  ];
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  return {
    scale,
    forward(x, y) {
      const point = unit(x, y);
      return [cx + scale * dot(point, east), cy - scale * dot(point, north), dot(point, centre) > 0];
    },
    inverse(px, py, found) {
      const a = (px - cx) / scale;
      const b = (cy - py) / scale;
      if (a * a + b * b > 1) return false;
      const c = Math.sqrt(1 - a * a - b * b);
      const x = a * east[0] + b * north[0] + c * centre[0];
      const y = a * east[1] + b * north[1] + c * centre[1];
      const z = a * east[2] + b * north[2] + c * centre[2];
      found[0] = Math.atan2(y, x) / DEGREE;
      found[1] = Math.asin(Math.max(-1, Math.min(1, z))) / DEGREE;
      return true;
    },
  };
}

// Coasts

const points = unpacked(data.outlines.points, Int16Array);
const rings = [];
for (const [number, length] of data.outlines.lengths.entries()) {
  const start = number ? rings[number - 1].end : 0;
  rings.push({ start, end: start + length });
}

/** 1 on land, for a map of 8 pixels a degree. */
const mask = (() => {
  const paper = document.createElement("canvas");
  [paper.width, paper.height] = [2880, 1440];
  const pen = paper.getContext("2d", { willReadFrequently: true });
  pen.beginPath();
  for (const ring of rings.slice(0, data.outlines.land)) {
    for (let i = ring.start; i < ring.end; i++)
      pen.lineTo((points[2 * i] / 100 + 180) * 8, (90 - points[2 * i + 1] / 100) * 8);
    pen.closePath();
    if (ring !== rings[data.outlines.land - 1]) {
      const next = rings[rings.indexOf(ring) + 1].start;
      pen.moveTo((points[2 * next] / 100 + 180) * 8, (90 - points[2 * next + 1] / 100) * 8);
    }
  }
  pen.fill("evenodd");
  const pixels = pen.getImageData(0, 0, 2880, 1440).data;
  return Uint8Array.from({ length: 2880 * 1440 }, (_, i) => (pixels[4 * i + 3] > 127 ? 1 : 0));
})();

/** The numbers of the layer between the places of the grid: linear in both directions. */
function paint(seen, step) {
  const width = Math.max(1, Math.round(canvas.width / step));
  const height = Math.max(1, Math.round(canvas.height / step));
  [raster.width, raster.height] = [width, height];
  const pen = raster.getContext("2d");
  const image = pen.createImageData(width, height);
  const out = image.data;
  const ratio = canvas.clientWidth / width;
  const sea = style("--sea").match(/[0-9a-f]{2}/gi).map((two) => parseInt(two, 16));
  const veil = $("land").checked;
  const found = new Float64Array(2);
  for (let j = 0; j < height; j++)
    for (let i = 0; i < width; i++) {
      if (!seen.inverse((i + 0.5) * ratio, (j + 0.5) * ratio, found)) continue;
      const down = Math.max(0, Math.min(rows - 1, ((90 - found[1]) / 180) * rows - 0.5));
      const upper = Math.min(rows - 2, Math.floor(down));
      const at = 4 * (j * width + i);
      let red = 0;
      let green = 0;
      let blue = 0;
      for (let side = 0; side < 2; side++) {
        const row = upper + side;
        const across = ((found[0] + 180) / 360) * columns[row] - 0.5;
        const left = Math.floor(across);
        const part = across - left;
        const share = side ? down - upper : 1 - down + upper;
        const first = 3 * (starts[row] + ((left + columns[row]) % columns[row]));
        const second = 3 * (starts[row] + ((left + 1) % columns[row]));
        const w1 = share * (1 - part);
        const w2 = share * part;
        red += w1 * shown[first] + w2 * shown[second];
        green += w1 * shown[first + 1] + w2 * shown[second + 1];
        blue += w1 * shown[first + 2] + w2 * shown[second + 2];
      }
      const pixel = Math.min(1439, Math.floor((90 - found[1]) * 8)) * 2880 + (Math.floor((found[0] + 180) * 8) % 2880);
      const pale = veil && !mask[pixel] ? 0.82 : 0;
      out[at] = red + pale * (sea[0] - red);
      out[at + 1] = green + pale * (sea[1] - green);
      out[at + 2] = blue + pale * (sea[2] - blue);
      out[at + 3] = 255;
    }
  pen.putImageData(image, 0, 0);
}

function style(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// Drawing

let moving = 0;

/** Lines through points, not drawn behind the globe or across the edge of the map. */
function trace(seen, from, to, point) {
  const jump = canvas.clientWidth / 2;
  let before = null;
  for (let i = from; i < to; i++) {
    const [x, y, front] = seen.forward(...point(i));
    const here = front ? [x, y] : null;
    if (here && before && Math.abs(x - before[0]) < jump * view.zoom) context.lineTo(x, y);
    else if (here) context.moveTo(x, y);
    before = here;
  }
}

function draw() {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (!width || !height) return;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio))
    [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
  const seen = scene();
  const budget = moving ? 9e4 : 6e5;
  paint(seen, Math.max(1, Math.sqrt((canvas.width * canvas.height) / budget)));
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingEnabled = true;
  context.save();
  context.scale(ratio, ratio);
  edge(seen);
  context.clip();
  context.drawImage(raster, 0, 0, width, height);
  context.lineWidth = 0.7;
  context.strokeStyle = style("--grid");
  context.beginPath();
  for (let x = -180; x < 180; x += 30) trace(seen, -90, 91, (i) => [x, i]);
  for (let y = -60; y <= 60; y += 30) trace(seen, 0, 181, (i) => [2 * i + view.lon - 179.99, y]);
  context.stroke();
  context.strokeStyle = style("--line");
  context.lineWidth = 0.8;
  context.beginPath();
  for (const ring of rings)
    trace(seen, ring.start, ring.end, (i) => [points[2 * i] / 100, points[2 * i + 1] / 100]);
  context.stroke();
  context.restore();
  context.scale(ratio, ratio);
  edge(seen);
  context.strokeStyle = style("--edge");
  context.stroke();
  marks(seen);
}

/** The outline of the world. */
function edge(seen) {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  context.beginPath();
  if (!view.flat) {
    context.arc(width / 2, height / 2, seen.scale, 0, 2 * Math.PI);
    return;
  }
  for (let y = -90; y <= 90; y += 2) context.lineTo(...seen.forward(view.lon - 179.999, y).slice(0, 2));
  for (let y = 90; y >= -90; y -= 2) context.lineTo(...seen.forward(view.lon + 179.999, y).slice(0, 2));
  context.closePath();
}

function marks(seen) {
  const many = training && training.lonlat.length > 2000;
  const ink = style("--line");
  if (training && $("dots").checked)
    for (let i = 0; i < training.lonlat.length; i += 2) {
      const [x, y, front] = seen.forward(training.lonlat[i], training.lonlat[i + 1]);
      if (!front) continue;
      context.fillStyle = "rgba(255, 255, 255, 0.7)";
      if (!many) context.fillRect(x - 2, y - 2, 4, 4);
      context.fillStyle = ink;
      context.fillRect(x - 0.75, y - 0.75, 1.5, 1.5);
    }
  context.font = "600 11px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  const drawn = [];
  for (const [number, i] of [place, ...listed].entries()) {
    if (i < 0) break;
    const [x, y, front] = seen.forward(lon[i], lat[i]);
    if (!front) continue;
    const free = drawn.every(([a, b]) => Math.hypot(x - a, y - b) > 15);
    if (!number) badge(x, y, 7, "#e8112d", "#ffffff", "");
    else if (free) badge(x, y, 9, "#ffffff", "#111111", String(number));
    else badge(x, y, 3, "#ffffff", "#111111", "");
    if (free) drawn.push([x, y]);
  }
  if (canvas.matches(":focus-visible")) {
    const [x, y] = [canvas.clientWidth / 2, canvas.clientHeight / 2];
    for (const [colour, wide] of [["#ffffff", 4], ["#111111", 1.5]]) {
      context.strokeStyle = colour;
      context.lineWidth = wide;
      context.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(x + 4 * dx, y + 4 * dy);
        context.lineTo(x + 12 * dx, y + 12 * dy);
      }
      context.stroke();
    }
  }
}

function badge(x, y, size, fill, ink, text) {
  context.beginPath();
  context.arc(x, y, size, 0, 2 * Math.PI);
  context.fillStyle = fill;
  context.fill();
  context.strokeStyle = ink;
  context.lineWidth = 1.5;
  context.stroke();
  context.fillStyle = ink;
  if (text) context.fillText(text, x, y + 0.5);
}

let asked = false;

function redraw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    draw();
  });
}

/** Draw coarsely while things move, and finely when they stop. */
function moved() {
  clearTimeout(moving);
  moving = setTimeout(() => {
    moving = 0;
    redraw();
  }, 160);
  canvas.dataset.lon = view.lon.toFixed(3);
  canvas.dataset.lat = view.lat.toFixed(3);
  canvas.dataset.zoom = view.zoom.toFixed(3);
  redraw();
}

function look(x, y) {
  view.lon = wrapped(x);
  view.lat = Math.max(-90, Math.min(90, y));
  moved();
}

function zoom(factor) {
  view.zoom = Math.max(1, Math.min(16, view.zoom * factor));
  moved();
}

// Answers

function degrees(x, y) {
  return `${Math.abs(y).toFixed(2)}° ${y < 0 ? "S" : "N"}, ${Math.abs(x).toFixed(2)}° ${x < 0 ? "W" : "E"}`;
}

function countryOf(i) {
  return country[i] < 0 ? "At sea" : data.countries[country[i]];
}

function element(tag, name, text) {
  const made = document.createElement(tag);
  made.className = name;
  made.textContent = text;
  return made;
}

function item(list, tag, rank, where, small, value) {
  const made = document.createElement(tag);
  if (tag === "button") made.type = "button";
  const middle = element("span", "where", where);
  if (small) middle.append(element("small", "", small));
  made.append(element("span", "rank", rank), middle, element("span", "value", value));
  const row = document.createElement("li");
  row.append(made);
  list.append(row);
  return made;
}

/** Take the place of the grid nearest to where somebody pointed. */
function choose(x, y) {
  place = nearestPlace(x, y);
  similarity = similarities(place);
  const box = $("place");
  box.textContent = "";
  box.append(element("strong", "", countryOf(place)));
  const away = kilometres(x, y, lon[place], lat[place]);
  box.append(element("span", "", `${degrees(lon[place], lat[place])}: the nearest place of the grid, ${away.toFixed(0)} km away`));
  box.dataset.place = place;
  listSimilar();
  listClasses();
  listTraining();
  if (layer === "colours") layer = "similarity";
  offerLayers();
  recolour();
  redraw();
}

function listSimilar() {
  if (place < 0) return;
  listed = mostSimilar(place, similarity, Number($("apart").value), $("land").checked);
  const list = $("similar").querySelector("ol");
  list.textContent = "";
  for (const [rank, i] of listed.entries()) {
    const made = item(list, "button", rank + 1, countryOf(i), degrees(lon[i], lat[i]), similarity[i].toFixed(3));
    made.style.setProperty("--part", `${100 * Math.max(0, similarity[i])}%`);
    Object.assign(made.dataset, { place: i, similarity: similarity[i] });
    made.addEventListener("click", () => look(lon[i], lat[i]));
  }
  $("similar").hidden = false;
}

function listClasses() {
  if (!classes) return;
  const list = $("classes").querySelector("ol");
  list.textContent = "";
  for (let at = place * classes.top; at < (place + 1) * classes.top; at++) {
    const [number, chance] = [classes.index[at], classes.probability[at] / 65535];
    const made = item(list, "button", "", className(number), "", chance < 0.0005 ? "< 0.001" : chance.toFixed(3));
    made.style.setProperty("--part", `${100 * chance}%`);
    Object.assign(made.dataset, { class: number, probability: chance });
    made.setAttribute("aria-pressed", layer === String(number));
    made.addEventListener("click", () => show(String(number)));
  }
  const more = classes.count > classes.top ? ` The ${classes.top} highest of ${classes.count}.` : "";
  $("classes").querySelector(".note").textContent = `Each class by itself: they need not sum to 1.${more} Click one for its map.`;
  $("classes").hidden = false;
}

function listTraining() {
  if (!training) return;
  const near = [];
  for (let i = 0; i < training.lonlat.length / 2; i++)
    near.push([kilometres(lon[place], lat[place], training.lonlat[2 * i], training.lonlat[2 * i + 1]), i]);
  near.sort((a, b) => a[0] - b[0]);
  const list = $("training").querySelector("ol");
  list.textContent = "";
  for (const [away, i] of near.slice(0, NEAREST)) {
    const where = degrees(training.lonlat[2 * i], training.lonlat[2 * i + 1]);
    const label = training.label && training.label[i] >= 0 ? training.labels[training.label[i]] : "";
    const made = item(list, "div", "", label || where, label && where, `${away.toFixed(0)} km`);
    Object.assign(made.dataset, { row: i, km: away });
  }
  const within = near.filter(([away]) => away <= 500).length;
  const held = training.lonlat.length / 2;
  const some = held < training.total ? `, of ${held.toLocaleString("en")} drawn from ${training.total.toLocaleString("en")}` : "";
  $("training").querySelector(".note").textContent = `${within.toLocaleString("en")} within 500 km${some}.`;
  $("training").hidden = false;
}

function offerLayers() {
  const offered = [["colours", "Embedding as colours"]];
  if (place >= 0) offered.push(["similarity", "Similarity to the place"]);
  if (!["colours", "similarity"].includes(layer)) offered.push([layer, className(Number(layer))]);
  $("layer").replaceChildren(...offered.map(([value, text]) => new Option(text, value, false, value === layer)));
}

function show(name) {
  layer = name;
  offerLayers();
  if (place >= 0) listClasses();
  recolour();
  redraw();
}

// What people do

function flatten(flat) {
  view.flat = flat;
  $("globe").setAttribute("aria-pressed", !flat);
  $("flat").setAttribute("aria-pressed", flat);
  $("stage").classList.toggle("flat", flat);
  moved();
}

const held = new Map();
let travelled = 0;
let spread = 0;

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  held.set(event.pointerId, event);
  if (held.size === 1) travelled = 0;
  spread = 0;
  canvas.classList.add("held");
});
canvas.addEventListener("pointermove", (event) => {
  const before = held.get(event.pointerId);
  if (!before) return;
  held.set(event.pointerId, event);
  const [dx, dy] = [event.clientX - before.clientX, event.clientY - before.clientY];
  travelled += Math.abs(dx) + Math.abs(dy);
  if (held.size === 2) {
    const [a, b] = held.values();
    const now = Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
    if (spread) zoom(now / spread);
    spread = now;
    travelled = Infinity;
  } else if (held.size === 1 && travelled > 4) {
    const turn = 1 / scene().scale / DEGREE;
    look(view.lon - dx * turn, view.lat + dy * turn);
  }
});
for (const kind of ["pointerup", "pointercancel"])
  canvas.addEventListener(kind, (event) => {
    if (!held.delete(event.pointerId)) return;
    spread = 0;
    if (!held.size) canvas.classList.remove("held");
    if (kind === "pointercancel" || held.size || travelled > 4) return;
    const box = canvas.getBoundingClientRect();
    const found = [0, 0];
    if (scene().inverse(event.clientX - box.left, event.clientY - box.top, found)) choose(...found);
  });
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(Math.exp(-0.0015 * Math.max(-300, Math.min(300, event.deltaY * (event.deltaMode ? 30 : 1)))));
}, { passive: false });

const whole = () => {
  view.zoom = 1;
  look(10, 20);
};
const KEYS = {
  ArrowLeft: () => look(view.lon - 12 / view.zoom, view.lat),
  ArrowRight: () => look(view.lon + 12 / view.zoom, view.lat),
  ArrowUp: () => look(view.lon, view.lat + 12 / view.zoom),
  ArrowDown: () => look(view.lon, view.lat - 12 / view.zoom),
  "+": () => zoom(1.5),
  "=": () => zoom(1.5),
  "-": () => zoom(1 / 1.5),
  Home: whole,
  Enter: () => choose(view.lon, view.lat),
  " ": () => choose(view.lon, view.lat),
};
canvas.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in KEYS)) return;
  event.preventDefault();
  KEYS[event.key]();
});
canvas.addEventListener("focus", redraw);
canvas.addEventListener("blur", redraw);
$("in").addEventListener("click", () => zoom(1.5));
$("out").addEventListener("click", () => zoom(1 / 1.5));
$("home").addEventListener("click", whole);
$("globe").addEventListener("click", () => flatten(false));
$("flat").addEventListener("click", () => flatten(true));
$("layer").addEventListener("change", (event) => show(event.target.value));
$("apart").addEventListener("change", () => {
  listSimilar();
  redraw();
});
$("land").addEventListener("change", () => {
  listSimilar();
  recolour();
  redraw();
});
$("dots").addEventListener("change", redraw);
$("go").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("query").value.trim();
  const named = data.countries.findIndex((name) => name.toLowerCase() === text.toLowerCase());
  const pair = text.split(/[\s,;]+/).map(Number);
  const degreesGiven = pair.length === 2 && Math.abs(pair[0]) <= 360 && Math.abs(pair[1]) <= 90;
  $("problem").textContent = "";
  if (named < 0 && !degreesGiven) {
    $("problem").textContent = "Expected a country, or longitude and latitude in degrees: 2.35, 48.86";
    return;
  }
  const [x, y] = named < 0 ? [wrapped(pair[0]), pair[1]] : data.middles[named];
  look(x, y);
  choose(x, y);
});
new ResizeObserver(redraw).observe(canvas);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

document.querySelector("h1").textContent = data.name;
for (const [term, text] of data.facts) {
  const pair = document.createElement("div");
  pair.append(element("dt", "", term), element("dd", "", text));
  $("facts").append(pair);
}
$("names").append(...[...data.countries].sort().map((name) => new Option(name)));
$("place").append(element("span", "", "Click a place on the globe."));
$("dots-field").hidden = !training;
$("error").textContent =
  `The page knows ${count.toLocaleString("en")} places, ${Math.round((Math.PI * RADIUS_KM) / rows)} km apart, ` +
  `each in ${data.dimensions} directions. Its cosines are off by ${data.error.rms.toFixed(4)} (root mean square), ` +
  `at most ${data.error.max.toFixed(3)}.`;
offerLayers();
recolour();
moved();
