//! Receipts: one for each paid request, with the answer that was paid for, as resource, tool and command, as JSON and CSV.

use drain_protocol::Usdc;
use drain_sandbox::provider::Times;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::usdc;
use crate::process_harness::{Agent, Env, Greeting, chat, until, vouchers, world};

const LINES: Greeting = Greeting::Lines("2025-11-25");

async fn listed(env: &Env, more: &[&str]) -> Vec<Value> {
    let args = [&["receipts", "--json"], more].concat();
    env.run(&args).await.ok_json()["receipts"].as_array().unwrap().clone()
}

fn sum(receipts: &[Value], column: &str) -> u64 {
    let amounts = receipts.iter().filter_map(|receipt| receipt[column].as_str());
    amounts.map(usdc).fold(Usdc::ZERO, Usdc::saturating_add).units()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_has_one_and_their_sums_are_the_providers_books() {
    let world = world().await;
    let env = Env::of(&world).with("DRAIN_AGENT", "clerk");
    let mut agent = Agent::start(&env, LINES).await;
    let id = agent.open("sim-llm", "1", "4h").await;
    let mut named = chat(&id, "hello");
    named["requestId"] = "=order 17".into();
    let paid = agent.ok("drain_chat", named).await;
    world.sandbox.llm.set(|faults| faults.overcharge = 7);
    agent.ok("drain_chat", chat(&id, "dear")).await;
    world.sandbox.llm.reset_faults();
    world.sandbox.llm.set(|faults| faults.rate_limited = Times::next(1));
    agent.fails("drain_chat", chat(&id, "too often"), "provider_refused").await;
    world.sandbox.llm.set(|faults| faults.fail_500 = Times::next(1));
    agent.fails("drain_chat", chat(&id, "fails"), "provider_failed").await;

    // Beside the process that has the wallet, over its socket; and as the agent sees them.
    let all = listed(&env, &[]).await;
    let outcomes: Vec<_> = all.iter().map(|receipt| receipt["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["answered", "answered", "not_charged", "unknown"]);
    let status = agent.ok("drain_channel_status", json!({ "channelId": id })).await.data;
    assert_eq!(sum(&all, "charged"), usdc(status["charged"].as_str().unwrap()).units());
    assert_eq!((sum(&all, "disputed"), status["disputed"].as_str()), (7, Some("0.000007")));
    for (receipt, sent) in all.iter().zip(vouchers(&world.sandbox.llm)) {
        let amount = usdc(receipt["voucher_amount"].as_str().unwrap()).units();
        assert_eq!((Some(amount), receipt["nonce"].as_u64()), (sent.amount, sent.nonce), "{receipt}");
        assert_eq!((&receipt["agent"], &receipt["provider"]), (&json!("clerk"), &json!("sim-llm")));
        assert_eq!((&receipt["model"], &receipt["channel"]), (&json!("sim-small"), &json!(id)));
    }
    let first = &all[0];
    let text = env.run(&["receipts", first["receipt"].as_str().unwrap(), "--json"]).await.ok_json();
    let content = text["answer"]["content"].as_str().unwrap();
    assert_eq!(first["receipt"], paid.data["payment"]["receipt"]);
    assert_eq!(first["answer_sha256"], format!("{:x}", Sha256::digest(content)));
    let person = env.run(&["receipts", first["receipt"].as_str().unwrap()]).await;
    assert!(person.stdout.contains(&format!("| {content}")), "{person:?}");

    for (more, count) in [
        (&["--limit", "2"][..], 2),
        (&["--provider", "sim-llm"], 4),
        (&["--provider", "nobody"], 0),
        (&["--channel", &id, "--since", "1h"], 4),
        (&["--since", "2096-01-01"], 0),
    ] {
        assert_eq!(listed(&env, more).await.len(), count, "{more:?}");
    }
    // The newest of them, oldest first.
    assert_eq!(listed(&env, &["--limit", "2"]).await, all[2..]);
    let csv = env.run(&["receipts", "--csv"]).await.stdout;
    let mut table = csv::Reader::from_reader(csv.as_bytes());
    let rows: Vec<std::collections::HashMap<String, String>> = table.deserialize().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 4);
    assert_eq!((&*rows[0]["request_id"], &*rows[0]["charged"]), ("'=order 17", first["charged"].as_str().unwrap()));

    let resource = agent.read("drain://receipts").await;
    assert!(all.iter().all(|receipt| resource.contains(receipt["receipt"].as_str().unwrap())), "{resource}");
    let one = agent.read(&format!("drain://receipts/{}", first["receipt"].as_str().unwrap())).await;
    assert!(one.contains("<untrusted") && one.contains(content), "{one}");
    let templates = agent.request("resources/templates/list", json!({})).await.unwrap();
    assert_eq!(templates["resourceTemplates"][0]["uriTemplate"], "drain://receipts/{receipt}");
    let tool = agent.ok("drain_budget", json!({ "receipt": first["receipt"] })).await;
    assert_eq!((&tool.data["answer"], &tool.data["receipts"][0]["receipt"]), (&json!(content), &first["receipt"]));
    assert_eq!(agent.ok("drain_budget", json!({})).await.data["receipts"].as_array().unwrap().len(), 4);
    for wrong in ["c99-1", "c1", "nothing"] {
        agent.fails("drain_budget", json!({ "receipt": wrong }), "unknown_receipt").await;
    }
    agent.leave().await;
    // Nobody has the wallet now, and the receipts are there.
    assert_eq!(listed(&env, &[]).await, all);
}

/// The caller has gone, the answer was paid for: it is not lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_whose_caller_has_gone_is_fetched_by_its_receipt() {
    let world = world().await;
    let env = Env::of(&world);
    let mut holder = Agent::start(&env, LINES).await;
    let id = holder.open("sim-llm", "1", "4h").await;
    let mut thin = Agent::start(&env, LINES).await;
    thin.ok("drain_channels", json!({})).await;
    world.sandbox.llm.set(|faults| faults.slow = Some(std::time::Duration::from_secs(1)));
    let cancelled =
        holder.ask("tools/call", json!({ "name": "drain_chat", "arguments": chat(&id, "cancelled") })).await;
    until("it has left", async || vouchers(&world.sandbox.llm).len() == 1).await;
    holder
        .send(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": cancelled } }))
        .await;
    thin.ask("tools/call", json!({ "name": "drain_chat", "arguments": chat(&id, "killed") })).await;
    until("it has left", async || vouchers(&world.sandbox.llm).len() == 2).await;
    thin.kill().await;
    until("both are answered", async || {
        listed(&env, &[]).await.iter().filter(|receipt| receipt["outcome"] == "answered").count() == 2
    })
    .await;
    for receipt in listed(&env, &[]).await {
        let fetched = holder.ok("drain_budget", json!({ "receipt": receipt["receipt"] })).await;
        assert!(!fetched.data["answer"].as_str().unwrap().is_empty(), "{}", fetched.text);
    }
    let books = world.sandbox.llm.books(id.parse().unwrap()).unwrap();
    assert_eq!(sum(&listed(&env, &[]).await, "charged"), books.total_charged);
    holder.leave().await;
}

/// The text goes, its hash and what it cost stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_answers_go_first_and_their_receipts_stay() {
    let world = world().await;
    let env = Env::of(&world).with("DRAIN_ANSWERS_MAX_BYTES", "2500");
    let mut agent = Agent::start(&env, LINES).await;
    let id = agent.open("sim-llm", "1", "4h").await;
    for number in 0..6 {
        agent.ok("drain_chat", chat(&id, &format!("hello {number}"))).await;
    }
    let all = listed(&env, &[]).await;
    let mut kept = Vec::new();
    for receipt in &all {
        let fetched = agent.ok("drain_budget", json!({ "receipt": receipt["receipt"] })).await;
        assert!(receipt["answer_sha256"].is_string() && receipt["charged"].is_string(), "{receipt}");
        kept.push(fetched.data["answer"].is_string());
    }
    assert!(!kept[0] && kept[5] && kept.is_sorted(), "{kept:?}");
    agent.leave().await;
}
