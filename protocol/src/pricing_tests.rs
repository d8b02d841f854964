#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::chat::Role;
use proptest::prelude::*;

const LIST: &str = r#"{"provider":"0x70997970C51812dc3A010C7d01b50e0d17dc79C8","providerName":"Sim-LLM","chainId":137,"currency":"USDC","decimals":6,"markup":"50%","models":{"sim-small":{"inputPer1kTokens":"0.000225","outputPer1kTokens":"0.0009"},"sim/run":{"inputPer1kTokens":"0.005","outputPer1kTokens":"0","pricePerRun":"0.005","description":"flat"},"sim-free":{"inputPer1kTokens":"0","outputPer1kTokens":"0"}}}"#;

fn usdc(units: u32) -> Usdc {
    Usdc::new(units)
}

fn per_token(input: u32, output: u32) -> Price {
    Price::PerToken { input_per_1k: usdc(input), output_per_1k: usdc(output) }
}

fn hello() -> Vec<Message> {
    vec![Message { role: Role::User, content: "Hello".into() }]
}

#[test]
fn reads_a_price_list() {
    let list = PriceList::parse(LIST.as_bytes()).unwrap();
    assert_eq!(list.provider, Some("0x70997970C51812dc3A010C7d01b50e0d17dc79C8".parse().unwrap()));
    assert_eq!((list.provider_name.as_str(), list.chain_id, list.skipped), ("Sim-LLM", Some(137), 0));
    let run = &list.models["sim/run"];
    assert_eq!((run.price, run.price_per_run), (Price::Flat(usdc(5_000)), Some(usdc(5_000))));
    assert_eq!(run.description.as_deref(), Some("flat"));
    let shown: Vec<String> = list.models.values().map(|model| model.price.to_string()).collect();
    assert_eq!(shown, ["free", "0.000225 in / 0.0009 out per 1k tokens", "0.005 per request"]);
}

#[test]
fn drops_and_counts_what_it_cannot_read() {
    let list = PriceList::parse(
        br#"{"models":{
            "ok":{"inputPer1kTokens":0.00025,"outputPer1kTokens":1e-7},
            "older":{"inputCostPer1k":"1","outputCostPer1k":2},
            "no output":{"inputPer1kTokens":"1"},
            "null output":{"inputPer1kTokens":"1","outputPer1kTokens":null},
            "negative":{"inputPer1kTokens":"-1","outputPer1kTokens":"1"},
            "words":{"inputPer1kTokens":"cheap","outputPer1kTokens":"1"},
            "hid\u200bden":{"inputPer1kTokens":"1","outputPer1kTokens":"1"},
            "":{"inputPer1kTokens":"1","outputPer1kTokens":"1"},
            "text":"1"
        }}"#,
    )
    .unwrap();
    assert_eq!(list.models.keys().collect::<Vec<_>>(), ["ok", "older"]);
    assert_eq!(list.models["ok"].price, per_token(250, 1));
    assert_eq!(list.models["older"].price, per_token(1_000_000, 2_000_000));
    assert_eq!((list.skipped, list.provider, list.provider_name.as_str()), (7, None, ""));
}

#[test]
fn says_why_there_is_no_price_list() {
    let reason = |body: &str| PriceList::parse(body.as_bytes()).unwrap_err().reason;
    assert_eq!(reason(r#"{"error":"boom"}"#), "it says \"boom\"");
    assert_eq!(reason(r#"{"models":[]}"#), "it has no object \"models\"");
    assert_eq!(reason("[]"), "it has no object \"models\"");
    assert_eq!(reason(""), "it is empty");
    assert!(reason("<html>").starts_with("it is not JSON"));
}

#[test]
fn a_list_is_bounded() {
    let entry = |i: usize| format!(r#""m{i}":{{"inputPer1kTokens":"1","outputPer1kTokens":"1"}}"#);
    let body = format!(r#"{{"models":{{{}}}}}"#, (0..MAX_MODELS + 3).map(entry).collect::<Vec<_>>().join(","));
    let list = PriceList::parse(body.as_bytes()).unwrap();
    assert_eq!((list.models.len(), list.skipped), (MAX_MODELS, 3));
}

#[test]
fn prices_round_up() {
    for (text, units) in [
        ("0.000225", Some(225)),
        ("5", Some(5_000_000)),
        ("0.0000001", Some(1)),
        ("1.0000000", Some(1_000_000)),
        ("1.0000001", Some(1_000_001)),
        ("2.5e-7", Some(1)),
        ("1e-6", Some(1)),
        ("1E2", Some(100_000_000)),
        ("1e-900", Some(1)),
        ("0e900", Some(0)),
        (".5", Some(500_000)),
        ("0", Some(0)),
        ("9223372036854.775807", Some(i64::MAX as u64)),
        ("9223372036854.775808", None),
        ("1e900", None),
        ("1e13", None),
        ("", None),
        (".", None),
        ("e5", None),
        ("-1", None),
        ("+1", None),
        ("1e", None),
        ("0x10", None),
        ("1,5", None),
        ("Infinity", None),
    ] {
        assert_eq!(price_decimal(text).map(Usdc::units), units, "{text}");
    }
    assert_eq!(price_decimal(&"1".repeat(101)), None);
}

#[test]
fn bounds_cover_the_provider() {
    let price = per_token(3_750, 15_000);
    // 9 tokens of pre-authorisation plus 50 of output are 783 units; we count bytes and room for marks.
    assert_eq!(request_bound(&price, &hello(), 10), price.bound(4 + 5 + 32, 50));
    assert_eq!(request_bound(&price, &hello(), 60), price.bound(41, 60));
    assert_eq!(request_bound(&Price::Flat(usdc(5_000)), &hello(), 1_000), usdc(5_000));
    assert_eq!(request_bound(&Price::Free, &hello(), u32::MAX), Usdc::ZERO);
}

#[test]
fn nothing_overflows() {
    let dear = Price::PerToken { input_per_1k: Usdc::MAX, output_per_1k: Usdc::MAX };
    for amount in [dear.bound(u64::MAX, u64::MAX), dear.cost(u64::MAX, u64::MAX), dear.cost_floor_each(u64::MAX, 0)] {
        assert_eq!(amount, Usdc::MAX);
    }
    assert_eq!(largest_max_tokens(&dear, &hello(), usdc(1)), None);
}

#[test]
fn largest_max_tokens_at_the_edges() {
    let price = per_token(0, 1_000);
    assert_eq!(largest_max_tokens(&price, &hello(), usdc(49)), None);
    assert_eq!(largest_max_tokens(&price, &hello(), usdc(50)), Some(50));
    assert_eq!(largest_max_tokens(&price, &hello(), usdc(51)), Some(51));
    assert_eq!(largest_max_tokens(&Price::Flat(usdc(5)), &hello(), usdc(5)), Some(u32::MAX));
    assert_eq!(largest_max_tokens(&Price::Flat(usdc(5)), &hello(), usdc(4)), None);
    assert_eq!(largest_max_tokens(&Price::Free, &hello(), Usdc::ZERO), Some(u32::MAX));
    let no_output = Price::PerToken { input_per_1k: usdc(1), output_per_1k: Usdc::ZERO };
    assert_eq!(largest_max_tokens(&no_output, &hello(), usdc(1)), Some(u32::MAX));
}

fn any_price() -> impl Strategy<Value = Price> {
    let amount =
        || prop_oneof![0..=Usdc::MAX.units(), 0u64..100_000].prop_map(|units| Usdc::from_units(units).unwrap());
    (amount(), amount()).prop_map(|(input, output)| Price::per_1k(input, output))
}

proptest! {
    #[test]
    fn no_way_of_rounding_exceeds_the_bound(price in any_price(), input in any::<u64>(), output in any::<u64>()) {
        let (bound, cost, each) =
            (price.bound(input, output), price.cost(input, output), price.cost_floor_each(input, output));
        prop_assert!(cost <= bound && each <= bound);
        if cost < Usdc::MAX {
            prop_assert!(each <= cost && cost.units() <= each.units() + 1);
            prop_assert!(bound.units() <= cost.units() + 1);
        }
    }

    #[test]
    fn the_largest_is_the_largest(price in any_price(), text in ".{0,40}", budget in prop_oneof![0..Usdc::MAX.units(), 0u64..100_000]) {
        let messages = [Message { role: Role::User, content: text }];
        let budget = Usdc::from_units(budget).unwrap();
        match largest_max_tokens(&price, &messages, budget) {
            None => prop_assert!(request_bound(&price, &messages, PREAUTH_OUTPUT_TOKENS) > budget),
            Some(tokens) => {
                prop_assert!(tokens >= PREAUTH_OUTPUT_TOKENS);
                prop_assert!(request_bound(&price, &messages, tokens) <= budget);
                if let Some(more) = tokens.checked_add(1) {
                    prop_assert!(request_bound(&price, &messages, more) > budget);
                }
            }
        }
    }

    #[test]
    fn amounts_read_back(units in 0..=Usdc::MAX.units(), text in "\\PC{0,40}") {
        let amount = Usdc::from_units(units).unwrap();
        prop_assert_eq!(price_decimal(&amount.to_string()), Some(amount));
        let _ = price_decimal(&text);
    }

    #[test]
    fn no_list_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), value in crate::shape::tests::any_json()) {
        let _ = PriceList::parse(&bytes);
        let _ = PriceList::parse(serde_json::json!({"models": {"m": value}}).to_string().as_bytes());
        let _ = PriceList::parse(value.to_string().as_bytes());
    }

    #[test]
    fn no_mutated_list_panics(bytes in crate::shape::tests::mutated(LIST)) {
        let _ = PriceList::parse(&bytes);
    }
}
