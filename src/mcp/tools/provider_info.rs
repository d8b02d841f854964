//! `drain_provider_info`: one provider's prices, limits and instructions.

use super::{Definition, Hints};
use crate::actors::Runtime;
use crate::api::{Effect, ProviderDetails};
use crate::error::Failure;
use crate::mcp::answer::Answer;
use crate::mcp::args::{Args, Kind, Param};
use crate::mcp::{render, schema};

const UNTRUSTED: &[&str] =
    &["docs", "listing", "channels[].provider_id", "channels[].provider_name", "channels[].category"];

/// The tool.
pub const TOOL: Definition = Definition {
    name: "drain_provider_info",
    title: "Provider details",
    about: "One provider's models, prices, channel durations, docs and your open channels to it. Free. Needed for the \
            request format of services that are no LLM, and for exact model ids; for a price use drain_quote.",
    hints: Hints::READ,
    effect: Effect::Repeatable,
    params: &[Param::required("provider", Kind::Text, "Provider id").or(&["providerId"])],
    output: schema::output_schema::<ProviderDetails>,
    run: |runtime, args, _| Box::pin(run(runtime, args)),
};

async fn run(runtime: Runtime, args: Args) -> Result<Answer, Failure> {
    let mut details = runtime.provider(&args.required_text("provider")?).await?;
    let text = render::provider(&details);
    details.docs = details.docs.as_deref().map(render::docs);
    Answer::new(&details, UNTRUSTED, text)
}
