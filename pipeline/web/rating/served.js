"use strict";
// Where the answers go: to the server, with the keys that stand in the address after #, which browsers never send.
const keys = new URLSearchParams(location.hash.slice(1));
let newcomer = {}; // name and the id of the attempt to start with it
const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

class Refused extends Error {
  constructor(status, text) { super(text); this.status = status; }
}

async function ask(method, path, body) {
  const headers = { "X-Study-Token": keys.get("token") || "", "X-Rater-Key": keys.get("key") || "" };
  const request = { method, headers, credentials: "omit", cache: "no-store" };
  if (body) { headers["Content-Type"] = "application/json"; request.body = JSON.stringify(body); }
  for (const wait of [0.5, 1, 2, 4, 0]) {
    let response = null;
    try { response = await fetch(path, request); } catch { /* no answer: asked again below */ }
    if (response && response.ok) return response;
    if (response && ![408, 429, 503].includes(response.status)) {
      const told = await response.json().catch(() => ({ error: "the server failed" }));
      throw new Refused(response.status, told.error);
    }
    if (!wait) throw new Refused(503, "The server does not answer or cannot save at the moment. Your answer is still here: try again in a moment.");
    say("The server does not answer; trying again.");
    await pause(wait);
  }
}

const store = {
  saves: false,
  known: () => keys.has("key"),
  async enter(name) {
    if (name !== newcomer.name) newcomer = { name, attempt: fresh() };
    keys.set("key", (await (await ask("POST", "api/raters", newcomer)).json()).key);
    history.replaceState(null, "", `#${keys}`);
  },
  async open() { return (await ask("GET", "api/progress")).json(); },
  async image(id) { return (await ask("GET", `api/images/${id}`)).blob(); },
  async save(answer) { return (await ask("POST", "api/ratings", answer)).json(); },
  async undo(rating) { return (await ask("POST", "api/undo", { rating })).json(); },
  later(place) {
    const link = document.createElement("a");
    link.href = link.textContent = location.href;
    place.replaceChildren("Your personal link: keep it to continue later, and do not share it. ", link);
  },
};
addEventListener("hashchange", () => location.reload());
