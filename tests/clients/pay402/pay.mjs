// The reference client of a protocol buys the same thing COUNT times, one after another.
//
//     node pay.mjs mppx|x402v2|x402v1 URL COUNT        the folder of node_modules in TOOLS
//
// In the environment: PAYER_KEY, RPC_URL, and perhaps TOKEN_NAME, TOKEN_VERSION, and BODY, which is sent by POST. Its one line is
// {"count","status","ms"}: for each call the status, or null where the client threw (why is on stderr), and how long it all took.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const { resolve } = createRequire(`${process.env.TOOLS}/`);
const load = (path) => import(pathToFileURL(resolve(path)));

const { privateKeyToAccount } = await load("viem/accounts");
const { polygon } = await load("viem/chains");

const { PAYER_KEY, RPC_URL, BODY, TOKEN_NAME = "USD Coin", TOKEN_VERSION = "2" } = process.env;
const [, , protocol, url, count] = process.argv;
const account = privateKeyToAccount(PAYER_KEY);

async function mppx() {
  const { Mppx } = await load("mppx/client");
  const { evm } = await load("mppx/evm/client");
  // The challenge does not name the token's domain.
  const authorization = { name: TOKEN_NAME, version: TOKEN_VERSION };
  const methods = [evm.charge({ account, authorization, networks: [polygon.id] })];
  // It would pay a greedy shop three times, and replace the global fetch.
  return Mppx.create({ methods, maxPaymentRetries: 1, polyfill: false }).fetch;
}

async function x402v2() {
  const { wrapFetchWithPaymentFromConfig } = await load("@x402/fetch");
  const { ExactEvmScheme } = await load("@x402/evm");
  const schemes = [{ network: `eip155:${polygon.id}`, client: new ExactEvmScheme(account) }];
  // Its own limits allow no token that it does not know, and no price like that of /dear.
  return wrapFetchWithPaymentFromConfig(fetch, { schemes, spendControls: false });
}

async function x402v1() {
  const { wrapFetchWithPayment } = await load("x402-fetch");
  const { createWalletClient, http, publicActions } = await load("viem");
  const wallet = createWalletClient({ account, chain: polygon, transport: http(RPC_URL) }).extend(publicActions);
  // Its own limit is 0.1 USDC.
  return wrapFetchWithPayment(fetch, wallet, 10_000_000n);
}

const buy = await { mppx, x402v2, x402v1 }[protocol]();
const made = BODY === undefined ? {} : { method: "POST", headers: { "content-type": "application/json" }, body: BODY };
const told = { count: Number(count), status: [], ms: [] };
for (let call = 0; call < told.count; call += 1) {
  const start = performance.now();
  try {
    // A client of these may keep what it put into the options: they are made anew.
    const response = await buy(url, { ...made, headers: { ...made.headers } });
    await response.text();
    told.status.push(response.status);
  } catch (error) {
    console.error(String(error));
    told.status.push(null);
  }
  told.ms.push(Math.round((performance.now() - start) * 10) / 10);
}
console.log(JSON.stringify(told));
