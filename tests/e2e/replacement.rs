//! Transactions that nobody mines: their fee is too low, or a node has lost them (M7).

use std::sync::Arc;
use std::time::Duration;

use drain_mcp::actors::Runtime;
use drain_mcp::api::{ChannelState, Progress, SendAmount};
use drain_mcp::config::Config;
use drain_mcp::error::{Code, Money};
use drain_protocol::{ChannelId, U256};
use drain_sandbox::chain::{ChainConfig, Faults};
use drain_sandbox::contracts::{CHANNEL_V1, CHANNEL_V2};
use drain_sandbox::marketplace::SandboxConfig;
use drain_sandbox::provider::CloseAmount;
use drain_signers::{Policy, Signer};
use serde_json::json;

use crate::harness::{World, ask, in_system, open, until, usdc, wish};
use crate::transactions::{approved, assert_pending};

const GWEI: u64 = 1_000_000_000;

fn hasty(world: &World) -> Config {
    let mut config = world.config();
    config.chain.replace_after = Duration::from_millis(150);
    config
}

/// Lets `sending` get its transaction into the pool, then makes gas so dear that nobody mines it as it is.
async fn too_dear<T: Send + 'static>(world: &World, sending: impl Future<Output = T> + Send + 'static) -> T {
    world.chain().hold(true);
    let sending = tokio::spawn(sending);
    until("it is in the pool", async || world.chain().pending() == 1).await;
    world.chain().set_base_fee(400 * GWEI);
    world.chain().mine(1);
    world.chain().hold(false);
    let done = sending.await.unwrap();
    world.chain().set_base_fee(25 * GWEI);
    world.chain().mine(1);
    done
}

/// At least two attempts of this kind, in one slot, of which one is final and the others ended with it.
fn assert_one_slot(world: &World, kind: &str) {
    let count = |what: &str| world.journaled(&format!("SELECT {what} FROM transactions WHERE kind = '{kind}'"));
    assert!(count("COUNT(*)") >= 2, "{kind} was not replaced");
    assert_eq!(count("COUNT(DISTINCT account_nonce)"), 1, "{kind}");
    assert_eq!(count("SUM(state = 'final')"), 1, "{kind}");
    assert_eq!(count("SUM(state = 'dropped' AND reason = 'replaced')"), count("COUNT(*)") - 1, "{kind}");
}

#[test]
fn m7_whatever_is_not_mined_for_its_fee_is_replaced_in_its_slot() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime_with(hasty(&world)).await;
        let run = runtime.clone();
        too_dear(&world, async move { run.approve(Some(usdc("5")), Progress::none()).await }).await.unwrap();
        assert_one_slot(&world, "approve");
        assert_eq!(world.allowance().await, usdc("5"));

        let run = runtime.clone();
        let made =
            too_dear(&world, async move { run.open(wish("sim-llm", "1"), Progress::none()).await }).await.unwrap();
        assert_one_slot(&world, "open");
        let id: ChannelId = made.channel.channel_id.unwrap().parse().unwrap();
        assert_eq!(world.sandbox.observer().opened_by(CHANNEL_V2, world.agent()).await.unwrap(), [id.0]);
        let paid = ask(&runtime, id, "sim-small", "Hello").await.unwrap();

        let run = runtime.clone();
        let closed = too_dear(&world, async move { run.cooperative_close(id, Progress::none()).await }).await.unwrap();
        assert_one_slot(&world, "cooperative_close");
        assert_eq!(closed.refund, usdc("1").checked_sub(paid.channel.signed).unwrap());
        assert_eq!(world.sent().await, 3);
    });
}

#[test]
fn m7_a_fee_a_close_and_what_a_person_sends_are_replaced_too() {
    in_system(async {
        let world = World::start().await;
        let mut config = hasty(&world);
        config.chain.generation = Some(drain_protocol::Generation::V1);
        let treasury = alloy::primitives::Address::repeat_byte(0x42);
        let mut policy = Policy::new(137, config.chain.deployments.clone());
        policy.recipients = vec![treasury];
        let signer = Signer::new(world.backend(), policy);
        let runtime = Runtime::start(config, Some(signer)).await.unwrap();

        // The fee is the first of the three transactions; the others follow at the dear price.
        let run = runtime.clone();
        let opening = async move { open(&run, "sim-llm", "1", "300s").await };
        let id = too_dear(&world, opening).await.unwrap();
        assert_one_slot(&world, "session_fee");
        assert_eq!(world.sandbox.observer().opened_by(CHANNEL_V1, world.agent()).await.unwrap(), [id.0]);
        assert_eq!(world.held().await, usdc("98.99"));

        world.advance(300).await;
        let run = runtime.clone();
        too_dear(&world, async move { run.close(id, Progress::none()).await }).await.unwrap();
        assert_one_slot(&world, "close");

        let before = world.sandbox.observer().native_balance(treasury).await.unwrap();
        for (kind, amount) in
            [("send_usdc", SendAmount::Usdc(Some(usdc("2")))), ("send_native", SendAmount::Native(Some(U256::from(7))))]
        {
            let run = runtime.clone();
            let sending = async move { run.send(treasury, amount, false, Progress::none()).await };
            too_dear(&world, sending).await.unwrap();
            assert_one_slot(&world, kind);
        }
        assert_eq!(world.sandbox.observer().usdc_balance(treasury).await.unwrap(), usdc("2"), "sent once");
        let after = world.sandbox.observer().native_balance(treasury).await.unwrap();
        assert_eq!(after - before, U256::from(7), "sent once");
    });
}

#[test]
fn m7_an_open_that_every_node_refuses_for_its_fee_is_outbid_and_locks_one_deposit() {
    in_system(async {
        // The node suggests less than it takes.
        let chain = ChainConfig { min_priority_fee: 45 * GWEI, ..ChainConfig::default() };
        let world = World::with(SandboxConfig { chain, ..SandboxConfig::default() }).await;
        // Its fees and its finality are the test's.
        world.chain();
        let runtime = world.runtime().await;
        let made = runtime.open(wish("sim-llm", "1"), Progress::none()).await.unwrap();
        assert_eq!((made.transactions.len(), world.sent().await), (2, 2));
        assert_one_slot(&world, "approve");
        assert_one_slot(&world, "open");
        assert_eq!(world.held().await, usdc("99"));
    });
}

#[test]
fn m7_no_more_is_offered_than_a_few_times_todays_fees() {
    in_system(async {
        let chain = ChainConfig { min_priority_fee: 500 * GWEI, ..ChainConfig::default() };
        let world = World::with(SandboxConfig { chain, ..SandboxConfig::default() }).await;
        // Its fees and its finality are the test's.
        world.chain();
        let runtime = world.runtime().await;
        let failure = runtime.open(wish("sim-llm", "1"), Progress::none()).await.unwrap_err();
        assert_eq!(failure.code, Code::ChainUnavailable, "{failure:?}");
        assert_pending(&failure);
        // It never left: the next call goes on with the same slot, and once nodes take it, it opens.
        assert_eq!(world.chain().pending(), 0);
        assert_eq!(world.journaled("SELECT COUNT(DISTINCT account_nonce) FROM transactions"), 1);
    });
}

#[test]
fn m7_a_restart_replaces_what_an_earlier_run_left_in_the_pool() {
    in_system(async {
        let world = Arc::new(World::start().await);
        let first = async |runtime: Runtime, world: Arc<World>| {
            runtime.approve(Some(usdc("5")), Progress::none()).await.unwrap();
            world.chain().hold(true);
            runtime.open(wish("sim-llm", "1"), Progress::none()).await.unwrap_err().code
        };
        let mut config = world.config();
        config.chain.transaction_timeout = Duration::from_millis(400);
        assert_eq!(world.life(config, first).await, Code::TransactionPending);
        world.chain().set_base_fee(400 * GWEI);
        world.chain().mine(1);
        world.chain().hold(false);
        assert_eq!(world.chain().pending(), 1);
        let second = async |runtime: Runtime, world: Arc<World>| {
            until("it is open", async || runtime.channels(false).await.unwrap()[0].state == ChannelState::Open).await;
            assert_one_slot(&world, "open");
            assert_eq!((world.held().await, world.sent().await), (usdc("99"), 2));
            // Nothing is left behind that another start would take up.
            let left = "SELECT COUNT(*) FROM transactions WHERE state IN ('planned', 'signed', 'broadcast')";
            assert_eq!(world.journaled(left), 0);
        };
        world.life(hasty(&world), second).await;
    });
}

#[test]
fn m7_what_is_mined_late_is_not_paid_twice_although_it_was_replaced() {
    in_system(async {
        let world = World::start().await;
        let runtime = approved(&world, hasty(&world)).await;
        world.chain().hold(true);
        let run = runtime.clone();
        let opening = tokio::spawn(async move { run.open(wish("sim-llm", "1"), Progress::none()).await });
        until("it is replaced", async || world.journaled("SELECT COUNT(*) FROM transactions WHERE kind = 'open'") >= 2)
            .await;
        // A node brings the first one back: what came after it is forgotten.
        let first: Vec<u8> = world
            .journal()
            .query_row("SELECT raw FROM transactions WHERE kind = 'open' ORDER BY id LIMIT 1", [], |row| row.get(0))
            .unwrap();
        world.chain().main().update_faults(|faults| faults.drop_next = u64::MAX);
        world.chain().call("anvil_dropAllTransactions", json!([])).unwrap();
        world.chain().call("eth_sendRawTransaction", json!([alloy::hex::encode_prefixed(first)])).unwrap();
        world.chain().hold(false);
        let made = opening.await.unwrap().unwrap();
        assert_one_slot(&world, "open");
        assert_eq!(made.channel.state, ChannelState::Open);
        assert_eq!(world.journaled("SELECT MIN(id) = (SELECT id FROM transactions WHERE kind = 'open' AND state = 'final') FROM transactions WHERE kind = 'open'"), 1);
        assert_eq!((world.held().await, world.sent().await), (usdc("99"), 2));
    });
}

#[test]
fn m7_a_missing_earlier_transaction_is_sent_again_and_one_of_somebody_else_is_explained() {
    in_system(async {
        let world = World::start().await;
        let runtime = approved(&world, hasty(&world)).await;
        // A reorganisation takes the approval back, deeper than anybody waited for; no node knows it any more.
        world.chain().mine(1);
        world.chain().reorg(2, drain_sandbox::chain::ReorgTxs::Drop);
        assert_eq!(world.sent().await, 0);
        // The next transaction does not take its place: it is sent again, and the call says so.
        let failure = runtime.approve(Some(usdc("7")), Progress::none()).await.unwrap_err();
        assert_eq!((failure.code, &failure.money), (Code::TransactionPending, &Money::NotSpent), "{failure:?}");
        until("it is back", async || world.sent().await == 1).await;
        assert_eq!(world.allowance().await, usdc("5"));
        runtime.approve(Some(usdc("7")), Progress::none()).await.unwrap();
        assert_eq!((world.allowance().await, world.sent().await), (usdc("7"), 2));

        // What this journal never signed cannot be sent again: the call says what is missing.
        world.journal().execute("DELETE FROM transactions WHERE account_nonce = 0", []).unwrap();
        world.chain().reorg(world.chain().block_number(), drain_sandbox::chain::ReorgTxs::Drop);
        let failure = runtime.approve(Some(usdc("5")), Progress::none()).await.unwrap_err();
        assert!(failure.message.contains("transaction number 0 of this wallet is missing"), "{failure:?}");
        assert_eq!((failure.money, world.sent().await), (Money::NotSpent, 0));
    });
}

#[test]
fn m7_a_close_that_would_revert_by_now_frees_its_slot_and_what_waits_behind_it_goes_on() {
    in_system(async {
        let world = World::start().await;
        let chain = world.chain();
        // The agent's node; the provider has another one.
        let node = chain.endpoint(Faults::default()).await.unwrap();
        let mut config = hasty(&world);
        config.chain.rpc_urls = vec![node.url().parse().unwrap()];
        let runtime = world.runtime_with(config).await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let signed = ask(&runtime, channel, "sim-small", "Hello").await.unwrap().channel.signed;
        // The provider signs for less than it claims then.
        world.sandbox.llm.set(|faults| faults.close_amount = CloseAmount::Exactly(signed.units() - 1));
        chain.hold(true);
        let run = runtime.clone();
        let closing = tokio::spawn(async move { run.cooperative_close(channel, Progress::none()).await });
        until("the close is in the pool", async || chain.pending() == 1).await;
        // Nothing is outbid before the claim is there; from here on gas is too dear for the close as it was sent.
        node.set_faults(Faults { hang: true, ..Faults::default() });
        chain.set_base_fee(400 * GWEI);
        chain.mine(1);
        let (claim, ()) = tokio::join!(world.sandbox.llm.claim(channel.0), async {
            until("the claim is in the pool", async || chain.pending() == 2).await;
            chain.hold(false);
        });
        assert_eq!((claim.unwrap().amount, chain.pending()), (signed.units(), 1));
        node.set_faults(Faults::default());
        let other = open(&runtime, "sim-weather", "1", "24h").await.unwrap();
        let failure = closing.await.unwrap().unwrap_err();
        assert_eq!((failure.code, failure.money), (Code::TransactionReverted, Money::GasOnly));
        let kinds = "SELECT COUNT(*) FROM transactions WHERE kind = 'cooperative_close'";
        assert!(world.journaled(kinds) >= 2, "it was outbid");
        ask(&runtime, other, "sim/forecast", "Lisbon").await.unwrap();
    });
}
