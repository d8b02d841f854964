//! A relay whose server answers as the test says, byte for byte: what is sent again, what never is, and what an agent reads.

use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::process_harness::{Agent, Answer, Greeting};
use crate::relay::{Relayed, calling};

/// A token that looks like one, for servers that ask for none.
pub fn made_up() -> String {
    format!("drain_{}", "t".repeat(43))
}

/// A server of the test's own: what each request is answered, byte for byte; `None` hangs up.
pub struct Fake {
    pub url: String,
    seen: Arc<Mutex<Vec<String>>>,
    served: tokio::task::JoinHandle<()>,
}

impl Fake {
    pub async fn start(answer: impl Fn(usize) -> Option<String> + Send + 'static) -> Self {
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

    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// Frees its address.
    pub async fn stop(self) {
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

pub fn http(status: &str, headers: &str, body: &str) -> String {
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
    // Who is not trusted is shown nothing, and is not asked twice.
    let stranger = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", stranger.local_addr().unwrap());
    let greets = tokio::spawn(async move {
        let (mut stream, _) = stranger.accept().await.unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let mut shown = Vec::new();
        let _ = stream.read_to_end(&mut shown).await;
        String::from_utf8_lossy(&shown).into_owned()
    });
    let (refused, agent) = one_call(&url, "drain_chat").await;
    assert_eq!(refused.data["code"], "server_unavailable", "{}", refused.text);
    assert_eq!(
        (&refused.data["money"]["state"], agent.notifications.len()),
        (&json!("not_spent"), 0),
        "{}",
        refused.text
    );
    agent.leave().await;
    assert!(!greets.await.unwrap().contains(&made_up()));
    // An error of the protocol is the server's answer, and comes as it is.
    let error = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no such method"}}"#;
    let fake = Fake::start(move |_| Some(http("404 Not Found", "content-type: application/json\r\n", error))).await;
    let mut agent = Relayed::to(&fake.url, &made_up()).start(Greeting::None).await;
    let answer = agent.request("what/ever", calling("x", json!({}), true)).await.unwrap_err();
    assert_eq!(answer, json!({ "code": -32601, "message": "no such method" }));
    agent.leave().await;
}
