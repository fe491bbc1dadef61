"use strict";
// One cell at a time, one key a call. Calls are kept in this browser until they are saved as one new version.
(() => {
  const data = leuko.read("data"), words = leuko.read("words");
  if (!data.cells.length) return;
  const at = (id) => document.getElementById(id);
  const key = `leuko-calls-${data.id}`;
  const buttons = [...document.querySelectorAll("[data-label]")];
  const labels = buttons.map((button) => button.dataset.label);
  let calls = {};
  try { calls = JSON.parse(localStorage.getItem(key)) || {}; } catch { calls = {}; }
  let here = data.start, overlaid = false;

  const keep = () => {
    try {
      if (Object.keys(calls).length) localStorage.setItem(key, JSON.stringify(calls));
      else localStorage.removeItem(key);
    } catch { /* a browser without storage keeps them while the page is open */ }
  };
  const source = (kind, cell) => `/results/${data.id}/v${data.version}/${kind}/${cell.field}/${cell.index}.jpg`;

  const drawBoxes = (cell, field) => {
    const svg = at("boxes");
    svg.setAttribute("viewBox", `0 0 ${field.width} ${field.height}`);
    svg.replaceChildren();
    const rect = (name, box) => {
      const made = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      made.setAttribute("class", name);
      ["x", "y", "width", "height"].forEach((side, i) => made.setAttribute(side, box[i + 2]));
      made.setAttribute("rx", field.width / 150);
      svg.append(made);
    };
    const chosen = field.boxes.find((box) => box[0] === cell.index);
    for (const box of field.boxes) if (box !== chosen) { rect("halo", box); rect("", box); }
    if (chosen) { rect("chosen-halo", chosen); rect("chosen", chosen); }
  };

  const show = () => {
    const cell = data.cells[here], field = data.fields[cell.field], called = calls[cell.cell];
    at("where").textContent = leuko.fill(words.of, { n: here + 1, total: data.cells.length });
    at("place").textContent = leuko.fill(words.field, { field: cell.field + 1, cell: cell.index + 1 });
    at("doubt").textContent = cell.hand ? "" : words[cell.doubt];
    at("doubt").dataset.doubt = cell.doubt;
    at("crop").src = source(overlaid && cell.activation ? "activation" : "cell", cell);
    at("crop").alt = `${words.names[cell.group]}, ${at("place").textContent}`;
    at("map").hidden = !cell.activation;
    if (cell.activation) at("map").src = source("activation", cell);
    at("overlay").disabled = !cell.activation;
    at("overlay").setAttribute("aria-pressed", String(overlaid));
    const picture = at("field");
    picture.hidden = !field.picture;
    if (field.picture) picture.src = source("field", { field: cell.field, index: 0 });
    drawBoxes(cell, field);
    const said = [];
    if (cell.hand) said.push(leuko.fill(words.hand, { name: cell.hand.operator, label: words.names[cell.hand.model] || cell.hand.model }));
    else if (cell.reason) said.push(`${words.names[cell.label] || cell.label}: ${words.abstained}`);
    else if (cell.group === "other") said.push(words.other);
    at("said").textContent = said.join(". ");
    for (const button of buttons) {
      const label = button.dataset.label;
      button.setAttribute("aria-pressed", String((called || (cell.doubt === "unclassified" && !cell.hand ? "" : cell.group)) === label));
      button.classList.toggle("called", called === label);
      const p = cell.probabilities[label];
      button.querySelector(".p").textContent = p === undefined ? "" : p >= 0.995 ? ">0.99" : p.toFixed(2);
      const bar = button.querySelector("[data-bar]");
      if (bar) bar.setAttribute("width", 100 * p);
    }
    at("pair").textContent = cell.pair.map((label) => words.names[label]).join(" / ");
    at("telling").textContent = cell.telling;
    const count = Object.keys(calls).length;
    at("save").hidden = !count;
    at("unsaved").textContent = leuko.fill(words.unsaved, { n: count });
    document.documentElement.dataset.cell = cell.cell;
  };
  const move = (by) => { here = Math.min(Math.max(here + by, 0), data.cells.length - 1); show(); };
  const call = (label) => {
    const cell = data.cells[here];
    if (calls[cell.cell] === label) delete calls[cell.cell];
    else calls[cell.cell] = label;
    keep();
    if (calls[cell.cell] && here < data.cells.length - 1) move(1); else show();
  };
  const lay = () => { overlaid = !overlaid; show(); };

  for (const button of buttons) button.addEventListener("click", () => call(button.dataset.label));
  at("back").addEventListener("click", () => move(-1));
  at("next").addEventListener("click", () => move(1));
  at("overlay").addEventListener("click", lay);
  at("discard").addEventListener("click", () => { calls = {}; keep(); show(); });
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    const pressed = event.key.toLowerCase();
    const index = "123456".indexOf(pressed), letter = "nlmebo".indexOf(pressed);
    if (pressed.length === 1 && index >= 0) call(labels[index]);
    else if (pressed.length === 1 && letter >= 0) call(labels[letter]);
    else if (pressed === "a") lay();
    else if (pressed === "arrowright") move(1);
    else if (pressed === "arrowleft") move(-1);
    else return;
    event.preventDefault();
  });
  at("save").addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = at("save").querySelector(".primary");
    button.disabled = true;
    at("failed").hidden = true;
    try {
      await leuko.post(`/results/${data.id}/relabel`, {
        version: data.version,
        operator: at("operator").value,
        reason: at("reason").value,
        changes: Object.entries(calls).map(([cell, label]) => ({ cell, label })),
      });
      calls = {};
      keep();
      location.assign(`/results/${data.id}`);
    } catch (error) {
      at("failed").textContent = error instanceof TypeError ? words.failed : error.message;
      at("failed").hidden = false;
      button.disabled = false;
    }
  });
  show();
})();
