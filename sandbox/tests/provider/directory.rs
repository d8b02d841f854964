//! The directory's shapes and lies (protocol.md section 10).

use std::time::Duration;

use alloy::primitives::{Address, B256, U256};
use drain_protocol::Usdc;
use drain_sandbox::Listing;
use drain_sandbox::directory::Form;
use serde_json::{Value, json};

use crate::world::World;

#[tokio::test]
async fn the_catalogue_and_its_filters() {
    let world = World::new().await;
    let url = world.sandbox.directory.url();
    let ids = async |query: &str| -> Vec<String> {
        let body = world.get(&format!("{url}{query}")).await.json();
        let providers = body["providers"].as_array().unwrap().clone();
        assert_eq!(body["count"], providers.len());
        providers.iter().map(|provider| provider["id"].as_str().unwrap().to_owned()).collect()
    };
    let whole = world.get(&url).await.json();
    assert_eq!(whole["_meta"]["contract"], "0x0C2B3aA1e80629D572b1f200e6DF3586B3946A8A");
    assert!(whole["timestamp"].as_str().unwrap().ends_with('Z'));
    let first = &whole["providers"][0];
    assert_eq!(first["models"][0]["pricing"]["outputPer1kTokens"], "0.0009");
    assert_eq!((&first["status"]["online"], &first["protocol"]), (&json!(true), &json!("drain")));
    assert_eq!(ids("?limit=2").await, ["sim-llm", "sim-weather"]);
    assert_eq!(ids("?category=image").await, ["sim-image"]);
    assert_eq!(ids("?model=LARGE").await, ["sim-llm", "sim-llm-v1"]);
    assert_eq!(ids("?tier=bittensor").await.len(), 0);
    assert_eq!(ids("?minScore=0.3").await.len(), 4);
    world.sandbox.directory.change("sim-llm", |listing| listing.online = false);
    assert_eq!(ids("").await.len(), 4);
    assert_eq!(ids("?online=false").await.len(), 5);
    let compact = world.get(&format!("{url}?format=compact")).await.json();
    assert_eq!(compact["providers"][0].get("status"), None);
    let origin = world.sandbox.directory.origin();
    assert_eq!(world.get(&format!("{origin}/api/mcpproviders")).await.json()["count"], 4);
    let other = world.get(&format!("{origin}/api/directory/providers?format=json")).await.json();
    assert_eq!((&other["success"], &other["providers"][0]["isOnline"]), (&json!(true), &json!(false)));
    assert_eq!(other["providers"][1]["models"][0]["inputCostPer1k"], "0.005");
}

#[tokio::test]
async fn the_catalogue_in_other_forms_and_its_lies() {
    let world = World::new().await;
    let directory = &world.sandbox.directory;
    let url = directory.url();
    directory.set(|faults| {
        faults.bare_array = true;
        faults.form = Form::Flat;
        faults.duplicated = true;
    });
    let array = world.get(&url).await.json();
    assert_eq!(array.as_array().unwrap().len(), 10);
    assert_eq!((&array[0]["isOnline"], &array[0]["models"][0]["modelId"]), (&json!(true), &json!("sim-small")));
    directory.set(|faults| *faults = Default::default());
    directory.change("sim-llm", |listing| {
        listing.api_url = "http://10.0.0.1".into();
        listing.omit = vec!["protocol".into(), "category".into(), "models".into()];
        listing.extra.insert("qualityScore".into(), json!(93));
    });
    // Two listings of one wallet.
    let mut twin = Listing::of("sim-twin", &world.sandbox.llm);
    twin.api_url = world.sandbox.data.url();
    directory.listings().push(twin);
    let changed = world.get(&url).await.json();
    let first = &changed["providers"][0];
    assert_eq!((first.get("protocol"), first.get("models")), (None, None));
    assert_eq!((&first["apiUrl"], &first["qualityScore"]), (&json!("http://10.0.0.1"), &json!(93)));
    assert_eq!(changed["providers"][5]["providerAddress"], first["providerAddress"]);

    directory.set(|faults| faults.hostile = true);
    assert!(world.get(&url).await.json()["providers"][0]["name"].as_str().unwrap().contains('\u{1b}'));
    directory.set(|faults| faults.huge = Some(5_000_000));
    assert!(world.get(&url).await.text.len() >= 5_000_000);
    directory.set(|faults| *faults = Default::default());
    directory.set(|faults| faults.malformed = true);
    assert!(serde_json::from_str::<Value>(&world.get(&url).await.text).is_err());
    directory.set(|faults| faults.html = true);
    assert!(world.get(&url).await.text.starts_with("<!DOCTYPE"));
    directory.set(|faults| faults.down = true);
    let down = world.get(&url).await;
    assert_eq!((down.status.as_u16(), down.json()["error"].is_string()), (500, true));
    directory.set(|faults| faults.hang = true);
    assert!(tokio::time::timeout(Duration::from_millis(200), world.get(&url)).await.is_err());
}

#[tokio::test]
async fn channel_statuses() {
    let world = World::new().await;
    let origin = world.sandbox.directory.origin();
    let (llm, v1) = (&world.sandbox.llm, &world.sandbox.v1);
    let (open, expired, gone) =
        (world.open(llm, 50_000, 86_400).await, world.open(v1, 50_000, 60).await, world.open(v1, 50_000, 0).await);
    let close = |id: B256| {
        alloy::sol_types::SolCall::abi_encode(&drain_protocol::contract::DrainChannel::closeCall { channelId: id })
    };
    world.execute(v1.config().contract, close(gone)).await.unwrap();
    world.sandbox.chain.as_ref().unwrap().advance(120);
    world.sandbox.chain.as_ref().unwrap().mine(1);
    let query = format!("{origin}/api/channels/status?channelIds={open},{expired},{gone},{}", B256::repeat_byte(5));
    let answer = world.get(&query).await.json();
    let statuses: Vec<_> =
        answer["channels"].as_array().unwrap().iter().map(|c| c["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["active", "expired_unclosed", "closed", "unknown"]);
    let expected = format!("0x39c79e0c{}", alloy::hex::encode(expired));
    assert_eq!(answer["channels"][1]["closeCalldata"], expected);
    assert_eq!(answer["channels"][0].get("closeCalldata"), None);
    world.sandbox.directory.set(|faults| faults.forged_calldata = Some("0xdeadbeef".into()));
    assert_eq!(world.get(&query).await.json()["channels"][1]["closeCalldata"], "0xdeadbeef");
    assert_eq!(world.get(&format!("{origin}/api/channels/status")).await.status, 400);
}

#[tokio::test]
async fn the_gas_station_serves_once() {
    let world = World::new().await;
    let (directory, observer) = (&world.sandbox.directory, world.sandbox.observer());
    let url = format!("{}/api/gas-station", directory.origin());
    let poor = Address::repeat_byte(0x33);
    let ask = async || world.post_to(&url, &json!({"address": poor})).await;
    assert_eq!(ask().await.status, 400);
    observer.fund(poor, Usdc::new(5_000_000), U256::ZERO).await.unwrap();
    directory.set(|faults| faults.gas_refusal = Some("not today".into()));
    assert_eq!(ask().await.json(), json!({"error": "not today"}));
    directory.set(|faults| faults.gas_refusal = None);
    let given = ask().await.json();
    assert_eq!((&given["success"], given["txHash"].as_str().unwrap().len()), (&json!(true), 66));
    assert_eq!(observer.native_balance(poor).await.unwrap(), U256::from(100_000_000_000_000_000u64));
    assert_eq!(ask().await.status, 400);
    assert!(directory.fuelled().contains(&poor));
}

#[tokio::test]
async fn reports_and_documents() {
    let world = World::new().await;
    let directory = &world.sandbox.directory;
    let origin = directory.origin();
    let feedback = async |body: Value| world.post_to(&format!("{origin}/api/feedback"), &body).await.status.as_u16();
    assert_eq!(feedback(json!({"providerId": "sim-llm", "outcome": "success", "protocol": "drain"})).await, 200);
    assert_eq!(feedback(json!({"providerId": "sim-llm", "outcome": "failure", "reason": "quality"})).await, 200);
    assert_eq!(feedback(json!({"providerId": "sim-llm", "outcome": "failure", "reason": "boring"})).await, 400);
    assert_eq!(feedback(json!({"channelId": "0x1", "rating": 5})).await, 400);
    assert_eq!(directory.feedback().len(), 2);
    let telemetry = json!({"providerId": "sim-llm", "latencyMs": 5, "httpStatus": 200, "costUsdc": "0.1"});
    assert_eq!(world.post_to(&format!("{origin}/api/telemetry"), &telemetry).await.status, 200);
    assert_eq!(directory.telemetry(), [telemetry]);
    let config = async || world.get(&format!("{origin}/api/directory/config")).await.json();
    assert_eq!(config().await["feeWallet"], drain_sandbox::marketplace::FEE_WALLET.to_string());
    directory.set_fee_wallet(None);
    assert_eq!(config().await, json!({"feeWallet": null}));
    let signing = world.get(&format!("{origin}/api/drain/signing")).await.json();
    assert_eq!(signing["domain"]["verifyingContract"], "0x0C2B3aA1e80629D572b1f200e6DF3586B3946A8A");
    assert_eq!(signing["types"]["CloseAuthorization"][1], json!({"name": "finalAmount", "type": "uint256"}));
    assert!(directory.requests().iter().any(|line| line == "POST /api/feedback"));
}
