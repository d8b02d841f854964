//! Transactions that revert, vanish, wait, are lied about, replaced or reorganised (M7).

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::B256;
use drain_mcp::actors::Runtime;
use drain_mcp::api::{ChannelState, ChannelView, Opened, Progress, Said};
use drain_mcp::config::Config;
use drain_mcp::error::{Code, Failure, Money};
use drain_protocol::Usdc;
use drain_sandbox::chain::{ChainConfig, Faults, ForgedReceipt, ReorgTxs};
use drain_sandbox::contracts::{CHANNEL_V2, USDC};
use drain_sandbox::marketplace::SandboxConfig;
use tokio::sync::mpsc;

use crate::harness::{World, ask, failed, in_system, until, usdc, wish};

type Outcome = Result<Opened, Failure>;

/// A limit that an opening does not keep while its transaction is held.
const SHORT: Duration = Duration::from_millis(400);

/// A runtime whose next open costs one transaction.
pub async fn approved(world: &World, config: Config) -> Runtime {
    let runtime = world.runtime_with(config).await;
    runtime.approve(Some(usdc("5")), Progress::none()).await.unwrap();
    runtime
}

pub fn impatient(world: &World) -> Config {
    let mut config = world.config();
    config.chain.transaction_timeout = SHORT;
    config
}

pub async fn open(runtime: &Runtime) -> Outcome {
    runtime.open(wish("sim-llm", "1"), Progress::none()).await
}

/// Repeats the call, as it is told to, until it says something else than "pending".
async fn open_again(runtime: &Runtime) -> Outcome {
    loop {
        match open(runtime).await {
            Err(failure) if failure.code.as_str() == "transaction_pending" => {}
            other => return other,
        }
    }
}

pub fn in_background(runtime: &Runtime) -> tokio::task::JoinHandle<Outcome> {
    let runtime = runtime.clone();
    tokio::spawn(async move { open(&runtime).await })
}

pub fn code(outcome: Outcome) -> (&'static str, Money) {
    let failure = outcome.unwrap_err();
    (failure.code.as_str(), failure.money)
}

/// One channel in all, with one deposit of 1 USDC, opened by two transactions (approve, open).
async fn assert_opened_once(world: &World, channels: &[ChannelView]) {
    let on_chain = world.sandbox.observer().opened_by(CHANNEL_V2, world.agent()).await.unwrap();
    let ids: Vec<B256> = channels.iter().filter_map(|c| c.channel_id.as_ref()?.parse().ok()).collect();
    assert_eq!(ids, on_chain);
    assert_eq!(channels.iter().map(|c| c.state).collect::<Vec<_>>(), [ChannelState::Open]);
    assert_eq!((on_chain.len(), world.sent().await, world.held().await), (1, 2, usdc("99")));
}

#[test]
fn m7_a_reverted_open_is_a_failure_and_no_state_is_dropped() {
    in_system(async {
        let world = World::start().await;
        let runtime = approved(&world, world.config()).await;
        world.chain().revert_next(1);
        assert_eq!(code(open(&runtime).await), ("transaction_reverted", Money::GasOnly));
        assert_eq!((world.held().await, world.sent().await), (usdc("100"), 2));
        let all = runtime.channels(true).await.unwrap();
        assert_eq!(all.iter().map(|channel| channel.state).collect::<Vec<_>>(), [ChannelState::Failed]);
        assert_eq!(runtime.balance().await.unwrap().locked, usdc("0"));
        open(&runtime).await.unwrap();
    });
}

#[test]
fn m7_a_reverted_close_leaves_the_channel_open_with_its_books() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let id = open(&runtime).await.unwrap().channel.channel_id.unwrap().parse().unwrap();
        ask(&runtime, id, "sim-small", "Hello").await.unwrap();
        let before = runtime.channel(id).await.unwrap();
        world.chain().revert_next(1);
        let failure = runtime.cooperative_close(id, Progress::none()).await.unwrap_err();
        assert_eq!((failure.code.as_str(), failure.money), ("transaction_reverted", Money::GasOnly));
        let after = runtime.channel(id).await.unwrap();
        assert_eq!((after.state, after.signed, after.charged), (ChannelState::Open, before.signed, before.charged));
        ask(&runtime, id, "sim-small", "Still there?").await.unwrap();
        runtime.cooperative_close(id, Progress::none()).await.unwrap();
    });
}

#[test]
fn m7_what_would_revert_is_not_sent() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        // The token refuses every transfer: the open would fail, and the estimate says so.
        let (method, params) = drain_sandbox::contracts::usdc_refusal_write(true).unwrap();
        world.chain().call(method, params).unwrap();
        // M15: the approval landed before, and used gas.
        assert_eq!(code(open(&runtime).await), ("transaction_reverted", Money::GasOnly));
        assert_eq!((world.sent().await, world.allowance().await), (1, usdc("1")), "the approval alone");
    });
}

#[test]
fn m7_the_journal_has_the_signed_bytes_before_any_node_has_them() {
    in_system(async {
        let world = World::start().await;
        let runtime = approved(&world, world.config()).await;
        world.chain().hold(true);
        // No node takes it: if it is stored all the same, it was stored first.
        world.chain().main().update_faults(|faults| {
            faults.hang = true;
            faults.methods = vec!["eth_sendRawTransaction".into()];
        });
        let opening = in_background(&runtime);
        let journal = world.home.path().join(format!("137-{:#x}", world.agent())).join("journal.db");
        let stored = || {
            let db =
                rusqlite::Connection::open_with_flags(&journal, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
            db.query_row("SELECT state, length(raw) > 100 FROM transactions WHERE kind = 'open'", [], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, Option<bool>>(1)?))
            })
        };
        until("it is recorded", async || stored().is_ok_and(|(_, raw)| raw == Some(true))).await;
        assert_eq!((stored().unwrap().0.as_str(), world.chain().pending()), ("signed", 0));
        opening.abort();
    });
}

#[test]
fn m7_a_slow_open_answers_pending_and_the_same_call_joins_it() {
    in_system(async {
        let world = World::start().await;
        let runtime = approved(&world, impatient(&world)).await;
        world.chain().hold(true);
        let (code, money) = code(open(&runtime).await);
        assert!(code == "transaction_pending" && matches!(money, Money::Pending { .. }), "{code} {money:?}");
        let pending = runtime.channels(false).await.unwrap();
        assert_eq!((pending[0].state, &pending[0].channel_id), (ChannelState::Opening, &None));
        assert_eq!(runtime.balance().await.unwrap().locked, usdc("1"), "it counts while it may land");
        world.chain().hold(false);
        // It ends while nobody waits: the repeated call is told of it all the same.
        until("it is recorded", async || runtime.channels(false).await.unwrap()[0].state == ChannelState::Open).await;
        let made = open_again(&runtime).await.unwrap();
        assert!(made.resumed);
        assert_opened_once(&world, &runtime.channels(true).await.unwrap()).await;
        // Told once: who calls again wants another one.
        assert!(!open_again(&runtime).await.unwrap().resumed);
    });
}

#[test]
fn m7_a_restart_takes_up_what_is_held_and_sends_nothing_twice() {
    in_system(async {
        let world = Arc::new(World::start().await);
        world.chain().hold(false);
        let first = async |runtime: Runtime, world: Arc<World>| {
            runtime.approve(Some(usdc("5")), Progress::none()).await.unwrap_or_else(|failure| panic!("{failure}"));
            world.chain().hold(true);
            open(&runtime).await.unwrap_err().code.as_str()
        };
        assert_eq!(world.life(impatient(&world), first).await, "transaction_pending");
        let second = async |runtime: Runtime, world: Arc<World>| {
            assert_eq!(runtime.channels(false).await.unwrap()[0].state, ChannelState::Opening);
            world.chain().hold(false);
            // Asked while it is taken up: that one, not another.
            assert!(open_again(&runtime).await.unwrap().resumed);
            assert_opened_once(&world, &runtime.channels(true).await.unwrap()).await;
            let id = runtime.channels(false).await.unwrap()[0].channel_id.clone().unwrap().parse().unwrap();
            ask(&runtime, id, "sim-small", "Hello").await.unwrap();
        };
        world.life(world.config(), second).await;
    });
}

#[test]
fn m7_a_restart_finds_what_was_mined_meanwhile_and_sends_again_what_was_dropped() {
    in_system(async {
        for dropped in [false, true] {
            let world = Arc::new(World::start().await);
            let first = async move |runtime: Runtime, world: Arc<World>| {
                runtime.approve(Some(usdc("5")), Progress::none()).await.unwrap();
                world.chain().hold(!dropped);
                world.chain().main().update_faults(|faults| faults.drop_next = u64::from(dropped));
                open(&runtime).await.unwrap_err().code.as_str()
            };
            assert_eq!(world.life(impatient(&world), first).await, "transaction_pending");
            world.chain().hold(false);
            assert_eq!(world.sent().await, if dropped { 1 } else { 2 });
            world
                .life(world.config(), async |runtime: Runtime, world: Arc<World>| {
                    // By itself: nobody asks for it.
                    until("it is recorded", async || {
                        runtime.channels(false).await.unwrap()[0].state == ChannelState::Open
                    })
                    .await;
                    assert_opened_once(&world, &runtime.channels(true).await.unwrap()).await;
                })
                .await;
        }
    });
}

#[test]
fn m7_a_close_of_an_earlier_run_is_followed_to_its_end() {
    in_system(async {
        let world = Arc::new(World::start().await);
        let first = async |runtime: Runtime, world: Arc<World>| {
            let id = open_again(&runtime).await.unwrap().channel.channel_id.unwrap().parse().unwrap();
            world.chain().hold(true);
            runtime.cooperative_close(id, Progress::none()).await.unwrap_err().code.as_str()
        };
        assert_eq!(world.life(impatient(&world), first).await, "transaction_pending");
        let second = async |runtime: Runtime, world: Arc<World>| {
            let channels = runtime.channels(false).await.unwrap();
            assert_eq!(channels[0].state, ChannelState::Closing);
            // Nothing is signed while the close may land (M6).
            let id = channels[0].channel_id.clone().unwrap().parse().unwrap();
            assert_eq!(ask(&runtime, id, "sim-small", "Hi").await.unwrap_err().code.as_str(), "channel_not_open");
            world.chain().hold(false);
            until("it is recorded", async || runtime.channels(false).await.unwrap().is_empty()).await;
            let ended = runtime.channels(true).await.unwrap();
            assert_eq!((ended[0].state, ended[0].refunded), (ChannelState::Closed, Some(usdc("1"))));
            assert_eq!((world.held().await, world.sent().await), (usdc("100"), 3));
        };
        world.life(world.config(), second).await;
    });
}

#[test]
fn m7_a_receipt_that_one_endpoint_forges_convinces_nobody() {
    in_system(async {
        // A revert sold as a success, a success sold as a revert, and another channel id.
        for (forged, reverts) in
            [(ForgedReceipt::Success, true), (ForgedReceipt::Failure, false), (ForgedReceipt::Logs, false)]
        {
            let world = World::start().await;
            let honest = world.chain().endpoint(Faults::default()).await.unwrap();
            let mut config = impatient(&world);
            config.chain.rpc_urls.push(honest.url().parse().unwrap());
            let runtime = approved(&world, config).await;
            world.chain().main().update_faults(|faults| faults.forged_receipt = Some(forged));
            world.chain().revert_next(u64::from(reverts));
            assert_eq!(code(open(&runtime).await).0, "transaction_pending", "{forged:?}");
            assert_eq!(runtime.channels(false).await.unwrap()[0].state, ChannelState::Opening, "{forged:?}");
            // The liar is cured, or replaced by the operator.
            world.chain().main().set_faults(Faults::default());
            match open_again(&runtime).await {
                Ok(_) => assert_opened_once(&world, &runtime.channels(true).await.unwrap()).await,
                Err(failure) => assert!(reverts && failure.code.as_str() == "transaction_reverted", "{failure:?}"),
            }
        }
    });
}

#[test]
fn m7_a_success_without_the_events_opens_nothing() {
    in_system(async {
        let world = World::start().await;
        let runtime = approved(&world, world.config()).await;
        world.chain().revert_next(1);
        world.chain().main().update_faults(|faults| faults.forged_receipt = Some(ForgedReceipt::Success));
        // The only endpoint says success; the events are not there.
        let (code, money) = code(open(&runtime).await);
        assert!(code == "chain_unavailable" && matches!(money, Money::Pending { .. }), "{code} {money:?}");
        let channels = runtime.channels(true).await.unwrap();
        assert_eq!((channels[0].state, &channels[0].channel_id), (ChannelState::Opening, &None));
        world.chain().main().set_faults(Faults::default());
        let failure = open(&runtime).await.unwrap_err();
        assert_eq!((failure.code.as_str(), failure.money), ("transaction_reverted", Money::GasOnly));
        assert_eq!(open(&runtime).await.unwrap().channel.state, ChannelState::Open);
        assert_eq!(world.held().await, usdc("99"));
    });
}

#[test]
fn m7_a_reorganised_open_is_waited_for_and_takes_its_new_id() {
    in_system(async {
        let chain = ChainConfig { finality_depth: 3, ..ChainConfig::default() };
        let world = World::with(SandboxConfig { chain, ..SandboxConfig::default() }).await;
        let runtime = world.runtime().await;
        let approving = tokio::spawn({
            let runtime = runtime.clone();
            async move { runtime.approve(Some(usdc("5")), Progress::none()).await }
        });
        until("it is recorded", async || world.sent().await == 1).await;
        world.chain().mine(3);
        approving.await.unwrap().unwrap();

        let (progress, mut told) = mpsc::channel(100);
        let opening = tokio::spawn({
            let runtime = runtime.clone();
            async move { runtime.open(wish("sim-llm", "1"), Progress::to(progress)).await }
        });
        while !matches!(told.recv().await.unwrap(), Said::Line(text) if text.starts_with("mined in block")) {}
        let ids = async || world.sandbox.observer().opened_by(CHANNEL_V2, world.agent()).await.unwrap();
        let before = ids().await;
        assert!(!opening.is_finished(), "mined is not final");
        world.chain().reorg(1, ReorgTxs::Remine { shift: 30 });
        world.chain().mine(3);
        let made = opening.await.unwrap().unwrap();
        let after = ids().await;
        assert_ne!(before, after);
        assert_eq!(made.channel.channel_id.as_deref(), Some(format!("{:#x}", after[0]).as_str()));
        assert_eq!(world.sent().await, 2);
        let id = made.channel.channel_id.unwrap().parse().unwrap();
        ask(&runtime, id, "sim-small", "Hello").await.unwrap();
    });
}

#[test]
fn m7_a_replaced_open_is_a_failure_without_loss_and_the_next_call_opens() {
    in_system(async {
        let world = World::start().await;
        let runtime = approved(&world, world.config()).await;
        world.chain().hold(true);
        let opening = in_background(&runtime);
        until("it is recorded", async || world.chain().pending() == 1).await;
        // The same key elsewhere: another transaction takes the slot.
        world.chain().call("anvil_dropAllTransactions", serde_json::json!([])).unwrap();
        let rpc = world.sandbox.observer().rpc();
        let other = drain_protocol::contract::Erc20::transferCall { to: CHANNEL_V2, amount: Usdc::ZERO.to_u256() };
        let data = alloy::sol_types::SolCall::abi_encode(&other);
        rpc.send(world.sandbox.agent(), USDC, data).await.unwrap();
        world.chain().hold(false);
        assert_eq!(code(opening.await.unwrap()), ("transaction_reverted", Money::NotSpent));
        assert_eq!((world.held().await, world.sent().await), (usdc("100"), 2));
        open(&runtime).await.unwrap();
        assert_eq!(world.sandbox.observer().opened_by(CHANNEL_V2, world.agent()).await.unwrap().len(), 1);
    });
}

/// Makes the journal refuse a change, as a full disk would, until [`heal`].
pub fn refuse(world: &World, change: &str) {
    let trigger = format!("CREATE TRIGGER refused {change} BEGIN SELECT RAISE(ABORT, 'the disk is full'); END");
    world.journal().execute(&trigger, []).unwrap();
}

fn heal(world: &World) {
    world.journal().execute("DROP TRIGGER refused", []).unwrap();
}

pub fn assert_pending(failure: &Failure) {
    assert!(
        matches!(&failure.money, Money::Pending { receipt } if receipt.strip_prefix('t').is_some_and(|id| id.parse::<u64>().is_ok())),
        "{failure:?}"
    );
}

#[test]
fn m15_an_open_whose_end_cannot_be_recorded_is_pending_and_taken_up_by_the_next_call() {
    in_system(async {
        let world = World::start().await;
        let runtime = approved(&world, world.config()).await;
        refuse(&world, "BEFORE UPDATE ON transactions WHEN NEW.state = 'final'");
        let failure = failed(open(&runtime).await, Code::JournalFailed);
        assert_pending(&failure);
        // It is not given up: the deposit is in the contract.
        assert_eq!(runtime.channels(true).await.unwrap()[0].state, ChannelState::Opening);
        assert_pending(&failed(open(&runtime).await, Code::JournalFailed));
        heal(&world);
        assert!(open(&runtime).await.unwrap().resumed);
        assert_opened_once(&world, &runtime.channels(true).await.unwrap()).await;

        // A revert that cannot be recorded is not an end either.
        refuse(&world, "BEFORE UPDATE ON transactions WHEN NEW.state = 'reverted'");
        world.chain().revert_next(1);
        assert_pending(&failed(open(&runtime).await, Code::JournalFailed));
        heal(&world);
        assert_eq!(code(open(&runtime).await), ("transaction_reverted", Money::GasOnly));
        assert!(!open(&runtime).await.unwrap().resumed);
    });
}

#[test]
fn a_channel_is_open_even_if_nothing_else_can_be_recorded() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        refuse(&world, "BEFORE INSERT ON docs_read");
        assert!(open(&runtime).await.unwrap().docs.is_some());
    });
}
