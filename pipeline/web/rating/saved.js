"use strict";
// Where the answers go: into this browser's memory, and by a button into a CSV file.
const study = JSON.parse(document.getElementById("study").textContent);
const place = `twinsynth-rating-${study.images.length ? study.images[0].id : "empty"}`;
const ORDERED = study.images.map((image) => image.id);
const FORMULA = /^[=+\-@]/;

class Refused extends Error {
  constructor(status, text) { super(text); this.status = status; }
}

function kept() {
  try { return JSON.parse(localStorage.getItem(place)) || []; } catch { return null; }
}

let ratings = (kept() || []).filter((one) => ORDERED.includes(one.image));

function keep() {
  try { localStorage.setItem(place, JSON.stringify(ratings)); } catch {
    say("This browser stores nothing: save your answers as a file before you close the page.");
  }
}

function now() {
  const rated = new Set(ratings.map((one) => one.image));
  const next = ORDERED.find((id) => !rated.has(id)) || null;
  const last = ratings.length ? ratings[ratings.length - 1].rating : null;
  return { name: study.name, done: ratings.length, total: ORDERED.length, image: next, last };
}

function cell(value) {
  const text = String(value);
  return `"${(FORMULA.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
}

const store = {
  saves: true,
  known: () => true,
  async enter() {},
  async open() { return now(); },
  async image(id) {
    const text = atob(study.images[ORDERED.indexOf(id)].png);
    return new Blob([Uint8Array.from(text, (sign) => sign.charCodeAt(0))], { type: "image/png" });
  },
  async save(answer) { ratings.push(answer); keep(); return now(); },
  async undo() { ratings.pop(); keep(); return now(); },
  sheet() {
    const lines = ratings.map((one) =>
      [one.image, one.quality, one.looks_real ? 1 : 0, cell(one.remark.replace(/\s+/g, " ").trim()), one.rating].join(","));
    return ["image,quality,real,remark,rating", ...lines, ""].join("\n");
  },
  later(line) {
    line.textContent = "Your answers stay in this browser: open the same file in it to continue. To be safe, save them as a file "
      + "now and then.";
  },
};
