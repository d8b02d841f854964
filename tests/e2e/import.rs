//! Channels of the TypeScript drain-mcp: taken over as recovered ones, of which nothing is believed (design section 4).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alloy::sol_types::SolCall;
use drain_mcp::actors::Runtime;
use drain_mcp::api::{ChannelState, ChannelView, Progress};
use drain_mcp::config::Config;
use drain_protocol::contract::{DrainChannel, Erc20};
use drain_protocol::{Address, ChannelId, U256, Usdc};
use drain_sandbox::contracts::{CHANNEL_V1, CHANNEL_V2, USDC};
use drain_sandbox::provider::Provider;
use serde_json::{Value, json};

use crate::harness::{World, ask, in_system, open, until, usdc, vouchers};
use crate::process_harness::{self, Agent, Env, Greeting};

/// Opens a channel as that program did: with the same key, and without our journal.
async fn opened_elsewhere(world: &World, contract: Address, provider: &Provider, seconds: u64) -> ChannelId {
    let (rpc, agent) = (world.sandbox.observer().rpc(), world.sandbox.agent());
    let amount = U256::from(1_000_000);
    let approve = Erc20::approveCall { spender: contract, amount }.abi_encode();
    rpc.execute(agent, USDC, approve).await.unwrap();
    let call = DrainChannel::openCall { provider: provider.address(), amount, duration: U256::from(seconds) };
    rpc.execute(agent, contract, call.abi_encode()).await.unwrap();
    let ids = world.sandbox.observer().opened_by(contract, world.agent()).await.unwrap();
    ChannelId(*ids.last().unwrap())
}

fn leave_behind(world: &World, channels: &Value) -> PathBuf {
    let path = world.home.path().join("channels.json");
    std::fs::write(&path, channels.to_string()).unwrap();
    path
}

fn full(provider_id: &str, spending: &str) -> Value {
    json!({"providerId": provider_id, "providerName": "An older name", "category": "llm", "deposit": "999000000",
        "expiry": 1, "openedAt": 1, "nonce": 3, "spending": spending})
}

async fn taken_over(runtime: &Runtime, id: ChannelId) -> ChannelView {
    let found =
        async || runtime.channels(false).await.unwrap().into_iter().find(|v| v.channel_id == Some(id.to_string()));
    until("the channel is taken over", async || found().await.is_some()).await;
    found().await.unwrap()
}

fn watchful(world: &World) -> Config {
    let mut config = world.config();
    config.chain.poll_interval = Duration::from_millis(20);
    config
}

#[test]
fn both_forms_are_taken_over_from_the_chain_and_garbage_is_left_out() {
    in_system(async {
        let world = World::start().await;
        let v2 = opened_elsewhere(&world, CHANNEL_V2, &world.sandbox.llm, 86_400).await;
        let v1 = opened_elsewhere(&world, CHANNEL_V1, &world.sandbox.v1, 86_400).await;
        let unlisted = opened_elsewhere(&world, CHANNEL_V2, &world.sandbox.data, 86_400).await;
        let nowhere = format!("0x{}", "77".repeat(32));
        let path = leave_behind(
            &world,
            &json!({
                v2.to_string(): full("sim-llm", "1234"), v1.to_string(): "sim-llm-v1", unlisted.to_string(): "gone-since",
                nowhere: full("sim-llm", "5"), "0x12": "sim-llm", "": 5, "garbage": {"a": [1]},
                format!("0x{}", "88".repeat(32)): {"providerId": 7, "spending": {}},
            }),
        );
        let before = std::fs::read(&path).unwrap();
        let runtime = world.runtime().await;
        let views =
            [taken_over(&runtime, v2).await, taken_over(&runtime, v1).await, taken_over(&runtime, unlisted).await];
        for view in &views {
            // The chain's word, not the file's.
            assert_eq!((view.recovered, view.deposit, view.state), (true, usdc("1"), ChannelState::Open));
            assert!(view.expires_in > 80_000, "{}", view.expires_in);
        }
        assert_eq!([&views[0].provider_name, &views[1].provider_name], ["Sim-LLM", "Sim-LLM-V1"]);
        assert_eq!((views[0].signed, views[1].signed), (Usdc::new(1_234), usdc("0")));
        assert_eq!(runtime.channels(true).await.unwrap().len(), 3);
        assert_eq!(runtime.balance().await.unwrap().locked, usdc("3"), "they count (M9)");
        assert_eq!(std::fs::read(&path).unwrap(), before, "the file is that program's");
        // Without a listing there is no place to send a request to; the money comes back at expiry.
        let failure = ask(&runtime, unlisted, "sim/forecast", "Lisbon").await.unwrap_err();
        assert_eq!(failure.code.as_str(), "url_refused");
        assert!(failure.next.contains("drain_close_channel"), "{}", failure.next);
    });
}

#[test]
fn m2_a_recovered_channel_asks_for_the_books_with_an_empty_voucher_and_then_pays() {
    in_system(async {
        let world = Arc::new(World::start().await);
        // A first journal paid on this channel; then it was lost, and the file knows less than the truth.
        let home = tempfile::tempdir().unwrap();
        let mut config = world.config();
        config.home = home.path().to_owned();
        let life = async |runtime: Runtime, _: Arc<World>| {
            let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
            for _ in 0..3 {
                ask(&runtime, channel, "sim-small", "An earlier secret").await.unwrap();
            }
            channel
        };
        let channel = world.life(config, life).await;
        let charged = world.sandbox.llm.books(channel.0).unwrap().total_charged;
        world.sandbox.llm.clear_log();

        leave_behind(&world, &json!({ channel.to_string(): full("sim-llm", "7") }));
        let runtime = world.runtime().await;
        taken_over(&runtime, channel).await;
        let paid = ask(&runtime, channel, "sim-small", "A new secret").await.unwrap();
        assert_eq!(paid.channel.charged, Usdc::from_units(charged).unwrap().saturating_add(paid.cost));
        let sent = vouchers(&world.sandbox.llm);
        assert_eq!(sent.len(), 2);
        assert_eq!((sent[0].amount, sent[0].body.contains("secret")), (Some(0), false), "{}", sent[0].body);
        assert!(sent[1].amount.unwrap() > charged && sent[1].outcome.starts_with("billed"), "{:?}", sent[1]);
        // Nonces of whoever signed before are jumped over.
        assert!(sent[0].nonce.unwrap() > 1_000_000_000 && sent[1].nonce > sent[0].nonce);
        // Once: the books are ours from now on.
        ask(&runtime, channel, "sim-small", "Another one").await.unwrap();
        assert_eq!(vouchers(&world.sandbox.llm).len(), 3);
    });
}

#[test]
fn m6_a_recovered_channel_is_not_closed_cooperatively_but_at_expiry() {
    in_system(async {
        let world = World::start().await;
        let channel = opened_elsewhere(&world, CHANNEL_V2, &world.sandbox.llm, 3_600).await;
        leave_behind(&world, &json!({ channel.to_string(): "sim-llm" }));
        let runtime = world.runtime_with(watchful(&world)).await;
        taken_over(&runtime, channel).await;
        let sent = world.sent().await;
        let failure = runtime.cooperative_close(channel, Progress::none()).await.unwrap_err();
        assert_eq!(failure.code.as_str(), "close_refused");
        assert_eq!(world.sandbox.llm.request_log().count("/v1/close-channel"), 0, "it is not even asked");
        assert_eq!(runtime.close(channel, Progress::none()).await.unwrap_err().code.as_str(), "not_expired");
        assert_eq!(world.sent().await, sent);
        world.advance(3_600).await;
        let closed = runtime.close(channel, Progress::none()).await.unwrap();
        assert_eq!((closed.refund, world.held().await), (usdc("1"), usdc("100")));
    });
}

#[test]
fn a_channel_of_somebody_else_is_not_taken_over() {
    in_system(async {
        let world = World::start().await;
        let (rpc, other) = (world.sandbox.observer().rpc(), alloy::signers::local::PrivateKeySigner::random());
        let pol = world.sandbox.observer().native_balance(world.agent()).await.unwrap();
        world.sandbox.observer().fund(other.address(), usdc("5"), pol).await.unwrap();
        let amount = U256::from(1_000_000);
        rpc.execute(&other, USDC, Erc20::approveCall { spender: CHANNEL_V2, amount }.abi_encode()).await.unwrap();
        let provider = world.sandbox.llm.address();
        let call = DrainChannel::openCall { provider, amount, duration: U256::from(86_400) };
        rpc.execute(&other, CHANNEL_V2, call.abi_encode()).await.unwrap();
        let theirs = ChannelId(world.sandbox.observer().opened_by(CHANNEL_V2, other.address()).await.unwrap()[0]);
        // The file is gone through in the order of ids: when the last one is there, theirs was judged.
        let mut ours = opened_elsewhere(&world, CHANNEL_V2, &world.sandbox.data, 86_400).await;
        while ours.0 < theirs.0 {
            ours = opened_elsewhere(&world, CHANNEL_V2, &world.sandbox.data, 86_400).await;
        }
        leave_behind(&world, &json!({ theirs.to_string(): "sim-llm", ours.to_string(): "sim-weather" }));
        let runtime = world.runtime().await;
        taken_over(&runtime, ours).await;
        assert_eq!(runtime.channels(true).await.unwrap().len(), 1);
        assert_eq!(ask(&runtime, theirs, "sim-small", "Hi").await.unwrap_err().code.as_str(), "unknown_channel");
    });
}

#[test]
fn a_restart_takes_nothing_over_twice_and_a_corrupt_file_is_left_alone() {
    in_system(async {
        let world = Arc::new(World::start().await);
        let channel = opened_elsewhere(&world, CHANNEL_V2, &world.sandbox.llm, 86_400).await;
        let path = leave_behind(&world, &json!({ channel.to_string(): full("sim-llm", "9") }));
        let life = async move |runtime: Runtime, _: Arc<World>| {
            taken_over(&runtime, channel).await;
            ask(&runtime, channel, "sim-small", "Hello").await.unwrap().channel
        };
        let before = world.life(world.config(), life).await;
        for content in ["{\"0x", "[]", "\u{0}\u{1}", "{\"a\":1}{", ""] {
            std::fs::write(&path, content).unwrap();
            let life = async move |runtime: Runtime, _: Arc<World>| {
                ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
                runtime.channels(true).await.unwrap()
            };
            let channels = world.life(world.config(), life).await;
            assert_eq!(channels.len(), 1, "{content:?}");
            assert!(channels[0].signed >= before.signed && channels[0].recovered);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
    });
}

/// The URL of a channel is recorded once: nothing is recorded before somebody tells it.
#[test]
fn a_channel_is_not_taken_over_without_its_url_while_the_directory_may_still_tell() {
    in_system(async {
        let world = Arc::new(World::start().await);
        let channel = opened_elsewhere(&world, CHANNEL_V2, &world.sandbox.llm, 86_400).await;
        leave_behind(&world, &json!({ channel.to_string(): "sim-llm" }));
        let life = async |runtime: Runtime, _: Arc<World>| {
            tokio::time::sleep(Duration::from_millis(400)).await;
            runtime.channels(true).await.unwrap().len()
        };
        world.sandbox.directory.set_down(true);
        assert_eq!(world.life(world.config(), life).await, 0);
        world.sandbox.directory.set_down(false);
        let url = world.sandbox.llm.url();
        world.sandbox.directory.change("sim-llm", |listing| listing.api_url = "no-url".into());
        assert_eq!(world.life(world.config(), life).await, 0);
        world.sandbox.directory.change("sim-llm", |listing| listing.api_url = url.clone());
        let runtime = world.runtime().await;
        taken_over(&runtime, channel).await;
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
    });
}

#[test]
fn an_expired_channel_is_taken_over_without_the_directory_and_closed() {
    in_system(async {
        let world = World::start().await;
        let channel = opened_elsewhere(&world, CHANNEL_V2, &world.sandbox.llm, 3_600).await;
        leave_behind(&world, &json!({ channel.to_string(): "sim-llm" }));
        world.sandbox.directory.set_down(true);
        world.advance(3_600).await;
        let runtime = world.runtime_with(watchful(&world)).await;
        taken_over(&runtime, channel).await;
        assert_eq!(runtime.close(channel, Progress::none()).await.unwrap().refund, usdc("1"));
    });
}

#[test]
fn m14_a_channel_whose_provider_moved_is_taken_over_to_be_closed_only() {
    in_system(async {
        let world = Arc::new(World::start().await);
        let life = async |runtime: Runtime, _: Arc<World>| {
            open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        };
        world.life(world.config(), life).await;
        let channel = opened_elsewhere(&world, CHANNEL_V2, &world.sandbox.llm, 86_400).await;
        leave_behind(&world, &json!({ channel.to_string(): "sim-llm" }));
        let elsewhere = world.sandbox.image.url();
        world.sandbox.directory.change("sim-llm", |listing| listing.api_url = elsewhere.clone());
        let runtime = world.runtime().await;
        taken_over(&runtime, channel).await;
        world.sandbox.image.clear_log();
        assert_eq!(ask(&runtime, channel, "sim-small", "Hello").await.unwrap_err().code.as_str(), "url_refused");
        assert_eq!(vouchers(&world.sandbox.image), []);
    });
}

#[test]
fn m10_a_channel_whose_provider_tells_no_prices_is_taken_over_and_comes_back_at_expiry() {
    in_system(async {
        let world = World::start().await;
        let channel = opened_elsewhere(&world, CHANNEL_V2, &world.sandbox.llm, 86_400).await;
        leave_behind(&world, &json!({ channel.to_string(): "sim-llm" }));
        world.sandbox.llm.set(|faults| faults.pricing_down = true);
        let runtime = world.runtime().await;
        taken_over(&runtime, channel).await;
        assert_eq!(ask(&runtime, channel, "sim-small", "Hello").await.unwrap_err().code.as_str(), "url_refused");
        // It is up again: a person says whom the channel pays.
        world.sandbox.llm.set(|faults| faults.pricing_down = false);
        runtime.adopt(channel, Some("sim-llm".into())).await.unwrap();
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        world.advance(86_400).await;
        runtime.close(channel, Progress::none()).await.unwrap();
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_from_elsewhere_is_taken_over_by_a_command_also_beside_a_server() {
    let world = process_harness::world().await;
    let mine = opened_elsewhere(&world, CHANNEL_V2, &world.sandbox.llm, 86_400).await;
    let gone = opened_elsewhere(&world, CHANNEL_V1, &world.sandbox.v1, 86_400).await;
    let over = opened_elsewhere(&world, CHANNEL_V2, &world.sandbox.data, 1).await;
    world.advance(5).await;
    world.close_elsewhere(CHANNEL_V2, over).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let path = elsewhere.path().join("channels.json");
    let text = json!({ mine.to_string(): full("sim-llm", "1234"), gone.to_string(): "gone-since",
        over.to_string(): "sim-weather", "garbage": 5 })
    .to_string();
    std::fs::write(&path, &text).unwrap();
    let file = path.to_str().unwrap();

    let env = Env::of(&world);
    let outcomes = |report: &Value| -> Vec<String> {
        let channels = report["channels"].as_array().unwrap().iter();
        let told = |id: ChannelId| {
            let one = channels.clone().find(|one| one["channel_id"] == id.to_string()).unwrap();
            let adopt = one["message"].as_str().is_some_and(|text| text.contains("channels adopt"));
            format!("{}{}", one["outcome"].as_str().unwrap(), if adopt { ", adopt" } else { "" })
        };
        [mine, gone, over].map(told).to_vec()
    };
    let report = env.run(&["channels", "import", file, "--json"]).await.ok_json();
    assert_eq!(outcomes(&report), ["taken_over", "taken_over, adopt", "not_there"], "{report}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "the file is that program's");
    let listed = env.run(&["channels", "--json"]).await.ok_json();
    assert_eq!(listed["channels"].as_array().unwrap().len(), 2, "{listed}");
    let paid = env.run(&["chat", &mine.to_string(), "--model", "sim-small", "Hello", "--json"]).await.ok_json();
    assert_eq!(paid["channel"]["recovered"], true, "{paid}");

    // Beside a server that has the wallet, and twice.
    let later = opened_elsewhere(&world, CHANNEL_V2, &world.sandbox.image, 86_400).await;
    std::fs::write(&path, json!({ mine.to_string(): "sim-llm", later.to_string(): "sim-image" }).to_string()).unwrap();
    let mut agent = Agent::start(&env, Greeting::Initialize).await;
    agent.tools().await;
    let told = env.run(&["channels", "import", file]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    for part in [format!("{mine}: known already"), format!("{later}: taken over"), "1 of 2 channels".into()] {
        assert!(told.stdout.contains(&part), "{part} in {told:?}");
    }
    agent.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_cannot_be_read_or_looked_at_is_told() {
    let world = process_harness::world().await;
    let (env, folder) = (Env::of(&world), tempfile::tempdir().unwrap());
    let path = folder.path().join("channels.json");
    for content in [None, Some("[]"), Some("{")] {
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let ended = env.run(&["channels", "import", path.to_str().unwrap(), "--json"]).await;
        assert_eq!(ended.json()["error"]["code"], "invalid_argument", "{ended:?}");
        assert_eq!(ended.code, Some(2), "{ended:?}");
    }
    // While the directory does not answer nobody says where the provider is reached: it is not taken over without that.
    let channel = opened_elsewhere(&world, CHANNEL_V2, &world.sandbox.llm, 86_400).await;
    std::fs::write(&path, json!({ channel.to_string(): "sim-llm" }).to_string()).unwrap();
    world.sandbox.directory.set_down(true);
    let ended = env.run(&["channels", "import", path.to_str().unwrap(), "--json"]).await;
    assert_eq!((ended.code, &ended.json()["channels"][0]["outcome"]), (Some(1), &json!("failed")), "{ended:?}");
}
