//! A relay whose server is away, ends, refuses or breaks off: what is sent again, what never is, and what an agent reads.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::harness::World;
use crate::process_harness::served::{Client, Served};
use crate::process_harness::{Agent, Answer, Env, Greeting, chat, until, vouchers, world};
use crate::relay::{LINES, Relayed, calling};

/// A token that looks like one, for servers that ask for none.
fn made_up() -> String {
    format!("drain_{}", "t".repeat(43))
}

/// A server of the test's own: what each request is answered, byte for byte; `None` hangs up.
struct Fake {
    url: String,
    seen: Arc<Mutex<Vec<String>>>,
    served: tokio::task::JoinHandle<()>,
}

impl Fake {
    async fn start(answer: impl Fn(usize) -> Option<String> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = seen.clone();
        let served = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let Some(request) = request(&mut stream).await else { continue };
                let count = {
                    let mut log = log.lock().unwrap();
                    log.push(request);
                    log.len()
                };
                if let Some(answer) = answer(count) {
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            }
        });
        Self { url, seen, served }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// Frees its address.
    async fn stop(self) {
        self.served.abort();
        let _ = self.served.await;
    }
}

/// A whole request.
async fn request(stream: &mut TcpStream) -> Option<String> {
    let (mut text, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let whole = String::from_utf8_lossy(&text).into_owned();
        if let Some((head, body)) = whole.split_once("\r\n\r\n") {
            let length = head
                .to_lowercase()
                .split_once("content-length: ")
                .map_or(0, |(_, rest)| rest.split("\r\n").next().unwrap().parse().unwrap());
            if body.len() >= length {
                return Some(whole);
            }
        }
        match stream.read(&mut part).await {
            Ok(read @ 1..) => text.extend_from_slice(&part[..read]),
            _ => return None,
        }
    }
}

fn http(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}connection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// One call of the stateless revision, without a greeting, and its answer.
async fn one_call(url: &str, tool: &str) -> (Answer, Agent) {
    let mut agent = Relayed::to(url, &made_up()).start(Greeting::None).await;
    let mut params = calling(tool, json!({}), true);
    params["_meta"]["progressToken"] = json!(1);
    let answer = Answer::of(agent.request("tools/call", params).await.unwrap());
    println!("{}\n", answer.text);
    (answer, agent)
}

/// M15: whatever the connection does after the request has left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m15_what_may_have_arrived_is_never_sent_again() {
    let json = "content-type: application/json\r\n";
    let events = "content-type: text/event-stream\r\n";
    let good = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    let answers = [
        None,
        Some(http("502 Bad Gateway", "", "the server is gone")),
        // A proxy's, which may have passed the request on.
        Some(http("503 Service Unavailable", "retry-after: 1\r\n", "upstream reset")),
        Some(http("504 Gateway Timeout", "", "")),
        Some(http("500 Internal Server Error", json, "{}")),
        Some(http("200 OK", json, good).replace("\"result\":{}}", "")),
        Some(http("200 OK", json, "{}")),
        Some(http("200 OK", json, &good.replace(":1,", ":2,"))),
        Some(http("200 OK", "content-type: text/html\r\n", "<html>")),
        Some(http("202 Accepted", "", "")),
        Some(http("200 OK", events, "data: {\"jsonrpc\":\"2.0\",\"method\":\"x\"}\n\n")),
        Some(http("200 OK", events, "data: what\n\n")),
        Some("nonsense\r\n\r\n".into()),
    ];
    for answer in answers {
        println!("--- {answer:?}");
        let told = answer.clone();
        let fake = Fake::start(move |_| told.clone()).await;
        let (lost, agent) = one_call(&fake.url, "drain_chat").await;
        assert!(lost.is_error, "{}", lost.text);
        assert_eq!((&lost.data["code"], &lost.data["retry"]), (&json!("owner_lost"), &json!("no")), "{}", lost.text);
        assert_eq!(lost.data["money"]["state"], "unknown", "{}", lost.text);
        for part in ["nothing was sent again", "drain_channel_status", fake.url.as_str()] {
            assert!(lost.text.contains(part), "{part} in {}", lost.text);
        }
        let ended = agent.leave().await;
        assert_eq!(ended.code, Some(0));
        let seen = fake.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        // The token goes where it belongs, and with it what the newer revision asks for.
        let head = seen[0].to_lowercase();
        let token = format!("authorization: bearer {}", made_up());
        for line in
            [token.as_str(), "mcp-method: tools/call", "mcp-name: drain_chat", "mcp-protocol-version: 2026-07-28"]
        {
            assert!(head.contains(line), "{line} in {head}");
        }
        // A question that moves no money is not asked again either, and needs no look.
        let (lost, agent) = one_call(&fake.url, "drain_balance").await;
        assert_eq!(lost.data["money"]["state"], "not_spent", "{}", lost.text);
        agent.leave().await;
        assert_eq!(fake.seen().len(), 2);
        fake.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_begun_is_sent_again_and_progress_tells() {
    let fake = Fake::start(|count| {
        Some(match count {
            1 => http("503 Service Unavailable", "drain-not-begun: 1\r\nretry-after: 1\r\n", "about to end"),
            2 => http("429 Too Many Requests", "retry-after: 1\r\n", "busy"),
            _ => http(
                "200 OK",
                "content-type: application/json\r\n",
                "{\"jsonrpc\":\"2.0\",\r\n \"id\":1,\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"here\"}]}}\n",
            ),
        })
    })
    .await;
    let (answer, agent) = one_call(&fake.url, "drain_chat").await;
    assert!(!answer.is_error && answer.text == "here", "{}", answer.text);
    let seen: Vec<_> =
        fake.seen().into_iter().map(|request| request.split_once("\r\n\r\n").unwrap().1.to_owned()).collect();
    assert!(seen.len() == 3 && seen.iter().all(|body| *body == seen[0]), "{seen:?}");
    let steps: Vec<f64> = agent.notifications.iter().map(|said| said["params"]["progress"].as_f64().unwrap()).collect();
    assert!(steps.len() == 2 && steps[0] < steps[1] && steps[1] < 1.0, "{:?}", agent.notifications);
    agent.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_say_that_nothing_was_spent_and_what_to_do() {
    let elsewhere = Fake::start(|_| Some(http("200 OK", "", ""))).await;
    let redirect = format!("location: {}/mcp\r\n", elsewhere.url);
    for (status, headers, body, code, next) in [
        ("307 Temporary Redirect", redirect.as_str(), "", "invalid_config", "DRAIN_SERVER_URL"),
        ("301 Moved Permanently", &redirect, "", "invalid_config", "DRAIN_SERVER_URL"),
        ("401 Unauthorized", "drain-not-begun: 1\r\n", "A token is needed.", "token_refused", "drain-mcp agents add"),
        (
            "403 Forbidden",
            "drain-not-begun: 1\r\n",
            "This Host is not allowed here",
            "invalid_config",
            "DRAIN_ALLOWED_HOSTS",
        ),
        ("404 Not Found", "", "<html>", "invalid_config", "DRAIN_SERVER_URL"),
        ("413 Payload Too Large", "drain-not-begun: 1\r\n", "", "invalid_argument", "Send less"),
        ("429 Too Many Requests", "retry-after: 60\r\n", "Too many sessions", "server_unavailable", "Call again"),
    ] {
        let answer = http(status, headers, body);
        let fake = Fake::start(move |_| Some(answer.clone())).await;
        let (refused, agent) = one_call(&fake.url, "drain_chat").await;
        assert_eq!((refused.is_error, &refused.data["code"]), (true, &json!(code)), "{status}: {}", refused.text);
        assert_eq!(refused.data["money"]["state"], "not_spent", "{status}: {}", refused.text);
        assert!(refused.data["next"].as_str().unwrap().contains(next), "{status}: {}", refused.text);
        assert_eq!(fake.seen().len(), 1, "{status}");
        agent.leave().await;
        fake.stop().await;
    }
    assert_eq!(elsewhere.seen(), Vec::<String>::new());
    // An error of the protocol is the server's answer, and comes as it is.
    let error = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no such method"}}"#;
    let fake = Fake::start(move |_| Some(http("404 Not Found", "content-type: application/json\r\n", error))).await;
    let mut agent = Relayed::to(&fake.url, &made_up()).start(Greeting::None).await;
    let answer = agent.request("what/ever", calling("x", json!({}), true)).await.unwrap_err();
    assert_eq!(answer, json!({ "code": -32601, "message": "no such method" }));
    agent.leave().await;
}

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
    let world = world().await;
    let served = Served::start(&Env::of(&world)).await;
    let token = served.agent("ann", &[]).await;
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
    let world = world().await;
    let served = Served::start(&Env::of(&world)).await;
    let token = served.agent("ann", &[]).await;
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
    let world = world().await;
    let served = Served::start(&Env::of(&world)).await;
    let token = served.agent("ann", &[]).await;
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
