//! One exchange with one endpoint: a JSON-RPC request over HTTP with limits on time and size, and what its error means.

use std::time::Duration;

use crate::metrics::Rpc;
use alloy::primitives::Bytes;
use drain_protocol::contract::revert_reason;
use reqwest::{Client, StatusCode, Url};
use serde_json::{Value, json};

/// Largest answer that is read.
const MAX_ANSWER: usize = 8 << 20;

/// Why an endpoint's answer does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The endpoint is at fault: try another one.
    Fault {
        /// In a few words.
        reason: String,
        /// Whether the node may have acted upon the request.
        delivered: bool,
    },
    /// The node is fine but cannot answer this: behind, or without the method.
    Unable(String),
    /// It serves this chain.
    WrongChain(u64),
    /// The contract reverts; another node would say the same.
    Reverted(String),
    /// The node refuses the transaction.
    Refused(String),
    /// The range of `eth_getLogs` is too wide for the node.
    TooWide(String),
}

impl Trouble {
    /// As it is counted.
    pub(super) const fn counted(&self) -> Rpc {
        match self {
            Self::Fault { .. } => Rpc::Fault,
            Self::Unable(_) | Self::TooWide(_) => Rpc::Unable,
            Self::WrongChain(_) => Rpc::WrongChain,
            Self::Reverted(_) => Rpc::Reverted,
            Self::Refused(_) => Rpc::Refused,
        }
    }

    pub(super) fn fault(reason: impl Into<String>, delivered: bool) -> Self {
        Self::Fault { reason: reason.into(), delivered }
    }

    /// The same with its words changed, whichever it is.
    pub(super) fn worded(self, change: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Fault { reason, delivered } => Self::Fault { reason: change(reason), delivered },
            Self::Unable(reason) => Self::Unable(change(reason)),
            Self::Reverted(reason) => Self::Reverted(change(reason)),
            Self::Refused(reason) => Self::Refused(change(reason)),
            Self::TooWide(reason) => Self::TooWide(change(reason)),
            Self::WrongChain(found) => Self::WrongChain(found),
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::Fault { reason, .. } | Self::Unable(reason) => reason.clone(),
            Self::Reverted(reason) | Self::Refused(reason) | Self::TooWide(reason) => reason.clone(),
            Self::WrongChain(found) => format!("serves chain {found}"),
        }
    }
}

/// The HTTP client that all endpoints share. No redirects and no proxy: an endpoint is the one that the
/// operator named, and its URL may hold a key.
pub(super) fn client(timeout: Duration) -> Result<Client, String> {
    // The process's TLS provider; refused if one is installed already, which is just as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(timeout)
        .connect_timeout(timeout.min(Duration::from_secs(10)))
        .tcp_nodelay(true)
        .user_agent("drain-mcp")
        .build()
        .map_err(|error| chain_of(&error.without_url()))
}

/// Sends one request and gives its result. Errors never hold the URL of our own; what the node says in them is raw.
pub(super) async fn exchange(client: &Client, url: &Url, method: &str, params: &Value) -> Result<Value, Trouble> {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    let request = client.post(url.clone()).header("content-type", "application/json").body(body);
    let mut response = request.send().await.map_err(http_trouble)?;
    let status = response.status();
    let mut answer = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(http_trouble)? {
        if answer.len() + chunk.len() > MAX_ANSWER {
            return Err(too_large(method));
        }
        answer.extend_from_slice(&chunk);
    }
    result(method, status, &answer)
}

/// What an HTTP answer says about the request.
pub(super) fn result(method: &str, status: StatusCode, answer: &[u8]) -> Result<Value, Trouble> {
    let answer = serde_json::from_slice::<Value>(answer);
    // Some nodes put a JSON-RPC error into an HTTP error; others mean the transport.
    let error = answer.as_ref().ok().and_then(|answer| answer.get("error")).filter(|error| !error.is_null());
    match error {
        Some(error) if status.is_success() || matches!(status.as_u16(), 400 | 413 | 422) => {
            return Err(meaning(method, error));
        }
        _ if status.as_u16() == 413 => return Err(too_large(method)),
        _ if !status.is_success() => {
            return Err(Trouble::fault(format!("HTTP {}", status.as_u16()), status.is_server_error()));
        }
        _ => {}
    }
    let mut answer = answer.map_err(|_| Trouble::fault("the answer is not JSON", true))?;
    match answer.get_mut("result") {
        Some(result) => Ok(result.take()),
        None => Err(Trouble::fault("the answer is not JSON-RPC", true)),
    }
}

fn too_large(method: &str) -> Trouble {
    match method {
        "eth_getLogs" => Trouble::TooWide("the answer is too large".into()),
        _ => Trouble::fault("the answer is too large", true),
    }
}

fn http_trouble(error: reqwest::Error) -> Trouble {
    let delivered = !error.is_connect() && !error.is_builder();
    if error.is_timeout() {
        return Trouble::fault("no answer in time", delivered);
    }
    Trouble::fault(chain_of(&error.without_url()), delivered)
}

/// An error with its causes: reqwest alone says only "error sending request".
fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// What a JSON-RPC error object means for this method.
pub(super) fn meaning(method: &str, error: &Value) -> Trouble {
    let code = error.get("code").and_then(Value::as_i64).unwrap_or_default();
    let message = error.get("message").and_then(Value::as_str).unwrap_or("unnamed error").to_owned();
    let lower = message.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let throttled = has(&["rate limit", "too many requests", "quota", "unauthorized", "api key", "compute units"]);
    let fault = || Trouble::fault(format!("{message} (code {code})"), false);
    match method {
        _ if throttled => fault(),
        _ if code == -32601 || has(&["method not found", "does not exist/is not available"]) => {
            Trouble::Unable(message)
        }
        // Asked for a tag or a state that it does not have.
        "eth_getBlockByNumber" | "eth_getTransactionCount"
            if code == -32602 || has(&["not found", "unknown block", "missing trie", "tag"]) =>
        {
            Trouble::Unable(message)
        }
        "eth_call" | "eth_estimateGas" => {
            let data = error.get("data").and_then(revert_data);
            if code == 3 || lower.contains("revert") || data.as_ref().is_some_and(|data| !data.is_empty()) {
                return Trouble::Reverted(why(data.as_ref(), &message));
            }
            let about_the_call =
                ["insufficient funds", "gas required exceeds", "out of gas", "intrinsic gas", "invalid opcode"];
            if has(&about_the_call) { Trouble::Refused(message) } else { fault() }
        }
        "eth_sendRawTransaction" if !matches!(code, -32700 | -32005) => Trouble::Refused(message),
        "eth_getLogs" if has(&["range", "limit", "too many", "more than", "exceed", "too large", "size"]) => {
            Trouble::TooWide(message)
        }
        _ => fault(),
    }
}

fn why(data: Option<&Bytes>, message: &str) -> String {
    match data {
        Some(data) if !data.is_empty() => revert_reason(data),
        _ => match message.split_once("reverted:") {
            Some((_, reason)) => reason.trim().to_owned(),
            None => message.to_owned(),
        },
    }
}

/// The revert data, wherever the node's kind puts it.
fn revert_data(value: &Value) -> Option<Bytes> {
    match value {
        Value::String(text) => text.trim().trim_start_matches("Reverted ").parse().ok(),
        Value::Object(fields) => fields.values().find_map(revert_data),
        _ => None,
    }
}
