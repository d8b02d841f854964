//! The server over an in-memory stream, as a client sees it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use rmcp::model::{CallToolRequestParams, ProtocolVersion};
use rmcp::{ClientLifecycleMode, ClientServiceExt};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::answer::{Answer, PLAY_MONEY};
use super::args::Args;
use super::server::{Job, Server};
use super::tools::Running;
use super::{ServeError, serve};
use crate::api::Progress;
use crate::error::Failure;

/// Tells that the work that holds it is gone.
struct Dropped(Arc<Notify>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// A handler by the tool's name: it answers, says progress, panics, hangs or reads arguments.
fn server(dropped: Arc<Notify>) -> Server {
    let handler = move |job: Job, _, progress: Progress| -> Running {
        let hangs = matches!(&job, Job::Tool(tool, _) if tool.name == "drain_open_channel");
        let guard = hangs.then(|| Dropped(dropped.clone()));
        Box::pin(async move {
            let _guard = guard;
            let Job::Tool(tool, given) = job else { return Answer::new(&json!({}), &[], "the wallet") };
            let args = Args::new(tool.params, given)?;
            match tool.name {
                "drain_approve" => {
                    for step in ["checking", "sending", "waiting"] {
                        progress.say(step);
                        tokio::task::yield_now().await;
                    }
                }
                "drain_chat" => panic!("a fault"),
                "drain_open_channel" => std::future::pending().await,
                "drain_channel_status" => {
                    args.channel("channelId")?;
                }
                "drain_balance" => return Err(Failure::internal("no")),
                _ => {}
            }
            Answer::new(&json!({ "ok": true }), &[], "done").map(|answer| answer.with_notes(args.notes().to_vec()))
        })
    };
    Server::with_handler(Arc::new(handler), true)
}

struct Client {
    reader: BufReader<ReadHalf<DuplexStream>>,
    writer: WriteHalf<DuplexStream>,
    served: JoinHandle<Result<(), ServeError>>,
    dropped: Arc<Notify>,
}

impl Client {
    fn start() -> Self {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let dropped = Arc::new(Notify::new());
        let served = tokio::spawn(serve(server(dropped.clone()), theirs));
        let (reader, writer) = tokio::io::split(ours);
        Self { reader: BufReader::new(reader), writer, served, dropped }
    }

    /// A client of the older generation.
    async fn initialized(version: &str) -> Self {
        let mut client = Self::start();
        let info = json!({ "name": "test", "version": "1" });
        let params = json!({ "protocolVersion": version, "capabilities": {}, "clientInfo": info });
        client.send(json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params })).await;
        let answer = client.next().await;
        assert_eq!(answer["result"]["protocolVersion"], version);
        assert_eq!(answer["result"]["serverInfo"]["name"], "drain-mcp");
        assert!(answer["result"]["instructions"].as_str().unwrap().starts_with(PLAY_MONEY));
        client.send(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
        client
    }

    async fn send(&mut self, message: Value) {
        self.writer.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    }

    async fn next(&mut self) -> Value {
        let mut line = String::new();
        let read = tokio::time::timeout(Duration::from_secs(5), self.reader.read_line(&mut line));
        read.await.expect("an answer in time").unwrap();
        serde_json::from_str(&line).unwrap()
    }

    async fn call(&mut self, id: u32, tool: &str, arguments: Value, meta: Value) {
        let params = json!({ "name": tool, "arguments": arguments, "_meta": meta });
        self.send(json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params })).await;
    }

    /// Closes our side and waits for the server to end.
    async fn leave(self) {
        drop((self.reader, self.writer));
        tokio::time::timeout(Duration::from_secs(8), self.served).await.expect("it ends").unwrap().unwrap();
    }
}

#[tokio::test]
async fn lists_calls_and_ends_with_the_client() {
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let mut client = Client::initialized(version).await;
        client.send(json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" })).await;
        assert_eq!(client.next().await["result"]["tools"].as_array().unwrap().len(), 16);
        client.send(json!({ "jsonrpc": "2.0", "id": 2, "method": "resources/list" })).await;
        assert_eq!(client.next().await["result"]["resources"].as_array().unwrap().len(), 3);
        let read =
            json!({ "jsonrpc": "2.0", "id": 3, "method": "resources/read", "params": { "uri": "drain://wallet" } });
        client.send(read).await;
        let answer = client.next().await;
        assert_eq!(answer["result"]["contents"][0]["text"], format!("{PLAY_MONEY}\nthe wallet"));
        client.call(4, "drain_channels", json!({ "colour": 1 }), json!({})).await;
        let answer = client.next().await;
        assert_eq!(answer["result"]["structuredContent"]["ok"], true);
        let text = answer["result"]["content"][0]["text"].as_str().unwrap();
        assert!(text.starts_with(PLAY_MONEY) && text.ends_with("\"colour\" was ignored."), "{text}");
        client.leave().await;
    }
}

#[tokio::test]
async fn the_stateless_generation() {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let served = tokio::spawn(serve(server(Arc::default()), theirs));
    let mode = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    let client = ().serve_with_lifecycle(ours, mode).await.unwrap();
    assert_eq!(client.list_all_tools().await.unwrap().len(), 16);
    let result = client.call_tool(CallToolRequestParams::new("drain_channels")).await.unwrap();
    assert_eq!(result.structured_content.unwrap()["ok"], true);
    let failed = client.call_tool(CallToolRequestParams::new("drain_balance")).await.unwrap();
    assert_eq!(failed.is_error, Some(true));
    assert!(client.call_tool(CallToolRequestParams::new("drain_nothing")).await.is_err());
    client.cancel().await.unwrap();
    served.await.unwrap().unwrap();
}

#[tokio::test]
async fn progress_only_for_who_asked_and_before_the_answer() {
    let mut client = Client::initialized("2025-11-25").await;
    client.call(1, "drain_approve", json!({}), json!({ "progressToken": "p-7" })).await;
    let mut said = Vec::new();
    let answer = loop {
        let message = client.next().await;
        if message["id"] == 1 {
            break message;
        }
        assert_eq!(message["method"], "notifications/progress");
        assert_eq!(message["params"]["progressToken"], "p-7");
        assert_eq!(message["params"]["progress"].as_f64(), Some(said.len() as f64 + 1.0));
        said.push(message["params"]["message"].as_str().unwrap().to_owned());
    };
    assert_eq!(said, ["checking", "sending", "waiting"]);
    assert_eq!(answer["result"]["isError"], false);

    client.call(2, "drain_approve", json!({}), json!({})).await;
    assert_eq!(client.next().await["id"], 2);
    client.leave().await;
}

#[tokio::test]
async fn a_panic_is_answered_and_the_server_goes_on() {
    let mut client = Client::initialized("2025-06-18").await;
    client.call(1, "drain_chat", json!({}), json!({})).await;
    let answer = client.next().await;
    assert_eq!(answer["result"]["isError"], true);
    assert_eq!(answer["result"]["structuredContent"]["code"], "internal");
    assert_eq!(answer["result"]["structuredContent"]["money"]["state"], "unknown");
    client.call(2, "drain_channels", json!({}), json!({})).await;
    assert_eq!(client.next().await["result"]["isError"], false);
    client.leave().await;
}

#[tokio::test]
async fn cancelling_ends_the_waiting_and_the_work() {
    let mut client = Client::initialized("2025-11-25").await;
    client.call(1, "drain_open_channel", json!({}), json!({})).await;
    let params = json!({ "requestId": 1, "reason": "changed my mind" });
    client.send(json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params })).await;
    client.call(2, "drain_channels", json!({}), json!({})).await;
    // No answer to 1 comes, now or later.
    assert_eq!(client.next().await["id"], 2);
    tokio::time::timeout(Duration::from_secs(5), client.dropped.notified()).await.expect("the work is dropped");
    client.call(3, "drain_channels", json!({}), json!({})).await;
    assert_eq!(client.next().await["id"], 3);
    client.leave().await;
}

#[tokio::test]
async fn bad_input_is_answered_and_the_server_goes_on() {
    let mut client = Client::initialized("2025-11-25").await;
    client.call(1, "drain_channel_status", json!({ "channelId": "0x12" }), json!({})).await;
    let answer = client.next().await;
    assert_eq!(answer["result"]["structuredContent"]["code"], "invalid_argument");
    let text = answer["result"]["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("channelId:") && text.contains("Nothing was spent."), "{text}");
    client.call(2, "no_tool", json!({}), json!({})).await;
    assert_eq!(client.next().await["error"]["code"], -32602);
    client.writer.write_all(b"this is no JSON\n\n{\"jsonrpc\":\"2.0\"}\n").await.unwrap();
    client.call(3, "drain_channels", json!({}), json!({})).await;
    loop {
        let answer = client.next().await;
        if answer["id"] == 3 {
            assert_eq!(answer["result"]["isError"], false);
            break;
        }
    }
    client.leave().await;
}

#[tokio::test]
async fn a_client_that_says_nothing() {
    Client::start().leave().await;
}

#[tokio::test]
async fn a_peer_that_speaks_no_mcp() {
    let mut client = Client::start();
    client.send(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
    assert!(matches!(client.served.await.unwrap(), Err(ServeError::Handshake(_))));
}
