// The mask: a label map of size x size pixels on a canvas, painted by pointer or keyboard, with undo.
const UNDO = 30; // steps that are remembered

class Brush {
  constructor(canvas, size, colours, changed) {
    this.canvas = canvas;
    this.size = canvas.width = canvas.height = size;
    this.colours = colours;
    this.changed = changed;
    this.labels = new Uint8Array(size * size);
    this.past = [];
    this.radius = 6;
    this.label = 1;
    this.at = { x: size / 2, y: size / 2 };
    this.painting = this.pointing = false;
    canvas.addEventListener("pointerdown", (event) => this.begin(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { this.painting = false; });
    canvas.addEventListener("keydown", (event) => this.pressed(event));
    canvas.addEventListener("keyup", (event) => { if (event.key === " ") this.painting = false; });
    canvas.addEventListener("blur", () => { this.painting = this.pointing = false; this.show(); });
    this.show();
  }

  place(event) {
    const frame = this.canvas.getBoundingClientRect();
    const scale = this.size / frame.width;
    return { x: (event.clientX - frame.left) * scale, y: (event.clientY - frame.top) * scale };
  }

  begin(event) {
    if (event.button) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.remember();
    this.painting = true;
    this.pointing = false;
    this.at = this.place(event);
    this.stroke(this.at, this.at);
  }

  move(event) {
    if (!this.painting) return;
    const to = this.place(event);
    this.stroke(this.at, to);
    this.at = to;
  }

  pressed(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const step = Math.max(1, Math.round(this.size / 64)) * (event.shiftKey ? 4 : 1);
    if (event.key === " ") {
      if (!event.repeat) { this.remember(); this.painting = true; this.stroke(this.at, this.at); }
    } else if (moves[event.key]) {
      const [right, down] = moves[event.key];
      const limit = (value) => Math.max(0, Math.min(this.size - 1, value));
      const to = { x: limit(this.at.x + step * right), y: limit(this.at.y + step * down) };
      if (this.painting) this.stroke(this.at, to);
      this.at = to;
    } else return;
    this.pointing = true;
    this.show();
    event.preventDefault();
  }

  stroke(from, to) {
    const count = Math.max(1, Math.ceil(Math.hypot(to.x - from.x, to.y - from.y)));
    for (let step = 0; step <= count; step++) {
      this.dot(from.x + ((to.x - from.x) * step) / count, from.y + ((to.y - from.y) * step) / count);
    }
    this.show();
    this.changed();
  }

  dot(x, y) {
    const { radius, size } = this;
    for (let row = Math.max(0, Math.floor(y - radius)); row <= Math.min(size - 1, Math.ceil(y + radius)); row++) {
      for (let column = Math.max(0, Math.floor(x - radius)); column <= Math.min(size - 1, Math.ceil(x + radius)); column++) {
        if (Math.hypot(column + 0.5 - x, row + 0.5 - y) <= radius) this.labels[row * size + column] = this.label;
      }
    }
  }

  remember() {
    this.past.push(this.labels.slice());
    if (this.past.length > UNDO) this.past.shift();
  }

  undo() {
    if (!this.past.length) return;
    this.labels = this.past.pop();
    this.show();
    this.changed();
  }

  set(labels) {
    this.remember();
    this.labels = labels;
    this.show();
    this.changed();
  }

  runs() {
    const found = [];
    for (const label of this.labels) {
      const last = found[found.length - 1];
      if (last && last[0] === label) last[1]++;
      else found.push([label, 1]);
    }
    return found;
  }

  show() {
    const context = this.canvas.getContext("2d");
    const picture = context.createImageData(this.size, this.size);
    this.labels.forEach((label, place) => picture.data.set([...this.colours[label], 255], 4 * place));
    context.putImageData(picture, 0, 0);
    if (!this.pointing) return;
    context.strokeStyle = "#f0a";
    context.beginPath();
    context.arc(this.at.x, this.at.y, this.radius, 0, 2 * Math.PI);
    context.stroke();
  }
}

function fromRuns(runs, length) {
  const labels = new Uint8Array(length);
  let place = 0;
  for (const [label, count] of runs) { labels.fill(label, place, place + count); place += count; }
  return labels;
}

// A picture of a mask: grey values are the labels where all of them are; otherwise each pixel has the class of the nearest
// colour, so that with two classes everything lighter than half is lesion.
async function fromFile(file, size, colours) {
  const bitmap = await createImageBitmap(file);
  const canvas = new OffscreenCanvas(size, size);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(bitmap, 0, 0, size, size);
  const { data } = context.getImageData(0, 0, size, size);
  const pixels = Array.from({ length: size * size }, (_, place) => data.subarray(4 * place, 4 * place + 3));
  const few = pixels.every(([r, g, b]) => r === g && g === b && r < colours.length);
  const far = (a, b) => a.reduce((sum, value, channel) => sum + (value - b[channel]) ** 2, 0);
  const nearest = (pixel) => colours.reduce((best, colour, label) => (far(pixel, colour) < far(pixel, colours[best]) ? label : best), 0);
  return Uint8Array.from(pixels, few ? ([level]) => level : nearest);
}
