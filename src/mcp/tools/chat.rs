//! `drain_chat`: one paid request.

use drain_protocol::Usdc;
use drain_protocol::text::untrusted;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Definition, Hints};
use crate::actors::Runtime;
use crate::api::{ChatCall, ChatReply, Effect, Paid, Progress};
use crate::error::Failure;
use crate::mcp::answer::Answer;
use crate::mcp::args::{Args, Kind, Param};
use crate::mcp::media::{MAX_SHOWN, pieces, uri};
use crate::mcp::{render, schema};

/// The tool.
pub const TOOL: Definition = Definition {
    name: "drain_chat",
    title: "Paid request",
    about: "Send one paid request. Give a provider: its open channel pays, or with maxDeposit a new one is opened; or a \
            channelId. No gas with an open channel. For providers that are no LLM put the JSON of their docs into the \
            user message; the first such request returns the docs unpaid.",
    hints: Hints { read_only: false, destructive: true, idempotent: false, open_world: true },
    effect: Effect::Pays,
    params: &[
        Param::optional("channelId", Kind::Text, "In place of provider").or(&["channel"]),
        Param::optional("provider", Kind::Text, "Provider id").or(&["providerId"]),
        Param::required("model", Kind::Text, "Model id of the provider"),
        Param::required("messages", Kind::Messages, ""),
        Param::optional("maxTokens", Kind::Count, "Longest answer; bounds the price").or(&["max_completion_tokens"]),
        Param::optional("temperature", Kind::Number, ""),
        Param::optional("maxCost", Kind::Text, "Refuse if it could cost more USDC"),
        Param::optional("maxDeposit", Kind::Text, "With provider: USDC that may be locked in a new channel"),
        Param::optional("duration", Kind::Text, "Of a new channel, such as 4h"),
        Param::optional("requestId", Kind::Text, "Your name for this request: repeated under it, it is not paid twice")
            .or(&["idempotencyKey"]),
    ],
    output: schema::output_schema::<Reply>,
    run: |runtime, args, progress| Box::pin(run(runtime, args, progress)),
};

/// What came of a request.
#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// A paid answer.
    Answered,
    /// Nothing was paid: read the docs and call again.
    #[default]
    ReadDocsFirst,
}

#[derive(Default, Serialize, JsonSchema)]
struct Reply {
    outcome: Outcome,
    /// What to read before the first request.
    #[serde(skip_serializing_if = "Option::is_none")]
    docs: Option<String>,
    /// The provider's text, or its first part.
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
    /// The whole text is attached as this resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    whole_answer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finish_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens_sent: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    /// What it cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    payment: Option<Payment>,
}

#[derive(Serialize, JsonSchema)]
struct Payment {
    #[schemars(with = "String")]
    cost: Usdc,
    /// What the provider asks beyond what is explained; not paid.
    #[schemars(with = "String")]
    disputed: Usdc,
    receipt: String,
    #[schemars(with = "String")]
    spent_today: Usdc,
    channel_id: Option<String>,
    #[schemars(with = "String")]
    channel_left: Usdc,
    channel_expires_at: u64,
}

async fn run(runtime: Runtime, args: Args, progress: Progress) -> Result<Answer, Failure> {
    let call = ChatCall {
        from: args.pay_from()?,
        model: args.required_text("model")?,
        messages: args.messages("messages")?,
        max_tokens: args.max_tokens("maxTokens")?,
        temperature: args.temperature("temperature")?,
        max_cost: args.positive_amount("maxCost")?,
        request_id: args.request_id("requestId")?,
    };
    match runtime.chat(call, progress).await? {
        ChatReply::Paid(paid) => answered(*paid),
        ChatReply::ReadFirst { docs } => read_first(&docs),
    }
}

/// The provider's instructions instead of an answer.
pub(crate) fn read_first(docs: &str) -> Result<Answer, Failure> {
    let docs = render::docs(docs);
    let text = format!(
        "Nothing was sent or paid: this provider is no LLM and its docs must be read first.\n{docs}\nNext: call \
         drain_chat again with the message in the form that the docs describe."
    );
    Answer::new(&Reply { docs: Some(docs), ..Reply::default() }, &["docs"], text)
}

/// A paid answer.
pub(crate) fn answered(paid: Paid) -> Result<Answer, Failure> {
    let last_line = render::paid_line(&paid);
    let raw = if paid.content.is_empty() && !paid.raw.is_null() { Some(paid.raw.to_string()) } else { None };
    let pieces = pieces(raw.as_deref().unwrap_or(&paid.content), &paid.receipt);
    let mut text = render::fence("provider answer", &pieces.text, MAX_SHOWN);
    if pieces.truncated {
        text.push_str(&format!("\nThis is the first part; the whole answer is attached as {}.", uri(&paid.receipt)));
    }
    if paid.finish_reason.as_deref() == Some("length") {
        let sent = paid.max_tokens_sent.map(|tokens| format!(" ({tokens})")).unwrap_or_default();
        text.push_str(&format!("\nThe answer was cut at maxTokens{sent}."));
    }
    if !paid.disputed.is_zero() {
        text.push_str(&format!("\nThe provider asks {} USDC more than is explained; it is not paid.", paid.disputed));
    }
    render::bullets(&mut text, "Note", &paid.notes);
    let reply = Reply {
        outcome: Outcome::Answered,
        docs: None,
        whole_answer: pieces.truncated.then(|| uri(&paid.receipt)),
        // As clean as in the text (M13): some clients show the data.
        answer: Some(untrusted(&pieces.text, MAX_SHOWN)),
        finish_reason: paid.finish_reason,
        max_tokens_sent: paid.max_tokens_sent,
        notes: paid.notes,
        payment: Some(Payment {
            cost: paid.cost,
            disputed: paid.disputed,
            receipt: paid.receipt,
            spent_today: paid.spent_today,
            channel_id: paid.channel.channel_id,
            channel_left: paid.channel.available,
            channel_expires_at: paid.channel.expires_at,
        }),
    };
    let answer = Answer::new(&reply, &["answer", "finish_reason"], text)?.ending_with(last_line);
    Ok(pieces.blocks.into_iter().fold(answer, Answer::attach))
}
