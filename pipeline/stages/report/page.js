"use strict";
(() => {
  const empty = (text) => text === "" || text === "–";
  const order = new Intl.Collator("en", { numeric: true }).compare;
  const text = (row, column) => (row.cells[column] ? row.cells[column].textContent.trim() : "");
  const number = (string) => (/^<?[-+]?[\d.]/.test(string) ? parseFloat(string.replace("<", "")) : NaN);

  // Tables: a button in every header; first click up, second down, third as it was. Cells without a value come last.
  const sort = (table, rows, column, direction) => {
    const body = table.tBodies[0];
    const values = rows.map((row) => text(row, column));
    const numeric = values.every((value) => empty(value) || !Number.isNaN(number(value)));
    const compare = (a, b) => {
      const [left, right] = [text(a, column), text(b, column)];
      if (empty(left) || empty(right)) return empty(left) - empty(right);
      return direction * (numeric ? number(left) - number(right) : order(left, right));
    };
    body.append(...(direction ? [...rows].sort(compare) : rows));
  };
  for (const table of document.querySelectorAll("main table")) {
    const rows = [...table.tBodies[0].rows];
    if (rows.length < 2) continue;
    const headers = [...table.tHead.rows[0].cells];
    headers.forEach((header, column) => {
      if (empty(header.textContent.trim())) return;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => {
        const next = { ascending: "descending", descending: null }[header.getAttribute("aria-sort")];
        const now = next === undefined ? "ascending" : next;
        headers.forEach((other) => other.removeAttribute("aria-sort"));
        if (now) header.setAttribute("aria-sort", now);
        sort(table, rows, column, { ascending: 1, descending: -1 }[now] || 0);
      });
    });
  }

  // Pictures: a button around each opens it large; arrows go on, Escape and a click close.
  const viewer = document.querySelector("dialog");
  const [large, words] = [viewer.querySelector("img"), viewer.querySelector("p")];
  const pictures = [...document.querySelectorAll("main img")];
  let shown = 0;
  const show = (place) => {
    shown = (place + pictures.length) % pictures.length;
    large.src = pictures[shown].src;
    large.alt = pictures[shown].alt;
    words.textContent = `${pictures[shown].alt} (${shown + 1} of ${pictures.length})`;
  };
  pictures.forEach((picture, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "zoom";
    button.setAttribute("aria-haspopup", "dialog");
    picture.replaceWith(button);
    button.append(picture);
    button.addEventListener("click", () => {
      show(place);
      viewer.showModal();
    });
  });
  viewer.addEventListener("click", (event) => {
    const step = Number(event.target.dataset.step);
    if (step) show(shown + step);
    else viewer.close();
  });
  viewer.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) show(shown + step);
  });

  // Paper: what is folded away is printed too.
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach((part) => part.setAttribute("open", ""));
  });
  window.addEventListener("afterprint", () => opened.forEach((part) => part.removeAttribute("open")));
})();
