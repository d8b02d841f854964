//! `drain_channels`: all channels of the wallet.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Definition, Hints};
use crate::actors::Runtime;
use crate::api::{ChannelView, Effect};
use crate::error::Failure;
use crate::mcp::answer::Answer;
use crate::mcp::args::{Args, Kind, Param};
use crate::mcp::{render, schema};

/// The tool.
pub const TOOL: Definition = Definition {
    name: "drain_channels",
    title: "List channels",
    about: "Your channels that hold money, also from earlier sessions: what is left, when they expire, what to do next. \
            Free. Use it before closing and after a failure; to pay, drain_chat with a provider finds its channel by itself.",
    hints: Hints::READ,
    effect: Effect::Repeatable,
    params: &[Param::optional("all", Kind::Flag, "Also closed ones")],
    output: schema::output_schema::<Channels>,
    run: |runtime, args, _| Box::pin(run(runtime, args)),
};

#[derive(Serialize, JsonSchema)]
struct Channels {
    channels: Vec<ChannelView>,
}

async fn run(runtime: Runtime, args: Args) -> Result<Answer, Failure> {
    let channels = runtime.channels(args.flag("all")?).await?;
    let text = render::channels(&channels);
    let untrusted = ["channels[].provider_id", "channels[].provider_name", "channels[].category"];
    Answer::new(&Channels { channels }, &untrusted, text)
}
