// The page itself: one image at a time, keys, zoom, undo. `store` keeps the answers.
const element = (id) => document.getElementById(id);
const form = element("answers");
const LEVELS = [1, 1.5, 2, 3, 4, 6];
let state = null; // progress as the store tells it
let attempt = null; // id of the answer being given: the same for every attempt to save it
let level = 0;
let busy = false;
let shown = null; // address of the picture in memory

function say(text) { element("trouble").textContent = text; }
function tell(text) { element("status").textContent = text; }
function show(...ids) {
  for (const id of ["start", "task", "end"]) element(id).hidden = !ids.includes(id);
}
function fresh() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function zoom(to) {
  level = Math.max(0, Math.min(LEVELS.length - 1, to));
  const frame = element("frame");
  const [x, y] = [frame.scrollLeft + frame.clientWidth / 2, frame.scrollTop + frame.clientHeight / 2];
  const before = element("image").clientWidth / frame.clientWidth || 1;
  element("image").style.width = element("image").style.height = `${100 * LEVELS[level]}%`;
  const factor = LEVELS[level] / before;
  frame.scrollTo(x * factor - frame.clientWidth / 2, y * factor - frame.clientHeight / 2);
  element("zoom").textContent = `${100 * LEVELS[level]} %`;
  element("out").disabled = level === 0;
  element("in").disabled = level === LEVELS.length - 1;
}

async function render(next) {
  state = next;
  const { done, total, image, name } = state;
  element("who").textContent = name;
  element("progress").hidden = element("help").hidden = false;
  element("bar").max = total;
  element("bar").value = done;
  element("count").textContent = `${done} of ${total} rated`;
  element("undo").disabled = element("undo-last").disabled = !state.last;
  element("sheet").hidden = !store.saves || done === 0;
  store.later(element("later"));
  form.reset();
  attempt = fresh();
  if (image) await present(image); else finish();
}

async function present(image) {
  const picture = URL.createObjectURL(await store.image(image));
  element("image").src = picture;
  await element("image").decode().catch(() => say("The image cannot be shown."));
  if (shown) URL.revokeObjectURL(shown);
  shown = picture;
  zoom(0);
  show("task");
  element("frame").focus({ preventScroll: true });
  tell(`Image ${state.done + 1} of ${state.total}`);
}

function finish() {
  show("end");
  if (store.saves) element("farewell").textContent = "Now save your answers as a file and send it back.";
  (store.saves ? element("download") : element("end")).focus();
  tell("You have rated all images.");
}

async function run(step) {
  if (busy) return;
  busy = true;
  document.body.setAttribute("aria-busy", "true");
  try {
    const next = await step();
    say("");
    await render(next);
  } catch (error) {
    await recover(error);
  } finally {
    busy = false;
    document.body.removeAttribute("aria-busy");
  }
}

async function recover(error) {
  if (!(error instanceof Refused)) throw error;
  say(error.message);
  if (error.status === 401) { show("start"); element("name").focus(); }
  if (error.status !== 409 || !state) return;
  await render(await store.open()); // another window was faster, or the answer had arrived
  say(`${error.message}. The page shows what is saved.`);
}

function save() {
  const chosen = new FormData(form);
  if (!chosen.get("quality")) return say("Press 1 to 5 first.");
  if (!chosen.get("kind")) return say("Press R or S first.");
  const quality = Number(chosen.get("quality"));
  const answer = { rating: attempt, image: state.image, quality, looks_real: chosen.get("kind") === "r", remark: element("remark").value };
  return run(() => store.save(answer));
}

function undo() {
  if (state && state.last) run(() => store.undo(state.last));
}

function choose(name, value) {
  const radio = form.querySelector(`[name="${name}"][value="${value}"]`);
  radio.checked = true;
  tell(radio.parentElement.textContent.trim());
  say("");
}

const KEYS = {
  r: () => choose("kind", "r"),
  s: () => choose("kind", "s"),
  m: () => element("remark").focus(),
  z: () => zoom(0),
  "+": () => zoom(level + 1),
  "=": () => zoom(level + 1),
  "-": () => zoom(level - 1),
};
for (const value of "12345") KEYS[value] = () => choose("quality", value);

function pressed(event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.ctrlKey || event.altKey || event.metaKey || !state || busy) return;
  if (event.target.type === "text") {
    if (key === "Escape") element("frame").focus();
    return;
  }
  const rating = !element("task").hidden;
  if (key === "u" || key === "Backspace") undo();
  else if (rating && key === "Enter" && event.target.tagName !== "BUTTON" && event.target.tagName !== "SUMMARY") save();
  else if (rating && KEYS[key]) KEYS[key]();
  else return;
  event.preventDefault();
}

document.addEventListener("keydown", pressed);
form.noValidate = true; // save() says what is missing
form.addEventListener("submit", (event) => { event.preventDefault(); save(); });
element("undo").addEventListener("click", undo);
element("undo-last").addEventListener("click", undo);
element("in").addEventListener("click", () => zoom(level + 1));
element("out").addEventListener("click", () => zoom(level - 1));
element("frame").addEventListener("dblclick", () => zoom(level ? 0 : 2));
element("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  run(async () => { await store.enter(element("name").value); return store.open(); });
});
element("download").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["\ufeff", store.sheet()], { type: "text/csv" }));
  link.download = `ratings_${state.name.replace(/[^A-Za-z0-9]+/g, "_")}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
});

if (store.known()) run(() => store.open());
else { show("start"); element("name").focus(); }
