// Shows the bundle's variants, and switches the active one.

import { make, megabytes, milliseconds, percent } from "./dom.js";
import * as service from "./service.js";
import { clear, show } from "./problem.js";

const at = (id) => document.getElementById(id);
const problem = at("variants-problem");

// Roomy columns are hidden on narrow screens.
const COLUMNS = [
  ["variant", null],
  ["precision", "roomy"],
  ["size", null],
  ["top-1", null],
  ["top-5", "roomy"],
  ["inference", null],
  ["state", "state"],
];

let list = null;
// Never stored, because it may be typed into someone else's browser.
let token = null;
let wanted = null;
// The switch in progress; the table may be redrawn during it.
let switching = null;
let callbacks = null;

/** Show the variants; calls `changed(list)` for each new list, and `locked()` if an API key is needed. */
export async function start({ changed, locked }) {
  callbacks = { changed, locked };
  at("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    token = at("token").value;
    closeForm();
    activate(wanted);
  });
  at("token-cancel").addEventListener("click", () => {
    closeForm();
    buttonOf(wanted)?.focus();
  });
  await refresh();
}

/** Fetch the variants again. */
export async function refresh() {
  clear(problem);
  try {
    take(await service.variants());
  } catch (error) {
    const locked = error.status === 401;
    // Before the user was asked for the key, its absence is not a problem.
    if (!locked || service.apiKey.get()) show(problem, error, { again: refresh });
    if (locked) callbacks.locked();
  }
}

function take(newList) {
  list = newList;
  const active = list.variants.find((variant) => variant.name === list.active);
  at("answering").replaceChildren(
    make("strong", {}, active.name),
    ` of ${list.bundle} answers: ${active.precision}, ${megabytes(active.bytes)}${inShort(active)}`,
  );
  at("variants").replaceChildren(table());
  at("notes").replaceChildren(...notes());
  callbacks.changed(list);
}

function reference(variant) {
  return variant.evaluations.find((evaluation) => evaluation.reference) ?? null;
}

function inShort(variant) {
  const evaluation = reference(variant);
  return evaluation ? `, top-1 ${percent(evaluation.top1.ratio)}` : "";
}

function table() {
  return make(
    "table",
    {},
    make("thead", {}, make("tr", {}, ...COLUMNS.map(([text, kind]) => make("th", { scope: "col", class: kind }, text)))),
    make("tbody", {}, ...list.variants.map(row)),
  );
}

function row(variant) {
  const top1 = reference(variant)?.top1;
  const top5 = reference(variant)?.top5;
  const interval = top1 && make("small", {}, ` ${(top1.lower * 100).toFixed(1)}–${(top1.upper * 100).toFixed(1)}`);
  return make(
    "tr",
    { class: variant.name === list.active ? "active" : null },
    make("th", { scope: "row" }, variant.name),
    make("td", { class: "roomy" }, variant.precision),
    make("td", { class: "number" }, megabytes(variant.bytes)),
    make("td", { class: "number" }, ...(top1 ? [percent(top1.ratio), interval] : ["–"])),
    make("td", { class: "number roomy" }, top5 ? percent(top5.ratio) : "–"),
    make("td", { class: "number" }, variant.latency ? milliseconds(variant.latency.p50_seconds * 1000) : "–"),
    make("td", { class: "state" }, ...state(variant)),
  );
}

function state(variant) {
  if (variant.name === list.active) return [make("span", { class: "tag" }, "active")];
  const loaded = variant.loaded ? [make("span", { class: "tag plain" }, "loaded")] : [];
  if (list.switchable !== true) return loaded;
  const text = variant.name === switching ? "Loading …" : "Switch";
  const button = make("button", { class: "button", type: "button", "data-variant": variant.name }, text);
  button.setAttribute("aria-label", `Switch to ${variant.name}`);
  button.disabled = switching !== null;
  button.addEventListener("click", () => ask(variant.name));
  return [...loaded, button];
}

function notes() {
  const lines = [howMeasured()];
  if (list.switchable !== true) {
    lines.push("This service has no admin token: EDGEWISE_VARIANT sets the active variant at startup.");
  }
  return [...lines.filter(Boolean).map((line) => make("p", {}, line)), ...howToLoadMore()];
}

function howMeasured() {
  const evaluation = list.variants.map(reference).find((found) => found !== null);
  if (!evaluation) return null;
  const { name, images } = evaluation.dataset;
  return (
    `Accuracy, with its 95\u202f% interval, was measured on ${images.toLocaleString("en")} photos of ${name}; `
    + "inference time, on one thread of the machine that built the bundle."
  );
}

function howToLoadMore() {
  const loaded = list.variants.filter((variant) => variant.loaded);
  const other = list.variants.find((variant) => !variant.loaded);
  if (loaded.length > 1 || !other) return [];
  const setting = `EDGEWISE_LOADED_VARIANTS=${other.name},${list.active}`;
  const line = ["To see two answers side by side, start the service with ", make("code", {}, setting), "."];
  return [make("p", {}, ...line)];
}

function buttonOf(name) {
  return document.querySelector(`[data-variant="${CSS.escape(name)}"]`);
}

function ask(name) {
  wanted = name;
  if (token) {
    activate(name);
    return;
  }
  at("token-label").textContent = `Admin token, to switch to ${name}`;
  at("token-form").hidden = false;
  at("token").focus();
}

function closeForm() {
  at("token").value = "";
  at("token-form").hidden = true;
}

async function activate(name) {
  clear(problem);
  switching = name;
  at("variants").replaceChildren(table());
  at("status").textContent = `Loading ${name}.`;
  try {
    const newList = await service.activate(name, token);
    switching = null;
    take(newList);
    at("status").textContent = `${name} is active.`;
    // The pressed button is gone.
    at("variants").focus();
  } catch (error) {
    switching = null;
    at("status").textContent = "";
    at("variants").replaceChildren(table());
    show(problem, error);
    if (error.status === 401 || error.status === 403) {
      token = null;
      ask(name);
    }
  }
}
