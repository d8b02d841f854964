//! Unspent money comes back without anyone asking (M10).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy::sol_types::SolCall;
use drain_mcp::api::{ChannelState, Progress};
use drain_mcp::config::Config;
use drain_mcp::error::Code;
use drain_protocol::contract::DrainChannel;
use drain_protocol::{ChannelId, Generation, Usdc};
use serde_json::{Value, json};

use crate::harness::{World, ask, in_system, open, unspent, until, usdc, view};
use crate::watcher::relay;

const HOUR: u64 = 3_600;

/// A runtime that serves: it closes by itself.
fn serving(world: &World) -> Config {
    let mut config = world.config();
    config.refunds.automatic = true;
    config.requests.timeout = Duration::from_millis(1_500);
    config
}

fn on_v1(world: &World) -> Config {
    let mut config = serving(world);
    config.chain.generation = Some(Generation::V1);
    config
}

/// A channel's state, without asking a runtime.
fn state(world: &World, channel: ChannelId) -> String {
    let sql = "SELECT state FROM channels WHERE channel_id = ?1";
    world.journal().query_row(sql, [channel.to_string()], |row| row.get(0)).unwrap()
}

async fn closed(world: &World, channel: ChannelId) {
    until("the refund", async || state(world, channel) == "closed").await;
}

/// Waits until the watcher has seen the chain's clock past `seconds` since now, and everything that follows from it.
async fn advance_and_see(world: &World, seconds: u64) {
    world.advance(seconds).await;
    let seen = world.chain().request_count().get("eth_getBlockByNumber").copied().unwrap_or_default();
    until("two looks", async || {
        world.chain().request_count().get("eth_getBlockByNumber").copied().unwrap_or_default() >= seen + 4
    })
    .await;
}

#[test]
fn m10_an_idle_channel_comes_back_with_consent_and_one_in_use_stays() {
    in_system(async {
        let world = World::start().await;
        let before = world.held().await;
        let runtime = world.runtime_with(serving(&world)).await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        let signed = view(&runtime, channel).await.signed;
        // When a payment was is known by the block in which it is seen.
        advance_and_see(&world, 1).await;
        advance_and_see(&world, 5 * HOUR).await;
        assert_eq!(view(&runtime, channel).await.state, ChannelState::Open);
        let busy = open(&runtime, "sim-weather", "1", "24h").await.unwrap();
        advance_and_see(&world, 40 * 60).await;
        ask(&runtime, busy, "sim/forecast", "Lisbon").await.unwrap();
        advance_and_see(&world, 1).await;
        world.advance(30 * 60).await;
        closed(&world, channel).await;
        assert_eq!(view(&runtime, busy).await.state, ChannelState::Open);
        assert_eq!(view(&runtime, channel).await.refunded, Some(usdc("1").saturating_sub(signed)));
        assert_eq!(world.held().await, before.saturating_sub(signed).saturating_sub(usdc("1")));
    });
}

#[test]
fn m10_at_expiry_both_generations_come_back_alone() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime_with(on_v1(&world)).await;
        let old = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        drop(runtime);
        let mut config = serving(&world);
        config.refunds.settings.idle = None;
        let runtime = world.runtime_with(config).await;
        let new = open(&runtime, "sim-weather", "1", "24h").await.unwrap();
        advance_and_see(&world, 23 * HOUR).await;
        for channel in [old, new] {
            assert_eq!(view(&runtime, channel).await.state, ChannelState::Open);
        }
        world.advance(HOUR + 60).await;
        for channel in [old, new] {
            closed(&world, channel).await;
            assert_eq!(view(&runtime, channel).await.refunded, Some(usdc("1")));
        }
    });
}

#[test]
fn m10_what_expired_while_nothing_ran_comes_back_at_the_next_start() {
    in_system(async {
        let world = Arc::new(World::start().await);
        let channel = world
            .life(serving(&world), async |runtime, _| {
                let channel = open(&runtime, "sim-llm", "1", "2h").await.unwrap();
                runtime.shutdown().await;
                channel
            })
            .await;
        world.advance(3 * HOUR).await;
        let _runtime = world.runtime_with(serving(&world)).await;
        closed(&world, channel).await;
    });
}

#[test]
fn m10_a_provider_that_is_down_is_asked_again_and_then_expiry_does_it() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime_with(serving(&world)).await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        world.sandbox.llm.set_down(true);
        advance_and_see(&world, 7 * HOUR).await;
        until("it is open again", async || state(&world, channel) == "open").await;
        world.sandbox.llm.set_down(false);
        // Not at once, but after a pause.
        world.advance(HOUR).await;
        closed(&world, channel).await;
        let other = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        world.sandbox.llm.set_down(true);
        for _ in 0..6 {
            advance_and_see(&world, 4 * HOUR).await;
        }
        world.advance(2 * HOUR).await;
        closed(&world, other).await;
        assert_eq!(view(&runtime, other).await.refunded, Some(usdc("1")));
    });
}

#[test]
fn m10_no_close_costs_more_than_it_brings_back() {
    in_system(async {
        let world = World::start().await;
        let mut config = serving(&world);
        config.refunds.settings.pol_in_usdc = usdc("1000000");
        let runtime = world.runtime_with(config).await;
        let channel = open(&runtime, "sim-llm", "1", "2h").await.unwrap();
        let sent = world.sent().await;
        for _ in 0..3 {
            advance_and_see(&world, 3 * HOUR).await;
        }
        let reports = runtime.refund(None, Progress::none()).await.unwrap();
        assert_eq!(reports[0].failure.as_ref().unwrap().code, Code::NotWorthIt.as_str());
        assert_eq!((world.sent().await, state(&world, channel).as_str()), (sent, "open"));
        drop(runtime);
        // A person who wants it all the same gets it.
        let runtime = world.runtime().await;
        assert_eq!(runtime.close(channel, Progress::none()).await.unwrap().refund, usdc("1"));
    });
}

#[test]
fn m10_refund_closes_what_can_be_closed_and_says_what_waits() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let short = open(&runtime, "sim-llm", "1", "2h").await.unwrap();
        let long = open(&runtime, "sim-weather", "1", "24h").await.unwrap();
        world.advance(3 * HOUR).await;
        let back = |reports: Vec<drain_mcp::api::RefundReport>| -> Usdc {
            reports.iter().filter_map(|r| r.closed.as_ref()).fold(Usdc::ZERO, |sum, c| sum.saturating_add(c.refund))
        };
        let reports = runtime.refund(None, Progress::none()).await.unwrap();
        assert_eq!(reports.len(), 2);
        let waiting = reports.iter().find(|report| report.closed.is_none()).unwrap();
        assert_eq!(waiting.waits_until, Some(waiting.channel.expires_at));
        assert_eq!(
            (back(reports), state(&world, short), state(&world, long)),
            (usdc("1"), "closed".into(), "open".into())
        );
        assert_eq!(back(runtime.refund(Some(600), Progress::none()).await.unwrap()), usdc("1"));
        assert_eq!(state(&world, long), "closed");
        assert!(runtime.refund(Some(600), Progress::none()).await.unwrap().is_empty());
    });
}

#[test]
fn m10_a_claim_that_races_the_close_takes_what_was_signed_and_no_more() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime_with(serving(&world)).await;
        let channel = open(&runtime, "sim-llm", "1", "2h").await.unwrap();
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        let signed = view(&runtime, channel).await.signed;
        world.sandbox.llm.claim(channel.0).await.unwrap();
        world.advance(3 * HOUR).await;
        closed(&world, channel).await;
        let over = view(&runtime, channel).await;
        assert_eq!((over.refunded, over.claimed), (Some(usdc("1").saturating_sub(signed)), signed));
        assert!(ask(&runtime, channel, "sim-small", "Hello").await.is_err());
    });
}

#[test]
fn m10_a_command_that_does_one_thing_closes_nothing_by_itself() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let channel = open(&runtime, "sim-llm", "1", "2h").await.unwrap();
        advance_and_see(&world, 3 * HOUR).await;
        assert_eq!(view(&runtime, channel).await.state, ChannelState::Expired);
    });
}

/// What was taken of an expired channel is no reason to leave it before two endpoints say so.
#[test]
fn m10_one_endpoint_that_says_all_is_taken_keeps_no_refund_back() {
    in_system(async {
        let world = World::start().await;
        let target = Arc::new(Mutex::new(None::<ChannelId>));
        let lie = {
            let target = target.clone();
            move |method: &str, params: &Value, answer: &mut Value| {
                let Some(id) = *target.lock().unwrap() else { return };
                let call = DrainChannel::getChannelCall { channelId: id.0 }.abi_encode();
                if method == "eth_call" && params[0]["data"] == json!(alloy::hex::encode_prefixed(call)) {
                    let result = answer["result"].as_str().unwrap().to_owned();
                    // Consumer, provider, deposit, claimed, expiry: all that was deposited is claimed.
                    let words = |from: usize, to: usize| &result[2 + 64 * from..2 + 64 * to];
                    answer["result"] = json!(format!("0x{}{}{}", words(0, 3), words(2, 3), words(4, 5)));
                }
            }
        };
        let mut config = serving(&world);
        let liar = relay::relay(world.sandbox.rpc_url(), lie).await;
        config.chain.rpc_urls.insert(0, liar.parse().unwrap());
        let runtime = world.runtime_with(config).await;
        let channel = open(&runtime, "sim-llm", "1", "2h").await.unwrap();
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        let signed = view(&runtime, channel).await.signed;
        *target.lock().unwrap() = Some(channel);
        world.sandbox.llm.claim(channel.0).await.unwrap();
        let claimed = || world.journaled("SELECT claimed FROM channels");
        until("the lie is believed", async || claimed() == 1_000_000).await;
        world.advance(3 * HOUR).await;
        closed(&world, channel).await;
        assert_eq!(view(&runtime, channel).await.refunded, Some(usdc("1").saturating_sub(signed)));
    });
}

/// A channel that its provider has emptied, but for less than a close costs, stands in the way of no other.
#[test]
fn m9_what_is_not_worth_its_close_holds_no_limit_shut() {
    in_system(async {
        let world = World::start().await;
        let mut config = serving(&world);
        config.refunds.settings.pol_in_usdc = usdc("1000000");
        let limits = Arc::make_mut(&mut config.limits);
        (limits.open_channels, limits.locked) = (1, usdc("1.5"));
        let runtime = world.runtime_with(config).await;
        let channel = open(&runtime, "sim-llm", "1", "2h").await.unwrap();
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        let signed = view(&runtime, channel).await.signed;
        world.sandbox.llm.claim(channel.0).await.unwrap();
        until("the claim is known", async || view(&runtime, channel).await.claimed == signed).await;
        // While it could pay, all of it counts.
        assert_eq!(runtime.balance().await.unwrap().locked, usdc("1"));
        unspent(open(&runtime, "sim-weather", "0.2", "2h").await, Code::LimitReached);
        world.advance(3 * HOUR).await;
        let rest = usdc("1").saturating_sub(signed);
        until("it is left", async || runtime.balance().await.unwrap().locked == rest).await;
        assert_eq!(state(&world, channel), "open");
        open(&runtime, "sim-weather", "0.2", "2h").await.unwrap();
        unspent(open(&runtime, "sim-llm", "0.2", "2h").await, Code::LimitReached);
    });
}
