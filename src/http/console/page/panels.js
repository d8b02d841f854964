// The parts of the page that only show: how it stands, the money, limits, providers, key and chain, receipts.

import { brief, button, clean, copy, draw, h, outside } from "./dom.js";
import { clockTime, day, full, minus, moment, money, now, POL, share, short, since, sum, usd, whole } from "./figures.js";
import { spanOf } from "./chart.js";
import { waiting } from "./model.js";

const FIRST_CAPS = 6;
// A block older than this says that the chain is not heard.
const OLD_BLOCK = 120;

/** So many of them. */
export const count = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;
/** A coloured point; the word beside it says the same. */
export const dot = (tone) => h("span", { class: `dot ${tone}`, "aria-hidden": "true" });
/** A friendly word where there is nothing: what to do so that there is. */
export const nothing = (text, ...more) => h("p", { class: "nothing" }, text, ...more);

/** Lengths of a bar; the numbers beside it say the same, so it is hidden from screen readers. */
export function bar(whole, parts, kind = "") {
  const pieces = parts.filter(([, value]) => value).map(([name, value]) => {
    const piece = h("span", { class: `piece ${name}` });
    piece.style.width = `${share(value, whole) * 100}%`;
    return piece;
  });
  return h("div", { class: `track ${kind}`, "aria-hidden": "true" }, pieces);
}

/** The one sentence that can be read from across the room, the gravest thing first. */
function standing(wallet) {
  const asked = waiting(wallet).length;
  const open = wallet.channels.filter((one) => !one.over).length;
  const { endpoints, block_at: block } = wallet.chain;
  const { spent_today: today } = wallet.money;
  if (today == null) return ["bad", "This wallet cannot be shown.", "Nothing of its money is known here."];
  const facts = `${usd(today)} spent today, ${open ? count(open, "channel") : "no channel"}`;
  if (wallet.frozen) return ["bad", "Frozen. Nothing is signed.", `Channels can be closed, and money that is due comes back. ${facts}.`];
  if (!wallet.signer.available) return ["bad", "The signer does not answer.", `Nothing can be signed until it does. ${facts}.`];
  if (endpoints.length && !endpoints.some((one) => one.healthy)) return ["bad", "The chain cannot be reached.", `Requests on open channels go on; nothing opens or closes. ${facts}.`];
  if (asked) return ["ask", `${count(asked, "question waits", "questions wait")} for you.`, `${facts}.`];
  if (block && now() - block > OLD_BLOCK) return ["warn", "No new block for a while.", `The chain or its endpoint stands still. ${facts}.`];
  if (wallet.money.disputed) return ["warn", "A provider claims too much.", `${usd(wallet.money.disputed)} is disputed, and not paid. ${facts}.`];
  return ["good", "All is well.", `${facts}, nothing waits for you.`];
}

export function status(wallet) {
  const [tone, head, more] = standing(wallet);
  draw("status-head", [tone, head], () => [dot(tone), head]);
  const { frozen, standing: held } = wallet;
  draw("status-more", [more, frozen, held, wallet.advice], () => [
    h("p", null, more),
    frozen && h("p", { class: "advice bad" }, "Frozen", frozen.since && [" since ", h("time", { title: whole(frozen.since) }, moment(frozen.since))], ": ", outside(frozen.reason, 240)),
    (!held.held || held.text) && h("p", { class: "advice" }, outside(held.text || "Another process has it.", 300)),
    wallet.advice.map((text) => h("p", { class: "advice" }, outside(text, 300))),
  ]);
}

export function purse(wallet) {
  draw("money", [wallet.money, wallet.usdc, wallet.pol, wallet.address], () => {
    const { deposited, signed, charged, disputed, reclaimable } = wallet.money;
    const beyond = minus(signed ?? 0n, charged ?? 0n);
    const left = deposited == null ? null : minus(deposited, signed ?? 0n);
    const figure = (name, mark, value, text, tone = "") => h("div", { class: tone },
      h("dt", null, mark && h("span", { class: `swatch ${mark}` }), name), h("dd", null, money(value)), h("dd", { class: "about" }, text));
    return [
      h("dl", { class: "heads" },
        h("div", null, h("dt", null, "Deposited in channels"), h("dd", null, money(deposited))),
        h("div", null, h("dt", null, "In the wallet, USDC"), h("dd", null, money(wallet.usdc))),
        h("div", null, h("dt", null, "In the wallet, POL"), h("dd", null, pol(wallet.pol)))),
      bar(deposited, [["charged", charged], ["signed", beyond]], "tall"),
      h("dl", { class: "figures" },
        figure("Charged", "charged", charged, "what requests cost"),
        figure("Signed", "signed", signed, beyond ? `${usd(beyond)} not charged` : "all of it charged"),
        figure("Left", "left", left, "promised to nobody"),
        figure("Disputed", "", disputed, disputed ? "claimed, not paid" : "nobody claims more", disputed ? "warn" : ""),
        figure("Reclaimable", "", reclaimable, reclaimable ? "comes back by itself" : "nothing expired")),
    ];
  });
}

const pol = (value) => (value == null ? money(null)
  : h("data", { class: "amount", value: full(value, POL), title: `${full(value, POL)} POL, for gas` }, short(value, POL).replace(/(\.\d{4})\d+$/, "$1")));

/** The sums above the chart, and its table. */
export function spent(wallet, kind) {
  const points = wallet.spend[kind];
  const total = sum(points.map((one) => one.charged));
  const most = points.reduce((best, one) => (one.charged > (best?.charged ?? 0n) ? one : best), null);
  draw("spend-sums", [kind, wallet.money.spent_today, total, most], () => [
    h("p", null, h("span", null, "Today (UTC)"), money(wallet.money.spent_today)),
    h("p", null, h("span", null, kind === "hours" ? "24 hours" : "30 days"), money(total)),
    h("p", null, h("span", null, most ? `Most, ${kind === "hours" ? clockTime(most.at) : day(most.at)}` : "Most"), money(most?.charged ?? 0n)),
  ]);
  draw("spend-table", [kind, points], () => (points.length === 0 ? nothing("Nothing was spent yet.")
    : table([kind === "hours" ? "Hour" : "Day", "Charged, USDC"], [...points].reverse().map((one) => row([spanOf(kind, one.at), number(full(one.charged))])))));
}

const SCOPES = {
  hour: "In any hour", day: "In any 24 hours", newcomers: "Providers without history", locked: "Locked in channels",
  provider: "In 24 hours, provider", agent: "In 24 hours, agent",
};
// These stay in their places; those of single providers and agents follow, the most used first.
const EVERYBODYS = ["hour", "day", "newcomers", "locked"];
let allCaps = false;

export function caps(wallet, redraw) {
  draw("caps", [wallet.caps, allCaps], () => {
    if (wallet.caps.length === 0) return nothing("No limit is known yet. They are set in the configuration, by a person only.");
    const place = (cap) => EVERYBODYS.indexOf(cap.scope) + 1 || EVERYBODYS.length + 1;
    const sorted = [...wallet.caps].sort((a, b) => place(a) - place(b) || share(b.used, b.limit) - share(a.used, a.limit));
    const more = sorted.length - FIRST_CAPS;
    return [
      h("ul", { class: "caps" }, sorted.slice(0, allCaps ? undefined : FIRST_CAPS).map(cap)),
      more > 0 && button("caps-all", "quiet more", allCaps ? "Show fewer" : `Show ${more} more`, () => {
        allCaps = !allCaps;
        redraw();
      }),
    ];
  });
}

function cap({ scope, name, limit, used, reserved }) {
  const left = limit == null ? null : minus(limit, used ?? 0n);
  const how = share(used, limit);
  const known = minus(used ?? 0n, reserved ?? 0n);
  const label = h("span", null, SCOPES[scope] ?? clean(scope), name && name !== "all" && [" ", outside(brief(name), 32, name)]);
  return h("li", { class: how >= 1 ? "bad" : how >= 0.8 ? "warn" : "" },
    h("div", { class: "line" }, label, h("b", null, money(left))),
    bar(limit, [["charged", known], ["signed", reserved]]),
    h("div", { class: "line about" }, h("span", null, usd(used), " used", reserved ? `, ${usd(reserved)} of it reserved` : ""), h("span", null, "of ", usd(limit))));
}

/** A table that turns into cards where it is narrow; roles are named, since such a display drops them. A head with > is of numbers, one with - is heard only. */
export function table(heads, rows, kind = "") {
  const head = (text) => h("th", { role: "columnheader", scope: "col", class: text.startsWith(">") ? "number" : null },
    h("span", { class: text.startsWith("-") ? "unseen" : null }, text.replace(/^[>-]/, "")));
  const made = h("table", { class: `rows ${kind}`, role: "table" },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads.map(head))), h("tbody", { role: "rowgroup" }, rows));
  heads.forEach((_, column) => alignPoints(made.querySelectorAll(`tbody td:nth-child(${column + 1}) .fraction`)));
  return made;
}

/** Amounts of a column stand with their points below each other, also where one has more places. */
function alignPoints(fractions) {
  const longest = Math.max(0, ...Array.from(fractions, (one) => one.textContent.length));
  // The point itself is half as wide as a digit.
  for (const one of fractions) one.style.minWidth = `${longest - 0.5}ch`;
}

/** A cell of a number; its label stands beside it in a card. */
export const number = (value, label, kind = "") => h("td", { role: "cell", class: `number ${kind}`, "data-label": label }, value);
/** A row; what is no cell becomes one, and the first is its head. */
export const row = (cells, props) => h("tr", { role: "row", ...props }, cells.map((one, index) => (one?.tagName === "TD" || one?.tagName === "TH" ? one
  : index ? h("td", { role: "cell" }, one) : h("th", { role: "rowheader", scope: "row" }, one))));

export function providers(wallet) {
  draw("providers", wallet.providers, () => (wallet.providers.length === 0
    ? nothing("No provider was paid yet. ", h("code", null, "drain-mcp providers"), " lists who is there; an agent finds them with drain_providers.")
    : table(["Provider", "Health", ">Score", ">Requests", ">Answers in", ">Charged"], wallet.providers.map((one) => row([
      [outside(one.name, 40), h("span", { class: "about" }, clean(one.category, 20))],
      health(one),
      number(one.score == null ? money(null) : score(one.score), "Score"),
      number([one.requests?.toLocaleString("en-GB") ?? money(null), one.failed ? h("span", { class: "about warn" }, `${one.failed} failed`) : null], "Requests"),
      number(one.latency_ms == null ? money(null) : `${one.latency_ms.toLocaleString("en-GB")} ms`, "Answers in"),
      number(money(one.spent), "Charged"),
    ])), "providers")));
}

function health({ online, set_aside: aside }) {
  const [tone, text] = aside ? ["bad", "set aside"] : online == null ? ["", "not known"] : online ? ["good", "online"] : ["warn", "offline"];
  return [h("span", { class: "state" }, dot(tone), text), aside ? h("span", { class: "about" }, outside(aside, 90)) : null];
}

function score(points) {
  const part = Math.min(100, Math.round(points));
  return h("span", { class: "score" }, bar(100n, [["charged", BigInt(part)]]), String(part));
}

const SIGNERS = { local: "local key", ledger: "Ledger", "aws-kms": "AWS KMS" };
const CHAINS = { 137: "Polygon", 80002: "Polygon Amoy" };

export function machine(wallet) {
  const { signer, chain } = wallet;
  const line = (name, ...value) => h("div", null, h("dt", null, name), h("dd", null, ...value));
  draw("machine", [signer, chain, wallet.address], () => [
    h("dl", { class: "lines" },
      line("Signer", h("span", { class: "state" }, dot(signer.available ? "good" : "bad"), SIGNERS[signer.backend] ?? clean(signer.backend, 40)),
        h("span", { class: "about" }, !signer.available ? "does not answer" : signer.interactive ? "a person presses for each signature" : "signs by itself, within the limits")),
      line("Account", wallet.address ? h("span", { class: "id" }, outside(brief(wallet.address), 24, wallet.address), copy(wallet.address, "account")) : money(null)),
      line("Chain", chain.chain_id == null ? money(null) : [CHAINS[chain.chain_id], h("span", { class: "about" }, `number ${chain.chain_id}`)]),
      line("Newest block", chain.block_at ? since(chain.block_at) : "none was seen yet")),
    chain.endpoints.length === 0 ? nothing("No endpoint is configured: set DRAIN_RPC_URL.")
      : h("ul", { class: "endpoints", "aria-label": "Endpoints" }, chain.endpoints.map((one) => h("li", null,
        h("span", { class: "state" }, dot(one.healthy ? "good" : "bad"), outside(one.host, 34)),
        h("span", { class: "about" }, one.healthy ? "answers" : "put aside")))),
  ]);
}

const OUTCOMES = {
  answered: ["good", "answered"], paid: ["good", "answered"], charged: ["warn", "charged, no answer"],
  not_charged: ["", "not charged"], unknown: ["warn", "not known yet"],
};

export function receipts(wallet) {
  draw("receipts", wallet.receipts, () => (wallet.receipts.length === 0
    ? nothing("No receipt yet. Each paid request leaves one here.")
    : table(["When", "Agent", "Provider", "Model", "Outcome", ">Charged, USDC"], wallet.receipts.map((one) => {
      const [tone, text] = OUTCOMES[one.outcome] ?? ["", clean(one.outcome, 20)];
      return row([
        h("time", { title: whole(one.at) }, moment(one.at)), outside(one.agent, 24), outside(one.provider, 28), outside(one.model, 34),
        h("span", { class: "state" }, dot(tone), text),
        number(one.charged == null ? money(null) : h("data", { value: full(one.charged) }, full(one.charged)), "Charged"),
      ]);
    }), "receipts")));
}
