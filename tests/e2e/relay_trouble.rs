//! A relay whose server is away, ends, refuses or breaks off: what becomes of calls and of their money.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::harness::World;
use crate::process_harness::served::{Client, Served, fleet_of_one};
use crate::process_harness::{Agent, Answer, Env, Greeting, chat, until, vouchers, world};
use crate::relay::{LINES, Relayed, calling};
use crate::relay_refusals::{Fake, http, made_up};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_later_is_waited_for() {
    let world = world().await;
    // The relay is there first: it is told to come again, then finds nobody, then the server.
    let fake =
        Fake::start(|_| Some(http("503 Service Unavailable", "drain-not-begun: 1\r\nretry-after: 1\r\n", ""))).await;
    let url = fake.url.clone();
    let token = crate::process_harness::served::add_agent(&Env::of(&world), "ann", &[]).await;
    let relayed = Relayed::to(&url, &token);
    let (mut agent, served) = tokio::join!(relayed.start(LINES), async {
        until("it asks", async || !fake.seen().is_empty()).await;
        fake.stop().await;
        Served::start_at(&Env::of(&world), url.trim_start_matches("http://")).await
    });
    agent.ok("drain_balance", json!({})).await;
    agent.leave().await;
    served.stop().await;
}

/// A server that can be started again at its address.
async fn at_its_address(world: &World, url: &str) -> Served {
    Served::start_at(&Env::of(world), url.trim_start_matches("http://")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_restarted_between_calls_is_not_noticed() {
    let world = world().await;
    let mut served = Served::start(&Env::of(&world)).await;
    let token = served.agent("ann", &[]).await;
    let url = served.url.clone();
    let mut agents = Vec::new();
    for greeting in [Greeting::Lines("2024-11-05"), LINES, Greeting::Initialize, Greeting::Discover] {
        let mut agent = Relayed::to(&url, &token).start(greeting).await;
        let id = agent.open("sim-llm", "1", "4h").await;
        agents.push((agent, id));
    }
    for gently in [true, false] {
        match gently {
            true => served.stop().await,
            false => served.kill().await,
        }
        served = at_its_address(&world, &url).await;
        for (agent, id) in &mut agents {
            let paid = agent.ok("drain_chat", chat(id, "hello")).await;
            assert!(paid.last_line().starts_with("Paid "), "{}", paid.text);
            assert!(agent.notifications.is_empty(), "{:?}", agent.notifications);
        }
    }
    assert_eq!(vouchers(&world.sandbox.llm).len(), 8);
    for (agent, _) in agents {
        agent.leave().await;
    }
    served.stop().await;
}

/// M15, M1: killed in the middle of a paid call the server is asked nothing again; the agent is told, and then goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m15_a_server_that_is_killed_in_a_call_is_not_asked_again() {
    let world = world().await;
    let mut served = Served::start(&Env::of(&world)).await;
    let token = served.agent("ann", &[]).await;
    let url = served.url.clone();
    for greeting in [LINES, Greeting::Discover] {
        let mut agent = Relayed::to(&url, &token).start(greeting).await;
        let id = agent.open("sim-llm", "1", "4h").await;
        let paid = vouchers(&world.sandbox.llm).len();
        world.sandbox.llm.set(|faults| faults.slow = Some(Duration::from_secs(60)));
        let (lost, ()) = tokio::join!(agent.fails("drain_chat", chat(&id, "lost"), "owner_lost"), async {
            until("the voucher has left", async || vouchers(&world.sandbox.llm).len() == paid + 1).await;
            served.kill().await;
        });
        assert_eq!(
            (&lost.data["money"]["state"], &lost.data["retry"]),
            (&json!("unknown"), &json!("no")),
            "{}",
            lost.text
        );
        world.sandbox.llm.reset_faults();
        served = at_its_address(&world, &url).await;
        let books = agent.ok("drain_channel_status", json!({ "channelId": id })).await;
        assert_ne!(books.data["in_flight"], "0.00", "{}", books.data);
        agent.ok("drain_chat", chat(&id, "again")).await;
        let sent = vouchers(&world.sandbox.llm).split_off(paid);
        let bodies: Vec<_> = sent.iter().map(|request| request.body.contains("lost")).collect();
        assert_eq!(bodies, [true, false], "{greeting:?}");
        agent.leave().await;
    }
    served.stop().await;
}

/// M15, M2: many calls at once, and the server is killed under them, again and again. Each is answered once and reaches its
/// provider once at most; what is called paid did, and what is called unspent did not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m15_many_calls_under_a_server_that_is_killed_are_each_told_what_is_true() {
    const CHANNELS: usize = 4;
    let world = world().await;
    let mut served = Served::start(&Env::of(&world)).await;
    let token = served.agent("ann", &[]).await;
    let url = served.url.clone();
    let mut agent = Relayed::to(&url, &token).start(LINES).await;
    let mut channels = Vec::new();
    for _ in 0..CHANNELS {
        channels.push(agent.open("sim-llm", "1", "4h").await);
    }
    let mut told = BTreeMap::new();
    for round in 0..3 {
        let sent = vouchers(&world.sandbox.llm).len();
        world.sandbox.llm.set(|faults| faults.slow = Some(Duration::from_millis(150)));
        let mut asked = Vec::new();
        for (n, id) in (0..4 * CHANNELS).zip(channels.iter().cycle()) {
            let text = format!("call {round}/{n}.");
            asked.push((agent.ask("tools/call", calling("drain_chat", chat(id, &text), n % 3 == 0)).await, text));
        }
        until("some are paid", async || vouchers(&world.sandbox.llm).len() > sent + CHANNELS).await;
        served.kill().await;
        served = at_its_address(&world, &url).await;
        // In the order in which they come.
        while told.len() < asked.len() * (round + 1) {
            let message = agent.next().await;
            let (_, text) = asked.iter().find(|(id, _)| message["id"] == *id).expect("an answer to one of them");
            let answer = Answer::of(message["result"].clone());
            assert!(told.insert(text.clone(), answer).is_none(), "{text} was answered twice");
        }
        world.sandbox.llm.reset_faults();
    }
    let sent = vouchers(&world.sandbox.llm);
    let mut unknown = 0;
    for (text, answer) in &told {
        let times = sent.iter().filter(|request| request.body.contains(text)).count();
        match answer.data["money"]["state"].as_str() {
            None => assert!(times == 1 && !answer.is_error, "{text} {times}: {}", answer.text),
            Some("not_spent") => assert_eq!(times, 0, "{text}: {}", answer.text),
            Some("unknown") => {
                unknown += 1;
                assert!(times <= 1, "{text} {times}: {}", answer.text);
            }
            other => panic!("{text}: {other:?} {}", answer.text),
        }
    }
    assert!(unknown > 0 && unknown < told.len(), "{unknown} of {}", told.len());
    agent.leave().await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_agent_is_told_at_its_next_call_and_the_relay_stays() {
    let world = world().await;
    let served = Served::start(&Env::of(&world)).await;
    for greeting in [LINES, Greeting::Discover] {
        let token = served.agent("ann", &[]).await;
        let mut agent = Relayed::to(&served.url, &token).start(greeting).await;
        agent.ok("drain_balance", json!({})).await;
        served.env.run(&["agents", "revoke", "ann"]).await;
        for _ in 0..2 {
            let refused = agent.fails("drain_balance", json!({}), "token_refused").await;
            assert_eq!(refused.data["money"]["state"], "not_spent");
            assert!(refused.text.contains("drain-mcp agents add"), "{}", refused.text);
        }
        assert_eq!(agent.leave().await.code, Some(0));
    }
    // A wrong one from the start: an error of the greeting that says the same, and no end.
    let mut agent = Relayed::to(&served.url, &made_up()).start(Greeting::None).await;
    let info = json!({ "name": "test", "version": "1" });
    let params = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info });
    let refused = agent.request("initialize", params).await.unwrap_err();
    assert_eq!(refused["data"]["code"], "token_refused", "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("drain-mcp agents add"), "{refused}");
    // Whoever goes on all the same is told that, too.
    agent.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
    let refused = agent.fails("drain_balance", json!({}), "server_unavailable").await;
    assert!(refused.text.contains("has not begun a session"), "{}", refused.text);
    assert_eq!(agent.leave().await.code, Some(0));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn size_and_number_of_what_is_under_way_are_limited() {
    let world = world().await;
    let small = Env::of(&world).with("DRAIN_MAX_BODY_BYTES", "20000").with("DRAIN_MAX_AGENT_REQUESTS", "1");
    let served = Served::start(&small).await;
    let token = served.agent("ann", &[]).await;
    let relayed = Relayed::to(&served.url, &token);
    // Above the relay's own limit, and above the server's alone.
    for (limit, size) in [("10000", 15_000), ("8388608", 30_000)] {
        let large = "x".repeat(size);
        let env = relayed.env.clone().with("DRAIN_MAX_BODY_BYTES", limit);
        let mut agent = Agent::start(&env, LINES).await;
        let refused = agent.fails("drain_providers", json!({ "model": large }), "invalid_argument").await;
        assert!(refused.text.contains("DRAIN_MAX_BODY_BYTES"), "{}", refused.text);
        agent.ok("drain_balance", json!({})).await;
        agent.leave().await;
    }
    // More than the largest line: it has no id that could be answered, and the next one is read.
    let mut agent = relayed.start(LINES).await;
    agent.send_text(&format!("{}\n", "y".repeat(65 * 1024 * 1024))).await;
    let refused = agent.next().await;
    assert_eq!(refused["error"]["message"], "the message is too large", "{refused}");
    let id = agent.open("sim-llm", "1", "4h").await;
    agent.leave().await;

    for (limit, served_at_once) in [("1", false), ("64", true)] {
        let mut agent = Agent::start(&relayed.env.clone().with("DRAIN_MAX_AGENT_REQUESTS", limit), LINES).await;
        let paid = vouchers(&world.sandbox.llm).len();
        world.sandbox.llm.set(|faults| faults.slow = Some(Duration::from_secs(3)));
        let first = agent.ask("tools/call", calling("drain_chat", chat(&id, "First"), false)).await;
        until("it is there", async || vouchers(&world.sandbox.llm).len() == paid + 1).await;
        let second = agent.ask("tools/call", calling("drain_balance", json!({}), false)).await;
        if served_at_once {
            // The server has one place: the second is told to wait, and waits.
            let (first, second) = (agent.answer(first).await.unwrap(), agent.answer(second).await.unwrap());
            assert!(!Answer::of(first).is_error && !Answer::of(second).is_error);
        } else {
            let refused = Answer::of(agent.answer(second).await.unwrap());
            assert_eq!(refused.data["code"], "busy", "{}", refused.text);
            agent.answer(first).await.unwrap();
        }
        world.sandbox.llm.reset_faults();
        agent.leave().await;
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_message_is_not_passed_on() {
    let (_world, served, token) = fleet_of_one().await;
    let mut agent = Relayed::to(&served.url, &token).start(LINES).await;
    agent.send_text("\nnoise\n{\"jsonrpc\":\n").await;
    let twice = r#"{"jsonrpc":"2.0","id":7,"id":8,"method":"tools/call","params":{"name":"drain_balance"}}"#;
    for odd in ["[]", twice] {
        agent.send_text(&format!("{odd}\n")).await;
        let refused = agent.next().await;
        assert_eq!(refused["error"]["code"], -32600, "{refused}");
    }
    // An answer to nothing, and a cancellation of nothing.
    agent.send(&json!({ "jsonrpc": "2.0", "id": 99, "result": {} })).await;
    let params = json!({ "requestId": 99 });
    agent.send(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params })).await;
    let unknown = agent.request("what/is", json!({})).await.unwrap_err();
    assert_eq!(unknown["code"], -32601, "{unknown}");
    agent.ok("drain_balance", json!({})).await;
    agent.leave().await;
    served.stop().await;
}

/// Passes connections on to a server, until they are cut.
struct Wire {
    url: String,
    cut: tokio::sync::watch::Sender<u32>,
    _accepting: JoinSet<()>,
}

impl Wire {
    async fn to(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = format!("http://{}", listener.local_addr().unwrap());
        let (cut, cuts) = tokio::sync::watch::channel(0);
        let server = url.trim_start_matches("http://").to_owned();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let (server, mut cuts) = (server.clone(), cuts.clone());
                cuts.mark_unchanged();
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(server).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Self { url: own, cut, _accepting: accepting }
    }
}

/// A stream of a session that breaks off while the server goes on is taken up where it was; without a session nothing can
/// be, and that is said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m15_a_connection_that_is_cut_in_a_call_is_taken_up_or_told_as_unknown() {
    let (world, served, token) = fleet_of_one().await;
    let wire = Wire::to(&served.url).await;
    for greeting in [LINES, Greeting::Discover] {
        let mut agent = Relayed::to(&wire.url, &token).start(greeting).await;
        let id = agent.open("sim-llm", "1", "4h").await;
        let paid = vouchers(&world.sandbox.llm).len();
        world.sandbox.llm.set(|faults| faults.slow = Some(Duration::from_secs(2)));
        let (answer, ()) = tokio::join!(agent.call("drain_chat", chat(&id, "hello")), async {
            until("the provider has it", async || vouchers(&world.sandbox.llm).len() == paid + 1).await;
            wire.cut.send_modify(|count| *count += 1);
        });
        if matches!(greeting, Greeting::Discover) {
            assert_eq!(answer.data["money"]["state"], "unknown", "{}", answer.text);
        } else {
            assert!(answer.last_line().starts_with("Paid "), "{}", answer.text);
        }
        world.sandbox.llm.reset_faults();
        agent.ok("drain_balance", json!({})).await;
        assert_eq!(vouchers(&world.sandbox.llm).len(), paid + 1);
        agent.leave().await;
    }
    served.stop().await;
}

/// Ended in the middle of a call, as a client ends that was closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_in_a_call_leaves_nothing_open() {
    let (world, served, token) = fleet_of_one().await;
    for terminated in [false, true] {
        let mut agent = Relayed::to(&served.url, &token).start(LINES).await;
        let id = agent.open("sim-llm", "1", "4h").await;
        let paid = vouchers(&world.sandbox.llm).len();
        world.sandbox.llm.set(|faults| faults.slow = Some(Duration::from_secs(3)));
        agent.ask("tools/call", calling("drain_chat", chat(&id, "hello"), false)).await;
        until("the provider has it", async || vouchers(&world.sandbox.llm).len() == paid + 1).await;
        let ended = if terminated { agent.terminate().await } else { agent.leave().await };
        assert_eq!(ended.code, Some(0));
        until("its session is ended", async || {
            served.get("/metrics").await.1.contains("drain_mcp_sessions{transport=\"http\"} 0")
        })
        .await;
        world.sandbox.llm.reset_faults();
        // What had left is settled.
        let client = served.client(&token, Client::stateless()).await;
        let settled = async || {
            let status = client.ok("drain_channel_status", json!({ "channelId": id })).await;
            status.data["in_flight"] == "0.00" && status.data["requests"] == 1
        };
        until("it is settled", settled).await;
        client.leave().await;
    }
    served.stop().await;
}
