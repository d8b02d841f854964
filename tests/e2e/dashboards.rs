//! Dashboards, recorded rules and alerts over a fleet that runs: real servers with real traffic, scraped by a real Prometheus.

mod prometheus;

use std::collections::BTreeSet;
use std::time::Duration;

use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolCall;
use drain_mcp::operator;
use drain_protocol::contract::DrainChannel;
use drain_protocol::{ChannelId, Nonce, U256, Usdc, Voucher};
use drain_sandbox::SandboxConfig;
use drain_sandbox::chain::{ChainConfig, Endpoint, Faults};
use drain_sandbox::contracts::{CHANNEL_V2, Settings};
use drain_sandbox::provider::{Provider, Times};
use serde_json::{Value, json};

use crate::harness::{World, usdc};
use crate::layer::Layer;
use crate::process_harness::served::{Client, Served};
use crate::process_harness::{Env, chat, until};
use prometheus::{Prometheus, RULES, folder, promtool};

/// The second instance's key.
const KEY: &str = "0x92db14e403b83dfe3df233f83dfa3a0d7096f21ca9b0d6d6b8d88b2b4ec1564e";
/// POL, in wei.
const POL: u64 = 1_000_000_000_000_000_000;

/// There only where the job was scraped a day ago.
const AFTER_A_DAY: &str = "job:drain_spend_usdc:rate1d";

/// Alerts that these troubles must raise, and at which instance, before the second one is killed.
const RAISED: [(&str, &str); 19] = [
    ("DrainApprovalWaiting", "first"),
    ("DrainCapNearlyUsed", "first"),
    ("DrainCapReached", "first"),
    ("DrainCapRefusals", "first"),
    ("DrainProviderErrors", "first"),
    ("DrainVoucherNotMonotone", "first"),
    ("DrainContractAdminEvent", "first"),
    ("DrainContractAdminEvent", "second"),
    ("DrainClaimedAboveSigned", "second"),
    ("DrainFrozen", "second"),
    ("DrainOverhangHigh", "second"),
    ("DrainJournalError", "second"),
    ("DrainGasLow", "second"),
    ("DrainGasOut", "second"),
    ("DrainReclaimable", "second"),
    ("DrainReclaimableLong", "second"),
    ("DrainRpcAllFailing", "second"),
    ("DrainRpcFewHealthy", "second"),
    ("DrainSignerUnavailable", "third"),
];

/// Two servers, a wallet each, and who looks at them.
struct Fleet {
    world: World,
    owner: PrivateKeySigner,
    second_key: PrivateKeySigner,
    /// Under the second one.
    layer: Layer,
    /// The second one's.
    nodes: [Endpoint; 2],
    /// The first one's other.
    _spare: Endpoint,
    first: Served,
    second: Served,
    ann: Client,
    bob: Client,
    cid: Client,
    prometheus: Prometheus,
}

impl Fleet {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let owner = PrivateKeySigner::random();
        // Blocks come by themselves, as on Polygon.
        let chain = ChainConfig { block_time: Some(Duration::from_secs(1)), ..ChainConfig::default() };
        let contracts = Settings { owner: owner.address(), ..Settings::default() };
        let world = World::with(SandboxConfig { chain, contracts, ..SandboxConfig::default() }).await;
        let second_key: PrivateKeySigner = KEY.parse().unwrap();
        for key in [&owner, &second_key] {
            world.sandbox.observer().fund(key.address(), usdc("10"), U256::from(POL)).await.unwrap();
        }
        let mut nodes = Vec::new();
        for _ in 0..3 {
            nodes.push(world.chain().endpoint(Faults::default()).await.unwrap());
        }
        let [spare, one, two] = nodes.try_into().ok().unwrap();
        let env = Env::of(&world).with("DRAIN_APPROVAL_WAIT", "0");
        let home = world.home.path().join("second");
        for home in [world.home.path(), &home] {
            operator::set(home, "correct horse battery").unwrap();
        }
        let first = env
            .clone()
            .with("DRAIN_RPC_URL", format!("{} {}", world.sandbox.rpc_url(), spare.url()))
            .with("DRAIN_MAX_LOCKED", "3")
            .with("DRAIN_APPROVE_REQUESTS_ABOVE", "0.02");
        let layer = Layer::under(&world);
        let second = layer
            .env(&env)
            .with("DRAIN_HOME", home.display().to_string())
            .with("DRAIN_PRIVATE_KEY", KEY)
            .with("DRAIN_RPC_URL", format!("{} {}", one.url(), two.url()));
        let (first, second) = (Served::start(&first).await, Served::start(&second).await);
        let (ann, bob) = (agent(&first, "ann").await, agent(&first, "bob").await);
        let cid = agent(&second, "cid").await;
        let prometheus = Prometheus::start(&[instance(&first), instance(&second)]).await;
        Self {
            world,
            owner,
            second_key,
            layer,
            nodes: [one, two],
            _spare: spare,
            first,
            second,
            ann,
            bob,
            cid,
            prometheus,
        }
    }

    fn providers(&self) -> [&Provider; 4] {
        let sandbox = &self.world.sandbox;
        [&sandbox.llm, &sandbox.data, &sandbox.image, &sandbox.v1]
    }
}

async fn agent(served: &Served, name: &str) -> Client {
    let token = served.agent(name, &[]).await;
    served.client(&token, Client::stateless()).await
}

fn instance(served: &Served) -> &str {
    served.url.trim_start_matches("http://")
}

/// A channel of one USDC; its id.
async fn open(client: &Client, provider: &str, duration: &str) -> String {
    let wanted = json!({ "provider": provider, "amount": "1", "duration": duration });
    let opened = client.ok("drain_open_channel", wanted).await;
    opened.data["channel"]["channel_id"].as_str().unwrap().to_owned()
}

fn forecast(channel: &str) -> Value {
    let messages = json!([{ "role": "user", "content": "Lisbon" }]);
    json!({ "channelId": channel, "model": "sim/forecast", "messages": messages })
}

/// A long answer, wanted from the dear model.
fn dear(channel: &str, tokens: u64) -> Value {
    let mut call = chat(channel, "Hello");
    (call["model"], call["maxTokens"]) = (json!("sim-large"), json!(tokens));
    call
}

/// All alerts that fired until now: name and instance. Before its first look Prometheus knows of no instance
/// at all, and says that they are down.
async fn raised(prometheus: &Prometheus) -> BTreeSet<(String, String)> {
    let text = |metric: &Value, label: &str| metric[label].as_str().unwrap_or_default().to_owned();
    let all = prometheus.now(r#"last_over_time(ALERTS{alertstate="firing",instance!=""}[1h])"#).await;
    all.iter().map(|(metric, _)| (text(metric, "alertname"), text(metric, "instance"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs prometheus"]
async fn every_panel_has_data_and_alerts_tell_trouble_and_nothing_else() {
    let fleet = Fleet::start().await;
    let channels = all_is_well(&fleet).await;
    trouble(fleet, channels).await;
}

// === all is well

/// The channels that stay: of ann, of bob, and two of cid.
async fn all_is_well(fleet: &Fleet) -> [String; 4] {
    let Fleet { ann, bob, cid, prometheus, .. } = fleet;
    let of_ann = open(ann, "sim-llm", "24h").await;
    let of_bob = open(bob, "sim-weather", "24h").await;
    let of_cid = open(cid, "sim-llm", "4h").await;
    let other = open(cid, "sim-weather", "4h").await;
    for _ in 0..4 {
        ann.ok("drain_chat", chat(&of_ann, "Say hello")).await;
        bob.ok("drain_chat", forecast(&of_bob)).await;
        cid.ok("drain_chat", chat(&of_cid, "Say hello")).await;
    }
    // One that a provider refuses first.
    fleet.world.sandbox.llm.set(|faults| faults.channel_not_found = Times::next(1));
    ann.ok("drain_chat", chat(&of_ann, "Say hello")).await;
    let over = open(cid, "sim-image", "4h").await;
    cid.ok("drain_cooperative_close", json!({ "channelId": over })).await;

    for served in [&fleet.first, &fleet.second] {
        let up = format!("up{{instance={:?}}} == 1", instance(served));
        until(&up, async || prometheus.now(&up).await.len() == 1).await;
    }
    what_is_shown_is_true(fleet).await;
    every_panel_has_data(fleet).await;
    every_rule_works(prometheus).await;
    assert_eq!(raised(prometheus).await, BTreeSet::new(), "nothing is wrong");
    [of_ann, of_bob, of_cid, other]
}

/// By the providers' books and the chain.
async fn what_is_shown_is_true(fleet: &Fleet) {
    let charged: u64 = fleet.providers().iter().map(|provider| charged(provider)).sum();
    let observer = fleet.world.sandbox.observer();
    let locked = observer.total_locked().await.unwrap();
    let mut held = fleet.world.held().await;
    held = held.saturating_add(observer.usdc_balance(fleet.second_key.address()).await.unwrap());
    assert!(charged > 0 && locked == usdc("4"), "{charged} {locked}");
    for (query, truth) in [
        ("sum(drain_spend_usdc_total)", Usdc::new(charged.try_into().unwrap())),
        ("sum(drain_channel_deposit_usdc)", locked),
        ("sum(drain_cap_used_usdc{scope=\"locked\"})", locked),
        ("sum(drain_wallet_usdc)", held),
    ] {
        let truth = truth.as_i64();
        until(&format!("{query} is {truth}"), async || {
            let shown = fleet.prometheus.now(query).await;
            shown.first().is_some_and(|(_, value)| (value * 1e6).round() as i64 == truth)
        })
        .await;
    }
}

/// What it charged on all channels.
fn charged(provider: &Provider) -> u64 {
    let ids: BTreeSet<_> = provider.request_log().paid.iter().filter_map(|paid| paid.channel.parse().ok()).collect();
    ids.into_iter().filter_map(|id| provider.books(id)).map(|books| books.total_charged).sum()
}

/// As Grafana asks: all instances, or the one that is chosen.
async fn every_panel_has_data(fleet: &Fleet) {
    let mut panels = 0;
    for file in std::fs::read_dir(folder().join("grafana")).unwrap() {
        let board: Value = serde_json::from_slice(&std::fs::read(file.unwrap().path()).unwrap()).unwrap();
        let one = board["uid"] == "drain-instance";
        let chosen = if one { instance(&fleet.first) } else { ".*" };
        for panel in board["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().unwrap() {
                let query = target["expr"].as_str().unwrap();
                let query = query.replace("$__rate_interval", "10s").replace("$instance", chosen);
                assert!(!query.contains('$'), "{query}");
                let what = format!("{}, {}, has data: {query}", board["title"], panel["title"]);
                let now = target["instant"] == true;
                until(&what, async || {
                    let shown = match now {
                        true => fleet.prometheus.now(&query).await.into_iter().map(|(_, value)| value).collect(),
                        false => fleet.prometheus.lately(&query).await,
                    };
                    shown.iter().any(|value| value.is_finite())
                })
                .await;
                panels += 1;
            }
        }
    }
    assert!(panels > 50, "only {panels}");
    // What is scraped is well formed.
    let (_, exposition) = fleet.first.get("/metrics").await;
    let checked = promtool(&["check", "metrics"], &exposition);
    assert!(checked.status.success() && checked.stdout.is_empty() && checked.stderr.is_empty(), "{checked:?}");
}

/// Each is evaluated without an error, and what is recorded is there.
async fn every_rule_works(prometheus: &Prometheus) {
    for path in RULES {
        let checked = promtool(&["check", "rules", &folder().join(path).display().to_string()], "");
        assert!(checked.status.success(), "{checked:?}");
    }
    until("every rule was evaluated", async || rules(prometheus).await.iter().all(|rule| rule["health"] != "unknown"))
        .await;
    for rule in rules(prometheus).await {
        assert!(rule["health"] == "ok", "{rule}");
        let name = rule["name"].as_str().unwrap();
        if rule["type"] == "recording" && name != AFTER_A_DAY {
            let what = format!("{name} is recorded");
            until(&what, async || prometheus.now(name).await.iter().any(|(_, value)| value.is_finite())).await;
        }
    }
}

async fn rules(prometheus: &Prometheus) -> Vec<Value> {
    let all = prometheus.ask("rules", &[]).await;
    let groups = all["groups"].as_array().unwrap();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).cloned().collect()
}

// === trouble

async fn trouble(fleet: Fleet, [of_ann, of_bob, of_cid, other]: [String; 4]) {
    let Fleet { ref world, ref ann, ref bob, ref cid, ref prometheus, .. } = fleet;
    // A question that nobody answers; limits that are reached.
    ann.fails("drain_chat", dear(&of_ann, 2_000), "approval_needed").await;
    open(ann, "sim-image", "24h").await;
    let more = json!({ "provider": "sim-image", "amount": "1", "duration": "4h" });
    bob.fails("drain_open_channel", more, "limit_reached").await;
    // A provider that fails, one that sees an old voucher, one that takes its time for nothing.
    world.sandbox.data.set(|faults| faults.fail_500 = Times::next(4));
    for _ in 0..4 {
        bob.call("drain_chat", forecast(&of_bob)).await;
    }
    world.sandbox.llm.set(|faults| faults.invalid_nonce = Times::next(1));
    ann.call("drain_chat", chat(&of_ann, "Say hello")).await;
    cid.ok("drain_chat", dear(&of_cid, 14_000)).await;
    // A disk that is full.
    fleet.layer.fail("full");
    assert!(cid.call("drain_chat", chat(&of_cid, "Say hello")).await.is_error);
    fleet.layer.heal();
    // The contract's owner, and a thief with the key.
    let fee = DrainChannel::setFeeCall { recipient: fleet.owner.address(), bps: U256::from(500) };
    world.sandbox.observer().rpc().execute(&fleet.owner, CHANNEL_V2, fee.abi_encode()).await.unwrap();
    steal(&fleet, &of_cid).await;
    until("the wallet is frozen", async || {
        let refused = cid.call("drain_chat", forecast(&other)).await;
        refused.data["code"] == "wallet_frozen"
    })
    .await;
    seen(&fleet, &["DrainJournalError", "DrainClaimedAboveSigned", "DrainOverhangHigh"]).await;
    // No gas to close what expires.
    let left = U256::from(POL / 1_000);
    world.sandbox.observer().fund(fleet.second_key.address(), usdc("5"), left).await.unwrap();
    world.advance(5 * 3_600).await;
    seen(&fleet, &["DrainReclaimableLong", "DrainGasOut", "DrainContractAdminEvent"]).await;
    for node in &fleet.nodes {
        node.update_faults(|faults| faults.fail_rate = 1.0);
    }
    // A server whose wallet another one has, and one that is no more.
    let third = Served::start(&fleet.first.env).await;
    prometheus.look_at(&[instance(&fleet.first), instance(&fleet.second), instance(&third)]);
    let names = [(&fleet.first, "first"), (&fleet.second, "second"), (&third, "third")];
    let names = names.map(|(served, name)| (instance(served).to_owned(), name.to_owned()));
    let found = async || -> BTreeSet<_> {
        let named =
            |at: String| names.iter().find(|(instance, _)| *instance == at).map_or(at, |(_, name)| name.clone());
        raised(prometheus).await.into_iter().map(|(alert, at)| (alert, named(at))).collect()
    };
    let mut expected: BTreeSet<_> = RAISED.iter().map(|(alert, at)| ((*alert).to_owned(), (*at).to_owned())).collect();
    until("each of them is raised", async || found().await.is_superset(&expected)).await;
    let killed = rustix::process::Pid::from_raw(i32::try_from(fleet.second.pid()).unwrap()).unwrap();
    rustix::process::kill_process(killed, rustix::process::Signal::KILL).unwrap();
    seen(&fleet, &["DrainInstanceDown"]).await;
    expected.insert(("DrainInstanceDown".into(), "second".into()));
    assert_eq!(found().await, expected, "nothing else is");
    for alert in prometheus.ask("alerts", &[]).await["alerts"].as_array().unwrap() {
        let text = alert["annotations"].to_string();
        assert!(!text.contains("error expanding") && !text.contains("no value"), "{alert}");
    }
}

/// Waits until all of these were raised.
async fn seen(fleet: &Fleet, alerts: &[&str]) {
    for alert in alerts {
        let raised = async || raised(&fleet.prometheus).await.iter().any(|(name, _)| name == alert);
        until(alert, raised).await;
    }
}

/// The provider claims with a voucher that the second instance's key signed elsewhere.
async fn steal(fleet: &Fleet, channel: &str) {
    let (amount, nonce) = (usdc("0.9"), Nonce::new(9_000).unwrap());
    let channel: ChannelId = channel.parse().unwrap();
    let config = fleet.world.config();
    let on = config.chain.deployments.iter().find(|on| on.contract() == CHANNEL_V2).unwrap();
    let digest = Voucher { channel_id: channel, amount, nonce }.digest(&on.domain);
    let claim = DrainChannel::claimCall {
        channelId: channel.0,
        amount: U256::from(amount.as_i64()),
        nonce: U256::from(nonce.get()),
        signature: fleet.second_key.sign_hash_sync(&digest).unwrap().as_bytes().to_vec().into(),
    };
    let provider = &fleet.world.sandbox.llm.config().key;
    fleet.world.sandbox.observer().rpc().execute(provider, CHANNEL_V2, claim.abi_encode()).await.unwrap();
}
