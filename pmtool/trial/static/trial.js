// The items of a participant: shown, answered, taken back. The server alone knows what is answered.

import { Viewer, WINDOWS } from "./viewer.js";

const element = (id) => document.getElementById(id);
const token = document.querySelector("meta[name=form-token]").content;
const canvases = [0, 1, 2].map((number) => document.querySelector(`canvas[data-image="${number}"]`));
const viewer = new Viewer(canvases, showTools);
const LONGEST = 3600000; // milliseconds
const LOOK_FIRST = 400; // milliseconds before a choice counts, against double clicks
const STEP = 60; // pixels that arrow keys move

let answered = 0;
let total = 0;
let ready = false; // for a choice
let busy = false; // with a request
let looking = null; // the timer until a choice counts
let coming = null; // the next item's images: { item, images }

class Failure extends Error {}

async function request(path, values) {
  const options = values && {
    method: "POST",
    body: new URLSearchParams({ form_token: token, ...values }),
  };
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Failure("The server cannot be reached. Try again, or reload the page.");
  }
  if (response.ok) return response;
  const failure = new Failure(await response.text());
  failure.status = response.status;
  throw failure;
}

async function fetchImages(item) {
  const response = await request(`/trial/items/${item}`);
  const [rows, columns] = ["X-Rows", "X-Columns"].map((name) => Number(response.headers.get(name)));
  const view = new DataView(await response.arrayBuffer());
  const voxels = Int16Array.from({ length: view.byteLength / 2 }, (_, i) => view.getInt16(2 * i, true));
  const size = rows * columns;
  return { rows, columns, images: [0, 1, 2].map((i) => voxels.subarray(i * size, (i + 1) * size)) };
}

function expect(item) {
  if (item >= total) return;
  const images = fetchImages(item);
  images.catch(() => {}); // it is asked for again when it is its turn
  coming = { item, images };
}

// Time that the item was in sight.
const watch = {
  spent: 0,
  since: null,
  start() { this.spent = 0; this.since = document.hidden ? null : performance.now(); },
  read() { return this.spent + (this.since === null ? 0 : performance.now() - this.since); },
  pause() { this.spent = this.read(); this.since = null; },
  resume() { this.since = performance.now(); },
};
document.addEventListener("visibilitychange", () => (document.hidden ? watch.pause() : watch.resume()));

async function showItem() {
  const finished = answered >= total;
  element("viewer").hidden = finished;
  element("done").hidden = !finished;
  element("progress").value = answered;
  element("undo").setAttribute("aria-disabled", answered === 0);
  if (finished) {
    say(`All ${total} slices answered`);
    element("done").querySelector("h2").focus();
    return;
  }
  const early = coming?.item === answered ? await coming.images.catch(() => null) : null;
  const { images, rows, columns } = early ?? (await fetchImages(answered));
  viewer.show(images, rows, columns);
  say(`Slice ${answered + 1} of ${total}`);
  watch.start();
  expect(answered + 1);
  looking = setTimeout(() => enable(true), LOOK_FIRST);
}

// Do something that changes what is answered, then show what is next.
async function change(action) {
  if (busy) return;
  busy = true;
  clearTimeout(looking);
  enable(false);
  try {
    try {
      await action();
    } catch (failure) {
      if (failure.status !== 409) throw failure; // else it has been done already
    }
    ({ answered, total } = await (await request("/trial/state")).json());
    viewer.clear();
    await showItem();
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure;
    say(failure.message);
    enable(viewer.images !== null);
  } finally {
    busy = false;
  }
}

function choose(side) {
  if (!ready) return;
  const milliseconds = Math.round(Math.min(watch.read(), LONGEST));
  change(() => request("/trial/answers", { item: answered, side, milliseconds }));
}

function undo() {
  if (answered > 0) change(() => request("/trial/undo", { item: answered - 1 }));
}

function enable(value) {
  ready = value;
  for (const side of ["left", "right"]) element(side).setAttribute("aria-disabled", !value);
}

function say(text) {
  element("status").textContent = text;
}

function showTools() {
  const { level, width } = viewer;
  if (document.activeElement !== element("level")) element("level").value = level;
  if (document.activeElement !== element("width")) element("width").value = width;
  element("zoom").textContent = `${Math.round(100 * viewer.zoom)} %`;
  for (const button of document.querySelectorAll("[data-window]")) {
    const [l, w] = WINDOWS[button.dataset.window];
    button.setAttribute("aria-pressed", l === level && w === width);
  }
}

for (const side of ["left", "right"]) element(side).addEventListener("click", () => choose(side));
for (const id of ["undo", "undo-last"]) element(id).addEventListener("click", undo);
for (const button of document.querySelectorAll("[data-window]")) {
  button.addEventListener("click", () => viewer.setWindow(...WINDOWS[button.dataset.window]));
}
for (const id of ["level", "width"]) {
  element(id).addEventListener("change", () => viewer.setWindow(Number(element("level").value), Number(element("width").value)));
}
element("in").addEventListener("click", () => viewer.zoomBy(1.25));
element("out").addEventListener("click", () => viewer.zoomBy(0.8));
element("fit").addEventListener("click", () => viewer.fit());
element("windowing").addEventListener("click", (event) => {
  viewer.dragWindows = !viewer.dragWindows;
  event.currentTarget.setAttribute("aria-pressed", viewer.dragWindows);
});
element("copy").addEventListener("click", () => {
  element("link").select();
  navigator.clipboard?.writeText(element("link").value);
});

const KEYS = {
  ArrowLeft: () => choose("left"),
  ArrowRight: () => choose("right"),
  u: undo,
  1: () => viewer.setWindow(...WINDOWS.lung),
  2: () => viewer.setWindow(...WINDOWS.soft),
  3: () => viewer.setWindow(...WINDOWS.bone),
  0: () => viewer.fit(),
  "+": () => viewer.zoomBy(1.25),
  "-": () => viewer.zoomBy(0.8),
};
const ONCE = new Set(["ArrowLeft", "ArrowRight", "u"]); // however long they are held
const MOVES = { ArrowLeft: [STEP, 0], ArrowRight: [-STEP, 0], ArrowUp: [0, STEP], ArrowDown: [0, -STEP] };

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input") || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const action = event.shiftKey && key in MOVES ? () => viewer.moveBy(...MOVES[key]) : KEYS[key];
  if (!action) return;
  event.preventDefault();
  if (!event.repeat || !ONCE.has(key) || event.shiftKey) action();
});

change(async () => {});
