// The way to the server: the session, the stream of states, and what the operator asks for.

const API = "/console/api/";
// The server speaks at least every 15 s: silence beyond this is a lost connection, whatever the socket says.
const SILENCE = 35_000;
const SLOWEST = 15;

let on;
let source;
let retry;
let watchdog;
let failures = 0;

/** Whom to tell: state(document), trouble(failures, nextTry), signIn(). */
export function listen(handlers) {
  on = handlers;
  addEventListener("online", connect);
  document.addEventListener("visibilitychange", () => !document.hidden && failures && connect());
}

/** Tries at once, and follows from then on. */
export async function connect() {
  stop();
  try {
    const reply = await fetch(`${API}state`, { cache: "no-store", signal: AbortSignal.timeout(10_000) });
    if (reply.status === 401) return on.signIn();
    if (!reply.ok) return lost();
    hear(await reply.json());
  } catch {
    return lost();
  }
  source = new EventSource(`${API}events`);
  source.addEventListener("state", (event) => hear(JSON.parse(event.data)));
  source.onerror = lost;
}

function hear(state) {
  failures = 0;
  clearTimeout(watchdog);
  watchdog = setTimeout(silent, SILENCE);
  on.state(state);
}

// What is shown is old already: said at once, and not only when the next try fails.
function silent() {
  failures = 1;
  lost();
}

function lost() {
  stop();
  failures += 1;
  const wait = Math.min(2 ** (failures - 1), SLOWEST) * 1000;
  retry = setTimeout(connect, wait);
  on.trouble(failures, Date.now() + wait);
}

function stop() {
  source?.close();
  clearTimeout(retry);
  clearTimeout(watchdog);
}

/** Asks for something. What is told never leaves open what became of the money. */
export async function post(path, body) {
  let reply;
  try {
    reply = await fetch(API + path, { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json", "drain-console": "1" } });
  } catch {
    return { ok: false, text: "The connection was lost before the server answered: it may have been done, or not. Look at the page when the connection is back before you ask again." };
  }
  if (reply.status === 401) {
    stop();
    on.signIn();
    return { ok: false, text: "The session is over: nothing was done. Sign in and ask again." };
  }
  const told = await reply.json().catch(() => null);
  return { ok: reply.ok, text: told?.text || (reply.ok ? "Done." : `The server refused (${reply.status}) and did not say why.`) };
}

/** Signs in with the operator's token; says why not, or nothing. */
export async function signIn(token) {
  try {
    const reply = await fetch(`${API}session`, { method: "POST", body: JSON.stringify({ token }), headers: { "content-type": "application/json", "drain-console": "1" } });
    if (reply.ok) return "";
    return reply.status === 401 ? "That is not the token, or it counted once and was used." : `The server does not take it now (${reply.status}). Try again in a while.`;
  } catch {
    return "The server cannot be reached. Is drain-mcp serve running?";
  }
}

/** Signs out. Loading anew forgets everything that was shown. */
export async function signOut() {
  stop();
  await fetch(`${API}session`, { method: "DELETE", headers: { "drain-console": "1" } }).catch(() => {});
  location.reload();
}
