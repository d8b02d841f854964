//! How much an agent, or anybody, may take of `drain-mcp serve`: its limits of money, calls, sessions, connections and time.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::process_harness::served::{Client, Served, call, initialize, message_of};
use crate::process_harness::{Answer, Env, chat, until, vouchers, world};
use crate::serve::balance;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_much_at_once_is_refused_and_nothing_else_suffers() {
    let world = world().await;
    let env = Env::of(&world)
        .with("DRAIN_MAX_BODY_BYTES", "4096")
        .with("DRAIN_MAX_AGENT_REQUESTS", "2")
        .with("DRAIN_MAX_AGENT_SESSIONS", "3");
    let served = Served::start(&env).await;
    let (ann, bob) = (served.agent("ann", &[]).await, served.agent("bob", &[]).await);

    // A body, told and untold.
    let large = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping", "params": { "x": "y".repeat(5_000) } });
    let told = served.post(&ann, &large).send().await.unwrap();
    assert_eq!(told.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let parts = futures::stream::iter(vec![Ok::<_, std::io::Error>(large.to_string())]);
    let untold = served.post(&ann, &json!({})).body(reqwest::Body::wrap_stream(parts)).send().await.unwrap();
    assert_eq!(untold.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let head = served.post(&ann, &balance()).header("x-large", "y".repeat(200_000)).send().await.unwrap();
    assert_eq!(head.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);

    // Sessions: more than calls, since one that waits is no call.
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(served.session(&ann, "2025-11-25").await);
    }
    let full = served.post(&ann, &initialize("2025-11-25")).send().await.unwrap();
    assert_eq!(full.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(full.headers().contains_key("retry-after"));
    sessions[0].ok("drain_balance", json!({})).await;
    assert_eq!(served.stateless(&ann, "drain_balance", &json!({})).send().await.unwrap().status(), StatusCode::OK);
    assert!(sessions[1].bare(Method::DELETE).send().await.unwrap().status().is_success());
    served.session(&ann, "2025-11-25").await;

    // Calls.
    let opened =
        sessions[0].ok("drain_open_channel", json!({ "provider": "sim-llm", "amount": "1", "duration": "4h" })).await;
    let channel = opened.data["channel"]["channel_id"].as_str().unwrap().to_owned();
    world.sandbox.llm.set(|faults| faults.slow = Some(std::time::Duration::from_secs(3)));
    let pay = |id| sessions[0].post(&call(id, "drain_chat", &chat(&channel, "hello"))).send();
    let (one, two, ()) = futures::join!(pay(1), pay(2), async {
        until("a request is at the provider", async || !vouchers(&world.sandbox.llm).is_empty()).await;
        // The second one may still be on its way here.
        until("the agent has no call to spare", async || {
            let answer = served.stateless(&ann, "drain_balance", &json!({})).send().await.unwrap();
            answer.status() == StatusCode::TOO_MANY_REQUESTS
        })
        .await;
        served.session(&bob, "2025-11-25").await.ok("drain_balance", json!({})).await;
    });
    for answer in [one, two] {
        let answer = Answer::of(message_of(answer.unwrap()).await["result"].clone());
        assert!(!answer.is_error, "{}", answer.text);
    }
    assert_eq!(served.stateless(&ann, "drain_balance", &json!({})).send().await.unwrap().status(), StatusCode::OK);

    // In a session a call goes on when its client is gone: it counts all the same.
    for id in 3..5 {
        let left = tokio::time::timeout(std::time::Duration::from_millis(500), pay(id)).await;
        drop(left);
    }
    let answer = served.stateless(&ann, "drain_balance", &json!({})).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    until("both have ended", async || {
        served.stateless(&ann, "drain_balance", &json!({})).send().await.unwrap().status() == StatusCode::OK
    })
    .await;
    assert_eq!(vouchers(&world.sandbox.llm).len(), 4);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_unused_ends() {
    let world = world().await;
    let env = Env::of(&world).with("DRAIN_SESSION_IDLE", "300ms").with("DRAIN_CALL_TIME", "300ms");
    let served = Served::start(&env).await;
    let token = served.agent("ann", &[]).await;
    let session = served.session(&token, "2025-11-25").await;
    // Looking at the session would be a use of it.
    until("no client is connected", async || {
        served.get("/metrics").await.1.contains("drain_mcp_sessions{transport=\"http\"} 0")
    })
    .await;
    assert_eq!(session.post(&balance()).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_bounded() {
    let world = world().await;
    let served = Served::start(&Env::of(&world).with("DRAIN_MAX_CONNECTIONS", "3")).await;
    let address = served.url.trim_start_matches("http://").to_owned();
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(tokio::net::TcpStream::connect(&address).await.unwrap());
    }
    until("a further one is refused", async || {
        let answer = served.request(Method::GET, "/healthz").send().await;
        answer.is_ok_and(|answer| answer.status() == StatusCode::SERVICE_UNAVAILABLE)
    })
    .await;
    held.pop();
    until("one ends and the next is taken", async || {
        served.request(Method::GET, "/healthz").send().await.is_ok_and(|answer| answer.status() == StatusCode::OK)
    })
    .await;
    drop(held);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_takes_too_long_is_answered_and_what_it_paid_is_recorded() {
    let world = world().await;
    let served = Served::start(&Env::of(&world).with("DRAIN_CALL_TIME", "3s")).await;
    let token = served.agent("ann", &[]).await;
    let client = served.client(&token, Client::stateless()).await;
    let id = client.open("sim-llm", "1").await;
    world.sandbox.llm.set(|faults| faults.slow = Some(std::time::Duration::from_secs(6)));
    let late = client.fails("drain_chat", chat(&id, "hello"), "cancelled").await;
    assert!(late.text.contains("DRAIN_CALL_TIME") && late.data["money"]["state"] == "unknown", "{}", late.text);
    until("the channel's books have it", async || {
        let status = client.ok("drain_channel_status", json!({ "channelId": id })).await;
        status.data["requests"] == 1 && status.data["in_flight"] == "0.00"
    })
    .await;
    client.leave().await;
    served.stop().await;
}

/// An agent's own limits are below its wallet's (M5).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m5_an_agents_own_limits_count() {
    let world = world().await;
    let served = Served::start(&Env::of(&world)).await;
    let modest = served.agent("ann", &["--max-per-channel", "0.5", "--deny-providers", "sim-weather"]).await;
    let client = served.client(&modest, Client::stateless()).await;
    let open = |provider: &str, amount: &str| json!({ "provider": provider, "amount": amount, "duration": "4h" });
    client.fails("drain_open_channel", open("sim-llm", "1"), "limit_reached").await;
    client.fails("drain_open_channel", open("sim-weather", "0.5"), "not_allowed").await;
    client.ok("drain_open_channel", open("sim-llm", "0.5")).await;
    client.leave().await;

    // Its budget, whatever the wallet's is.
    let poor = ["agents", "add", "bob", "--budget", "0.000001", "--json"];
    let poor = served.env.run(&poor).await.ok_json()["token"].as_str().unwrap().to_owned();
    let client = served.client(&poor, Client::stateless()).await;
    let id = client.open("sim-llm", "1").await;
    let refused = client.fails("drain_chat", chat(&id, "hello"), "limit_reached").await;
    assert!(refused.text.contains("DRAIN_MAX_PER_AGENT"), "{}", refused.text);
    assert!(vouchers(&world.sandbox.llm).is_empty());
    client.leave().await;
    served.stop().await;
}
