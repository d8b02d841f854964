//! `drain_open_channel`: locks a deposit for one provider.

use super::{Definition, Hints};
use crate::actors::Runtime;
use crate::api::{Effect, OpenRequest, Opened, Progress, ProviderQuery};
use crate::error::Failure;
use crate::mcp::answer::Answer;
use crate::mcp::args::{Args, Kind, Param};
use crate::mcp::{render, schema};

const UNTRUSTED: &[&str] = &["docs", "channel.provider_id", "channel.provider_name", "channel.category"];

/// The tool.
pub const TOOL: Definition = Definition {
    name: "drain_open_channel",
    title: "Open a channel",
    about: "Lock a USDC deposit to pay one provider, where deposit, duration or cap are to be your own: else drain_chat with \
            maxDeposit opens by itself. Costs gas (V1 contracts also 0.01 USDC). Unspent money comes back on close. Returns \
            the provider's docs and the channelId.",
    hints: Hints { read_only: false, destructive: true, idempotent: false, open_world: true },
    effect: Effect::Joins,
    params: &[
        Param::required("provider", Kind::Text, "Provider id").or(&["providerId"]),
        Param::required("amount", Kind::Text, "Deposit in USDC, such as \"1.50\""),
        Param::optional("duration", Kind::Text, "Such as 90m, 4h, 7d; default 24h"),
        Param::optional("cap", Kind::Text, "Spend at most so many USDC of it; only lowers the limit"),
    ],
    output: schema::output_schema::<Opened>,
    run: |runtime, args, progress| Box::pin(run(runtime, args, progress)),
};

async fn run(runtime: Runtime, args: Args, progress: Progress) -> Result<Answer, Failure> {
    let request = OpenRequest {
        provider: args.required_text("provider")?,
        amount: args.required_amount("amount")?,
        duration: args.duration("duration")?,
        cap: args.positive_amount("cap")?,
    };
    let mut opened = runtime.open(request, progress).await?;
    let model = a_model(&runtime, &opened.channel.provider_id).await;
    let text = render::opened(&opened, model.as_deref());
    opened.docs = opened.docs.as_deref().map(render::docs);
    Answer::new(&opened, UNTRUSTED, text)
}

/// A model of the provider for the example call, as the directory lists it.
async fn a_model(runtime: &Runtime, provider: &str) -> Option<String> {
    let page = runtime.providers(ProviderQuery::default()).await.ok()?;
    let listed = page.providers.into_iter().find(|listed| listed.id == provider)?;
    listed.models.into_iter().next().map(|model| model.id)
}
