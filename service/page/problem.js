// Shows why there is no answer, and offers a retry.

import { make } from "./dom.js";
import { Problem } from "./service.js";

/** Show a problem in `place`, with a button if `again` is given; if `waits`, it presses itself after a while.
 *
 * Returns a function that cancels the wait.
 */
export function show(place, problem, { again = null, waits = false } = {}) {
  if (!(problem instanceof Problem)) throw problem;
  place.replaceChildren(make("strong", {}, problem.title), make("p", {}, problem.detail));
  if (!again) return () => {};
  const button = make("button", { class: "button", type: "button" }, "Try again");
  let timer = null;
  const callOff = () => clearInterval(timer);
  const press = () => {
    callOff();
    again();
  };
  button.addEventListener("click", press);
  if (waits && problem.retryAfter !== null) {
    place.append(make("p", {}, `Trying once more after ${seconds(problem.retryAfter)}.`));
    let left = problem.retryAfter;
    timer = setInterval(() => {
      left -= 1;
      if (left <= 0) press();
    }, 1000);
    button.textContent = "Try now";
  }
  place.append(button);
  return callOff;
}

/** Show no problem. */
export function clear(place) {
  place.replaceChildren();
}

function seconds(count) {
  return count === 1 ? "one second" : `${count} seconds`;
}
