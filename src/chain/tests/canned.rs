//! A server that says what no sandbox says: huge answers, HTTP errors with JSON in them, keys in messages.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::error::{Code, Failure};

/// Answers `eth_chainId` rightly and everything else with this status and body.
pub(super) async fn server(status: u16, body: impl Into<Vec<u8>>) -> String {
    let (listener, body) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), body.into());
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 65_536];
            let read = stream.read(&mut request).await.unwrap();
            let mut request = String::from_utf8_lossy(&request[..read]).into_owned();
            while !request.contains("jsonrpc") {
                let mut more = vec![0; 65_536];
                let read = stream.read(&mut more).await.unwrap();
                request.push_str(&String::from_utf8_lossy(&more[..read]));
            }
            let known = br#"{"jsonrpc":"2.0","id":1,"result":"0x89"}"#.to_vec();
            let (status, body) = if request.contains("eth_chainId") { (200, &known) } else { (status, &body) };
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nlocation: http://127.0.0.1:1/\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(body).await;
        }
    });
    format!("http://{address}")
}

async fn failure_of(url: &str) -> String {
    chain_on(&[url]).native_balance(Address::ZERO).await.unwrap_err().to_string()
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_its_end() {
    let url = server(200, vec![b' '; 9 << 20]).await;
    assert!(failure_of(&url).await.contains("too large"));
}

#[tokio::test]
async fn nonsense_is_a_fault_of_the_endpoint() {
    for (status, body, says) in [
        (200, "<html>", "not JSON"),
        (200, "{}", "not JSON-RPC"),
        (200, r#"{"result":{"a":1}}"#, "eth_getBalance"),
        (200, r#"{"error":null,"result":"0xzz"}"#, "eth_getBalance"),
        (302, "", "HTTP 302"),
        (401, r#"{"error":{"code":-32000,"message":"x"}}"#, "HTTP 401"),
        (400, r#"{"error":{"code":-32602,"message":"bad \u0007 params"}}"#, "bad params (code -32602)"),
    ] {
        let url = server(status, body).await;
        let text = failure_of(&url).await;
        assert!(text.contains(says), "{body}: {text}");
        assert!(!chain_on(&[&url]).endpoints().is_empty());
    }
}

#[tokio::test]
async fn a_node_that_repeats_the_key_does_not_make_us_repeat_it() {
    let said = json!({ "error": { "code": -32000, "message": "invalid API key s3cr3t-in-path for user-name" } });
    let url = server(200, said.to_string()).await;
    let url = format!("{}/v2/s3cr3t-in-path?key=q-s3cr3t", url.replace("http://", "http://user-name:pass-word@"));
    let chain = chain_on(&[&url]);
    let error = chain.native_balance(Address::ZERO).await.unwrap_err();
    let shown = format!("{error} {chain:?} {:?} {}", chain.endpoints(), Failure::from(error.clone()));
    for secret in ["s3cr3t", "user-name", "pass-word"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(shown.contains("http://127.0.0.1:"), "{shown}");
}

/// M12, in each kind of error, and where the text is cut.
#[tokio::test]
async fn m12_no_kind_of_error_repeats_the_key() {
    let far = format!("{}s3cr3t-in-path", "x".repeat(190));
    for (code, message) in [
        (-32601, "method not found for s3cr3t-in-path"),
        (3, "execution reverted: s3cr3t-in-path"),
        (-32000, "insufficient funds s3cr3t-in-path"),
        (-32005, "range too large for s3cr3t-in-path"),
        (-32000, far.as_str()),
    ] {
        let url = server(200, json!({ "error": { "code": code, "message": message } }).to_string()).await;
        let chain = chain_on(&[&format!("{url}/s3cr3t-in-path")]);
        let call = chain.native_balance(Address::ZERO).await.unwrap_err().to_string();
        let filter = channel_logs_filter(&builtin(POLYGON), &Watched::Consumer(Address::ZERO), 1, 1);
        let logs = chain.logs(&filter).await.unwrap_err().to_string();
        let revert = chain.pool().read("eth_call", &json!([{}]), Ok).await.unwrap_err().to_string();
        for shown in [call, logs, revert] {
            assert!(!shown.contains("s3cr"), "{shown}");
        }
    }
}

#[tokio::test]
async fn an_unreachable_endpoint_is_shown_by_its_host_alone() {
    let chain = chain_on(&["http://me:hidden-word@127.0.0.1:1/hidden-path?hidden=query"]);
    let error = chain.head().await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("http://127.0.0.1:1: ") && !text.contains("hidden"), "{text}");
    let failure = Failure::from(error);
    assert_eq!(failure.code, Code::ChainUnavailable);
    assert!(failure.next.contains("DRAIN_RPC_URL"));
}

#[test]
fn only_http_endpoints_exist() {
    let config = |url: &str| ChainConfig {
        chain_id: POLYGON,
        rpc_urls: if url.is_empty() { vec![] } else { vec![url.parse().unwrap()] },
        deployments: vec![],
        generation: None,
        rpc_timeout: Duration::from_secs(1),
        confirmations: 1,
        poll_interval: Duration::from_secs(1),
        transaction_timeout: Duration::from_secs(1),
        replace_after: Duration::from_secs(90),
    };
    assert!(Chain::new(&config("")).is_err());
    assert!(Chain::new(&config("ws://node/secret")).unwrap_err().to_string().contains("ws://node is not"));
}

#[test]
fn construction_is_cheap() {
    let begun = std::time::Instant::now();
    for _ in 0..100 {
        chain_on(&["https://polygon-bor-rpc.publicnode.com", "https://rpc.ankr.com/polygon/key"]);
    }
    assert!(begun.elapsed() < Duration::from_millis(300), "{:?}", begun.elapsed());
}

#[test]
fn errors_are_told_apart() {
    use super::super::rpc::{Trouble, meaning};
    let of = |method: &str, code: i64, message: &str, data: serde_json::Value| {
        meaning(method, &json!({ "code": code, "message": message, "data": data }))
    };
    let none = serde_json::Value::Null;
    let reverted = |reason: &str| Trouble::Reverted(reason.into());
    assert_eq!(of("eth_call", 3, "execution reverted", json!("0xd0404f85")), reverted("NotExpired"));
    assert_eq!(of("eth_call", -32015, "VM error", json!("Reverted 0x1e07dd94")), reverted("ChannelNotFound"));
    assert_eq!(
        of("eth_call", -32000, "x", json!({ "originalError": { "data": "0x3480e2b2" } })),
        reverted("NotProvider")
    );
    assert_eq!(of("eth_call", -32000, "execution reverted: ERC20: no", none.clone()), reverted("ERC20: no"));
    assert!(matches!(of("eth_call", -32005, "rate limit exceeded", none.clone()), Trouble::Fault { .. }));
    assert!(matches!(of("eth_getLogs", -32005, "too many requests", none.clone()), Trouble::Fault { .. }));
    for wide in
        ["query returned more than 10000 results", "exceed maximum block range: 50000", "block range is too large"]
    {
        assert!(matches!(of("eth_getLogs", -32005, wide, none.clone()), Trouble::TooWide(_)), "{wide}");
    }
    assert!(matches!(of("eth_maxPriorityFeePerGas", -32601, "no such method", none.clone()), Trouble::Unable(_)));
    assert!(matches!(
        of("eth_getBlockByNumber", -39001, "finalized block not found", none.clone()),
        Trouble::Unable(_)
    ));
    assert!(matches!(of("eth_sendRawTransaction", -32000, "nonce too low", none), Trouble::Refused(_)));
}
