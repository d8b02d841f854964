// What a person does: asked once more in plain words, sent, and told what became of it.

import { button, clean, focusOn, h, icon, outside, say } from "./dom.js";
import { usd } from "./figures.js";
import { post } from "./link.js";

const MOST_NOTES = 4;
const busy = new Set();
const at = (id) => document.getElementById(id);

/** Whether something is on its way for this part of a wallet. */
export const isBusy = (wallet, key) => busy.has(`${wallet.name}/${key}`);

let asking;
let redraw = () => {};
/** What to call when something began or ended. */
export const onActs = (call) => {
  redraw = call;
};

/**
 * Asks in a dialog. Gives what was typed ("" without a field), or null for no. With `attempt` it stays open until that says
 * nothing against it: a wrong passphrase is typed again where it was wrong.
 */
export function ask({ title, body, yes, field, danger, back, attempt }) {
  const [dialog, input] = [at("ask"), at("ask-input")];
  const mine = {};
  asking = mine;
  const section = document.activeElement.closest("section") ?? document.body;
  at("ask-title").textContent = title;
  at("ask-body").replaceChildren(...body);
  at("ask-yes").textContent = yes;
  at("ask-yes").classList.toggle("danger", Boolean(danger));
  at("ask-field").hidden = !field;
  at("ask-label").textContent = field?.label ?? "";
  input.type = field?.secret ? "password" : "text";
  input.required = Boolean(field?.secret);
  input.value = "";
  at("ask-wrong").textContent = "";
  at("ask-yes").disabled = false;
  dialog.returnValue = "";
  dialog.showModal();
  (field ? input : at("ask-no")).focus();
  return new Promise((done) => {
    at("ask-form").onsubmit = async (event) => {
      event.preventDefault();
      at("ask-yes").disabled = true;
      const wrong = await attempt?.(input.value);
      // Left meanwhile, and perhaps asking something else now: that is not answered by this.
      if (asking !== mine || !dialog.open) return;
      at("ask-yes").disabled = false;
      if (!wrong) {
        dialog.close("yes");
        return;
      }
      at("ask-wrong").textContent = clean(wrong, 400);
      input.value = "";
      input.focus();
    };
    dialog.onclose = () => {
      // Told a moment late: another question is asked by now.
      if (dialog.open) return;
      const typed = dialog.returnValue === "yes" ? input.value.trim() : null;
      input.value = "";
      // The button that opened it may have been drawn anew meanwhile.
      if (back) focusOn(back, section);
      done(typed);
    };
  });
}

/** Makes the dialogs' buttons work; called once. */
export function wireDialogs() {
  at("ask-no").onclick = () => at("ask").close();
  at("help-close").onclick = () => at("help").close();
  for (const dialog of document.querySelectorAll("dialog")) {
    // A press beside it is a no. Where it began counts: a selection of text may end beyond the edge.
    dialog.addEventListener("pointerdown", (event) => event.target === dialog && isBeside(event) && dialog.close());
  }
}

function isBeside({ target, clientX: x, clientY: y }) {
  const edge = target.getBoundingClientRect();
  return x < edge.left || x > edge.right || y < edge.top || y > edge.bottom;
}

/** Sends it, and tells what happened; `began` is told at once where it takes long. */
export async function act(wallet, key, path, body, began) {
  if (isBusy(wallet, key)) return;
  const note = began && tell(began, "wait");
  const { ok, text } = await send(wallet, key, path, body);
  note?.remove();
  tell(text, ok ? "good" : "bad");
}

async function send(wallet, key, path, body) {
  const name = `${wallet.name}/${key}`;
  busy.add(name);
  redraw();
  const answer = await post(path, { wallet: wallet.name, ...body });
  busy.delete(name);
  redraw();
  return answer;
}

/** Asks for the operator's passphrase, without which nothing is loosened, until the server takes it. */
function askForPassphrase(wallet, key, path, body, question) {
  return ask({
    ...question,
    field: { label: "Operator’s passphrase", secret: true },
    attempt: async (passphrase) => {
      const { ok, text } = await send(wallet, key, path, { ...body, passphrase });
      // Whoever left the dialog meanwhile is told all the same.
      if (ok || !at("ask").open) tell(text, ok ? "good" : "bad");
      return ok ? "" : text;
    },
  });
}

/** A note. One of a failure stays until it is put away: it says what became of money. */
function tell(text, tone) {
  const put = () => note.remove();
  const note = h("div", { class: `note ${tone}` }, h("p", null, clean(text, 600)),
    tone === "wait" ? null : button("", "quiet square", icon("i-close"), put, { "aria-label": "Put away" }));
  const notes = at("notes");
  notes.append(note);
  while (notes.children.length > MOST_NOTES) notes.firstChild.remove();
  say(clean(text, 600));
  // The page itself shows what went well.
  if (tone === "good") setTimeout(put, 12_000);
  return note;
}

/** An answer to a question, once; shows again to what. */
export function decide(wallet, one, yes) {
  const known = one.kind === "deposit" ? ". The deposit is locked until the channel is over; what is not spent comes back." : ". Only what the request costs is charged.";
  const means = yes
    ? h("p", null, "The yes holds once, for exactly this, and for at most ", h("b", null, usd(one.amount)), known)
    : h("p", null, "Nothing is spent. The agent is told that you said no.");
  return askForPassphrase(wallet, one.id, "approvals", { id: one.id, decision: yes ? "approve" : "deny" }, {
    title: yes ? `Say yes to ${usd(one.amount)}?` : "Say no to this?",
    body: [h("p", { class: "quote" }, outside(one.what, 500)), means],
    yes: yes ? "Approve" : "Deny",
    danger: !yes,
    back: `${yes ? "approve" : "deny"}:${one.id}`,
  });
}

/** Stops the money, or lets it go on. */
export async function freeze(wallet) {
  const name = h("b", null, clean(wallet.name));
  if (wallet.frozen) {
    await askForPassphrase(wallet, "freeze", "unfreeze", {}, {
      title: "Unfreeze the wallet?",
      body: [
        h("p", null, "Agents of ", name, " can pay and open channels again, within the limits."),
        h("p", { class: "quote" }, "It was frozen: ", outside(wallet.frozen.reason, 240)),
      ],
      yes: "Unfreeze",
    });
    return;
  }
  const reason = await ask({
    title: "Freeze the wallet?",
    body: [
      h("p", null, "Nothing is signed by ", name, " until you unfreeze it: no request is paid, no channel opened, no allowance given."),
      h("p", null, "What was signed before stays signed, and providers can take it. Channels can still be closed, and money that is due comes back."),
    ],
    yes: "Freeze",
    field: { label: "Reason, for the record" },
    danger: true,
  });
  if (reason !== null) await act(wallet, "freeze", "freeze", { reason });
}
