//! Credentials that are not taken: refused with a fresh challenge, and no money moves.

use alloy::primitives::{Address, B256, U256};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use drain_protocol::Usdc;
use serde_json::{Value, json};

use crate::world::{PRICE, Words, World};

type Change = fn(&mut Words, u64);

const AMOUNT: Change = |words, _| words.value -= U256::ONE;
const OVERPAID: Change = |words, _| words.value += U256::ONE;
const PAYEE: Change = |words, _| words.to = Address::repeat_byte(9);
const EXPIRED: Change = |words, now| words.valid_before = now;
const EARLY: Change = |words, now| words.valid_after = now + 30;
const STRANGER: Change = |words, _| words.from = Address::repeat_byte(8);

#[tokio::test]
async fn mpp() {
    let world = World::new().await;
    let wrong: [(Change, &str); 7] = [
        (AMOUNT, "amount mismatch"),
        (OVERPAID, "amount mismatch"),
        (PAYEE, "recipient mismatch"),
        (EXPIRED, "has expired"),
        (EARLY, "is not valid yet"),
        (STRANGER, "signature mismatch"),
        (|words, _| words.nonce = B256::random(), "challenge hash mismatch"),
    ];
    for (change, detail) in wrong {
        let asked = world.unpaid("/mpp/a").await;
        let mut words = world.words(&asked, false);
        change(&mut words, world.now());
        let reply = world.send("/mpp/a", Some(&world.header(&asked, &words, false))).await.unwrap();
        assert_eq!((reply.status, reply.problem().as_str()), (402, "verification-failed"), "{detail}");
        assert!(reply.json()["detail"].as_str().unwrap().contains(detail), "{}", reply.text);
        assert_ne!(reply.param("id"), asked.param("id"));
        let credential = world.last_credential();
        assert_eq!((credential.verified, credential.settled), (false, None));
    }
    assert_eq!((world.paid().settle_held().await, world.earned().await), (0, 0));
}

#[tokio::test]
async fn mpp_challenges_of_another_kind() {
    let world = World::new().await;
    let asked = world.unpaid("/mpp/a").await;
    let words = world.words(&asked, false);
    let send = async |path: &str, change: &dyn Fn(&mut Value)| {
        let mut credential = world.credential(&asked, &words, false);
        change(&mut credential);
        let header = ("authorization", format!("Payment {}", URL_SAFE_NO_PAD.encode(credential.to_string())));
        let reply = world.send(path, Some(&header)).await.unwrap();
        assert_eq!(reply.status, 402);
        (reply.problem(), reply.json()["detail"].as_str().unwrap().to_owned())
    };
    let (problem, detail) = send("/mpp/b", &|_| ()).await;
    assert_eq!(problem, "invalid-challenge");
    assert!(detail.contains("route"), "{detail}");
    for name in ["id", "realm", "method", "intent", "request", "expires", "opaque"] {
        let (problem, detail) = send("/mpp/a", &|credential| credential["challenge"][name] = json!("altered")).await;
        assert_eq!(problem, "invalid-challenge", "{name}");
        assert!(detail.contains("not issued by this server"), "{detail}");
    }
    let (problem, _) = send("/mpp/a", &|credential| credential["source"] = json!("did:pkh:eip155:1:0x00")).await;
    assert_eq!(problem, "verification-failed");
    let (problem, _) = send("/mpp/a", &|credential| credential["payload"]["type"] = json!("hash")).await;
    assert_eq!(problem, "verification-failed");
    let (problem, _) = send("/mpp/a", &|credential| credential["payload"]["value"] = json!(10_000)).await;
    assert_eq!(problem, "malformed-credential", "numbers are text");
    let reply = world.send("/mpp/a", Some(&("authorization", "Payment %%%".into()))).await.unwrap();
    assert_eq!(reply.problem(), "malformed-credential");
    // Another scheme is no credential.
    let reply = world.send("/mpp/a", Some(&("authorization", "Bearer abc".into()))).await.unwrap();
    assert_eq!(reply.problem(), "payment-required");

    world.sandbox.chain.as_ref().unwrap().advance(301);
    let (problem, _) = send("/mpp/a", &|_| ()).await;
    assert_eq!(problem, "payment-expired", "by the chain's clock");
    assert_eq!((world.paid().settle_held().await, world.earned().await), (0, 0));
}

#[tokio::test]
async fn x402() {
    let world = World::new().await;
    let value = ["invalid_exact_evm_payload_authorization_value_mismatch", "invalid_exact_evm_authorization_value"];
    let same = |error: &'static str| [error, error];
    let wrong: [(Change, [&str; 2]); 6] = [
        (AMOUNT, value),
        (OVERPAID, value),
        (PAYEE, same("invalid_exact_evm_recipient_mismatch")),
        (EXPIRED, same("invalid_exact_evm_payload_authorization_valid_before")),
        (EARLY, same("invalid_exact_evm_payload_authorization_valid_after")),
        (STRANGER, same("invalid_exact_evm_signature")),
    ];
    for (change, errors) in wrong {
        for (path, error) in ["/x402v2/a", "/x402v1/a"].into_iter().zip(errors) {
            let asked = world.unpaid(path).await;
            let mut words = world.words(&asked, true);
            change(&mut words, world.now());
            let reply = world.send(path, Some(&world.header(&asked, &words, true))).await.unwrap();
            assert_eq!((reply.status, reply.error().as_str()), (402, error));
            assert_eq!(reply.entry(), asked.entry());
            if path == "/x402v1/a" {
                assert_eq!(reply.json()["payer"], words.from.to_string());
            }
        }
    }
    for (path, error) in [("/x402v2/a", "Payment required"), ("/x402v1/a", "Invalid character")] {
        let name = if path == "/x402v2/a" { "payment-signature" } else { "x-payment" };
        let reply = world.send(path, Some(&(name, "%%%".into()))).await.unwrap();
        assert_eq!((reply.status, reply.error().as_str()), (402, error));
    }
    // What the other version calls its header is none.
    let header = world.ready("/x402v1/a").await;
    assert_eq!(world.send("/x402v2/a", Some(&header)).await.unwrap().error(), "Payment required");
    assert_eq!((world.paid().settle_held().await, world.earned().await), (0, 0));
}

#[tokio::test]
async fn x402_wants_its_own_entry_back() {
    let world = World::new().await;
    let asked = world.unpaid("/x402v2/a").await;
    let words = world.words(&asked, true);
    let changes: [fn(&mut Value); 4] = [
        |accepted| accepted["amount"] = json!("1"),
        |accepted| accepted["payTo"] = json!(accepted["payTo"].as_str().unwrap().to_lowercase()),
        |accepted| accepted["extra"]["more"] = json!(1),
        |accepted| accepted["maxTimeoutSeconds"] = json!(61),
    ];
    for change in changes {
        let mut payload = world.credential(&asked, &words, true);
        change(&mut payload["accepted"]);
        let header = ("payment-signature", STANDARD.encode(payload.to_string()));
        let reply = world.send("/x402v2/a", Some(&header)).await.unwrap();
        assert_eq!((reply.status, reply.error().as_str()), (402, "No matching payment requirements"));
    }
    let asked = world.unpaid("/x402v1/a").await;
    let mut payload = world.credential(&asked, &words, true);
    payload["network"] = json!("base");
    let reply = world.send("/x402v1/a", Some(&("x-payment", STANDARD.encode(payload.to_string())))).await.unwrap();
    assert_eq!(reply.error(), "No matching payment requirements");
    assert_eq!(world.earned().await, 0);
    // No binding to the address, as with the deployed servers: the same entry pays for another path.
    let header = world.ready("/x402v2/a").await;
    assert_eq!(world.send("/x402v2/b", Some(&header)).await.unwrap().status, 200);
    assert_eq!(world.earned().await, PRICE);
}

#[tokio::test]
async fn replays_and_empty_wallets() {
    let world = World::new().await;
    let mut earned = 0;
    for path in ["/mpp/a", "/x402v2/a", "/x402v1/a"] {
        let header = world.ready(path).await;
        assert_eq!(world.send(path, Some(&header)).await.unwrap().status, 200);
        earned += PRICE;
        let again = world.send(path, Some(&header)).await.unwrap();
        if path == "/mpp/a" {
            assert_eq!((again.status, again.problem().as_str()), (500, "internal-payment-error"));
        } else {
            let error = "invalid_exact_evm_transaction_simulation_failed";
            assert_eq!((again.status, again.error().as_str()), (402, error));
        }
        assert!(!world.last_credential().verified);
        assert_eq!(world.earned().await, earned);
    }
    let agent = world.sandbox.agent().address();
    world.sandbox.observer().fund(agent, Usdc::new(9_999), U256::ONE).await.unwrap();
    for (path, status) in [("/mpp/a", 500), ("/x402v2/a", 402), ("/x402v1/a", 402)] {
        assert_eq!(world.pay(path).await.unwrap().status, status);
    }
    assert_eq!(world.earned().await, earned);
}

#[tokio::test]
async fn the_same_credential_twice_at_once_pays_once() {
    let world = World::new().await;
    let mut earned = 0;
    for (path, lost) in [("/mpp/a", 500), ("/x402v2/a", 402), ("/x402v1/a", 402)] {
        let header = world.ready(path).await;
        let (one, two) = tokio::join!(world.send(path, Some(&header)), world.send(path, Some(&header)));
        let mut statuses = [one.unwrap().status, two.unwrap().status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, lost]);
        earned += PRICE;
        assert_eq!(world.earned().await, earned);
    }
}
