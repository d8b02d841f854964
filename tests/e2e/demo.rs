//! `drain-mcp demo`: the promise of the README.

use std::time::{Duration, Instant};

use drain_protocol::Usdc;
use serde_json::{Value, json};

use crate::process_harness::Env;

fn amount(value: &Value) -> u64 {
    value.as_str().unwrap().parse::<Usdc>().unwrap().units()
}

#[tokio::test]
async fn the_demo_agrees_to_the_unit() {
    let home = tempfile::tempdir().unwrap();
    // The person's own wallet and records are not touched.
    let env = Env::default()
        .with("DRAIN_HOME", home.path().join("own").display().to_string())
        .with("DRAIN_PRIVATE_KEY", "11".repeat(32))
        .with("DRAIN_RPC_URL", "http://192.0.2.1:1");
    let started = Instant::now();
    let report = env.run(&["demo", "--json"]).await;
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    let report = report.ok_json();
    assert_eq!((&report["agrees"], &report["play_money"]), (&json!(true), &json!(true)));
    assert!(!home.path().join("own").exists());

    // The sums once more, by this test.
    let channels = report["channels"].as_array().unwrap();
    let providers: Vec<&str> = channels.iter().map(|channel| channel["provider"].as_str().unwrap()).collect();
    assert_eq!(providers, ["sim-llm", "sim-weather", "sim-llm-v1"]);
    let mut paid = 0;
    for channel in channels {
        for (told, seen) in [("deposited", "chain_deposit"), ("paid", "chain_paid"), ("refund", "chain_refund")] {
            assert_eq!(channel[told], channel[seen], "{channel}");
        }
        assert_eq!(amount(&channel["paid"]) + amount(&channel["refund"]), amount(&channel["deposited"]), "{channel}");
        assert!(
            amount(&channel["charged"]) > 0 && amount(&channel["charged"]) <= amount(&channel["signed"]),
            "{channel}"
        );
        paid += amount(&channel["paid"]);
    }
    assert_eq!(report["left_in_contract"], "0.00");
    assert_eq!(amount(&report["session_fees"]), 10_000);
    let spent = amount(&report["wallet_before"]) - amount(&report["wallet_after"]);
    assert_eq!(spent, paid + amount(&report["session_fees"]));
}

#[tokio::test]
async fn the_demo_tells_its_story() {
    let ended = Env::default().run(&["demo"]).await;
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.everything().matches("Paid 0.00").count(), 12, "ten, one and one");
    for part in
        ["1. Discover", "contract V2", "session fee", "DEPOSITED", "REFUNDED", "agrees to the unit", "PLAY MONEY"]
    {
        assert!(ended.everything().contains(part), "{part} in {}", ended.everything());
    }
    let line = ended.everything().lines().find(|line| line.contains("claims")).unwrap().to_owned();
    assert!(line.contains("claims 0.00"), "an amount in USDC: {line}");
}
