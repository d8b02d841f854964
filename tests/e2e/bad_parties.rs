//! Nodes, directories and providers that fail or lie, seen over stdio: a clear error for each, no money moved or the
//! record of what moved, and the server goes on.

use std::time::Duration;

use drain_protocol::Usdc;
use drain_sandbox::chain::{FailKind, ForgedReceipt};
use drain_sandbox::directory::DirectoryFaults;
use drain_sandbox::provider::{Faults, ForgedHeaders, Times};
use serde_json::{Value, json};

use crate::harness::{World, usdc};
use crate::process_harness::{Agent, Env, Greeting, PATIENCE, chat, vouchers, world};

const NEWEST: Greeting = Greeting::Lines("2025-11-25");
/// Waits that a test can afford.
const QUICK: [(&str, &str); 4] = [
    ("DRAIN_RPC_TIMEOUT", "1500ms"),
    ("DRAIN_MARKETPLACE_TIMEOUT", "1500ms"),
    ("DRAIN_REQUEST_TIMEOUT", "5s"),
    ("DRAIN_TRANSACTION_TIMEOUT", "5s"),
];

fn impatient(world: &World) -> Env {
    QUICK.into_iter().fold(Env::of(world), |env, (name, value)| env.with(name, value))
}

async fn wallet(world: &World) -> Usdc {
    world.sandbox.observer().usdc_balance(world.sandbox.agent().address()).await.unwrap()
}

fn wish() -> Value {
    json!({ "provider": "sim-llm", "amount": "1", "duration": "4h" })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_fails() {
    let world = world().await;
    let node = world.chain().main();
    let mut agent = Agent::start(&impatient(&world), NEWEST).await;
    let id = agent.open("sim-llm", "1", "4h").await;
    let before = wallet(&world).await;
    type Break = fn(&mut drain_sandbox::chain::Faults);
    let cases: [(&str, Break); 3] = [
        ("slow beyond the limit", |faults| faults.hang = true),
        ("500", |faults| faults.fail_rate = 1.0),
        ("an error for all", |faults| (faults.fail_rate, faults.fail_kind) = (1.0, FailKind::RpcError)),
    ];
    for (what, fault) in cases {
        println!("===== {what}");
        node.update_faults(fault);
        // Paying needs no chain: it goes on whatever the node does.
        agent.ok("drain_chat", chat(&id, "hello")).await;
        agent.ok("drain_providers", json!({})).await;
        agent.fails("drain_balance", json!({}), "chain_unavailable").await;
        let wish = json!({ "provider": "sim-weather", "amount": "1", "duration": "4h" });
        let failed = agent.fails("drain_open_channel", wish, "chain_unavailable").await;
        assert_eq!(failed.data["money"]["state"], "not_spent", "{what}: {}", failed.text);
        node.set_faults(drain_sandbox::chain::Faults::default());
        assert_eq!(wallet(&world).await, before, "{what}");
    }
    agent.ok("drain_balance", json!({})).await;
    agent.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_not_there_or_no_node() {
    let world = world().await;
    let no_node = world.sandbox.llm.url();
    for url in ["http://127.0.0.1:9", no_node.as_str()] {
        let mut agent = Agent::start(&impatient(&world).with("DRAIN_RPC_URL", url), NEWEST).await;
        agent.ok("drain_providers", json!({})).await;
        agent.fails("drain_balance", json!({}), "chain_unavailable").await;
        let failed = agent.fails("drain_open_channel", wish(), "chain_unavailable").await;
        assert_eq!(failed.data["money"]["state"], "not_spent", "{}", failed.text);
        assert_eq!(agent.leave().await.code, Some(0));
    }
    // Another chain than the one that is configured: said with both numbers, before any key is used.
    world.chain().main().update_faults(|faults| faults.wrong_chain_id = Some(80_002));
    let mut agent = Agent::start(&impatient(&world), NEWEST).await;
    for (tool, arguments) in [("drain_balance", json!({})), ("drain_open_channel", wish())] {
        let failed = agent.fails(tool, arguments, "wrong_chain").await;
        assert!(failed.text.contains("137") && failed.text.contains("80002"), "{}", failed.text);
    }
    agent.leave().await;
    assert_eq!(wallet(&world).await, usdc("100"));
}

/// M7: only the events count, not the word "success".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lies_about_a_receipt() {
    for lie in [ForgedReceipt::Failure, ForgedReceipt::Logs] {
        println!("===== {lie:?}");
        let world = world().await;
        let mut agent = Agent::start(&impatient(&world), NEWEST).await;
        // The allowance is there already: the lie concerns the opening.
        agent.ok("drain_approve", json!({ "amount": "5" })).await;
        world.chain().main().update_faults(|faults| faults.forged_receipt = Some(lie));
        let failed = agent.call("drain_open_channel", wish()).await;
        assert!(failed.is_error, "{}", failed.text);
        assert_ne!(failed.data["money"]["state"], "not_spent", "something was sent: {}", failed.text);
        let listed = agent.ok("drain_channels", json!({})).await;
        assert!(!listed.text.contains("\"state\":\"open\""), "{}", listed.text);
        assert_eq!(vouchers(&world.sandbox.llm).len(), 0);
        agent.leave().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_fails() {
    type Break = fn(&mut DirectoryFaults);
    let cases: [(&str, Break); 5] = [
        ("down", |faults| faults.down = true),
        ("malformed", |faults| faults.malformed = true),
        ("a web page", |faults| faults.html = true),
        ("huge", |faults| faults.huge = Some(40 << 20)),
        ("silent", |faults| faults.hang = true),
    ];
    let world = world().await;
    let directory = &world.sandbox.directory;
    for (what, fault) in cases {
        println!("===== {what}");
        directory.set(fault);
        let mut agent = Agent::start(&impatient(&world), NEWEST).await;
        for (tool, arguments) in [
            ("drain_providers", json!({})),
            ("drain_provider_info", json!({ "provider": "sim-llm" })),
            ("drain_open_channel", wish()),
        ] {
            let failed = agent.fails(tool, arguments, "directory_unavailable").await;
            assert_eq!(failed.data["money"]["state"], "not_spent", "{what}: {}", failed.text);
        }
        agent.ok("drain_balance", json!({})).await;
        directory.set(|faults| *faults = DirectoryFaults::default());
        // The same process finds it again, and then serves what it knows while the directory is away.
        agent.ok("drain_providers", json!({})).await;
        directory.set(fault);
        let stale = agent.ok("drain_providers", json!({})).await;
        assert_eq!(stale.data["stale"], true, "{what}: {}", stale.data);
        assert!(stale.text.contains("older copy"), "{}", stale.text);
        directory.set(|faults| *faults = DirectoryFaults::default());
        assert_eq!(agent.leave().await.code, Some(0));
    }
    directory.set_down(true);
    let mut agent = Agent::start(&impatient(&world), NEWEST).await;
    agent.fails("drain_providers", json!({}), "directory_unavailable").await;
    agent.leave().await;
    assert_eq!(wallet(&world).await, usdc("100"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_fails() {
    type Break = fn(&mut Faults);
    let cases: [(&str, Break, &[&str]); 9] = [
        ("never ends", |faults| faults.endless_body = Times::ALWAYS, &["answer_lost"]),
        ("never answers", |faults| faults.hang = Times::ALWAYS, &["answer_lost"]),
        ("too large", |faults| faults.oversized_body = Some(40 << 20), &["answer_lost"]),
        ("cut before", |faults| faults.cut_before_answer = Times::ALWAYS, &["answer_lost"]),
        ("cut within", |faults| faults.cut_mid_body = Times::ALWAYS, &["answer_lost"]),
        ("500", |faults| faults.fail_500 = Times::ALWAYS, &["provider_failed", "provider_refused"]),
        ("429", |faults| faults.rate_limited = Times::ALWAYS, &["provider_refused"]),
        ("a redirect", |faults| faults.redirect = Some((307, "http://127.0.0.1:9/".into())), &["answer_lost"]),
        ("refuses", |faults| faults.validation_error = Times::ALWAYS, &["provider_refused"]),
    ];
    let world = world().await;
    let llm = &world.sandbox.llm;
    let mut agent = Agent::start(&impatient(&world), NEWEST).await;
    let mut outcomes = Vec::new();
    for (what, fault, codes) in cases {
        println!("===== {what}");
        let id = agent.open("sim-llm", "0.5", "4h").await;
        // One answer more than failures: it is not set aside for them.
        agent.ok("drain_chat", chat(&id, "before")).await;
        llm.set(fault);
        let started = std::time::Instant::now();
        let failed = agent.call("drain_chat", chat(&id, "hello")).await;
        assert!(started.elapsed() < PATIENCE / 2, "{what}");
        assert!(failed.is_error, "{what}: {}", failed.text);
        let code = failed.data["code"].as_str().unwrap().to_owned();
        assert!(codes.contains(&code.as_str()), "{what}: {}", failed.text);
        assert_ne!(failed.data["money"]["state"], "not_spent", "a voucher left: {}", failed.text);
        outcomes.push(format!("{what}: {code} {}", failed.data["money"]));
        llm.reset_faults();
        // The record holds what it may cost, and the channel goes on.
        let status = agent.ok("drain_channel_status", json!({ "channelId": id })).await;
        let signed = usdc(status.data["signed"].as_str().unwrap());
        let sent = vouchers(llm);
        let highest = sent.iter().filter(|sent| sent.channel == id).filter_map(|sent| sent.amount).max();
        assert_eq!(Some(signed.units()), highest, "{what}: {}", status.text);
        agent.ok("drain_chat", chat(&id, "again")).await;
        agent.ok("drain_cooperative_close", json!({ "channelId": id })).await;
    }
    println!("{}", outcomes.join("\n"));
    agent.leave().await;
}

/// It was billed and the cost is stated: what came belongs to the caller, with a remark. Without a cost it is a failure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_answers_html_or_nothing() {
    type Break = fn(&mut Faults);
    let cases: [(&str, Break); 2] = [
        ("HTML", |faults| faults.html_answer = Times::ALWAYS),
        ("nothing", |faults| faults.empty_answer = Times::ALWAYS),
    ];
    let world = world().await;
    let llm = &world.sandbox.llm;
    let mut agent = Agent::start(&impatient(&world), NEWEST).await;
    for (what, fault) in cases {
        let id = agent.open("sim-llm", "0.5", "4h").await;
        llm.set(fault);
        let paid = agent.ok("drain_chat", chat(&id, "hello")).await;
        assert!(paid.text.contains("the answer is no JSON of the agreed form"), "{what}: {}", paid.text);
        let billed = llm.books(id.parse().unwrap()).unwrap().total_charged;
        assert_eq!(usdc(paid.data["payment"]["cost"].as_str().unwrap()).units(), billed, "{what}");

        llm.set(|faults| faults.forged_headers.omit = true);
        let failed = agent.call("drain_chat", chat(&id, "hello")).await;
        assert!(failed.is_error, "{what}: {}", failed.text);
        assert_eq!(failed.data["money"]["state"], "reserved", "{what}: {}", failed.text);
        llm.reset_faults();
        agent.ok("drain_chat", chat(&id, "hello")).await;
        agent.ok("drain_cooperative_close", json!({ "channelId": id })).await;
    }
    agent.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_with_nonsense_in_its_headers() {
    let world = world().await;
    let mut agent = Agent::start(&impatient(&world), NEWEST).await;
    let id = agent.open("sim-llm", "1", "4h").await;
    for text in ["", "-5", "abc", "1e9", "0.5", "NaN", "18446744073709551616", &"9".repeat(5_000)] {
        let some = Some(text.to_owned());
        let forged = ForgedHeaders { cost: some.clone(), total: some.clone(), remaining: some, omit: false };
        world.sandbox.llm.set(|faults| faults.forged_headers = forged);
        let before = agent.ok("drain_channel_status", json!({ "channelId": id })).await;
        let answer = agent.call("drain_chat", chat(&id, "hello")).await;
        let after = agent.ok("drain_channel_status", json!({ "channelId": id })).await;
        let grown = |field: &str| {
            let of = |data: &Value| usdc(data[field].as_str().unwrap());
            of(&after.data).checked_sub(of(&before.data)).unwrap()
        };
        // The true cost is 45 units or a little more; the bound of such a request is below a tenth of a cent.
        assert!(grown("charged") < usdc("0.001") && grown("signed") < usdc("0.0011"), "{text}: {}", answer.text);
    }
    agent.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_is_not_there() {
    let world = world().await;
    // Nothing here waits for the chain: a slow machine is no reason to say that a close is pending.
    let env = impatient(&world).with("DRAIN_TRANSACTION_TIMEOUT", "60s");
    let mut agent = Agent::start(&env, NEWEST).await;
    let id = agent.open("sim-llm", "1", "4h").await;
    world.sandbox.llm.set_down(true);
    world.sandbox.data.set(|faults| faults.pricing_down = true);
    world.sandbox.image.set(|faults| faults.pricing_garbage = true);
    let before = wallet(&world).await;
    for provider in ["sim-llm", "sim-weather", "sim-image"] {
        let wish = json!({ "provider": provider, "amount": "1", "duration": "4h" });
        let failed = agent.fails("drain_open_channel", wish, "provider_unreachable").await;
        assert_eq!(failed.data["money"]["state"], "not_spent", "{}", failed.text);
    }
    assert_eq!(wallet(&world).await, before);
    let failed = agent.call("drain_chat", chat(&id, "hello")).await;
    assert!(failed.is_error, "{}", failed.text);
    // No other provider can close this channel: the advice is the one that works.
    let failed = agent.fails("drain_cooperative_close", json!({ "channelId": id }), "provider_unreachable").await;
    assert!(
        failed.text.contains("drain_close_channel") && !failed.text.contains("another provider"),
        "{}",
        failed.text
    );
    world.sandbox.llm.set_down(false);
    agent.ok("drain_chat", chat(&id, "hello")).await;
    tokio::time::timeout(Duration::from_secs(30), agent.leave()).await.unwrap();
}
