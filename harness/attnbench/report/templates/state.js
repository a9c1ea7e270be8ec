// The page's state is stored in the URL's hash, so that opening a copied link shows the same view.
"use strict";
const FILTERS = ["device", "direction", "mask", "dtype", "mode"];

const state = new URLSearchParams(location.hash.slice(1));
const listeners = [];

function getState(name, fallback) {
  return state.has(name) ? state.get(name) : fallback;
}

function setState(changes) {
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "") state.delete(name);
    else state.set(name, value);
  }
  const text = state.toString();
  history.replaceState(null, "", text ? "#" + text : location.pathname + location.search);
  announce();
}

function announce() {
  for (const listener of listeners) listener();
}

window.addEventListener("hashchange", () => {
  const changed = new URLSearchParams(location.hash.slice(1));
  for (const name of [...state.keys()]) state.delete(name);
  for (const [name, value] of changed) state.set(name, value);
  announce();
});

function hidden() {
  return new Set(getState("hide", "").split(",").filter(Boolean).map(decodeURIComponent));
}

// Builds a DOM element. Untrusted text is added only as text nodes, never as innerHTML.
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined).map((child) => child instanceof Node ? child : String(child)));
  return made;
}
