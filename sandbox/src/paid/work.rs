//! What is sold: an echo, or a chat.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::provider::chat::completion;
use crate::provider::model;

/// The size of an oversized answer.
const OVERSIZED: usize = 40_000_000;

/// Does a request's work. `number` and `created` are the answer's own.
pub(crate) fn work(path: &str, body: &[u8], (number, created): (u64, u64), oversized: bool) -> (StatusCode, Value) {
    let filling = || "x".repeat(OVERSIZED);
    if !path.ends_with("/chat/completions") {
        let echo = if oversized { filling() } else { String::from_utf8_lossy(body).into_owned() };
        return (StatusCode::OK, json!({"ok": path, "echo": echo}));
    }
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let messages = body.get("messages").filter(|messages| messages.as_array().is_some_and(|list| !list.is_empty()));
    let Some(messages) = messages else {
        return (StatusCode::BAD_REQUEST, json!({"error": {"message": "messages is required"}}));
    };
    let mut answer = model::answer(messages, body.get("max_tokens").and_then(Value::as_u64));
    if oversized {
        answer.text = filling();
    }
    let model = body.get("model").and_then(Value::as_str).unwrap_or("sim-mpp");
    (StatusCode::OK, completion(&format!("paid-{number}"), created, model, &answer))
}
