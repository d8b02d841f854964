//! The order of validation and each refusal (protocol.md section 6).

use alloy::primitives::B256;
use alloy::signers::local::PrivateKeySigner;
use drain_sandbox::Times;
use drain_sandbox::provider::{Correction, Dialect};
use serde_json::{Value, json};

use crate::world::{World, hello};

const DEPOSIT: u64 = 1_000_000;

fn edit(header: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut value = serde_json::from_str(header).unwrap();
    change(&mut value);
    value.to_string()
}

#[tokio::test]
async fn a_request_without_a_voucher_is_told_how_to_pay() {
    let world = World::new().await;
    let llm = &world.sandbox.llm;
    let reply = world.post(llm, None, &hello("no-such-model")).await.unwrap();
    assert_eq!(reply.status, 402);
    let body = r#"{"error":{"code":"voucher_required","message":"X-DRAIN-Voucher header required","type":"payment_required"}}"#;
    assert_eq!(reply.json(), serde_json::from_str::<Value>(body).unwrap());
    for (name, value) in [
        ("x-drain-error", "voucher_required"),
        ("x-payment-protocol", "drain-v2"),
        ("x-payment-provider", "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"),
        ("x-payment-contract", "0x0C2B3aA1e80629D572b1f200e6DF3586B3946A8A"),
        ("x-payment-chain", "137"),
        ("x-payment-signing", "https://handshake58.com/api/drain/signing"),
        ("x-payment-docs", "/v1/docs"),
    ] {
        assert_eq!(reply.header(name), Some(value), "{name}");
    }
    let v1 = world.post(&world.sandbox.v1, None, &hello("sim-small")).await.unwrap();
    assert_eq!(v1.header("x-payment-contract"), Some("0x1C1918C99b6DcE977392E4131C91654d8aB71e64"));
}

#[tokio::test]
async fn refusals_come_in_the_templates_order() {
    let world = World::new().await;
    let llm = &world.sandbox.llm;
    let channel = world.open(llm, DEPOSIT, 86_400).await;
    let code = async |header: &str, body: &Value| {
        let reply = world.post(llm, Some(header), body).await.unwrap();
        let code = reply.json()["error"]["code"].as_str().unwrap_or("served").to_owned();
        if reply.status == 402 {
            assert_eq!(reply.header("x-drain-error"), Some(code.as_str()));
            assert_eq!(reply.header("x-payment-protocol"), None, "only without a voucher");
        }
        (reply.status.as_u16(), code)
    };
    let good = world.voucher(llm, channel, 2000, 5);
    let body = hello("sim-large");
    let is = |status: u16, code: &str| (status, code.to_owned());

    // Each voucher has all the faults that come later too, so the code shows which check came first.
    assert_eq!(code("{}", &hello("none")).await, is(402, "invalid_voucher_format"));
    let zero = edit(&good, |v| v["amount"] = json!(0));
    assert_eq!(code(&zero, &body).await, is(402, "invalid_voucher_format"));
    let nowhere = world.voucher(llm, B256::repeat_byte(9), 0, 0);
    assert_eq!(code(&nowhere, &hello("none")).await, is(400, "model_not_supported"));
    assert_eq!(code(&nowhere, &body).await, is(402, "channel_not_found"));
    let elsewhere = world.open(&world.sandbox.data, DEPOSIT, 86_400).await;
    assert_eq!(code(&world.voucher(llm, elsewhere, 0, 0), &body).await, is(402, "wrong_provider"));
    let unsigned =
        |units: u64, nonce: u64| edit(&world.voucher(llm, channel, units, nonce), |v| v["signature"] = json!("0x00"));
    assert_eq!(code(&good, &body).await, is(200, "served"));
    assert_eq!(code(&unsigned(1, 1), &body).await, is(402, "insufficient_funds"));
    assert_eq!(code(&unsigned(DEPOSIT + 1, 1), &body).await, is(402, "exceeds_deposit"));
    assert_eq!(code(&unsigned(5000, 5), &body).await, is(402, "invalid_nonce"));
    assert_eq!(code(&unsigned(5000, 6), &body).await, is(402, "invalid_signature"));
    let words = edit(&good, |v| v["amount"] = json!("much"));
    assert_eq!(code(&words, &body).await, is(402, "Cannot convert much to a BigInt"));

    // Nothing refused was kept.
    let books = llm.books(channel).unwrap();
    assert_eq!((books.vouchers, books.last_nonce), (1, Some(5)));
    let log = llm.request_log();
    assert_eq!(log.of_channel(channel).count(), 6);
    let served = log.of_channel(channel).find(|request| request.outcome.starts_with("billed")).unwrap();
    assert_eq!((served.amount, served.nonce), (Some(2000), Some(5)));
}

#[tokio::test]
async fn signatures_are_judged_as_the_contract_judges() {
    let world = World::new().await;
    let llm = &world.sandbox.llm;
    let channel = world.open(llm, DEPOSIT, 86_400).await;
    let good = world.voucher(llm, channel, 2000, 1);
    let raw = alloy::hex::decode(serde_json::from_str::<Value>(&good).unwrap()["signature"].as_str().unwrap()).unwrap();
    let with = |bytes: &[u8]| edit(&good, |v| v["signature"] = json!(format!("0x{}", alloy::hex::encode(bytes))));
    let signature = alloy::primitives::Signature::from_raw(&raw).unwrap();
    let order = alloy::primitives::uint!(0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256);
    let high = alloy::primitives::Signature::new(signature.r(), order - signature.s(), !signature.v()).as_bytes();
    let mut low_v = raw.clone();
    low_v[64] -= 27;
    let stranger = PrivateKeySigner::from_bytes(&B256::repeat_byte(3)).unwrap();
    let other = world.voucher_by(&stranger, llm, channel, 2000, 1);
    let v1_domain = world.voucher(&world.sandbox.v1, channel, 2000, 1);

    for bad in [with(&high), with(&low_v), with(&raw[..64]), with(&[&raw[..], &[0]].concat()), other, v1_domain] {
        let reply = world.post(llm, Some(&bad), &hello("sim-large")).await.unwrap();
        assert_eq!(reply.header("x-drain-error"), Some("invalid_signature"), "{bad}");
    }
    // The templates take them, and can then never claim.
    llm.set(|faults| faults.lax_signatures = true);
    let reply = world.post(llm, Some(&with(&high)), &hello("sim-large")).await.unwrap();
    assert_eq!(reply.status, 200);
    let claim = llm.claim(channel).await.unwrap();
    assert!(claim.error.is_some(), "{claim:?}");
    llm.reset_faults();
    assert_eq!(
        world.post(llm, Some(&world.voucher(llm, channel, 3000, 2)), &hello("sim-large")).await.unwrap().status,
        200
    );
}

#[tokio::test]
async fn vouchers_are_read_as_javascript_reads_them() {
    let world = World::new().await;
    let llm = &world.sandbox.llm;
    let channel = world.open(llm, DEPOSIT, 86_400).await;
    let send = async |header: &str| world.post(llm, Some(header), &hello("sim-large")).await.unwrap();
    // Numbers, hexadecimal text, nonce "0", more keys, upper-case id.
    let zero = edit(&world.voucher(llm, channel, 2000, 0), |v| v["amount"] = json!(2000));
    assert_eq!(send(&zero).await.status, 200);
    let hex = edit(&world.voucher(llm, channel, 5000, 9), |v| {
        v["amount"] = json!("0x1388");
        v["extra"] = json!([1]);
        v["channelId"] = json!(format!("0x{}", v["channelId"].as_str().unwrap()[2..].to_uppercase()));
    });
    assert_eq!(send(&hex).await.status, 200);
    assert_eq!(llm.books(channel).unwrap().vouchers, 2);
    // A smaller amount than before is fine as long as it covers what was charged.
    assert_eq!(send(&world.voucher(llm, channel, 4000, 10)).await.status, 200);
    assert_eq!(llm.books(channel).unwrap().highest_voucher, 5000);

    // A provider that does not lower-case keeps separate books.
    llm.set(|faults| faults.case_sensitive_ids = true);
    let again = edit(&world.voucher(llm, channel, 2000, 1), |v| {
        v["channelId"] = json!(format!("0x{}", v["channelId"].as_str().unwrap()[2..].to_uppercase()));
    });
    assert_eq!(send(&again).await.status, 200);
    assert_eq!(world.get(&format!("{}/v1/admin/stats", llm.url())).await.json()["channels"], 2);
}

#[tokio::test]
async fn the_three_bodies() {
    let world = World::new().await;
    let llm = &world.sandbox.llm;
    let channel = world.open(llm, DEPOSIT, 86_400).await;
    let low = world.voucher(llm, channel, 10, 1);
    let send = async || world.post(llm, Some(&low), &hello("sim-large")).await.unwrap();
    let a = send().await;
    assert_eq!(a.json()["error"]["message"], "Payment validation failed: insufficient_funds");
    assert_eq!(a.json()["error"]["type"], "payment_required");
    llm.set(|faults| faults.dialect = Dialect::B);
    let b = send().await;
    assert_eq!(b.json(), json!({"error": {"message": "Voucher error: insufficient_funds"}, "required": "783"}));
    assert_eq!((b.header("x-drain-error"), b.header("x-drain-required")), (None, None));
    let missing = world.post(llm, None, &hello("sim-large")).await.unwrap();
    assert_eq!(missing.json()["error"]["message"], "Payment required. Include X-DRAIN-Voucher header.");
    let broken = world.post(llm, Some("x"), &hello("sim-large")).await.unwrap();
    assert_eq!(broken.json(), json!({"error": {"message": "Invalid voucher format."}}));
    llm.set(|faults| faults.dialect = Dialect::C);
    assert_eq!(send().await.json(), json!({"error": "insufficient_funds"}));
}

#[tokio::test]
async fn the_figures_of_a_refusal_reveal_the_books() {
    let world = World::new().await;
    let llm = &world.sandbox.llm;
    let channel = world.open(llm, DEPOSIT, 86_400).await;
    let first = world.chat(llm, channel, 2000, 1).await;
    let cost: i64 = first.header("x-drain-cost").unwrap().parse().unwrap();
    let refused = world.chat(llm, channel, 5, 2).await;
    assert_eq!(refused.header("x-drain-provided"), Some((5 - cost).to_string().as_str()), "negative");
    assert_eq!(refused.header("x-drain-required"), Some("783"));
    // Arrears that nothing explains, and figures that are lies.
    llm.set(|faults| faults.insist_arrears = 100_000);
    let insisting = world.chat(llm, channel, 2000, 3).await;
    assert_eq!(insisting.header("x-drain-provided"), Some((2000 - cost - 100_000).to_string().as_str()));
    llm.reset_faults();
    llm.set(|faults| {
        faults.forged_correction = Some(Correction { provided: "-999999999".into(), required: "1".into() });
    });
    let forged = world.chat(llm, channel, 900_000, 4).await;
    assert_eq!(forged.header("x-drain-provided"), Some("-999999999"));
    llm.reset_faults();
    llm.lose_books();
    assert_eq!(world.chat(llm, channel, 2000, 1).await.figures()[1], first.figures()[0], "the total starts again");
}

#[tokio::test]
async fn passing_refusals_pass() {
    let world = World::new().await;
    let llm = &world.sandbox.llm;
    let channel = world.open(llm, DEPOSIT, 86_400).await;
    llm.set(|faults| {
        faults.channel_not_found = Times::next(1);
        faults.invalid_nonce = Times::next(1);
        faults.rate_limited = Times::next(1);
        faults.validation_error = Times::next(1);
    });
    let mut seen = Vec::new();
    for nonce in 1..=5 {
        let reply = world.chat(llm, channel, 2000, nonce).await;
        let code = reply.json()["error"]["code"].as_str().map(str::to_owned);
        seen.push((reply.status.as_u16(), code.unwrap_or_default()));
    }
    let seen: Vec<_> = seen.iter().map(|(status, code)| (*status, code.as_str())).collect();
    let exception = "execution reverted: sandbox";
    assert_eq!(
        seen,
        [(429, "rate_limited"), (402, exception), (402, "channel_not_found"), (402, "invalid_nonce"), (200, "")]
    );
}

#[tokio::test]
async fn a_provider_without_its_node_answers_as_node_does() {
    let world = World::new().await;
    let mut config = world.sandbox.llm.config().clone();
    config.rpc_url = "http://127.0.0.1:9".into();
    let alone = drain_sandbox::Provider::start(config).await.unwrap();
    let header = world.voucher(&alone, B256::repeat_byte(1), 2000, 1);
    // Dialect A cannot put viem's lines into a header: the connection ends without an answer.
    assert!(world.post(&alone, Some(&header), &hello("sim-large")).await.is_err());
    alone.set(|faults| faults.dialect = Dialect::B);
    let reply = world.post(&alone, Some(&header), &hello("sim-large")).await.unwrap();
    assert!(reply.json()["error"]["message"].as_str().unwrap().contains("HTTP request failed.\n"));
}
