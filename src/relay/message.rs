//! JSON-RPC messages, as far as a relay must understand them: what one is, whose answer it is, and which headers go with it.
//! Their text is passed on as it came.

use axum::body::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// Where a request of the stateless revision says which one it is.
const VERSION: &str = "io.modelcontextprotocol/protocolVersion";

/// The id of a request, a string or a number.
#[derive(Clone, Debug)]
pub(super) struct Id {
    /// As its sender spelled it.
    raw: Box<str>,
    /// The same whatever its spelling.
    pub key: String,
}

impl Id {
    fn of(raw: &RawValue) -> Option<Self> {
        let value: Value = serde_json::from_str(raw.get()).ok()?;
        (value.is_string() || value.is_number()).then(|| Self { raw: raw.get().into(), key: value.to_string() })
    }

    /// One of our own making.
    pub fn named(name: &str) -> Self {
        let key = Value::from(name).to_string();
        Self { raw: key.as_str().into(), key }
    }
}

/// A request.
#[derive(Debug)]
pub(super) struct Request {
    pub id: Id,
    pub method: String,
    /// The tool, prompt or resource that it is for.
    pub subject: Option<String>,
    /// Of a client without sessions: the revision that it speaks.
    pub version: Option<String>,
    /// Where the sender wants to hear of progress.
    pub progress: Option<Value>,
    pub body: Bytes,
}

impl Request {
    /// The tool that it calls.
    pub fn tool(&self) -> Option<&str> {
        if self.method == "tools/call" { self.subject.as_deref() } else { None }
    }
}

/// A message of either side.
#[derive(Debug)]
pub(super) enum Message {
    Request(Request),
    Notification {
        method: String,
        /// The request that it cancels.
        cancels: Option<Id>,
        body: Bytes,
    },
    Answer {
        /// Missing where the other side could not read ours.
        id: Option<Id>,
        body: Bytes,
    },
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    method: Option<String>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    result: Option<IgnoredAny>,
    error: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
struct Params<'a> {
    name: Option<Value>,
    uri: Option<Value>,
    #[serde(borrow, rename = "requestId")]
    request_id: Option<&'a RawValue>,
    #[serde(rename = "_meta")]
    meta: Option<Map<String, Value>>,
}

/// What is no JSON-RPC message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Odd {
    /// Not JSON: nothing to answer to, and an answer to noise may be answered with noise.
    Noise,
    /// JSON, but no message.
    Invalid,
}

/// Reads one. Two ids in one message are none: who comes after us may read the other.
pub(super) fn read(body: Bytes) -> Result<Message, Odd> {
    let head: Head<'_> = serde_json::from_slice(&body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => Odd::Invalid,
        _ => Odd::Noise,
    })?;
    let id = match head.id {
        Some(raw) => Some(Id::of(raw).ok_or(Odd::Invalid)?),
        None => None,
    };
    let Some(method) = head.method else {
        let answers = head.result.is_some() || head.error.is_some();
        return if answers { Ok(Message::Answer { id, body: body.clone() }) } else { Err(Odd::Invalid) };
    };
    // Odd parameters are the server's to judge.
    let params: Params<'_> = head.params.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
    let Some(id) = id else {
        let cancels = params.request_id.filter(|_| method == "notifications/cancelled").and_then(Id::of);
        return Ok(Message::Notification { method, cancels, body: body.clone() });
    };
    let text = |value: Option<Value>| value.and_then(|value| value.as_str().map(str::to_owned));
    let subject = match method.as_str() {
        "tools/call" | "prompts/get" => text(params.name),
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => text(params.uri),
        _ => None,
    };
    let mut meta = params.meta.unwrap_or_default();
    Ok(Message::Request(Request {
        id,
        method,
        subject,
        version: text(meta.remove(VERSION)),
        progress: meta.remove("progressToken"),
        body: body.clone(),
    }))
}

/// The revision that an answer to `initialize` names; none where it is an error.
pub(super) fn agreed_version(body: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    answer["result"]["protocolVersion"].as_str().map(str::to_owned)
}

/// The same message with another id.
pub(super) fn with_id(body: &[u8], id: &Id) -> Option<Bytes> {
    let mut message: std::collections::BTreeMap<String, Box<RawValue>> = serde_json::from_slice(body).ok()?;
    message.insert("id".into(), RawValue::from_string(id.raw.to_string()).ok()?);
    serde_json::to_vec(&message).ok().map(Bytes::from)
}

/// That a request is not wanted any more.
pub(super) fn cancelled(id: &Id, reason: &str) -> Bytes {
    let reason = Value::from(reason);
    let raw = &id.raw;
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{raw},"reason":{reason}}}}}"#
    )
    .into()
}

/// The answer to a request.
pub(super) fn result(id: &Id, result: &Value) -> Bytes {
    format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id.raw).into()
}

/// The answer to a request that failed, or to what had no id that could be read.
pub(super) fn error(id: Option<&Id>, code: i32, message: &str, data: Option<Value>) -> Bytes {
    let mut error = json!({ "code": code, "message": message });
    if let (Some(data), Some(object)) = (data, error.as_object_mut()) {
        object.insert("data".into(), data);
    }
    match id {
        Some(id) => format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, id.raw).into(),
        None => format!(r#"{{"jsonrpc":"2.0","error":{error}}}"#).into(),
    }
}

/// One step more of what somebody waits for.
pub(super) fn progress(token: &Value, progress: f64, message: &str) -> Bytes {
    let params = json!({ "progressToken": token, "progress": progress, "message": message });
    json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": params }).to_string().into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Message, Odd> {
        read(Bytes::from(text.to_owned()))
    }

    #[test]
    fn messages_are_told_apart() {
        let Ok(Message::Request(request)) = of(
            r#"{"method":"tools/call","params":{"name":"drain_chat","_meta":{"progressToken":7,"io.modelcontextprotocol/protocolVersion":"2026-07-28"}},"jsonrpc":"2.0","id":"\u0061"}"#,
        ) else {
            panic!("a request")
        };
        assert_eq!((request.id.key.as_str(), request.tool()), ("\"a\"", Some("drain_chat")));
        assert_eq!((request.version.as_deref(), request.progress), (Some("2026-07-28"), Some(json!(7))));
        let Ok(Message::Notification { cancels: Some(id), .. }) =
            of(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":3}}"#)
        else {
            panic!("a cancellation")
        };
        assert_eq!(id.key, "3");
        assert!(matches!(of(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#), Ok(Message::Answer { id: Some(_), .. })));
        assert!(matches!(of(r#"{"jsonrpc":"2.0","id":null,"error":{}}"#), Ok(Message::Answer { id: None, .. })));
    }

    #[test]
    fn what_is_no_message_is_not_passed_on() {
        for noise in ["", "x", "{", "\u{feff}"] {
            assert_eq!(of(noise).unwrap_err(), Odd::Noise, "{noise}");
        }
        for odd in [
            "[]",
            "3",
            "{}",
            r#"{"id":1}"#,
            r#"{"id":{},"method":"x"}"#,
            r#"{"id":[1],"result":{}}"#,
            r#"{"id":1,"id":2,"method":"tools/call"}"#,
            r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#,
        ] {
            assert_eq!(of(odd).unwrap_err(), Odd::Invalid, "{odd}");
        }
    }

    #[test]
    fn an_id_is_changed_and_nothing_else() {
        let question = br#"{"id": 0, "params": {"z": 1.50, "a": "\u00e9"}, "method": "elicitation/create"}"#;
        let changed = with_id(question, &Id::named("2:0")).unwrap();
        let text = std::str::from_utf8(&changed).unwrap();
        assert!(text.contains(r#""id":"2:0""#) && text.contains(r#"{"z": 1.50, "a": "\u00e9"}"#), "{text}");
    }
}
