// Amounts and times as text. Amounts are counted in whole units (millionths of a USDC) as BigInt and are never floating-point numbers.

import { h } from "./dom.js";

const USDC = 6;
export const POL = 18;

/** Units of a decimal string; null where it is none, since what is not known must not look like zero. */
export function units(text, places = USDC) {
  const found = /^(\d{1,18})(?:\.(\d{0,18}))?$/.exec(String(text ?? ""));
  const fraction = found?.[2] ?? "";
  return found && fraction.length <= places ? BigInt(found[1] + fraction.padEnd(places, "0")) : null;
}

/** The sum of those that are known. */
export const sum = (amounts) => amounts.reduce((all, one) => all + (one ?? 0n), 0n);
/** Never below zero. */
export const minus = (a, b) => (a > b ? a - b : 0n);
/** How much of the whole, from 0 to 1, for lengths on the screen and for nothing else. */
export function share(part, whole) {
  if (!whole || !part) return 0;
  return Number((part < whole ? part : whole) * 10_000n / whole) / 10_000;
}

/** All digits. */
export function full(value, places = USDC) {
  const digits = value.toString().padStart(places + 1, "0");
  return `${digits.slice(0, -places)}.${digits.slice(-places)}`;
}

/** Rounded for the eye: two places, and of what is small its first two digits. */
export function short(value, places = USDC) {
  const zeros = places - value.toString().length;
  const shown = value === 0n ? 2 : Math.min(places, Math.max(2, zeros + 2));
  const unit = 10n ** BigInt(places - shown);
  const [whole, fraction] = full((value + unit / 2n) / unit * unit, places).split(".");
  return `${whole.replace(/\B(?=(\d{3})+$)/g, ",")}.${fraction.slice(0, 2)}${fraction.slice(2).replace(/0+$/, "")}`;
}

/** Rounded, as running text. */
export const usd = (value) => (value == null ? "not known" : `$${short(value)}`);

/** Rounded, with all digits when pointed at. The fraction stands apart so that columns align at the point. */
export function money(value) {
  if (value == null) return h("span", { class: "none", title: "Not known yet" }, "–");
  const [whole, fraction] = usd(value).split(".");
  return h("data", { class: "amount", value: full(value), title: `${full(value)} USDC` },
    h("span", null, whole), h("span", { class: "fraction" }, `.${fraction}`));
}

let skew = 0;
/** Unix seconds by the server's clock, which may not be this one's. */
export const now = () => Date.now() / 1000 + skew;
export function setClock(seconds) {
  // Told in whole seconds: taken only where it says something new, else each document would shake all clocks.
  const told = seconds + 0.5 - Date.now() / 1000;
  if (Math.abs(told - skew) > 1) skew = told;
}

const format = (options) => {
  const made = new Intl.DateTimeFormat("en-GB", options);
  return (seconds) => (Number.isFinite(seconds) ? made.format(seconds * 1000) : "not known");
};
export const clockTime = format({ hour: "2-digit", minute: "2-digit" });
export const moment = format({ day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" });
export const whole = format({ dateStyle: "medium", timeStyle: "long" });
/** Days of the record are UTC. */
export const day = format({ day: "numeric", month: "short", timeZone: "UTC" });

/** Seconds for people, the two largest parts. */
export function duration(seconds) {
  const left = Math.max(0, Math.floor(seconds));
  const part = (size, within) => Math.floor(left % within / size);
  const [d, hours, m] = [Math.floor(left / 86_400), part(3600, 86_400), part(60, 3600)];
  if (d) return `${d} d ${hours} h`;
  if (hours) return `${hours} h ${String(m).padStart(2, "0")} min`;
  return m ? `${m} min ${String(left % 60).padStart(2, "0")} s` : `${left} s`;
}

/** A time to come, counted down; what to say afterwards. */
export const until = (at, over) => ticking(at, { "data-until": at, "data-over": over });
/** A time that was, counted up. */
export const since = (at) => ticking(at, { "data-since": at });

function ticking(at, props) {
  const node = h("time", { ...props, title: whole(at) });
  tick(node);
  return node;
}

function tick(node) {
  const { until: end, since: start, over } = node.dataset;
  const text = start ? `${duration(now() - start)} ago` : end > now() ? duration(end - now()) : over;
  if (node.textContent !== text) node.textContent = text;
}

/** Moves all clocks of the page. */
export function tickAll() {
  document.querySelectorAll("time[data-until], time[data-since]").forEach(tick);
}
