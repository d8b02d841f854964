//! `mpp_chat`: a conversation with a provider that the directory lists as paid by MPP, with upstream's arguments.

use std::collections::BTreeMap;

use drain_protocol::chat::ChatAnswer;
use serde_json::json;

use super::{Definition, Hints, pay_request};
use crate::actors::Runtime;
use crate::api::{Effect, PaymentCall, Progress, Target};
use crate::error::Failure;
use crate::mcp::answer::Answer;
use crate::mcp::args::{Args, Kind, Param};
use crate::mcp::schema;

/// The tool.
pub const TOOL: Definition = Definition {
    name: "mpp_chat",
    title: "MPP chat",
    about: "Ask an LLM listed with protocol mpp, without a channel.",
    hints: Hints { read_only: false, destructive: true, idempotent: false, open_world: true },
    effect: Effect::Pays,
    params: &[
        Param::required("provider", Kind::Text, "Id or URL").or(&["providerId"]),
        Param::required("messages", Kind::MessagesBriefly, "As of drain_chat"),
        Param::optional("model", Kind::Text, ""),
        Param::optional("maxTokens", Kind::Count, "").or(&["max_completion_tokens"]),
        Param::optional("temperature", Kind::Number, ""),
    ],
    output: schema::output_schema::<pay_request::Reply>,
    run: |runtime, args, progress| Box::pin(run(runtime, args, progress)),
};

async fn run(runtime: Runtime, args: Args, progress: Progress) -> Result<Answer, Failure> {
    let provider = args.required_text("provider")?;
    let target = if provider.contains("://") { Target::Url(provider) } else { Target::Provider(provider) };
    let mut body = json!({ "messages": args.messages("messages")? });
    for (name, value) in [
        ("model", args.text("model")?.map(Into::into)),
        ("max_tokens", args.max_tokens("maxTokens")?.map(Into::into)),
        ("temperature", args.temperature("temperature")?.map(serde_json::Value::Number)),
    ] {
        if let Some(value) = value {
            body[name] = value;
        }
    }
    let call = PaymentCall {
        target,
        method: "POST".into(),
        headers: BTreeMap::new(),
        body: Some(body.to_string()),
        mpp_only: true,
        max_cost: None,
        request_id: None,
    };
    pay_request::answered(runtime.pay_request(call, progress).await?, spoken)
}

/// What the model says; the whole answer where that is not to be found.
fn spoken(text: String) -> String {
    match ChatAnswer::parse(text.as_bytes()) {
        Ok(answer) if !answer.content.trim().is_empty() => answer.content,
        _ => text,
    }
}
