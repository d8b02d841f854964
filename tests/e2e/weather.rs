//! What the chain and its owner do to us: dear gas, a token that refuses, a changed fee, code that is gone.

use std::time::Duration;

use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolCall;
use drain_mcp::api::{ChannelState, Progress};
use drain_mcp::error::{Code, Money};
use drain_protocol::contract::DrainChannel;
use drain_protocol::{Address, U256, Usdc};
use drain_sandbox::contracts::{CHANNEL_V2, Settings};
use drain_sandbox::marketplace::SandboxConfig;
use drain_sandbox::provider::CloseAmount;
use serde_json::json;

use crate::harness::{World, ask, failed, in_system, open, unspent, until, usdc, view};

/// Gives the agent so much POL, in thousandths, and leaves its USDC.
async fn pol(world: &World, thousandths: u64) {
    let wei = U256::from(thousandths) * U256::from(10u64.pow(15));
    let held = world.held().await;
    world.sandbox.observer().fund(world.agent(), held, wei).await.unwrap();
}

#[test]
fn m10_gas_for_every_close_is_foreseen_before_a_channel_is_opened() {
    in_system(async {
        let world = World::start().await;
        // Its fees and its finality are the test's.
        world.chain();
        let runtime = world.runtime().await;
        // At 55 gwei an approval, an open and a close are 0.0267 POL, and each further close 0.0088.
        pol(&world, 30).await;
        let first = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        pol(&world, 30).await;
        let before = world.sent().await;
        let failure = unspent(open(&runtime, "sim-weather", "1", "24h").await, Code::InsufficientGas);
        assert!(failure.message.contains("the closes of 1 open channels"), "{}", failure.message);
        assert_eq!((world.sent().await, world.allowance().await), (before, Usdc::ZERO));
        // Enough for both closes is enough; and what is closed needs none.
        pol(&world, 36).await;
        let second = open(&runtime, "sim-weather", "1", "24h").await.unwrap();
        runtime.cooperative_close(first, Progress::none()).await.unwrap();
        runtime.cooperative_close(second, Progress::none()).await.unwrap();
        pol(&world, 30).await;
        open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        assert_eq!(world.held().await, usdc("99"));
    });
}

#[test]
fn m6_a_claim_that_lands_before_our_close_costs_gas_at_most_and_the_rest_comes_back() {
    in_system(async {
        // The provider signs for what it claims, or for less than that.
        for less in [false, true] {
            let world = World::start().await;
            let runtime = world.runtime().await;
            let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
            let signed = ask(&runtime, channel, "sim-small", "Hello").await.unwrap().channel.signed;
            if less {
                world.sandbox.llm.set(|faults| faults.close_amount = CloseAmount::Exactly(signed.units() - 1));
            }
            world.chain().hold(true);
            let run = runtime.clone();
            let closing = tokio::spawn(async move { run.cooperative_close(channel, Progress::none()).await });
            until("the close is in the pool", async || world.chain().pending() == 1).await;
            // The block's maker takes the claim first.
            let close: Vec<u8> = world
                .journal()
                .query_row("SELECT raw FROM transactions WHERE kind = 'cooperative_close'", [], |row| row.get(0))
                .unwrap();
            world.chain().call("anvil_dropAllTransactions", json!([])).unwrap();
            let (claim, ()) = tokio::join!(world.sandbox.llm.claim(channel.0), async {
                until("the claim is in the pool", async || world.chain().pending() == 1).await;
                world.chain().call("eth_sendRawTransaction", json!([alloy::hex::encode_prefixed(close)])).unwrap();
                world.chain().hold(false);
            });
            assert_eq!((claim.unwrap().amount, world.chain().pending()), (signed.units(), 0));
            let rest = usdc("1").checked_sub(signed).unwrap();
            let closed = closing.await.unwrap();
            if less {
                // It reverts: gas only, and the channel is as it was.
                let failure = failed(closed, Code::TransactionReverted);
                assert_eq!(failure.money, Money::GasOnly);
                assert_eq!(view(&runtime, channel).await.state, ChannelState::Open);
                unspent(runtime.cooperative_close(channel, Progress::none()).await, Code::CloseRefused);
                world.advance(86_400).await;
                assert_eq!(runtime.close(channel, Progress::none()).await.unwrap().refund, rest);
            } else {
                let closed = closed.unwrap();
                assert_eq!((closed.paid, closed.refund), (signed, rest), "paid once");
            }
            assert_eq!(world.held().await, usdc("99").checked_add(rest).unwrap(), "{less}");
        }
    });
}

#[test]
fn m7_a_token_that_refuses_to_move_fails_closes_and_opens_without_loss() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let paid = ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        runtime.approve(Some(usdc("5")), Progress::none()).await.unwrap();
        let refuse = |refuse| {
            let (method, params) = drain_sandbox::contracts::usdc_refusal_write(refuse).unwrap();
            world.chain().call(method, params).unwrap();
        };
        // Foreseen: nothing is sent.
        refuse(true);
        let sent = world.sent().await;
        let failure = unspent(runtime.cooperative_close(channel, Progress::none()).await, Code::TransactionReverted);
        assert!(failure.message.contains("TransferFailed"), "{failure:?}");
        unspent(open(&runtime, "sim-weather", "1", "24h").await, Code::TransactionReverted);
        assert_eq!((world.sent().await, view(&runtime, channel).await.state), (sent, ChannelState::Open));
        // Unforeseen: it begins to refuse while the close waits. Mined and reverted, gas only.
        refuse(false);
        world.chain().hold(true);
        let run = runtime.clone();
        let closing = tokio::spawn(async move { run.cooperative_close(channel, Progress::none()).await });
        until("the close is in the pool", async || world.chain().pending() == 1).await;
        refuse(true);
        world.chain().hold(false);
        assert_eq!(failed(closing.await.unwrap(), Code::TransactionReverted).money, Money::GasOnly);
        assert_eq!(view(&runtime, channel).await.state, ChannelState::Open);
        refuse(false);
        let closed = runtime.cooperative_close(channel, Progress::none()).await.unwrap();
        assert_eq!(closed.refund, usdc("1").checked_sub(paid.channel.signed).unwrap());
        assert_eq!(world.held().await, usdc("100").checked_sub(paid.channel.signed).unwrap());
    });
}

/// A world whose V2 contract has an owner of the test's own, with some coin.
async fn owned() -> (World, PrivateKeySigner) {
    let owner = PrivateKeySigner::random();
    let contracts = Settings { owner: owner.address(), ..Settings::default() };
    let world = World::with(SandboxConfig { contracts, ..SandboxConfig::default() }).await;
    let pol = world.sandbox.observer().native_balance(world.agent()).await.unwrap();
    world.sandbox.observer().fund(owner.address(), usdc("0"), pol).await.unwrap();
    (world, owner)
}

#[test]
fn m8_a_changed_fee_is_told_and_touches_the_providers_payout_only() {
    in_system(async {
        let (world, owner) = owned().await;
        let runtime = world.runtime().await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        // Enough to have a fee of whole units.
        let mut signed = Usdc::ZERO;
        while signed < Usdc::new(2_000) {
            signed = ask(&runtime, channel, "sim-large", "A story, please").await.unwrap().channel.signed;
        }
        let collector = Address::repeat_byte(0x51);
        let data = DrainChannel::setFeeCall { recipient: collector, bps: U256::from(500) }.abi_encode();
        world.sandbox.observer().rpc().execute(&owner, CHANNEL_V2, data).await.unwrap();
        let closed = runtime.cooperative_close(channel, Progress::none()).await.unwrap();
        let fee = Usdc::new((signed.units() * 5 / 100) as u32);
        assert_eq!((closed.paid, closed.protocol_fee), (signed, fee), "five percent, out of what the provider gets");
        let observer = world.sandbox.observer();
        assert_eq!(observer.usdc_balance(collector).await.unwrap(), fee);
        assert_eq!(world.held().await, usdc("100").checked_sub(signed).unwrap(), "the agent pays what it signed");
    });
}

#[test]
fn m8_what_a_contracts_owner_does_is_told_to_the_operator() {
    in_system(async {
        let (world, owner) = owned().await;
        let log = world.home.path().join("told");
        let mut config = world.config();
        config.chain.poll_interval = Duration::from_millis(20);
        config.notify.command = Some(format!("cat >> {}", log.display()));
        let runtime = world.runtime_with(config).await;
        open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        until("the watcher reads events", async || {
            world.chain().mine(1);
            world.chain().request_count().contains_key("eth_getLogs")
        })
        .await;
        let rpc = world.sandbox.observer().rpc();
        for (data, told) in [
            (
                DrainChannel::setFeeCall { recipient: Address::repeat_byte(0x51), bps: U256::from(500) }.abi_encode(),
                "500",
            ),
            (DrainChannel::renounceOwnershipCall {}.abi_encode(), "no owner any more"),
        ] {
            rpc.execute(&owner, CHANNEL_V2, data).await.unwrap();
            until("it is told", async || {
                world.chain().mine(1);
                let told_now = std::fs::read_to_string(&log).unwrap_or_default();
                told_now.contains("contract_changed") && told_now.contains(told)
            })
            .await;
        }
    });
}

#[test]
fn m8_a_contract_whose_code_is_gone_or_stopped_moves_nothing() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let early = open(&runtime, "sim-weather", "1", "300s").await.unwrap();
        let late = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        ask(&runtime, late, "sim-small", "Hello").await.unwrap();
        world.advance(300).await;
        let code = world.chain().call("eth_getCode", json!([CHANNEL_V2, "latest"])).unwrap();
        let sent = world.sent().await;
        // Destroyed; and stopped, so that every call reverts (PUSH0 PUSH0 REVERT).
        for broken in ["0x", "0x5f5ffd"] {
            world.chain().call("anvil_setCode", json!([CHANNEL_V2, broken])).unwrap();
            for failure in [
                open(&runtime, "sim-llm", "1", "24h").await.unwrap_err(),
                runtime.close(early, Progress::none()).await.unwrap_err(),
                runtime.cooperative_close(late, Progress::none()).await.unwrap_err(),
                runtime.approve(None, Progress::none()).await.unwrap_err(),
            ] {
                assert_eq!(failure.money, Money::NotSpent, "{broken}: {failure:?}");
            }
            assert_eq!(world.sent().await, sent, "{broken}");
            assert_eq!(view(&runtime, late).await.state, ChannelState::Open, "{broken}: nothing is concluded");
        }
        world.chain().call("anvil_setCode", json!([CHANNEL_V2, code])).unwrap();
        runtime.close(early, Progress::none()).await.unwrap();
        runtime.cooperative_close(late, Progress::none()).await.unwrap();
    });
}
