// The chart of what was spent: bars, an axis, and a value under the pointer or the arrow keys.

import { h, s } from "./dom.js";
import { clockTime, day, full, share, short } from "./figures.js";

const HEIGHT = 250;
const EMPTY = 110;
const TOP = 28;
const BOTTOM = 24;

const KINDS = {
  hours: { every: 4, label: (at) => clockTime(at), span: (at) => `${clockTime(at)} to ${clockTime(at + 3600)}`, what: "Spent by hour" },
  days: { every: 7, label: (at) => day(at), span: (at) => `${day(at)} (UTC)`, what: "Spent by day" },
};

/** The label of one bar. */
export const spanOf = (kind, at) => KINDS[kind].span(at);

/** A round step of which at most four reach the highest. */
function step(highest) {
  for (let ten = 1n; ; ten *= 10n) {
    for (const one of [1n, 2n, 5n]) if (one * ten * 4n >= highest) return one * ten;
  }
}

/** A chart in this place; gives what shows other points in it. */
export function chart(place) {
  let kind = "hours";
  let points = [];
  let chosen = null;
  const told = h("output", { class: "told", "aria-hidden": "true" });
  const picture = s("svg", { "aria-hidden": "true" });
  // Screen readers read a slider's text while the arrow keys move it: that is all that a walk through bars needs.
  const walk = h("div", { class: "walk", role: "slider", tabindex: 0, "aria-orientation": "horizontal", "aria-valuemin": 0 }, picture, told);
  place.replaceChildren(walk);

  function paint() {
    const width = Math.max(240, place.clientWidth);
    const highest = points.reduce((most, one) => (one.charged > most ? one.charged : most), 0n);
    const height = highest ? HEIGHT : EMPTY;
    const size = step(highest || 1n);
    const top = highest ? (highest + size - 1n) / size * size : 4n;
    const ticks = [];
    for (let tick = 0n; highest && tick <= top; tick += size) ticks.push(tick);
    const names = ticks.map((tick) => `$${short(tick)}`);
    const left = highest ? 12 + 7.2 * Math.max(...names.map((name) => name.length)) : 0;
    const high = height - TOP - BOTTOM;
    const slot = (width - left) / (points.length || 1);
    const y = (value) => TOP + high * (1 - share(value, top));
    const x = (index) => left + slot * index;

    const axis = ticks.map((tick, index) => [
      s("line", { class: index ? "grid" : "base", x1: left, x2: width, y1: y(tick), y2: y(tick) }),
      s("text", { x: left - 10, y: y(tick) + 4, "text-anchor": "end" }, names[index]),
    ]);
    if (!highest) {
      axis.push(s("line", { class: "base", x1: left, x2: width, y1: y(0n), y2: y(0n) }),
        s("text", { x: left, y: TOP + 20 }, `Nothing was spent in ${kind === "hours" ? "24 hours" : "30 days"}.`));
    }
    const thick = Math.min(28, slot * 0.64);
    const bars = points.map(({ charged }, index) => {
      const tall = charged ? Math.max(2, y(0n) - y(charged)) : 0;
      const now = index === points.length - 1;
      return s("rect", { class: `bar-one${now ? " so-far" : ""}${index === chosen ? " chosen" : ""}`, rx: Math.min(2, tall / 2),
        x: x(index) + (slot - thick) / 2, y: y(0n) - tall, width: thick, height: tall });
    });
    // Counted from the right, so that now is always named; fewer where there is little room.
    const every = KINDS[kind].every * (width < 520 ? 2 : 1);
    const labels = points.map(({ at }, index) => {
      const before = points.length - 1 - index;
      if (before % every) return null;
      // The last one would stick out on the right, were it in the middle of its bar.
      const place = before ? { x: x(index) + slot / 2, "text-anchor": "middle" } : { x: width, "text-anchor": "end" };
      return s("text", { ...place, y: height - 6 }, KINDS[kind].label(at));
    });
    const line = chosen === null ? null
      : s("line", { class: "here", x1: x(chosen) + slot / 2, x2: x(chosen) + slot / 2, y1: TOP - 4, y2: y(0n) });
    picture.setAttribute("width", width);
    picture.setAttribute("height", height);
    picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    picture.replaceChildren(...[axis, line, bars, labels].flat(2).filter(Boolean));
    tell(left, slot, width);
  }

  function tell(left, slot, width) {
    const one = points[chosen ?? points.length - 1];
    walk.setAttribute("aria-valuemax", Math.max(0, points.length - 1));
    walk.setAttribute("aria-valuenow", chosen ?? Math.max(0, points.length - 1));
    walk.setAttribute("aria-label", `${KINDS[kind].what}; arrow keys walk through it`);
    walk.setAttribute("aria-valuetext", one ? `${KINDS[kind].span(one.at)}: ${full(one.charged)} USDC` : "nothing yet");
    told.hidden = chosen === null || !one;
    if (told.hidden) return;
    told.replaceChildren(h("span", null, KINDS[kind].span(one.at)), h("b", null, `$${full(one.charged)}`));
    const middle = left + slot * (chosen + 0.5);
    const half = told.offsetWidth / 2;
    told.style.left = `${Math.max(0, Math.min(width - half * 2, middle - half))}px`;
  }

  function choose(index) {
    const next = index === null || !points.length ? null : Math.max(0, Math.min(points.length - 1, index));
    if (next === chosen) return;
    chosen = next;
    paint();
  }

  walk.addEventListener("pointermove", (event) => {
    const bars = [...picture.querySelectorAll(".bar-one")];
    const { left } = picture.getBoundingClientRect();
    const at = event.clientX - left;
    const middle = (bar) => Number(bar.getAttribute("x")) + Number(bar.getAttribute("width")) / 2;
    const nearest = bars.reduce((best, bar, index) => (Math.abs(middle(bar) - at) < Math.abs(middle(bars[best]) - at) ? index : best), 0);
    choose(bars.length ? nearest : null);
  });
  walk.addEventListener("pointerleave", () => choose(null));
  walk.addEventListener("blur", () => choose(null));
  walk.addEventListener("keydown", (event) => {
    const last = points.length - 1;
    const here = chosen ?? last + 1;
    const moves = { ArrowLeft: here - 1, ArrowDown: here - 1, ArrowRight: here + 1, ArrowUp: here + 1, Home: 0, End: last, Escape: null };
    if (!(event.key in moves)) return;
    event.preventDefault();
    choose(moves[event.key]);
  });
  new ResizeObserver(paint).observe(place);

  return (newKind, newPoints) => {
    if (newKind !== kind) chosen = null;
    [kind, points] = [newKind, newPoints];
    paint();
  };
}
