//! `drain_approve`: lets the contract take USDC from the wallet.

use super::{Definition, Hints};
use crate::actors::Runtime;
use crate::api::{Approved, Effect, Progress};
use crate::error::Failure;
use crate::mcp::answer::Answer;
use crate::mcp::args::{Args, Kind, Param};
use crate::mcp::{render, schema};

/// The tool.
pub const TOOL: Definition = Definition {
    name: "drain_approve",
    title: "Approve USDC",
    about: "Set the allowance of the channel contract. Seldom needed: drain_open_channel approves what it needs. \
            Costs gas. Without amount up to the operator's cap, never unlimited.",
    hints: Hints { read_only: false, destructive: false, idempotent: true, open_world: true },
    effect: Effect::Joins,
    params: &[Param::optional("amount", Kind::Text, "USDC, such as \"5\"")],
    output: schema::output_schema::<Approved>,
    run: |runtime, args, progress| Box::pin(run(runtime, args, progress)),
};

async fn run(runtime: Runtime, args: Args, progress: Progress) -> Result<Answer, Failure> {
    let approved = runtime.approve(args.amount("amount")?, progress).await?;
    Answer::new(&approved, &[], render::approved(&approved))
}
