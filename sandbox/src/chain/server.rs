//! JSON-RPC over HTTP on loopback: one listener per endpoint.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy::primitives::Bytes as RawTx;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::serve::ListenerExt as _;
use axum::{Router, routing::post};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::control;
use super::faults::{FailKind, Faults};
use super::rpc::{self, RpcError};
use super::state::Chain;

/// A lock that a panic elsewhere does not close.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one listener needs: the shared chain and its own faults and counts.
pub(super) struct Listener {
    pub(super) chain: Arc<Mutex<Chain>>,
    pub(super) faults: Mutex<Faults>,
    /// Remainder of the rate at which requests fail.
    pub(super) carried: Mutex<f64>,
    pub(super) counts: Mutex<HashMap<String, u64>>,
    pub(super) stop: CancellationToken,
}

/// Opens the port (0 for any) and serves until the token is cancelled.
pub(super) async fn listen(listener: Arc<Listener>, port: u16) -> io::Result<SocketAddr> {
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let address = tcp.local_addr()?;
    // Without this, small replies wait for the peer's delayed acknowledgement.
    let tcp = tcp.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY refused");
        }
    });
    let stop = listener.stop.clone();
    let app = Router::new().route("/", post(answer)).with_state(listener);
    tokio::spawn(async move {
        let served = axum::serve(tcp, app).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = served.await {
            tracing::warn!(%error, "chain endpoint stopped");
        }
    });
    Ok(address)
}

async fn answer(State(listener): State<Arc<Listener>>, body: Bytes) -> Response {
    let Ok(request) = serde_json::from_slice::<Value>(&body) else {
        return reply(&failure(&Value::Null, &RpcError::new(-32700, "parse error")));
    };
    let answered = match request {
        Value::Array(requests) if requests.is_empty() => {
            let error = RpcError::new(-32600, "empty batch");
            Ok(Some(failure(&Value::Null, &error)))
        }
        Value::Array(requests) => {
            let mut replies = Vec::with_capacity(requests.len());
            let mut refused = None;
            for request in &requests {
                match listener.one(request).await {
                    Ok(answer) => replies.extend(answer),
                    Err(response) => refused = Some(response),
                }
            }
            refused.map_or(Ok(Some(Value::Array(replies))), Err)
        }
        request => listener.one(&request).await,
    };
    match answered {
        Ok(Some(value)) => reply(&value),
        Ok(None) => StatusCode::NO_CONTENT.into_response(),
        Err(status) => (status, "sandbox: request failed on purpose").into_response(),
    }
}

fn reply(value: &Value) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (kind, value.to_string()).into_response()
}

fn failure(id: &Value, error: &RpcError) -> Value {
    let mut body = json!({ "code": error.code, "message": error.message });
    if let (Some(data), Some(fields)) = (&error.data, body.as_object_mut()) {
        fields.insert("data".to_owned(), Value::from(data.to_string()));
    }
    json!({ "jsonrpc": "2.0", "id": id, "error": body })
}

impl Listener {
    /// Answers one request; `None` for a notification, a status when the fault
    /// switches want the whole exchange to fail.
    async fn one(&self, request: &Value) -> Result<Option<Value>, StatusCode> {
        let Some(method) = request.get("method").and_then(Value::as_str) else {
            let error = RpcError::new(-32600, "invalid request");
            return Ok(Some(failure(&Value::Null, &error)));
        };
        let params = request.get("params").unwrap_or(&Value::Null);
        *lock(&self.counts).entry(method.to_owned()).or_default() += 1;
        let outcome = match self.disturb(method).await? {
            Some(error) => Err(error),
            None => self.call(method, params),
        };
        Ok(request.get("id").map(|id| match outcome {
            Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
            Err(error) => failure(id, &error),
        }))
    }

    /// Delays or fails a request as the switches say.
    async fn disturb(&self, method: &str) -> Result<Option<RpcError>, StatusCode> {
        let (hang, latency, fails) = {
            let mut faults = lock(&self.faults);
            if !faults.concerns(method) {
                return Ok(None);
            }
            let fails = faults.fails(&mut lock(&self.carried)).then_some(faults.fail_kind);
            (faults.hang, faults.latency_ms, fails)
        };
        if hang {
            self.stop.cancelled().await;
            return Err(StatusCode::SERVICE_UNAVAILABLE);
        }
        if latency > 0 {
            tokio::select! {
                () = self.stop.cancelled() => return Err(StatusCode::SERVICE_UNAVAILABLE),
                () = tokio::time::sleep(Duration::from_millis(latency)) => {}
            }
        }
        match fails {
            None => Ok(None),
            Some(FailKind::RpcError) => Ok(Some(RpcError::server("sandbox: failed on purpose"))),
            Some(FailKind::Http500) => Err(StatusCode::INTERNAL_SERVER_ERROR),
            Some(FailKind::Http429) => Err(StatusCode::TOO_MANY_REQUESTS),
        }
    }

    /// Runs a method with this endpoint's faults, without the network ones.
    pub(super) fn call(&self, method: &str, params: &Value) -> Result<Value, RpcError> {
        match method {
            "sandbox_setFaults" => self.set_faults(params.get(0).unwrap_or(params)),
            "eth_sendRawTransaction" => self.send(params),
            _ => {
                let faults = lock(&self.faults).clone();
                rpc::dispatch(&mut lock(&self.chain), &faults, method, params)
            }
        }
    }

    fn set_faults(&self, keys: &Value) -> Result<Value, RpcError> {
        let keys: Map<String, Value> =
            keys.as_object().cloned().ok_or_else(|| RpcError::invalid_params("expected an object"))?;
        let rest = control::chain_faults(&mut lock(&self.chain), keys)?;
        let mut faults = lock(&self.faults);
        faults.patch(&rest).map_err(RpcError::invalid_params)?;
        rpc::to_json(&*faults)
    }

    fn send(&self, params: &Value) -> Result<Value, RpcError> {
        let mut chain = lock(&self.chain);
        let pending = chain.decode(&rpc::Params(params).required::<RawTx>(0)?)?;
        // A dropped transaction is well formed: the sender learns nothing.
        if lock(&self.faults).drops() {
            return rpc::to_json(&pending.hash);
        }
        chain.admit(pending).and_then(|hash| rpc::to_json(&hash))
    }
}
