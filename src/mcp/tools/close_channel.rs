//! `drain_close_channel`: ends an expired channel.

use super::{Definition, Hints};
use crate::actors::Runtime;
use crate::api::{Closed, Effect, Progress};
use crate::error::Failure;
use crate::mcp::answer::Answer;
use crate::mcp::args::{Args, Kind, Param};
use crate::mcp::{render, schema};

/// The tool.
pub const TOOL: Definition = Definition {
    name: "drain_close_channel",
    title: "Close after expiry",
    about: "End an expired channel without the provider; what it did not claim comes back. Costs gas. Before expiry \
            use drain_cooperative_close.",
    hints: Hints { read_only: false, destructive: true, idempotent: true, open_world: true },
    effect: Effect::Joins,
    params: &[Param::required("channelId", Kind::Text, "").or(&["channel"])],
    output: schema::output_schema::<Closed>,
    run: |runtime, args, progress| Box::pin(run(runtime, args, progress)),
};

async fn run(runtime: Runtime, args: Args, progress: Progress) -> Result<Answer, Failure> {
    let closed = runtime.close(args.channel("channelId")?, progress).await?;
    let untrusted = ["channel.provider_id", "channel.provider_name", "channel.category"];
    Answer::new(&closed, &untrusted, render::closed(&closed))
}
