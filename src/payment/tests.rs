//! Which of several ways to pay is used, and what a caller's request may hold.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use drain_protocol::demand::{self, Demand, Protocol};
use drain_protocol::deployment::POLYGON_USDC;
use drain_protocol::{Address, Asset};
use proptest::prelude::*;
use serde_json::json;

use super::offer::Judged;
use super::*;

const NOW: u64 = 1_795_175_900;

fn request() -> WebRequest {
    WebRequest::new("https://api.example/x", "GET", &BTreeMap::new(), None, 1_000).unwrap()
}

#[cfg(all(feature = "mpp", feature = "x402"))]
/// What is chosen where MPP asks for the first and x402 for the second amount.
fn chosen(mpp: u64, x402: u64, mpp_only: bool) -> Option<(Protocol, u64)> {
    let payee = Address::repeat_byte(7);
    let challenge = json!({
        "amount": mpp.to_string(), "currency": POLYGON_USDC, "recipient": payee,
        "methodDetails": { "chainId": 137, "credentialTypes": ["authorization"] },
    });
    let line = format!(
        "Payment id=\"a\", realm=\"r\", method=\"evm\", intent=\"charge\", expires=\"2026-11-20T11:59:46Z\", request=\"{}\"",
        URL_SAFE_NO_PAD.encode(challenge.to_string())
    );
    let accepts = json!({ "scheme": "exact", "network": "eip155:137", "amount": x402.to_string(), "asset": POLYGON_USDC,
        "payTo": payee, "maxTimeoutSeconds": 60 });
    let required = STANDARD.encode(json!({ "x402Version": 2, "accepts": [accepts] }).to_string());
    let of = |name: &str| match name {
        "www-authenticate" => vec![line.as_str()],
        "payment-required" => vec![required.as_str()],
        _ => Vec::new(),
    };
    let Ok(Demand::Payment(offers)) = demand::read(of, b"") else { panic!() };
    let asset = Asset::usdc(137, POLYGON_USDC);
    let judged = Judged { asset: &asset, tempo: Err("not set"), own: Address::repeat_byte(1), now: NOW, mpp_only };
    let choice = choose(offers, &request(), judged);
    choice.offer.map(|offer| (offer.protocol, offer.amount.units()))
}

#[test]
#[cfg(all(feature = "mpp", feature = "x402"))]
fn the_cheapest_way_is_used_and_mpp_where_they_are_equal() {
    assert_eq!(chosen(10, 10, false), Some((Protocol::Mpp, 10)));
    assert_eq!(chosen(11, 10, false), Some((Protocol::X402V2, 10)));
    assert_eq!(chosen(11, 10, true), Some((Protocol::Mpp, 11)));
}

proptest! {
    /// M3: never the dearer one.
    #[test]
    #[cfg(all(feature = "mpp", feature = "x402"))]
    fn m3_never_the_dearer_way(mpp in 1..1_000u64, x402 in 1..1_000u64) {
        prop_assert_eq!(chosen(mpp, x402, false).map(|(_, amount)| amount), Some(mpp.min(x402)));
    }

    #[test]
    fn no_request_panics(url in "\\PC{0,60}", method in "\\PC{0,8}", name in "\\PC{0,12}", value in "\\PC{0,12}", body in proptest::option::of("\\PC{0,40}")) {
        let headers = BTreeMap::from([(name, value)]);
        if let Ok(request) = WebRequest::new(&url, &method, &headers, body.as_deref(), 20) {
            prop_assert!(!request.what().contains('\n') && !request.host().contains('/'));
        }
    }
}

#[test]
fn records_hold_no_query() {
    let request = WebRequest::new("https://API.example:8443/a?key=secret#x", "get", &BTreeMap::new(), None, 0).unwrap();
    assert_eq!((request.what().as_str(), request.host().as_str()), ("GET /a", "api.example:8443"));
    assert_eq!(request.url().fragment(), None);
}
