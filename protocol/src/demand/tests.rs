//! Recorded exchanges with npm's mppx and x402 servers (`vectors-402.json`), and what strangers may send.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use alloy::primitives::{B256, keccak256};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

static VECTORS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../vectors-402.json")).unwrap());

/// The token of the recorded chain.
fn asset() -> Asset {
    Asset::usdc(137, VECTORS["fixed"]["token"].as_str().unwrap().parse().unwrap())
}

pub(super) fn exchanges() -> &'static [Value] {
    VECTORS["exchanges"].as_array().unwrap()
}

pub(super) fn values<'a>(message: &'a Value, name: &str) -> Vec<&'a str> {
    let headers = message["headers"].as_array().unwrap();
    let named = headers.iter().filter(|header| header[0].as_str().unwrap().eq_ignore_ascii_case(name));
    named.map(|header| header[1].as_str().unwrap()).collect()
}

fn demand(exchange: &Value) -> Result<Demand, NotPayable> {
    let response = &exchange["response"];
    read(|name| values(response, name), response["body"].as_str().unwrap().as_bytes())
}

pub(super) fn payable(exchange: &Value) -> Vec<Offer> {
    match demand(exchange) {
        Ok(Demand::Payment(offers)) => offers.into_iter().filter_map(Result::ok).collect(),
        _ => Vec::new(),
    }
}

/// The credential that a request carried: its protocol and what is in it.
pub(super) fn carried(exchange: &Value) -> Option<(Protocol, &Value)> {
    let decoded = &exchange["request"]["decoded"];
    [("authorization", Protocol::Mpp), ("payment-signature", Protocol::X402V2), ("x-payment", Protocol::X402V1)]
        .into_iter()
        .find_map(|(name, protocol)| decoded.get(name).map(|found| (protocol, found)))
}

fn number(value: &Value) -> u64 {
    value.as_str().unwrap().parse().unwrap()
}

/// What was signed in a recorded credential.
fn recorded(typed: &Value) -> Transfer {
    let message = &typed["message"];
    let text = |field: &str| message[field].as_str().unwrap();
    Transfer {
        from: text("from").parse().unwrap(),
        to: text("to").parse().unwrap(),
        value: Usdc::parse_units(text("value")).unwrap(),
        valid_after: number(&message["validAfter"]),
        valid_before: number(&message["validBefore"]),
        nonce: text("nonce").parse().unwrap(),
    }
}

fn digest(asset: &Asset, transfer: &Transfer) -> B256 {
    keccak256([&[0x19, 0x01][..], asset.separator().as_slice(), transfer.struct_hash().as_slice()].concat())
}

/// Every 402 that was recorded is read as the protocol of who sent it, at its own price.
#[test]
fn every_recorded_demand_is_read() {
    let mut read = 0;
    for exchange in exchanges().iter().filter(|exchange| exchange["response"]["status"] == 402) {
        let (peer, offers) = (exchange["peer"].as_str().unwrap(), payable(exchange));
        let protocols: Vec<Protocol> = offers.iter().map(|offer| offer.protocol).collect();
        let expected: &[Protocol] = match peer {
            "mpp" | "dual" => &[Protocol::Mpp, Protocol::X402V2],
            "x402v2" if exchange["response"]["decoded"].get("payment-required").is_some() => &[Protocol::X402V2],
            "x402v1" => &[Protocol::X402V1],
            "mpp-tempo" => &[Protocol::MppTempo],
            // An answer of a failed settlement without a demand.
            "x402v2" => &[],
            other => panic!("{other}"),
        };
        assert_eq!(protocols, expected, "{}: {:?}", exchange["scenario"], demand(exchange));
        for offer in offers {
            assert_eq!(offer.check_asset(&asset()), Ok(()));
            if offer.protocol != Protocol::MppTempo {
                assert_eq!(offer.payee.to_string(), VECTORS["fixed"]["payee"].as_str().unwrap());
            }
            read += 1;
        }
    }
    assert!(read > 150, "{read}");
}

/// What the reference clients signed and sent for an offer, ours signs and sends: digest, signature and credential.
#[test]
fn every_recorded_payment_is_made_again() {
    let mut signatures = 0;
    for exchange in exchanges() {
        let Some((_, carried)) = carried(exchange) else { continue };
        let Some(typed) = carried.get("typed_data").filter(|typed| typed["domain"]["version"] == "2") else { continue };
        let transfer = recorded(typed);
        let digest = digest(&asset(), &transfer);
        assert_eq!(digest.to_string(), typed["digest"].as_str().unwrap(), "{}", exchange["scenario"]);
        let key: PrivateKeySigner = typed["test_key"].as_str().unwrap().parse().unwrap();
        let signature = key.sign_hash_sync(&digest).unwrap().as_bytes();
        assert_eq!(alloy::hex::encode_prefixed(signature), typed["signature"].as_str().unwrap());
        signatures += 1;
    }
    assert_eq!(signatures, 71);

    let mut credentials = BTreeMap::new();
    for pair in exchanges().windows(2) {
        let [unpaid, paid] = pair else { continue };
        let Some((protocol, carried)) = carried(paid) else { continue };
        if unpaid["scenario"] != paid["scenario"] || paid["response"]["status"] != 200 {
            continue;
        }
        let Some(offer) = payable(unpaid).into_iter().find(|offer| offer.protocol == protocol) else { continue };
        let sent = carried.get("credential").or_else(|| carried.get("payload")).unwrap();
        // A credential that was made for another challenge.
        if protocol == Protocol::Mpp
            && sent["challenge"]["id"] != unpaid["response"]["decoded"]["www-authenticate"]["id"]
        {
            continue;
        }
        let typed = &carried["typed_data"];
        let before = recorded(typed);
        let ours = offer.transfer(before.from, 0, u64::MAX, before.nonce);
        assert_eq!((ours.from, ours.to, ours.value, ours.nonce), (before.from, before.to, before.value, before.nonce));
        let signature = crate::voucher::parse_signature(typed["signature"].as_str().unwrap()).unwrap();
        let credential =
            offer.credential(&PaymentOrder::Authorization { asset: asset(), transfer: before }, &signature);
        assert_eq!(credential.header, offer.credential_header());
        let engine = if protocol == Protocol::Mpp { &URL_SAFE_NO_PAD } else { &STANDARD };
        let value = credential.value.trim_start_matches("Payment ");
        let ours: Value = serde_json::from_slice(&engine.decode(value).unwrap()).unwrap();
        let mut theirs = sent.clone();
        if let Some(object) = theirs.as_object_mut() {
            object.remove("extensions");
        }
        // Some clients write addresses in lower case.
        let folded = |sent: &Value| sent.to_string().to_lowercase();
        assert_eq!(folded(&ours), folded(&theirs), "{}", paid["scenario"]);
        *credentials.entry(protocol.as_str()).or_insert(0) += 1;
    }
    assert_eq!(credentials.keys().copied().collect::<Vec<_>>(), ["mpp", "x402v1", "x402v2"]);
}

/// A receipt is found where there is one, on every status, and none is made up.
#[test]
fn every_recorded_receipt_is_read() {
    let mut found = 0;
    for exchange in exchanges() {
        let response = &exchange["response"];
        for (name, protocol) in [
            ("payment-receipt", Protocol::Mpp),
            ("payment-response", Protocol::X402V2),
            ("x-payment-response", Protocol::X402V1),
        ] {
            let ours = receipt(protocol, |name| values(response, name));
            let Some(theirs) = response["decoded"].get(name) else {
                assert_eq!(ours, None);
                continue;
            };
            let (success, hash) = match protocol {
                Protocol::Mpp => (theirs["status"] == "success", &theirs["reference"]),
                _ => (theirs["success"] == true, &theirs["transaction"]),
            };
            let transaction = hash.as_str().and_then(|hash| hash.parse().ok());
            assert_eq!(ours, Some(PaymentReceipt { success, transaction }), "{}", exchange["scenario"]);
            found += 1;
        }
    }
    assert!(found > 30, "{found}");
}

fn challenge(change: impl FnOnce(&mut Value, &mut Vec<(&'static str, String)>)) -> String {
    let mut request = json!({
        "amount": "10000", "currency": asset().token, "recipient": Address::repeat_byte(7),
        "methodDetails": { "chainId": 137, "credentialTypes": ["authorization"], "decimals": 6 },
    });
    let mut params = vec![
        ("id", "abc".to_owned()),
        ("realm", "r".to_owned()),
        ("method", "evm".to_owned()),
        ("intent", "charge".to_owned()),
        ("expires", "2026-11-20T11:59:46.293Z".to_owned()),
    ];
    change(&mut request, &mut params);
    params.push(("request", URL_SAFE_NO_PAD.encode(request.to_string())));
    let params: Vec<String> = params.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    format!("Payment {}", params.join(", "))
}

fn of_challenge(line: &str) -> Result<Offer, NotPayable> {
    match read(|name| if name == "www-authenticate" { vec![line] } else { Vec::new() }, b"")? {
        Demand::Payment(mut offers) => offers.remove(0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_mpp_challenge_is_refused_for_what_is_not_paid() {
    let offer = of_challenge(&challenge(|_, _| {})).unwrap();
    assert_eq!((offer.amount, offer.seconds_left(0, u64::MAX)), (Usdc::new(10_000), Some(1_795_175_986)));
    assert_eq!(offer.seconds_left(1_795_175_980, 600), Some(6));
    assert_eq!(offer.seconds_left(1_795_170_000, 600), None, "longer than anything is signed for");
    type Change = fn(&mut Value, &mut Vec<(&'static str, String)>);
    let cases: [(&str, Change); 10] = [
        ("method", |_, params| params[2].1 = "stripe".into()),
        ("intent", |_, params| params[3].1 = "session".into()),
        ("expires", |_, params| params[4].1 = "tomorrow".into()),
        ("no id", |_, params| params[0].1 = String::new()),
        ("header", |_, params| params.push(("header", "Cookie".into()))),
        ("authorization", |request, _| request["methodDetails"]["credentialTypes"] = json!(["permit2"])),
        ("authorization", |request, _| _ = request["methodDetails"].as_object_mut().unwrap().remove("credentialTypes")),
        ("splits", |request, _| request["methodDetails"]["splits"] = json!([{ "recipient": "0x", "amount": "1" }])),
        ("zero", |request, _| request["amount"] = json!("0")),
        ("recipient", |request, _| request["recipient"] = json!(Address::ZERO)),
    ];
    for (part, change) in cases {
        let refused = of_challenge(&challenge(change)).unwrap_err();
        assert!(refused.reason.contains(part), "{part}: {refused}");
    }
    let tempo: [(&str, Change); 4] = [
        ("no dollar", |request, _| request["currency"] = json!(Address::repeat_byte(9))),
        ("chain 137", |request, _| request["methodDetails"]["chainId"] = json!(137)),
        ("send", |request, _| request["methodDetails"]["supportedModes"] = json!(["push"])),
        ("splits", |request, _| request["methodDetails"]["splits"] = json!([{ "recipient": "0x", "amount": "1" }])),
    ];
    let over_tempo = |change: Change| {
        of_challenge(&challenge(|request, params| {
            params[2].1 = "tempo".into();
            request["currency"] = json!(tempo::tokens(tempo::MAINNET)[0]);
            request["methodDetails"] = json!({});
            change(request, params);
        }))
        .and_then(|offer| offer.check_asset(&asset()).map(|()| offer))
    };
    let offer = over_tempo(|_, _| {}).unwrap();
    assert_eq!((offer.protocol, offer.chain_id), (Protocol::MppTempo, tempo::MAINNET));
    assert_eq!(offer.seconds_left(1_795_170_000, 25), Some(25), "it need not be valid for as long as the challenge");
    assert!(!offer.is_sponsored());
    assert!(over_tempo(|request, _| request["methodDetails"]["feePayer"] = json!(true)).unwrap().is_sponsored());
    for (part, change) in tempo {
        let refused = over_tempo(change).unwrap_err();
        assert!(refused.reason.contains(part), "{part}: {refused}");
    }
    for amount in ["-1", "1.5", "0x10", "1e3", "", "9223372036854775808"] {
        let refused = of_challenge(&challenge(|request, _| request["amount"] = json!(amount))).unwrap_err();
        assert!(refused.reason.contains("amount"), "{amount}: {refused}");
    }
}

#[test]
fn challenges_are_found_among_others() {
    let ours = challenge(|_, params| params.push(("header", "Payment-Authorization".into())));
    let mixed = format!("Bearer realm=\"x\", error=\"a, b\", {ours}, Basic realm=\"y\"");
    let offer = of_challenge(&mixed).unwrap();
    assert_eq!(offer.credential_header(), "payment-authorization");
    let demand = read(|name| if name == "www-authenticate" { vec!["Basic realm=\"y\""] } else { Vec::new() }, b"{}");
    assert!(matches!(demand, Ok(Demand::Unknown)));
}

fn v2(entry: Value) -> Result<Demand, NotPayable> {
    let header = STANDARD.encode(json!({ "x402Version": 2, "accepts": [entry] }).to_string());
    read(|name| if name == "payment-required" { vec![header.as_str()] } else { Vec::new() }, b"")
}

fn entry() -> Value {
    json!({ "scheme": "exact", "network": "eip155:137", "amount": "10000", "asset": asset().token,
        "payTo": Address::repeat_byte(7), "maxTimeoutSeconds": 60, "extra": { "name": "USD Coin", "version": "2" } })
}

#[test]
fn an_x402_offer_is_refused_for_what_is_not_paid() {
    let cases: [(&str, &str, Value); 7] = [
        ("scheme", "scheme", json!("upto")),
        ("network", "network", json!("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp")),
        ("amount", "amount", json!("10000.5")),
        ("asset", "asset", json!("0x12")),
        ("payTo", "payTo", json!(Address::ZERO)),
        ("extra", "permit2", json!({ "assetTransferMethod": "permit2" })),
        ("maxTimeoutSeconds", "read", json!("60")),
    ];
    for (field, part, value) in cases {
        let mut changed = entry();
        changed[field] = value;
        let Ok(Demand::Payment(offers)) = v2(changed) else { panic!("{field}") };
        assert!(offers[0].as_ref().unwrap_err().reason.contains(part), "{field}: {offers:?}");
    }
    let mut renamed = entry();
    renamed["extra"]["name"] = json!("USDC");
    let Ok(Demand::Payment(offers)) = v2(renamed) else { panic!() };
    assert!(offers[0].as_ref().unwrap().check_asset(&asset()).unwrap_err().reason.contains("USDC"));
    let elsewhere = Asset::usdc(8_453, asset().token);
    assert!(offers[0].as_ref().unwrap().check_asset(&elsewhere).unwrap_err().reason.contains("chain 137"));
}

/// A demand that cannot be read is not looked for in a weaker form beside it.
#[test]
fn an_unreadable_demand_is_an_error() {
    let v1 = json!({ "x402Version": 1, "accepts": [] }).to_string();
    for header in ["!!!", "e30=", &STANDARD.encode("{\"x402Version\":3,\"accepts\":[]}"), &"A".repeat(70_000)] {
        let of = |name: &str| if name == "payment-required" { vec![header] } else { Vec::new() };
        assert!(read(of, v1.as_bytes()).is_err(), "{header:.20}");
    }
    let twice = |name: &str| if name == "payment-required" { vec!["e30=", "e30="] } else { Vec::new() };
    assert!(read(twice, b"").is_err());
    assert!(read(|name| if name == "www-authenticate" { vec!["Payment id=\"open"] } else { Vec::new() }, b"").is_err());
    assert!(read(|_| Vec::new(), b"{\"x402Version\":1,\"accepts\":{}}").is_err());
}

#[test]
fn a_drain_provider_is_told_apart() {
    let drain = read(|name| if name == "x-payment-protocol" { vec!["drain-v2"] } else { Vec::new() }, b"");
    assert!(matches!(drain, Ok(Demand::Drain)));
}

/// M12: whoever sees a credential can use it.
#[test]
fn m12_a_credential_does_not_show_its_value() {
    let credential = Credential { header: "x-payment", value: "secret".into() };
    assert!(!format!("{credential:?}").contains("secret"));
}

proptest! {
    #[test]
    fn no_input_panics(challenge in "\\PC{0,300}", header in "\\PC{0,300}", body in "\\PC{0,300}", json in any::<Vec<u8>>()) {
        let encoded = STANDARD.encode(&json);
        for (auth, required) in [(challenge.as_str(), header.as_str()), (&format!("Payment {challenge}"), &encoded)] {
            let of = |name: &str| match name { "www-authenticate" => vec![auth], "payment-required" => vec![required], _ => Vec::new() };
            let _ = read(of, body.as_bytes());
            for protocol in Protocol::ALL {
                let _ = receipt(protocol, |_| vec![required]);
            }
        }
    }

    /// Exactly what was offered is what is signed.
    #[test]
    fn what_is_signed_is_what_was_offered(units in 1..=i64::MAX as u64, seconds in 0..100_000u64, now in 0..4_000_000_000u64) {
        let mut changed = entry();
        changed["amount"] = json!(units.to_string());
        changed["maxTimeoutSeconds"] = json!(seconds);
        let Ok(Demand::Payment(mut offers)) = v2(changed) else { panic!() };
        let offer = offers.remove(0).unwrap();
        let transfer = offer.transfer(Address::repeat_byte(1), now, 600, B256::repeat_byte(2));
        prop_assert_eq!((transfer.value.units(), transfer.to), (units, Address::repeat_byte(7)));
        prop_assert_eq!(transfer.valid_before, now + seconds.min(600));
    }
}
