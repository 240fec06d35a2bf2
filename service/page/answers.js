// Shows answers: one with its bars, or two side by side; and the time of each stage.

import { bar, make, milliseconds, percent } from "./dom.js";

const STAGES = ["read", "queue", "decode", "inference"];
const REST = "network and the rest";

/** Return one answer as elements for the page. */
export function single(answer) {
  const [top] = answer.predictions;
  return [
    make("p", { class: "top" }, top.label, answer.uncertain ? uncertain() : null),
    make(
      "ol",
      { class: "classes", "aria-label": "Most probable classes" },
      ...answer.predictions.map((prediction) =>
        make(
          "li",
          { title: prediction.class_id },
          name(prediction),
          make("span", { class: "number" }, percent(prediction.probability)),
          make("span", { class: "track" }, bar(prediction.probability, "first")),
        ),
      ),
    ),
    times(answer, answer.roundTrip),
  ];
}

/** Return two answers to the same photo as elements for the page: a row for each class that either names. */
export function sideBySide(first, second) {
  const head = ["class", first.variant, second.variant, "difference"];
  const longest = Math.max(first.roundTrip, second.roundTrip);
  return [
    make("p", { class: "summary" }, ...summary(first, second)),
    make(
      "table",
      { class: "compared" },
      make("caption", { class: "unseen" }, `The answers of ${first.variant} and ${second.variant}`),
      make("thead", {}, make("tr", {}, ...head.map((text) => make("th", { scope: "col" }, text)))),
      make("tbody", {}, ...union(first, second).map((prediction) => row(prediction, first, second))),
    ),
    make("div", { class: "pair" }, times(first, longest), times(second, longest)),
  ];
}

/** Return the answers in one line, for screen readers. */
export function spoken(answers) {
  return answers
    .map((answer) => {
      const [top] = answer.predictions;
      const doubt = answer.uncertain ? ", uncertain" : "";
      return `${answer.variant}: ${top.label}, ${percent(top.probability)}${doubt}.`;
    })
    .join(" ");
}

function name(prediction) {
  const id = prediction.class_id;
  return make("span", { class: "name" }, prediction.label, id === null ? null : make("small", {}, ` ${id}`));
}

function uncertain() {
  return make("span", { class: "tag" }, "uncertain");
}

function find(answer, index) {
  return answer.predictions.find((prediction) => prediction.index === index);
}

function union(first, second) {
  const others = second.predictions.filter((prediction) => !find(first, prediction.index));
  return [...first.predictions, ...others];
}

function summary(first, second) {
  const [one, two] = [first.predictions[0], second.predictions[0]];
  const doubt = (answer) => (answer.uncertain ? [" ", uncertain()] : []);
  if (one.index === two.index) {
    return [make("strong", {}, one.label), ...doubt(first), ": both agree."];
  }
  return [
    `${first.variant} says `, make("strong", {}, one.label), ...doubt(first),
    `, ${second.variant} says `, make("strong", {}, two.label), ...doubt(second), ".",
  ];
}

function row(prediction, first, second) {
  const [one, two] = [find(first, prediction.index), find(second, prediction.index)];
  return make(
    "tr",
    { title: prediction.class_id },
    make("th", { scope: "row" }, name(prediction)),
    cell(first, one, "first"),
    cell(second, two, "second"),
    make("td", { class: "number difference" }, one && two ? points(two.probability - one.probability) : "–"),
  );
}

function cell(answer, prediction, kind) {
  const rank = answer.predictions.indexOf(prediction);
  if (rank < 0) {
    // It is at most as probable as the last class that the answer names.
    const last = answer.predictions.at(-1).probability;
    return make("td", { class: "number muted" }, `\u2264\u202f${percent(last)}`);
  }
  return make(
    "td",
    { class: rank === 0 ? "number best" : "number" },
    percent(prediction.probability),
    make("span", { class: "track" }, bar(prediction.probability, kind)),
  );
}

/** Return a difference of probabilities in percentage points, with its sign. */
function points(difference) {
  const text = Math.abs(difference * 100).toFixed(1);
  if (text === "0.0") return text;
  return `${difference > 0 ? "+" : "\u2212"}${text}`;
}

function times(answer, longest) {
  const stages = STAGES.map((stage) => [stage, stage, answer.timing_ms[stage]]);
  const served = stages.reduce((sum, [, , took]) => sum + took, 0);
  stages.push(["rest", REST, Math.max(0, answer.roundTrip - served)]);
  return make(
    "div",
    { class: "times" },
    make(
      "p",
      { class: "by" },
      make("strong", {}, answer.variant),
      make("span", {}, "answered in ", make("strong", {}, milliseconds(answer.roundTrip))),
    ),
    make("div", { class: "track stack" }, ...stages.map(([key, , took]) => bar(took / longest, key))),
    make(
      "ul",
      { "aria-label": "Time of each stage" },
      ...stages.map(([key, text, took]) =>
        make(
          "li",
          {},
          make("span", { class: `dot ${key}`, "aria-hidden": "true" }),
          `${text} `,
          make("span", { class: "number" }, milliseconds(took)),
        ),
      ),
    ),
  );
}
