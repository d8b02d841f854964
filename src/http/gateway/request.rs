//! What an OpenAI client sends: the part of it that providers understand. What would change the answer and cannot be passed on
//! is refused; what only steers it is left out, and the answer says so.

use axum::http::{HeaderMap, HeaderName};
use drain_protocol::Usdc;
use drain_protocol::chat::{Message, parse_messages};
use drain_protocol::text::one_line;
use serde::Deserialize;
use serde_json::{Map, Number, Value, json};

use crate::api::{ChatCall, PayFrom};
use crate::policy::repeat::IdempotencyKey;

/// The caller's own name for a request.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The most that it may cost.
const MAX_COST: HeaderName = HeaderName::from_static("x-drain-max-cost");

/// Without these the client would take the answer for another one than it is.
const NEEDED: [&str; 9] = [
    "tools",
    "functions",
    "function_call",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "audio",
    "prediction",
    "web_search_options",
];
/// Names of what was left out, in the header that tells of it.
const NAMES_SHOWN: usize = 20;
/// A longer name is no model's; each part of a streamed answer repeats it.
const LONGEST_NAME: usize = 300;
/// A larger number of tokens is a mistake.
const MAX_TOKENS: u64 = 1_000_000;

/// A request that can be sent.
#[derive(Debug)]
pub(super) struct Asked {
    pub call: ChatCall,
    /// The model, as it was named.
    pub model: String,
    pub stream: bool,
    /// A streamed answer ends with a chunk of usage alone.
    pub include_usage: bool,
    /// Names of what was left out.
    pub left_out: Vec<String>,
}

/// What is wrong, and where.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::http) struct BadRequest {
    pub param: Option<&'static str>,
    pub text: String,
}

#[derive(Deserialize)]
struct Body {
    model: String,
    messages: Vec<Value>,
    max_tokens: Option<Value>,
    max_completion_tokens: Option<Value>,
    temperature: Option<Number>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    n: Option<u64>,
    response_format: Option<Value>,
    modalities: Option<Vec<String>>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Default, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

fn bad(param: &'static str, text: impl Into<String>) -> BadRequest {
    BadRequest { param: Some(param), text: text.into() }
}

impl Asked {
    /// Reads body and headers. `at_once` channels may be open where requests overlap.
    pub(super) fn parse(body: &[u8], headers: &HeaderMap, at_once: u32) -> Result<Self, BadRequest> {
        let body: Body = serde_json::from_slice(body)
            .map_err(|error| BadRequest { param: None, text: format!("The body is no chat completion: {error}.") })?;
        let model = body.model.trim().to_owned();
        if model.is_empty() || model.len() > LONGEST_NAME {
            return Err(bad("model", format!("model must have 1 to {LONGEST_NAME} characters.")));
        }
        if body.n.is_some_and(|n| n != 1) {
            return Err(bad("n", "One answer is paid for at a time: n must be 1."));
        }
        let text_only = |format: &Value| format.get("type").and_then(Value::as_str) == Some("text");
        if body.response_format.is_some_and(|format| !text_only(&format)) {
            return Err(bad("response_format", "Providers are asked for text only: say so in a message instead."));
        }
        if body.modalities.is_some_and(|all| all.iter().any(|one| one != "text")) {
            return Err(bad("modalities", "Providers are asked for text only."));
        }
        if let Some(name) = NEEDED.into_iter().find(|name| body.rest.get(*name).is_some_and(is_meant)) {
            return Err(bad(name, format!("{name} cannot be passed on to providers, and is not left out silently.")));
        }
        let left_out =
            body.rest.iter().filter(|(_, value)| is_meant(value)).map(|(name, _)| one_line(name, 40)).take(NAMES_SHOWN);
        if body.temperature.as_ref().and_then(Number::as_f64).is_some_and(|t| !(0.0..=2.0).contains(&t)) {
            return Err(bad("temperature", "temperature must be from 0 to 2."));
        }
        let limits = [("max_completion_tokens", &body.max_completion_tokens), ("max_tokens", &body.max_tokens)];
        let mut max_tokens = None;
        for (name, value) in limits {
            max_tokens = max_tokens.or(tokens(name, value.as_ref())?);
        }
        Ok(Self {
            call: ChatCall {
                from: PayFrom::Allowed { at_once },
                model: model.clone(),
                messages: messages(&body.messages)?,
                max_tokens,
                temperature: body.temperature,
                max_cost: header(headers, &MAX_COST, "x-drain-max-cost", |text| match text.parse::<Usdc>() {
                    Ok(amount) if amount.is_zero() => Err("it must be above zero".into()),
                    other => other.map_err(|error| error.to_string()),
                })?,
                request_id: header(headers, &IDEMPOTENCY_KEY, "idempotency-key", |text| {
                    text.parse::<IdempotencyKey>().map_err(|error| error.to_string())
                })?,
            },
            model,
            stream: body.stream.unwrap_or_default(),
            include_usage: body.stream_options.unwrap_or_default().include_usage.unwrap_or_default(),
            left_out: left_out.collect(),
        })
    }
}

/// Whether a value says more than leaving it out does.
fn is_meant(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(items) => !items.is_empty(),
        _ => true,
    }
}

fn tokens(name: &'static str, value: Option<&Value>) -> Result<Option<u32>, BadRequest> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64().filter(|tokens| (1..=MAX_TOKENS).contains(tokens)) {
            Some(tokens) => Ok(u32::try_from(tokens).ok()),
            None => Err(bad(name, format!("{name} must be a whole number from 1 to {MAX_TOKENS}."))),
        },
    }
}

fn header<T>(
    headers: &HeaderMap,
    name: &HeaderName,
    shown: &'static str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, BadRequest> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let text = value.to_str().map_err(|_| bad(shown, format!("The header {shown} is no text.")))?;
            parse(text).map(Some).map_err(|why| bad(shown, format!("The header {shown}: {why}.")))
        }
        (Some(_), Some(_)) => Err(bad(shown, format!("The header {shown} was sent twice."))),
    }
}

/// Providers know system, user and assistant, with text.
fn messages(items: &[Value]) -> Result<Vec<Message>, BadRequest> {
    let plain = items.iter().enumerate().map(|(index, item)| {
        let wrong = |what: &str| bad("messages", format!("messages[{index}]: {what}."));
        let role = match item.get("role").and_then(Value::as_str) {
            Some("developer") => "system",
            Some(role @ ("system" | "user" | "assistant")) => role,
            Some("tool" | "function") => return Err(wrong("answers of tools cannot be passed on to providers")),
            _ => return Err(wrong("role must be system, developer, user or assistant")),
        };
        if item.get("tool_calls").is_some_and(is_meant) {
            return Err(wrong("tool_calls cannot be passed on to providers"));
        }
        let content = match item.get("content") {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(parts)) => {
                let text = |part: &Value| match part.get("type").and_then(Value::as_str) {
                    Some("text") => part.get("text").and_then(Value::as_str).map(str::to_owned),
                    _ => None,
                };
                let texts: Option<Vec<String>> = parts.iter().map(text).collect();
                texts.ok_or_else(|| wrong("only parts of the type text can be passed on to providers"))?.concat()
            }
            _ => return Err(wrong("content must be a string, or an array of parts of text")),
        };
        Ok(json!({ "role": role, "content": content }))
    });
    let plain = Value::Array(plain.collect::<Result<_, _>>()?);
    parse_messages(&plain, crate::mcp::args::MAX_MESSAGES_BYTES)
        .map_err(|reason| bad("messages", format!("messages: {reason}.")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parsed(body: &Value) -> Result<Asked, BadRequest> {
        Asked::parse(body.to_string().as_bytes(), &HeaderMap::new(), 4)
    }

    fn with(more: &Value) -> Value {
        let mut body = json!({ "model": "p/m", "messages": [{ "role": "user", "content": "hi" }] });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    }

    #[test]
    fn what_providers_understand_is_passed_on() {
        let asked = parsed(&json!({
            "model": "p/m",
            "messages": [
                { "role": "developer", "content": "be brief" },
                { "role": "user", "content": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }], "name": "x" },
            ],
            "max_completion_tokens": 9,
            "max_tokens": 99,
            "temperature": 0.5,
            "stream": true,
            "stream_options": { "include_usage": true },
            "top_p": 0.9,
            "seed": null,
            "stop": [],
            "user": "u",
        }))
        .unwrap();
        let said: Vec<(&str, &str)> =
            asked.call.messages.iter().map(|m| (m.role.as_str(), m.content.as_str())).collect();
        assert_eq!(said, [("system", "be brief"), ("user", "ab")]);
        assert_eq!((asked.call.max_tokens, asked.stream, asked.include_usage), (Some(9), true, true));
        assert_eq!(asked.left_out, ["top_p", "user"]);
        assert_eq!(asked.call.from, PayFrom::Allowed { at_once: 4 });
    }

    #[test]
    fn what_would_change_the_answer_is_refused() {
        for (param, more) in [
            ("n", json!({ "n": 2 })),
            ("model", json!({ "model": " " })),
            ("model", json!({ "model": "m".repeat(301) })),
            ("tools", json!({ "tools": [{ "type": "function" }] })),
            ("response_format", json!({ "response_format": { "type": "json_object" } })),
            ("modalities", json!({ "modalities": ["text", "audio"] })),
            ("logprobs", json!({ "logprobs": true })),
            ("temperature", json!({ "temperature": 2.5 })),
            ("max_tokens", json!({ "max_tokens": 0 })),
            ("max_tokens", json!({ "max_tokens": "9" })),
            ("max_completion_tokens", json!({ "max_completion_tokens": -1 })),
            ("messages", json!({ "messages": [] })),
            ("messages", json!({ "messages": [{ "role": "tool", "content": "x" }] })),
            ("messages", json!({ "messages": [{ "role": "user" }] })),
            ("messages", json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url" }] }] })),
            ("messages", json!({ "messages": [{ "role": "assistant", "content": "x", "tool_calls": [{}] }] })),
        ] {
            let refused = parsed(&with(&more)).unwrap_err();
            assert_eq!(refused.param, Some(param), "{more}");
        }
        for body in ["", "[]", "{}", "null", r#"{"model":1,"messages":[]}"#, r#"{"model":"m","messages":{}}"#] {
            assert!(Asked::parse(body.as_bytes(), &HeaderMap::new(), 1).is_err(), "{body}");
        }
        for good in [json!({ "n": 1 }), json!({ "tools": [] }), json!({ "response_format": { "type": "text" } })] {
            assert!(parsed(&with(&good)).unwrap().left_out.is_empty(), "{good}");
        }
    }

    #[test]
    fn headers_name_the_request_and_bound_its_cost() {
        let read = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().unwrap());
            }
            Asked::parse(with(&json!({})).to_string().as_bytes(), &headers, 1)
        };
        let asked = read(&[("idempotency-key", "once"), ("x-drain-max-cost", "0.01")]).unwrap();
        assert_eq!(asked.call.request_id.unwrap().as_str(), "once");
        assert_eq!(asked.call.max_cost, Some(Usdc::new(10_000)));
        for wrong in [
            &[("idempotency-key", "")][..],
            &[("idempotency-key", "a"), ("idempotency-key", "b")],
            &[("x-drain-max-cost", "0")],
            &[("x-drain-max-cost", "-1")],
            &[("x-drain-max-cost", "1e3")],
        ] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
