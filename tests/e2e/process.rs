//! The life of the process: how it starts without a wallet or beside another one, and how it ends.

use std::time::Duration;

use drain_mcp::mcp::answer::PLAY_MONEY;
use serde_json::{Value, json};

use crate::harness::usdc;
use crate::process_harness::{Agent, Env, Greeting, chat, until, vouchers, world};

const NEWEST: Greeting = Greeting::Lines("2025-11-25");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_client_leaves_it_ends_and_the_journal_is_complete() {
    let world = world().await;
    let env = Env::of(&world);
    let mut agent = Agent::start(&env, NEWEST).await;
    let id = agent.open("sim-llm", "1", "4h").await;
    let paid = agent.ok("drain_chat", chat(&id, "Say hello")).await;
    let ended = agent.leave().await;
    assert_eq!(ended.code, Some(0));
    assert!(ended.stderr.lines().all(|line| line.starts_with("limits: ")), "{}", ended.stderr);

    for greeting in [NEWEST, Greeting::Discover] {
        let mut agent = Agent::start(&env, greeting).await;
        let listed = agent.ok("drain_channels", json!({})).await;
        let channel = &listed.data["channels"][0];
        assert_eq!(channel["channel_id"], *id);
        assert_eq!((&channel["charged"], &channel["requests"]), (&paid.data["payment"]["cost"], &json!(1)));
        assert_eq!(agent.leave().await.code, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_without_a_word() {
    let world = world().await;
    let ended = Env::of(&world).run_with(&[], "").await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_speaks_something_else() {
    let world = world().await;
    let ended = Env::of(&world).run_with(&[], "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for line in ended.stdout.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok_and(|message| message["jsonrpc"] == "2.0"), "{line}");
    }
}

/// M1, M2: what left before the crash is known after it, and no number is used twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_of_a_chat_nothing_is_forgotten() {
    let world = world().await;
    let env = Env::of(&world);
    let mut agent = Agent::start(&env, NEWEST).await;
    let id = agent.open("sim-llm", "1", "4h").await;
    agent.ok("drain_chat", chat(&id, "first")).await;
    world.sandbox.llm.set(|faults| faults.slow = Some(Duration::from_secs(60)));
    agent.ask("tools/call", json!({ "name": "drain_chat", "arguments": chat(&id, "second") })).await;
    until("the second voucher has left", async || vouchers(&world.sandbox.llm).len() == 2).await;
    let ended = agent.kill().await;
    assert_eq!(ended.code, None, "killed by a signal");
    let left = vouchers(&world.sandbox.llm)[1].clone();

    world.sandbox.llm.reset_faults();
    let mut agent = Agent::start(&env, NEWEST).await;
    let status = agent.ok("drain_channel_status", json!({ "channelId": id })).await;
    let signed = usdc(status.data["signed"].as_str().unwrap());
    assert_eq!(Some(signed.units()), left.amount, "{}", status.text);
    assert_ne!(status.data["in_flight"], "0.00", "{}", status.text);
    agent.ok("drain_chat", chat(&id, "third")).await;
    let sent = vouchers(&world.sandbox.llm);
    let third = sent.last().unwrap();
    assert!(third.nonce > left.nonce && third.amount >= left.amount, "{left:?} {third:?}");
    assert_eq!(sent.iter().filter(|request| request.body.contains("second")).count(), 1, "never sent again (M15)");
    agent.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asked_to_end_it_settles_what_is_under_way() {
    let world = world().await;
    let env = Env::of(&world);
    let mut agent = Agent::start(&env, NEWEST).await;
    let id = agent.open("sim-llm", "1", "4h").await;
    world.sandbox.llm.set(|faults| faults.slow = Some(Duration::from_secs(1)));
    agent.ask("tools/call", json!({ "name": "drain_chat", "arguments": chat(&id, "hello") })).await;
    until("the voucher has left", async || vouchers(&world.sandbox.llm).len() == 1).await;
    assert_eq!(agent.terminate().await.code, Some(0));

    let listed = env.run(&["channels", "--json"]).await.ok_json();
    let channel = &listed["channels"][0];
    assert_eq!((&channel["requests"], &channel["in_flight"]), (&json!(1), &json!("0.00")), "{channel}");
    assert_ne!(channel["charged"], "0.00");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_wallet_it_serves_what_needs_none() {
    let world = world().await;
    let env = Env::of(&world).without("DRAIN_PRIVATE_KEY");
    let mut agent = Agent::start(&env, NEWEST).await;
    assert_eq!(agent.tools().await.len(), crate::stdio::TOOLS.len());
    let page = agent.ok("drain_providers", json!({})).await;
    assert!(page.text.contains("sim-llm"));
    let info = agent.ok("drain_provider_info", json!({ "providerId": "sim-llm" })).await;
    assert!(info.text.contains("Agent Instructions"), "{}", info.text);
    assert!(agent.read("drain://providers").await.contains("sim-llm"));
    let id = format!("0x{}", "ab".repeat(32));
    for (tool, arguments) in [
        ("drain_balance", json!({})),
        ("drain_approve", json!({ "amount": "1" })),
        ("drain_open_channel", json!({ "provider": "sim-llm", "amount": "1" })),
        ("drain_chat", chat(&id, "hello")),
        ("drain_channels", json!({})),
        ("drain_channel_status", json!({ "channelId": id })),
        ("drain_close_channel", json!({ "channelId": id })),
        ("drain_cooperative_close", json!({ "channelId": id })),
    ] {
        let answer = agent.fails(tool, arguments, "no_signer").await;
        for part in ["drain-mcp wallet new", "native USDC on Polygon", "0.10 POL"] {
            assert!(answer.text.contains(part), "{tool}: {part} in {}", answer.text);
        }
    }
    let refused = agent.request("resources/read", json!({ "uri": "drain://wallet" })).await.unwrap_err();
    assert_eq!(refused["data"]["code"], "no_signer", "{refused}");
    agent.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_on_the_same_wallet_shares_it() {
    let world = world().await;
    let env = Env::of(&world);
    let mut first = Agent::start(&env, NEWEST).await;
    let id = first.open("sim-llm", "1", "4h").await;

    let mut second = Agent::start(&env, NEWEST).await;
    second.ok("drain_providers", json!({})).await;
    second.ok("drain_chat", chat(&id, "hello")).await;
    env.run(&["chat", &id, "--model", "sim-small", "hello", "--json"]).await.ok_json();
    first.ok("drain_chat", chat(&id, "hello")).await;
    // When the first one has left, the second one has the wallet, and then nobody.
    first.leave().await;
    second.ok("drain_chat", chat(&id, "hello")).await;
    second.leave().await;
    let mut third = Agent::start(&env, NEWEST).await;
    third.ok("drain_chat", chat(&id, "hello")).await;
    third.leave().await;
    let nonces: Vec<Option<u64>> = vouchers(&world.sandbox.llm).into_iter().map(|sent| sent.nonce).collect();
    assert!(nonces.len() == 5 && nonces.is_sorted_by(|a, b| a < b), "{nonces:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sandbox_alone_needs_nothing_and_plays_only() {
    // A real key in the environment must not be touched: its owner may hold money.
    let env = Env::default().with("DRAIN_PRIVATE_KEY", "11".repeat(32)).with("DRAIN_RPC_URL", "http://192.0.2.1:1");
    let mut agent = Agent::start_with(&env, &["--sandbox"], NEWEST).await;
    let balance = agent.ok("drain_balance", json!({})).await;
    assert_eq!(balance.data["usdc"], "100.00");
    let id = agent.open("sim-llm", "1", "4h").await;
    let paid = agent.ok("drain_chat", chat(&id, "hello")).await;
    let closed = agent.ok("drain_cooperative_close", json!({ "channelId": id })).await;
    for answer in [balance, paid, closed] {
        assert!(answer.text.starts_with(PLAY_MONEY) && answer.data["play_money"] == true, "{}", answer.text);
    }
    let failed = agent.fails("drain_chat", chat(&id, "again"), "channel_not_open").await;
    assert!(failed.text.starts_with(PLAY_MONEY));
    assert!(agent.read("drain://wallet").await.starts_with(PLAY_MONEY));
    assert_eq!(agent.leave().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_private_to_their_owner() {
    use std::os::unix::fs::PermissionsExt;
    let world = world().await;
    let mut agent = Agent::start(&Env::of(&world), NEWEST).await;
    agent.open("sim-llm", "1", "4h").await;
    let mut folders = vec![world.home.path().to_owned()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            if entry.file_type().unwrap().is_dir() {
                assert_eq!(mode, 0o700, "{entry:?}");
                folders.push(entry.path());
            } else {
                assert_eq!(mode, 0o600, "{entry:?}");
                files += 1;
            }
        }
    }
    assert!(files > 0, "there is a journal");
    agent.leave().await;
}
