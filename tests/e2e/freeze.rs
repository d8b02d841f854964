//! A claim of more than was ever signed freezes the wallet (M11).

use std::sync::Arc;

use alloy::signers::SignerSync;
use alloy::sol_types::SolCall;
use drain_mcp::api::Progress;
use drain_mcp::error::{Code, Failure};
use drain_protocol::contract::DrainChannel;
use drain_protocol::{ChannelId, Nonce, U256, Usdc, Voucher};
use drain_sandbox::contracts::CHANNEL_V2;

use crate::harness::{World, ask, failed, in_system, llm, open, unspent, until, usdc, view, wish};

/// The provider claims `amount` with a voucher that the agent's key signed elsewhere.
async fn steal(world: &World, channel: ChannelId, amount: Usdc) {
    let on = world.config().chain.deployments.into_iter().find(|on| on.contract() == CHANNEL_V2).unwrap();
    let nonce = Nonce::new(9_000).unwrap();
    let digest = Voucher { channel_id: channel, amount, nonce }.digest(&on.domain);
    let signature = world.sandbox.agent().sign_hash_sync(&digest).unwrap();
    let call = DrainChannel::claimCall {
        channelId: channel.0,
        amount: U256::from(amount.as_i64()),
        nonce: U256::from(9_000),
        signature: signature.as_bytes().to_vec().into(),
    };
    let key = &world.sandbox.llm.config().key;
    world.sandbox.observer().rpc().execute(key, CHANNEL_V2, call.abi_encode()).await.unwrap();
}

fn frozen(failure: &Failure) {
    assert!(failure.message.contains("frozen") && failure.next.contains("drain-mcp wallet unfreeze"), "{failure:?}");
}

async fn is_frozen(world: &World) -> bool {
    world.journaled("SELECT COUNT(*) FROM flags WHERE name = 'frozen_by_claim'") == 1
}

#[test]
fn m11_a_claim_above_what_was_signed_freezes_until_a_person_lifts_it() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        let other = open(&runtime, "sim-weather", "1", "24h").await.unwrap();
        steal(&world, channel, usdc("0.9")).await;
        until("the freeze", async || is_frozen(&world).await).await;
        for _ in 0..2 {
            frozen(&unspent(ask(&runtime, channel, "sim-small", "Hello").await, Code::WalletFrozen));
        }
        frozen(&unspent(ask(&runtime, other, "sim/forecast", "Lisbon").await, Code::WalletFrozen));
        frozen(&unspent(runtime.open(wish("sim-llm", "1"), Progress::none()).await, Code::WalletFrozen));
        frozen(&unspent(runtime.approve(Some(usdc("7")), Progress::none()).await, Code::WalletFrozen));
        // Money that comes back goes on doing so.
        runtime.cooperative_close(other, Progress::none()).await.unwrap();
        drop(runtime);
        let runtime = world.runtime().await;
        frozen(&unspent(runtime.open(wish("sim-weather", "1"), Progress::none()).await, Code::WalletFrozen));
        world.advance(86_401).await;
        assert_eq!(runtime.close(channel, Progress::none()).await.unwrap().refund, usdc("0.1"));
        assert!(runtime.unfreeze().await.unwrap() && !runtime.unfreeze().await.unwrap());
        let again = open(&runtime, "sim-weather", "1", "24h").await.unwrap();
        ask(&runtime, again, "sim/forecast", "Lisbon").await.unwrap();
    });
}

#[test]
fn m11_a_claim_while_nobody_looked_is_judged_at_the_next_start_and_once() {
    in_system(async {
        let world = Arc::new(World::start().await);
        let channel = world
            .life(world.config(), async |runtime, _| {
                let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
                ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
                runtime.shutdown().await;
                channel
            })
            .await;
        steal(&world, channel, usdc("0.5")).await;
        // Far behind the first block that the next runtime reads events of.
        world.chain().mine(100);
        let runtime = world.runtime().await;
        until("the freeze", async || is_frozen(&world).await).await;
        unspent(ask(&runtime, channel, "sim-small", "Hello").await, Code::WalletFrozen);
        assert!(runtime.unfreeze().await.unwrap());
        drop(runtime);
        let runtime = world.runtime().await;
        until("the claim is known", async || view(&runtime, channel).await.claimed == usdc("0.5")).await;
        open(&runtime, "sim-weather", "1", "24h").await.unwrap();
        assert!(!is_frozen(&world).await && view(&runtime, channel).await.recovered);
        // Its record is incomplete now: nobody here knows a fair final amount.
        failed(runtime.cooperative_close(channel, Progress::none()).await, Code::CloseRefused);
    });
}

#[test]
fn m11_an_honest_claim_freezes_nothing() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        for _ in 0..3 {
            ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        }
        let signed = view(&runtime, channel).await.signed;
        world.sandbox.llm.claim(channel.0).await.unwrap();
        let recorded = || world.journaled("SELECT claimed FROM channels") == signed.as_i64();
        until("the watcher saw the claim", async || recorded()).await;
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        assert!(!is_frozen(&world).await && !view(&runtime, channel).await.recovered);
    });
}
