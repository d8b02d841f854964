//! `drain_quote`: what a request would cost, before anything is spent.

use super::{Definition, Hints, pay_request};
use schemars::JsonSchema;

use crate::actors::Runtime;
use crate::api::{DemandView, Effect, Quote, QuoteCall, QuoteInput};
use crate::error::Failure;
use crate::mcp::answer::Answer;
use crate::mcp::args::{Args, Kind, Param};
use crate::mcp::{render, schema};

const UNTRUSTED: &[&str] = &["provider_name", "channel.provider_name", "channel.category"];
/// Of a request whose length nobody says.
const USUAL_INPUT: u32 = 1_000;
/// No conversation is longer.
const MAX_INPUT: u64 = 10_000_000;

/// The tool.
pub const TOOL: Definition = Definition {
    name: "drain_quote",
    title: "Quote",
    about: "Before paying: the price and the most that a request can cost, which channel pays or what would be opened, \
            what the caps leave, whether a person is asked. Free, spends nothing. Arguments as of drain_chat.",
    hints: Hints::READ,
    effect: Effect::Repeatable,
    params: &[
        Param::optional("provider", Kind::Text, "Provider id").or(&["providerId"]),
        Param::optional("channelId", Kind::Text, "In place of provider").or(&["channel"]),
        Param::optional("model", Kind::Text, ""),
        Param::optional("messages", Kind::Messages, ""),
        Param::optional("inputTokens", Kind::Count, "In place of messages; default 1000"),
        Param::optional("maxTokens", Kind::Count, "").or(&["max_completion_tokens"]),
        Param::optional("maxCost", Kind::Text, ""),
        Param::optional("maxDeposit", Kind::Text, ""),
        Param::optional("duration", Kind::Text, ""),
        Param::optional("request", Kind::Map, "pay_request arguments"),
    ],
    output: schema::output_schema_or::<Quote, Requested>,
    run: |runtime, args, _| Box::pin(run(runtime, args)),
};

/// What a request without a channel asks for.
#[derive(JsonSchema)]
struct Requested {
    #[expect(dead_code, reason = "the schema of what pay_request::quoted writes")]
    request: DemandView,
}

async fn run(runtime: Runtime, args: Args) -> Result<Answer, Failure> {
    if let Some(request) = args.nested("request", pay_request::TOOL.params)? {
        return pay_request::quoted(runtime.quote_request(pay_request::call(&request, None)?).await?);
    }
    let tokens = args.count("inputTokens", MAX_INPUT)?.and_then(|tokens| u32::try_from(tokens).ok());
    let input = match (args.optional_messages("messages")?, tokens) {
        (Some(_), Some(_)) => return Err(Failure::argument("inputTokens", "give messages or inputTokens, not both")),
        (Some(messages), None) => QuoteInput::Messages(messages),
        (None, tokens) => QuoteInput::Tokens(tokens.unwrap_or(USUAL_INPUT)),
    };
    let call = QuoteCall {
        from: args.pay_from()?,
        model: args.required_text("model")?,
        input,
        max_tokens: args.max_tokens("maxTokens")?,
        max_cost: args.positive_amount("maxCost")?,
    };
    let quote = runtime.quote(call).await?;
    Answer::new(&quote, UNTRUSTED, render::quote(&quote))
}
