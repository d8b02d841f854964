//! `drain_balance`: what the wallet holds.

use super::{Definition, Hints};
use crate::actors::Runtime;
use crate::api::{Effect, WalletView};
use crate::error::Failure;
use crate::mcp::answer::Answer;
use crate::mcp::{render, schema};

/// The tool.
pub const TOOL: Definition = Definition {
    name: "drain_balance",
    title: "Wallet balance",
    about: "The wallet's address, USDC, gas money, what is locked in channels and spent today, and what a person \
            should do about it. Free.",
    hints: Hints::READ,
    effect: Effect::Repeatable,
    params: &[],
    output: schema::output_schema::<WalletView>,
    run: |runtime, _, _| Box::pin(run(runtime)),
};

async fn run(runtime: Runtime) -> Result<Answer, Failure> {
    show(&runtime.balance().await?)
}

/// The wallet as an answer.
pub fn show(view: &WalletView) -> Result<Answer, Failure> {
    Answer::new(view, &[], render::wallet(view))
}
