//! What the chain does to our channels while we look away: claims, closes, time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use alloy::primitives::U256;
use alloy::sol_types::{SolCall, SolEvent};
use drain_mcp::actors::Runtime;
use drain_mcp::api::{ChannelState, ChannelView, Progress};
use drain_mcp::config::Config;
use drain_protocol::contract::DrainChannel;
use drain_protocol::{ChannelId, Usdc};
use drain_sandbox::contracts::CHANNEL_V2;
use serde_json::{Value, json};

use crate::harness::{World, ask, in_system, open, until, usdc};

#[path = "../../src/chain/tests/relay.rs"]
pub mod relay;

/// Whether a request asks the contract for this channel as of a numbered block.
fn compares(id: ChannelId, method: &str, params: &Value) -> bool {
    let call = DrainChannel::getChannelCall { channelId: id.0 }.abi_encode();
    method == "eth_call"
        && params[1].as_str().is_some_and(|block| block.starts_with("0x"))
        && params[0]["data"] == json!(alloy::hex::encode_prefixed(call))
}

fn watchful(world: &World) -> Config {
    let mut config = world.config();
    config.chain.poll_interval = Duration::from_millis(20);
    config
}

/// As the journal has it: nothing of this is asked of the chain.
async fn recorded(runtime: &Runtime, id: ChannelId) -> ChannelView {
    let all = runtime.channels(true).await.unwrap();
    all.into_iter().find(|view| view.channel_id == Some(id.to_string())).unwrap()
}

/// The agent's key, used outside of the runtime.
async fn close_elsewhere(world: &World, id: ChannelId) {
    let data = DrainChannel::closeCall { channelId: id.0 }.abi_encode();
    world.sandbox.observer().rpc().execute(world.sandbox.agent(), CHANNEL_V2, data).await.unwrap();
}

#[test]
fn a_claim_on_chain_is_seen_and_the_channel_pays_on() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime_with(watchful(&world)).await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        for round in 0..2 {
            ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
            let signed = recorded(&runtime, channel).await.signed;
            world.sandbox.llm.claim(channel.0).await.unwrap();
            until("the watcher told", async || recorded(&runtime, channel).await.claimed == signed).await;
            assert!(round == 0 || signed > Usdc::ZERO);
            // What was claimed cannot be signed for less: the next voucher covers it.
            let paid = ask(&runtime, channel, "sim-large", "And another one").await.unwrap();
            assert!(paid.channel.signed >= signed);
        }
        let before = runtime.channel(channel).await.unwrap();
        let closed = runtime.cooperative_close(channel, Progress::none()).await.unwrap();
        assert_eq!((closed.paid, world.held().await), (before.signed, usdc("100").checked_sub(before.signed).unwrap()));
    });
}

#[test]
fn a_claim_before_a_restart_is_seen_after_it() {
    in_system(async {
        let world = Arc::new(World::start().await);
        let life = async |runtime: Runtime, _: Arc<World>| {
            let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
            (channel, ask(&runtime, channel, "sim-small", "Hello").await.unwrap().channel.signed)
        };
        let (channel, signed) = world.life(world.config(), life).await;
        world.sandbox.llm.claim(channel.0).await.unwrap();
        let life = async move |runtime: Runtime, _: Arc<World>| {
            assert_eq!(runtime.channel(channel).await.unwrap().claimed, signed);
            // The provider signs zero now; the contract would refuse that, and so do we (M6).
            let failure = runtime.cooperative_close(channel, Progress::none()).await.unwrap_err();
            assert_eq!(failure.code.as_str(), "close_refused", "{failure:?}");
            ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        };
        world.life(world.config(), life).await;
    });
}

#[test]
fn a_channel_that_was_closed_elsewhere_is_noticed_and_signs_nothing() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime_with(watchful(&world)).await;
        let channel = open(&runtime, "sim-llm", "1", "300s").await.unwrap();
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        world.advance(300).await;
        close_elsewhere(&world, channel).await;
        until("the watcher told", async || recorded(&runtime, channel).await.state == ChannelState::Closed).await;
        let view = recorded(&runtime, channel).await;
        assert_eq!((view.refunded, view.claimed), (Some(usdc("1")), usdc("0")));
        assert_eq!(runtime.balance().await.unwrap().locked, usdc("0"));
        let asked = world.sandbox.llm.request_log().paid.len();
        let failure = ask(&runtime, channel, "sim-small", "Hello?").await.unwrap_err();
        assert!(["channel_not_open", "channel_expired"].contains(&failure.code.as_str()), "{failure:?}");
        let failure = runtime.close(channel, Progress::none()).await.unwrap_err();
        assert_eq!(failure.code.as_str(), "channel_not_open");
        assert_eq!(world.sandbox.llm.request_log().paid.len(), asked);
    });
}

#[test]
fn a_channel_that_was_closed_while_nothing_ran_does_not_stay_locked() {
    in_system(async {
        let world = Arc::new(World::start().await);
        let life = async |runtime: Runtime, _: Arc<World>| open(&runtime, "sim-llm", "1", "300s").await.unwrap();
        let channel = world.life(world.config(), life).await;
        world.advance(300).await;
        close_elsewhere(&world, channel).await;
        let life = async move |runtime: Runtime, _: Arc<World>| {
            until("the watcher told", async || recorded(&runtime, channel).await.state == ChannelState::Closed).await;
            assert_eq!(recorded(&runtime, channel).await.refunded, Some(usdc("1")));
            assert_eq!(runtime.balance().await.unwrap().locked, usdc("0"));
        };
        world.life(watchful(&world), life).await;
    });
}

#[test]
fn one_endpoint_cannot_close_a_channel_nor_hide_what_happens_to_another() {
    in_system(async {
        let world = World::start().await;
        let (target, lying) = (Arc::new(Mutex::new(None::<ChannelId>)), Arc::new(AtomicBool::new(false)));
        let (logs, calls) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (node, agent) = (world.sandbox.rpc_url().to_owned(), world.agent());
        let lie = {
            let (target, lying, logs, calls) = (target.clone(), lying.clone(), logs.clone(), calls.clone());
            move |method: &str, params: &Value, answer: &mut Value| {
                let Some(id) = *target.lock().unwrap() else { return };
                if !lying.load(Ordering::SeqCst) {
                    return;
                }
                if method == "eth_getLogs" {
                    logs.fetch_add(1, Ordering::SeqCst);
                    let refund = U256::from(1_000_000).to_be_bytes::<32>();
                    let log = json!({
                        "address": CHANNEL_V2,
                        "topics": [DrainChannel::ChannelClosed::SIGNATURE_HASH, id.0, agent.into_word()],
                        "data": alloy::hex::encode_prefixed(refund),
                        "blockNumber": params[0]["toBlock"], "blockHash": id.0, "transactionHash": id.0,
                        "transactionIndex": "0x0", "logIndex": "0x0", "removed": false,
                    });
                    answer["result"].as_array_mut().unwrap().push(log);
                } else if compares(id, method, params) {
                    calls.fetch_add(1, Ordering::SeqCst);
                    answer["result"] = json!(format!("0x{}", "0".repeat(320)));
                }
            }
        };
        let mut config = watchful(&world);
        config.chain.rpc_urls.insert(0, relay::relay(&node, lie).await.parse().unwrap());
        let runtime = world.runtime_with(config).await;
        let channel = open(&runtime, "sim-llm", "1", "300s").await.unwrap();
        let other = open(&runtime, "sim-llm", "2", "300s").await.unwrap();
        *target.lock().unwrap() = Some(channel);
        lying.store(true, Ordering::SeqCst);
        world.chain().mine(1);
        until("it lies", async || logs.load(Ordering::SeqCst) > 0 && calls.load(Ordering::SeqCst) > 3).await;
        assert_eq!(recorded(&runtime, channel).await.state, ChannelState::Open);
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        world.chain().advance(300);
        close_elsewhere(&world, other).await;
        until("the other one is closed", async || recorded(&runtime, other).await.state == ChannelState::Closed).await;
        assert_eq!(recorded(&runtime, other).await.refunded, Some(usdc("2")));
        assert_ne!(recorded(&runtime, channel).await.state, ChannelState::Closed);
        // Cured, it is believed where the other one says the same.
        lying.store(false, Ordering::SeqCst);
        close_elsewhere(&world, channel).await;
        until("the watcher told", async || recorded(&runtime, channel).await.state == ChannelState::Closed).await;
    });
}

#[test]
fn a_watcher_that_is_far_behind_catches_up_in_one_look() {
    in_system(async {
        let world = World::start().await;
        let mut config = world.config();
        config.chain.poll_interval = Duration::from_secs(3);
        let runtime = world.runtime_with(config).await;
        let channel = open(&runtime, "sim-llm", "1", "300s").await.unwrap();
        // Its first look, which begins at the head, is over.
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.chain().mine(4_000);
        world.chain().advance(300);
        close_elsewhere(&world, channel).await;
        let begun = Instant::now();
        until("the watcher told", async || recorded(&runtime, channel).await.state == ChannelState::Closed).await;
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    });
}

#[test]
fn a_channel_that_cannot_be_compared_does_not_stop_the_others_and_is_tried_again() {
    in_system(async {
        let world = Arc::new(World::start().await);
        let life = async |runtime: Runtime, _: Arc<World>| {
            let channel = open(&runtime, "sim-llm", "1", "300s").await.unwrap();
            (channel, open(&runtime, "sim-llm", "2", "300s").await.unwrap())
        };
        let (channel, other) = world.life(world.config(), life).await;
        let failing = Arc::new(AtomicBool::new(true));
        let failures = Arc::new(AtomicU64::new(0));
        let (switch, counted) = (failing.clone(), failures.clone());
        let node = world.sandbox.rpc_url().to_owned();
        let fail = move |method: &str, params: &Value, answer: &mut Value| {
            if switch.load(Ordering::SeqCst) && compares(channel, method, params) {
                counted.fetch_add(1, Ordering::SeqCst);
                *answer = relay::error(-32_000, "internal error");
            }
        };
        let mut config = watchful(&world);
        config.chain.rpc_urls = vec![relay::relay(&node, fail).await.parse().unwrap()];
        let runtime = world.runtime_with(config).await;
        // Both are known to the watcher by then, and nothing happened to either.
        until("it fails", async || failures.load(Ordering::SeqCst) > 2).await;
        world.chain().advance(300);
        close_elsewhere(&world, channel).await;
        close_elsewhere(&world, other).await;
        until("the other one is closed", async || recorded(&runtime, other).await.state == ChannelState::Closed).await;
        assert_ne!(recorded(&runtime, channel).await.state, ChannelState::Closed);
        failing.store(false, Ordering::SeqCst);
        until("the watcher told", async || recorded(&runtime, channel).await.state == ChannelState::Closed).await;
        assert_eq!(recorded(&runtime, channel).await.refunded, Some(usdc("1")));
    });
}

#[test]
fn nothing_is_signed_once_block_time_and_the_requests_limit_reach_expiry() {
    in_system(async {
        let world = World::start().await;
        // The machine's clock stands still here: only the chain's moves.
        let runtime = world.runtime_with(watchful(&world)).await;
        let channel = open(&runtime, "sim-llm", "1", "1h").await.unwrap();
        let limit = i64::try_from(runtime.config().requests.timeout.as_secs()).unwrap();
        let left = async || recorded(&runtime, channel).await.expires_in;
        world.advance(3_600 - 60).await;
        until("the watcher told", async || left().await <= 60).await;
        ask(&runtime, channel, "sim-small", "In time").await.unwrap();
        let asked = world.sandbox.llm.request_log().paid.len();
        let signed = recorded(&runtime, channel).await.signed;
        world.advance(60 - u64::try_from(limit).unwrap()).await;
        until("the watcher told", async || left().await <= limit).await;
        let failure = ask(&runtime, channel, "sim-small", "Too late").await.unwrap_err();
        assert_eq!(failure.code.as_str(), "channel_expired");
        assert_eq!(
            (world.sandbox.llm.request_log().paid.len(), recorded(&runtime, channel).await.signed),
            (asked, signed)
        );
        assert_eq!(runtime.close(channel, Progress::none()).await.unwrap_err().code.as_str(), "not_expired");
        world.advance(10).await;
        until("the watcher told", async || recorded(&runtime, channel).await.state == ChannelState::Expired).await;
        assert_eq!(runtime.close(channel, Progress::none()).await.unwrap().refund, usdc("1"));
    });
}

#[test]
fn a_chat_asks_the_chain_nothing() {
    in_system(async {
        let world = World::start().await;
        let mut config = world.config();
        config.chain.poll_interval = Duration::from_secs(3_600);
        let runtime = world.runtime_with(config).await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let calls = || world.chain().main().request_count().values().sum::<u64>();
        // The one look of the watcher at its start is over when its calls have stopped.
        until("the watcher told", async || {
            let before = calls();
            tokio::time::sleep(Duration::from_millis(50)).await;
            before == calls()
        })
        .await;
        world.chain().main().reset_request_count();
        for i in 0..20 {
            ask(&runtime, channel, "sim-small", &format!("Number {i}")).await.unwrap();
        }
        assert_eq!(world.chain().main().request_count().into_iter().collect::<Vec<_>>(), []);
    });
}

#[test]
fn without_channels_nobody_is_asked_anything() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime_with(watchful(&world)).await;
        assert!(runtime.channels(true).await.unwrap().is_empty());
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(world.chain().main().request_count().values().sum::<u64>(), 0);
        assert!(world.sandbox.directory.requests().is_empty());
    });
}
