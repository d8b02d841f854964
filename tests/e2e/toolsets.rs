//! What a client is given: sets of tools, and prompts that go with them.

use serde_json::{Value, json};

use crate::process_harness::served::{STATELESS, Served, message_of};
use crate::process_harness::{Agent, Env, Greeting, world};
use crate::relay::{LINES, Relayed};
use crate::stdio::TOOLS;

const READ: [&str; 7] = [
    "drain_balance",
    "drain_budget",
    "drain_channel_status",
    "drain_channels",
    "drain_provider_info",
    "drain_providers",
    "drain_quote",
];

/// What a request of this generation carries.
fn params(stateless: bool, mut params: Value) -> Value {
    if stateless {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": STATELESS,
            "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
            "io.modelcontextprotocol/clientCapabilities": {},
        });
    }
    params
}

fn names(listed: &Value) -> Vec<String> {
    let mut names: Vec<String> =
        listed.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().into()).collect();
    names.sort_unstable();
    names
}

async fn tools(agent: &mut Agent, stateless: bool) -> Vec<String> {
    names(&agent.request("tools/list", params(stateless, json!({}))).await.unwrap()["tools"])
}

async fn prompts(agent: &mut Agent, stateless: bool) -> Vec<String> {
    names(&agent.request("prompts/list", params(stateless, json!({}))).await.unwrap()["prompts"])
}

/// M5: a client that may only look finds nothing that pays, and cannot call what it does not find.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m5_a_client_that_only_reads_finds_and_calls_nothing_else() {
    let world = world().await;
    for greeting in [LINES, Greeting::None] {
        let stateless = matches!(greeting, Greeting::None);
        // The flag is stronger than the variable.
        let env = Env::of(&world).with("DRAIN_TOOLS", "pay");
        for flags in [&["--read-only"][..], &["--tools", "read"][..]] {
            let mut agent = Agent::start_with(&env, flags, greeting).await;
            assert_eq!(tools(&mut agent, stateless).await, READ);
            assert_eq!(prompts(&mut agent, stateless).await, ["set_up_wallet", "what_did_i_spend"]);
            for hidden in TOOLS.iter().filter(|tool| !READ.contains(*tool)) {
                let call = params(stateless, json!({ "name": hidden, "arguments": {} }));
                let refused = agent.request("tools/call", call).await.unwrap_err();
                assert!(refused["message"].as_str().unwrap().contains("DRAIN_TOOLS"), "{hidden}: {refused}");
            }
            assert_eq!(agent.leave().await.code, Some(0));
        }
        let mut agent = Agent::start(&env, greeting).await;
        let pays = tools(&mut agent, stateless).await;
        let all_but: Vec<&str> =
            TOOLS.into_iter().filter(|tool| !["drain_approve", "drain_feedback"].contains(tool)).collect();
        assert_eq!(pays, all_but);
        assert_eq!(prompts(&mut agent, stateless).await.len(), 4);
        agent.leave().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_that_does_not_exist_is_told_before_anything_starts() {
    let world = world().await;
    let ended = Env::of(&world).run(&["--tools", "write"]).await;
    assert!(
        ended.code == Some(2) && ended.stderr.contains("--tools") && ended.stderr.contains("read, pay, all"),
        "{ended:?}"
    );
    let ended = Env::of(&world).with("DRAIN_TOOLS", "write").run(&["balance"]).await;
    assert!(ended.code != Some(0) && ended.stderr.contains("read, pay or all"), "{ended:?}");
    let ended = Env::of(&world).run(&["--tools", "read", "--read-only"]).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    // Whoever says it relies on it.
    for (args, said) in [
        (&["--read-only", "open", "sim-llm", "1"][..], "for MCP servers"),
        (&["--tools", "all", "balance"], "for MCP servers"),
        (&["--read-only", "serve", "--tools", "all"], "named twice"),
    ] {
        let ended = Env::of(&world).run(args).await;
        assert!(ended.code != Some(0) && ended.stderr.contains(said), "{ended:?}");
    }
    assert_eq!(world.sent().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_counts_before_and_after_the_command() {
    let world = world().await;
    for args in [&["--read-only", "serve"][..], &["serve", "--read-only"]] {
        let served = Served::start_with(&Env::of(&world).with("DRAIN_LISTEN", "127.0.0.1:0"), args).await;
        let token = served.agent(&format!("ann-{}", args[0].len()), &["--tools", "all"]).await;
        let session = served.session(&token, "2025-11-25").await;
        let listed = session.post(&json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" })).send().await.unwrap();
        assert_eq!(names(&message_of(listed).await["result"]["tools"]), READ, "{args:?}");
        served.stop().await;
    }
}

/// Of a fleet each agent has a set of its own, never more than the server gives; a thin process has what its server gives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agents_set_is_within_its_servers() {
    let world = world().await;
    let served = Served::start(&Env::of(&world).with("DRAIN_TOOLS", "pay")).await;
    for (name, flags, given) in
        [("ann", &["--tools", "read"][..], 7), ("bob", &["--tools", "all"][..], 14), ("eve", &[][..], 14)]
    {
        let token = served.agent(name, flags).await;
        let session = served.session(&token, "2025-11-25").await;
        let listed = session.post(&json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" })).send().await.unwrap();
        assert_eq!(names(&message_of(listed).await["result"]["tools"]).len(), given, "{name}");
        let relayed = Relayed::to(&served.url, &token);
        for greeting in [LINES, Greeting::None] {
            let stateless = matches!(greeting, Greeting::None);
            let mut agent = relayed.start(greeting).await;
            assert_eq!(tools(&mut agent, stateless).await.len(), given, "{name}");
            assert_eq!(prompts(&mut agent, stateless).await.len(), if given == 7 { 2 } else { 4 }, "{name}");
            agent.leave().await;
        }
    }
    served.stop().await;
}

/// A prompt is filled in over stdio, over HTTP and through a thin process, in both generations.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prompt_is_filled_in_wherever_it_is_asked_for() {
    let world = world().await;
    let served = Served::start(&Env::of(&world)).await;
    let token = served.agent("ann", &[]).await;
    let relayed = Relayed::to(&served.url, &token);
    let arguments = json!({ "question": "What is 2 + 2?", "max_price": "0.01" });
    for greeting in [LINES, Greeting::None] {
        let stateless = matches!(greeting, Greeting::None);
        let wanted = params(stateless, json!({ "name": "buy_one_answer", "arguments": arguments }));
        for env in [&Env::of(&world), &relayed.env] {
            let mut agent = Agent::start(env, greeting).await;
            let filled = agent.request("prompts/get", wanted.clone()).await.unwrap();
            let text = filled["messages"][0]["content"]["text"].as_str().unwrap();
            assert!(text.contains("0.01 USDC") && text.ends_with("What is 2 + 2?"), "{text}");
            let unknown = params(stateless, json!({ "name": "sell_everything" }));
            let unknown = agent.request("prompts/get", unknown).await.unwrap_err();
            assert!(unknown["message"].as_str().unwrap().contains("close_everything"), "{unknown}");
            agent.leave().await;
        }
    }
    let session = served.session(&token, "2025-11-25").await;
    let get = json!({ "jsonrpc": "2.0", "id": 1, "method": "prompts/get", "params": { "name": "close_everything" } });
    let filled = message_of(session.post(&get).send().await.unwrap()).await;
    assert!(filled["result"]["messages"][0]["content"]["text"].as_str().unwrap().contains("drain_cooperative_close"));
    served.stop().await;
}
