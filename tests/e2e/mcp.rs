//! An agent's way over MCP: discover, read, open, pay, close; and what goes wrong.

use std::time::Duration;

use drain_mcp::api::Progress;
use drain_mcp::mcp::serve;
use drain_mcp::mcp::server::Server;
use rmcp::model::{CallToolRequest, CallToolRequestParams, CallToolResult, ClientRequest};
use rmcp::service::{PeerRequestOptions, RequestHandle, RunningService};
use rmcp::{RoleClient, ServiceExt};
use serde_json::{Value, json};

use crate::harness::{World, ask, in_system, open, until, vouchers};

struct Agent(RunningService<RoleClient, ()>);

impl Agent {
    async fn call(&self, tool: &'static str, arguments: Value) -> (CallToolResult, String) {
        let Value::Object(arguments) = arguments else { panic!("no object") };
        let result = self.0.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments)).await.unwrap();
        let texts: Vec<String> = result.content.iter().filter_map(|c| c.as_text()).map(|t| t.text.clone()).collect();
        let text = texts.join("\n");
        println!("--- {tool}\n{text}\n");
        assert!(text.starts_with("PLAY MONEY"), "{text}");
        (result, text)
    }

    /// A call that can be cancelled.
    async fn begin(&self, tool: &'static str, arguments: Value) -> RequestHandle<RoleClient> {
        let Value::Object(arguments) = arguments else { panic!("no object") };
        let request = CallToolRequest::new(CallToolRequestParams::new(tool).with_arguments(arguments));
        let request = ClientRequest::CallToolRequest(request);
        self.0.send_cancellable_request(request, PeerRequestOptions::no_options()).await.unwrap()
    }

    async fn data(&self, tool: &'static str, arguments: Value) -> (Value, String) {
        let (result, text) = self.call(tool, arguments).await;
        assert_ne!(result.is_error, Some(true), "{text}");
        (result.structured_content.unwrap(), text)
    }
}

#[test]
fn an_agent_buys_over_mcp() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let served = tokio::spawn(serve(Server::new(runtime.clone()), theirs));
        let agent = Agent(().serve(ours).await.unwrap());

        let (page, _) = agent.data("drain_providers", json!({ "onlineOnly": true })).await;
        assert!(page["rows"].as_array().unwrap().iter().any(|row| row[0] == "sim-llm"));
        agent.data("drain_provider_info", json!({ "providerId": "sim-llm" })).await;
        agent.data("drain_balance", json!({})).await;
        let (opened, text) =
            agent.data("drain_open_channel", json!({ "provider": "sim-llm", "amount": "1.5", "duration": "4h" })).await;
        assert!(text.contains("Next: drain_chat"), "{text}");
        let id = opened["channel"]["channel_id"].as_str().unwrap().to_owned();

        let messages = json!([{ "role": "user", "content": "Say hello" }]);
        let (reply, text) = agent
            .data("drain_chat", json!({ "channelId": id, "model": "sim-small", "messages": messages, "maxTokens": 60 }))
            .await;
        assert_eq!(reply["outcome"], "answered");
        let last = text.lines().last().unwrap();
        assert!(
            last.starts_with("Paid ")
                && last.ends_with(&format!("receipt {}.", reply["payment"]["receipt"].as_str().unwrap())),
            "{last}"
        );
        let (status, _) = agent.data("drain_channel_status", json!({ "channelId": id })).await;
        assert_eq!(status["charged"], reply["payment"]["cost"]);
        let (channels, _) = agent.data("drain_channels", json!({})).await;
        assert_eq!(channels["channels"].as_array().unwrap().len(), 1);
        agent.data("drain_approve", json!({ "amount": "3" })).await;
        agent.data("drain_feedback", json!({ "providerId": "sim-llm", "outcome": "success" })).await;
        agent.data("drain_cooperative_close", json!({ "channelId": id })).await;

        for (tool, arguments, code) in [
            ("drain_open_channel", json!({ "provider": "sim-llm", "amount": "1e3" }), "invalid_argument"),
            ("drain_open_channel", json!({ "provider": "nobody", "amount": "1" }), "unknown_provider"),
            ("drain_open_channel", json!({ "provider": "sim-llm", "amount": "1000000" }), ""),
            ("drain_channel_status", json!({ "channelId": format!("0x{}", "0".repeat(64)) }), "unknown_channel"),
        ] {
            let (result, text) = agent.call(tool, arguments).await;
            assert_eq!(result.is_error, Some(true), "{text}");
            let data = result.structured_content.unwrap();
            assert!(code.is_empty() || data["code"] == code, "{text}");
            assert_eq!(data["money"]["state"], "not_spent");
        }
        for uri in ["drain://wallet", "drain://providers"] {
            let read = agent.0.read_resource(rmcp::model::ReadResourceRequestParams::new(uri)).await.unwrap();
            println!("--- {uri}\n{}", serde_json::to_string(&read).unwrap());
        }
        let other = open(&runtime, "sim-llm", "1", "4h").await.unwrap();
        runtime.cooperative_close(other, Progress::none()).await.unwrap();
        agent.0.cancel().await.unwrap();
        served.await.unwrap().unwrap();
    });
}

#[test]
fn services_that_are_no_llm_over_mcp() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let served = tokio::spawn(serve(Server::new(runtime), theirs));
        let agent = Agent(().serve(ours).await.unwrap());
        let (page, _) = agent.data("drain_providers", json!({ "format": "full" })).await;
        for provider in page["providers"].as_array().unwrap() {
            if provider["category"] == "llm" || provider["payable"] != true {
                continue;
            }
            let (result, text) = agent
                .call("drain_open_channel", json!({ "provider": provider["id"], "amount": 1, "duration": "4h" }))
                .await;
            if result.is_error == Some(true) {
                println!("not opened: {text}");
                continue;
            }
            let id = result.structured_content.unwrap()["channel"]["channel_id"].clone();
            let model = provider["models"][0]["id"].clone();
            let call = json!({ "channel_id": id, "model": model, "messages": [{ "role": "user", "content": "{\"prompt\":\"x\",\"city\":\"Lisbon\"}" }], "maxCost": "0.05" });
            agent.call("drain_chat", call.clone()).await;
            agent.call("drain_chat", call).await;
        }
        agent.data("drain_providers", json!({ "protocol": "mpp" })).await;
        agent.0.cancel().await.unwrap();
        served.await.unwrap().unwrap();
    });
}

#[test]
fn a_chat_that_is_cancelled_before_its_turn_is_not_paid() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        tokio::spawn(serve(Server::new(runtime.clone()), theirs));
        let agent = Agent(().serve(ours).await.unwrap());
        world.sandbox.llm.set(|faults| faults.slow = Some(Duration::from_millis(300)));
        let chat = |text: &str| {
            let messages = json!([{ "role": "user", "content": text }]);
            json!({ "channelId": channel.to_string(), "model": "sim-small", "messages": messages })
        };
        let first = agent.begin("drain_chat", chat("First")).await;
        until("the first is there", async || vouchers(&world.sandbox.llm).len() == 1).await;
        let second = agent.begin("drain_chat", chat("Second")).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        second.cancel(None).await.unwrap();
        first.await_response().await.unwrap();
        ask(&runtime, channel, "sim-small", "Third").await.unwrap();
        let bodies: Vec<_> = vouchers(&world.sandbox.llm).into_iter().map(|request| request.body).collect();
        assert!(bodies.len() == 2 && !bodies.iter().any(|body| body.contains("Second")), "{bodies:?}");
    });
}

#[test]
fn an_open_after_a_cancelled_one_gives_its_channel() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        tokio::spawn(serve(Server::new(runtime.clone()), theirs));
        let agent = Agent(().serve(ours).await.unwrap());
        let wish = || json!({ "provider": "sim-llm", "amount": "1", "duration": "4h" });
        let first = agent.begin("drain_open_channel", wish()).await;
        until("a transaction is on its way", async || world.sent().await > 0).await;
        first.cancel(None).await.unwrap();
        until("it goes on", async || world.journaled("SELECT COUNT(*) FROM channels WHERE state = 'open'") == 1).await;
        // Whoever would still listen has heard of it by now.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let (again, _) = agent.data("drain_open_channel", wish()).await;
        assert_eq!((&again["resumed"], runtime.channels(true).await.unwrap().len()), (&json!(true), 1));
        // That one was told of: another call opens another one.
        let (other, _) = agent.data("drain_open_channel", wish()).await;
        assert_ne!(other["channel"]["channel_id"], again["channel"]["channel_id"]);
    });
}
