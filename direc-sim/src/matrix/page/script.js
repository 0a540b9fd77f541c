"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const by = (id) => document.getElementById(id);
const heat = by("heat"), cells = [...heat.querySelectorAll(".cell")], width = data.kinds.length;
const chosenOf = (name) => Number(document.querySelector(`input[name=${name}]:checked`).value);
let chosen = 0;

// Elements with attributes and text, in the heat map's own namespace where they are SVG.
function svg(name, attributes, text) {
  const element = document.createElementNS(heat.namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}
function html(name, text) {
  const element = document.createElement(name);
  element.textContent = text;
  return element;
}

const names = (n) => [data.kinds[Math.floor(n / width)], data.kinds[n % width]];

// The heat map as the controls ask for it.
function paint() {
  const measure = chosenOf("measure"), condition = chosenOf("condition");
  document.body.dataset.measure = measure;
  for (const key of document.querySelectorAll(".key")) key.classList.toggle("shown", Number(key.dataset.measure) === measure);
  cells.forEach((cell, n) => {
    const at = data.cells[n].at[condition], [shade, label] = at.shades[measure], [one, other] = names(n);
    cell.setAttribute("class", `cell ${shade}${at.missed.length ? " bad" : ""}${n === chosen ? " chosen" : ""}`);
    cell.querySelector("text").textContent = label;
    cell.setAttribute("aria-label", `${one} × ${other}: ${at.shades[0][1]} % direct; ${data.cells[n].what}` +
      (at.missed.length ? "; misses its limit" : ""));
  });
  show(chosen);
}

// The figures of a pair.
function show(n) {
  const cell = data.cells[n], condition = chosenOf("condition"), at = cell.at[condition], [one, other] = names(n);
  by("pair").textContent = `${one} × ${other}`;
  by("verdict").textContent = `The oracle: ${cell.what}. Needed: ${cell.technique}. Here: ${data.conditions[condition]}.`;
  by("missed").hidden = at.missed.length === 0;
  by("missed").replaceChildren(...at.missed.map((text) => html("p", `Misses its limit: ${text}.`)));
  by("figures").replaceChildren(...at.rows.map(([name, value]) => {
    const row = document.createElement("tr");
    row.append(html("th", name), html("td", value));
    return row;
  }));
  by("replay").replaceChildren(...at.replay.split(/ (?=--)/).flatMap((part) => [html("span", part), " "]));
  for (let k = 0; k < width; k++) {
    by(`row${k}`).classList.toggle("on", k === Math.floor(n / width));
    by(`column${k}`).classList.toggle("on", k === n % width);
  }
}

// Chooses a pair for good: its diagram, and its name in the address, so that it can be passed on.
function choose(n, keep) {
  cells[chosen].classList.remove("chosen");
  cells[chosen].setAttribute("tabindex", "-1");
  chosen = n;
  cells[n].classList.add("chosen");
  cells[n].setAttribute("tabindex", "0");
  show(n);
  draw(n);
  if (keep) history.replaceState(null, "", "#" + names(n).map(encodeURIComponent).join("~"));
}

// Words broken into lines of at most so many characters.
function lines(text, most) {
  const out = [""];
  for (const word of text.split(" ")) {
    const last = out[out.length - 1];
    if (last && last.length + 1 + word.length > most) out.push(word);
    else out[out.length - 1] = last ? `${last} ${word}` : word;
  }
  return out;
}

const LANES = [86, 410, 734], WIDTH = 1060, LINE = 17, TOP = 42, ROOM = 44;

// Where each item stands: one below the other, however close in time.
function layout(story) {
  let y = TOP;
  return story.map((item) => {
    const text = item[0] === 2 ? [`… ${item[1]} more …`]
      : item[0] === 1 ? [data.words[item[3]]] : lines(data.words[item[3]], ROOM);
    // A packet's label stands on its line.
    const row = { item, text, time: item[2], y: (y += LINE + (item[0] === 1 ? 4 : 0)) };
    y += (text.length - 1) * LINE;
    row.end = y;
    return row;
  });
}

// Where a time stands: between what happened before and after it.
function height(rows, time) {
  const after = rows.findIndex((row) => row.time >= time);
  if (after < 0) return rows[rows.length - 1].end + LINE;
  if (after === 0 || rows[after].time === time) return rows[after].y;
  const [low, high] = [rows[after - 1], rows[after]];
  return low.end + (high.y - low.end) * (time - low.time) / (high.time - low.time);
}

function draw(n) {
  const cell = data.cells[n], [one, other] = names(n);
  by("run").textContent = `One run: the client behind ${one}, the server behind ${other}`;
  by("about").textContent = `${cell.about}. One-way delays: ${cell.delays}. Times in ms from the call; ` +
    "filled dots are events, open ones the protocol's steps, broken lines packets that do not arrive.";
  const rows = layout(cell.story);
  if (rows.length === 0) { by("lanes").replaceChildren(); return; }
  const ends = rows.filter(({ item }) => item[0] === 1 && item[4] >= 0).map(({ item }) => height(rows, item[4]));
  const bottom = Math.max(rows[rows.length - 1].end, ...ends) + 1.5 * LINE;
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${bottom}`, role: "img", "aria-label": "sequence diagram" });
  ["client", "relay", "server"].forEach((name, lane) => {
    picture.append(svg("text", { class: "head", x: LANES[lane], y: 20 }, name));
    picture.append(svg("line", { class: "lane", x1: LANES[lane], x2: LANES[lane], y1: 30, y2: bottom }));
  });
  const texts = [];
  let before = -1;
  for (const row of rows) {
    const { item, text, time, y } = row;
    if (time !== before) texts.push(svg("text", { class: "time", x: LANES[0] - 16, y: y + 4 }, (time / 100).toFixed(time % 100 ? 2 : 0)));
    before = time;
    if (item[0] === 0) said(picture, texts, row, LANES[item[1]]);
    else if (item[0] === 2) texts.push(svg("text", { class: "more", x: (LANES[0] + LANES[1]) / 2, y: y + 4 }, text[0]));
    else flight(picture, texts, row, rows);
  }
  picture.append(...texts);
  by("lanes").replaceChildren(picture);
}

function said(picture, texts, { item, text, y }, x) {
  picture.append(svg("circle", { class: item[4] ? "step" : "event", cx: x, cy: y, r: 4 }));
  text.forEach((line, k) => texts.push(svg("text", { class: item[4] ? "step" : "event", x: x + 11, y: y + 4 + k * LINE }, line)));
}

function flight(picture, texts, { item, text, y }, rows) {
  const from = LANES[Math.floor(item[1] / 3)], to = LANES[item[1] % 3], way = Math.sign(to - from), lost = item[4] < 0;
  const label = lost ? `${text[0]}: ${data.words[-item[4] - 1]}` : text[0];
  const place = { x: from + way * 9, y: y - 4, "text-anchor": way > 0 ? "start" : "end" };
  texts.push(svg("text", { class: lost ? "lost" : "packet", ...place }, label));
  if (lost) {
    const x = to - way * 40, low = y + 12;
    picture.append(svg("line", { class: "arrow lost", x1: from, y1: y, x2: x, y2: low }));
    picture.append(svg("path", { class: "cross", d: `M${x - 5} ${low - 5}l10 10m0 -10l-10 10` }));
    return;
  }
  const end = Math.max(height(rows, item[4]), y + 8), length = Math.hypot(to - from, end - y);
  const [ux, uy] = [(to - from) / length, (end - y) / length];
  picture.append(svg("line", { class: "arrow", x1: from, y1: y, x2: to - 8 * ux, y2: end - 8 * uy }));
  const [bx, by_] = [to - 10 * ux, end - 10 * uy];
  picture.append(svg("path", { class: "tip", d: `M${to} ${end}L${bx - 4 * uy} ${by_ + 4 * ux}L${bx + 4 * uy} ${by_ - 4 * ux}z` }));
}

heat.addEventListener("pointerover", (event) => {
  const cell = event.target.closest(".cell");
  if (cell) show(Number(cell.dataset.n));
});
heat.addEventListener("pointerleave", () => show(chosen));
heat.addEventListener("click", (event) => {
  const cell = event.target.closest(".cell");
  if (cell) choose(Number(cell.dataset.n), true);
});
heat.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  if (!step) return;
  event.preventDefault();
  const row = Math.floor(chosen / width) + step[0], column = chosen % width + step[1];
  if (row < 0 || column < 0 || row >= width || column >= width) return;
  choose(row * width + column, true);
  cells[chosen].focus();
});
document.querySelector(".controls").addEventListener("change", paint);

function fromAddress() {
  const pair = location.hash.slice(1).split("~").map((name) => data.kinds.indexOf(decodeURIComponent(name)));
  return pair.length === 2 && pair.every((kind) => kind >= 0) ? pair[0] * width + pair[1] : -1;
}
addEventListener("hashchange", () => { if (fromAddress() >= 0) choose(fromAddress(), false); });
const easy = Math.max(data.kinds.indexOf("easy"), 0);
choose(fromAddress() >= 0 ? fromAddress() : easy * width + easy, false);
paint();
