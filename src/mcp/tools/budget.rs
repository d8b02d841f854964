//! `drain_budget`: the caller's limits and what is left of them.

use super::{Definition, Hints};
use crate::actors::Runtime;
use crate::api::{BudgetView, Effect};
use crate::error::Failure;
use crate::mcp::answer::Answer;
use crate::mcp::{render, schema};

/// The tool.
pub const TOOL: Definition = Definition {
    name: "drain_budget",
    title: "Budget",
    about: "Your limits, what is used and left of each, when it is free again, and when a person is asked. Free. Only a \
            person changes a limit.",
    hints: Hints::READ,
    effect: Effect::Repeatable,
    params: &[],
    output: schema::output_schema::<BudgetView>,
    run: |runtime, _, _| Box::pin(run(runtime)),
};

async fn run(runtime: Runtime) -> Result<Answer, Failure> {
    let view = runtime.budget().await?;
    Answer::new(&view, &[], render::budget(&view))
}
