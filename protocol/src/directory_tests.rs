#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use proptest::prelude::*;
use serde_json::json;

const WALLET: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
const EXAMPLE: &str = r#"{"version":"1.0","count":1,"timestamp":"2026-03-26T10:00:00.000Z",
 "_meta":{"protocol":"DRAIN","network":"polygon","contract":"0x0C2B3aA1e80629D572b1f200e6DF3586B3946A8A","directoryUrl":"https://handshake58.com/directory"},
 "providers":[{"id":"prov_1772323200000_ab12cd","name":"Sim-LLM","description":"...","apiUrl":"http://127.0.0.1:9001",
   "providerAddress":"0x70997970C51812dc3A010C7d01b50e0d17dc79C8","chainId":137,"category":"llm","protocol":"drain","tier":"community",
   "score":0.42,"qualityScore":0.93,"docsUrl":null,"mppEndpoint":null,"mppType":null,"minDuration":300,"maxDuration":2592000,
   "status":{"online":true,"lastChecked":1772323200000,"latencyMs":180},
   "models":[{"id":"sim-small","name":"sim-small","pricing":{"inputPer1kTokens":"0.000225","outputPer1kTokens":"0.0009","currency":"USDC","decimals":6}}]}]}"#;

fn parse(value: &Value) -> Catalogue {
    Catalogue::parse(value.to_string().as_bytes()).unwrap()
}

fn least() -> Value {
    json!({"id": "p1", "apiUrl": "https://a.example/", "providerAddress": WALLET})
}

fn with(key: &str, value: Value) -> Value {
    let mut entry = least();
    entry[key] = value;
    entry
}

fn one(entry: &Value) -> Listing {
    let catalogue = parse(&json!([entry]));
    assert_eq!(catalogue.skipped, 0, "{entry}");
    catalogue.listings[0].clone()
}

#[test]
fn reads_the_documented_form() {
    let catalogue = Catalogue::parse(EXAMPLE.as_bytes()).unwrap();
    assert_eq!((catalogue.contract, catalogue.skipped), (Some(crate::deployment::POLYGON_V2), 0));
    let listing = &catalogue.listings[0];
    assert_eq!((listing.id.as_str(), listing.name.as_str()), ("prov_1772323200000_ab12cd", "Sim-LLM"));
    assert_eq!((listing.api_url.as_str(), listing.chain_id), ("http://127.0.0.1:9001", 137));
    assert_eq!(listing.provider_address, WALLET.parse::<Address>().unwrap());
    assert_eq!((listing.category.as_str(), &listing.protocol), ("llm", &ListingProtocol::Drain));
    assert_eq!(
        (listing.tier.as_deref(), listing.score, listing.quality_score),
        (Some("community"), Some(0.42), Some(0.93))
    );
    assert_eq!((&listing.docs_url, &listing.mpp_endpoint), (&None, &None));
    assert_eq!((listing.min_duration, listing.max_duration), (Some(300), Some(2_592_000)));
    assert_eq!(
        (listing.online, listing.last_checked_ms, listing.latency_ms),
        (Some(true), Some(1_772_323_200_000), Some(180))
    );
    let price = listing.model("sim-small").unwrap().price.unwrap();
    assert_eq!(price.to_string(), "0.000225 in / 0.0009 out per 1k tokens");
    assert!(!listing.bad_checksum);
    assert!(listing.suits_duration(300) && !listing.suits_duration(299) && !listing.suits_duration(2_592_001));
}

#[test]
fn reads_the_least() {
    let listing = one(&least());
    assert_eq!((listing.name.as_str(), listing.description.as_str()), ("p1", ""));
    assert_eq!((listing.api_url.as_str(), listing.chain_id), ("https://a.example", POLYGON));
    assert_eq!((listing.category.as_str(), listing.protocol.clone()), ("llm", ListingProtocol::Drain));
    assert_eq!((listing.online, listing.last_checked_ms, listing.latency_ms), (None, None, None));
    assert!(listing.models.is_empty() && listing.suits_duration(1));
}

#[test]
fn reads_the_older_form() {
    let body = json!({"success": true, "count": 1, "providers": [{
        "id": "hs58-openai", "name": "OpenAI", "apiUrl": "https://o.example", "providerAddress": WALLET, "chainId": "137",
        "description": "d", "logoUrl": null, "website": null, "isOnline": false, "inferenceOnline": true,
        "lastCheckedAt": "2026-03-26T10:00:00.123Z", "avgResponseTime": 181.7,
        "models": [{"modelId": "gpt-4o", "name": "GPT-4o", "inputCostPer1k": 0.00375, "outputCostPer1k": "0.015"}, "bare"],
    }]});
    let catalogue = parse(&body);
    assert_eq!(catalogue.contract, None);
    let listing = &catalogue.listings[0];
    assert_eq!((listing.online, listing.latency_ms, listing.chain_id), (Some(false), Some(181), 137));
    assert_eq!(listing.last_checked_ms, Some(1_774_519_200_123));
    let (gpt, bare) = (&listing.models[0], &listing.models[1]);
    assert_eq!((gpt.id.as_str(), gpt.name.as_str()), ("gpt-4o", "GPT-4o"));
    assert_eq!(gpt.price.unwrap().to_string(), "0.00375 in / 0.015 out per 1k tokens");
    assert_eq!((bare.id.as_str(), bare.name.as_str(), bare.price), ("bare", "bare", None));
}

#[test]
fn tolerates_one_field_at_a_time() {
    assert_eq!(one(&with("status", json!("offline"))).online, Some(false));
    assert_eq!(one(&with("status", json!({"online": null}))).online, None);
    let mut both = with("status", json!({"online": null}));
    both["isOnline"] = json!(true);
    assert_eq!(one(&both).online, Some(true));
    assert_eq!(one(&with("category", json!("Multi-Modal"))).category, "multi-modal");
    assert_eq!(one(&with("protocol", json!("DRAIN"))).protocol, ListingProtocol::Drain);
    assert_eq!(one(&with("protocol", Value::Null)).protocol, ListingProtocol::Drain);
    assert_eq!(one(&with("protocol", json!("x402"))).protocol, ListingProtocol::Other("x402".into()));
    assert_eq!(one(&with("score", json!("0.5"))).score, Some(0.5));
    assert_eq!(one(&with("score", json!("NaN"))).score, None);
    assert_eq!(one(&with("qualityScore", json!(93))).quality_score, Some(93.0));
    assert_eq!(one(&with("minDuration", json!("300"))).min_duration, Some(300));
    assert_eq!(one(&with("minDuration", json!(-1))).min_duration, None);
    assert_eq!(one(&with("id", json!(7))).id, "7");
    assert_eq!(one(&with("models", json!({"a": 1}))).models, []);
    assert_eq!(
        one(&with("docsUrl", json!("https://d.example/docs/"))).docs_url.as_deref(),
        Some("https://d.example/docs")
    );
    let priceless = with("models", json!([{"id": "m", "pricing": null}, {"name": "no id"}, {"id": "h\u{200B}"}, 5]));
    let priceless = one(&priceless).models;
    assert_eq!((priceless.len(), priceless[0].price), (1, None));
}

#[test]
fn checksums() {
    let checked = |text: &str| one(&with("providerAddress", json!(text))).bad_checksum;
    assert!(!checked(WALLET));
    assert!(!checked(&WALLET.to_lowercase()));
    assert!(!checked(&WALLET.to_uppercase()));
    assert!(checked(&WALLET.replace("dc79C8", "dC79c8")));
}

#[test]
fn keeps_mpp_without_what_vouchers_need() {
    let listing = one(&json!({"id": "m", "protocol": "mpp", "mppEndpoint": "https://m.example/pay"}));
    assert_eq!(listing.protocol, ListingProtocol::Mpp);
    assert_eq!((listing.provider_address, listing.api_url.as_str()), (Address::ZERO, ""));
    assert_eq!(listing.mpp_endpoint.as_deref(), Some("https://m.example/pay"));
}

#[test]
fn leaves_out_and_counts() {
    for entry in [
        Value::Null,
        json!("p1"),
        json!({"apiUrl": "https://a.example", "providerAddress": WALLET}),
        with("id", json!("")),
        with("id", json!("p1\u{200B}")),
        with("id", json!("x".repeat(201))),
        with("apiUrl", Value::Null),
        with("apiUrl", json!("https://a.example/\u{202E}x")),
        with("apiUrl", json!("https://a .example")),
        with("providerAddress", json!("0x12")),
        with("providerAddress", json!("0x0000000000000000000000000000000000000000")),
        with("providerAddress", Value::Null),
    ] {
        let catalogue = parse(&json!([entry]));
        assert_eq!((catalogue.listings.len(), catalogue.skipped), (0, 1), "{entry}");
    }
}

#[test]
fn the_first_of_an_id_counts_and_wallets_may_repeat() {
    let second = with("name", json!("second"));
    let mut third = second.clone();
    third["id"] = json!("p2");
    let catalogue = parse(&json!({"providers": [least(), second, third]}));
    let ids: Vec<&str> = catalogue.listings.iter().map(|listing| listing.id.as_str()).collect();
    assert_eq!((ids, catalogue.skipped), (vec!["p1", "p2"], 1));
    assert_eq!(catalogue.listings[0].name, "p1");
    assert!(catalogue.ambiguous.is_empty());
}

#[test]
fn m14_an_id_at_two_places_is_nobodys_whatever_the_order() {
    for (key, value) in [
        ("providerAddress", json!("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266")),
        ("apiUrl", json!("https://elsewhere.example")),
        ("chainId", json!(1)),
        ("protocol", json!("mpp")),
    ] {
        for entries in [[least(), with(key, value.clone())], [with(key, value.clone()), least()]] {
            let mut other = least();
            other["id"] = json!("p2");
            let catalogue = parse(&json!([entries[0], other, entries[1]]));
            let ids: Vec<&str> = catalogue.listings.iter().map(|listing| listing.id.as_str()).collect();
            assert_eq!((ids, catalogue.skipped, catalogue.ambiguous.len()), (vec!["p2"], 2, 1), "{key}");
        }
    }
}

#[test]
fn texts_are_made_safe_and_bounded() {
    let mut entry = with("name", json!("A\u{202E}\nB"));
    entry["description"] = json!(format!("one\ntwo\u{7}{}", "x".repeat(5_000)));
    let listing = one(&entry);
    assert_eq!(listing.name, "A B");
    assert!(listing.description.starts_with("one\ntwox") && listing.description.chars().count() == 2_000);
}

#[test]
fn the_catalogue_is_bounded() {
    let entries: Vec<Value> = (0..MAX_LISTINGS + 2).map(|i| with("id", json!(i))).collect();
    let catalogue = parse(&Value::from(entries));
    assert_eq!((catalogue.listings.len(), catalogue.skipped), (MAX_LISTINGS, 2));
    let models: Vec<Value> = (0..MAX_LISTED_MODELS + 1).map(|i| json!({"id": format!("m{i}")})).collect();
    assert_eq!(one(&with("models", Value::from(models))).models.len(), MAX_LISTED_MODELS);
}

#[test]
fn says_why_there_is_no_catalogue() {
    let reason = |body: &str| Catalogue::parse(body.as_bytes()).unwrap_err().reason;
    assert_eq!(reason(r#"{"error":"database gone"}"#), "it says \"database gone\"");
    assert_eq!(reason("{}"), "it has no list of providers");
    assert_eq!(reason(r#"{"providers":{}}"#), "it has no list of providers");
    assert!(reason("<html>").starts_with("it is not JSON"));
}

#[test]
fn moments() {
    for (value, ms) in [
        (json!(1_772_323_200_000u64), Some(1_772_323_200_000)),
        (json!("1970-01-01T00:00:00Z"), Some(0)),
        (json!("2000-02-29T12:34:56.7Z"), Some(951_827_696_700)),
        (json!("2026-03-26T10:00:00.000Z"), Some(1_774_519_200_000)),
        (json!("2026-03-26"), None),
        (json!("2026-13-26T10:00:00Z"), None),
        (json!("2026-03-26T10:00:00+02:00"), None),
        (json!("2026-03-26T10:00Z"), None),
        (json!("2026-03-26T10:00:00.é0Z"), None),
        (json!(null), None),
    ] {
        assert_eq!(moment_ms(&value), ms, "{value}");
    }
}

proptest! {
    #[test]
    fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), value in crate::shape::tests::any_json(), key in 0usize..12) {
        let _ = Catalogue::parse(&bytes);
        let _ = Catalogue::parse(value.to_string().as_bytes());
        let keys = ["id", "name", "apiUrl", "providerAddress", "models", "status", "chainId", "score", "lastCheckedAt",
            "avgResponseTime", "minDuration", "protocol"];
        let catalogue = parse(&json!([with(keys[key], value)]));
        prop_assert_eq!(catalogue.listings.len() + catalogue.skipped, 1);
    }

    #[test]
    fn no_mutated_catalogue_panics(bytes in crate::shape::tests::mutated(EXAMPLE)) {
        let _ = Catalogue::parse(&bytes);
    }

    #[test]
    fn no_moment_panics(text in "[0-9]{0,5}-[0-9]{0,2}-[0-9]{0,2}T[0-9:.Zé]{0,14}Z?") {
        let _ = moment_ms(&json!(text));
    }
}
