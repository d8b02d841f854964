//! `drain-mcp quote`: what a request would cost.

use drain_protocol::Usdc;

use super::chat::{Opening, Target, pay_from};
use super::exit::Exit;
use super::output::as_commands;
use super::session::{Needs, Session};
use crate::api::{QuoteCall, QuoteInput};
use crate::error::Failure;
use crate::mcp::render;

/// Arguments of `drain-mcp quote`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp quote sim-llm --model sim-small
  drain-mcp quote sim-llm --model sim-small --input-tokens 5000 --max-tokens 500 --max-deposit 1
  drain-mcp quote 0xCHANNEL --model sim-small --json | jq -r .at_most

Nothing is spent, opened or remembered: it says what would be.")]
pub struct Args {
    /// The channel that would pay, or a provider's id
    #[arg(value_name = "CHANNEL|PROVIDER")]
    pub target: Target,
    /// The model's id
    #[arg(long, short)]
    pub model: String,
    /// About so many tokens are sent
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub input_tokens: u32,
    /// The longest answer in tokens [default: DRAIN_DEFAULT_MAX_TOKENS]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: Option<u32>,
    /// The most that it may cost in USDC
    #[arg(long)]
    pub max_cost: Option<Usdc>,
    #[command(flatten)]
    pub opening: Opening,
}

pub(super) async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    let call = QuoteCall {
        from: pay_from(args.target, args.opening)?,
        model: args.model,
        input: QuoteInput::Tokens(args.input_tokens),
        max_tokens: args.max_tokens,
        max_cost: args.max_cost,
    };
    let quote = session.run(Needs::Wallet, async |runtime, _| runtime.quote(call).await).await?;
    session.output.answer(&quote, || as_commands(&render::quote(&quote)))?;
    Ok(Exit::Ok)
}
