#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use alloy::primitives::address;
use proptest::prelude::*;
use serde_json::json;

const ID: &str = "0x82a9ffc76f7278708ca6008cfde035cfcc3129123126c48df9bfbb6189eee47c";

#[test]
fn fee_wallets() {
    let parse = |value: Value| FeeConfig::parse(value.to_string().as_bytes()).map(|config| config.fee_wallet);
    let wallet = address!("ABC12A8285FbaCe47100891BC1eA3f2EE41BF344");
    assert_eq!(parse(json!({"feeWallet": "0xABC12A8285FbaCe47100891BC1eA3f2EE41BF344"})), Ok(Some(wallet)));
    assert_eq!(parse(json!({"feeWallet": "0xabc12a8285fbace47100891bc1ea3f2ee41bf344"})), Ok(Some(wallet)));
    for none in [json!({}), json!({"feeWallet": null}), json!({"feeWallet": ""})] {
        assert_eq!(parse(none), Ok(None));
    }
    for bad in [
        json!({"feeWallet": "ABC12A8285FbaCe47100891BC1eA3f2EE41BF344"}),
        json!({"feeWallet": "0xABC12A8285FbaCe47100891BC1eA3f2EE41BF34G"}),
        json!({"feeWallet": "0xABC1"}),
        json!({"feeWallet": 7}),
        json!({"error": "down"}),
        json!([]),
        json!(null),
    ] {
        assert!(parse(bad.clone()).is_err(), "{bad}");
    }
}

#[test]
fn status_hints() {
    let body = json!({"channels": [
        {"channelId": ID, "status": "expired_unclosed", "closeCalldata": format!("0x39c79e0c{}", &ID[2..]), "x": 1},
        {"channelId": ID.to_uppercase().replace("0X", "0x"), "status": "a\nb"},
        {"channelId": ID, "closeCalldata": "0xzz"},
        {"channelId": ID, "closeCalldata": format!("0x{}", "00".repeat(3_000))},
        {"channelId": "0x12"},
        5,
    ]});
    let hints = parse_status(body.to_string().as_bytes()).unwrap();
    assert_eq!(hints.len(), 4);
    assert_eq!((hints[0].channel_id.to_string().as_str(), hints[0].status.as_str()), (ID, "expired_unclosed"));
    assert_eq!(hints[0].close_calldata.as_ref().unwrap().len(), 36);
    assert_eq!((hints[1].status.as_str(), &hints[1].close_calldata), ("a b", &None));
    assert_eq!((hints[2].status.as_str(), &hints[2].close_calldata), ("unknown", &None));
    assert_eq!(hints[3].close_calldata, None);
    assert!(parse_status(b"{}").is_err());
    let said = parse_status(br#"{"error":"too many"}"#).unwrap_err();
    assert_eq!(said.reason, "the marketplace says \"too many\"");
}

#[test]
fn gas_station_answers() {
    let parse = |value: Value| GasStationAnswer::parse(value.to_string().as_bytes()).unwrap();
    let sent = parse(json!({"success": true, "txHash": "0xabc"}));
    assert_eq!((sent.success, sent.tx_hash.as_deref(), sent.error), (true, Some("0xabc"), None));
    let refused = parse(json!({"error": "needs 5 USDC\u{1b}"}));
    assert_eq!((refused.success, refused.error.as_deref()), (false, Some("needs 5 USDC")));
    assert!(!parse(json!({"success": true, "error": "no"})).success);
    assert!(!parse(json!({"success": "true"})).success);
    assert!(GasStationAnswer::parse(b"<html>").is_err());
}

#[test]
fn bodies() {
    let body = serde_json::to_value(FeedbackBody::success("p1")).unwrap();
    assert_eq!(body, json!({"providerId": "p1", "outcome": "success", "protocol": "drain"}));
    let body = serde_json::to_value(FeedbackBody::failure("p1", Some(FeedbackReason::Unavailable))).unwrap();
    let failed = json!({"providerId": "p1", "outcome": "failure", "protocol": "drain", "reason": "unavailable"});
    assert_eq!(body, failed);
    let mut telemetry = TelemetryBody {
        provider_id: "p1".into(),
        latency_ms: 180,
        http_status: 200,
        cost_usdc: Usdc::new(8_250),
        protocol: PaidBy::Drain,
        timestamp: "2026-03-26T10:00:00.000Z".into(),
        agent_id: None,
    };
    let mut expected = json!({"providerId": "p1", "latencyMs": 180, "httpStatus": 200, "costUsdc": "0.00825",
        "protocol": "drain", "timestamp": "2026-03-26T10:00:00.000Z"});
    assert_eq!(serde_json::to_value(&telemetry).unwrap(), expected);
    telemetry.agent_id = Some("agent".into());
    expected["agentId"] = json!("agent");
    assert_eq!(serde_json::to_value(&telemetry).unwrap(), expected);
    let station = GasStationBody { address: address!("ABC12A8285FbaCe47100891BC1eA3f2EE41BF344") };
    assert!(
        serde_json::to_value(station).unwrap()["address"]
            .as_str()
            .unwrap()
            .eq_ignore_ascii_case("0xABC12A8285FbaCe47100891BC1eA3f2EE41BF344")
    );
}

proptest! {
    #[test]
    fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), value in crate::shape::tests::any_json()) {
        let wrapped = json!({"channels": [value], "feeWallet": value, "success": value}).to_string();
        for body in [bytes.as_slice(), value.to_string().as_bytes(), wrapped.as_bytes()] {
            let _ = FeeConfig::parse(body);
            let _ = parse_status(body);
            let _ = GasStationAnswer::parse(body);
        }
    }
}
