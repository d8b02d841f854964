//! A paid answer in the form of a chat completion, with what it cost.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use drain_protocol::Usdc;
use drain_protocol::chat::Usage;
use drain_protocol::text::one_line;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::api::Paid;

/// What every answer of a request shares.
#[derive(Clone)]
pub(super) struct Head {
    /// Its id, before there is a receipt.
    pub id: String,
    /// Unix seconds.
    pub created: u64,
    /// The model, as it was named.
    pub model: String,
}

/// An answer, or an event of a streamed one.
#[derive(Serialize)]
pub(super) struct Body<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Used>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drain: Option<Payment<'a>>,
}

/// The tokens that the provider counted, null where it told none, and what was paid, in USDC.
#[derive(Serialize)]
struct Used {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    total_tokens: Option<u64>,
    /// A number of exactly these digits, and no float on the way.
    cost: Option<Box<RawValue>>,
}

/// What was paid, to whom, and what is left.
#[derive(Serialize)]
struct Payment<'a> {
    cost: Usdc,
    disputed: Usdc,
    receipt: &'a str,
    provider: &'a str,
    channel: Option<&'a str>,
    channel_left: Usdc,
    spent_today: Usdc,
    notes: &'a [String],
}

impl Used {
    fn of(paid: &Paid) -> Self {
        let counted = paid.raw.get("usage").and_then(Usage::read);
        Self {
            prompt_tokens: counted.map(|usage| usage.prompt_tokens),
            completion_tokens: counted.map(|usage| usage.completion_tokens),
            total_tokens: counted.map(|usage| usage.prompt_tokens.saturating_add(usage.completion_tokens)),
            cost: RawValue::from_string(paid.cost.to_string()).ok(),
        }
    }
}

impl<'a> Payment<'a> {
    fn of(paid: &'a Paid) -> Self {
        Self {
            cost: paid.cost,
            disputed: paid.disputed,
            receipt: &paid.receipt,
            provider: &paid.channel.provider_id,
            channel: paid.channel.channel_id.as_deref(),
            channel_left: paid.channel.available,
            spent_today: paid.spent_today,
            notes: &paid.notes,
        }
    }
}

/// Why it ended; a provider that does not say had nothing more to say.
fn finish(paid: &Paid) -> &str {
    paid.finish_reason.as_deref().unwrap_or("stop")
}

impl Head {
    /// The whole answer at once.
    pub(super) fn completion<'a>(&'a self, paid: &'a Paid) -> Body<'a> {
        let choice = json!({
            "index": 0,
            "message": { "role": "assistant", "content": paid.content, "refusal": null },
            "logprobs": null,
            "finish_reason": finish(paid),
        });
        Body {
            usage: Some(Used::of(paid)),
            drain: Some(Payment::of(paid)),
            ..self.body("chat.completion", vec![choice])
        }
    }

    /// A part of a streamed answer.
    pub(super) fn part(&self, delta: &Value) -> Body<'_> {
        self.body("chat.completion.chunk", vec![choice(delta, None)])
    }

    /// The end of a streamed answer. A client that asked for usage is sent that alone, after it.
    pub(super) fn last_part<'a>(&'a self, paid: &'a Paid, usage_alone: bool) -> Body<'a> {
        let usage = (!usage_alone).then(|| Used::of(paid));
        let choices = vec![choice(&json!({}), Some(finish(paid)))];
        Body { usage, drain: Some(Payment::of(paid)), ..self.body("chat.completion.chunk", choices) }
    }

    /// Usage alone.
    pub(super) fn usage(&self, paid: &Paid) -> Body<'_> {
        Body { usage: Some(Used::of(paid)), ..self.body("chat.completion.chunk", Vec::new()) }
    }

    fn body(&self, object: &'static str, choices: Vec<Value>) -> Body<'_> {
        let Self { id, created, model } = self;
        Body { id, object, created: *created, model, choices, usage: None, drain: None }
    }
}

fn choice(delta: &Value, finish_reason: Option<&str>) -> Value {
    json!({ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason })
}

/// What it cost, for whoever does not look into the body.
pub(super) fn cost_headers(headers: &mut HeaderMap, paid: &Paid) {
    let left = paid.channel.available.to_string();
    let (cost, spent) = (paid.cost.to_string(), paid.spent_today.to_string());
    for (name, value) in [
        ("x-drain-cost", cost.as_str()),
        ("x-drain-receipt", &paid.receipt),
        ("x-drain-provider", &paid.channel.provider_id),
        ("x-drain-channel", paid.channel.channel_id.as_deref().unwrap_or_default()),
        ("x-drain-channel-left", &left),
        ("x-drain-spent-today", &spent),
    ] {
        insert(headers, HeaderName::from_static(name), value);
    }
}

/// Inserts what a header can hold; the body has it all.
pub(super) fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(&one_line(value, 400)) {
        headers.insert(name, value);
    }
}
