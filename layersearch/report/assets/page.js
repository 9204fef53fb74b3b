// The page of a study: what a trial is, beside the pointer. Without it every picture and table is there all the same.
"use strict";

const REACH = 30; // pixels within which the nearest mark is meant
const trials = new Map(JSON.parse(document.getElementById("trials").textContent).map((trial) => [trial.number, trial]));
const tip = document.getElementById("tip");
let pinned = null;

function place(mark) {
  return [Number(mark.dataset.x ?? mark.getAttribute("cx")), Number(mark.dataset.y ?? mark.getAttribute("cy"))];
}

function seen(mark) {
  const group = mark.closest("g");
  return group === null || group.getAttribute("display") !== "none";
}

function nearest(chart, event) {
  const row = event.target.closest(".map-row");
  if (row) return row;
  const box = chart.getBoundingClientRect();
  const scale = chart.viewBox.baseVal.width / box.width;
  const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
  let best = null, least = (REACH * scale) ** 2;
  for (const mark of chart.querySelectorAll("circle[data-trial], path[data-trial]")) {
    if (!seen(mark)) continue;
    const [markX, markY] = place(mark);
    const away = (markX - x) ** 2 + (markY - y) ** 2;
    if (away <= least) [best, least] = [mark, away];
  }
  return best;
}

function element(name, words, className = "") {
  const made = document.createElement(name);
  made.textContent = words;
  made.className = className;
  return made;
}

function show(mark) {
  hide();
  const trial = trials.get(Number(mark.dataset.trial));
  if (!trial) return;
  const list = document.createElement("dl");
  for (const [name, words] of trial.facts) {
    list.append(element("dt", name), element("dd", words, name === "layers" ? "layers" : ""));
  }
  tip.append(list);
  if (trial.command) tip.append(element("code", trial.command, "command"));
  mark.classList.add("chosen");
  tip.hidden = false;
  const box = mark.getBoundingClientRect();
  const room = document.documentElement.clientWidth;
  const left = Math.max(8, Math.min(box.right + 14, room - tip.offsetWidth - 8));
  const below = box.bottom + 14, above = box.top - tip.offsetHeight - 14;
  const top = below + tip.offsetHeight > window.innerHeight && above > 0 ? above : below;
  tip.style.left = `${left + window.scrollX}px`;
  tip.style.top = `${top + window.scrollY}px`;
}

function hide() {
  for (const mark of document.querySelectorAll(".chosen")) mark.classList.remove("chosen");
  tip.replaceChildren();
  tip.hidden = true;
  pinned = null;
}

function pin(mark) {
  show(mark);
  pinned = mark;
  const { command } = trials.get(Number(mark.dataset.trial)) ?? {};
  if (!command || !navigator.clipboard) return;
  const button = element("button", "copy the command");
  button.addEventListener("click", () => {
    navigator.clipboard.writeText(command).then(
      () => { button.textContent = "copied"; },
      () => { button.textContent = "select it by hand: the browser does not copy here"; },
    );
  });
  tip.append(button);
}

for (const chart of document.querySelectorAll("svg.chart")) {
  chart.addEventListener("mousemove", (event) => {
    if (pinned) return;
    const mark = nearest(chart, event);
    if (mark) show(mark); else hide();
  });
  chart.addEventListener("mouseleave", () => { if (!pinned) hide(); });
  chart.addEventListener("click", (event) => {
    const mark = nearest(chart, event);
    if (mark) pin(mark); else hide();
    event.stopPropagation();
  });
}
tip.addEventListener("click", (event) => event.stopPropagation());
document.addEventListener("click", hide);
document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });

for (const box of document.querySelectorAll(".legend input")) {
  const part = document.querySelector(`.${box.value}`);
  box.addEventListener("change", () => part?.setAttribute("display", box.checked ? "inline" : "none"));
}

// page.html#trial-12 opens with trial 12 chosen
function fromAddress() {
  const number = location.hash.match(/^#trial-(\d+)$/)?.[1];
  const mark = number && [...document.querySelectorAll(`.chart [data-trial="${number}"]`)].find(seen);
  if (!mark) return;
  mark.scrollIntoView({ block: "center" });
  pin(mark);
}
window.addEventListener("hashchange", fromAddress);
fromAddress();
document.documentElement.dataset.ready = Math.round(performance.now()); // milliseconds, for whoever times it
