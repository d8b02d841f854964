//! What the process that has the wallet shows at DRAIN_METRICS_ADDR, held against what chain and providers say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use drain_sandbox::provider::Times;
use serde_json::json;
use tokio::io::AsyncReadExt;

use crate::harness::{World, usdc};
use crate::process_harness::{Agent, Env, Greeting, chat, until, world};

const LINES: Greeting = Greeting::Lines("2025-11-25");

/// A port that nobody has.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What is shown now; nothing where nobody listens.
pub async fn scrape(port: u16) -> Option<String> {
    let answer = reqwest::get(format!("http://127.0.0.1:{port}/metrics")).await.ok()?;
    assert_eq!(answer.status(), 200);
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    Some(answer.text().await.unwrap())
}

/// Series with their values.
struct Shown(BTreeMap<String, f64>);

impl Shown {
    async fn now(port: u16) -> Self {
        let text = scrape(port).await.unwrap_or_default();
        let series = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
        Self(series.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect())
    }

    /// The sum of a family's series that have all of these labels; `None` without any.
    fn sum(&self, family: &str, labels: &[&str]) -> Option<f64> {
        let of = |name: &str| {
            let (found, rest) = name.split_once('{').unwrap_or((name, ""));
            found == family && labels.iter().all(|label| rest.contains(label))
        };
        self.0.iter().filter(|(name, _)| of(name)).map(|(_, value)| *value).reduce(|sum, value| sum + value)
    }

    /// The same as USDC base units.
    fn units(&self, family: &str, labels: &[&str]) -> Option<i64> {
        self.sum(family, labels).map(|value| (value * 1e6).round() as i64)
    }
}

async fn shows(port: u16, family: &str, labels: &[&str], value: i64) {
    let what = format!("{family} {labels:?} is {value}");
    until(&what, async || Shown::now(port).await.units(family, labels) == Some(value)).await;
}

async fn counts(port: u16, family: &str, labels: &[&str], value: i64) {
    shows(port, family, labels, value * 1_000_000).await;
}

fn books(world: &World, channel: &str) -> drain_sandbox::provider::Books {
    world.sandbox.llm.books(channel.parse().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_shown_is_what_chain_and_provider_say() {
    let world = world().await;
    let port = free_port();
    let env = Env::of(&world).with("DRAIN_METRICS_ADDR", port.to_string()).with("DRAIN_MAX_OPEN_CHANNELS", "1");
    let mut agent = Agent::start(&env, LINES).await;
    let before = world.held().await;
    let channel = agent.open("sim-llm", "1", "4h").await;
    for _ in 0..3 {
        agent.ok("drain_chat", chat(&channel, "Say hello")).await;
    }
    // Refused by a limit of ours, then by the provider.
    let second = json!({ "provider": "sim-weather", "amount": "1", "duration": "4h" });
    agent.fails("drain_open_channel", second, "limit_reached").await;
    // One that the journal is not asked about.
    let large = json!({ "provider": "sim-weather", "amount": "9", "duration": "4h" });
    agent.fails("drain_open_channel", large, "limit_reached").await;
    world.sandbox.llm.set(|faults| faults.channel_not_found = Times::next(1));
    agent.ok("drain_chat", chat(&channel, "Say hello")).await;

    // The provider's own books, and the chain's.
    let charged = i64::try_from(books(&world, &channel).total_charged).unwrap();
    assert!(charged > 0);
    shows(port, "drain_channel_charged_usdc", &["provider="], charged).await;
    shows(port, "drain_spend_usdc_total", &["agent="], charged).await;
    shows(port, "drain_channel_deposit_usdc", &["provider="], (before.as_i64()) - world.held().await.as_i64()).await;
    let highest = i64::try_from(books(&world, &channel).highest_voucher).unwrap();
    shows(port, "drain_channel_signed_usdc", &["provider="], highest).await;
    shows(port, "drain_channel_overhang_usdc", &["provider="], highest - charged).await;
    shows(port, "drain_channel_claimed_usdc", &["provider="], 0).await;
    shows(port, "drain_wallet_usdc", &[], world.held().await.as_i64()).await;
    shows(port, "drain_cap_used_usdc", &["scope=\"day\"", "name=\"all\""], highest).await;
    shows(port, "drain_cap_limit_usdc", &["scope=\"locked\""], usdc("20").as_i64()).await;
    shows(port, "drain_cap_used_usdc", &["scope=\"locked\""], usdc("1").as_i64()).await;
    counts(port, "drain_channels", &["state=\"open\""], 1).await;
    counts(port, "drain_vouchers_signed_total", &["outcome=\"answered\""], 4).await;
    counts(port, "drain_vouchers_signed_total", &["outcome=\"refused\""], 1).await;
    counts(port, "drain_voucher_refusals_total", &["reason=\"channel_not_found\""], 1).await;
    counts(port, "drain_policy_decisions_total", &["decision=\"refused\"", "rule=\"open_channels\""], 1).await;
    counts(port, "drain_policy_decisions_total", &["decision=\"refused\"", "rule=\"limit_reached\""], 1).await;
    counts(port, "drain_provider_requests_total", &["outcome=\"answered\""], 4).await;
    counts(port, "drain_provider_first_byte_seconds_count", &[], 5).await;
    counts(port, "drain_provider_cost_to_bound_ratio_count", &[], 4).await;
    counts(port, "drain_sign_duration_seconds_count", &["kind=\"voucher\"", "backend=\"local\""], 5).await;
    counts(port, "drain_signer_available", &[], 1).await;
    counts(port, "drain_signer_info", &[&format!("address=\"{}\"", world.agent())], 1).await;
    counts(port, "drain_mcp_requests_total", &["tool=\"drain_chat\"", "outcome=\"ok\""], 4).await;
    counts(port, "drain_mcp_requests_total", &["tool=\"drain_open_channel\"", "outcome=\"limit_reached\""], 2).await;
    counts(port, "drain_mcp_sessions", &["transport=\"stdio\""], 1).await;
    counts(port, "drain_transactions_total", &["kind=\"open\"", "outcome=\"final\""], 1).await;
    counts(port, "drain_journal_errors_total", &[], 0).await;
    let shown = Shown::now(port).await;
    assert!(shown.sum("drain_journal_commit_duration_seconds_count", &[]).unwrap() > 5.0);
    assert!(shown.sum("drain_rpc_requests_total", &["outcome=\"ok\""]).unwrap() > 5.0);
    assert!(shown.sum("drain_rpc_head_block", &[]).unwrap() > 0.0);
    assert!(shown.sum("drain_watcher_last_block_timestamp_seconds", &[]).unwrap() > 1e9);

    agent.ok("drain_cooperative_close", json!({ "channelId": channel })).await;
    // The provider takes its highest voucher, which is what was shown as signed; the rest is back.
    counts(port, "drain_channels", &["state=\"closed\""], 1).await;
    assert_eq!(before.as_i64() - world.held().await.as_i64(), highest);
    shows(port, "drain_wallet_usdc", &[], before.as_i64() - highest).await;
    until("no sum is left", async || Shown::now(port).await.sum("drain_channel_deposit_usdc", &[]).is_none()).await;
    counts(port, "drain_transactions_total", &["kind=\"cooperative_close\"", "outcome=\"final\""], 1).await;
    agent.leave().await;
}

/// One that shares another's wallet serves nothing, and takes over when it takes over the wallet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_the_wallet_serves() {
    let world = world().await;
    let (first_port, second_port) = (free_port(), free_port());
    let env = Env::of(&world).with("DRAIN_RPC_URL", format!("{} http://127.0.0.1:9", world.sandbox.rpc_url()));
    let mut first = Agent::start(&env.clone().with("DRAIN_METRICS_ADDR", first_port.to_string()), LINES).await;
    // An endpoint that nobody asks counts as one that does not fail.
    counts(first_port, "drain_rpc_requests_total", &["endpoint=\"http://127.0.0.1:9\"", "outcome=\"fault\""], 0).await;
    first.ok("drain_balance", json!({})).await;
    let mut second = Agent::start(&env.with("DRAIN_METRICS_ADDR", second_port.to_string()), LINES).await;
    second.ok("drain_balance", json!({})).await;
    counts(first_port, "drain_mcp_sessions", &["transport=\"socket\""], 1).await;
    assert!(scrape(second_port).await.is_none());
    first.kill().await;
    second.ok("drain_balance", json!({})).await;
    counts(second_port, "drain_signer_available", &[], 1).await;
    second.leave().await;
}

/// Who connects and says nothing keeps one of few places, and not for long; the fleet's listener is held to the same
/// (`src/listener.rs`).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scrape_is_refused_while_too_many_are_connected_and_answered_after() {
    let world = world().await;
    let port = free_port();
    let mut agent = Agent::start(&Env::of(&world).with("DRAIN_METRICS_ADDR", port.to_string()), LINES).await;
    until("metrics are served", async || scrape(port).await.is_some()).await;
    let status = async || reqwest::get(format!("http://127.0.0.1:{port}/metrics")).await.map(|answer| answer.status());
    let mut idle = Vec::new();
    while status().await.is_ok_and(|status| status == 200) {
        idle.push(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap());
        // One that comes before a scrape's place is free again gets none itself.
        assert!(idle.len() < 200, "there is no limit");
    }
    let mut told = String::new();
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.read_to_string(&mut told).await.unwrap();
    assert!(told.starts_with("HTTP/1.1 503 "), "{told}");
    agent.ok("drain_balance", json!({})).await;
    drop(idle);
    until("it is answered again", async || status().await.is_ok_and(|status| status == 200)).await;
    agent.leave().await;
}

/// What waits in a channel's queue counts, not only what is on its way there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_channel_is_counted_until_it_is_answered() {
    let world = world().await;
    let port = free_port();
    let mut agent = Agent::start(&Env::of(&world).with("DRAIN_METRICS_ADDR", port.to_string()), LINES).await;
    let channel = agent.open("sim-llm", "1", "4h").await;
    world.sandbox.llm.set(|faults| faults.slow = Some(Duration::from_secs(1)));
    let mut asked = BTreeSet::new();
    for _ in 0..3 {
        let params = json!({ "name": "drain_chat", "arguments": chat(&channel, "Say hello") });
        asked.insert(agent.ask("tools/call", params).await);
    }
    counts(port, "drain_actor_mailbox_depth", &["actor=\"channel\""], 3).await;
    world.sandbox.llm.set(|faults| faults.slow = None);
    while !asked.is_empty() {
        let answer = agent.next().await;
        assert!(answer["id"].as_u64().is_some_and(|id| asked.remove(&id)), "{answer}");
    }
    counts(port, "drain_actor_mailbox_depth", &["actor=\"channel\""], 0).await;
    counts(port, "drain_actor_mailbox_depth", &["actor=\"journal\""], 0).await;
    for actor in ["channel", "journal", "signer", "refund", "watcher"] {
        let label = format!("actor=\"{actor}\"");
        until(&label, async || {
            let at = Shown::now(port).await.sum("drain_actor_last_progress_timestamp_seconds", &[&label]);
            at.is_some_and(|at| at > 1e9)
        })
        .await;
    }
    agent.leave().await;
}
