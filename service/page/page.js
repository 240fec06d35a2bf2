// The page: takes a photo, asks the service, shows the answer. The latest photo wins.

import * as answers from "./answers.js";
import { make, megabytes } from "./dom.js";
import { clear, show } from "./problem.js";
import * as service from "./service.js";
import * as variants from "./variants.js";

const at = (id) => document.getElementById(id);

let file = null;
let active = null;
let loaded = [];
let answeredBy = null;
let running = new AbortController();
let callOffRetry = () => {};

// A faster answer should not make the page flicker.
const LONG_MS = 500;

/** Take the first of the files. */
function take([photo, ...others]) {
  file = photo;
  const left = others.length ? `, the first of ${others.length + 1} files: the page takes one at a time` : "";
  at("file").textContent = `${photo.name}, ${megabytes(photo.size)}${left}`;
  at("file").hidden = false;
  look(photo);
  classify();
}

function look(photo) {
  const url = URL.createObjectURL(photo);
  const image = new Image();
  image.onload = () => {
    URL.revokeObjectURL(url);
    if (photo === file) framed(image);
  };
  image.onerror = () => {
    URL.revokeObjectURL(url);
    if (photo === file) framed(null);
  };
  image.src = url;
}

function framed(image) {
  at("invitation").hidden = image !== null;
  if (image === null) {
    at("photo").hidden = true;
    at("invitation-text").textContent = "This browser can't show the file";
    return;
  }
  image.id = "photo";
  image.alt = "The chosen photo";
  at("photo").replaceWith(image);
}

async function classify({ retried = false } = {}) {
  if (file === null) return;
  running.abort();
  callOffRetry();
  running = new AbortController();
  const { signal } = running;
  clear(at("problem"));
  at("key-form").hidden = true;
  at("answer").setAttribute("aria-busy", "true");
  at("status").textContent = "Classifying the photo.";
  const timer = setTimeout(waiting, LONG_MS);
  try {
    // One after the other, because concurrent requests would slow each other down.
    const found = [];
    for (const variant of chosen()) found.push(await service.classify(file, variant, signal));
    if (signal.aborted) return;
    answered(found);
  } catch (error) {
    if (signal.aborted) return;
    failed(error, retried);
  } finally {
    clearTimeout(timer);
    if (running.signal === signal) {
      at("answer").removeAttribute("aria-busy");
      at("waiting").hidden = true;
    }
  }
}

function waiting() {
  at("waiting").hidden = false;
  reveal();
}

/** On a phone the answer is below the photo. */
function reveal() {
  at("answer").scrollIntoView({ block: "nearest" });
}

function chosen() {
  const [first, second] = [at("first").value, at("second").value];
  return second ? [first, second] : [first];
}

function answered(found) {
  const [first, second] = found;
  // A problem with something refused in the meantime.
  clear(at("problem"));
  at("result").replaceChildren(...(second ? answers.sideBySide(first, second) : answers.single(first)));
  reveal();
  document.querySelector("main").classList.toggle("comparing", second !== undefined);
  at("status").textContent = answers.spoken(found);
  answeredBy = first.variant;
  // Someone else may have switched the active variant.
  if (at("first").value === "" && answeredBy !== active) variants.refresh();
}

function failed(error, retried) {
  at("result").replaceChildren();
  at("status").textContent = "";
  if (error.status === 401) {
    show(at("problem"), error);
    askForKey();
    return;
  }
  // Someone else switched, and a variant offered here is no longer loaded.
  const stale = error.status === 409;
  if (stale) variants.refresh();
  const waits = error.status === 429 && !retried;
  const again = stale || [0, 408, 429].includes(error.status) || error.status >= 500;
  callOffRetry = show(at("problem"), error, { waits, again: again ? () => classify({ retried: waits }) : null });
  reveal();
}

function askForKey() {
  at("key-form").hidden = false;
  at("key").focus();
}

function refuse(title, detail) {
  // The problem that announces a retry is replaced, so the retry must not happen.
  callOffRetry();
  at("problem").replaceChildren(make("strong", {}, title), make("p", {}, detail));
}

function offer(list) {
  const before = active;
  active = list.active;
  loaded = list.variants.filter((variant) => variant.loaded).map((variant) => variant.name);
  fill(at("first"), [["", `${active} (active)`], ...loaded.filter((name) => name !== active).map(twice)]);
  offerBeside();
  at("choice").hidden = loaded.length < 2;
  // Only after a switch: under load, a variant other than the active one can answer too.
  const switched = before !== null && before !== active;
  if (at("first").value === "" && switched && answeredBy !== null && answeredBy !== active) classify();
}

function offerBeside() {
  // Comparing a variant with itself shows nothing new.
  const by = at("first").value || active;
  fill(at("second"), [["", "none"], ...loaded.filter((name) => name !== by).map(twice)]);
}

function twice(name) {
  return [name, name];
}

function fill(select, options) {
  const before = select.value;
  select.replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
  if (options.some(([value]) => value === before)) select.value = before;
}

for (const input of [at("pick"), at("take")]) {
  input.addEventListener("change", () => {
    if (input.files.length) take(input.files);
    // Lets the same file be chosen again.
    input.value = "";
  });
}

document.addEventListener("dragover", (event) => {
  event.preventDefault();
  at("frame").classList.add("target");
});
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) at("frame").classList.remove("target");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  at("frame").classList.remove("target");
  const { files } = event.dataTransfer;
  if (files.length) take(files);
  else refuse("That was not a file", "Save the picture first, then drop its file here.");
});
document.addEventListener("paste", (event) => {
  if (event.target.closest("input:not([type=file])")) return;
  const { files } = event.clipboardData;
  if (files.length) take(files);
  else refuse("There is no picture on the clipboard", "Copy one, then paste it here.");
});

at("first").addEventListener("change", () => {
  offerBeside();
  classify();
});
at("second").addEventListener("change", () => classify());
at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  service.apiKey.set(at("key").value);
  at("key").value = "";
  at("key-form").hidden = true;
  variants.refresh();
  classify();
});

variants.start({ changed: offer, locked: askForKey });
