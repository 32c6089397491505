"use strict";
// Plays the canvases in #data back. Whatever a model or a user wrote enters the page as text only.

const byId = id => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);
const NOISE = 0, ACCEPTED = 1, REVOKED = 2, REVISED = 3, SETTLED = 4, AFTER_EOS = 5;
const special = new Set(data.special);
const MS_A_STEP = 250, MS_TO_ADDRESS = 200;

let generation, canvas, step, playing = 0, addressing = 0;
let cells = [];

const stateOf = code => code < data.noiseShades ? NOISE : code - data.noiseShades + 1;

function unpacked(text, Type) {
  return new Type(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
}

// A canvas's arrays, unpacked on first use: [steps * length], row by row.
function arraysOf(c) {
  c.arrays ??= {
    paint: unpacked(c.paint, Uint8Array),
    entropy: unpacked(c.entropy, Uint8Array),
    token: unpacked(c.token, c.wideTokens ? Uint32Array : Uint16Array),
    ends: c.ends === null ? null : unpacked(c.ends, Float32Array),
  };
  return c.arrays;
}

function ms(seconds) {
  if (seconds === null) return "n/a";
  const value = seconds * 1000;
  const digits = value.toPrecision(3);  // three significant ones, as in the report
  return `${value < 100 ? digits : Number(digits).toLocaleString("en")} ms`;
}

// What is chosen: point, request, canvas.

function select(chosen, wantedCanvas, wantedStep) {
  generation = chosen;
  canvas = generation.canvases[Math.max(0, Math.min(wantedCanvas, generation.canvases.length - 1))];
  step = 0;
  fillSelects();
  byId("finding").textContent = canvas.finding;
  byId("slider").max = canvas.steps;
  buildCells();
  drawMap();
  drawCurve();
  showRequest();
  offerConditioning();
  show(wantedStep);
}

function fillSelects() {
  const points = new Map(data.generations.map(g => [g.point, g.name]));
  options(byId("point"), [...points], generation.point);
  const own = data.generations.filter(g => g.point === generation.point);
  options(byId("request"), own.map(g => [g.request, `${g.request} (${g.task})`]), generation.request);
  const all = generation.numCanvases === null ? "" : ` of ${generation.numCanvases}`;
  options(byId("canvas"), generation.canvases.map((c, i) => [`${i}`, `${c.index + 1}${all}`]),
    `${generation.canvases.indexOf(canvas)}`);
}

function options(element, entries, chosen) {
  element.replaceChildren(...entries.map(([value, words]) => {
    const option = new Option(words, value);
    option.selected = value === chosen;
    return option;
  }));
  element.disabled = entries.length < 2;
}

function find(point, request) {
  return data.generations.find(g => g.point === point && g.request === request);
}

// Canvas `index` of a request, or its first traced one.
function selectIndex(chosen, index, wantedStep) {
  select(chosen, Math.max(0, chosen.canvases.findIndex(c => c.index === index)), wantedStep);
}

function choosePoint(point) {
  const next = find(point, generation.request) ?? data.generations.find(g => g.point === point);
  selectIndex(next, canvas.index, step);
}

// The next traced canvas of this point, in this request or another one; -1 for the one before.
function moveCanvas(by) {
  const own = data.generations.filter(g => g.point === generation.point);
  const all = own.flatMap(g => g.canvases.map((c, i) => [g, i]));
  const here = all.findIndex(([g, i]) => g === generation && g.canvases[i] === canvas);
  const [g, i] = all[(here + by + all.length) % all.length];
  select(g, i, 1);
}

function offerConditioning() {
  const other = generation.otherConditioning;
  const there = other === null ? undefined : find(other, generation.request);
  const index = there ? there.canvases.findIndex(c => c.index === canvas.index) : -1;
  const button = byId("conditioning");
  button.disabled = index < 0;
  button.textContent = generation.conditioned === null ? "n/a" : generation.conditioned ? "on" : "off";
  button.onclick = () => select(there, index, step);
  byId("conditioning-why").textContent = index >= 0 ? ""
    : other === null ? "Self-conditioning off/on: n/a, this run has no two points that differ in it alone. canvasbench run sampler.self_conditioning=true,false makes them."
    : "Self-conditioning off/on: n/a, the other point did not keep this canvas.";
}

function showRequest() {
  const g = generation;
  byId("prompt").textContent = g.prompt ?? "n/a";
  byId("delivered").textContent = g.text ?? "n/a";
  byId("expected").textContent = g.answer ?? "n/a";
  byId("judged").textContent = verdict(g.correct);
  byId("ours-name").textContent = g.name;
  byId("theirs-name").textContent = g.sibling?.name ?? "autoregressive";
}

const verdict = correct => correct === null ? "n/a: no checker" : correct ? "right" : "wrong";

// One step.

function buildCells() {
  byId("cells").style.setProperty("--cell", `${1.75 + 0.56 * data.cellWidth}rem`);
  cells = Array.from({length: canvas.length}, () => {
    const item = document.createElement("li");
    const token = document.createElement("b"), glyph = document.createElement("i");
    token.append("");
    glyph.append("");
    glyph.setAttribute("role", "img");
    item.append(glyph, token);
    return {item, token: token.firstChild, glyph, mark: glyph.firstChild, code: -1, state: -1, id: -1, fresh: false};
  });
  byId("cells").replaceChildren(...cells.map(c => c.item));
}

function show(wanted) {
  step = Math.max(1, Math.min(Math.floor(wanted), canvas.steps));
  const {paint, token} = arraysOf(canvas), length = canvas.length, at = (step - 1) * length;
  const counts = new Array(data.glyphs.length).fill(0);
  let now = "";
  for (let i = 0; i < length; i++) {
    const code = paint[at + i], state = stateOf(code), id = token[at + i];
    const fresh = state !== AFTER_EOS && step > 1 && token[at - length + i] !== id;
    counts[state]++;
    if (state !== AFTER_EOS && !special.has(id)) now += data.prose[id];
    showCell(i, code, state, id, fresh);
  }
  data.labels.forEach((_, state) => { countCells[state].textContent = counts[state]; });
  byId("now").textContent = now;
  byId("slider").value = step;
  byId("slider").setAttribute("aria-valuetext", `step ${step} of ${canvas.steps}`);
  byId("place").textContent = `step ${step} of ${canvas.steps}`;
  // Not `disabled`: that would take the focus from who pressed it last.
  byId("back").setAttribute("aria-disabled", step === 1);
  byId("next").setAttribute("aria-disabled", step === canvas.steps);
  showCursor();
  const mean = drawStrip();
  showCurve();
  showClock();
  const told = counts.map((n, state) => `${n} ${data.labels[state]}`).join(", ");
  byId("said").textContent = `Step ${step} of ${canvas.steps}: ${told}; mean entropy ${mean}.`;
  clearTimeout(addressing);
  addressing = setTimeout(writeAddress, MS_TO_ADDRESS);
}

// Changes only what differs from what the cell shows already.
function showCell(i, code, state, id, fresh) {
  const cell = cells[i];
  if (cell.code !== code || cell.fresh !== fresh || cell.id !== id)
    cell.item.className = `p${code}${fresh ? " fresh" : ""}${special.has(id) ? " special" : ""}`;
  if (cell.state !== state) {
    cell.mark.data = data.glyphs[state];
    cell.glyph.setAttribute("aria-label", data.labels[state]);
  }
  if (cell.id !== id || cell.state !== state) cell.token.data = state === AFTER_EOS ? "" : data.tokens[id];
  Object.assign(cell, {code, state, id, fresh});
}

// A token too long for its cell can be read whole under the pointer.
function tell(event) {
  const i = cells.findIndex(cell => cell.item.contains(event.target));
  if (i < 0) return;
  const {item, state, id} = cells[i];
  item.title = `position ${i}: ${state === AFTER_EOS ? "" : `${data.tokens[id]}, `}${data.labels[state]}`;
}

const countCells = [...document.querySelectorAll("[data-state]")];

// Pictures. What depends on the window's size and colours is kept until they change.

const picture = {};

// The size of a drawing in the device's pixels, and a pen for it.
function prepared(element) {
  const scale = window.devicePixelRatio || 1;
  element.width = Math.max(1, Math.round(element.clientWidth * scale));
  element.height = Math.max(1, Math.round(element.clientHeight * scale));
  return {pen: element.getContext("2d"), width: element.width, height: element.height};
}

const themed = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function drawMap() {
  const element = byId("map"), {paint} = arraysOf(canvas);
  const {steps, length} = canvas;
  picture.row = Math.max(5, Math.min(16, 320 / steps));
  element.style.height = `${steps * picture.row}px`;
  element.setAttribute("aria-label",
    `${length} positions across, ${steps} steps down. ${canvas.finding}.`);
  picture.strip = prepared(byId("strip"));
  picture.strip.pen.fillStyle = themed("--entropy");
  const {pen, width, height} = prepared(element);
  const w = width / length, h = height / steps, paper = themed("--paper"), muted = themed("--muted");
  const colours = [...data.palette.slice(0, -1), paper];
  for (let t = 0; t < steps; t++) {
    for (let i = 0; i < length; i++) {
      const code = paint[t * length + i], state = stateOf(code);
      const left = Math.round(i * w), top = Math.round(t * h);
      const right = Math.round((i + 1) * w), bottom = Math.round((t + 1) * h);
      pen.fillStyle = colours[code];
      pen.fillRect(left, top, right - left, bottom - top);
      mark(pen, state, left, top, right, bottom, muted);
    }
  }
}

// The legend's glyphs as shapes, so that a state is never told by its colour alone.
function mark(pen, state, left, top, right, bottom, muted) {
  const x = (left + right) / 2, y = (top + bottom) / 2;
  const r = Math.max(1, Math.min(right - left, bottom - top) * 0.3);
  pen.lineWidth = Math.max(0.5, r / 3);
  pen.strokeStyle = pen.fillStyle = state === AFTER_EOS ? muted : data.inks[state];
  pen.beginPath();
  if (state === REVOKED) {
    pen.moveTo(x - r, y - r); pen.lineTo(x + r, y + r);
    pen.moveTo(x - r, y + r); pen.lineTo(x + r, y - r);
    pen.stroke();
  } else if (state === REVISED) {
    pen.moveTo(x, y - r); pen.lineTo(x + r, y + r); pen.lineTo(x - r, y + r);
    pen.closePath();
    pen.stroke();
  } else if (state === ACCEPTED) {
    pen.arc(x, y, r, 0, 2 * Math.PI);
    pen.stroke();
  } else if (state === SETTLED) {
    pen.fillRect(x - r / 2, y - r / 2, r, r);
  } else if (state === AFTER_EOS) {
    pen.fillRect(x - 0.5, y - 0.5, 1, 1);
  }
}

function showCursor() {
  byId("cursor").style.top = `${(step - 1) * picture.row - 1}px`;
  byId("cursor").style.height = `${picture.row + 3}px`;
}

// Bars of entropy, a position each; returns the mean before the end in words.
function drawStrip() {
  const {entropy} = arraysOf(canvas), {length, content, highestNat} = canvas;
  const {pen, width, height} = picture.strip;
  const at = (step - 1) * length, w = width / length;
  pen.clearRect(0, 0, width, height);
  let sum = 0;
  for (let i = 0; i < length; i++) {
    const share = entropy[at + i] / 255;
    if (i < content) sum += share;
    pen.globalAlpha = i < content ? 1 : 0.35;
    pen.fillRect(i * w, height * (1 - share), Math.max(1, w - 1), height * share);
  }
  const mean = content ? `${(sum / content * highestNat).toPrecision(2)} nat` : "n/a";
  byId("strip-words").textContent = `Entropy of each position at this step, from 0 to `
    + `${highestNat.toPrecision(3)} nat, the canvas's highest; paler after the end. Mean before the end: ${mean}.`;
  return mean;
}

const acrossCurve = s => canvas.steps > 1 ? (s - 1) / (canvas.steps - 1) * 100 : 100;
const acceptedShare = s => canvas.content ? canvas.accepted[s - 1] / canvas.content * 100 : 0;

function drawCurve() {
  const points = canvas.accepted.map((_, i) => `${acrossCurve(i + 1)},${100 - acceptedShare(i + 1)}`);
  byId("accepted").setAttribute("points", points.join(" "));
  byId("curve-first").textContent = canvas.steps > 1 ? "1" : "";
  byId("curve-last").textContent = canvas.steps;
}

function showCurve() {
  for (const end of ["x1", "x2"]) byId("curve-now").setAttribute(end, acrossCurve(step));
  byId("curve-words").textContent = `Accepted by the sampler: ${canvas.accepted[step - 1]} of the ${canvas.content} `
    + `positions before the end (${Math.round(acceptedShare(step))}\u00a0%) at step ${step}.`;
}

function showClock() {
  const g = generation, other = g.sibling, ends = arraysOf(canvas).ends;
  const now = ends === null ? null : ends[step - 1];
  const whole = Math.max(g.wall ?? 0, other?.wall ?? 0);
  byId("clock").textContent = now === null
    ? `n/a: ${g.noClock || "the run did not record when these steps ended"}.`
    : `${ms(now)} after the prompt was handed over, when this step ended.`;
  fill(byId("ours"), now, g.wall, whole);
  fill(byId("theirs"), now, other?.wall ?? null, whole);
  const mine = canvas.before === null ? null
    : Math.min(canvas.before + (step === canvas.steps ? canvas.content : 0), g.tokens ?? Infinity);
  byId("ours-words").textContent = now === null ? ""
    : `${mine ?? "n/a"} of ${g.tokens ?? "n/a"} tokens delivered; all of them at ${ms(g.wall)}, ${verdict(g.correct)}.`;
  showSibling(other, now);
}

function showSibling(other, now) {
  byId("theirs-text").hidden = other === null;
  if (other === null) {
    byId("theirs-words").textContent = "n/a: this run has no valid autoregressive point of the same "
      + "precision, device and batch size that was asked this prompt. canvasbench run without model= measures both.";
    return;
  }
  other.times ??= other.ends === null ? null : unpacked(other.ends, Float32Array);
  if (now === null || other.times === null) {
    byId("theirs-words").textContent = `${other.tokens} tokens at ${ms(other.wall)}, ${verdict(other.correct)}; when each came is n/a.`;
    byId("theirs-text").textContent = other.text;
    return;
  }
  let done = 0;
  while (done < other.tokens && other.times[done] <= now) done++;
  const letters = Array.from(other.text);
  byId("theirs-text").textContent = letters.slice(0, Math.round(letters.length * done / other.tokens)).join("");
  byId("theirs-words").textContent = `${done} of ${other.tokens} tokens delivered; all of them at ${ms(other.wall)}, `
    + `${verdict(other.correct)}. Where a token ends is not recorded: the text grows by its share of the tokens.`;
}

// A track as long as its request took, filled up to now; both on one scale.
function fill(track, now, wall, whole) {
  track.style.width = wall === null || !whole ? "100%" : `${wall / whole * 100}%`;
  track.firstElementChild.style.width = now === null || !wall ? "0" : `${Math.min(1, now / wall) * 100}%`;
}

// Playing, keys, address.

function play(on) {
  clearInterval(playing);
  playing = on ? setInterval(tick, MS_A_STEP) : 0;
  byId("play").textContent = on ? "Pause" : "Play";
  byId("play").setAttribute("aria-pressed", String(on));
  byId("said").setAttribute("aria-live", on ? "off" : "polite");
  if (on && step === canvas.steps && isLastCanvas()) select(generation, 0, 1);
}

const isLastCanvas = () => canvas === generation.canvases.at(-1);

function tick() {
  if (step < canvas.steps) show(step + 1);
  else if (!isLastCanvas()) select(generation, generation.canvases.indexOf(canvas) + 1, 1);
  else play(false);
}

const KEYS = {
  ArrowLeft: () => show(step - 1),
  ArrowRight: () => show(step + 1),
  Home: () => show(1),
  End: () => show(canvas.steps),
  " ": () => play(!playing),
  n: () => moveCanvas(1),
  p: () => moveCanvas(-1),
};

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const on = event.target;
  if (on.closest("select, .scroll") || (event.key === " " && on.closest("button, summary"))) return;
  const digit = /^[1-9]$/.test(event.key) ? Number(event.key) : 0;
  const act = digit && digit <= generation.canvases.length
    ? () => select(generation, digit - 1, 1) : KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

function writeAddress() {
  const at = new URLSearchParams(
    {point: generation.point, request: generation.request, canvas: canvas.index + 1, step});
  history.replaceState(null, "", `#${at}`);
}

// #request=..&canvas=..&step=.. and, where several points answered it, point=..; all from 1.
function readAddress() {
  const at = new URLSearchParams(location.hash.slice(1)), request = at.get("request");
  const asked = data.generations.filter(g => g.request === request);
  const chosen = asked.find(g => g.point === at.get("point")) ?? asked[0];
  if (chosen) selectIndex(chosen, Number(at.get("canvas") ?? 1) - 1, Number(at.get("step")) || 1);
  else if (!canvas) selectIndex(find(data.first[0], data.first[1]), data.first[2], 1);
  if (!chosen && request !== null)
    byId("said").textContent = `Request ${request} is not in this replay; this is another one.`;
}

byId("point").onchange = event => choosePoint(event.target.value);
byId("request").onchange = event => select(find(generation.point, event.target.value), 0, 1);
byId("canvas").onchange = event => select(generation, Number(event.target.value), 1);
byId("cells").onmouseover = tell;
byId("slider").oninput = event => show(Number(event.target.value));
byId("play").onclick = () => play(!playing);
byId("back").onclick = () => show(step - 1);
byId("next").onclick = () => show(step + 1);
byId("map").onclick = event =>
  show(Math.floor(event.offsetY / (event.target.clientHeight / canvas.steps)) + 1);
window.onhashchange = readAddress;
const redraw = () => { drawMap(); showCursor(); drawStrip(); };
window.onresize = redraw;
matchMedia("(prefers-color-scheme: dark)").onchange = redraw;

readAddress();
