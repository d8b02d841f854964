//! What goes wrong once there is a credential.

use std::time::{Duration, Instant};

use alloy::primitives::B256;
use drain_sandbox::Times;
use serde_json::json;

use crate::world::{PRICE, World};

const PATHS: [&str; 3] = ["/mpp/a", "/x402v2/a", "/x402v1/a"];

#[tokio::test]
async fn a_failure_costs_over_mpp_and_may_cost_later_over_x402() {
    let world = World::new().await;
    for path in PATHS {
        let before = world.earned().await;
        world.paid().set(|faults| faults.fail_500 = Times::next(1));
        let reply = world.pay(path).await.unwrap();
        assert_eq!((reply.status, reply.json()), (500, json!({"err": "backend broke"})));
        assert_eq!(reply.transaction().is_some(), path == "/mpp/a");
        assert!(world.last_credential().verified);
        let taken = world.earned().await - before;
        assert_eq!(taken, if path == "/mpp/a" { PRICE } else { 0 });
        assert_eq!(world.pay(path).await.unwrap().status, 200, "once");
    }
    let before = world.earned().await;
    assert_eq!(world.paid().settle_held().await, 2);
    assert_eq!(world.earned().await, before + 2 * PRICE);
    assert!(world.paid().log().iter().filter_map(|request| request.credential.clone()).all(|c| c.settled.is_some()));
    assert_eq!(world.paid().settle_held().await, 0, "once");
}

#[tokio::test]
async fn money_taken_and_no_answer_or_a_strange_one() {
    let world = World::new().await;
    let mut earned = 0;
    for path in PATHS {
        world.paid().set(|faults| faults.cut_after_settle = Times::next(1));
        assert!(world.pay(path).await.is_err());
        earned += PRICE;
        assert_eq!((world.last().status, world.earned().await), (None, earned));
        assert!(world.last_credential().settled.is_some());

        world.paid().set(|faults| faults.greedy = Times::next(1));
        let greedy = world.pay(path).await.unwrap();
        earned += PRICE;
        assert_eq!((greedy.status, greedy.transaction(), world.earned().await), (402, None, earned));
        let again = world.header(&greedy, &world.words(&greedy, false), false);
        assert_eq!(world.send(path, Some(&again)).await.unwrap().status, 200, "the challenge is a good one");
        earned += PRICE;

        world.paid().set(|faults| faults.no_receipt = Times::next(1));
        let bare = world.pay(path).await.unwrap();
        earned += PRICE;
        assert_eq!((bare.status, bare.transaction(), world.earned().await), (200, None, earned));

        world.paid().set(|faults| faults.hang = Some(Duration::from_millis(300)));
        let header = world.ready(path).await;
        let start = Instant::now();
        let left = tokio::time::timeout(Duration::from_millis(200), world.send(path, Some(&header))).await;
        assert!(left.is_err());
        tokio::time::sleep(Duration::from_millis(300)).await;
        earned += PRICE;
        assert_eq!(world.earned().await, earned, "settled though the client has gone");
        assert_eq!(world.pay(path).await.unwrap().status, 200);
        assert!(start.elapsed() >= Duration::from_millis(800));
        earned += PRICE;
        world.paid().reset_faults();
    }
}

#[tokio::test]
async fn a_lie_names_a_transaction_that_is_none() {
    let world = World::new().await;
    for path in PATHS {
        world.paid().set(|faults| faults.lie = Times::next(1));
        let reply = world.pay(path).await.unwrap();
        let named: B256 = reply.transaction().unwrap();
        assert_eq!(reply.status, 200);
        let found = world.sandbox.observer().rpc().call("eth_getTransactionReceipt", json!([named])).await.unwrap();
        assert!(found.is_null());
        assert_eq!((world.last_credential().settled, world.last_credential().verified), (None, true));
    }
    assert_eq!(world.earned().await, 0);
    assert_eq!((world.paid().settle_held().await, world.earned().await), (3, 3 * PRICE));
}

#[tokio::test]
async fn answers_of_forty_megabytes() {
    let world = World::new().await;
    world.paid().set(|faults| faults.oversized = true);
    assert!(world.pay("/mpp/a").await.unwrap().text.len() > 40_000_000);
    let header = world.ready("/x402v2/chat/completions").await;
    let body = json!({"messages": [{"role": "user", "content": "hello"}]}).to_string();
    let reply = world.post("/x402v2/chat/completions", Some(&header), &body).await.unwrap();
    assert!(reply.text.len() > 40_000_000 && reply.text.contains("choices"));
    assert_eq!(world.earned().await, 2 * PRICE);
}

#[tokio::test]
async fn redirects() {
    let world = World::new().await;
    let elsewhere = "http://127.0.0.1:9/elsewhere";
    for path in PATHS {
        world.paid().set(|faults| faults.redirect = Some(elsewhere.into()));
        let reply = world.send(path, None).await.unwrap();
        assert_eq!((reply.status, reply.header("location")), (307, Some(elsewhere)));
        world.paid().reset_faults();
        world.paid().set(|faults| faults.redirect_paid = Some(elsewhere.into()));
        let reply = world.pay(path).await.unwrap();
        assert_eq!((reply.status, reply.header("location")), (307, Some(elsewhere)));
        world.paid().reset_faults();
    }
    assert_eq!(world.earned().await, 0);
    assert_eq!(world.paid().settle_held().await, 3, "whoever sees a credential can use it");
}

#[tokio::test]
async fn held_credentials_expire() {
    let world = World::new().await;
    world.paid().set(|faults| faults.fail_500 = Times::ALWAYS);
    assert_eq!(world.pay("/x402v2/a").await.unwrap().status, 500);
    world.sandbox.chain.as_ref().unwrap().advance(61);
    assert_eq!((world.paid().settle_held().await, world.earned().await), (0, 0));
}

#[tokio::test]
async fn a_server_that_is_down_resets() {
    let world = World::new().await;
    world.paid().set_down(true);
    assert!(world.send("/free/x", None).await.is_err());
    world.paid().set_down(false);
    assert_eq!(world.send("/free/x", None).await.unwrap().status, 200);
}
