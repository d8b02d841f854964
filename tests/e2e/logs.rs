//! The log: one request's id from the tool call to voucher, provider and transaction; lines that machines read; and no word of
//! what agents ask, unless the operator wants it.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::process_harness::served::{Served, add_agent, call, initialize};
use crate::process_harness::{Agent, Env, Greeting, PATIENCE, chat, until, world};

const LINES: Greeting = Greeting::Lines("2025-11-25");
/// What the agent asks, and a part of what the sandbox's provider makes of it.
const ASKED: &str = "zebrawords";
const ANSWERED: &str = "Your message has 1 words";

/// A channel that an agent opened that has left.
async fn an_open_channel(env: &Env) -> String {
    let mut agent = Agent::start(env, LINES).await;
    let channel = agent.open("sim-llm", "1", "4h").await;
    agent.leave().await;
    channel
}

/// Each line is an object.
fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// The lines of one call, by what they say.
fn of_call<'a>(lines: &'a [Value], request: &str) -> Vec<(&'a str, &'a Value)> {
    let of = |line: &&Value| line["span"]["request"] == request;
    lines.iter().filter(of).map(|line| (line["message"].as_str().unwrap(), line)).collect()
}

/// The ids of a tool's calls, in their order.
fn calls_of(lines: &[Value], tool: &str) -> Vec<String> {
    let ended = |line: &&Value| line["message"] == "answered" && line["span"]["tool"] == tool;
    lines.iter().filter(ended).map(|line| line["span"]["request"].as_str().unwrap().to_owned()).collect()
}

fn field<'a>(told: &[(&str, &'a Value)], message: &str, name: &str) -> &'a Value {
    let (_, line) = told.iter().find(|(said, _)| *said == message).unwrap_or_else(|| panic!("no {message}: {told:#?}"));
    &line[name]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_id_goes_from_the_tool_call_to_voucher_provider_and_transaction() {
    let world = world().await;
    let env = Env::of(&world).with("DRAIN_LOG_FORMAT", "json").with("DRAIN_AGENT", "clerk");
    let served = Served::start(&env).await;
    let token = served.agent("writer", &[]).await;
    let agent = served.session(&token, "2025-11-25").await;
    let open = json!({ "provider": "sim-llm", "amount": "1", "duration": "4h" });
    let opened = agent.ok("drain_open_channel", open).await;
    let channel = opened.data["channel"]["channel_id"].as_str().unwrap().to_owned();
    agent.ok("drain_chat", chat(&channel, ASKED)).await;
    agent.ok("drain_cooperative_close", json!({ "channelId": channel })).await;
    let all = "the last answer is logged";
    until(all, async || calls_of(&lines(&served.stderr()), "drain_cooperative_close").len() == 1).await;
    let said = lines(&served.stderr());
    let [open, chat, close] = ["drain_open_channel", "drain_chat", "drain_cooperative_close"]
        .map(|tool| calls_of(&said, tool).pop().unwrap_or_else(|| panic!("no {tool}: {said:#?}")));

    let paid = of_call(&said, &chat);
    let told: Vec<&str> = paid.iter().map(|(what, _)| *what).collect();
    assert_eq!(told, ["voucher signed", "provider asked", "cost booked", "answered"]);
    let receipt = field(&paid, "voucher signed", "receipt");
    assert_eq!(receipt, field(&paid, "cost booked", "receipt"));
    for (what, line) in &paid[..3] {
        assert_eq!((&line["span"]["agent"], &line["span"]["tool"]), (&json!("writer"), &json!("drain_chat")), "{what}");
    }
    assert_eq!(field(&paid, "provider asked", "outcome"), "answered");
    assert!(field(&paid, "provider asked", "seconds").as_f64().is_some_and(|seconds| seconds > 0.0));

    // The transactions of an opening and a close, by the wallet's actor, and as the chain has them.
    for (request, kind) in [(&open, "open"), (&close, "cooperative_close")] {
        let told = of_call(&said, request);
        let hash = told.iter().find(|(what, line)| *what == "transaction signed" && line["kind"] == kind);
        let hash = hash.unwrap_or_else(|| panic!("no {kind}: {told:#?}")).1["transaction"].as_str().unwrap();
        for step in ["transaction sent", "transaction final"] {
            let is = |(what, line): &&(&str, &Value)| *what == step && line["transaction"] == hash;
            assert!(told.iter().any(|told| is(&told)), "{step} of {hash}: {told:#?}");
        }
        assert!(told.iter().all(|(_, line)| line["span"]["request"] == request.as_str()));
    }
    // The record knows the calls by the same ids.
    let recorded = async |request: &str| env.run(&["audit", "--json", "--request", request]).await.ok_json();
    let rows = recorded(&chat).await;
    let voucher = &rows["rows"][0];
    assert_eq!(json!(format!("{}-{}", voucher["intent"].as_str().unwrap(), voucher["nonce"])), *receipt, "{rows:#}");
    let rows = recorded(&open).await;
    let hash = field(&of_call(&said, &open), "transaction final", "transaction");
    assert!(rows["rows"].as_array().unwrap().iter().any(|row| row["hash"] == *hash), "{hash}: {rows:#}");
    assert!(!served.stderr().contains(ASKED), "no content unless it is asked for");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_work_of_a_thin_process_is_told_by_the_one_that_has_the_wallet() {
    let world = world().await;
    let env = Env::of(&world).with("DRAIN_LOG", "drain_mcp=info").with("DRAIN_LOG_FORMAT", "json");
    let mut holder = Agent::start(&env, LINES).await;
    let channel = holder.open("sim-llm", "1", "4h").await;
    let mut thin = Agent::start(&env.clone().with("DRAIN_AGENT", "guest"), LINES).await;
    thin.ok("drain_chat", chat(&channel, ASKED)).await;
    let (thin, holder) = (thin.leave().await, holder.leave().await);
    let call = calls_of(&lines(&thin.stderr), "drain_chat").pop().expect("the thin process tells of its call");
    let there = lines(&holder.stderr);
    let told = of_call(&there, &call);
    assert_eq!(
        told.iter().map(|(what, _)| *what).collect::<Vec<_>>(),
        ["voucher signed", "provider asked", "cost booked"]
    );
    assert!(told.iter().all(|(_, line)| line["span"]["agent"] == "guest" && line["span"]["tool"] == "drain_chat"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m12_what_is_asked_and_answered_is_logged_where_the_operator_wants_it_only() {
    let world = world().await;
    let env = Env::of(&world);
    let channel = an_open_channel(&env).await;
    for (content, level) in [("off", "trace"), ("on", "info")] {
        let env = env.clone().with("DRAIN_LOG", level).with("DRAIN_LOG_CONTENT", content);
        let mut agent = Agent::start(&env, LINES).await;
        let answer = agent.ok("drain_chat", chat(&channel, ASKED)).await;
        assert!(answer.text.contains(ANSWERED));
        let ended = agent.leave().await;
        let told = [ASKED, ANSWERED].map(|text| ended.stderr.contains(text));
        assert_eq!(told, [content == "on"; 2], "{content}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_is_an_object_whatever_is_said_and_by_whom() {
    let world = world().await;
    let env = Env::of(&world).with("DRAIN_LOG_FORMAT", "json").with("DRAIN_LOG", "error");
    add_agent(&env, "writer", &[]).await;
    let served = Served::start(&env).await;
    // An error that ends it, and remarks on the way: the port is taken.
    let port = served.url.rsplit_once(':').unwrap().1.to_owned();
    let home = tempfile::tempdir().unwrap();
    let other = env.clone().with("DRAIN_HOME", home.path().display().to_string());
    let failed = other.with("DRAIN_LISTEN", format!("127.0.0.1:{port}")).run(&["serve"]).await;
    assert_ne!(failed.code, Some(0));
    for text in [served.stderr(), failed.stderr] {
        let said = lines(&text);
        assert!(!said.is_empty());
        for line in said {
            assert!(
                line["message"].is_string() && line["timestamp"].is_string() && line["level"].is_string(),
                "{line}"
            );
        }
    }
    served.stop().await;
    for (name, value) in
        [("DRAIN_LOG_FORMAT", "xml"), ("DRAIN_LOG_CONTENT", "perhaps"), ("DRAIN_LOG", "drain_mcp=loud")]
    {
        let refused = Env::of(&world).with(name, value).run(&["channels"]).await;
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.contains(name), "{refused:?}");
    }
}

/// A service manager that hangs, or a client that leaves the other end alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_the_log_holds_up_no_payment() {
    let world = world().await;
    let channel = an_open_channel(&Env::of(&world)).await;
    // Some 4 KiB a chat: two dozen of them fill the pipe.
    let env = Env::of(&world).with("DRAIN_LOG", "drain_mcp=info").with("DRAIN_LOG_CONTENT", "on");
    let mut child = env.command(&[]).spawn().unwrap();
    let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut answers = BufReader::new(stdout).lines();
    let mut asked = vec![initialize("2025-11-25"), json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })];
    asked.extend((0..24).map(|id| call(id, "drain_chat", &chat(&channel, &"long ".repeat(800)))));
    for message in asked {
        stdin.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    }
    let all = async {
        for _ in 0..25 {
            let answer: Value = serde_json::from_str(&answers.next_line().await.unwrap().unwrap()).unwrap();
            assert!(answer["result"].is_object() && answer["result"]["isError"] != true, "{answer}");
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("all are answered");
    assert_eq!(world.sandbox.llm.books(channel.parse().unwrap()).unwrap().vouchers, 24);
}
