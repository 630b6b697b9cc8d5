// The page of `twinsynth try`: a mask becomes an image, which is looked at and kept.
const element = (id) => document.getElementById(id);
const WAIT = 250; // milliseconds between two questions about a drawing
let study = null;
let brush = null;
let source = null; // id of the training image whose mask this was at first
let upcoming = 0; // number of the training mask that is taken next
let drawing = null; // id of the drawing that is shown
let drawn = null; // its mask and what is known of it
let busy = false;

function say(text) { element("trouble").textContent = text; }
function tell(text) { element("status").textContent = text; }

async function ask(path, body) {
  const options = body ? { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) } : {};
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer. Is twinsynth try still running?");
  }
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

async function attempt(step) {
  try {
    say("");
    await step();
  } catch (error) {
    say(error.message);
  }
}

async function open() {
  study = await ask("/api/study");
  element("about").textContent = `study ${study.study}, ${study.size} x ${study.size} pixels`;
  brush = new Brush(element("mask"), study.size, study.colours, changed);
  brush.radius = Math.max(1, Math.round(study.size / 10));
  element("radius").max = Math.round(study.size / 4);
  element("radius").value = brush.radius;
  for (const name of study.generators) element("generator").add(new Option(name, name));
  study.colours.slice(1).forEach((_, label) => element("class").add(new Option(label + 1, label + 1)));
  element("classes").hidden = study.colours.length === 2;
  element("steps").value = study.steps;
  element("guidance").value = study.guidance_scale;
  for (const id of ["image", "outline"]) element(id).width = element(id).height = study.size;
  upcoming = Math.floor(Math.random() * study.masks);
}

function changed() {
  element("undo").disabled = brush.past.length === 0;
}

function choose(tool) {
  document.querySelector(`[name="tool"][value="${tool}"]`).checked = true;
  pick();
}

function pick() {
  const erasing = document.querySelector('[name="tool"]:checked').value === "eraser";
  brush.label = erasing ? 0 : Number(element("class").value);
}

async function takeTrainingMask() {
  const mask = await ask(`/api/masks/${upcoming}`);
  upcoming = (upcoming + 1) % study.masks;
  brush.set(fromRuns(mask.runs, study.size ** 2));
  source = mask.id;
  element("origin").textContent = `The mask of the training image ${mask.id}. You may change it.`;
  tell(element("origin").textContent);
}

async function load(file) {
  if (!file) return;
  let labels;
  try {
    labels = await fromFile(file, study.size, study.colours);
  } catch {
    throw new Error(`${file.name} cannot be read as a picture; choose a PNG, JPEG, BMP or WebP file`);
  }
  brush.set(labels);
  source = null;
  element("origin").textContent = `The mask ${file.name}, scaled to ${study.size} x ${study.size} pixels.`;
}

function working(is) {
  busy = is;
  element("draw").disabled = is;
  element("stop").disabled = !is;
  element("bar").hidden = !is;
  document.body.toggleAttribute("aria-busy", is);
}

async function draw() {
  if (busy) return;
  if (!element("settings").reportValidity()) return;
  if (!brush.labels.some((label) => label)) throw new Error("The mask is empty. Draw a lesion first.");
  const labels = brush.labels.slice();
  const number = (id) => Number(element(id).value);
  const request = { runs: brush.runs(), generator: element("generator").value, seed: number("seed"), steps: number("steps"),
    guidance_scale: number("guidance"), control_scale: number("control"), source };
  working(true);
  element("keep").disabled = true;
  element("kept").textContent = "";
  try {
    drawing = (await ask("/api/drawings", request)).drawing;
    tell("The image is being drawn.");
    drawn = { labels, ...(await follow()) };
  } finally {
    working(false);
  }
  present();
}

async function follow() {
  for (;;) {
    const state = await ask(`/api/drawings/${drawing}`);
    element("bar").max = state.steps;
    element("bar").value = state.done;
    if (state.error) throw new Error(state.error === "stopped" ? "Stopped." : state.error);
    if (state.image) { await paint(state.image); return state; }
    if (state.preview) await paint(state.preview);
    await new Promise((resolve) => setTimeout(resolve, WAIT));
  }
}

async function paint(png) {
  const picture = new Image();
  picture.src = `data:image/png;base64,${png}`;
  await picture.decode();
  element("outline").getContext("2d").clearRect(0, 0, study.size, study.size);
  element("image").getContext("2d").drawImage(picture, 0, 0);
}

function present() {
  element("keep").disabled = false;
  outline();
  const judged = drawn.dice === null ? "" : `Dice between the judge's prediction and the mask: ${drawn.dice.toFixed(3)}.`;
  element("verdict").textContent = drawn.unjudged ? `No judge: ${drawn.unjudged}` : judged;
  element("image").setAttribute("aria-label", `The image that was drawn. ${element("verdict").textContent}`);
  element("closest-title").hidden = drawn.closest.length === 0;
  element("closest").replaceChildren(...drawn.closest.map(neighbour));
  tell(`The image is finished. ${element("verdict").textContent}`);
}

function neighbour({ id, distance, same, image }) {
  const [item, picture, line] = [document.createElement("li"), new Image(), document.createElement("span")];
  picture.src = `data:image/png;base64,${image}`;
  picture.alt = `Training image ${id}`;
  line.textContent = `${id}, distance ${distance.toFixed(2)}${same ? ": looks like a copy" : ""}`;
  line.classList.toggle("same", same);
  item.append(picture, line);
  return item;
}

// Edges of the mask (dashed white on black) and of the judge's prediction (pink), over the image.
function outline() {
  const canvas = element("outline");
  const scale = Math.max(1, Math.ceil(512 / study.size));
  canvas.width = canvas.height = study.size * scale;
  if (!drawn) return;
  if (element("show-mask").checked) edges(canvas, drawn.labels, scale, "#000", "#fff");
  if (element("show-judge").checked && drawn.predicted) edges(canvas, fromRuns(drawn.predicted, study.size ** 2), scale, "#f0a");
}

function edges(canvas, labels, scale, colour, dashes) {
  const [context, size, path] = [canvas.getContext("2d"), study.size, new Path2D()];
  for (let row = 0; row < size; row++) {
    for (let column = 0; column < size; column++) {
      const here = labels[row * size + column];
      if (column + 1 < size && labels[row * size + column + 1] !== here) line(path, column + 1, row, column + 1, row + 1, scale);
      if (row + 1 < size && labels[(row + 1) * size + column] !== here) line(path, column, row + 1, column + 1, row + 1, scale);
    }
  }
  context.lineWidth = 2;
  context.strokeStyle = colour;
  context.setLineDash([]);
  context.stroke(path);
  if (!dashes) return;
  context.setLineDash([3, 3]);
  context.strokeStyle = dashes;
  context.stroke(path);
}

function line(path, x, y, toX, toY, scale) {
  path.moveTo(x * scale, y * scale);
  path.lineTo(toX * scale, toY * scale);
}

async function keep() {
  if (element("keep").disabled) return;
  const pair = await ask("/api/pairs", { drawing });
  element("kept").textContent = `Kept as ${pair.id} in ${study.folder} (${pair.pairs} ${pair.pairs === 1 ? "pair" : "pairs"}).`;
  tell(element("kept").textContent);
}

async function stop() {
  if (busy && drawing) await ask("/api/stop", { drawing });
}

function toggle(id) {
  element(id).checked = !element(id).checked;
  outline();
}

const KEYS = {
  b: () => choose("brush"),
  e: () => choose("eraser"),
  u: () => brush.undo(),
  c: () => element("clear").click(),
  n: () => element("next").click(),
  m: () => toggle("show-mask"),
  j: () => toggle("show-judge"),
  k: () => attempt(keep),
  Enter: () => attempt(draw),
  Escape: () => attempt(stop),
};

document.addEventListener("keydown", (event) => {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const typing = event.target.matches("input[type=number], select, button, summary");
  if (event.ctrlKey || event.altKey || event.metaKey || !brush || !KEYS[key] || (typing && key !== "Escape")) return;
  event.preventDefault();
  KEYS[key]();
});
element("settings").addEventListener("submit", (event) => { event.preventDefault(); attempt(draw); });
element("settings").noValidate = true; // draw() asks for it, so that the keys do too
element("stop").addEventListener("click", () => attempt(stop));
element("keep").addEventListener("click", () => attempt(keep));
element("undo").addEventListener("click", () => brush.undo());
element("clear").addEventListener("click", () => { brush.set(new Uint8Array(study.size ** 2)); source = null; element("origin").textContent = "An empty mask."; });
element("next").addEventListener("click", () => attempt(takeTrainingMask));
element("file").addEventListener("change", () => attempt(async () => { await load(element("file").files[0]); element("file").value = ""; }));
element("radius").addEventListener("input", () => { brush.radius = Number(element("radius").value); });
element("class").addEventListener("change", pick);
for (const tool of document.querySelectorAll('[name="tool"]')) tool.addEventListener("change", pick);
for (const id of ["show-mask", "show-judge"]) element(id).addEventListener("change", outline);
attempt(open);
