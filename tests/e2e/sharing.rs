//! One wallet, one runtime: MCP clients and the command line share what one process holds (design section 7).

use std::time::Duration;

use drain_protocol::{U256, Usdc};
use drain_sandbox::Provider;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::harness::{World, usdc};
use crate::process_harness::{Agent, Env, Greeting, Human, chat, until, vouchers, world};

/// One after another, so that the first one has the wallet and the others share it.
const GREETINGS: [Greeting; 3] = [Greeting::Lines("2025-11-25"), Greeting::Initialize, Greeting::Discover];

/// Several agents over one environment, in every generation of MCP.
async fn agents(env: &Env) -> Vec<Agent> {
    let mut agents = Vec::new();
    for greeting in GREETINGS {
        agents.push(Agent::start(env, greeting).await);
    }
    agents
}

/// Each voucher's number on its channel is above the one before, and so is its amount (M2).
pub fn m2_rising(provider: &Provider) {
    let mut last = std::collections::HashMap::new();
    for sent in vouchers(provider) {
        let now = (sent.nonce.unwrap(), sent.amount.unwrap());
        let before = last.insert(sent.channel, now);
        let rising = before.is_none_or(|(nonce, amount): (u64, u64)| now.0 > nonce && now.1 >= amount);
        assert!(rising, "{before:?} then {now:?}");
    }
}

/// The channel as this agent sees it.
pub async fn status(agent: &mut Agent, channel: &str) -> Value {
    agent.ok("drain_channel_status", json!({ "channelId": channel })).await.data
}

fn cost(paid: &Value) -> Usdc {
    usdc(paid["payment"]["cost"].as_str().unwrap())
}

fn sum(amounts: impl IntoIterator<Item = Usdc>) -> Usdc {
    amounts.into_iter().fold(Usdc::ZERO, Usdc::saturating_add)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m2_three_clients_at_once_on_one_channel_and_on_several() {
    const EACH: usize = 6;
    let world = world().await;
    let env = Env::of(&world);
    let mut agents = agents(&env).await;
    let together = agents[0].open("sim-llm", "1", "4h").await;
    let own = join_all(agents.iter_mut().map(|agent| agent.open("sim-llm-v1", "0.5", "4h"))).await;
    // Opened at the same time, the calls joined one opening: one deposit, one fee (design section 5).
    assert!(own.iter().all(|id| *id == own[0]), "{own:?}");
    let paid = join_all(agents.iter_mut().enumerate().map(|(who, agent)| {
        let (together, own) = (together.clone(), own[0].clone());
        async move {
            let mut costs = (Vec::new(), Vec::new());
            for number in 0..EACH {
                let text = format!("agent {who}, request {number}");
                costs.0.push(cost(&agent.ok("drain_chat", chat(&together, &text)).await.data));
                costs.1.push(cost(&agent.ok("drain_chat", chat(&own, &text)).await.data));
            }
            costs
        }
    }))
    .await;
    for provider in [&world.sandbox.llm, &world.sandbox.v1] {
        assert_eq!(vouchers(provider).len(), agents.len() * EACH);
        m2_rising(provider);
    }
    // Every client reads the same books, and they are the sum of what all were told.
    let charged = (sum(paid.iter().flat_map(|p| p.0.clone())), sum(paid.iter().flat_map(|p| p.1.clone())));
    for agent in &mut agents {
        let books = (status(agent, &together).await, status(agent, &own[0]).await);
        assert_eq!((&books.0["charged"], &books.0["in_flight"]), (&json!(charged.0.to_string()), &json!("0.00")));
        assert_eq!((&books.1["charged"], &books.1["requests"]), (&json!(charged.1.to_string()), &json!(3 * EACH)));
    }
    // What the last one closes is what the provider gets and the wallet gets back.
    let before = world.held().await;
    let closed = agents[2].ok("drain_cooperative_close", json!({ "channelId": together })).await.data;
    let (got, back) = (usdc(closed["paid"].as_str().unwrap()), usdc(closed["refund"].as_str().unwrap()));
    assert_eq!(got.saturating_add(back), usdc("1"));
    assert_eq!(world.held().await, before.saturating_add(back));
    assert_eq!(Some(got.units()), vouchers(&world.sandbox.llm).last().unwrap().amount);
    for agent in agents {
        assert_eq!(agent.leave().await.code, Some(0));
    }
    assert!(sockets(&world).is_empty(), "nothing stays behind");
}

/// The sockets in the world's home.
pub fn sockets(world: &World) -> Vec<std::path::PathBuf> {
    let folders = std::fs::read_dir(world.home.path()).unwrap().map(|entry| entry.unwrap().path());
    folders.map(|folder| folder.join("socket")).filter(|path| path.exists()).collect()
}

/// M5: a client's own limits count for it where they are tighter, and never where they are looser.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m5_a_client_with_tighter_caps_is_refused_where_another_is_not() {
    let world = world().await;
    let env = Env::of(&world).with("DRAIN_AGENT", "first");
    let mut first = Agent::start(&env, GREETINGS[0]).await;
    let tight = env.clone().with("DRAIN_AGENT", "tight").with("DRAIN_MAX_PER_CHANNEL", "0.5");
    let mut tight = Agent::start(&tight.with("DRAIN_MAX_PER_REQUEST", "0.000001"), GREETINGS[1]).await;
    let loose = env.clone().with("DRAIN_AGENT", "loose").with("DRAIN_MAX_PER_CHANNEL", "50");
    let mut loose = Agent::start(&loose.with("DRAIN_MAX_LOCKED", "90"), GREETINGS[2]).await;

    let wish = |amount: &str| json!({ "provider": "sim-llm", "amount": amount, "duration": "4h" });
    let refused = tight.fails("drain_open_channel", wish("1"), "limit_reached").await;
    assert!(refused.text.contains("0.50 USDC (DRAIN_MAX_PER_CHANNEL)"), "{}", refused.text);
    loose.fails("drain_open_channel", wish("6"), "limit_reached").await;
    assert_eq!(world.transactions(), 0, "nothing moved");
    let id = first.open("sim-llm", "1", "4h").await;

    let refused = tight.fails("drain_chat", chat(&id, "hello"), "limit_reached").await;
    assert!(refused.text.contains("DRAIN_MAX_PER_REQUEST"), "{}", refused.text);
    assert!(vouchers(&world.sandbox.llm).is_empty());
    for agent in [&mut first, &mut loose] {
        agent.ok("drain_chat", chat(&id, "hello")).await;
    }
    // Each is booked under its own name.
    for (agent, requests) in [("first", 1), ("loose", 1), ("tight", 0)] {
        let query = format!("SELECT COUNT(*) FROM vouchers WHERE agent = '{agent}'");
        assert_eq!(world.journaled(&query), requests, "{agent}");
    }
    for agent in [first, tight, loose] {
        agent.leave().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_beside_a_running_server() {
    let world = world().await;
    let env = Env::of(&world);
    let mut agent = Agent::start(&env, GREETINGS[0]).await;
    let id = agent.open("sim-llm", "1", "4h").await;

    let paid = env.run(&["chat", &id, "--model", "sim-small", "hello", "--json"]).await.ok_json();
    assert_eq!(env.run(&["balance", "--json"]).await.ok_json()["spent_today"], paid["cost"]);
    assert_eq!(env.run(&["providers", "--json"]).await.ok_json()["providers"][0]["id"], "sim-llm");
    assert!(env.run(&["providers", "sim-llm"]).await.stdout.contains("Agent Instructions"));
    let listed = env.run(&["channels", "--json"]).await.ok_json();
    assert_eq!(listed["channels"][0]["charged"], paid["cost"]);
    assert_eq!(status(&mut agent, &id).await["charged"], paid["cost"], "the server knows of it at once");
    let opened = env.run(&["open", "sim-weather", "0.50"]).await;
    assert!(opened.stderr.contains("waiting until it is final"), "progress crosses: {}", opened.stderr);
    let listed = agent.ok("drain_channels", json!({})).await;
    assert!(listed.data["channels"].to_string().contains("sim-weather"), "{}", listed.text);
    env.run(&["close", &id, "--json"]).await.ok_json();
    agent.fails("drain_chat", chat(&id, "hello"), "channel_not_open").await;
    let refused = env.run(&["chat", &id, "--model", "sim-small", "hello", "--json"]).await;
    assert_eq!((refused.code, &refused.json()["error"]["code"]), (Some(1), &json!("channel_not_open")));
    let ended = agent.leave().await;
    assert_eq!(ended.code, Some(0));
}

/// A command that finds nobody holds the wallet for its short life; a server that starts meanwhile takes over after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_takes_over_after_a_command() {
    let world = world().await;
    let env = Env::of(&world);
    let opened = env.run(&["open", "sim-llm", "1", "--json"]).await.ok_json();
    let id = opened["channel"]["channel_id"].as_str().unwrap().to_owned();
    world.sandbox.llm.set(|faults| faults.slow = Some(Duration::from_secs(2)));
    let args = ["chat", &id, "--model", "sim-small", "slow", "--json"];
    let command = tokio::spawn(env.command(&args).spawn().unwrap().wait_with_output());
    until("the command's voucher has left", async || vouchers(&world.sandbox.llm).len() == 1).await;
    let mut agent = Agent::start(&env, GREETINGS[2]).await;
    assert_ne!(agent.ok("drain_channels", json!({})).await.data["channels"][0]["in_flight"], "0.00");
    let ended = command.await.unwrap().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    world.sandbox.llm.reset_faults();
    agent.ok("drain_chat", chat(&id, "hello")).await;
    m2_rising(&world.sandbox.llm);
    agent.leave().await;
}

/// A queued request whose thin client dies, or takes it back, is not paid.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_takes_back_before_its_turn_is_not_paid() {
    let world = world().await;
    let env = Env::of(&world);
    let mut holder = Agent::start(&env, GREETINGS[0]).await;
    let id = holder.open("sim-llm", "1", "4h").await;
    let (mut cancels, mut dies) =
        (Agent::start(&env, GREETINGS[0]).await, Agent::start(&env, Greeting::Lines("2024-11-05")).await);
    for agent in [&mut cancels, &mut dies] {
        status(agent, &id).await;
    }
    world.sandbox.llm.set(|faults| faults.slow = Some(Duration::from_secs(2)));
    let slow = holder.ask("tools/call", json!({ "name": "drain_chat", "arguments": chat(&id, "first") })).await;
    until("the first voucher has left", async || vouchers(&world.sandbox.llm).len() == 1).await;
    let mut asked = Vec::new();
    for (agent, text) in [(&mut cancels, "taken back"), (&mut dies, "left alone")] {
        asked.push(agent.ask("tools/call", json!({ "name": "drain_chat", "arguments": chat(&id, text) })).await);
        // Answered behind it on the same connection: the request is in the channel's queue.
        agent.ok("drain_channels", json!({})).await;
    }
    let params = json!({ "requestId": asked[0], "reason": "test" });
    cancels.send(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params })).await;
    cancels.ok("drain_channels", json!({})).await;
    dies.kill().await;
    holder.answer(slow).await.unwrap();
    world.sandbox.llm.reset_faults();
    holder.ok("drain_chat", chat(&id, "last")).await;
    let bodies: Vec<String> = vouchers(&world.sandbox.llm).into_iter().map(|sent| sent.body).collect();
    assert!(bodies.len() == 2 && bodies[0].contains("first") && bodies[1].contains("last"), "{bodies:?}");
    assert_eq!(status(&mut holder, &id).await["in_flight"], "0.00");
    holder.leave().await;
    cancels.leave().await;
}

/// Two keys, and one key on two chains, in one home: each has its own runtime, and none is in another's way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_chains_side_by_side() {
    const OTHER: &str = "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a";
    let world = world().await;
    let env = Env::of(&world);
    let other = env.clone().with("DRAIN_PRIVATE_KEY", OTHER);
    let mut first = Agent::start(&env, GREETINGS[0]).await;
    let mut second = Agent::start(&other, GREETINGS[1]).await;
    let address = second.ok("drain_balance", json!({})).await.data["address"].as_str().unwrap().to_owned();
    let pol = U256::from(10).pow(U256::from(18));
    world.sandbox.observer().fund(address.parse().unwrap(), usdc("5"), pol).await.unwrap();
    let elsewhere = env.clone().with("DRAIN_CHAIN_ID", "80002");
    let mut third = Agent::start(&elsewhere, GREETINGS[2]).await;
    let (one, two) = (first.open("sim-llm", "1", "4h").await, second.open("sim-llm", "1", "4h").await);
    for (agent, own, others) in [(&mut first, &one, &two), (&mut second, &two, &one)] {
        agent.ok("drain_chat", chat(own, "hello")).await;
        agent.fails("drain_chat", chat(others, "hello"), "unknown_channel").await;
    }
    assert_eq!(third.ok("drain_channels", json!({})).await.data["channels"], json!([]));
    assert_eq!(sockets(&world).len(), 3);
    // Each of them is shared by its own kind alone.
    for (env, own) in [(&env, Some(&one)), (&other, Some(&two)), (&elsewhere, None)] {
        let listed = env.run(&["channels", "--json"]).await.ok_json();
        assert_eq!(listed["channels"].as_array().unwrap().len(), usize::from(own.is_some()));
        assert_eq!(listed["channels"][0]["channel_id"].as_str(), own.map(String::as_str));
    }
    for agent in [first, second, third] {
        agent.leave().await;
    }
}

/// A path that no socket can have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_with_a_long_path() {
    let world = world().await;
    let home = world.home.path().join("a".repeat(90));
    let env = Env::of(&world).with("DRAIN_HOME", home.display().to_string());
    let mut agents = agents(&env).await;
    let id = agents[0].open("sim-llm", "1", "4h").await;
    for agent in &mut agents {
        agent.ok("drain_chat", chat(&id, "hello")).await;
    }
    assert_eq!(env.run(&["channels", "--json"]).await.ok_json()["channels"][0]["requests"], 3);
    for agent in agents {
        assert_eq!(agent.leave().await.code, Some(0));
    }
}

/// The same wallet as a keystore without its password.
pub fn locked(world: &World, env: &Env) -> Env {
    let path = world.home.path().join("keystore.json");
    let key = drain_signers::Secret::parse(env.get("DRAIN_PRIVATE_KEY")).unwrap();
    drain_signers::keystore::create(&path, &key, "pw").unwrap();
    env.clone().without("DRAIN_PRIVATE_KEY").with("DRAIN_KEYSTORE", path.display().to_string())
}

/// Without the password of its keystore a process never holds the wallet, and shares it while another one does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_cannot_unlock_its_key_is_thin_only() {
    let world = world().await;
    let env = Env::of(&world);
    let locked = locked(&world, &env);
    let mut thin = Agent::start(&locked, GREETINGS[0]).await;
    thin.ok("drain_providers", json!({})).await;
    thin.fails("drain_balance", json!({}), "signer_failed").await;
    assert_eq!(locked.run(&["balance", "--json"]).await.json()["error"]["code"], "signer_failed");

    let mut holder = Agent::start(&env, GREETINGS[2]).await;
    let id = holder.open("sim-llm", "1", "4h").await;
    let shared = async {
        while thin.call("drain_channels", json!({})).await.is_error {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(crate::process_harness::PATIENCE, shared).await.expect("it is shared");
    thin.ok("drain_chat", chat(&id, "hello")).await;
    // The command line asks for no password that it does not need.
    assert_eq!(locked.run(&["channels", "--json"]).await.ok_json()["channels"][0]["requests"], 1);
    holder.leave().await;
    thin.fails("drain_chat", chat(&id, "hello"), "signer_failed").await;
    thin.ok("drain_providers", json!({})).await;
    assert_eq!(thin.leave().await.code, Some(0));
}

/// M5: the person at a thin client is asked by the process that has the wallet, in both generations; only where both
/// operators' configurations let that count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m5_the_person_at_a_thin_client_is_asked() {
    let world = world().await;
    let env = Env::of(&world)
        .with("DRAIN_APPROVE_REQUESTS_ABOVE", "0.0001")
        .with("DRAIN_APPROVALS_VIA", "elicitation")
        .with("DRAIN_APPROVAL_WAIT", "1m");
    let mut holder = Agent::start(&env, GREETINGS[0]).await;
    let id = holder.open("sim-llm", "1", "4h").await;
    let mut request = chat(&id, "hello");
    request["maxTokens"] = json!(500);
    for greeting in [Greeting::Initialize, Greeting::Discover] {
        let human = Human { answer: Some(true), ..Human::default() };
        let asked = human.asked.clone();
        let mut agent = Agent::start_beside(&env, &[], greeting, human).await;
        agent.ok("drain_chat", request.clone()).await;
        let asked = asked.lock().unwrap().clone();
        assert!(asked.len() == 1 && asked[0].contains("pays \"Sim-LLM\""), "{asked:?}");
        agent.leave().await;
    }
    assert_eq!(vouchers(&world.sandbox.llm).len(), 2);
    let human = Human { answer: Some(true), ..Human::default() };
    let asked = human.asked.clone();
    let strict = env.clone().with("DRAIN_APPROVALS_VIA", "terminal");
    let mut agent = Agent::start_beside(&strict, &[], Greeting::Initialize, human).await;
    let waits = until("the question waits for a terminal", async || {
        env.run(&["approvals", "--json"]).await.stdout.contains("\"waiting\"")
    });
    tokio::select! {
        answer = agent.call("drain_chat", request) => panic!("{}", answer.text),
        () = waits => {}
    }
    assert_eq!(asked.lock().unwrap().len(), 0);
    assert_eq!(vouchers(&world.sandbox.llm).len(), 2);
    agent.kill().await;
    holder.leave().await;
}
