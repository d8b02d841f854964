//! Blocks that are taken back, before and after what was waited for (M2, M7, design section 5).

use std::sync::Arc;
use std::time::Duration;

use drain_mcp::actors::Runtime;
use drain_mcp::api::{ChannelState, ChannelView, Progress, Said};
use drain_mcp::config::Config;
use drain_mcp::error::{Code, Failure};
use drain_protocol::{ChannelId, Generation, Usdc};
use drain_sandbox::chain::{ChainConfig, ReorgTxs};
use drain_sandbox::contracts::{CHANNEL_V1, CHANNEL_V2};
use drain_sandbox::marketplace::SandboxConfig;
use drain_sandbox::provider::CloseAmount;
use tokio::sync::mpsc;

use crate::harness::{World, ask, in_system, open, unspent, until, usdc, vouchers};

const FATES: [ReorgTxs; 3] = [ReorgTxs::Drop, ReorgTxs::Requeue, ReorgTxs::Remine { shift: 30 }];

/// Blocks that must be on top of a transaction.
const DEPTH: u64 = 4;

/// Brings work to its end on a chain that takes the block of each of its transactions back once, after it was seen mined
/// and before it is final.
async fn through<T, W>(world: &World, fate: ReorgTxs, work: impl FnOnce(Progress) -> W) -> Result<T, Failure>
where
    T: Send + 'static,
    W: Future<Output = Result<T, Failure>> + Send + 'static,
{
    // Only our own chain takes blocks back.
    world.chain();
    let (progress, mut told) = mpsc::channel(100);
    let work = tokio::spawn(work(Progress::to(progress)));
    let (mut untouched, mut reorgs) = (false, 0);
    while !work.is_finished() {
        match tokio::time::timeout(Duration::from_millis(20), told.recv()).await {
            Ok(Some(Said::Line(text))) => {
                untouched |= text.contains("sent, waiting");
                if let Some(rest) = text.strip_prefix("mined in block ").filter(|_| untouched) {
                    untouched = false;
                    let block: u64 = rest.split(',').next().unwrap().parse().unwrap();
                    world.chain().reorg(world.chain().block_number() + 1 - block, fate);
                    reorgs += 1;
                }
            }
            _ if untouched => {}
            _ => world.chain().mine(1),
        }
    }
    assert!(reorgs > 0, "nothing was taken back");
    work.await.unwrap()
}

async fn shallow() -> World {
    let chain = ChainConfig { finality_depth: DEPTH, ..ChainConfig::default() };
    World::with(SandboxConfig { chain, ..SandboxConfig::default() }).await
}

#[test]
fn m7_reorganisations_before_finality_change_nothing_at_any_stage_on_v2() {
    in_system(async {
        for fate in FATES {
            let world = shallow().await;
            let runtime = world.runtime().await;
            // Approval and opening.
            let run = runtime.clone();
            let made = through(&world, fate, |progress| async move {
                run.open(crate::harness::wish("sim-llm", "1"), progress).await
            });
            let made = made.await.unwrap();
            let id: ChannelId = made.channel.channel_id.unwrap().parse().unwrap();
            // The id is that of the block that stayed, and there is one deposit.
            assert_eq!(
                world.sandbox.observer().opened_by(CHANNEL_V2, world.agent()).await.unwrap(),
                [id.0],
                "{fate:?}"
            );
            assert_eq!((world.sent().await, world.held().await, world.allowance().await), (2, usdc("99"), Usdc::ZERO));
            let paid = ask(&runtime, id, "sim-small", "Hello").await.unwrap();
            // The cooperative close.
            let run = runtime.clone();
            let closed = through(&world, fate, |progress| async move { run.cooperative_close(id, progress).await });
            let closed = closed.await.unwrap();
            assert_eq!(closed.refund, usdc("1").checked_sub(paid.channel.signed).unwrap(), "{fate:?}");
            assert_eq!(world.held().await, usdc("100").checked_sub(paid.channel.signed).unwrap(), "{fate:?}");
            assert_eq!(world.sent().await, 3, "{fate:?}");
        }
    });
}

#[test]
fn m7_reorganisations_before_finality_change_nothing_at_any_stage_on_v1() {
    in_system(async {
        for fate in FATES {
            let world = shallow().await;
            let mut config = world.config();
            config.chain.generation = Some(Generation::V1);
            let runtime = world.runtime_with(config).await;
            // Fee, approval and opening.
            let wish = drain_mcp::api::OpenRequest {
                duration: Some("300s".parse().unwrap()),
                ..crate::harness::wish("sim-llm", "1")
            };
            let run = runtime.clone();
            let made = through(&world, fate, |progress| async move { run.open(wish, progress).await }).await.unwrap();
            let id: ChannelId = made.channel.channel_id.unwrap().parse().unwrap();
            assert_eq!(
                world.sandbox.observer().opened_by(CHANNEL_V1, world.agent()).await.unwrap(),
                [id.0],
                "{fate:?}"
            );
            assert_eq!((world.sent().await, world.held().await), (3, usdc("98.99")), "one fee, one deposit: {fate:?}");
            // The close at expiry.
            world.advance(400).await;
            let run = runtime.clone();
            through(&world, fate, |progress| async move { run.close(id, progress).await }).await.unwrap();
            assert_eq!((world.sent().await, world.held().await), (4, usdc("99.99")), "{fate:?}");
        }
    });
}

#[test]
fn m7_a_claim_that_is_taken_back_loses_nobody_anything() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime_with(watchful(&world)).await;
        let id = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let signed = ask(&runtime, id, "sim-small", "Hello").await.unwrap().channel.signed;
        world.sandbox.llm.claim(id.0).await.unwrap();
        until("the claim is seen", async || recorded(&runtime).await.claimed == signed).await;
        world.chain().reorg(1, ReorgTxs::Drop);
        world.chain().mine(1);
        // What was claimed is a floor for the next voucher, and no more: the channel pays on, and closes.
        let paid = ask(&runtime, id, "sim-small", "Hello again").await.unwrap();
        assert!(paid.channel.signed >= signed);
        world.advance(86_400).await;
        let closed = runtime.close(id, Progress::none()).await.unwrap();
        assert_eq!((closed.refund, world.held().await), (usdc("1"), usdc("100")), "nobody claimed in the end");
    });
}

fn watchful(world: &World) -> Config {
    let mut config = world.config();
    config.chain.poll_interval = Duration::from_millis(20);
    config
}

/// The youngest channel, as the journal has it.
async fn recorded(runtime: &Runtime) -> ChannelView {
    let mut channels = runtime.channels(false).await.unwrap();
    if channels.is_empty() {
        channels = runtime.channels(true).await.unwrap();
    }
    channels.remove(0)
}

fn id(view: &ChannelView) -> ChannelId {
    view.channel_id.as_ref().unwrap().parse().unwrap()
}

#[test]
fn m2_m7_an_opening_that_is_taken_back_after_all_gets_its_new_id_with_fresh_books() {
    in_system(async {
        let world = Arc::new(World::start().await);
        let first = async |runtime: Runtime, world: Arc<World>| {
            let old = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
            let paid = ask(&runtime, old, "sim-small", "Hello").await.unwrap();
            world.chain().reorg(1, ReorgTxs::Remine { shift: 30 });
            until("the new id is known", async || {
                let now = recorded(&runtime).await;
                now.state == ChannelState::Open && id(&now) != old
            })
            .await;
            let now = recorded(&runtime).await;
            let on_chain = world.sandbox.observer().opened_by(CHANNEL_V2, world.agent()).await.unwrap();
            assert_eq!((on_chain, now.intent.as_str()), (vec![id(&now).0], "c1"), "the same intent");
            assert_eq!((now.signed, now.charged, now.available), (Usdc::ZERO, Usdc::ZERO, usdc("1")));
            assert_eq!(runtime.balance().await.unwrap().locked, usdc("1"), "one deposit");
            // The old id signs nothing any more, and what was signed under it is not forgotten.
            unspent(ask(&runtime, old, "sim-small", "Hello?").await, Code::ChannelNotOpen);
            let all = runtime.channels(true).await.unwrap();
            let gone = all.iter().find(|view| id(view) == old).unwrap();
            assert_eq!((gone.state, gone.signed), (ChannelState::Failed, paid.channel.signed));
            assert!(gone.notes.iter().any(|note| note.contains("reorganisation")), "{gone:?}");
            assert_eq!(ask(&runtime, id(&now), "sim-small", "Hello").await.unwrap().channel.requests, 1);
            // And once more, now to be mined anew, while the process ends.
            world.chain().reorg(1, ReorgTxs::Drop);
            (old, paid.channel.signed)
        };
        world.life(watchful(&world), first).await;
        // The journal is believed at the next start, and the channel ends well.
        let runtime = world.runtime_with(watchful(&world)).await;
        let on_chain = async || world.sandbox.observer().opened_by(CHANNEL_V2, world.agent()).await.unwrap();
        until("it is on chain", async || on_chain().await.len() == 1).await;
        until("it is open", async || {
            let now = recorded(&runtime).await;
            now.state == ChannelState::Open && on_chain().await == [id(&now).0]
        })
        .await;
        let now = recorded(&runtime).await;
        let paid = ask(&runtime, id(&now), "sim-small", "Hello").await.unwrap();
        let closed = runtime.cooperative_close(id(&now), Progress::none()).await.unwrap();
        assert_eq!(closed.refund, usdc("1").checked_sub(paid.channel.signed).unwrap());
        assert_eq!(world.held().await, usdc("100").checked_sub(paid.channel.signed).unwrap());
    });
}

#[test]
fn m7_while_a_deep_reorganisation_is_followed_nothing_is_signed_and_the_deposit_counts() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime_with(watchful(&world)).await;
        let old = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        ask(&runtime, old, "sim-small", "Hello").await.unwrap();
        world.chain().hold(true);
        world.chain().reorg(1, ReorgTxs::Drop);
        until("it is noticed", async || recorded(&runtime).await.state == ChannelState::Opening).await;
        let view = recorded(&runtime).await;
        assert!(view.notes.iter().any(|note| note.contains("took the opening back")), "{view:?}");
        unspent(ask(&runtime, old, "sim-small", "Hello").await, Code::ChannelNotOpen);
        assert_eq!(runtime.balance().await.unwrap().locked, usdc("1"));
        world.chain().hold(false);
        until("it is open again", async || recorded(&runtime).await.state == ChannelState::Open).await;
        let now = id(&recorded(&runtime).await);
        ask(&runtime, now, "sim-small", "Hello").await.unwrap();
        assert_eq!((world.sent().await, world.held().await), (2, usdc("99")));
    });
}

#[test]
fn m6_m7_a_close_that_is_taken_back_is_closing_again_and_ends() {
    in_system(async {
        for restart in [false, true] {
            let world = Arc::new(World::start().await);
            let first = async |runtime: Runtime, world: Arc<World>| {
                let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
                ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
                let closed = runtime.cooperative_close(channel, Progress::none()).await.unwrap();
                world.chain().hold(true);
                world.chain().reorg(1, ReorgTxs::Drop);
                until("it is noticed", async || recorded(&runtime).await.state == ChannelState::Closing).await;
                let view = recorded(&runtime).await;
                assert_eq!(view.refunded, None);
                assert!(view.notes.iter().any(|note| note.contains("took the close back")), "{view:?}");
                // Nothing is signed while the close may land, and the deposit counts again.
                unspent(ask(&runtime, channel, "sim-small", "Hello").await, Code::ChannelNotOpen);
                assert_eq!(runtime.balance().await.unwrap().locked, usdc("1"));
                closed.refund
            };
            let runtime;
            let refund = if restart {
                let refund = world.life(watchful(&world), first).await;
                runtime = world.runtime_with(watchful(&world)).await;
                refund
            } else {
                runtime = world.runtime_with(watchful(&world)).await;
                first(runtime.clone(), Arc::clone(&world)).await
            };
            world.chain().hold(false);
            until("it is closed", async || runtime.channels(false).await.unwrap().is_empty()).await;
            assert_eq!(recorded(&runtime).await.refunded, Some(refund));
            assert_eq!((world.sent().await, world.held().await), (3, usdc("99").checked_add(refund).unwrap()));
        }
    });
}

#[test]
fn m7_an_open_that_reverted_and_succeeds_after_a_reorganisation_is_not_lost_sight_of() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime_with(watchful(&world)).await;
        let other = open(&runtime, "sim-weather", "1", "24h").await.unwrap();
        runtime.approve(Some(usdc("5")), Progress::none()).await.unwrap();
        world.chain().revert_next(1);
        open(&runtime, "sim-llm", "1", "24h").await.unwrap_err();
        world.chain().reorg(1, ReorgTxs::Remine { shift: 30 });
        until("it is open", async || runtime.channels(false).await.unwrap().len() == 2).await;
        until("it is open", async || recorded(&runtime).await.state == ChannelState::Open).await;
        let opened = world.sandbox.observer().opened_by(CHANNEL_V2, world.agent()).await.unwrap();
        assert_eq!(opened, [other.0, id(&recorded(&runtime).await).0]);
        assert_eq!(runtime.balance().await.unwrap().locked, usdc("2"));
    });
}

#[test]
fn m10_a_last_close_that_is_taken_back_while_nothing_runs_is_made_good_at_the_next_start() {
    in_system(async {
        let world = Arc::new(World::start().await);
        let first = async |runtime: Runtime, _: Arc<World>| {
            let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
            ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
            runtime.cooperative_close(channel, Progress::none()).await.unwrap().refund
        };
        let refund = world.life(world.config(), first).await;
        world.chain().reorg(1, ReorgTxs::Drop);
        assert_eq!((world.sent().await, world.held().await), (2, usdc("99")));
        // The journal knows of no open channel; the block of its last transaction is another one now.
        let runtime = world.runtime_with(watchful(&world)).await;
        until("it is closed again", async || world.sent().await == 3).await;
        until("it is recorded", async || runtime.channels(false).await.unwrap().is_empty()).await;
        assert_eq!(world.held().await, usdc("99").checked_add(refund).unwrap());
    });
}

#[test]
fn m11_a_channel_whose_close_was_taken_back_and_failed_is_watched_again() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime_with(watchful(&world)).await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let signed = ask(&runtime, channel, "sim-small", "Hello").await.unwrap().channel.signed;
        // It stays unclaimed: the provider signs for nothing and claims later.
        world.sandbox.llm.set(|faults| faults.close_amount = CloseAmount::Exactly(0));
        runtime.cooperative_close(channel, Progress::none()).await.unwrap();
        world.chain().hold(true);
        world.chain().reorg(1, ReorgTxs::Drop);
        until("it is noticed", async || recorded(&runtime).await.state == ChannelState::Closing).await;
        world.chain().revert_next(1);
        world.chain().hold(false);
        until("it is open", async || recorded(&runtime).await.state == ChannelState::Open).await;
        world.sandbox.llm.claim(channel.0).await.unwrap();
        until("the claim is seen", async || recorded(&runtime).await.claimed == signed).await;
    });
}

#[test]
fn m2_an_opening_that_is_gone_signs_nothing_while_the_wallet_is_busy() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime_with(watchful(&world)).await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        world.chain().hold(true);
        let run = runtime.clone();
        let other = tokio::spawn(async move { open(&run, "sim-weather", "1", "24h").await });
        until("the wallet is busy", async || world.chain().pending() == 1).await;
        world.chain().reorg(1, ReorgTxs::Drop);
        until("it is noticed", async || {
            let seen = runtime.channels(false).await.unwrap();
            seen.iter().any(|view| view.provider_id == "sim-llm" && view.state == ChannelState::Opening)
        })
        .await;
        assert!(!other.is_finished());
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap_err();
        assert_eq!(vouchers(&world.sandbox.llm), []);
        world.chain().hold(false);
    });
}
