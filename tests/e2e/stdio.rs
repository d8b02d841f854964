//! MCP over the pipes of a real process, in every generation of the protocol that clients speak.

use std::time::Duration;

use drain_mcp::mcp::answer::PLAY_MONEY;
use serde_json::{Value, json};

use crate::harness::{World, usdc};
use crate::process_harness::{Agent, Answer, Ended, Env, Greeting, PATIENCE, chat, until, vouchers, world};
use crate::schema;

/// Upstream's tools and our own, by name.
pub const TOOLS: [&str; 16] = [
    "drain_approve",
    "drain_balance",
    "drain_budget",
    "drain_channel_status",
    "drain_channels",
    "drain_chat",
    "drain_close_channel",
    "drain_cooperative_close",
    "drain_feedback",
    "drain_open_channel",
    "drain_provider_info",
    "drain_providers",
    "drain_quote",
    "mpp_chat",
    "mpp_request",
    "pay_request",
];
const NEWEST: Greeting = Greeting::Lines("2025-11-25");

/// stdout belongs to the protocol: one JSON-RPC message a line.
fn only_messages(ended: &Ended) {
    assert!(!ended.stdout.is_empty());
    for line in ended.stdout.lines() {
        let message: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert_eq!(message["jsonrpc"], "2.0", "{line}");
    }
}

/// Calls tools and checks what is true of each answer.
struct Checked {
    agent: Agent,
    tools: Vec<Value>,
}

impl Checked {
    async fn start(env: &Env, greeting: Greeting) -> Self {
        let mut agent = Agent::start(env, greeting).await;
        let tools = agent.tools().await;
        Self { agent, tools }
    }

    fn check(&self, tool: &str, answer: &Answer) {
        assert!(answer.text.starts_with(PLAY_MONEY), "{}", answer.text);
        assert_eq!(answer.data["play_money"], true, "{}", answer.data);
        let listed = self.tools.iter().find(|listed| listed["name"] == tool).unwrap();
        schema::fits(&listed["outputSchema"], &answer.data);
    }

    async fn ok(&mut self, tool: &str, arguments: Value) -> Answer {
        let answer = self.agent.ok(tool, arguments).await;
        self.check(tool, &answer);
        answer
    }

    async fn fails(&mut self, tool: &str, arguments: Value, code: &str) {
        let answer = self.agent.fails(tool, arguments, code).await;
        self.check(tool, &answer);
    }
}

fn listed_in(page: &Value, id: &str) -> bool {
    page["rows"].as_array().unwrap().iter().any(|row| row[0] == id)
}

fn ends_with_the_receipt(paid: &Answer) {
    let line = paid.last_line();
    let payment = &paid.data["payment"];
    let of = |field: &str| payment[field].as_str().unwrap().to_owned();
    assert!(
        line.starts_with(&format!("Paid {} USDC, channel left {} USDC until ", of("cost"), of("channel_left"))),
        "{line}"
    );
    assert!(line.ends_with(&format!(", spent today {} USDC, receipt {}.", of("spent_today"), of("receipt"))), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tools_are_upstreams_and_our_own() {
    let world = world().await;
    for greeting in [Greeting::Lines("2024-11-05"), NEWEST, Greeting::Initialize, Greeting::Discover] {
        let mut agent = Agent::start(&Env::of(&world), greeting).await;
        let tools = agent.tools().await;
        let mut names: Vec<&str> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names, TOOLS, "{greeting:?}");
        for tool in &tools {
            assert!(tool["title"].is_string() && tool["description"].is_string(), "{tool}");
            assert_eq!(tool["inputSchema"]["type"], "object", "{tool}");
            assert_eq!(tool["outputSchema"]["type"], "object", "{tool}");
            for hint in ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"] {
                assert!(tool["annotations"][hint].is_boolean(), "{hint} of {tool}");
            }
        }
        only_messages(&agent.leave().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_life_in_each_generation() {
    for greeting in [
        Greeting::Lines("2024-11-05"),
        Greeting::Lines("2025-03-26"),
        Greeting::Lines("2025-06-18"),
        Greeting::Lines("2025-11-25"),
        Greeting::Initialize,
        Greeting::Discover,
    ] {
        println!("===== {greeting:?}");
        let world = world().await;
        let mut agent = Checked::start(&Env::of(&world), greeting).await;
        life(&mut agent, &world).await;
        let ended = agent.agent.leave().await;
        assert_eq!(ended.code, Some(0));
        only_messages(&ended);
    }
}

/// Three calls from nothing to an answer: what it would cost, the answer with a channel opened for it, what is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_short_way_in_each_generation() {
    for greeting in [NEWEST, Greeting::Initialize, Greeting::Discover] {
        let world = world().await;
        let mut agent = Checked::start(&Env::of(&world), greeting).await;
        let ask = json!({ "provider": "sim-llm", "model": "sim-small", "messages": [{ "role": "user", "content": "Hello" }] });
        agent.fails("drain_chat", ask.clone(), "channel_needed").await;
        let quote = agent.ok("drain_quote", ask.clone()).await;
        assert_eq!(quote.data["opens"]["allowed"], false, "{}", quote.data);
        assert!(quote.text.contains("maxDeposit \"0.50\""), "{}", quote.text);
        let mut with_deposit = ask.clone();
        with_deposit["maxDeposit"] = quote.data["opens"]["deposit"].clone();
        let paid = agent.ok("drain_chat", with_deposit).await;
        ends_with_the_receipt(&paid);
        let quote = agent.ok("drain_quote", ask.clone()).await;
        assert_eq!(quote.data["channel"]["channel_id"], paid.data["payment"]["channel_id"]);
        agent.ok("drain_chat", ask).await;
        let budget = agent.ok("drain_budget", json!({})).await;
        let hour = budget.data["limits"].as_array().unwrap().iter().find(|line| line["name"] == "per_hour").unwrap();
        assert_ne!(hour["used"], "0.00 USDC", "{hour}");
        for bad in [
            json!({ "provider": "sim-llm", "channelId": paid.data["payment"]["channel_id"], "model": "m", "messages": "hi" }),
            json!({ "model": "sim-small", "messages": [{ "role": "user", "content": "Hello" }] }),
            json!({ "channelId": paid.data["payment"]["channel_id"], "maxDeposit": "1", "model": "sim-small", "messages": [] }),
        ] {
            agent.fails("drain_chat", bad.clone(), "invalid_argument").await;
            agent.fails("drain_quote", bad, "invalid_argument").await;
        }
        only_messages(&agent.agent.leave().await);
    }
}

async fn life(agent: &mut Checked, world: &World) {
    let observer = world.sandbox.observer();
    let wallet = world.sandbox.agent().address();
    let before = observer.usdc_balance(wallet).await.unwrap();

    let page = agent.ok("drain_providers", json!({ "onlineOnly": true, "model": "sim-small" })).await;
    assert!(listed_in(&page.data, "sim-llm") && !listed_in(&page.data, "sim-image"), "{}", page.data);
    let info = agent.ok("drain_provider_info", json!({ "provider": "sim-llm" })).await;
    assert!(info.text.contains("Agent Instructions"), "{}", info.text);
    let balance = agent.ok("drain_balance", json!({})).await;
    assert_eq!(balance.data["usdc"], before.to_string());
    let approved = agent.ok("drain_approve", json!({ "amount": "3" })).await;
    assert_eq!(approved.data["allowance"], "3.00");

    let wish = json!({ "provider": "sim-llm", "amount": "1.5", "duration": "4h" });
    let opened = agent.ok("drain_open_channel", wish).await;
    assert!(opened.text.contains("<untrusted") && opened.text.contains("Next: drain_chat"), "{}", opened.text);
    assert_eq!(observer.total_locked().await.unwrap(), usdc("1.5"));
    let id = opened.data["channel"]["channel_id"].as_str().unwrap().to_owned();
    let paid = agent.ok("drain_chat", chat(&id, "Say hello")).await;
    assert_eq!(paid.data["outcome"], "answered");
    ends_with_the_receipt(&paid);
    let status = agent.ok("drain_channel_status", json!({ "channelId": id })).await;
    assert_eq!(status.data["charged"], paid.data["payment"]["cost"]);
    let channels = agent.ok("drain_channels", json!({})).await;
    assert_eq!(channels.data["channels"][0]["channel_id"], *id);
    agent.ok("drain_feedback", json!({ "providerId": "sim-llm", "outcome": "success" })).await;
    assert_eq!(world.sandbox.directory.feedback().len(), 1);
    let closed = agent.ok("drain_cooperative_close", json!({ "channelId": id })).await;
    assert_eq!(observer.total_locked().await.unwrap(), usdc("0"));
    let after = observer.usdc_balance(wallet).await.unwrap();
    assert_eq!(before.checked_sub(after).unwrap(), usdc(closed.data["paid"].as_str().unwrap()));

    // The older contract: a session fee, and the rest comes back at expiry.
    let wish = json!({ "provider": "sim-llm-v1", "amount": "0.5", "duration": "2h" });
    let opened = agent.ok("drain_open_channel", wish).await;
    assert_eq!(opened.data["session_fee"], "0.01");
    let id = opened.data["channel"]["channel_id"].as_str().unwrap().to_owned();
    agent.fails("drain_close_channel", json!({ "channelId": id }), "not_expired").await;
    world.advance(7_200).await;
    let closed = agent.ok("drain_close_channel", json!({ "channelId": id })).await;
    assert_eq!(closed.data["refund"], "0.50");
    let last = observer.usdc_balance(wallet).await.unwrap();
    assert_eq!(after.checked_sub(last).unwrap(), usdc("0.01"));

    let address = wallet.to_string();
    for (uri, part) in [("drain://wallet", address.as_str()), ("drain://providers", "sim-llm")] {
        let text = agent.agent.read(uri).await;
        assert!(text.starts_with(PLAY_MONEY) && text.contains(part), "{uri}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_comes_to_who_asked_for_it_and_before_the_answer() {
    let world = world().await;
    let mut agent = Agent::start(&Env::of(&world), NEWEST).await;
    let arguments = json!({ "provider": "sim-llm", "amount": "1", "duration": "4h" });
    let params = json!({ "name": "drain_open_channel", "arguments": arguments, "_meta": { "progressToken": "p-7" } });
    agent.request("tools/call", params).await.unwrap();
    agent.progress_said("p-7");
    agent.ok("drain_approve", json!({ "amount": "2" })).await;
    assert_eq!(agent.notifications, Vec::<Value>::new());
    agent.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_chat_is_not_answered_but_settled() {
    let world = world().await;
    let mut agent = Agent::start(&Env::of(&world), NEWEST).await;
    let id = agent.open("sim-llm", "1", "4h").await;
    world.sandbox.llm.set(|faults| faults.slow = Some(Duration::from_millis(700)));
    let asked = agent.ask("tools/call", json!({ "name": "drain_chat", "arguments": chat(&id, "hi") })).await;
    until("the provider has it", async || vouchers(&world.sandbox.llm).len() == 1).await;
    let params = json!({ "requestId": asked, "reason": "changed my mind" });
    agent.send(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params })).await;
    // While it runs on, others are answered.
    let status = agent.ok("drain_channel_status", json!({ "channelId": id })).await;
    assert_ne!(status.data["in_flight"], "0.00", "{}", status.data);
    let settled = tokio::time::timeout(PATIENCE, async {
        loop {
            let status = agent.ok("drain_channel_status", json!({ "channelId": id })).await;
            if status.data["in_flight"] == "0.00" {
                break status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let settled = settled.await.expect("the request that nobody waits for is settled");
    assert_eq!(settled.data["requests"], 1, "{}", settled.data);
    assert_ne!(settled.data["charged"], "0.00", "{}", settled.data);
    assert!(agent.notifications.is_empty(), "{:?}", agent.notifications);
    let ended = agent.leave().await;
    let answers = ended.stdout.lines().filter(|line| serde_json::from_str::<Value>(line).unwrap()["id"] == asked);
    assert_eq!(answers.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_goes_to_stderr_and_holds_no_secret() {
    let world = world().await;
    let env = Env::of(&world);
    let key = env.get("DRAIN_PRIVATE_KEY").trim_start_matches("0x").to_owned();
    let url = env.get("DRAIN_RPC_URL").replace("http://", "http://rpcuser:rpcpassword@") + "/?apikey=rpctoken";
    let env = env.with("DRAIN_RPC_URL", url).with("DRAIN_LOG", "trace").with("DRAIN_LOG_CONTENT", "on");
    let mut agent = Agent::start(&env, NEWEST).await;
    let id = agent.open("sim-llm", "1", "4h").await;
    agent.ok("drain_chat", chat(&id, "Say hello")).await;
    world.chain().main().update_faults(|faults| faults.fail_next = 50);
    agent.call("drain_balance", json!({})).await;
    world.chain().main().update_faults(|faults| faults.fail_next = 0);
    let header = vouchers(&world.sandbox.llm)[0].header.clone().unwrap();
    let voucher: Value = serde_json::from_str(&header).unwrap();
    let signature = voucher["signature"].as_str().unwrap().trim_start_matches("0x").to_owned();
    let ended = agent.leave().await;
    assert!(ended.stderr.lines().count() > 20, "there is a log to look into:\n{}", ended.stderr);
    only_messages(&ended);
    // The last one is user and password as a header carries them.
    for secret in [key.as_str(), "rpcuser", "rpcpassword", "rpctoken", &signature, "cnBjdXNlcjpycGNwYXNzd29yZA"] {
        let everything = ended.everything().to_lowercase();
        let at = everything.find(&secret.to_lowercase());
        assert!(at.is_none(), "{secret} in …{}…", &everything[at.unwrap().saturating_sub(300)..at.unwrap() + 20]);
    }
}

/// Every string within a value.
fn strings(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(strings).collect(),
        Value::Object(fields) => fields.values().flat_map(strings).collect(),
        _ => Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_wrote_is_fenced_and_named() {
    let world = world().await;
    world.sandbox.directory.set(|faults| faults.hostile = true);
    world.sandbox.llm.set(|faults| (faults.hostile_docs, faults.hostile_answer) = (true, true));
    let mut agent = Checked::start(&Env::of(&world), NEWEST).await;
    let mut answers = vec![
        agent.ok("drain_providers", json!({ "format": "full" })).await,
        agent.ok("drain_provider_info", json!({ "provider": "sim-llm" })).await,
        agent.ok("drain_open_channel", json!({ "provider": "sim-llm", "amount": "1", "duration": "4h" })).await,
    ];
    let id = answers[2].data["channel"]["channel_id"].as_str().unwrap().to_owned();
    answers.push(agent.ok("drain_chat", chat(&id, "Say hello")).await);
    for answer in &answers {
        assert!(answer.text.contains("<untrusted"), "{}", answer.text);
        assert!(answer.data["untrusted"].as_array().is_some_and(|fields| !fields.is_empty()), "{}", answer.data);
        let steers = |c: char| c == '\u{202e}' || c.is_control() && c != '\n' && c != '\t';
        assert!(!answer.text.contains(steers), "{:?}", answer.text);
        assert!(!strings(&answer.data).iter().any(|text| text.contains(steers)), "{}", answer.data);
        let opened = answer.text.matches("<untrusted").count();
        assert_eq!(opened, answer.text.matches("</untrusted").count(), "{}", answer.text);
    }
    agent.agent.leave().await;
}
