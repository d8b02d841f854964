#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use proptest::prelude::*;
use serde_json::json;

const ID: &str = "0x82a9ffc76f7278708ca6008cfde035cfcc3129123126c48df9bfbb6189eee47c";

fn parse(value: &Value) -> Result<CloseAnswer, CloseAnswerError> {
    CloseAnswer::parse(value.to_string().as_bytes())
}

#[test]
fn reads_every_spelling() {
    let digits = "5b".repeat(65);
    let expected =
        CloseAnswer { channel_id: Some(ID.parse().unwrap()), final_amount: Usdc::new(150_000), signature: [0x5b; 65] };
    for value in [
        json!({"channelId": ID, "finalAmount": "150000", "signature": format!("0x{digits}")}),
        json!({"channelId": ID, "finalAmount": 150_000, "signature": digits, "more": 1}),
        json!({"channelId": ID, "finalAmount": "150000", "signature": digits.to_uppercase(), "error": null}),
    ] {
        assert_eq!(parse(&value), Ok(expected.clone()), "{value}");
    }
    let no_id = json!({"channelId": "mine", "finalAmount": "0", "signature": digits});
    assert_eq!(parse(&no_id), Ok(CloseAnswer { channel_id: None, final_amount: Usdc::ZERO, ..expected }));
}

#[test]
fn says_what_is_missing() {
    let digits = "5b".repeat(65);
    for (value, wrong) in [
        (json!({"signature": digits}), CloseAnswerError::NoAmount),
        (json!({"finalAmount": null, "signature": digits}), CloseAnswerError::NoAmount),
        (json!({"finalAmount": "-1", "signature": digits}), CloseAnswerError::Amount(AmountError::NotANumber)),
        (json!({"finalAmount": 1.5, "signature": digits}), CloseAnswerError::Amount(AmountError::NotANumber)),
        (json!({"finalAmount": "0x10", "signature": digits}), CloseAnswerError::Amount(AmountError::NotANumber)),
        (
            json!({"finalAmount": "18446744073709551616", "signature": digits}),
            CloseAnswerError::Amount(AmountError::TooLarge),
        ),
        (json!({"finalAmount": "1"}), CloseAnswerError::NoSignature),
        (json!({"finalAmount": "1", "signature": "0x"}), CloseAnswerError::Signature(SignatureError::Malformed)),
        (json!({"error": "channelId required"}), CloseAnswerError::Refused("channelId required".into())),
        (json!({"error": {"message": "no\u{7}"}}), CloseAnswerError::Refused("no".into())),
    ] {
        assert_eq!(parse(&value), Err(wrong), "{value}");
    }
    assert!(matches!(CloseAnswer::parse(b""), Err(CloseAnswerError::Shape(_))));
    assert!(matches!(CloseAnswer::parse(b"[]"), Err(CloseAnswerError::Shape(_))));
    assert!(matches!(CloseAnswer::parse(b"Cannot POST"), Err(CloseAnswerError::Shape(_))));
}

proptest! {
    #[test]
    fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), value in crate::shape::tests::any_json()) {
        let _ = CloseAnswer::parse(&bytes);
        let _ = parse(&value);
        let _ = parse(&json!({"finalAmount": value, "signature": "00"}));
    }
}
