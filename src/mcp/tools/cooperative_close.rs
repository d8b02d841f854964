//! `drain_cooperative_close`: ends a channel now, with the provider's word.

use super::{Definition, Hints};
use crate::actors::Runtime;
use crate::api::{Closed, Effect, Progress};
use crate::error::Failure;
use crate::mcp::answer::Answer;
use crate::mcp::args::{Args, Kind, Param};
use crate::mcp::{render, schema};

/// The tool.
pub const TOOL: Definition = Definition {
    name: "drain_cooperative_close",
    title: "Close now",
    about: "End a V2 channel before its expiry with the provider's signature; the rest of the deposit comes back at \
            once. Costs gas. If refused: drain_close_channel after expiry.",
    hints: Hints { read_only: false, destructive: true, idempotent: true, open_world: true },
    effect: Effect::Joins,
    params: &[Param::required("channelId", Kind::Text, "").or(&["channel"])],
    output: schema::output_schema::<Closed>,
    run: |runtime, args, progress| Box::pin(run(runtime, args, progress)),
};

async fn run(runtime: Runtime, args: Args, progress: Progress) -> Result<Answer, Failure> {
    let closed = runtime.cooperative_close(args.channel("channelId")?, progress).await?;
    let untrusted = ["channel.provider_id", "channel.provider_name", "channel.category"];
    Answer::new(&closed, &untrusted, render::closed(&closed))
}
