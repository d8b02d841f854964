//! The audit record: every decision about money with who asked, the rule and what came of it, as `drain-mcp audit` reads it.

use serde_json::{Value, json};

use crate::harness::usdc;
use crate::process_harness::{Agent, Env, Greeting, chat, until, world};

const LINES: Greeting = Greeting::Lines("2025-11-25");

async fn rows(env: &Env, more: &[&str]) -> Vec<Value> {
    let args = [&["audit", "--limit", "1000", "--json"], more].concat();
    env.run(&args).await.json()["rows"].as_array().unwrap().clone()
}

fn of<'a>(rows: &'a [Value], kind: &str, decision: &str) -> Vec<&'a Value> {
    rows.iter().filter(|row| row["kind"] == kind && row["decision"] == decision).collect()
}

/// USDC base units.
fn sum(rows: &[&Value], column: &str) -> i64 {
    rows.iter().filter_map(|row| row[column].as_str()).map(|text| usdc(text).as_i64()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_story_is_told_and_its_sums_are_those_of_chain_and_provider() {
    let world = world().await;
    let env = Env::of(&world).with("DRAIN_AGENT", "clerk");
    let mut agent = Agent::start(&env, LINES).await;
    let before = world.held().await;
    let id = agent.open("sim-llm", "1", "4h").await;
    for _ in 0..2 {
        agent.ok("drain_chat", chat(&id, "hello")).await;
    }
    world.sandbox.llm.set(|faults| faults.overcharge = 7);
    agent.call("drain_chat", chat(&id, "hello")).await;
    world.sandbox.llm.set(|faults| faults.overcharge = 0);
    // Refused by a rule that the journal does not see, and by one of the caller's own.
    let large = json!({ "provider": "sim-llm", "amount": "9", "duration": "4h" });
    agent.fails("drain_open_channel", large, "limit_reached").await;
    let mut dear = chat(&id, "hello");
    dear["maxCost"] = json!("0.000001");
    agent.fails("drain_chat", dear, "limit_reached").await;
    let books = world.sandbox.llm.books(id.parse().unwrap()).unwrap();

    // Beside the runtime that goes on writing. What costs nothing is written with the next commit.
    until("all of it is recorded", async || of(&rows(&env, &[]).await, "voucher", "refused").len() == 1).await;
    let told = rows(&env, &[]).await;
    let vouchers = of(&told, "voucher", "allowed");
    let settled = of(&told, "settlement", "recorded");
    assert_eq!((vouchers.len(), settled.len()), (3, 3), "{told:#?}");
    assert_eq!(sum(&vouchers, "growth"), i64::try_from(books.highest_voucher).unwrap());
    let status = agent.ok("drain_channel_status", json!({ "channelId": id })).await;
    assert_eq!(sum(&settled, "charged"), usdc(status.data["charged"].as_str().unwrap()).as_i64());
    assert_eq!(sum(&settled, "disputed"), usdc(status.data["disputed"].as_str().unwrap()).as_i64());
    assert!(sum(&settled, "disputed") > 0);
    for row in vouchers.iter().chain(&settled) {
        assert_eq!(
            (&row["agent"], &row["tool"], &row["provider"]),
            (&json!("clerk"), &json!("drain_chat"), &json!("sim-llm"))
        );
        assert_eq!(row["request"].as_str().unwrap().len(), 16);
    }
    // Each outcome names its decision, and both the call.
    for (voucher, outcome) in vouchers.iter().zip(&settled) {
        assert_eq!((&outcome["decided"], &outcome["request"]), (&voucher["seq"], &voucher["request"]));
    }
    let refused = of(&told, "opening", "refused");
    assert_eq!((refused.len(), &refused[0]["amount"]), (1, &json!("9.00")));
    assert!(refused[0]["outcome"].as_str().unwrap().contains("DRAIN_MAX_PER_CHANNEL"), "{refused:?}");
    assert_eq!(of(&told, "voucher", "refused").len(), 1);

    // One call, one agent, one kind, some rows.
    let call = vouchers[0]["request"].as_str().unwrap();
    assert_eq!(rows(&env, &["--request", call]).await.len(), 2);
    assert_eq!(rows(&env, &["--agent", "nobody"]).await.len(), 0);
    assert_eq!(rows(&env, &["--kind", "voucher"]).await.len(), 4);
    assert_eq!(rows(&env, &["--since", "1h"]).await.len(), told.len());
    assert_eq!(env.run(&["audit", "--limit", "2", "--json"]).await.json()["rows"][1], told[told.len() - 1]);
    let table = env.run(&["audit", "--kind", "voucher", "--csv"]).await.stdout;
    assert_eq!(table.lines().count(), 5, "{table}");
    assert!(table.starts_with("seq,at,kind,decision,rule,agent,tool,"), "{table}");
    assert_eq!(env.run(&["audit", "--csv", "--json"]).await.code, Some(2));
    assert_eq!(env.run(&["audit", "--since", "yesterday"]).await.code, Some(2));

    agent.ok("drain_cooperative_close", json!({ "channelId": id })).await;
    let told = rows(&env, &[]).await;
    let closed = of(&told, "closed", "recorded");
    let back = sum(&closed, "refunded");
    assert_eq!(before.as_i64() - world.held().await.as_i64(), usdc("1").as_i64() - back);
    assert_eq!(sum(&closed, "charged") + back, usdc("1").as_i64());
    let signed = of(&told, "cooperative_close", "allowed");
    assert!(signed.len() == 1 && signed[0]["hash"].as_str().unwrap().starts_with("0x"), "{signed:?}");
    agent.leave().await;
    // As a person reads it.
    let text = env.run(&["audit", "--kind", "closed"]).await.stdout;
    assert!(
        text.contains(" closed recorded  amount 1.00 ") && text.contains("for clerk  via drain_cooperative_close"),
        "{text}"
    );
}
