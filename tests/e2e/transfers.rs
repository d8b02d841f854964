//! What a person sends, and work of the wallet that is not begun.

use std::sync::Arc;

use drain_mcp::actors::Runtime;
use drain_mcp::api::{Progress, SendAmount};
use drain_mcp::config::Config;
use drain_mcp::error::{Code, Failure, Money};
use drain_protocol::{Address, U256, Usdc};
use drain_sandbox::chain::{Faults, ForgedReceipt};
use drain_sandbox::contracts::{CHANNEL_V2, USDC};
use drain_signers::{Policy, Signer};

use crate::harness::{World, failed, in_system, unspent, until, usdc, wish};

use crate::transactions::{approved, assert_pending, code, impatient, open};

const FRIEND: Address = Address::repeat_byte(0x77);

/// A runtime whose person may send to [`FRIEND`].
async fn generous(world: &World, config: Config) -> Runtime {
    let mut policy = Policy::new(137, config.chain.deployments.clone());
    policy.recipients = vec![FRIEND];
    Runtime::start(config, Some(Signer::new(world.backend(), policy))).await.unwrap()
}

async fn send(runtime: &Runtime, amount: SendAmount, again: bool) -> Result<String, Failure> {
    runtime.send(FRIEND, amount, again, Progress::none()).await
}

fn dollars(amount: &str) -> SendAmount {
    SendAmount::Usdc(Some(usdc(amount)))
}

async fn gift(world: &World) -> Usdc {
    world.sandbox.observer().usdc_balance(FRIEND).await.unwrap()
}

#[test]
fn a_transfer_that_just_arrived_is_not_repeated_without_a_persons_word() {
    in_system(async {
        let world = World::start().await;
        let runtime = generous(&world, world.config()).await;
        let hash = send(&runtime, dollars("1"), false).await.unwrap();
        let failure = failed(send(&runtime, dollars("1"), false).await, Code::TransactionPending);
        assert_eq!(failure.money, Money::Spent { receipt: hash, amount: usdc("1") });
        assert_eq!((gift(&world).await, world.sent().await), (usdc("1"), 1));
        send(&runtime, dollars("1.5"), false).await.unwrap();
        send(&runtime, dollars("1"), true).await.unwrap();
        assert_eq!(gift(&world).await, usdc("3.5"));

        let wei = |wei: u64| SendAmount::Native(Some(U256::from(wei)));
        send(&runtime, wei(1_000), false).await.unwrap();
        failed(send(&runtime, wei(1_000), false).await, Code::TransactionPending);
        send(&runtime, wei(1_001), false).await.unwrap();
        assert_eq!(world.sandbox.observer().native_balance(FRIEND).await.unwrap(), U256::from(2_001));
        // Long ago is another matter.
        world.journal().execute("UPDATE transactions SET finished_at = finished_at - 601", []).unwrap();
        send(&runtime, dollars("1"), false).await.unwrap();
    });
}

#[test]
fn a_transfer_of_an_earlier_run_is_not_repeated() {
    in_system(async {
        let world = Arc::new(World::start().await);
        // A command line that gave up waiting, and the same command once more.
        for round in 0..2 {
            let config = impatient(&world);
            let (reply, ended) = tokio::sync::oneshot::channel();
            let same = world.clone();
            std::thread::spawn(move || {
                let failure = in_system(async {
                    same.chain().hold(round == 0);
                    let runtime = generous(&same, if round == 0 { config } else { same.config() }).await;
                    send(&runtime, dollars("1"), false).await.unwrap_err()
                });
                drop(same);
                let _ = reply.send(failure);
            });
            let failure = ended.await.unwrap();
            assert_eq!(failure.code, Code::TransactionPending, "{failure:?}");
            assert_eq!(matches!(failure.money, Money::Spent { .. }), round == 1, "{failure:?}");
        }
        assert_eq!((gift(&world).await, world.sent().await), (usdc("1"), 1));
    });
}

#[test]
fn what_nobody_waits_for_any_more_is_not_begun() {
    in_system(async {
        let world = World::start().await;
        let runtime = generous(&world, impatient(&world)).await;
        runtime.approve(Some(usdc("5")), Progress::none()).await.unwrap();
        world.chain().hold(true);
        // The first one is on its way; the others wait for their turn, and their askers leave.
        assert_eq!(code(open(&runtime).await).0, "transaction_pending");
        let (approval, transfer, opening) = futures::join!(
            runtime.approve(Some(usdc("7")), Progress::none()),
            send(&runtime, dollars("1"), false),
            runtime.open(wish("sim-weather", "1"), Progress::none())
        );
        failed(approval, Code::TransactionPending);
        failed(transfer, Code::TransactionPending);
        failed(opening, Code::TransactionPending);
        world.chain().hold(false);
        // Behind all of them in the queue; the allowance is this already.
        while runtime.approve(Some(usdc("4")), Progress::none()).await.is_err() {}
        let channels = runtime.channels(true).await.unwrap();
        assert_eq!(channels.iter().map(|channel| channel.provider_id.as_str()).collect::<Vec<_>>(), ["sim-llm"]);
        assert_eq!((gift(&world).await, world.held().await, world.sent().await), (usdc("0"), usdc("99"), 2));
    });
}

#[test]
fn a_transaction_that_waits_elsewhere_is_neither_replaced_nor_joined() {
    in_system(async {
        let world = World::start().await;
        let runtime = approved(&world, world.config()).await;
        world.chain().hold(true);
        let other = drain_protocol::contract::Erc20::transferCall { to: CHANNEL_V2, amount: Usdc::ZERO.to_u256() };
        let data = alloy::sol_types::SolCall::abi_encode(&other);
        world.sandbox.observer().rpc().send(world.sandbox.agent(), USDC, data).await.unwrap();
        let failure = unspent(open(&runtime).await, Code::TransactionPending);
        assert!(failure.message.contains("elsewhere"), "{failure:?}");
        assert_eq!(world.chain().pending(), 1);
        world.chain().hold(false);
        until("it is mined", async || world.sent().await == 2).await;
        open(&runtime).await.unwrap();
    });
}

#[test]
fn m7_an_approval_or_a_transfer_without_its_event_is_not_believed() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        world.chain().main().update_faults(|faults| faults.forged_receipt = Some(ForgedReceipt::Logs));
        let failure = failed(runtime.approve(Some(usdc("5")), Progress::none()).await, Code::ChainUnavailable);
        assert_pending(&failure);
        drop(runtime);
        // Nor after a restart, whatever it was.
        let state = || {
            world.journal().query_row("SELECT group_concat(state) FROM transactions", [], |row| row.get::<_, String>(0))
        };
        let runtime = generous(&world, world.config()).await;
        assert_pending(&failed(send(&runtime, dollars("1"), false).await, Code::ChainUnavailable));
        drop(runtime);
        let runtime = world.runtime().await;
        let later = runtime.approve(Some(usdc("6")), Progress::none()).await;
        assert_pending(&failed(later, Code::ChainUnavailable));
        assert!(!state().unwrap().contains("final"), "{:?}", state());
        drop(runtime);
        world.chain().main().set_faults(Faults::default());
        let runtime = world.runtime().await;
        runtime.approve(Some(usdc("7")), Progress::none()).await.unwrap();
        assert_eq!(state().unwrap(), "final,final,final,final");
    });
}
