//! Payments by a real process: what its tools say, its death between two steps, and what it writes.

use drain_mcp::points::Point;
use drain_sandbox::provider::Times;
use serde_json::{Value, json};

use super::{PRICE, credentials, received};
use crate::harness::usdc;
use crate::process_harness::served::{Client, Served};
use crate::process_harness::{Agent, Env, Greeting, until, world};
use crate::survivor::Life;

const LINES: Greeting = Greeting::Lines("2025-11-25");

/// The three tools and the quote, as a model reads them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tools_say_what_was_paid_to_whom() {
    let world = world().await;
    let mut agent = Agent::start(&Env::of(&world), LINES).await;
    let paid = &world.sandbox.paid;
    let (url, payee) = (format!("{}/x402v2/things", paid.url()), paid.payee().to_string());
    let quote = agent.ok("drain_quote", json!({ "request": { "url": url } })).await;
    for part in [PRICE, &payee, "x402v2", "chain 137", "At worst: exactly the price", "Nothing was paid"] {
        assert!(quote.text.contains(part), "{part}: {}", quote.text);
    }
    assert_eq!(quote.data["request"]["price"], PRICE);
    assert_eq!(credentials(paid).len(), 0);
    let bought = agent.ok("pay_request", json!({ "url": url })).await;
    let line = format!("Paid {PRICE} USDC to {payee} by x402v2, spent today {PRICE} USDC, receipt p1.");
    assert!(
        bought.text.contains("<untrusted source=\"server answer\">") && bought.text.contains(&line),
        "{}",
        bought.text
    );
    let asked = json!([{ "role": "user", "content": "Say hello" }]);
    let said =
        agent.ok("mpp_chat", json!({ "provider": "sim-mpp", "messages": asked, "model": "m", "maxTokens": 50 })).await;
    assert!(said.text.contains("by mpp") && !said.text.contains("choices"), "{}", said.text);
    let rest = agent.ok("mpp_request", json!({ "url": format!("{}/mpp/x", paid.url()), "body": { "a": 1 } })).await;
    assert!(rest.data["answer"].as_str().unwrap().contains("{\\\"a\\\":1}"), "{}", rest.text);
    // By MPP alone, whatever else is offered.
    agent.fails("mpp_request", json!({ "url": url }), "not_payable").await;
    let budget = agent.ok("drain_budget", json!({ "receipt": "p1" })).await;
    assert!(budget.text.contains("x402v2") && budget.text.contains(&payee.to_lowercase()), "{}", budget.text);
    let listed = agent.ok("drain_providers", json!({ "protocol": "mpp" })).await;
    assert!(listed.text.contains("sim-mpp") && listed.text.contains("mpp_chat"), "{}", listed.text);
    agent.fails("drain_open_channel", json!({ "provider": "sim-mpp", "amount": "1" }), "not_payable").await;
    assert_eq!(received(&world, paid.payee()).await, usdc("0.03"));
    let ended = agent.leave().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

/// M1, M15: a death between any two steps: no signature left without its record, nothing is paid twice under its name, and the
/// chain has the last word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m1_killed_between_any_two_steps_nothing_is_paid_twice() {
    for (point, sent) in [
        (Point::PaymentAuthorized, false),
        (Point::PaymentSigned, false),
        (Point::PaymentSent, true),
        (Point::PaymentEnded, true),
    ] {
        for way in ["mpp", "x402v2", "x402v1"] {
            let world = world().await;
            let paid = &world.sandbox.paid;
            let env = Env::of(&world);
            let wish = json!({ "url": format!("{}/{way}/x", paid.url()), "requestId": "one" });
            let deadly = env.clone().with("DRAIN_TEST_POINT", format!("{}=kill@1", point.name()));
            let mut life = Life::start(&deadly).await.unwrap();
            assert!(life.call("pay_request", wish.clone()).await.is_err(), "{point:?}");
            assert_eq!(life.end().await.0, Some(9));
            assert_eq!(credentials(paid).len(), usize::from(sent), "{point:?} {way}");
            assert_eq!(world.journaled("SELECT COUNT(*) FROM payments"), 1, "{point:?}: recorded before it was signed");

            let mut agent = Agent::start(&env, LINES).await;
            let again = agent.call("pay_request", wish.clone()).await;
            // Answered before it died, or nobody knows; never a second payment.
            let code = again.data["code"].as_str();
            assert!(
                matches!(code, None | Some("request_unknown" | "answer_lost" | "answer_not_kept")),
                "{point:?}: {}",
                again.text
            );
            assert_eq!(credentials(paid).len(), usize::from(sent), "{point:?} {way}");
            if !sent {
                world.advance(601).await;
            }
            until("the chain tells", async || world.journaled("SELECT confirmed FROM payments") == 1).await;
            let taken = if sent { usdc(PRICE).as_i64() } else { 0 };
            assert_eq!(world.journaled("SELECT COALESCE(SUM(charged), 0) FROM spent_by_day"), taken, "{point:?} {way}");
            assert_eq!(
                world.journaled("SELECT SUM(amount) FROM usage WHERE scope = 'all' AND \"window\" = 'day'"),
                taken
            );
            if !sent {
                // Never taken: the name is free for the first payment.
                agent.ok("pay_request", wish).await;
                assert_eq!(credentials(paid).len(), 1);
            }
            agent.leave().await;
        }
    }
}

/// M12: whoever sees a payment can use it once: it is in no log and no answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m12_no_payment_is_written_anywhere_but_to_its_server() {
    let world = world().await;
    let env = Env::of(&world).with("DRAIN_LOG", "trace").with("DRAIN_LOG_CONTENT", "on");
    let mut agent = Agent::start(&env, LINES).await;
    let mut said = String::new();
    for way in ["mpp", "x402v2", "x402v1"] {
        said += &agent.ok("pay_request", json!({ "url": format!("{}/{way}/x", world.sandbox.paid.url()) })).await.text;
    }
    let ended = agent.leave().await;
    let folder = world.home.path();
    let given = credentials(&world.sandbox.paid);
    assert_eq!(given.len(), 3);
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => folders.push(entry.path()),
                kind if kind.is_file() => files.extend(std::fs::read(entry.path()).unwrap()),
                _ => {}
            }
        }
    }
    let files = String::from_utf8_lossy(&files);
    for credential in given {
        let signature = drain_protocol::Address::from_slice(&credential.signature[..20]).to_string().to_lowercase();
        let signature = signature.trim_start_matches("0x");
        for text in [&said, &ended.stderr, files.as_ref()] {
            assert!(!text.to_lowercase().contains(signature));
        }
    }
}

/// An agent of a fleet pays within its own limits, and sees its own receipts alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_of_a_fleet_pays_within_its_own_limits() {
    let world = world().await;
    let served = Served::start(&Env::of(&world)).await;
    let ann = served.agent("ann", &["--max-per-request", "0.009999"]).await;
    let bob = served.agent("bob", &[]).await;
    let url = format!("{}/mpp/x", world.sandbox.paid.url());
    let ann = served.client(&ann, Client::stateless()).await;
    let bob = served.client(&bob, Client::stateless()).await;
    let wish = || json!({ "url": url });
    let over = ann.call("pay_request", wish()).await;
    assert_eq!(over.data["code"], "limit_reached", "{}", over.text);
    assert!(!bob.call("pay_request", wish()).await.is_error);
    let own: Value = bob.call("drain_budget", json!({})).await.data;
    assert_eq!(own["spent_today"], PRICE, "{own}");
    let others = ann.call("drain_budget", json!({ "receipt": "p1" })).await;
    assert_eq!(others.data["code"], "unknown_receipt", "{}", others.text);
    served.stop().await;
}

/// What others of the wallet met with is not an agent's to know: neither a payment nor a quote says why a host is set aside.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_of_a_fleet_hears_that_a_host_is_set_aside_and_not_by_whose_failures() {
    let world = world().await;
    let served = Served::start(&Env::of(&world)).await;
    let (ann, bob) = (served.agent("ann", &[]).await, served.agent("bob", &[]).await);
    let (ann, bob) = (served.client(&ann, Client::stateless()).await, served.client(&bob, Client::stateless()).await);
    let wish = json!({ "url": format!("{}/mpp/x", world.sandbox.paid.url()) });
    world.sandbox.paid.set(|faults| faults.fail_500 = Times::ALWAYS);
    for _ in 0..5 {
        bob.fails("pay_request", wish.clone(), "answer_lost").await;
    }
    super::resolved(&world).await;
    let told = "this provider is set aside: its record with this wallet is bad";
    let refused = ann.fails("pay_request", wish.clone(), "provider_set_aside").await;
    assert!(refused.text.contains(told), "{}", refused.text);
    let quote = ann.call("drain_quote", json!({ "request": wish })).await;
    assert_eq!(quote.data["request"]["refused"], told, "{}", quote.text);
    served.stop().await;
}
