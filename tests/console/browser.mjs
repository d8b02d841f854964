// The console in a real browser, from signing in to the money that came back, with an agent who pays meanwhile.
//
//     node browser.mjs SERVER FOLDER        in the environment: TOOLS, CHROMIUM, CONSOLE_TOKEN, PASSPHRASE, AGENT_TOKEN
//
// Screenshots go to FOLDER. Whatever the browser complains of, a script of a provider's that runs, or a part that is wider than its
// screen, is a failure.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const need = createRequire(`${process.env.TOOLS}/`);
const { chromium } = need("playwright-core");
const axe = readFileSync(need.resolve("axe-core/axe.min.js"), "utf8");
const [, , server, folder] = process.argv;
const { CHROMIUM, CONSOLE_TOKEN, PASSPHRASE, AGENT_TOKEN } = process.env;
const MCP = "2026-07-28";
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];

const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });
const complaints = [];

async function open(options) {
  const page = await (await browser.newContext(options)).newPage();
  page.setDefaultTimeout(20_000);
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("dialog", (dialog) => complaints.push(`a dialog of the browser's: ${dialog.message()}`));
  page.on("request", (request) => request.url().startsWith(server) || complaints.push(`asked ${request.url()}`));
  return page;
}

/** What an agent asks by the gateway: `dear` asks a person first. */
async function ask(dear) {
  const body = { model: "sim-small", max_tokens: dear ? 2000 : 20, messages: [{ role: "user", content: dear ? "something dear" : "hello" }] };
  const headers = { authorization: `Bearer ${AGENT_TOKEN}`, "content-type": "application/json" };
  const reply = await fetch(`${server}/v1/chat/completions`, { method: "POST", headers, body: JSON.stringify(body) });
  return { status: reply.status, code: (await reply.json()).error?.code };
}

/** What an agent pays without a channel, by MCP. */
async function payOnce() {
  const _meta = {
    "io.modelcontextprotocol/protocolVersion": MCP, "io.modelcontextprotocol/clientInfo": { name: "test", version: "1" },
    "io.modelcontextprotocol/clientCapabilities": {},
  };
  const name = "mpp_chat";
  const params = { name, arguments: { provider: "sim-mpp", messages: [{ role: "user", content: "hello" }] }, _meta };
  const headers = {
    authorization: `Bearer ${AGENT_TOKEN}`, accept: "application/json, text/event-stream", "content-type": "application/json",
    "mcp-protocol-version": MCP, "mcp-method": "tools/call", "mcp-name": name,
  };
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/call", params });
  const text = await (await fetch(`${server}/mcp`, { method: "POST", headers, body })).text();
  const messages = [text, ...text.split("\n").map((line) => line.replace(/^data: ?/, ""))].filter((line) => line.startsWith("{"));
  return JSON.parse(messages.find((line) => line.includes('"result"'))).result.structuredContent;
}

/** Nothing is wider than the screen, and nothing is unreadable or without a name. In a world of its own: the page's policy stays. */
async function looksGood(page, name) {
  await page.screenshot({ path: `${folder}/${name}.png`, fullPage: true });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(wide, 0, `${name} is ${wide} px too wide`);
  const session = await page.context().newCDPSession(page);
  const { frameTree } = await session.send("Page.getFrameTree");
  const { executionContextId } = await session.send("Page.createIsolatedWorld", { frameId: frameTree.frame.id });
  await session.send("Runtime.evaluate", { contextId: executionContextId, expression: axe });
  const run = `axe.run(document, { runOnly: ${JSON.stringify(RULES)} }).then((found) => found.violations.map((one) => one.id + ": " + one.nodes.map((node) => node.target).join(", ")))`;
  const { result } = await session.send("Runtime.evaluate", { contextId: executionContextId, expression: run, awaitPromise: true, returnByValue: true });
  assert.deepEqual(result.value, [], name);
}

const shown = (page, text) => page.getByText(text, { exact: false }).first().waitFor();

// Signing in: a wrong token is told, the right one leaves no trace.
const page = await open({ viewport: { width: 1440, height: 900 }, colorScheme: "light" });
await page.goto(`${server}/console`);
await page.locator("#sign-in").waitFor();
await page.locator("#token").fill("not the token at all");
await page.keyboard.press("Enter");
await page.locator("#token-wrong:not(:empty)").waitFor();
await looksGood(page, "sign-in");
await page.locator("#token").fill(CONSOLE_TOKEN);
await page.keyboard.press("Enter");
await page.locator('body[data-view="board"]').waitFor();
assert.ok(!(await page.content()).includes(CONSOLE_TOKEN) && !(await page.evaluate(() => document.cookie)));
await shown(page, "PLAY MONEY");
// What the browser says of the refused token is no fault of the page.
assert.ok(complaints.every((text) => text.includes("401")), complaints.join("\n"));
complaints.length = 0;

// An agent pays: the channel, its provider's name and the receipt are shown, and the name is text.
assert.equal((await ask(false)).status, 200);
await page.locator("#channels tbody tr").first().waitFor();
await page.locator("#receipts tbody tr").first().waitFor();
for (const part of ["#money", "#caps", "#providers", "#machine", "#chart", "#channels", "#receipts"]) {
  assert.ok((await page.locator(part).innerText()).trim() || part === "#chart", part);
  assert.equal(await page.locator(`${part} img, ${part} script, ${part} iframe`).count(), 0, part);
}
assert.ok((await page.locator("#channels").innerText()).includes("<img src=x onerror="), "the name is shown as it is");
await looksGood(page, "board");

// What is folded away: a channel's details, the days, the chart as a table, the help.
await page.locator("#channels .unfold").first().click();
await page.locator("#channels tr.details").waitFor();
await page.keyboard.press("s");
await page.locator('#by-days[aria-pressed="true"]').waitFor();
await page.locator(".as-table summary").click();
assert.equal(await page.locator("#spend-table tbody tr").count(), 30);
await looksGood(page, "unfolded");
await page.keyboard.press("?");
await page.locator("#help[open]").waitFor();
await looksGood(page, "help");
await page.keyboard.press("Escape");
await page.locator("#channels .unfold").first().click();

// Cut off, what is shown is said to be old; then it goes on by itself. A browser says that the network changed by `online`; an open
// stream is out of reach for `route`, and is begun anew then.
await page.route("**/console/api/**", (route) => route.abort("connectionrefused"));
await page.evaluate(() => dispatchEvent(new Event("online")));
await page.locator("#lost:not([hidden])").waitFor();
assert.ok(await page.locator("body.stale").count());
await looksGood(page, "lost");
await page.unroute("**/console/api/**");
await page.locator("#lost").waitFor({ state: "hidden" });
assert.ok(complaints.every((text) => text.includes("ERR_CONNECTION_REFUSED")), complaints.join("\n"));
complaints.length = 0;

// A question, a wrong passphrase, a yes; it counts once.
assert.deepEqual(await ask(true), { status: 403, code: "approval_needed" });
await page.locator('[data-key^="approve:"]').waitFor();
assert.match(await page.title(), /^\(1\)/);
await looksGood(page, "question");
await page.keyboard.press("a");
await page.keyboard.press("Enter");
await page.locator("#ask-input").fill("not the passphrase");
await page.keyboard.press("Enter");
await page.locator("#ask-wrong:not(:empty)").waitFor();
await looksGood(page, "wrong-passphrase");
await page.locator("#ask-input").fill(PASSPHRASE);
await page.keyboard.press("Enter");
await page.locator("#ask").waitFor({ state: "hidden" });
assert.equal((await ask(true)).status, 200);
assert.deepEqual(await ask(true), { status: 403, code: "approval_needed" });
// The first one is used; this is another.
await page.locator('[data-key="deny:a2"]').click();
await page.locator("#ask-input").fill(PASSPHRASE);
await page.keyboard.press("Enter");
await page.locator("#ask").waitFor({ state: "hidden" });
assert.deepEqual(await ask(true), { status: 403, code: "approval_denied" });

// Frozen at a press, with a reason that is text; paid again by the passphrase.
await page.keyboard.press("f");
await page.locator("#ask-input").fill("<b onclick=alert(1)>odd bills");
await page.keyboard.press("Enter");
await page.locator("#freeze.frozen").waitFor();
assert.deepEqual(await ask(false), { status: 403, code: "wallet_frozen" });
await looksGood(page, "frozen");
await page.locator("#freeze").click();
await page.locator("#ask-input").fill(PASSPHRASE);
await page.keyboard.press("Enter");
await page.locator("#freeze:not(.frozen)").waitFor();
assert.equal((await ask(false)).status, 200);

// A payment without a channel: a question as any other, then a receipt beside the channel's.
assert.equal((await payOnce()).code, "approval_needed");
await page.locator('[data-key^="approve:"]').waitFor();
await looksGood(page, "payment-question");
await page.locator('[data-key^="approve:"]').click();
await page.locator("#ask-input").fill(PASSPHRASE);
await page.keyboard.press("Enter");
await page.locator("#ask").waitFor({ state: "hidden" });
assert.equal((await payOnce()).payment.state, "paid");
await page.locator("#receipts tbody tr", { hasText: "sim-mpp" }).waitFor();
await looksGood(page, "payment");

// Closed: the rest comes back.
await page.locator('[data-key^="close:"]').first().click();
await looksGood(page, "close");
await page.locator("#ask-yes").click();
await shown(page, "came back");
await page.locator('[data-key^="close:"]').waitFor({ state: "detached" });

// The same on a telephone, in the dark; and its session is its own.
const phone = await open({ viewport: { width: 390, height: 844 }, colorScheme: "dark", hasTouch: true, isMobile: true });
await phone.goto(`${server}/console#token=${CONSOLE_TOKEN}`);
await phone.locator('body[data-view="board"]').waitFor();
assert.equal(phone.url(), `${server}/console`, "the token is in the address no more");
await shown(phone, "PLAY MONEY");
await phone.locator("#show-over").check();
await phone.locator("#channels tbody tr").first().waitFor();
await looksGood(phone, "phone");
await phone.locator("#sign-out").click();
await phone.locator("#sign-in").waitFor();

// Complaints of the browser's are its word on what was refused above.
const refused = complaints.filter((text) => !/status of (401|409)/.test(text));
assert.deepEqual(refused, []);
assert.equal(await page.evaluate(() => window.taken), undefined, "a provider's script ran");
await browser.close();
console.log("done");
