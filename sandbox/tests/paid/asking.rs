//! Challenges that ask for something else.

use alloy::primitives::Address;
use serde_json::{Value, json};

use crate::world::{PRICE, World};

#[tokio::test]
async fn another_price_payee_token_and_network() {
    let world = World::new().await;
    let (payee, asset) = (Address::repeat_byte(0x31), Address::repeat_byte(0x32));
    world.paid().set(|faults| {
        faults.price = Some("99000000".into());
        faults.payee = Some(payee);
        faults.asset = Some(asset);
        faults.network = Some("eip155:8453".into());
    });
    let request = world.unpaid("/mpp/a").await.request();
    assert_eq!((&request["amount"], &request["currency"]), (&json!("99000000"), &json!(asset.to_string())));
    assert_eq!(request["recipient"], payee.to_string());
    assert_eq!(request["methodDetails"]["chainId"], 8453);
    for (path, amount) in [("/x402v2/a", "amount"), ("/x402v1/a", "maxAmountRequired")] {
        let entry = world.unpaid(path).await.entry();
        assert_eq!((&entry[amount], &entry["asset"]), (&json!("99000000"), &json!(asset.to_string())));
        assert_eq!((&entry["payTo"], &entry["network"]), (&json!(payee.to_string()), &json!("eip155:8453")));
    }
    for strange in
        ["0", "-1", "1e6", "0.01", "", "115792089237316195423570985008687907853269984665640564039457584007913129639936"]
    {
        world.paid().set(|faults| faults.price = Some(strange.into()));
        assert_eq!(world.unpaid("/mpp/a").await.request()["amount"], strange);
    }
}

#[tokio::test]
async fn what_is_asked_is_what_is_taken() {
    let world = World::new().await;
    world.paid().set(|faults| faults.price = Some("25000".into()));
    for path in ["/mpp/a", "/x402v2/a", "/x402v1/a"] {
        let before = world.earned().await;
        assert_eq!(world.pay(path).await.unwrap().status, 200);
        assert_eq!(world.earned().await, before + 25_000);
    }
    // A challenge from before a rise does not buy any more.
    let header = world.ready("/mpp/a").await;
    world.paid().set(|faults| faults.price = Some("26000".into()));
    assert_eq!(world.send("/mpp/a", Some(&header)).await.unwrap().problem(), "invalid-challenge");
    // Another payee gets it.
    let thief = Address::repeat_byte(0x33);
    world.paid().reset_faults();
    world.paid().set(|faults| faults.payee = Some(thief));
    assert_eq!(world.pay("/x402v2/a").await.unwrap().status, 200);
    let stolen = world.sandbox.observer().usdc_balance(thief).await.unwrap();
    assert_eq!(stolen.to_u256().to::<u64>(), PRICE);
}

#[tokio::test]
async fn lifetimes() {
    let world = World::new().await;
    for seconds in [-5, 0, 3, 86_400] {
        world.paid().set(|faults| faults.expires_in = Some(seconds));
        let asked = world.unpaid("/mpp/a").await;
        let left = i128::from(world.words(&asked, false).valid_before) - i128::from(world.now());
        assert!((i128::from(seconds) - 1..=i128::from(seconds)).contains(&left), "{left}");
        for path in ["/x402v2/a", "/x402v1/a"] {
            assert_eq!(world.unpaid(path).await.entry()["maxTimeoutSeconds"], seconds);
        }
    }
    world.paid().set(|faults| faults.expires_in = Some(-5));
    assert_eq!(world.pay("/mpp/a").await.unwrap().problem(), "payment-expired");
    world.paid().set(|faults| faults.expires_in = Some(i64::MAX));
    assert_eq!(world.unpaid("/mpp/a").await.param("expires").unwrap(), "9999-12-31T23:59:59.000Z");
}

#[tokio::test]
async fn kinds_of_payment_that_are_none_of_ours() {
    let world = World::new().await;
    world.paid().set(|faults| {
        faults.splits = true;
        faults.intent = Some("session".into());
        faults.method = Some("tempo".into());
        faults.credential_types = Some(vec!["permit2".into()]);
        faults.permit2 = true;
        faults.domain = Some(("USDC".into(), "1".into()));
    });
    let asked = world.unpaid("/mpp/a").await;
    assert_eq!(["method", "intent"].map(|name| asked.param(name).unwrap()), ["tempo", "session"]);
    let details = asked.request()["methodDetails"].clone();
    assert_eq!((&details["splits"][0]["amount"], &details["credentialTypes"]), (&json!("1"), &json!(["permit2"])));
    for path in ["/x402v2/a", "/x402v1/a"] {
        let extra = json!({"name": "USDC", "version": "1", "assetTransferMethod": "permit2"});
        assert_eq!(world.unpaid(path).await.entry()["extra"], extra);
    }
    world.paid().set(|faults| faults.credential_types = Some(Vec::new()));
    let details = world.unpaid("/mpp/a").await.request()["methodDetails"].clone();
    assert_eq!(details.get("credentialTypes"), None::<&Value>);
}

#[tokio::test]
async fn a_credential_in_the_other_header() {
    let world = World::new().await;
    world.paid().set(|faults| faults.separate_header = true);
    let asked = world.unpaid("/mpp/a").await;
    assert_eq!(asked.param("header").unwrap(), "Payment-Authorization");
    let (_, value) = world.header(&asked, &world.words(&asked, false), false);
    let reply = world.send("/mpp/a", Some(&("payment-authorization", value))).await.unwrap();
    assert_eq!((reply.status, world.earned().await), (200, PRICE));
}

#[tokio::test]
async fn challenges_that_cannot_be_read() {
    let world = World::new().await;
    world.paid().set(|faults| faults.garbage = true);
    assert_eq!(world.unpaid("/mpp/a").await.param("request").unwrap(), "%%%");
    assert_eq!(world.unpaid("/x402v2/a").await.header("payment-required"), Some("%%%"));
    assert!(serde_json::from_str::<Value>(&world.unpaid("/x402v1/a").await.text).is_err());
    let both = world.unpaid("/both/a").await;
    assert_eq!((both.param("request").unwrap().as_str(), both.header("payment-required")), ("%%%", Some("%%%")));
}
