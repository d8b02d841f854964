#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::error::{Code, Money};

const PARAMS: &[Param] = &[
    Param::required("provider", Kind::Text, "").or(&["providerId"]),
    Param::optional("amount", Kind::Text, ""),
    Param::optional("duration", Kind::Text, ""),
    Param::optional("maxTokens", Kind::Count, ""),
    Param::optional("maxCost", Kind::Text, ""),
    Param::optional("onlineOnly", Kind::Flag, ""),
    Param::optional("temperature", Kind::Number, ""),
    Param::optional("channelId", Kind::Text, ""),
    Param::optional("messages", Kind::Messages, ""),
    Param::optional("format", Kind::OneOf(&["compact", "full"]), ""),
];

fn args(value: Value) -> Result<Args, Failure> {
    let Value::Object(map) = value else { panic!("not an object") };
    Args::new(PARAMS, map)
}

fn one(name: &str, value: Value) -> Args {
    args(json!({ name: value })).unwrap()
}

/// Every reading of an argument, as text.
fn read(name: &str, value: Value) -> Result<String, Failure> {
    let args = one(name, value);
    Ok(match name {
        "amount" => format!("{:?}", args.positive_amount(name)?.map(Usdc::units)),
        "duration" => format!("{:?}", args.duration(name)?.map(ChannelDuration::seconds)),
        "maxTokens" => format!("{:?}", args.max_tokens(name)?),
        "onlineOnly" => format!("{:?}", args.flag(name)?),
        "temperature" => format!("{:?}", args.temperature(name)?.map(|n| n.to_string())),
        "channelId" => args.channel(name)?.to_string(),
        "messages" => format!("{}", args.messages(name)?.len()),
        "format" => format!("{:?}", args.one_of(name, &["compact", "full"])?),
        _ => format!("{:?}", args.text(name)?),
    })
}

const ID: &str = "0xEB8be6fa0000000000000000000000000000000000000000000000000000a3f0";

#[test]
fn good_values() {
    for (name, value, expected) in [
        ("amount", json!("1.50"), "Some(1500000)"),
        ("amount", json!(1.5), "Some(1500000)"),
        ("amount", json!(2), "Some(2000000)"),
        ("amount", json!(0.1), "Some(100000)"),
        ("amount", json!(1000.0), "Some(1000000000)"),
        ("duration", json!("24h"), "Some(86400)"),
        ("duration", json!("1.5h"), "Some(5400)"),
        ("duration", json!("1h30m"), "Some(5400)"),
        ("duration", json!("1w"), "Some(604800)"),
        ("duration", json!(3600), "Some(3600)"),
        ("maxTokens", json!(60), "Some(60)"),
        ("maxTokens", json!("60"), "Some(60)"),
        ("onlineOnly", json!(true), "true"),
        ("onlineOnly", json!("False"), "false"),
        ("temperature", json!(0.7), "Some(\"0.7\")"),
        ("channelId", json!(ID), &ID.to_lowercase()),
        ("messages", json!([{ "role": "user", "content": "{\"a\":1}" }]), "1"),
        ("format", json!("FULL"), "Some(\"full\")"),
        ("provider", json!("  openai-1 "), "Some(\"openai-1\")"),
        ("provider", json!(""), "None"),
    ] {
        assert_eq!(read(name, value.clone()).as_deref(), Ok(expected), "{name} {value}");
    }
}

#[test]
fn bad_values_name_the_argument_and_spend_nothing() {
    let huge = "115792089237316195423570985008687907853269984665640564039457584007913129639936";
    let bad = [
        (
            "amount",
            vec![
                json!(""),
                json!("-1"),
                json!("abc"),
                json!("1e3"),
                json!("0.0000001"),
                json!(huge),
                json!("0"),
                json!(0),
                json!(-1),
                json!(0.0000001),
                json!(1e300),
                serde_json::from_str("123456789012.123456").unwrap(),
                json!(u64::MAX),
                json!(true),
                json!(["1"]),
                json!({ "usdc": 1 }),
                json!("1,5"),
                json!("$1"),
                json!("1 USDC"),
                json!("0x10"),
                json!("NaN"),
                json!("+1"),
                json!("１"),
            ],
        ),
        (
            "duration",
            vec![
                json!(""),
                json!("0"),
                json!(0),
                json!("-1h"),
                json!(-3600),
                json!(1.5),
                json!("h"),
                json!("1x"),
                json!("99999999999999999999h"),
                json!(u64::MAX),
                json!(true),
                json!("1e3"),
                json!("forever"),
            ],
        ),
        (
            "maxTokens",
            vec![
                json!(0),
                json!(-1),
                json!(1.5),
                json!(60.0),
                json!(1e12),
                json!(10_000_001),
                json!(u64::MAX),
                json!("1e3"),
                json!("-1"),
                json!(""),
                json!("many"),
                json!(true),
                json!([1]),
            ],
        ),
        ("onlineOnly", vec![json!(1), json!("yes"), json!("")]),
        ("temperature", vec![json!(-0.1), json!(2.1), json!("0.7"), json!(1e300)]),
        (
            "channelId",
            vec![
                json!(""),
                json!("0x"),
                json!("0x12"),
                json!(&ID[2..]),
                json!(format!("{ID}00")),
                json!(ID.replace('a', "g")),
                json!(12),
                json!("the last one"),
            ],
        ),
        (
            "messages",
            vec![
                json!([]),
                json!("hello"),
                json!({ "role": "user", "content": "x" }),
                json!([{}]),
                json!(["x"]),
                json!([{ "role": "user" }]),
                json!([{ "content": "x" }]),
                json!([{ "role": "tool", "content": "x" }]),
                json!([{ "role": "user", "content": { "a": 1 } }]),
                json!([{ "role": "user", "content": null }]),
                json!([{ "role": "user", "content": "x".repeat(MAX_MESSAGES_BYTES) }]),
                json!(null),
            ],
        ),
        ("format", vec![json!("fullest"), json!(1)]),
        ("provider", vec![json!(1), json!("a\u{0}b"), json!("a\nb"), json!("x".repeat(257))]),
    ];
    for (name, values) in bad {
        for value in values {
            let shown = one_line(&value.to_string(), 60);
            let failure = read(name, value).expect_err(&shown);
            assert_eq!(failure.code, Code::InvalidArgument, "{name} {shown}");
            assert_eq!(failure.money, Money::NotSpent);
            assert!(failure.message.starts_with(name), "{name} {shown}: {}", failure.message);
            assert!(failure.message.len() < 400 && !failure.next.is_empty(), "{}", failure.message);
        }
    }
}

#[test]
fn what_is_required_must_be_there() {
    let empty = args(json!({ "provider": null })).unwrap();
    for failure in [
        empty.required_text("provider").unwrap_err(),
        empty.required_amount("amount").unwrap_err(),
        empty.channel("channelId").unwrap_err(),
        empty.messages("messages").unwrap_err(),
    ] {
        assert!(failure.message.ends_with("it is required."), "{}", failure.message);
    }
    assert_eq!(one("provider", json!(" ")).required_text("provider").unwrap_err().code, Code::InvalidArgument);
}

#[test]
fn names_are_forgiven_refused_or_ignored() {
    let spelled = args(json!({ "max_tokens": 5, "provider_id": "p", "online-only": true })).unwrap();
    assert_eq!(spelled.max_tokens("maxTokens"), Ok(Some(5)));
    assert_eq!(spelled.text("provider"), Ok(Some("p".into())));
    assert_eq!(spelled.flag("onlineOnly"), Ok(true));
    assert!(spelled.notes().is_empty());

    for (name, meant) in [("maxCosts", "maxCost"), ("amoutn", "amount"), ("maxToken", "maxTokens")] {
        let failure = args(json!({ name: 1 })).unwrap_err();
        assert!(failure.message.starts_with(name) && failure.message.contains(meant), "{}", failure.message);
    }
    let twice = args(json!({ "provider": "a", "providerId": "b" })).unwrap_err();
    assert!(twice.message.starts_with("provider: it is given twice"), "{}", twice.message);

    let ignored = args(json!({ "provider": "a", "top_p": 1, "x\u{202E}\ny": 2 })).unwrap();
    assert_eq!(ignored.notes().len(), 2);
    assert!(!ignored.notes().join("").contains(['\n', '\u{202E}']));
}

proptest! {
    #[test]
    fn no_value_panics(name in 0usize..PARAMS.len(), text in any::<String>(), number in any::<f64>(), kind in 0u8..4) {
        let value = match kind {
            0 => json!(text),
            1 => json!(number),
            2 => json!([text]),
            _ => json!([{ "role": text, "content": number }]),
        };
        let name = PARAMS[name].name;
        if !value.is_null() {
            let _ = read(name, value);
        }
    }

    #[test]
    fn a_number_is_the_amount_that_it_shows(units in 0u64..1_000_000_000_000) {
        let text = format!("{}.{:06}", units / 1_000_000, units % 1_000_000);
        let number: Value = serde_json::from_str(&text).unwrap();
        if let Ok(Some(amount)) = one("amount", number).amount("amount") {
            prop_assert_eq!(amount.units(), units);
        }
    }
}
