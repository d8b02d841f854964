//! The same money, by the real process, on a chain that is not ours.

use alloy::primitives::B256;
use drain_protocol::Usdc;
use drain_sandbox::SandboxConfig;
use drain_sandbox::contracts::{CHANNEL_V1, CHANNEL_V2};
use drain_sandbox::provider::{CloseAmount, CloseSignature};
use serde_json::json;

use crate::anvil;
use crate::harness::{World, usdc};
use crate::process_harness::{Agent, Env, Greeting, chat, vouchers};

const NEWEST: Greeting = Greeting::Lines("2025-11-25");

async fn wallet(world: &World) -> Usdc {
    world.sandbox.observer().usdc_balance(world.sandbox.agent().address()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil"]
async fn a_v2_channel_lives_on_anvil() {
    let world = anvil::world(SandboxConfig::default()).await;
    let observer = world.sandbox.observer();
    let locked = observer.total_locked().await.unwrap();
    let mut agent = Agent::start(&Env::of(&world), NEWEST).await;
    let id = agent.open("sim-llm", "2", "24h").await;
    let id_on_chain: B256 = id.parse().unwrap();
    assert_eq!(observer.opened_by(CHANNEL_V2, world.sandbox.agent().address()).await.unwrap(), [id_on_chain]);
    let mut charged = Usdc::ZERO;
    for i in 0..5 {
        let paid = agent.ok("drain_chat", chat(&id, &format!("Summarise: number {i} of five"))).await;
        charged = charged.saturating_add(usdc(paid.data["payment"]["cost"].as_str().unwrap()));
    }
    let status = agent.ok("drain_channel_status", json!({ "channelId": id })).await;
    assert_eq!(status.data["charged"], charged.to_string());
    let closed = agent.ok("drain_cooperative_close", json!({ "channelId": id })).await;
    let paid = usdc(closed.data["paid"].as_str().unwrap());
    assert_eq!(status.data["signed"], paid.to_string());
    assert_eq!(observer.paid_out(CHANNEL_V2, id_on_chain).await.unwrap(), paid);
    assert_eq!(wallet(&world).await, usdc("100").checked_sub(paid).unwrap());
    assert_eq!(observer.total_locked().await.unwrap(), locked);
    assert!(!observer.channel(CHANNEL_V2, id_on_chain).await.unwrap().exists());
    agent.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil"]
async fn a_v1_channel_lives_on_anvil() {
    let world = anvil::world(SandboxConfig::default()).await;
    let observer = world.sandbox.observer();
    let mut agent = Agent::start(&Env::of(&world), NEWEST).await;
    let wish = json!({ "provider": "sim-llm-v1", "amount": "1", "duration": "2h" });
    let opened = agent.ok("drain_open_channel", wish).await;
    assert_eq!(opened.data["session_fee"], "0.01");
    let id = opened.data["channel"]["channel_id"].as_str().unwrap().to_owned();
    agent.ok("drain_chat", chat(&id, "Hello")).await;
    let highest = vouchers(&world.sandbox.v1)[0].amount.unwrap();
    agent.fails("drain_close_channel", json!({ "channelId": id }), "not_expired").await;
    let claim = world.sandbox.v1.claim(id.parse().unwrap()).await.unwrap();
    assert_eq!((claim.amount, claim.error), (highest, None));
    world.advance(7_200).await;
    let closed = agent.ok("drain_close_channel", json!({ "channelId": id })).await;
    assert_eq!(usdc(closed.data["refund"].as_str().unwrap()).units(), 1_000_000 - highest);
    assert_eq!(wallet(&world).await.units(), 100_000_000 - 10_000 - highest);
    assert!(!observer.channel(CHANNEL_V1, id.parse().unwrap()).await.unwrap().exists());
    agent.leave().await;
}

/// M6: what the provider signs beyond the rules is not sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil"]
async fn a_close_that_breaks_a_rule_is_not_sent_on_anvil() {
    let world = anvil::world(SandboxConfig::default()).await;
    let llm = &world.sandbox.llm;
    let mut agent = Agent::start(&Env::of(&world), NEWEST).await;
    let id = agent.open("sim-llm", "1", "4h").await;
    agent.ok("drain_chat", chat(&id, "Hello")).await;
    let before = wallet(&world).await;
    for amount in [CloseAmount::Plus(1), CloseAmount::Deposit] {
        llm.set(|faults| faults.close_amount = amount);
        agent.fails("drain_cooperative_close", json!({ "channelId": id }), "close_refused").await;
    }
    llm.reset_faults();
    for signature in [CloseSignature::WrongSigner, CloseSignature::HighS] {
        llm.set(|faults| faults.close_signature = signature);
        agent.fails("drain_cooperative_close", json!({ "channelId": id }), "close_refused").await;
    }
    llm.reset_faults();
    let record = world.sandbox.observer().channel(CHANNEL_V2, id.parse().unwrap()).await.unwrap();
    assert!(record.exists() && wallet(&world).await == before);
    agent.ok("drain_cooperative_close", json!({ "channelId": id })).await;
    agent.leave().await;
}

/// The node's own refusals read as ours: no money, no gas.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil"]
async fn a_poor_wallet_is_told_so_on_anvil() {
    let world = anvil::world(SandboxConfig::default()).await;
    let observer = world.sandbox.observer();
    let account = world.sandbox.agent().address();
    let mut agent = Agent::start(&Env::of(&world), NEWEST).await;
    let wish = json!({ "provider": "sim-llm", "amount": "3", "duration": "4h" });
    let pol = observer.native_balance(account).await.unwrap();
    observer.fund(account, usdc("2"), pol).await.unwrap();
    let poor = agent.fails("drain_open_channel", wish.clone(), "insufficient_usdc").await;
    assert!(poor.text.contains("2.00 USDC"), "{}", poor.text);
    observer.fund(account, usdc("5"), Default::default()).await.unwrap();
    agent.fails("drain_open_channel", wish.clone(), "insufficient_gas").await;
    observer.fund(account, usdc("5"), pol).await.unwrap();
    agent.ok("drain_open_channel", wish).await;
    agent.leave().await;
}
