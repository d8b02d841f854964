//! Several replicas of `drain-mcp serve` over one PostgreSQL server: one of them has a wallet, the others pass on to it, and
//! what happens to one of them costs nobody money twice.

mod database;
mod hand_over;
mod history;
mod several;
mod thousand;

use std::collections::{HashMap, HashSet};
use std::net::TcpListener;
use std::path::Path;

use drain_mcp::agents::token::Token;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::World;
use crate::process_harness::served::{Client, Served, add_agent, client, message_in, message_of, stateless};
use crate::process_harness::{Answer, Env, chat, until, vouchers, world};

#[path = "../postgres/server.rs"]
pub mod postgres;
use postgres::{OWNER, ROLE};

/// A world, a database and replicas over both, each with a home of its own.
struct Fleet {
    world: World,
    database: postgres::Server,
    homes: Vec<TempDir>,
    url: String,
    more: Vec<(String, String)>,
    token: String,
    /// Another agent's.
    bob: String,
}

impl Fleet {
    async fn new() -> Self {
        let (world, database) = (world().await, postgres::Server::start());
        let url = database.url(OWNER);
        let homes = vec![TempDir::new().unwrap()];
        let first = Env::of(&world).with("DRAIN_HOME", homes[0].path().display().to_string());
        let token = add_agent(&first, "ann", &[]).await;
        let bob = add_agent(&first, "bob", &[]).await;
        Self { world, database, homes, url, more: Vec::new(), token, bob }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.more.push((name.into(), value.into()));
        self
    }

    /// The environment of the next replica: its own home with the same agents, its own address.
    fn env(&mut self) -> Env {
        if self.homes.len() > 1 || self.homes[0].path().join("used").exists() {
            let home = TempDir::new().unwrap();
            copy_agents(self.homes[0].path(), home.path());
            self.homes.push(home);
        } else {
            std::fs::write(self.homes[0].path().join("used"), "").unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let env = Env::of(&self.world)
            .with("DRAIN_HOME", self.homes.last().unwrap().path().display().to_string())
            .with("DRAIN_JOURNAL_URL", self.url.clone())
            .with("DRAIN_JOURNAL_LEASE", "2s")
            .with("DRAIN_LISTEN", format!("127.0.0.1:{port}"))
            .with("DRAIN_REPLICA_URL", format!("http://127.0.0.1:{port}"));
        self.more.iter().fold(env, |env, (name, value)| env.with(name, value.clone()))
    }

    async fn replica(&mut self) -> Served {
        let env = self.env();
        Served::start_with(&env, &["serve"]).await
    }

    /// The wallet's schema.
    fn schema(&self) -> String {
        format!("drain_137_{:#x}", self.world.agent())
    }

    fn sql(&self, sql: &str) -> String {
        self.database.sql("drain", &format!("SET search_path TO {}; {sql}", self.schema()))
    }

    /// No two vouchers that the provider saw on a channel have one number, none is below an earlier one, and none was ever
    /// signed that the journal does not hold.
    fn nothing_twice(&self) {
        let held = self.sql(
            "SELECT c.channel_id || ' ' || v.nonce || ' ' || v.amount FROM vouchers v JOIN channels c USING (intent)",
        );
        let held: HashSet<&str> = held.lines().collect();
        let mut last: HashMap<String, (u64, u64)> = HashMap::new();
        for request in vouchers(&self.world.sandbox.llm) {
            let (nonce, amount) = (request.nonce.unwrap(), request.amount.unwrap());
            let voucher = format!("{} {nonce} {amount}", request.channel);
            assert!(held.contains(voucher.as_str()), "a voucher that the journal does not hold: {voucher}");
            let last = last.entry(request.channel).or_default();
            // What a replica that stood still had recorded comes late, and is refused.
            let late = nonce < last.0 && request.outcome.contains("nonce");
            // One of amount zero asks for the provider's books, and authorises nothing.
            assert!(
                late || nonce > last.0 && (amount == 0 || amount >= last.1),
                "{voucher} after {last:?}: {}",
                request.outcome
            );
            *last = (nonce.max(last.0), amount.max(last.1));
        }
    }

    /// Which of these has the wallet.
    fn holder(&self, replicas: &[Served]) -> Option<usize> {
        let address = self.sql("SELECT address FROM identity");
        replicas.iter().position(|replica| address.trim_end_matches('/') == replica.url)
    }
}

/// An agent as the agents' file has it.
fn entry(n: usize, wallet: &str, token: &Token) -> String {
    format!(
        "[agents.agent{n}]\nwallet = \"{wallet}\"\ntoken_sha256 = \"{}\"\ncreated_at = \"2026-01-01T00:00:00Z\"\nbudget = \"1\"\n",
        token.hash()
    )
}

fn copy_agents(from: &Path, to: &Path) {
    let name = "agents.toml";
    std::fs::copy(from.join(name), to.join(name)).unwrap();
    std::fs::set_permissions(to.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

async fn open(served: &Served, token: &str) -> String {
    let client = served.client(token, Client::stateless()).await;
    let id = client.open("sim-llm", "1").await;
    client.leave().await;
    id
}

/// One request, as often as it was not begun.
async fn ask(served: &Served, token: &str, channel: &str, text: &str) -> Result<Answer, (StatusCode, String)> {
    let answer = served.stateless(token, "drain_chat", &chat(channel, text)).send().await.unwrap();
    let status = answer.status();
    if status != StatusCode::OK {
        return Err((status, answer.text().await.unwrap()));
    }
    Ok(Answer::of(message_of(answer).await["result"].clone()))
}

async fn paid(served: &Served, token: &str, channel: &str, text: &str) {
    let answer = ask(served, token, channel, text).await.unwrap_or_else(|refused| panic!("{refused:?}"));
    assert!(!answer.is_error, "{}", answer.text);
}

fn continued(served: &Served) {
    signalled(served, rustix::process::Signal::CONT);
}

fn signalled(served: &Served, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(served.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}
