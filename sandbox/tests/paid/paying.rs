//! An honest payment over each protocol.

use alloy::primitives::{B256, U256};
use drain_sandbox::contracts::USDC;
use drain_sandbox::paid::Protocol;
use drain_sandbox::rpc::succeeded;
use reqwest::Client;
use serde_json::{Value, json};

use crate::world::{PRICE, Reply, World, from_standard, from_url_safe};

/// The answer was paid by a transfer that is on the chain.
async fn settled(world: &World, reply: &Reply) -> B256 {
    assert_eq!((reply.status, reply.header("cache-control")), (200, Some("private")), "{}", reply.text);
    let transaction = reply.transaction().unwrap();
    let receipt = world.sandbox.observer().rpc().receipt(transaction).await.unwrap();
    assert!(succeeded(&receipt));
    let credential = world.last_credential();
    assert_eq!((credential.settled, credential.verified), (Some(transaction), true));
    transaction
}

#[tokio::test]
async fn mpp() {
    let world = World::new().await;
    let asked = world.unpaid("/mpp/echo?x=1").await;
    assert_eq!(asked.problem(), "payment-required");
    assert_eq!(
        asked.request(),
        json!({"amount": "10000", "currency": USDC.to_string(), "recipient": world.paid().payee().to_string(),
            "methodDetails": {"chainId": 137, "credentialTypes": ["authorization"], "decimals": 6}})
    );
    assert_eq!(["realm", "method", "intent"].map(|name| asked.param(name).unwrap()), ["paid.sandbox", "evm", "charge"]);
    let words = world.words(&asked, false);
    assert!((299..=301).contains(&(words.valid_before - world.now())));
    let reply = world.send("/mpp/echo?x=1", Some(&world.header(&asked, &words, false))).await.unwrap();
    let transaction = settled(&world, &reply).await;
    assert_eq!(world.earned().await, PRICE);
    assert_eq!(reply.json(), json!({"ok": "/mpp/echo", "echo": "{\"q\":1}"}));
    let receipt = from_url_safe(reply.header("payment-receipt").unwrap());
    assert_eq!((&receipt["method"], &receipt["status"]), (&json!("evm"), &json!("success")));
    assert!(receipt["timestamp"].as_str().unwrap().ends_with('Z'));
    assert_eq!(receipt["reference"], transaction.to_string());

    let log = world.paid().log();
    assert_eq!(log.iter().map(|request| request.status.unwrap()).collect::<Vec<_>>(), [402, 200]);
    assert!(log[0].credential.is_none() && log[0].header("authorization").is_none());
    assert_eq!((log[1].method.as_str(), log[1].path.as_str()), ("POST", "/mpp/echo?x=1"));
    assert!(log[1].header("Authorization").unwrap().starts_with("Payment "));
    assert_eq!(log[1].body, b"{\"q\":1}");
    let credential = log[1].credential.clone().unwrap();
    assert_eq!((credential.protocol, credential.value), (Protocol::Mpp, U256::from(PRICE)));
    assert_eq!((credential.from, credential.to), (world.sandbox.agent().address(), world.paid().payee()));
    assert_eq!(credential.nonce, words.nonce);
    assert_eq!(world.paid().settle_held().await, 0);
}

#[tokio::test]
async fn x402_of_both_versions() {
    let world = World::new().await;
    for (at, (path, header, network)) in
        [("/x402v2/a", "payment-response", "eip155:137"), ("/x402v1/a", "x-payment-response", "polygon")]
            .into_iter()
            .enumerate()
    {
        let asked = world.unpaid(path).await;
        let entry = asked.entry();
        assert_eq!((&entry["scheme"], &entry["network"]), (&json!("exact"), &json!(network)));
        assert_eq!((&entry["asset"], &entry["maxTimeoutSeconds"]), (&json!(USDC.to_string()), &json!(60)));
        assert_eq!(entry["extra"], json!({"name": "USD Coin", "version": "2"}));
        let url = format!("{}{path}", world.paid().url());
        if at == 0 {
            assert_eq!((asked.text.as_str(), asked.error().as_str()), ("{}", "Payment required"));
            assert_eq!(asked.required()["resource"]["url"], url.as_str());
        } else {
            assert_eq!(asked.error(), "X-PAYMENT header is required");
            assert_eq!(entry["resource"], url.as_str());
        }
        let words = world.words(&asked, true);
        let reply = world.send(path, Some(&world.header(&asked, &words, true))).await.unwrap();
        let transaction = settled(&world, &reply).await;
        assert_eq!(world.earned().await, PRICE * (at as u64 + 1));
        let payer = world.sandbox.agent().address().to_string();
        assert_eq!(
            from_standard(reply.header(header).unwrap()),
            json!({"success": true, "transaction": transaction, "network": network, "payer": payer})
        );
    }
    let protocols: Vec<_> = world.paid().log().iter().filter_map(|r| Some(r.credential.as_ref()?.protocol)).collect();
    assert_eq!(protocols, [Protocol::X402V2, Protocol::X402V1]);
}

#[tokio::test]
async fn both_is_one_price_paid_either_way() {
    let world = World::new().await;
    for (x402, header) in [(false, "payment-receipt"), (true, "payment-response")] {
        let asked = world.unpaid("/both/thing").await;
        assert_eq!(asked.problem(), "payment-required");
        assert_eq!(asked.entry()["amount"], asked.request()["amount"]);
        let reply = world.send("/both/thing", Some(&world.header(&asked, &world.words(&asked, x402), x402))).await;
        let reply = reply.unwrap();
        settled(&world, &reply).await;
        assert!(reply.header(header).is_some());
    }
    assert_eq!(world.earned().await, 2 * PRICE);
}

#[tokio::test]
async fn chats_are_answered_as_by_a_model() {
    let world = World::new().await;
    for path in ["/mpp/v1/chat/completions", "/x402v2/v1/chat/completions", "/x402v1/v1/chat/completions"] {
        let header = world.ready(path).await;
        let body = json!({"messages": [{"role": "user", "content": "write 3 words"}]}).to_string();
        let reply = world.post(path, Some(&header), &body).await.unwrap();
        settled(&world, &reply).await;
        let answer = reply.json();
        assert_eq!(answer["object"], "chat.completion");
        assert_eq!(answer["choices"][0]["message"]["content"].as_str().unwrap().split(' ').count(), 3);
        assert!(answer["usage"]["total_tokens"].as_u64().unwrap() > 0);
    }
    let earned = world.earned().await;
    // A request that cannot be served: MPP took the money before it was looked at, x402 does not take it.
    let bad = world.pay("/x402v2/v1/chat/completions").await.unwrap();
    assert_eq!((bad.status, bad.transaction(), world.earned().await), (400, None, earned));
    let bad = world.pay("/mpp/v1/chat/completions").await.unwrap();
    assert_eq!((bad.status, bad.transaction().is_some(), world.earned().await), (400, true, earned + PRICE));
}

#[tokio::test]
async fn other_doors() {
    let world = World::new().await;
    let free = world.send("/free/x", None).await.unwrap();
    assert_eq!((free.status, free.json()), (200, json!({"ok": "/free/x", "echo": "{\"q\":1}"})));
    let other = world.send("/other/x", None).await.unwrap();
    assert_eq!((other.status, other.json()["error"].clone()), (402, json!("payment required")));
    assert!(["www-authenticate", "payment-required"].iter().all(|name| other.header(name).is_none()));
    assert_eq!(other.json().get("x402Version"), None::<&Value>);
    assert_eq!(world.send("/nowhere", None).await.unwrap().status, 404);
    // Any method.
    let client = Client::builder().no_proxy().build().unwrap();
    for path in ["/mpp", "/x402v2/deep/down"] {
        let url = format!("{}{path}", world.paid().url());
        assert_eq!(client.get(&url).send().await.unwrap().status(), 402);
        assert_eq!(client.delete(&url).send().await.unwrap().status(), 402);
    }
}
