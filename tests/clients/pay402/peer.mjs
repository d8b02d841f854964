// A shop that sells over HTTP 402 with the reference packages of a protocol, and settles on a chain.
//
//     node peer.mjs mppx|tempo|sponsored|x402v2|x402v1|dual        the folder of node_modules in TOOLS
//
// In the environment: RPC_URL (chain 137; for `tempo` Tempo's test chain), PAYEE, SETTLER_KEY (has coins for gas), and perhaps TOKEN, TOKEN_NAME, TOKEN_VERSION, PORT,
// REDIRECT_TO (the whole address /redirect leads to). Its first line is {"url"}, and then there is one for each request it answered:
// {"method","path","status","credential"}, the last being null or the protocol of what was sent as payment. It ends with its stdin.
//
// `mppx` and `dual` both ask by MPP and by x402 v2 at once, but not alike. `mppx` is mppx's own gate: one MPP challenge, a problem as
// body, and it settles before the handler, whichever way it is paid. `dual` is x402's gate with mppx before it: two MPP challenges in
// one header line, Tempo's first, bound by `opaque`, an empty object as body; paid by x402 it settles after the handler.

import { randomBytes } from "node:crypto";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const { resolve } = createRequire(`${process.env.TOOLS}/`);
const load = (path) => import(pathToFileURL(resolve(path)));

const { default: express } = await load("express");
const { createWalletClient, formatUnits, http, parseAbi, parseSignature, publicActions } = await load("viem");
const { privateKeyToAccount } = await load("viem/accounts");
const { polygon } = await load("viem/chains");

const { RPC_URL, PAYEE, SETTLER_KEY, REDIRECT_TO, PORT = "0" } = process.env;
const { TOKEN = "0x3c499c542cEF5E3811e1192ce70d8cC03d5c3359", TOKEN_NAME = "USD Coin", TOKEN_VERSION = "2" } = process.env;
/** pathUSD, a dollar of Tempo's. */
const TEMPO_TOKEN = "0x20c0000000000000000000000000000000000000";
const domain = { name: TOKEN_NAME, version: TOKEN_VERSION };
const network = (chainId = polygon.id) => `eip155:${chainId}`;
const decimals = 6;
const secretKey = randomBytes(32).toString("hex");

/** Another chain, and somebody else. */
const ELSEWHERE = 8453;
const STRANGER = "0x5454545454545454545454545454545454545454";

/**
 * What is for sale: its price in base units, and where that is not left to the package or as it is for all, for how many seconds an
 * offer is good, on which chain, and who is paid.
 */
const SOLD = {
  "GET /cheap": { units: 10_000 },
  "GET /dear": { units: 5_000_000 },
  "POST /post": { units: 10_000 },
  "GET /fails": { units: 10_000 },
  // x402's facilitator takes no authorization that ends within 6 seconds.
  "GET /short": { units: 10_000, seconds: 12 },
  "GET /elsewhere": { units: 10_000, chainId: ELSEWHERE },
  "GET /stranger": { units: 10_000, payee: STRANGER },
};

const forEach = (build) => Object.fromEntries(Object.entries(SOLD).map(([route, offer]) => [route, build(offer)]));

// Left alone viem would ask for a receipt at the pace of the real chain's blocks. It tries eth_fillTransaction once, and does without
// where there is no such method (-32601).
const chain = createWalletClient({
  account: privateKeyToAccount(SETTLER_KEY),
  chain: polygon,
  transport: http(RPC_URL),
  pollingInterval: 20,
}).extend(publicActions);

// Two settlements at once would take the same nonce. Peers that run at the same time need a key each for the same reason.
let sent = Promise.resolve();
function writeContract(call) {
  sent = sent.catch(() => {}).then(() => chain.writeContract(call));
  return sent;
}

const abi = parseAbi([
  "function transferWithAuthorization(address, address, uint256, uint256, uint256, bytes32 nonce, uint8 v, bytes32 r, bytes32 s)",
]);

/** mppx verifies what was signed, and leaves the chain to its user. What this throws becomes a 500, a replay too. */
async function settle({ payload }) {
  const { from, to, value, validAfter, validBefore, nonce, signature } = payload;
  const { r, s, v } = parseSignature(signature);
  const args = [from, to, BigInt(value), BigInt(validAfter), BigInt(validBefore), nonce, Number(v), r, s];
  const hash = await writeContract({ address: TOKEN, abi, functionName: "transferWithAuthorization", args });
  const { status } = await chain.waitForTransactionReceipt({ hash });
  if (status !== "success") throw new Error(`${hash} was reverted`);
  return { reference: hash };
}

async function mppx() {
  const { Mppx } = await load("mppx/express");
  const { evm } = await load("mppx/evm/server");
  const { Expires } = await load("mppx");
  const terms = { authorization: domain, currency: TOKEN, decimals, settle };
  const gates = forEach(({ units, seconds, chainId = polygon.id, payee: recipient = PAYEE }) => {
    // The time that is left is told twice, apart: to who pays by x402, and to who pays by MPP.
    const charge = evm.charge({ ...terms, chainId, recipient, x402: { maxTimeoutSeconds: seconds } });
    const pay = Mppx.create({ methods: [charge], realm: "shop.test", secretKey });
    // In units of display.
    const amount = formatUnits(BigInt(units), decimals);
    const until = () => (seconds ? { expires: Expires.seconds(seconds) } : {});
    return (...request) => pay.charge({ amount, ...until() })(...request);
  });
  return (request, response, next) => {
    const gate = gates[`${request.method} ${request.path}`];
    return gate ? gate(request, response, next) : next();
  };
}

/** mppx over Tempo: it sends the buyer's transaction itself, before the handler. As a sponsor it pays the gas too. */
const sponsored = () => tempo(privateKeyToAccount(SETTLER_KEY));

async function tempo(feePayer) {
  const { Mppx } = await load("mppx/express");
  const { tempo } = await load("mppx/server");
  const { createClient } = await load("viem");
  const { tempo: mainnet, tempoModerato } = await load("viem/chains");
  const gates = forEach(({ units, chainId, payee: recipient = PAYEE }) => {
    // Its other chain is that of real money.
    const client = createClient({ chain: chainId ? mainnet : tempoModerato, transport: http(RPC_URL), pollingInterval: 20 });
    const terms = { currency: TEMPO_TOKEN, recipient, getClient: () => client, ...(feePayer && { feePayer }) };
    const pay = Mppx.create({ methods: [tempo.charge(terms)], realm: "shop.test", secretKey });
    return pay.charge({ amount: formatUnits(BigInt(units), decimals) });
  });
  return (request, response, next) => {
    const gate = gates[`${request.method} ${request.path}`];
    return gate ? gate(request, response, next) : next();
  };
}

/** The facilitator of x402, of both versions, in this process. */
async function facilitator() {
  const { x402Facilitator } = await load("@x402/core/facilitator");
  const { toFacilitatorEvmSigner } = await load("@x402/evm");
  const { registerExactEvmScheme } = await load("@x402/evm/exact/facilitator");
  const signer = toFacilitatorEvmSigner({ ...chain, address: chain.account.address, writeContract });
  return registerExactEvmScheme(new x402Facilitator(), { signer, networks: [network(), network(ELSEWHERE)] });
}

async function resources() {
  const { x402ResourceServer } = await load("@x402/core/server");
  const { ExactEvmScheme } = await load("@x402/evm/exact/server");
  const server = new x402ResourceServer(await facilitator());
  return server.register(network(), new ExactEvmScheme()).register(network(ELSEWHERE), new ExactEvmScheme());
}

const accepts = ({ units, seconds, chainId, payee = PAYEE }) => ({
  accepts: {
    scheme: "exact",
    network: network(chainId),
    payTo: payee,
    price: { asset: TOKEN, amount: String(units), extra: domain },
    maxTimeoutSeconds: seconds ?? 60,
  },
});

async function x402v2() {
  const { paymentMiddleware } = await load("@x402/express");
  return paymentMiddleware(forEach(accepts), await resources());
}

async function dual() {
  const { mpp } = await load("mppx/x402/express");
  return mpp(forEach(accepts), await resources(), { realm: "shop.test", secretKey });
}

async function x402v1() {
  // This one knows a facilitator by its address only.
  const inner = await facilitator();
  const app = express().use(express.json());
  for (const task of ["verify", "settle"]) {
    app.post(`/${task}`, async ({ body }, response) => {
      response.json(await inner[task](body.paymentPayload, body.paymentRequirements));
    });
  }
  const url = await listen(app, 0);
  const { paymentMiddleware } = await load("x402-express");
  const asset = { address: TOKEN, decimals, eip712: domain };
  const routes = (wanted) => Object.fromEntries(
    Object.entries(SOLD).filter(([, { payee }]) => payee === wanted).map(([route, { units, seconds, chainId }]) => [
      route,
      { price: { amount: String(units), asset }, network: chainId ? "base" : "polygon", config: { maxTimeoutSeconds: seconds ?? 60 } },
    ]),
  );
  // One payee is all that a gate has.
  const gates = [PAYEE, STRANGER].map((payee) => paymentMiddleware(payee, routes(payee === PAYEE ? undefined : payee), { url }));
  return express.Router().use(...gates);
}

function listen(app, port) {
  return new Promise((done, failed) => {
    const server = app.listen(port, "127.0.0.1", (error) => {
      error ? failed(error) : done(`http://127.0.0.1:${server.address().port}`);
    });
  });
}

const print = (line) => console.log(JSON.stringify(line));

function credential({ headers }) {
  if (/^payment /i.test(headers.authorization ?? "")) return "mpp";
  if (headers["payment-signature"]) return "x402v2";
  return headers["x-payment"] ? "x402v1" : null;
}

const gate = await { mppx, tempo, sponsored, x402v2, x402v1, dual }[process.argv[2]]();
const app = express();
app.use((request, response, next) => {
  const { method, path } = request;
  response.on("close", () => print({ method, path, status: response.statusCode, credential: credential(request) }));
  next();
});
app.get("/free", (_, response) => response.json({ ok: "free" }));
app.get("/redirect", (_, response) => (REDIRECT_TO ? response.redirect(307, REDIRECT_TO) : response.sendStatus(404)));
app.use(express.text({ type: () => true, limit: "4mb" }), gate);
// Only what is answered as JSON gets a receipt of mppx's own gate.
for (const path of ["/cheap", "/dear", "/short", "/elsewhere", "/stranger"]) app.get(path, (_, response) => response.json({ ok: path.slice(1) }));
app.post("/post", ({ body = "" }, response) => response.json({ ok: "post", got: body }));
app.get("/fails", (_, response) => response.status(500).json({ error: "the handler failed" }));

print({ url: await listen(app, Number(PORT)) });
process.on("SIGTERM", () => process.exit(0));
// Whoever starts it keeps a pipe open: with /dev/null as stdin it would end at once.
process.stdin.on("end", () => process.exit(0)).resume();
