//! `drain_channel_status`: where one channel stands.

use super::{Definition, Hints};
use crate::actors::Runtime;
use crate::api::{ChannelView, Effect};
use crate::error::Failure;
use crate::mcp::answer::Answer;
use crate::mcp::args::{Args, Kind, Param};
use crate::mcp::{render, schema};

/// The tool.
pub const TOOL: Definition = Definition {
    name: "drain_channel_status",
    title: "Channel status",
    about: "One channel's deposit, what is left, charged, signed, in flight and disputed, its expiry and the next \
            step, compared with the chain. Free. Use it when an outcome is unclear.",
    hints: Hints::READ,
    effect: Effect::Repeatable,
    params: &[Param::required("channelId", Kind::Text, "").or(&["channel"])],
    output: schema::output_schema::<ChannelView>,
    run: |runtime, args, _| Box::pin(run(runtime, args)),
};

async fn run(runtime: Runtime, args: Args) -> Result<Answer, Failure> {
    let view = runtime.channel(args.channel("channelId")?).await?;
    Answer::new(&view, &["provider_id", "provider_name", "category"], render::channel(&view))
}
