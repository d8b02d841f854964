// The server's document as the page reads it: amounts as units, times as seconds, lists always lists, nothing trusted to be there.

import { list } from "./dom.js";
import { POL, minus, now, units } from "./figures.js";

const amounts = (from, names) => Object.fromEntries(names.map((name) => [name, units(from?.[name])]));
const seconds = (at) => number(typeof at === "string" ? Date.parse(at) / 1000 : at);
const number = (value) => (Number.isFinite(value) && value >= 0 ? value : null);
const numbers = (from, names) => Object.fromEntries(names.map((name) => [name, number(from?.[name])]));
const STATES = ["expired", "closing", "opening", "open", "failed", "closed"];

const ends = new Map();
/** When a question ends. It is told as what is left, which wavers by a second: the first word stays, so that nothing moves under a pointer. */
function ending(key, left) {
  const at = Math.round(now() + left);
  if (!(Math.abs(ends.get(key) - at) <= 3)) ends.set(key, at);
  return ends.get(key);
}

export function wallet(raw) {
  const name = String(raw.name ?? "main");
  return {
    name,
    address: String(raw.address ?? ""),
    standing: { held: raw.standing?.held !== false, text: raw.standing?.text ?? "" },
    signer: { backend: "not known", interactive: false, available: true, ...raw.signer },
    chain: {
      ...numbers(raw.chain, ["chain_id", "block_at"]), endpoints: list(raw.chain?.endpoints),
    },
    usdc: units(raw.usdc),
    pol: units(raw.pol, POL),
    advice: list(raw.advice),
    frozen: raw.frozen ? { ...raw.frozen, ...numbers(raw.frozen, ["since"]) } : null,
    money: amounts(raw.money, ["deposited", "signed", "charged", "disputed", "reclaimable", "spent_today"]),
    caps: list(raw.caps).map((cap) => ({ ...cap, ...amounts(cap, ["limit", "used", "reserved"]) })),
    spend: { hours: points(raw.spend?.hours), days: points(raw.spend?.days) },
    channels: list(raw.channels).map(channel).sort((a, b) => a.rank - b.rank || a.expires_at - b.expires_at),
    providers: list(raw.providers).map(provider),
    approvals: list(raw.approvals).map((one) => ({
      ...one, id: String(one.id), amount: units(one.amount), until: ending(`${name}/${one.id}`, number(one.expires_in) ?? 0), expires_in: 0,
    })),
    receipts: list(raw.receipts).map((one) => ({ ...one, at: seconds(one.at), charged: units(one.charged) })),
  };
}

const points = (raw) => list(raw).map((one) => ({ at: number(one.at), charged: units(one.charged) ?? 0n }));

function channel(raw) {
  const one = {
    ...raw,
    ...amounts(raw, ["deposit", "cap", "signed", "charged", "in_flight", "disputed", "claimed", "available", "refunded"]),
    ...numbers(raw, ["requests", "expires_at"]),
    intent: String(raw.intent),
    generation: String(raw.generation ?? "").toUpperCase(),
    agents: list(raw.agents),
    notes: list(raw.notes),
    rank: STATES.indexOf(raw.state),
  };
  // The most that the provider can have: where the record may be incomplete that is all of it.
  const taken = one.signed > one.claimed ? one.signed : one.claimed;
  one.rest = one.recovered ? 0n : minus(one.deposit ?? 0n, taken ?? 0n);
  one.over = raw.state === "closed" || raw.state === "failed";
  return one;
}

/** What a provider did with our vouchers stands beside the directory's word on it. */
function provider(raw) {
  const { score, answered, failed, set_aside: aside } = raw.standing ?? {};
  const taken = numbers({ answered, failed }, ["answered", "failed"]);
  return {
    ...raw, ...numbers(raw, ["latency_ms"]), spent: units(raw.spent), score: number(score), set_aside: aside ?? null,
    requests: (taken.answered ?? 0) + (taken.failed ?? 0), failed: taken.failed,
  };
}

/** Questions of a wallet that nobody answered yet. */
export const waiting = (wallet) => wallet.approvals.filter((one) => one.state === "waiting");
