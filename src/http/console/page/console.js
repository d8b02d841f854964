// The operator's console: follows the server's state, and draws what it says of the chosen wallet.

import { brief, button, clean, draw, h, list, outside, say } from "./dom.js";
import { clockTime, duration, money, now, setClock, tickAll, until } from "./figures.js";
import { decide, freeze, isBusy, onActs, wireDialogs } from "./acts.js";
import { caps, count, machine, nothing, providers, purse, receipts, spent, status } from "./panels.js";
import { channels, showOver } from "./channels.js";
import { chart } from "./chart.js";
import { connect, listen, signIn, signOut } from "./link.js";
import { wallet as read, waiting } from "./model.js";

const FIRST_ASKED = 3;
const at = (id) => document.getElementById(id);
/** What is remembered in this browser; where it forbids that, nothing is. */
const kept = (key, value) => {
  try {
    if (value) localStorage.setItem(key, value);
    return localStorage.getItem(key);
  } catch {
    return null;
  }
};

let wallets = [];
let chosen = kept("wallet");
let kind = kept("chart") === "days" ? "days" : "hours";
let heard = 0;
let trouble = null;
let pressed = false;
let known = null;
let allAsked = false;
let play = false;
const plot = chart(at("chart"));
let plotted = "";

const wallet = () => wallets.find((one) => one.name === chosen) ?? wallets[0];

function show(state) {
  setClock(state.now);
  [heard, trouble] = [Date.now(), null];
  wallets = list(state.wallets).map(read);
  play = Boolean(state.play_money);
  at("version").textContent = state.version ? `drain-mcp ${clean(state.version, 24)}` : "drain-mcp";
  view("board");
  announce();
  redraw();
  link();
}

/** Tells of questions that are new, of any wallet, and counts all in the title. */
function announce() {
  const asked = wallets.flatMap((one) => waiting(one).map((question) => [`${one.name}/${question.id}`, question]));
  document.title = `${asked.length ? `(${asked.length}) ` : ""}drain console`;
  const fresh = known && asked.filter(([key]) => !known.has(key));
  known = new Set(asked.map(([key]) => key));
  if (fresh?.length) say(fresh.length === 1 ? `A new question: ${clean(fresh[0][1].what, 200)}` : `${fresh.length} new questions wait for you.`);
}

function redraw() {
  // A button that moved or was drawn anew between press and release would not feel the click, or another one would.
  if (pressed || document.body.dataset.view !== "board") return;
  const one = wallet();
  at("play").hidden = !play;
  draw("wallets", [wallets.map((each) => [each.name, waiting(each).length, Boolean(each.frozen)]), one?.name], tabs);
  document.body.classList.toggle("unknown", one?.money.deposited == null);
  if (!one) {
    draw("status-head", "none", () => "No wallet yet.");
    draw("status-more", "none", () => nothing("drain-mcp wallet new makes one. Providers can be listed and read without it."));
    return;
  }
  status(one);
  purse(one);
  approvals(one);
  spent(one, kind);
  const points = one.spend[kind];
  const facts = `${kind}${points.map((point) => `${point.at}:${point.charged}`)}`;
  if (facts !== plotted) plot(kind, points);
  plotted = facts;
  at("by-hours").setAttribute("aria-pressed", String(kind === "hours"));
  at("by-days").setAttribute("aria-pressed", String(kind === "days"));
  caps(one, redraw);
  channels(one, redraw);
  providers(one);
  machine(one);
  receipts(one);
  at("freeze").textContent = one.frozen ? "Unfreeze" : "Freeze";
  at("freeze").classList.toggle("frozen", Boolean(one.frozen));
  // What the configuration froze, no button lifts.
  at("freeze").disabled = isBusy(one, "freeze") || Boolean(one.frozen && one.frozen.since == null);
}

function tabs() {
  if (wallets.length < 2) return [];
  return wallets.map((one) => {
    const asked = waiting(one).length;
    return button(`wallet:${one.name}`, "tab", [outside(one.name, 20), asked ? h("span", { class: "badge", "aria-label": `${asked} waiting` }, String(asked)) : null, one.frozen ? h("span", { class: "badge bad" }, "frozen") : null],
      () => choose(one.name), { "aria-current": one.name === wallet().name ? "true" : null });
  });
}

function choose(name) {
  chosen = name;
  kept("wallet", name);
  redraw();
}

function approvals(one) {
  const asked = waiting(one);
  const ready = one.approvals.filter((each) => each.state === "approved");
  at("approvals-section").classList.toggle("asks", asked.length > 0);
  at("approvals-count").textContent = asked.length ? String(asked.length) : "";
  const more = asked.length - FIRST_ASKED;
  draw("approvals", [one.name, allAsked, asked.map((each) => [each, isBusy(one, each.id)]), ready], () => [
    asked.length === 0 && h("li", null, nothing("Nothing. What is above your thresholds is asked here first; no answer is no.")),
    ...asked.slice(0, allAsked ? undefined : FIRST_ASKED).map((each) => {
      const busy = isBusy(one, each.id);
      const label = `question-${each.id}`;
      return h("li", { class: "question" },
        h("p", { class: "line" }, h("b", { class: "sum" }, money(each.amount)), h("span", { class: "about" }, until(each.until, "expired"), " left")),
        h("p", { id: label, class: "what" }, outside(brief(each.what), 260, each.what)),
        h("p", { class: "about" }, each.kind === "deposit" ? "deposit" : "request", each.agent && [", asked by ", outside(each.agent, 24)], ", ", clean(each.id, 16)),
        h("div", { class: "buttons" },
          button(`deny:${each.id}`, "quiet", "Deny", () => decide(one, each, false), { disabled: busy, "aria-describedby": label }),
          button(`approve:${each.id}`, "main", busy ? "Sending" : "Approve", () => decide(one, each, true), { disabled: busy || each.amount == null, "aria-describedby": label })));
    }),
    more > 0 && h("li", null, button("asked-all", "quiet more", allAsked ? "Show fewer" : `Show ${more} more`, () => {
      allAsked = !allAsked;
      redraw();
    })),
    ...ready.map((each) => h("li", { class: "ready about" }, "Approved, not used yet: ", outside(brief(each.what), 160, each.what))),
  ]);
}

/** Which of its faces the page shows: start, sign-in or board. */
function view(name) {
  if (document.body.dataset.view === name) return;
  document.body.dataset.view = name;
  if (name === "sign-in") at("token").focus();
}

function link() {
  if (document.body.dataset.view === "sign-in") return;
  const lost = trouble && trouble.failures > 1;
  document.body.classList.toggle("stale", Boolean(lost));
  at("link").className = `link ${trouble ? (lost ? "bad" : "wait") : "good"}`;
  at("link-text").textContent = trouble ? (lost ? "Offline" : "Connecting") : "Live";
  at("lost").hidden = !lost;
  if (!lost) return;
  const next = Math.max(1, Math.ceil((trouble.next - Date.now()) / 1000));
  at("lost").textContent = heard
    ? `No connection. Numbers are ${duration((Date.now() - heard) / 1000)} old, from ${clockTime(heard / 1000)}. Next try in ${next} s.`
    : `No connection to the server yet. Next try in ${next} s.`;
}

const handlers = {
  state(document) {
    const back = trouble?.failures > 1;
    try {
      show(document);
    } catch (error) {
      // A fault of this page is no lost connection, and must not look like one.
      console.error(error);
      at("link-text").textContent = "This page failed; load it anew";
    }
    if (back) say("Connected again.");
  },
  trouble(failures, next) {
    if (failures === 2) say("The connection is lost. What is shown is old.");
    trouble = { failures, next };
    link();
  },
  signIn() {
    trouble = null;
    at("link").className = "link";
    at("link-text").textContent = "Signed out";
    view("sign-in");
  },
};

async function useToken(token) {
  const wrong = await signIn(token);
  at("token-wrong").textContent = wrong;
  at("token").value = "";
  if (wrong) {
    view("sign-in");
    at("token").focus();
    return;
  }
  await connect();
}

const goTo = (id) => {
  at(id).scrollIntoView({ block: "start" });
  (at(id).querySelector("button[data-key^=approve], button.unfold") ?? at(id)).focus({ preventScroll: true });
};
const setKind = (next) => {
  kind = next;
  kept("chart", next);
  redraw();
};
const KEYS = {
  a: () => goTo("approvals-section"),
  c: () => goTo("channels-section"),
  s: () => setKind(kind === "hours" ? "days" : "hours"),
  w: () => wallets.length > 1 && choose(wallets[(wallets.indexOf(wallet()) + 1) % wallets.length].name),
  f: () => at("freeze").disabled || (wallet() && freeze(wallet())),
  t: () => toggleTheme(),
  "?": () => at("help").showModal(),
};

function keyPressed(event) {
  const typing = event.target.closest("input:not([type=checkbox]), textarea, select, dialog");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !(event.key in KEYS)) return;
  if (!at("keys-on").checked && event.key !== "?") return;
  if (document.body.dataset.view !== "board" && !"t?".includes(event.key)) return;
  event.preventDefault();
  KEYS[event.key]();
}

function wire() {
  wireDialogs();
  onActs(redraw);
  at("theme").onclick = () => toggleTheme();
  at("help-open").onclick = KEYS["?"];
  at("freeze").onclick = KEYS.f;
  at("sign-out").onclick = signOut;
  at("by-hours").onclick = () => setKind("hours");
  at("by-days").onclick = () => setKind("days");
  at("show-over").onchange = ({ target }) => {
    showOver(target.checked);
    redraw();
  };
  at("keys-on").checked = kept("keys") !== "off";
  at("keys-on").onchange = ({ target }) => kept("keys", target.checked ? "on" : "off");
  at("token-form").onsubmit = (event) => {
    event.preventDefault();
    useToken(at("token").value);
  };
  document.addEventListener("keydown", keyPressed);
  addEventListener("pointerdown", () => { pressed = true; });
  for (const end of ["pointerup", "pointercancel"]) {
    // After the click that follows the release.
    addEventListener(end, () => setTimeout(() => { pressed = false; redraw(); }));
  }
  setInterval(() => {
    tickAll();
    link();
  }, 1000);
}

async function start() {
  wire();
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  // The token leaves the address bar, and the history, before anything else.
  if (token) history.replaceState(null, "", location.pathname);
  listen(handlers);
  await (token ? useToken(token) : connect());
}

start();
