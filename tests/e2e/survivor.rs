//! What may die: a process that an agent talks to until it ends, and the audit of what it left behind.
//!
//! The audit reads the provider's log of vouchers, the chain through the observer, and the journal's file. It never asks
//! the runtime.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;

use drain_protocol::{Address, Usdc};
use drain_sandbox::Provider;
use drain_sandbox::contracts::{CHANNEL_V1, CHANNEL_V2};
use drain_sandbox::marketplace::FEE_WALLET;
use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::watch;

use crate::harness::World;
use crate::process_harness::{Answer, Env, PATIENCE, chat, collect, until, vouchers};

/// The process is gone.
#[derive(Debug)]
pub struct Died;

/// A process and an agent that expects its death.
pub struct Life {
    child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: watch::Receiver<String>,
    next_id: u64,
}

impl Life {
    /// Starts and greets.
    pub async fn start(env: &Env) -> Result<Self, Died> {
        let mut child = env.command(&[]).spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let stderr = collect(child.stderr.take().unwrap());
        let mut life = Self { child, stdin, stdout, stderr, next_id: 0 };
        let info = json!({ "name": "test", "version": "1" });
        let params = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info });
        life.request("initialize", params).await?;
        life.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await?;
        Ok(life)
    }

    async fn send(&mut self, message: &Value) -> Result<(), Died> {
        let text = format!("{message}\n");
        self.stdin.write_all(text.as_bytes()).await.map_err(|_| Died)?;
        self.stdin.flush().await.map_err(|_| Died)
    }

    /// Sends without waiting; the request's id.
    pub async fn ask(&mut self, method: &str, params: Value) -> Result<u64, Died> {
        self.next_id += 1;
        let id = self.next_id;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })).await?;
        Ok(id)
    }

    /// The next message, whatever it is.
    pub async fn next(&mut self) -> Result<Value, Died> {
        let line = tokio::time::timeout(PATIENCE, self.stdout.next_line()).await;
        let line = line.unwrap_or_else(|_| panic!("no answer; stderr:\n{}", self.stderr.borrow().as_str()));
        let line = line.ok().flatten().ok_or(Died)?;
        // Death may cut a line.
        serde_json::from_str(&line).map_err(|_| Died)
    }

    async fn request(&mut self, method: &str, params: Value) -> Result<Value, Died> {
        let id = self.ask(method, params).await?;
        loop {
            let message = self.next().await?;
            if message["id"] == id {
                assert!(message.get("error").is_none(), "{message}");
                return Ok(message["result"].clone());
            }
        }
    }

    pub async fn call(&mut self, tool: &str, arguments: Value) -> Result<Answer, Died> {
        Ok(Answer::of(self.request("tools/call", json!({ "name": tool, "arguments": arguments })).await?))
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Waits for its end: the signal that ended it, and what it wrote to stderr.
    pub async fn end(mut self) -> (Option<i32>, String) {
        drop(self.stdin);
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let status = status.unwrap_or_else(|_| panic!("it does not end; {}", self.stderr.borrow().as_str())).unwrap();
        let stderr = self.stderr.borrow().clone();
        (status.signal(), stderr)
    }
}

/// What an agent knows over all its lives.
#[derive(Debug, Default)]
pub struct Agenda {
    /// The channel it uses, by provider.
    pub channels: BTreeMap<&'static str, String>,
    /// Every id that it was ever told, or found listed.
    told: BTreeSet<String>,
    /// How many channels it has wanted, and which wish is not answered yet.
    pub wanted: usize,
    wishing: Option<&'static str>,
    /// Channels whose answer went into the void, after the journal knew that it was given.
    pub void: usize,
    /// Requests that were paid without a channel, or whose outcome it was told.
    paid: usize,
}

impl Agenda {
    /// Whether a wish is not answered yet: what was opened for it is given to the same wish, as long as it has not expired.
    pub fn waits(&self) -> bool {
        self.wishing.is_some()
    }

    /// A channel to this provider; the same wish again after a death.
    pub async fn open(&mut self, life: &mut Life, provider: &'static str) -> Result<String, Died> {
        if let Some(known) = self.channels.get(provider) {
            return Ok(known.clone());
        }
        if self.wishing != Some(provider) {
            assert_eq!(self.wishing, None, "one wish at a time");
            self.wanted += 1;
            self.wishing = Some(provider);
        }
        let wish = json!({ "provider": provider, "amount": "0.5", "duration": "4h" });
        // A broken-off opening is cleared by the first call: "call again".
        for _ in 0..3 {
            let answer = life.call("drain_open_channel", wish.clone()).await?;
            if !answer.is_error {
                let id = answer.data["channel"]["channel_id"].as_str().unwrap().to_owned();
                assert!(self.told.insert(id.clone()), "given twice: {id}");
                self.channels.insert(provider, id.clone());
                self.wishing = None;
                return Ok(id);
            }
            assert_ne!(answer.data["retry"], "no", "{}", answer.text);
        }
        panic!("{provider} cannot be opened");
    }

    /// One paid request; its channel is given up when it has ended.
    pub async fn chat(&mut self, life: &mut Life, provider: &'static str, text: &str) -> Result<(), Died> {
        let id = self.open(life, provider).await?;
        let model = if provider == "sim-weather" { "sim/forecast" } else { "sim-small" };
        let mut arguments = chat(&id, text);
        arguments["model"] = model.into();
        let answer = life.call("drain_chat", arguments).await?;
        if !answer.is_error {
            return Ok(());
        }
        match answer.data["code"].as_str().unwrap() {
            "channel_not_open" => drop(self.channels.remove(provider)),
            "channel_expired" => self.close(life, provider, "drain_close_channel").await?,
            // A fault that the test switched on.
            "provider_failed" => {}
            other => panic!("{other}: {}", answer.text),
        }
        Ok(())
    }

    /// One request that is paid without a channel; the same one again after a death, by its name.
    pub async fn pay(&mut self, world: &World, life: &mut Life) -> Result<(), Died> {
        let url = format!("{}/mpp/day/{}", world.sandbox.paid.url(), self.paid);
        let wish = json!({ "url": url, "requestId": format!("day-{}", self.paid) });
        let answer = life.call("pay_request", wish).await?;
        let code = answer.data["code"].as_str().unwrap_or_default();
        // Signed or sent when it died: the chain tells, and nothing is paid again.
        assert!(!answer.is_error || ["request_unknown", "answer_lost"].contains(&code), "{}", answer.text);
        self.paid += 1;
        Ok(())
    }

    /// Ends the channel. One that a death cut off may have ended meanwhile.
    pub async fn close(&mut self, life: &mut Life, provider: &'static str, tool: &'static str) -> Result<(), Died> {
        let Some(id) = self.channels.get(provider).cloned() else { return Ok(()) };
        let answer = life.call(tool, json!({ "channelId": id })).await?;
        let code = answer.data["code"].as_str().unwrap_or_default();
        assert!(!answer.is_error || code == "channel_not_open", "{tool}: {}", answer.text);
        self.channels.remove(provider);
        Ok(())
    }

    /// After a restart: channels that the journal counts as given although the answer never came.
    pub fn find_void(&mut self, world: &World) {
        let journal = world.journal();
        let mut statement = journal
            .prepare("SELECT channel_id, provider_id, state = 'open' FROM channels WHERE told = 1 AND channel_id IS NOT NULL")
            .unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        for (id, provider, open) in rows.map(Result::<(String, String, bool), _>::unwrap) {
            if self.told.contains(&id) {
                continue;
            }
            // Only what was wished for and not answered may be there.
            let wished = self.wishing.take().filter(|wished| *wished == provider);
            let wished = wished.unwrap_or_else(|| panic!("nobody wished for {id} of {provider}"));
            self.void += 1;
            self.told.insert(id.clone());
            // It may have expired, and be closed, before anybody could look.
            if open {
                self.channels.insert(wished, id);
            }
        }
    }
}

/// One channel as the providers' logs have it.
#[derive(Debug, Default)]
struct Sent {
    headers: BTreeMap<u64, String>,
    highest: (u64, u64),
}

fn number(journal: &Connection, query: &str) -> u64 {
    journal.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs()
}

/// Waits until the process that runs has taken up what was left behind.
pub async fn quiet(world: &World) {
    let busy = "SELECT (SELECT COUNT(*) FROM transactions WHERE state IN ('planned', 'signed', 'broadcast')) \
                + (SELECT COUNT(*) FROM channels WHERE state IN ('opening', 'closing'))";
    until("what was left behind is taken up", async || world.journaled(busy) == 0).await;
}

/// M1, M2: what the providers saw, and what the journal knows of it. Holds at any time.
pub fn audit_vouchers(world: &World) {
    let sandbox = &world.sandbox;
    let journal = world.journal();
    for provider in [&sandbox.llm, &sandbox.v1, &sandbox.data, &sandbox.image] {
        for (id, sent) in sent_to(provider) {
            let (amount, nonce) = sent.highest;
            let known: Option<(i64, i64)> = journal
                .query_row("SELECT signed, nonce FROM channels WHERE channel_id = ?1", [&id], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .ok();
            let Some((signed, last)) = known else { panic!("the journal knows nothing of {id}") };
            assert!(signed.unsigned_abs() >= amount, "{id}: {amount} was sent, {signed} is recorded as signed");
            assert!(last.unsigned_abs() >= nonce, "{id}: number {nonce} was sent, {last} is the last recorded");
        }
    }
    let broken = "SELECT COUNT(*) FROM channels c WHERE signed > MIN(deposit, cap) OR charged > signed OR \
                  nonce != COALESCE((SELECT MAX(nonce) FROM vouchers v WHERE v.intent = c.intent), 0)";
    assert_eq!(number(&journal, broken), 0, "the books of a channel do not add up");
}

/// Each number once, each amount at least the one before (a voucher of zero authorises nothing), in order of arrival.
fn sent_to(provider: &Provider) -> BTreeMap<String, Sent> {
    let mut channels: BTreeMap<String, Sent> = BTreeMap::new();
    for request in vouchers(provider) {
        let (amount, nonce) = (request.amount.unwrap(), request.nonce.unwrap());
        let sent = channels.entry(request.channel.to_lowercase()).or_default();
        let before = sent.headers.insert(nonce, request.header.clone().unwrap());
        assert_eq!(before, None, "number {nonce} of {} was used twice", request.channel);
        assert!(nonce > sent.highest.1, "number {nonce} of {} after {}", request.channel, sent.highest.1);
        assert!(amount == 0 || amount >= sent.highest.0, "{amount} after {:?} on {}", sent.highest, request.channel);
        sent.highest = (sent.highest.0.max(amount), nonce);
    }
    channels
}

/// M7, M10 and the sums: the chain as the observer sees it, against the journal. `world` must be quiet.
pub async fn audit_chain(world: &World, agenda: &Agenda) {
    let observer = world.sandbox.observer();
    let (agent, journal) = (world.agent(), world.journal());
    let mut openings = 0;
    let mut locked = 0;
    let mut paid = 0;
    for contract in [CHANNEL_V1, CHANNEL_V2] {
        for id in observer.opened_by(contract, agent).await.unwrap() {
            openings += 1;
            let row: Result<(i64, String, Option<i64>), _> = journal.query_row(
                "SELECT deposit, state, refunded FROM channels WHERE channel_id = ?1 AND contract = ?2",
                [format!("{id:#x}"), format!("{contract:#x}")],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            );
            let (deposit, state, refunded) = row.unwrap_or_else(|_| panic!("the channel {id} is lost"));
            let (deposit, payout) = (deposit.unsigned_abs(), observer.paid_out(contract, id).await.unwrap().units());
            let on_chain = observer.channel(contract, id).await.unwrap();
            let sent = highest_sent(world, &format!("{id:#x}"));
            assert!(payout <= sent, "{id}: {payout} was taken, {sent} was sent");
            paid += payout;
            if on_chain.exists() {
                assert_eq!(state, "open", "{id}");
                assert_eq!(on_chain.deposit.to::<u64>(), deposit, "{id}");
                locked += deposit - payout;
            } else {
                assert_eq!(
                    (state.as_str(), refunded.map(i64::unsigned_abs)),
                    ("closed", Some(deposit - payout)),
                    "{id}"
                );
            }
        }
    }
    // One wish, one deposit, however many deaths.
    assert!(openings <= agenda.wanted, "{openings} channels were opened, {} were wanted", agenda.wanted);
    let opened_v1 = observer.opened_by(CHANNEL_V1, agent).await.unwrap().len() as u64;
    let fees = balance(world, FEE_WALLET).await;
    // One that was paid for an opening that came to nothing waits for the next.
    assert!(fees == opened_v1 * 10_000 || fees == (opened_v1 + 1) * 10_000, "{fees} units for {opened_v1} channels");
    // Every transaction that was mined is one of the journal's, and none of those is mined twice.
    let recorded = number(&journal, "SELECT COUNT(*) FROM transactions WHERE state IN ('final', 'reverted')");
    let slots = "SELECT COUNT(DISTINCT account_nonce) FROM transactions WHERE state IN ('final', 'reverted')";
    assert_eq!((world.sent().await, number(&journal, slots)), (recorded, recorded), "transactions");
    assert_eq!(number(&journal, "SELECT COUNT(*) FROM transactions WHERE state = 'reverted'"), 0, "reverted");
    let without_channels = balance(world, world.sandbox.paid.payee()).await;
    let all = balance(world, agent).await + locked + paid + fees + without_channels;
    assert_eq!(all, 100_000_000, "the sums, to the unit");
}

/// M1, M15: every payment that the server saw is recorded, and none was made twice for one request. Holds at any time.
pub fn audit_payments(world: &World) {
    let (journal, mut requests) = (world.journal(), BTreeSet::new());
    for request in world.sandbox.paid.log() {
        let Some(credential) = request.credential else { continue };
        assert!(requests.insert(request.path.clone()), "{} was paid twice", request.path);
        let recorded = "SELECT amount FROM payments WHERE transfer_nonce = ?1 AND growth = amount AND agent != ''";
        let nonce = format!("{:#x}", credential.nonce);
        let amount: Result<i64, _> = journal.query_row(recorded, [&nonce], |row| row.get(0));
        let amount = amount.unwrap_or_else(|_| panic!("{} was paid, and the journal does not count it", request.path));
        assert_eq!(credential.value.to::<u64>(), amount.unsigned_abs(), "{}", request.path);
    }
}

fn highest_sent(world: &World, id: &str) -> u64 {
    let sandbox = &world.sandbox;
    let all = [&sandbox.llm, &sandbox.v1, &sandbox.data, &sandbox.image].map(sent_to);
    all.iter().filter_map(|channels| channels.get(id)).map(|sent| sent.highest.0).max().unwrap_or(0)
}

async fn balance(world: &World, account: Address) -> u64 {
    world.sandbox.observer().usdc_balance(account).await.map(Usdc::units).unwrap()
}
