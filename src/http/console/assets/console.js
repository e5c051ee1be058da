// The router of the console: one page for each URL fragment, redrawn when the fragment changes.
import { Unauthorized, ready, token } from "./api.js";
import { alertOf, el } from "./dom.js";
import { overview } from "./overview.js";
import { newStream } from "./new_stream.js";
import { stream } from "./stream.js";
import { streams } from "./streams.js";
import { tokens } from "./tokens.js";

const PAGES = [
  [/^#?\/?$/, overview],
  [/^#\/streams$/, streams],
  [/^#\/streams\/new$/, newStream],
  [/^#\/streams\/([^/]+)$/, stream],
  [/^#\/tokens$/, tokens],
];

let leave = () => {};

async function show() {
  leave();
  const view = document.getElementById("view");
  const place = location.hash;
  for (const link of document.querySelectorAll("nav a")) {
    const target = link.getAttribute("href");
    const here = target === "#/" ? place === "" || place === "#/" : place.startsWith(target);
    link.toggleAttribute("aria-current", here);
  }
  const found = PAGES.map(([pattern, page]) => [pattern.exec(place), page]).find(([match]) => match);
  const controller = new AbortController();
  leave = () => controller.abort();
  const draw = (...children) => {
    if (!controller.signal.aborted) view.replaceChildren(...children);
  };
  if (!found) return draw(el("p", "Page not found."));
  const [match, page] = found;
  try {
    await page({ draw, signal: controller.signal, parameters: match.slice(1).map(decodeURIComponent) });
  } catch (error) {
    draw(error instanceof Unauthorized ? login(error) : alertOf(error));
  }
}

function login(error) {
  const input = el("input", { type: "password", autocomplete: "off", required: true, name: "token" });
  const submit = (event) => {
    event.preventDefault();
    token.set(input.value.trim());
    show();
  };
  return el(
    "form",
    { onsubmit: submit },
    el("h1", "Sign in"),
    token.get() === "" ? null : alertOf(error),
    el("label", "Admin token", input),
    el("p.quiet", "Forebay prints it at its first start. It is kept in this tab until you close it."),
    el("button", "Sign in"),
  );
}

async function health() {
  const node = document.getElementById("health");
  const state = await ready();
  node.className = state.ready ? "good" : "bad";
  node.textContent = state.ready ? "ready" : `not ready: ${state.reason}`;
}

addEventListener("hashchange", show);
show();
health();
setInterval(health, 5000);
