//! The marketplace, in its spellings and moods.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use drain_protocol::marketplace::{FeedbackBody, PaidBy, TelemetryBody};
use drain_protocol::{Address, B256, ChannelId, Usdc};
use reqwest::Url;

use super::MarketplaceClient;
use crate::config::MarketplaceConfig;
use crate::error::Code;
use crate::http_client::{HttpClient, UrlPolicy};
use crate::provider::testing::{Step, TestServer, answer, dead_url};

const CATALOGUE: &str = r#"{"_meta":{"contract":"0x0C2B3aA1e80629D572b1f200e6DF3586B3946A8A"},"providers":[{"id":"p1","name":"Sim","apiUrl":"https://p.example/","providerAddress":"0x70997970C51812dc3A010C7d01b50e0d17dc79C8"}]}"#;

fn client(directory: &Url) -> MarketplaceClient {
    let config = MarketplaceConfig {
        directory_url: directory.clone(),
        base_url: directory.join("/").unwrap(),
        timeout: Duration::from_secs(5),
        max_age: Duration::from_secs(60),
        telemetry: true,
    };
    MarketplaceClient::new(HttpClient::new(UrlPolicy::new(directory, false)), &config)
}

/// Answers only at this path.
async fn only_at(path: &'static str, elsewhere: u16) -> TestServer {
    TestServer::start(move |seen| {
        let there = seen.line.strip_prefix("GET ").and_then(|target| target.split('?').next()) == Some(path);
        let bytes = if there { answer(200, &[], CATALOGUE) } else { answer(elsewhere, &[], "<html>home</html>") };
        vec![Step::Send(bytes)]
    })
    .await
}

#[tokio::test]
async fn the_catalogue_includes_offline_providers() {
    let server = only_at("/api/mcp/providers", 404).await;
    let catalogue = client(&server.at("/api/mcp/providers")).catalogue().await.unwrap();
    assert_eq!((catalogue.listings.len(), catalogue.listings[0].id.as_str()), (1, "p1"));
    assert_eq!(catalogue.contract, Some(drain_protocol::deployment::POLYGON_V2));
    let own = server.at("/api/mcp/providers?limit=3&online=true");
    client(&own).catalogue().await.unwrap();
    let lines: Vec<String> = server.seen().into_iter().map(|seen| seen.line).collect();
    let with_query = ["GET /api/mcp/providers?online=false", "GET /api/mcp/providers?limit=3&online=true"];
    assert_eq!(lines, with_query, "the operator's own word on it stays");
}

#[tokio::test]
async fn both_spellings_of_the_path_are_tried() {
    for (right, asked) in
        [("/api/mcp/providers", "/api/mcpproviders"), ("/x/api/mcpproviders", "/x/api/mcp/providers/")]
    {
        for elsewhere in [404, 200] {
            let server = only_at(right, elsewhere).await;
            assert_eq!(client(&server.at(asked)).catalogue().await.unwrap().listings.len(), 1, "{asked} {elsewhere}");
            assert_eq!(server.seen().len(), 2);
        }
    }
}

#[tokio::test]
async fn a_directory_that_fails_otherwise_is_asked_once() {
    let broken = only_at("/api/mcpproviders", 500).await;
    let error = client(&broken.at("/api/mcp/providers")).catalogue().await.unwrap_err();
    assert_eq!((error.http_status(), broken.seen().len()), (Some(500), 1));
    assert_eq!(error.into_marketplace_failure().code, Code::DirectoryUnavailable);
    let both = only_at("/nowhere", 404).await;
    let error = client(&both.at("/api/mcp/providers")).catalogue().await.unwrap_err();
    assert_eq!((error.http_status(), both.seen().len()), (Some(404), 2));
    let dead = dead_url().await;
    assert!(client(&dead).catalogue().await.unwrap_err().before_sent());
}

#[tokio::test]
async fn m14_the_directory_is_https_unless_it_is_on_loopback() {
    let remote = Url::parse("http://directory.example/api/mcp/providers").unwrap();
    let failure = client(&remote).catalogue().await.unwrap_err().into_marketplace_failure();
    assert_eq!(failure.code, Code::InvalidConfig);
    assert!(failure.message.contains("only https"), "{}", failure.message);
}

#[tokio::test]
async fn m14_an_oversized_catalogue_is_refused() {
    let server = TestServer::start(|_| {
        vec![
            Step::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n[".to_vec()),
            Step::Repeat(vec![b' '; 1 << 20], Duration::ZERO),
        ]
    })
    .await;
    let error = client(&server.url).catalogue().await.unwrap_err();
    assert!(error.to_string().contains("larger than 16777216 bytes"), "{error}");
}

#[tokio::test]
async fn fee_status_and_gas_are_data() {
    let wallet = Address::repeat_byte(0x42);
    let ids = [1, 2].map(|n| ChannelId(B256::repeat_byte(n)));
    let status = format!(
        r#"{{"channels":[{{"channelId":"{}","status":"expired_unclosed","closeCalldata":"0x39c79e0c"}}]}}"#,
        ids[0]
    );
    let server = TestServer::start(move |seen| {
        let body = match seen.line.split('?').next().unwrap() {
            "GET /api/directory/config" => format!(r#"{{"feeWallet":"{wallet}"}}"#),
            "GET /api/channels/status" => status.clone(),
            "POST /api/gas-station" => return vec![Step::Send(answer(400, &[], r#"{"error":"too little USDC"}"#))],
            other => panic!("{other}"),
        };
        vec![Step::Send(answer(200, &[], &body))]
    })
    .await;
    let client = client(&server.at("/api/mcp/providers"));
    assert_eq!(client.fee_config().await.unwrap().fee_wallet, Some(wallet));
    assert!(client.channel_status(&[]).await.unwrap().is_empty());
    let hints = client.channel_status(&ids).await.unwrap();
    assert_eq!((hints.len(), hints[0].status.as_str()), (1, "expired_unclosed"));
    let gas = client.request_gas(wallet).await.unwrap();
    assert_eq!((gas.success, gas.error.as_deref()), (false, Some("too little USDC")));
    let seen = server.seen();
    assert_eq!(seen[1].line, format!("GET /api/channels/status?channelIds={}%2C{}", ids[0], ids[1]));
    assert!(seen[2].body.starts_with(r#"{"address":"0x4242"#));
}

#[tokio::test]
async fn feedback_and_telemetry_are_sent() {
    let server = TestServer::fixed(200, &[], "{}").await;
    let client = client(&server.at("/api/mcp/providers"));
    client.feedback(&FeedbackBody::success("p1")).await.unwrap();
    client.telemetry(TelemetryBody {
        provider_id: "p1".into(),
        latency_ms: 5,
        http_status: 200,
        cost_usdc: Usdc::ZERO,
        protocol: PaidBy::Drain,
        timestamp: "2026-03-26T10:00:00Z".into(),
        agent_id: None,
    });
    while server.seen().len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let seen = server.seen();
    assert_eq!(seen[0].body, r#"{"providerId":"p1","outcome":"success","protocol":"drain"}"#);
    assert_eq!(seen[1].line, "POST /api/telemetry");
    let refusing = TestServer::fixed(400, &[], r#"{"error":"unknown provider"}"#).await;
    let error = self::client(&refusing.url).feedback(&FeedbackBody::success("p2")).await.unwrap_err();
    assert!(error.to_string().ends_with("HTTP 400, it says \"unknown provider\""), "{error}");
}

#[tokio::test]
async fn telemetry_to_a_silent_marketplace_costs_nothing() {
    let server = TestServer::start(|_| vec![Step::Hang]).await;
    let client = client(&server.url);
    let begun = std::time::Instant::now();
    for n in 0..100 {
        client.telemetry(TelemetryBody {
            provider_id: n.to_string(),
            latency_ms: 5,
            http_status: 0,
            cost_usdc: Usdc::ZERO,
            protocol: PaidBy::Drain,
            timestamp: String::new(),
            agent_id: None,
        });
    }
    assert!(begun.elapsed() < Duration::from_millis(200));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(server.seen().len() <= 8, "more are dropped");
}
