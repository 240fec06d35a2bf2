// Makes elements, and text that is shown in several places.

/** Return an element with attributes (`class`, `title`, …; null omits one) and children (nodes or text). */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Return a bar that fills `share` (0…1) of its track. */
export function bar(share, kind) {
  const element = make("span", { class: `bar ${kind}`, "aria-hidden": "true" });
  // Not set as an attribute, because the page's policy allows no inline styles.
  element.style.inlineSize = `${Math.min(1, share) * 100}%`;
  return element;
}

export function percent(ratio) {
  return ratio > 0 && ratio < 0.0005 ? "< 0.1\u202f%" : `${(ratio * 100).toFixed(1)}\u202f%`;
}

export function milliseconds(value) {
  return `${value.toFixed(value < 100 ? 1 : 0)}\u202fms`;
}

export function megabytes(bytes) {
  return bytes < 100_000 ? `${Math.ceil(bytes / 1000)}\u202fkB` : `${(bytes / 1e6).toFixed(1)}\u202fMB`;
}
