//! The journal is gone, or another client opened channels: they are found on chain (M10).

use std::sync::Arc;

use alloy::sol_types::{SolCall, SolEvent};
use drain_mcp::actors::Runtime;
use drain_mcp::api::{ChannelState, Progress};
use drain_mcp::error::Code;
use drain_protocol::contract::{DrainChannel, Erc20};
use drain_protocol::{Address, ChannelId, Generation, U256};
use drain_sandbox::SandboxConfig;
use drain_sandbox::chain::{ChainConfig, Faults};
use drain_sandbox::contracts::{CHANNEL_V1, CHANNEL_V2, USDC};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::harness::{World, ask, failed, in_system, open, unspent, until, usdc, view};
use crate::process_harness::{self, Agent, Env, Greeting};

/// Opens a channel with the agent's key, past any runtime, as another client would.
pub async fn open_elsewhere(world: &World, contract: Address, units: u64, seconds: u64) -> ChannelId {
    let (rpc, key) = (world.sandbox.observer().rpc(), world.sandbox.agent());
    let approve = Erc20::approveCall { spender: contract, amount: U256::from(units) };
    rpc.execute(key, USDC, approve.abi_encode()).await.unwrap();
    let provider = world.sandbox.llm.address();
    let open = DrainChannel::openCall { provider, amount: U256::from(units), duration: U256::from(seconds) };
    // Two contracts give the same id to two channels of the same moment.
    world.advance(5).await;
    let receipt = rpc.execute(key, contract, open.abi_encode()).await.unwrap();
    let topic = DrainChannel::ChannelOpened::SIGNATURE_HASH.to_string();
    let logs = receipt["logs"].as_array().unwrap();
    let opened = logs.iter().find(|log| log["topics"][0] == topic).unwrap();
    opened["topics"][1].as_str().unwrap().parse().unwrap()
}

fn lose_journal(world: &World) {
    let folder = world.home.path().join(format!("137-{:#x}", world.agent()));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn m10_a_deleted_journal_is_found_again_on_both_contracts() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let used = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        ask(&runtime, used, "sim-small", "Hello").await.unwrap();
        let over = open(&runtime, "sim-weather", "1", "24h").await.unwrap();
        runtime.cooperative_close(over, Progress::none()).await.unwrap();
        runtime.shutdown().await;
        drop(runtime);
        let old = open_elsewhere(&world, CHANNEL_V1, 500_000, 7_200).await;
        lose_journal(&world);
        let runtime = world.runtime().await;
        let advice = runtime.balance().await.unwrap().advice;
        assert!(
            advice.iter().any(|line| line.contains("3 channels") && line.contains("channels recover")),
            "{advice:?}"
        );
        let recovery = runtime.recover(Progress::none()).await.unwrap();
        assert!(recovery.complete && recovery.found == 3, "{recovery:?}");
        let again = runtime.recover(Progress::none()).await.unwrap();
        assert!(again.complete && again.found == 0);
        assert!(!runtime.balance().await.unwrap().advice.iter().any(|line| line.contains("recover")));
        let open = runtime.channels(false).await.unwrap();
        assert_eq!(open.len(), 2);
        assert!(open.iter().all(|channel| channel.recovered && channel.notes[0].contains("foreign")));
        assert_eq!(view(&runtime, over).await.state, ChannelState::Closed);
        // What is in them counts as locked, and nothing is promised on them.
        assert_eq!(runtime.balance().await.unwrap().locked, usdc("1.5"));
        failed(ask(&runtime, used, "sim-small", "Hello").await, Code::UrlRefused);
        failed(runtime.cooperative_close(used, Progress::none()).await, Code::CloseRefused);
        world.advance(90_000).await;
        let reports = runtime.refund(None, Progress::none()).await.unwrap();
        assert_eq!(reports.iter().filter(|report| report.closed.is_some()).count(), 2, "{reports:?}");
        assert_eq!(view(&runtime, old).await.refunded, Some(usdc("0.5")));
    });
}

#[test]
fn m10_a_person_adopts_a_foreign_channel_and_it_pays_with_fresh_numbers() {
    in_system(async {
        let world = World::start().await;
        let channel = open_elsewhere(&world, CHANNEL_V2, 1_000_000, 86_400).await;
        let runtime = world.runtime().await;
        runtime.recover(Progress::none()).await.unwrap();
        failed(runtime.adopt(channel, Some("sim-weather".into())).await, Code::UnknownProvider);
        let adopted = runtime.adopt(channel, Some("sim-llm".into())).await.unwrap();
        assert!(adopted.recovered && adopted.notes.is_empty() && adopted.provider_id == "sim-llm");
        failed(runtime.adopt(channel, Some("sim-llm".into())).await, Code::ChannelNotOpen);
        until("it pays", async || ask(&runtime, channel, "sim-small", "Hello").await.is_ok()).await;
        let nonce = world.sandbox.llm.request_log().paid.iter().filter_map(|paid| paid.nonce).max().unwrap();
        assert!(nonce > 1_700_000_000_000_000, "{nonce}");
        // Still no cooperative close without a person.
        failed(runtime.cooperative_close(channel, Progress::none()).await, Code::CloseRefused);
        assert_eq!(view(&runtime, channel).await.generation, Generation::V2);
    });
}

#[test]
fn m10_a_search_goes_on_where_it_was_broken_off_and_old_blocks_are_found() {
    in_system(async {
        let mut config = SandboxConfig::default();
        config.chain.max_log_range = Some(700);
        let world = World::with(config).await;
        let old = open_elsewhere(&world, CHANNEL_V2, 300_000, 864_000).await;
        world.chain().mine(25_000);
        let runtime = world.runtime().await;
        let recovery = runtime.recover(Progress::none()).await.unwrap();
        assert!(recovery.complete && recovery.found == 1, "{recovery:?}");
        assert_eq!(view(&runtime, old).await.deposit, usdc("0.3"));
        let searched: String =
            world.journal().query_row("SELECT value FROM flags WHERE name = 'searched'", [], |row| row.get(0)).unwrap();
        // A newer one is found without reading the old blocks again.
        open_elsewhere(&world, CHANNEL_V2, 200_000, 86_400).await;
        world.chain().main().reset_request_count();
        assert_eq!(runtime.recover(Progress::none()).await.unwrap().found, 1);
        let asked = world.chain().request_count().get("eth_getLogs").copied().unwrap_or_default();
        assert!(asked < 25, "{asked} pieces, after {searched}");
    });
}

#[test]
fn m10_a_node_without_old_events_is_not_called_complete() {
    in_system(async {
        let world = World::start().await;
        open_elsewhere(&world, CHANNEL_V2, 300_000, 86_400).await;
        let runtime = world.runtime().await;
        world.chain().main().update_faults(|faults| faults.hide_logs = true);
        let recovery = runtime.recover(Progress::none()).await.unwrap();
        assert!(!recovery.complete && recovery.found == 0, "{recovery:?}");
        let all_found = async || world.journaled("SELECT COUNT(*) FROM flags WHERE name = 'all_found'") == 1;
        assert!(!all_found().await);
        world.chain().main().update_faults(|faults| faults.hide_logs = false);
        assert!(runtime.recover(Progress::none()).await.unwrap().complete);
        assert!(all_found().await);
    });
}

/// Fetches the receipts of nobody: a transaction is mined, and its sender does not hear of it.
fn no_receipts(world: &World, on: bool) {
    world.chain().main().update_faults(|faults| {
        faults.fail_rate = if on { 1.0 } else { 0.0 };
        faults.methods = vec!["eth_getTransactionReceipt".into()];
    });
}

#[test]
fn m10_a_search_leaves_an_opening_of_ours_that_is_on_its_way_to_the_wallet() {
    in_system(async {
        let chain = ChainConfig { finality_depth: 3, ..ChainConfig::default() };
        let world = Arc::new(World::with(SandboxConfig { chain, ..SandboxConfig::default() }).await);
        open_elsewhere(&world, CHANNEL_V2, 300_000, 86_400).await;
        world.chain().mine(5);
        let runtime = world.runtime().await;
        world.chain().hold(true);
        let opening = tokio::spawn({
            let runtime = runtime.clone();
            async move { open(&runtime, "sim-llm", "1", "24h").await }
        });
        // The approval is seen final; of the opening nobody tells while it becomes final.
        until("the approval is sent", async || world.chain().pending() == 1).await;
        world.chain().hold(false);
        world.chain().mine(5);
        world.chain().hold(true);
        until("the opening is sent", async || world.chain().pending() == 1).await;
        no_receipts(&world, true);
        world.chain().hold(false);
        world.chain().mine(1);
        // Mined and not final; final and not recorded: the search takes it for no foreign one.
        for (blocks, found) in [(0, 1), (5, 0)] {
            world.chain().mine(blocks);
            let recovery = runtime.recover(Progress::none()).await.unwrap();
            assert!(recovery.complete && recovery.found == found, "{recovery:?}");
            assert_eq!(runtime.balance().await.unwrap().locked, usdc("1.3"), "each deposit counts once");
            assert!(!runtime.balance().await.unwrap().advice.iter().any(|line| line.contains("recover")));
        }
        no_receipts(&world, false);
        let channel = opening.await.unwrap().unwrap();
        let mine = view(&runtime, channel).await;
        assert_eq!((mine.state, mine.recovered, mine.intent.as_str()), (ChannelState::Open, false, "c1"));
        assert_eq!(runtime.channels(true).await.unwrap().len(), 2);
        assert_eq!(runtime.balance().await.unwrap().locked, usdc("1.3"));
        let again = runtime.recover(Progress::none()).await.unwrap();
        assert!(again.complete && again.found == 0, "{again:?}");
    });
}

#[test]
fn m10_what_a_node_without_old_events_did_not_tell_is_asked_of_the_next_one() {
    in_system(async {
        let world = World::start().await;
        let old = open_elsewhere(&world, CHANNEL_V2, 300_000, 864_000).await;
        world.chain().mine(25_000);
        let runtime = world.runtime().await;
        world.chain().main().update_faults(|faults| faults.hide_logs = true);
        assert!(!runtime.recover(Progress::none()).await.unwrap().complete);
        world.chain().main().update_faults(|faults| faults.hide_logs = false);
        let recovery = runtime.recover(Progress::none()).await.unwrap();
        assert!(recovery.complete && recovery.found == 1, "{recovery:?}");
        assert_eq!(view(&runtime, old).await.deposit, usdc("0.3"));
    });
}

#[test]
fn m10_a_contract_that_is_configured_later_is_searched_from_the_newest_block_on() {
    in_system(async {
        let world = World::start().await;
        let old = open_elsewhere(&world, CHANNEL_V1, 300_000, 864_000).await;
        open_elsewhere(&world, CHANNEL_V2, 200_000, 864_000).await;
        world.chain().mine(25_000);
        let mut config = world.config();
        config.chain.deployments.retain(|on| on.generation == Generation::V2);
        let runtime = world.runtime_with(config).await;
        let recovery = runtime.recover(Progress::none()).await.unwrap();
        assert!(recovery.complete && recovery.found == 1, "{recovery:?}");
        runtime.shutdown().await;
        drop(runtime);
        let runtime = world.runtime().await;
        let recovery = runtime.recover(Progress::none()).await.unwrap();
        assert!(recovery.complete && recovery.found == 1, "{recovery:?}");
        assert_eq!(view(&runtime, old).await.generation, Generation::V1);
    });
}

#[test]
fn m10_one_endpoint_that_does_not_know_a_channel_does_not_end_it() {
    in_system(async {
        let world = World::start().await;
        let channel = open_elsewhere(&world, CHANNEL_V2, 300_000, 86_400).await;
        let honest = world.chain().endpoint(Faults::default()).await.unwrap();
        let mut config = world.config();
        config.chain.rpc_urls.push(honest.url().parse().unwrap());
        let runtime = world.runtime_with(config).await;
        let none = vec![0; 5 * 32];
        world.chain().main().update_faults(|faults| {
            faults.call_overrides.insert(DrainChannel::getChannelCall::SELECTOR.into(), none.into());
        });
        unspent(runtime.recover(Progress::none()).await, Code::ContractFrozen);
        assert!(runtime.channels(true).await.unwrap().is_empty(), "nothing is recorded of it");
        world.chain().main().set_faults(Faults::default());
        let recovery = runtime.recover(Progress::none()).await.unwrap();
        assert!(recovery.complete && recovery.found == 1, "{recovery:?}");
        assert_eq!(view(&runtime, channel).await.state, ChannelState::Open);
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m10_that_channels_are_not_in_the_record_is_said_wherever_one_looks() {
    let world = process_harness::world().await;
    open_elsewhere(&world, CHANNEL_V1, 300_000, 86_400).await;
    let env = Env::of(&world);
    let doctor = async |status: &str| {
        let report = env.run(&["doctor", "--json"]).await.ok_json();
        let line =
            report["checks"].as_array().unwrap().iter().find(|line| line["check"] == "openings").unwrap().clone();
        assert_eq!(line["status"], status, "{line}");
        line
    };
    // Without any record, too.
    assert!(doctor("warn").await["fix"].as_str().unwrap().contains("drain-mcp channels recover"));
    let listed = env.run(&["channels"]).await;
    assert!(listed.stdout.contains("1 channels") && listed.stdout.contains("drain-mcp channels recover"));
    assert_eq!(env.run(&["channels", "--json"]).await.ok_json()["unknown_openings"], 1);

    // A server says it when it reads the chain for something else, and asks nobody before.
    world.chain().main().reset_request_count();
    let mut agent = Agent::start(&env, Greeting::Initialize).await;
    agent.tools().await;
    assert_eq!(world.chain().request_count().values().sum::<u64>(), 0);
    agent.open("sim-llm", "1", "24h").await;
    agent.says("1 channels of this wallet are on chain and not in this record").await;
    // While it has the wallet, too.
    doctor("warn").await;
    assert_eq!(env.run(&["channels", "--json"]).await.ok_json()["unknown_openings"], 1);
    let ended = agent.leave().await;
    assert_eq!(ended.stderr.matches("channels recover").count(), 1, "{}", ended.stderr);

    assert_eq!(env.run(&["channels", "recover", "--json"]).await.ok_json()["found"], 1);
    doctor("ok").await;
    let listed = env.run(&["channels"]).await;
    assert!(!listed.stdout.contains("recover") || !listed.stdout.contains("not in this record"), "{}", listed.stdout);
    assert_eq!(env.run(&["channels", "--json"]).await.ok_json()["unknown_openings"], 0);
    // The list needs no chain.
    world.chain().main().update_faults(|faults| faults.hang = true);
    let listed = env.run(&["channels", "--json"]).await.ok_json();
    assert!(listed["unknown_openings"].is_null() && listed["channels"].as_array().unwrap().len() == 2, "{listed}");
}

/// Begins a search in this runtime and breaks it off, by `stop`, when it has read more than one step.
async fn begin_search(runtime: &Runtime, world: &World, stop: impl Fn(&mut Faults)) -> JoinHandle<bool> {
    // Slow enough that it cannot come to its end between two looks at it.
    let logs = || vec!["eth_getLogs".to_owned()];
    world.chain().main().update_faults(|faults| (faults.latency_ms, faults.methods) = (50, logs()));
    let (progress, mut told) = mpsc::channel(100);
    let search = tokio::spawn({
        let runtime = runtime.clone();
        async move { runtime.recover(Progress::to(progress)).await.is_ok_and(|recovery| recovery.complete) }
    });
    for _ in 0..3 {
        told.recv().await.unwrap();
    }
    world.chain().main().update_faults(|faults| stop(faults));
    search
}

#[test]
fn m10_a_search_that_a_kill_or_a_failing_node_breaks_off_goes_on_and_becomes_complete() {
    in_system(async {
        for killed in [false, true] {
            let world = Arc::new(World::start().await);
            let old = open_elsewhere(&world, CHANNEL_V2, 300_000, 8_640_000).await;
            world.chain().mine(85_000);
            let young = open_elsewhere(&world, CHANNEL_V1, 200_000, 864_000).await;
            if killed {
                let life = async |runtime: Runtime, world: Arc<World>| {
                    drop(begin_search(&runtime, &world, |faults| faults.hang = true).await);
                };
                world.life(world.config(), life).await;
            } else {
                let runtime = world.runtime().await;
                let search = begin_search(&runtime, &world, |faults| faults.fail_rate = 1.0).await;
                assert!(!search.await.unwrap(), "it failed");
                runtime.shutdown().await;
            }
            world.chain().main().set_faults(Faults::default());
            let value: String = world
                .journal()
                .query_row("SELECT value FROM flags WHERE name = 'searched'", [], |row| row.get(0))
                .unwrap();
            let read_to: u64 = value.split('-').next().unwrap().parse().unwrap();
            assert!((10_000..85_000).contains(&read_to), "half-way: {value}");
            assert_eq!(world.journaled("SELECT COUNT(*) FROM channels"), 1, "what was found is recorded");

            world.chain().main().reset_request_count();
            let runtime = world.runtime().await;
            let recovery = runtime.recover(Progress::none()).await.unwrap();
            assert!(recovery.complete && recovery.found == 1, "{recovery:?}");
            let asked = world.chain().request_count().get("eth_getLogs").copied().unwrap_or_default();
            assert!(asked <= read_to.div_ceil(10_000) + 1, "{asked} steps after {value}");
            let mut deposits = Vec::new();
            for channel in [old, young] {
                deposits.push(view(&runtime, channel).await.deposit);
            }
            assert_eq!(deposits, [usdc("0.3"), usdc("0.2")]);
        }
    });
}
