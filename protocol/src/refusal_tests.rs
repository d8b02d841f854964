#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use proptest::prelude::*;

fn refusal(status: u16, pairs: &[(&str, &str)], body: &str) -> Refusal {
    let get = |name: &str| pairs.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, v)| v.to_string());
    Refusal::parse(status, get, body.as_bytes())
}

#[test]
fn dialect_a() {
    let body = r#"{"error":{"message":"Payment validation failed: insufficient_funds","type":"payment_required","code":"insufficient_funds"}}"#;
    let pairs = [("X-DRAIN-Error", "insufficient_funds"), ("X-DRAIN-Required", "783"), ("X-DRAIN-Provided", "-250")];
    let refused = refusal(402, &pairs, body);
    assert_eq!(refused.code, RefusalCode::InsufficientFunds);
    assert_eq!((refused.required, refused.provided), (Some(Usdc::new(783)), Some(-250)));
    assert_eq!(refused.total_charged(Usdc::new(1_000)), Some(Usdc::new(1_250)));
    assert_eq!(refused.to_string(), "HTTP 402 insufficient_funds: Payment validation failed: insufficient_funds");
    // A proxy dropped the headers; then the code, too, is missing.
    assert_eq!(refusal(402, &[], body).code, RefusalCode::InsufficientFunds);
    let no_code = r#"{"error":{"message":"Payment validation failed: invalid_nonce","code":null}}"#;
    assert_eq!(refusal(402, &[], no_code).code, RefusalCode::InvalidNonce);
}

#[test]
fn the_header_comes_first() {
    let body = r#"{"error":{"message":"Voucher error: invalid_nonce","code":"wrong_provider"}}"#;
    assert_eq!(refusal(402, &[("X-DRAIN-Error", "exceeds_deposit")], body).code, RefusalCode::ExceedsDeposit);
    assert_eq!(refusal(402, &[("X-DRAIN-Error", " ")], body).code, RefusalCode::WrongProvider);
}

#[test]
fn dialect_b() {
    for body in [
        r#"{"error":{"message":"Voucher error: insufficient_funds"},"required":"4500"}"#,
        r#"{"error":{"message":"Voucher error: insufficient_funds"},"required":4500}"#,
        r#"{"error":{"message":"Voucher error: insufficient_funds","required":"4500"}}"#,
        r#"{"error":"Voucher error: insufficient_funds","required":"4500"}"#,
    ] {
        let refused = refusal(402, &[], body);
        assert_eq!(
            (refused.code, refused.required, refused.provided),
            (RefusalCode::InsufficientFunds, Some(Usdc::new(4_500)), None)
        );
    }
    for (message, code) in [
        ("Payment required. Include X-DRAIN-Voucher header.", RefusalCode::VoucherRequired),
        ("X-DRAIN-Voucher header required", RefusalCode::VoucherRequired),
        ("Invalid voucher format.", RefusalCode::InvalidVoucherFormat),
    ] {
        let refused = refusal(402, &[], &serde_json::json!({"error": {"message": message}}).to_string());
        assert_eq!((refused.code, refused.message.as_str()), (code, message));
    }
}

#[test]
fn dialect_c() {
    let refused = refusal(400, &[], r#"{"error":"input_too_large"}"#);
    assert_eq!((refused.code, refused.message.as_str()), (RefusalCode::InputTooLarge, "input_too_large"));
    assert_eq!(refusal(500, &[], r#"{"error":"internal_error"}"#).code, RefusalCode::Upstream("internal_error".into()));
    let plain = refusal(400, &[], r#"{"error":"channelId required"}"#);
    assert_eq!(plain.code, RefusalCode::Other("channelId required".into()));
}

#[test]
fn no_dialect_at_all() {
    let html = refusal(413, &[], "<!DOCTYPE html>\n<pre>PayloadTooLargeError:\n request entity too large</pre>");
    assert_eq!(html.code, RefusalCode::Other("http_413".into()));
    assert_eq!(html.message, "PayloadTooLargeError: request entity too large");
    let empty = refusal(502, &[], "");
    assert_eq!((empty.code.as_str(), empty.message.as_str()), ("http_502", "HTTP 502: http_502"));
    assert_eq!(empty.code, RefusalCode::Upstream("http_502".into()));
    assert_eq!(refusal(402, &[], "[]").code, RefusalCode::Other("http_402".into()));
    assert_eq!(refusal(400, &[], r#"{"error":{"message":"Model x not here"}}"#).message, "Model x not here");
    let words = refusal(504, &[], r#"{"error":"the tool took too long"}"#);
    assert_eq!((words.code.as_str(), words.message.as_str()), ("http_504", "the tool took too long"));
}

#[test]
fn too_many_requests_are_that_whatever_they_say() {
    for body in ["", r#"{"error":{"message":"slow down","code":"rate_limit_exceeded"}}"#, "<html>"] {
        assert_eq!(refusal(429, &[], body).code, RefusalCode::RateLimited);
    }
}

#[test]
fn an_exception_as_code_is_made_safe() {
    let text = format!("HTTP request failed.\n\nURL: https://rpc/\u{202E}{}", "x".repeat(10_000));
    let refused = refusal(402, &[("X-DRAIN-Error", &text)], "");
    let RefusalCode::Other(code) = &refused.code else { panic!("{:?}", refused.code) };
    assert!(code.starts_with("HTTP request failed. URL: https://rpc/x") && code.chars().count() == 120);
    assert!(!refused.code.before_work());
}

#[test]
fn codes_read_back() {
    for (name, code) in NAMES {
        assert_eq!((&RefusalCode::from_text(name), code.as_str()), (code, *name));
        assert_eq!(code.before_work(), *code != RefusalCode::InsufficientFundsPost);
    }
    assert_eq!(RefusalCode::from_text("openai_error"), RefusalCode::Upstream("openai_error".into()));
    assert!(!RefusalCode::Upstream("openai_error".into()).before_work());
}

#[test]
fn totals_stay_in_range() {
    let mut refused = refusal(402, &[("X-DRAIN-Provided", "100"), ("X-DRAIN-Required", "-1")], r#"{"required":"7"}"#);
    assert_eq!(refused.required, None, "the header counts, and is no amount");
    assert_eq!(refused.total_charged(Usdc::new(100)), Some(Usdc::ZERO));
    assert_eq!(refused.total_charged(Usdc::new(99)), None, "less than nothing charged");
    for provided in [i128::MIN, i128::MAX, -i128::from(i64::MAX)] {
        refused.provided = Some(provided);
        assert_eq!(refused.total_charged(Usdc::new(1)), None);
    }
    refused.provided = None;
    assert_eq!(refused.total_charged(Usdc::new(1)), None);
}

proptest! {
    #[test]
    fn nothing_panics(
        status in any::<u16>(),
        header in prop::option::of(any::<String>()),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        value in crate::shape::tests::any_json(),
        sent in any::<u32>(),
    ) {
        for body in [bytes.as_slice(), value.to_string().as_bytes(), format!(r#"{{"error":{value}}}"#).as_bytes()] {
            let refused = Refusal::parse(status, |_| header.clone(), body);
            prop_assert!(refused.message.chars().count() <= 400);
            prop_assert!(refused.code.as_str().chars().count() <= 120);
            let _ = refused.total_charged(Usdc::new(sent));
        }
    }
}
