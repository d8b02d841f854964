// Building the page. What comes from outside only ever becomes a text node: cleaned, bounded, and isolated from the text around it.

const SVG = "http://www.w3.org/2000/svg";

/** An element. Functions named on... become listeners; null and false are left out. */
export const h = (tag, props, ...children) => fill(document.createElement(tag), props, children);
/** The same for a picture. */
export const s = (tag, props, ...children) => fill(document.createElementNS(SVG, tag), props, children);

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value == null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(2).filter((child) => child != null && child !== false));
  return node;
}

/** An icon of the sheet in index.html. */
export const icon = (name) =>
  s("svg", { class: "icon", "aria-hidden": "true" }, s("use", { href: `#${name}` }));

/** Text from outside on one line: without invisible and direction-changing characters, without towers of accents, bounded. */
export function clean(text, most = 48) {
  // Cut first, so that a name of megabytes costs nothing.
  const plain = String(text ?? "")
    .slice(0, most * 8)
    .replace(/[\p{C}\p{Z}\s]+/gu, " ")
    .replace(/(\p{M}{2})\p{M}+/gu, "$1")
    .trim();
  const letters = Array.from(plain);
  return letters.length > most ? `${letters.slice(0, most - 1).join("").trimEnd()}…` : plain;
}

/** Addresses and ids in it by both ends; what is signed shows them whole. */
export const brief = (text) => String(text ?? "").slice(0, 4000).replace(/0x[0-9a-f]{40,64}/gi, (id) => `${id.slice(0, 8)}…${id.slice(-6)}`);

/** The same as an element of its own direction; more of it when pointed at. */
export function outside(text, most = 48, whole = text) {
  const short = clean(text, most);
  return h("bdi", { title: short.includes("…") ? clean(whole, 400) : null }, short || "without a name");
}

/** A list, whatever came. */
export const list = (value) => (Array.isArray(value) ? value.filter((one) => one != null) : []);

const drawn = new Map();

/** Fills a place of the page, only where its facts changed; what had the focus keeps it. */
export function draw(id, facts, build) {
  // BigInt has no JSON of its own.
  const told = JSON.stringify(facts, (_, value) => (typeof value === "bigint" ? `${value}` : value));
  if (drawn.get(id) === told) return;
  drawn.set(id, told);
  const place = document.getElementById(id);
  const active = place.contains(document.activeElement) ? document.activeElement : null;
  place.replaceChildren(...[build()].flat(2).filter(Boolean));
  if (active) focusOn(active.dataset.key, place);
}

/** Gives the focus to what has this key, else to the section that it was in. */
export function focusOn(key, place = document.body) {
  const again = key && place.querySelector(`[data-key="${CSS.escape(key)}"]:not(:disabled)`);
  (again || place.closest("section"))?.focus({ preventScroll: true });
}

/** A button; its key finds it again after a redraw. */
export const button = (key, kind, text, onclick, props) =>
  h("button", { type: "button", class: kind, "data-key": key, onclick, ...props }, text);

/** Copies what is too long to type. */
export function copy(text, what) {
  // Only where the page came over https or from this machine.
  if (!navigator.clipboard) return null;
  const copied = async ({ currentTarget }) => {
    await navigator.clipboard.writeText(text);
    currentTarget.replaceChildren(icon("i-done"));
    say(`${what} copied.`);
    setTimeout(() => currentTarget.replaceChildren(icon("i-copy")), 2000);
  };
  return button(`copy:${text}`, "quiet square", icon("i-copy"), copied, { "aria-label": `Copy ${what}` });
}

/** Told to a screen reader, shown nowhere. */
export function say(text) {
  document.getElementById("said").textContent = text;
}
