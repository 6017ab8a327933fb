"use strict";
// Only what is on the screen is in the document: a run may have a hundred thousand steps.
const data = JSON.parse(document.getElementById("data").textContent);
const ROW = 26, NUMBER = 66, TRACK = 24, GAP = 18, LAST = 265, BEFORE = 3, AFTER = 2, PAGE = 20;
const COLUMNS = 16, LISTED = 100; // of the busiest ports
const $ = (id) => document.getElementById(id);
const make = (tag, of = "", text = "") => {
  const made = document.createElement(tag);
  if (of) made.className = of;
  if (text) made.textContent = text;
  return made;
};
const text = (number) => data.strings[number];

// A run: columns of numbers, as Python wrote them.

class Run {
  constructor(raw) {
    Object.assign(this, raw);
    this.length = raw.actor.length;
    let ns = 0;
    this.ns = raw.ns.map((later) => (ns += later));
    this.from = new Map();
    this.to = new Map();
    for (const arrow of raw.arrows) {
      push(this.from, arrow[0], arrow);
      push(this.to, arrow[1], arrow);
    }
    this.lost = new Map(raw.lost);
    this.changed = new Map();
    this.history = data.tracks.map(() => []);
    for (const [at, track, state] of raw.changes) {
      push(this.changed, at, [track, state]);
      this.history[track].push([at, state]);
    }
    const busy = data.tracks.map((_, track) => track).filter((track) => this.history[track].length);
    busy.sort((a, b) => this.history[b].length - this.history[a].length);
    this.unlisted = Math.max(busy.length - LISTED, 0);
    this.listed = busy.slice(0, LISTED).sort(byName);
    this.tracks = busy.slice(0, Math.floor(COLUMNS / data.runs.length)).sort(byName);
  }
  state(track, at) {
    const history = this.history[track];
    let low = 0, high = history.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (history[middle][0] <= at) low = middle + 1; else high = middle;
    }
    return low ? text(history[low - 1][1]) : "";
  }
  mark(at) { return text(this.marks[at]); }
  what(at) { return text(this.whats[at]); }
  note(at) { return text(this.notes[at]); }
  said(at) { return [this.mark(at), this.what(at), this.note(at)].filter(Boolean).join(" "); }
}
const byName = (a, b) => data.tracks[a].localeCompare(data.tracks[b], "en", { numeric: true });
function push(map, key, value) { map.has(key) ? map.get(key).push(value) : map.set(key, [value]); }

const runs = data.runs.map((raw) => new Run(raw));
const main = runs[0], beside = runs[1], same = data.same;
const total = Math.max(...runs.map((run) => run.length));

// What is shown: step numbers, and -n for n that are folded behind the one before.

let rows = [], rowOf = new Int32Array(total), folding = true, unfolded = new Set();
function matters() {
  const keep = new Uint8Array(total);
  const around = (at, before, after) => {
    for (let i = Math.max(0, at - before); i <= Math.min(total - 1, at + after); i++) keep[i] = 1;
  };
  around(0, 0, AFTER); around(total - 1, BEFORE, 0);
  for (const run of runs) {
    for (let at = 0; at < run.length; at++) {
      if (at && run.actor[at] !== run.actor[at - 1]) around(at, BEFORE, AFTER - 1);
      if (run.marks[at]) around(at, BEFORE, AFTER);
    }
    for (const at of run.lost.keys()) keep[at] = 1;
    for (const arrow of run.arrows) { keep[arrow[0]] = 1; keep[arrow[1]] = 1; }
  }
  if (beside && same < total) around(same, BEFORE, AFTER);
  return keep;
}
const kept = matters();
function fold() {
  rows = [];
  let at = 0;
  while (at < total) {
    let end = at;
    while (end < total && !kept[end]) end++;
    if (folding && end - at > 1 && !unfolded.has(at)) {
      rows.push({ at, folded: end - at });
      rowOf.fill(rows.length - 1, at, end);
      at = end;
    } else {
      for (end = Math.max(end, at + 1); at < end; at++) { rowOf[at] = rows.length; rows.push({ at, folded: 0 }); }
    }
  }
  $("height").style.height = `${rows.length * ROW}px`;
}

// Where things are: lanes of the run, its tracks; then the same for the run beside it.

let columns = [], lane = [], place = [];
function lay() {
  const width = $("steps").clientWidth || 900;
  const tracks = runs.reduce((sum, run) => sum + run.tracks.length, 0);
  const wide = Math.max(220, (width - NUMBER - tracks * TRACK) / runs.length - GAP);
  const each = Math.max(60, (wide - LAST) / Math.max(data.actors.length - 1, 1));
  columns = []; lane = []; place = [];
  let x = NUMBER;
  runs.forEach((run, r) => {
    const begin = x;
    lane.push(data.actors.map((_, actor) => x + 14 + actor * each));
    x += Math.max(wide, (data.actors.length - 1) * each + LAST);
    const lanes = x;
    place.push(new Map(run.tracks.map((track, i) => [track, x + i * TRACK])));
    x += run.tracks.length * TRACK + GAP;
    columns.push({ begin, lanes, each });
  });
  const heads = $("heads");
  heads.replaceChildren();
  heads.style.minWidth = $("steps").style.minWidth = `${Math.min(x, 4000)}px`;
  runs.forEach((run, r) => {
    if (beside) {
      const name = make("span", "run", data.names[r]);
      name.style.left = `${columns[r].begin}px`;
      heads.append(name);
    }
    data.actors.forEach((actor, a) => {
      const head = make("span", "lane");
      head.style.left = `${lane[r][a] - 5}px`;
      head.style.maxWidth = `${columns[r].each - 8}px`;
      const dot = make("span", "dot");
      dot.style.background = colour(a);
      head.append(dot, actor);
      heads.append(head);
    });
    for (const track of run.tracks) {
      const head = make("span", "track", short(data.tracks[track]));
      head.style.left = `${place[r].get(track)}px`;
      head.style.width = `${TRACK}px`;
      head.title = data.tracks[track];
      heads.append(head);
    }
  });
}
const colour = (actor) => `var(--lane${actor % 4})`;
const short = (track) => track.replace(" port ", " ");

// Drawing.

let here = 0;
const markClass = { "↷": "deviation", "✗": "wrong", "»": "said", "⚡": "fault" };
const stateClass = (state) => {
  if (!state || state === "closed") return "none";
  const parts = ["pending", "masked"].filter((part) => state.includes(part));
  return parts.length ? parts.join(" ") : state === "clear" ? "clear" : "other";
};
const letters = (state) => [["pending", "P"], ["masked", "M"]].map(([part, l]) => (state.includes(part) ? l : "")).join("") || (state === "clear" ? "○" : state.slice(0, 1));

function draw() {
  const steps = $("steps");
  const first = Math.max(0, Math.floor(steps.scrollTop / ROW) - 5);
  const last = Math.min(rows.length, Math.ceil((steps.scrollTop + steps.clientHeight) / ROW) + 5);
  const made = document.createDocumentFragment();
  for (let index = first; index < last; index++) made.append(row(index));
  $("rows").replaceChildren(made);
  drawArrows(first, last);
  steps.setAttribute("aria-activedescendant", `step${rows[rowOf[here]].at}`);
}
function row(index) {
  const { at, folded } = rows[index];
  const made = make("div", "row");
  made.id = `step${at}`;
  made.dataset.at = at;
  made.style.top = `${index * ROW}px`;
  made.setAttribute("role", "option");
  made.setAttribute("aria-setsize", rows.length);
  made.setAttribute("aria-posinset", index + 1);
  const selected = rowOf[here] === index;
  made.setAttribute("aria-selected", selected);
  if (selected) made.classList.add("here");
  if (beside && at === same) made.classList.add("parting");
  made.append(make("span", "number", folded ? "⋮" : String(at)));
  const labels = [];
  runs.forEach((run, r) => {
    const quiet = r && at < same;
    const there = at < run.length;
    data.actors.forEach((_, actor) => {
      const life = make("span", "life");
      life.style.left = `${lane[r][actor]}px`;
      if (!quiet && there && run.actor[at] === actor) {
        life.classList.add("acts");
        life.style.background = colour(actor);
      }
      made.append(life);
    });
    for (const track of run.tracks) made.append(band(run, r, track, at, folded));
    if (there && !quiet) labels.push(step(made, run, r, at, folded));
  });
  made.setAttribute("aria-label", `step ${at}: ${labels.join("; beside it ")}`);
  return made;
}
function band(run, r, track, at, folded) {
  const state = at < run.length ? run.state(track, folded ? at + folded - 1 : at) : "";
  const made = make("span", `band ${stateClass(state)}`);
  made.style.left = `${place[r].get(track) + 2}px`;
  if (!folded && state && (run.changed.get(at) || []).some(([which]) => which === track)) {
    made.classList.add("turns");
    made.append(make("span", "", letters(state)));
    made.title = `${data.tracks[track]}: ${state}`;
  }
  return made;
}
function step(made, run, r, at, folded) {
  const actor = run.actor[at], x = lane[r][actor], mark = folded ? "" : run.mark(at);
  const sign = mark ? make("span", `mark ${markClass[mark] || ""}`, mark) : make("span", "node");
  sign.style.left = `${x}px`;
  if (!mark) sign.style.background = colour(actor);
  made.append(sign);
  const what = make("span", "what", folded ? `${folded.toLocaleString("en")} more` : run.what(at));
  if (folded) what.classList.add("folded");
  else if (mark) what.classList.add("strong");
  if (mark === "✗") made.classList.add("wrong");
  if (!folded && run.note(at)) what.append(make("small", "", `  ${run.note(at)}`));
  what.style.left = `${x + 10}px`;
  what.style.maxWidth = `${columns[r].lanes - x - 12}px`;
  made.append(what);
  return `${data.actors[actor]}, ${what.textContent}${mark ? `, ${meaning[mark] || mark}` : ""}`;
}
const meaning = { "↷": "here another one ran first", "✗": "here it went wrong", "»": "said by the program", "⚡": "a fault befell it here" };

function drawArrows(first, last) {
  const svg = $("arrows");
  svg.setAttribute("width", 1); svg.setAttribute("height", 1);
  const low = rows[first] ? rows[first].at : 0;
  const high = last < rows.length ? rows[last].at : total;
  const made = document.createDocumentFragment();
  runs.forEach((run, r) => {
    let drawn = 0;
    for (const [from, to, , kind] of run.arrows) {
      if (to < low || from > high || (r && from < same) || drawn > 300) continue;
      drawn++;
      const near = from === here || to === here;
      const [x, y] = [lane[r][run.actor[from]], (rowOf[from] + 0.5) * ROW];
      const [u, v] = [lane[r][run.actor[to]], (rowOf[to] + 0.5) * ROW];
      const side = Math.sign(x - u) || -1, tip = u + side * 6;
      const bend = x === u ? u - 16 : (x + u) / 2;
      made.append(path(`M${x} ${y}C${bend} ${y} ${bend} ${v} ${tip} ${v}`, `${kind ? "wake" : "demux"}${near ? " near" : ""}`, from, to));
      made.append(path(`M${tip + side * 6} ${v - 4}L${tip} ${v}L${tip + side * 6} ${v + 4}Z`, `head${near ? " near" : ""}`));
    }
  });
  runs.forEach((run, r) => {
    for (const [at, track] of run.lost) {
      if (at < low || at > high || (r && at < same)) continue;
      const owner = lane[r][data.actors.indexOf(data.tracks[track].split(" ")[0])];
      const x = lane[r][run.actor[at]], y = (rowOf[at] + 0.5) * ROW;
      const end = x + Math.sign((owner ?? x) - x || -1) * 44;
      made.append(path(`M${x} ${y}H${end}M${end - 5} ${y - 5}l10 10M${end + 5} ${y - 5}l-10 10`, "lost", at, ""));
    }
  });
  svg.replaceChildren(made);
}
function path(d, of, from, to) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", "path");
  made.setAttribute("d", d);
  made.setAttribute("class", of);
  if (from !== undefined) { made.dataset.from = from; made.dataset.to = to; }
  return made;
}

// The panel: the current step in words, and what state everything is in.

function tell() {
  const now = $("now");
  now.replaceChildren();
  runs.forEach((run, r) => {
    if (r && here < same) return;
    const part = make("section");
    const title = beside && here >= same ? `${data.names[r]}, step` : "Step";
    if (here >= run.length) {
      part.append(make("h3", "", `${data.names[r]}: over by now`));
    } else {
      part.append(make("h3", "", `${title} ${here.toLocaleString("en")} of ${(run.length - 1).toLocaleString("en")}, at ${time(run.ns[here])}`));
      part.append(said(run));
    }
    now.append(part);
  });
  states();
}
function said(run) {
  const part = document.createDocumentFragment();
  const step = make("p", "step");
  const mark = run.mark(here);
  if (mark) step.append(make("span", `mark ${markClass[mark] || ""}`, `${mark} `));
  step.append(`${data.actors[run.actor[here]]}: ${run.what(here)}`);
  part.append(step);
  const words = data.words[run.whats[here]];
  if (words) part.append(make("p", "", `${words}.`));
  if (run.note(here)) part.append(make("p", "note", run.note(here)));
  if (mark === "✗" && data.finding) part.append(make("p", "note", data.finding));
  if (mark && meaning[mark]) part.append(make("p", `mark ${markClass[mark]}`, `${mark} ${meaning[mark]}`));
  for (const [track, state] of run.changed.get(here) || []) part.append(make("p", "", `${data.tracks[track]} is ${text(state)} now.`));
  for (const arrow of run.from.get(here) || []) part.append(link(arrow, arrow[1], arrow[3] ? "woken" : "taken by a demux"));
  if (run.lost.has(here)) part.append(make("p", "", `${data.tracks[run.lost.get(here)]}: no demux takes it by the end of the run.`));
  for (const arrow of run.to.get(here) || []) part.append(link(arrow, arrow[0], arrow[3] ? "taken by its demux" : "sent"));
  return part;
}
function link(arrow, to, done) {
  const line = make("p", "", `${data.tracks[arrow[2]]}: ${done} `);
  const button = make("button", "", `at step ${to.toLocaleString("en")}`);
  button.type = "button";
  button.onclick = () => { go(to); $("steps").focus(); };
  line.append(button);
  return line;
}
const time = (ns) => {
  for (const [unit, size] of [["s", 1e9], ["ms", 1e6], ["µs", 1e3]]) if (ns >= size) return `${+(ns / size).toFixed(6)} ${unit}`;
  return `${ns} ns`;
};
function states() {
  const run = main;
  const body = $("states");
  if (!body.childElementCount) {
    for (const track of run.listed) {
      const line = make("tr");
      const name = make("td", "", data.tracks[track]);
      const canvas = make("canvas");
      canvas.width = 200; canvas.height = 28;
      canvas.setAttribute("aria-hidden", "true");
      const over = make("td", "over");
      over.append(canvas, make("span", "cursor"));
      line.append(name, make("td", "state"), over);
      body.append(line);
    }
  }
  $("unlisted").textContent = run.unlisted ? `and ${run.unlisted} that are quieter` : "";
  run.listed.forEach((track, i) => {
    const line = body.children[i];
    line.children[1].textContent = run.state(track, here) || "not bound";
    line.classList.toggle("turns", (run.changed.get(here) || []).some(([which]) => which === track));
    line.querySelector(".cursor").style.left = `${(here / Math.max(run.length, 1)) * 100}px`;
  });
}
function strips() {
  main.listed.forEach((track, i) => strip($("states").children[i].querySelector("canvas"), main, track));
}
function strip(canvas, run, track) {
  const pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
  const width = canvas.width, scale = width / Math.max(run.length, 1);
  pen.clearRect(0, 0, width, 28);
  const history = run.history[track];
  history.forEach(([at, state], i) => {
    const name = text(state), until = i + 1 < history.length ? history[i + 1][0] : run.length;
    if (name === "closed") return;
    const [top, high, tint] = name.includes("pending") ? [2, 24, "--pending"] : name.includes("masked") ? [8, 12, "--masked"] : [13, 2, "--soft"];
    pen.fillStyle = style.getPropertyValue(tint);
    pen.fillRect(at * scale, top, Math.max((until - at) * scale, 1), high);
  });
}

// Going about.

function go(at) {
  here = Math.max(0, Math.min(total - 1, at));
  if (!total) return;
  const steps = $("steps"), top = rowOf[here] * ROW;
  if (top < steps.scrollTop + 2 * ROW) steps.scrollTop = top - 2 * ROW;
  else if (top > steps.scrollTop + steps.clientHeight - 3 * ROW) steps.scrollTop = top - steps.clientHeight + 3 * ROW;
  draw();
  tell();
  clearTimeout(resting);
  resting = setTimeout(address, 200);
}
let resting = 0;
// The address names the step; browsers refuse to change it at every turn of a key held down.
const address = () => history.replaceState(null, "", `#step=${here}`);
const by = (count) => go(rows[Math.max(0, Math.min(rows.length - 1, rowOf[here] + count))].at);
function find(fits, forward) {
  for (let i = 1; i <= total; i++) {
    const at = (here + (forward ? i : total - i)) % total;
    if (runs.some((run, r) => at < run.length && !(r && at < same) && fits(run, at))) { show(at); return true; }
  }
  return false;
}
function show(at) {
  const shown = rows[rowOf[at]];
  if (shown.folded && shown.at !== at) unfold(shown.at);
  go(at);
}
function unfold(at) { unfolded.add(at); fold(); }
const marked = (run, at) => run.marks[at] !== 0;
let wanted = "";
const hit = (run, at) => `${data.actors[run.actor[at]]} ${run.said(at)}`.toLowerCase().includes(wanted);
function along() {
  const shown = rows[rowOf[here]];
  if (shown.folded) { unfold(shown.at); go(here); return; }
  for (const run of runs) for (const arrow of run.from.get(here) || []) { show(arrow[1]); return; }
}
function back() {
  for (const run of runs) for (const arrow of run.to.get(here) || []) { show(arrow[0]); return; }
}
function openSearch() {
  $("search").hidden = false;
  $("wanted").focus();
  $("wanted").select();
}
function closeSearch() { $("search").hidden = true; $("steps").focus(); }

const keys = {
  ArrowDown: () => by(1), ArrowRight: () => by(1), j: () => by(1),
  ArrowUp: () => by(-1), ArrowLeft: () => by(-1), k: () => by(-1),
  PageDown: () => by(PAGE), PageUp: () => by(-PAGE),
  Home: () => go(0), End: () => go(rows[rows.length - 1].at),
  m: () => find(marked, true), M: () => find(marked, false),
  Enter: along, Backspace: back,
  f: () => { folding = !folding; unfolded.clear(); fold(); go(here); },
  "/": openSearch,
  n: () => wanted && find(hit, true), N: () => wanted && find(hit, false),
  "?": () => $("help").showModal(),
};
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || $("help").open) return;
  if (event.target.tagName === "INPUT") { if (event.key === "Escape") closeSearch(); return; }
  if (event.target.tagName === "BUTTON" && event.key === "Enter") return;
  const act = keys[event.key];
  if (act && total) { event.preventDefault(); act(); }
});
$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  wanted = $("wanted").value.toLowerCase();
  if (!wanted) return closeSearch();
  const found = find(hit, true);
  $("hits").textContent = found ? "" : "nothing found";
  if (found) closeSearch();
});
$("rows").addEventListener("click", (event) => {
  const row = event.target.closest(".row");
  if (row) { const at = Number(row.dataset.at); if (rows[rowOf[at]].folded) unfold(at); go(at); }
});
let waiting = false;
$("steps").addEventListener("scroll", () => {
  if (!waiting) { waiting = true; requestAnimationFrame(() => { waiting = false; draw(); }); }
});
addEventListener("resize", () => { lay(); draw(); });

if (total) {
  fold();
  lay();
  const asked = /^#step=(\d+)$/.exec(location.hash);
  const wrong = main.marks.map((mark, at) => (text(mark) === "✗" ? at : -1)).filter((at) => at >= 0);
  show(asked ? Math.min(Number(asked[1]), total - 1) : wrong.length ? wrong[0] : 0);
  $("steps").focus();
  strips();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", strips);
} else {
  $("rows").textContent = "Nothing happened in this run.";
}
