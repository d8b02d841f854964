// The channels: what each holds, how long it lasts, and how it is ended.

import { brief, button, clean, copy, draw, h, icon, outside } from "./dom.js";
import { minus, moment, money, now, until, usd, whole } from "./figures.js";
import { bar, count, dot, nothing, number, row, table } from "./panels.js";
import { act, ask, isBusy } from "./acts.js";

const FIRST = 20;
const STATES = {
  opening: ["wait", "opening"], open: ["good", "open"], closing: ["wait", "closing"],
  expired: ["warn", "expired"], closed: ["", "closed"], failed: ["bad", "failed"],
};
const unfolded = new Set();
let all = false;
let over = false;

export function channels(wallet, redraw) {
  const ended = wallet.channels.filter((one) => one.over);
  const shown = over ? wallet.channels : wallet.channels.filter((one) => !one.over);
  const first = all ? shown : shown.slice(0, FIRST);
  const fold = (intent) => {
    if (!unfolded.delete(intent)) unfolded.add(intent);
    redraw();
  };
  document.getElementById("channels-count").textContent = shown.length ? count(shown.length, over ? "in all" : "not over", over ? "in all" : "not over") : "";
  document.getElementById("show-over").closest("label").hidden = ended.length === 0;
  document.getElementById("show-over-text").textContent = `Show ${ended.length} that ${ended.length === 1 ? "is" : "are"} over`;
  const facts = first.map((one) => ({ ...one, expires_in: 0, unfolded: unfolded.has(one.intent), busy: isBusy(wallet, one.intent), past: one.expires_at <= now() }));
  draw("channels", [wallet.name, shown.length, all, over, facts], () => {
    if (shown.length === 0) {
      return nothing(ended.length ? "Every channel is over, and no money is locked." : "No channel is open, and no money is locked. An agent opens one with drain_open_channel; ",
        ended.length ? null : [h("code", null, "drain-mcp open PROVIDER AMOUNT"), " does it by hand."]);
    }
    return [
      table(["Provider", "State", "Time left", "Use", ">Charged", ">Signed", ">Left", ">Deposit", "-What to do"], first.map((one) => lines(wallet, one, fold)), "channels"),
      shown.length > FIRST && button("channels-all", "quiet more", all ? `Show the first ${FIRST} only` : `Show all ${shown.length}`, () => {
        all = !all;
        redraw();
      }),
    ];
  });
}

/** Shows those that are over too, or no more. */
export function showOver(yes) {
  over = yes;
}

function lines(wallet, one, fold) {
  const open = unfolded.has(one.intent);
  const [tone, text] = STATES[one.state] ?? ["", clean(one.state, 12)];
  const odd = one.disputed || one.notes.length || one.recovered;
  const about = [one.category, one.generation, ...one.agents.slice(0, 3)].filter(Boolean).map((text) => outside(text, 16));
  if (one.agents.length > 3) about.push(`${one.agents.length - 3} more`);
  const name = h("button", { type: "button", class: "unfold", "aria-expanded": String(open), "data-key": `more:${one.intent}`, onclick: () => fold(one.intent) },
    icon("i-more"), outside(one.provider_name, 34));
  const time = one.over ? h("span", { class: "none" }, "over")
    : one.expires_at ? until(one.expires_at, "expired") : h("span", { class: "none" }, "not mined yet");
  const main = row([
    [name, h("span", { class: "about" }, about.map((part, index) => [index ? " · " : null, part]))],
    [h("span", { class: "state" }, dot(tone), text), odd ? h("span", { class: "about warn" }, one.disputed ? "disputed" : "see notes") : null],
    h("td", { role: "cell", class: "time", "data-label": "Time left" }, time),
    h("td", { role: "cell", class: "bar-cell" }, bar(one.deposit, [["charged", one.charged], ["signed", minus(one.signed ?? 0n, one.charged ?? 0n)]])),
    number(money(one.charged), "Charged"),
    number(money(one.signed), "Signed"),
    number(one.over ? [money(one.refunded), one.refunded == null ? null : h("span", { class: "about" }, "came back")] : money(minus(one.deposit ?? 0n, one.signed ?? 0n)), one.over ? "Back" : "Left"),
    number(money(one.deposit), "Deposit"),
    h("td", { role: "cell", class: "do" }, ending(wallet, one)),
  ], { class: one.over ? "over" : null });
  return open ? [main, details(one)] : main;
}

function details(one) {
  const line = (name, ...value) => h("div", null, h("dt", null, name), h("dd", null, ...value));
  const id = (text, what) => (text ? h("span", { class: "id" }, outside(brief(text), 24, text), copy(text, what)) : "none yet");
  return h("tr", { role: "row", class: "details" }, h("td", { role: "cell", colspan: 9 },
    h("dl", { class: "lines many" },
      line("On chain", id(one.channel_id, "channel id")),
      line("Our name", id(one.intent, "intent")),
      line("Provider’s id", outside(one.provider_id, 40)),
      line(one.over ? "Expired" : "Expires", one.expires_at ? h("time", { title: whole(one.expires_at) }, moment(one.expires_at)) : "not known yet"),
      line("Requests paid", one.requests?.toLocaleString("en-GB") ?? money(null)),
      line("In flight", money(one.in_flight)),
      line("Disputed", money(one.disputed)),
      line("Taken on chain", money(one.claimed)),
      line("Cap of vouchers", money(one.cap)),
      line("Requests can use", money(one.available)),
      line("Agents", one.agents.length ? h("span", null, one.agents.slice(0, 12).map((name, index) => [index ? ", " : "", outside(name, 24)])) : "none")),
    one.recovered && h("p", { class: "advice" }, "Recovered: this record of it may be incomplete, so that all of its deposit counts as promised."),
    one.notes.map((note) => h("p", { class: "advice" }, outside(note, 300))),
    one.next && h("p", { class: "about" }, "Next: ", clean(one.next, 200))));
}

function ending(wallet, one) {
  if (one.over) return null;
  if (isBusy(wallet, one.intent)) return h("span", { class: "busy" }, "Closing");
  const expired = one.state === "expired" || (one.expires_at && one.expires_at <= now());
  if (one.state !== "open" && !expired) return null;
  // The older contract knows no close with consent.
  if (one.generation === "V1" && !expired) return h("span", { class: "none", title: "A V1 channel can be closed from its expiry on" }, "at expiry");
  return button(`close:${one.intent}`, "quiet", expired ? "Get back" : "Close", () => close(wallet, one, expired),
    { "aria-label": `${expired ? "Get back the rest of" : "Close"} the channel to ${clean(one.provider_name)}` });
}

async function close(wallet, one, expired) {
  const name = outside(one.provider_name);
  const b = (text) => h("b", null, text);
  const gas = "Closing is a transaction: the wallet pays its gas in POL.";
  const incomplete = "This record of the channel may be incomplete: the provider may hold vouchers that are not known here, and take up to the whole deposit.";
  const said = expired
    ? [["The channel is past its expiry. What the provider did not take comes back to the wallet", one.recovered ? "." : [": at least ", b(usd(one.rest)), ` of ${usd(one.deposit)}.`]]]
    : [
      [name, " is asked to agree to what it charged: ", b(usd(one.charged)), ` of ${usd(one.deposit)}.`],
      [b("If it agrees,"), " it is paid", one.recovered ? "" : [", at most what was signed, ", b(usd(one.signed))], ", and the rest comes back to the wallet at once."],
      [b("If it does not,"), " nothing is lost: the money comes back at expiry, ", b(`in ${untilThen(one)}`), ` (${moment(one.expires_at)}).`,
        one.recovered ? "" : " Until then it can take what was signed, and no more."],
      ["Agents cannot pay from this channel any more while it closes."],
    ];
  const yes = await ask({
    title: expired ? "Get the rest back?" : "Close this channel?",
    body: [...said, ...(one.recovered ? [[incomplete]] : []), [gas]].map((parts) => h("p", null, ...parts.flat())),
    yes: expired ? "Get it back" : "Close the channel",
    back: `close:${one.intent}`,
  });
  if (yes !== null) await act(wallet, one.intent, "close", { intent: one.intent }, `Closing the channel to ${clean(one.provider_name)}. It may take a minute; go on meanwhile.`);
}

const untilThen = (one) => until(one.expires_at, "a moment").textContent;
