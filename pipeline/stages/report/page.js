"use strict";
(() => {
  const empty = (text) => text === "" || text === "–";
  const order = new Intl.Collator("en", { numeric: true }).compare;
  const text = (row, column) => (row.cells[column] ? row.cells[column].textContent.trim() : "");
  const number = (string) => (/^<?[-+]?[\d.]/.test(string) ? parseFloat(string.replace("<", "")) : NaN);

  // Parts: the links above them become tabs, of which one part is seen; the arrow keys go on. A link into a part opens
  // it, and so does a search in browsers that look into hidden parts.
  const tabs = [...document.querySelectorAll("nav.parts a")];
  const parts = tabs.map((tab) => document.querySelector(tab.hash));
  const open = (place) => {
    tabs.forEach((tab, other) => {
      tab.setAttribute("aria-selected", String(other === place));
      tab.tabIndex = other === place ? 0 : -1;
      if (other === place) parts[other].removeAttribute("hidden");
      else parts[other].setAttribute("hidden", "until-found");
    });
  };
  const follow = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    const place = target ? parts.findIndex((part) => part.contains(target)) : -1;
    if (place < 0) return;
    open(place);
    if (target !== parts[place]) target.scrollIntoView();
  };
  document.querySelector("nav.parts ul").setAttribute("role", "tablist");
  tabs.forEach((tab, place) => {
    tab.parentElement.setAttribute("role", "presentation");
    tab.setAttribute("role", "tab");
    tab.id = `tab-${parts[place].id}`;
    tab.setAttribute("aria-controls", parts[place].id);
    parts[place].setAttribute("role", "tabpanel");
    parts[place].setAttribute("aria-labelledby", tab.id);
    parts[place].addEventListener("beforematch", () => open(place));
    tab.addEventListener("click", (event) => {
      event.preventDefault(); // the tabs stay where they are
      open(place);
      history.replaceState(null, "", tab.hash);
    });
    tab.addEventListener("keydown", (event) => {
      const count = tabs.length;
      const next = { ArrowRight: place + 1, ArrowLeft: place + count - 1, Home: 0, End: count - 1, " ": place }[event.key];
      if (next === undefined) return;
      event.preventDefault();
      tabs[next % count].focus();
      tabs[next % count].click();
    });
  });
  open(0);
  follow();
  window.addEventListener("hashchange", follow);

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
