//! `drain_feedback`: tells the marketplace how a provider did.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Definition, Hints};
use crate::actors::Runtime;
use crate::api::{Effect, Feedback};
use crate::error::Failure;
use crate::mcp::answer::Answer;
use crate::mcp::args::{Args, Kind, Param};
use crate::mcp::schema;

const OUTCOMES: &[&str] = &["success", "failure"];
const REASONS: &[&str] = &["quality", "timeout", "error", "format", "unavailable"];

/// The tool.
pub const TOOL: Definition = Definition {
    name: "drain_feedback",
    title: "Rate a provider",
    about: "Tell the marketplace whether a provider's service was good. Free; sends provider id, outcome and reason, \
            nothing else.",
    hints: Hints { read_only: false, destructive: false, idempotent: false, open_world: true },
    effect: Effect::Tells,
    params: &[
        Param::required("providerId", Kind::Text, "").or(&["provider"]),
        Param::required("outcome", Kind::OneOf(OUTCOMES), ""),
        Param::optional("reason", Kind::OneOf(REASONS), "With failure only"),
        Param::optional("protocol", Kind::OneOf(&["drain", "mpp"]), ""),
    ],
    output: schema::output_schema::<Sent>,
    run: |runtime, args, _| Box::pin(run(runtime, args)),
};

#[derive(Serialize, JsonSchema)]
struct Sent {
    sent: bool,
}

async fn run(runtime: Runtime, args: Args) -> Result<Answer, Failure> {
    let provider_id = args.required_text("providerId")?;
    let outcome = args.one_of("outcome", OUTCOMES)?.ok_or_else(|| Failure::argument("outcome", "it is required"))?;
    let reason = args.one_of("reason", REASONS)?.map(str::to_owned);
    if reason.is_some() && outcome == "success" {
        return Err(Failure::argument("reason", "it goes with the outcome failure only"));
    }
    let protocol = args.one_of("protocol", &["drain", "mpp"])?.map(str::to_owned);
    runtime.feedback(Feedback { provider_id, outcome: outcome.to_owned(), reason, protocol }).await?;
    Answer::new(&Sent { sent: true }, &[], "The marketplace was told.")
}
