//! The official inspector on its command line: lists, each tool that only looks, a paid flow, resources and prompts.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Clients, PATIENCE};
use crate::process_harness::served::Served;
use crate::process_harness::{Ended, Env, PROGRAM, world};

/// The generations of the protocol by the inspector's names.
const ERAS: [&str; 2] = ["legacy", "modern"];

/// The inspector with a client's configuration of one server.
struct Inspector {
    clients: Clients,
    home: tempfile::TempDir,
}

impl Inspector {
    /// With what stands under a server's name in `mcpServers`.
    fn with(server: &Value) -> Self {
        let home = tempfile::tempdir().unwrap();
        let config = json!({ "mcpServers": { "drain": server } });
        std::fs::write(home.path().join("mcp.json"), config.to_string()).unwrap();
        Self { clients: Clients::find(), home }
    }

    async fn run(&self, era: &str, args: &[&str]) -> Ended {
        let home = self.home.path();
        let env = Env::default().with("HOME", home.display().to_string());
        let mut inspector =
            self.clients.node(&env, "node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js");
        inspector.arg("--cli").arg("--config").arg(home.join("mcp.json")).args(["--server", "drain"]);
        inspector.args(["--protocol-era", era, "--stored-auth-only", "--format", "json"]).args(args);
        let ended = Ended::of(inspector, "", PATIENCE).await;
        println!("--- {era} {args:?}: {:?}\n{}{}", ended.code, ended.stdout, ended.stderr);
        ended
    }

    /// The result of a method that must succeed.
    async fn ok(&self, era: &str, args: &[&str]) -> Value {
        let ended = self.run(era, args).await;
        assert_eq!(ended.code, Some(0), "{era} {args:?}: {}", ended.everything());
        ended.json()["result"].clone()
    }

    /// What a tool gives.
    async fn tool(&self, era: &str, name: &str, arguments: &Value) -> Value {
        let given = arguments.to_string();
        let args = ["--method", "tools/call", "--tool-name", name, "--tool-args-json", &given];
        self.ok(era, &args).await["structuredContent"].clone()
    }

    /// Everything, in one generation.
    async fn goes_the_whole_way(&self, era: &str) {
        let listed = self.run(era, &["--method", "tools/list", "--strict"]).await;
        // An error in a schema ends it with another code; what models are given has not even a warning.
        assert_eq!(listed.code, Some(0), "{}", listed.stderr);
        assert!(!listed.stderr.contains("Path: inputSchema"), "{}", listed.stderr);
        let listed = listed.json()["result"]["tools"].clone();
        let only_look = listed.as_array().unwrap().iter().filter(|tool| tool["annotations"]["readOnlyHint"] == true);
        let only_look: BTreeSet<&str> = only_look.map(|tool| tool["name"].as_str().unwrap()).collect();

        let wish = json!({ "provider": "sim-llm", "amount": "0.5", "duration": "24h" });
        let opened = self.tool(era, "drain_open_channel", &wish).await;
        let channel = opened["channel"]["channel_id"].as_str().unwrap();
        let messages = json!([{ "role": "user", "content": "hello" }]);
        let chat = json!({ "channelId": channel, "model": "sim-small", "messages": messages });
        assert_eq!(self.tool(era, "drain_chat", &chat).await["outcome"], "answered");

        let looks = [
            ("drain_providers", json!({})),
            ("drain_provider_info", json!({ "provider": "sim-llm" })),
            ("drain_quote", json!({ "provider": "sim-llm", "model": "sim-small", "messages": messages })),
            ("drain_balance", json!({})),
            ("drain_budget", json!({})),
            ("drain_channel_status", json!({ "channelId": channel })),
            ("drain_channels", json!({})),
        ];
        let known: BTreeSet<&str> = looks.iter().map(|(name, _)| *name).collect();
        assert_eq!(known, only_look, "each tool that only looks is called");
        for (name, arguments) in &looks {
            let given = self.tool(era, name, arguments).await;
            assert_eq!(given["play_money"], true, "{name}: {given}");
        }

        let closed = self.tool(era, "drain_cooperative_close", &json!({ "channelId": channel })).await;
        assert_eq!(closed["channel"]["state"], "closed", "{closed}");
        // A tool's refusal is told as one: the inspector ends with 5.
        let chat = chat.to_string();
        let late = ["--method", "tools/call", "--tool-name", "drain_chat", "--tool-args-json", &chat];
        let late = self.run(era, &late).await;
        assert_eq!(late.code, Some(5), "{}", late.everything());
        assert!(late.stdout.contains("channel_not_open"), "{}", late.stdout);

        let resources = self.ok(era, &["--method", "resources/list"]).await["resources"].clone();
        for resource in resources.as_array().unwrap() {
            let uri = resource["uri"].as_str().unwrap();
            let read = self.ok(era, &["--method", "resources/read", "--uri", uri]).await;
            assert!(read["contents"][0]["text"].as_str().is_some_and(|text| !text.is_empty()), "{read}");
        }
        let prompts = self.ok(era, &["--method", "prompts/list"]).await["prompts"].clone();
        assert!(prompts.as_array().is_some_and(|prompts| !prompts.is_empty()));
        let prompt = ["--method", "prompts/get", "--prompt-name", "buy_one_answer", "--prompt-args", "question=Why?"];
        let prompt = self.ok(era, &prompt).await;
        assert!(
            prompt["messages"][0]["content"]["text"].as_str().is_some_and(|text| text.contains("Why?")),
            "{prompt}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs others' clients: .ci/clients"]
async fn the_inspector_goes_the_whole_way_over_stdio() {
    for era in ERAS {
        // Each command starts a server anew: what it knows of channels is on disk.
        let world = world().await;
        let inspector = Inspector::with(&json!({ "command": PROGRAM, "env": Env::of(&world).json() }));
        inspector.goes_the_whole_way(era).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs others' clients: .ci/clients"]
async fn the_inspector_goes_the_whole_way_over_http() {
    for era in ERAS {
        let world = world().await;
        let served = Served::start(&Env::of(&world)).await;
        let token = served.agent("ann", &[]).await;
        let headers = json!({ "Authorization": format!("Bearer {token}") });
        let url = format!("{}/mcp", served.url);
        let inspector = Inspector::with(&json!({ "type": "streamable-http", "url": url, "headers": headers }));
        inspector.goes_the_whole_way(era).await;
        served.stop().await;
    }
}
