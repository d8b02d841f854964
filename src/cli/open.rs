//! `drain-mcp open`: a channel to a provider.

use drain_protocol::Usdc;
use drain_protocol::duration::ChannelDuration;

use super::exit::Exit;
use super::session::{Needs, Session};
use crate::api::{OpenRequest, Opened};
use crate::error::Failure;

/// Arguments of `drain-mcp open`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp open sim-llm 0.50
  drain-mcp open sim-llm 0.50 --duration 2h --cap 0.25
  drain-mcp open 0x70997970C51812dc3A010C7d01b50e0d17dc79C8 1 --json | jq -r .channel.channel_id

The deposit is locked in the channel contract. What is not spent comes back: at once where the provider agrees
(drain-mcp close), at expiry otherwise. Before money moves the provider, its contract, balance, gas and limits are
checked. Opening again while one is on its way gives that one.")]
pub struct Args {
    /// The provider's id, or its wallet where one listing has it
    pub provider: String,
    /// The deposit in USDC
    #[arg(allow_hyphen_values = true)]
    pub amount: Usdc,
    /// How long: 90m, 24h, 7d [default: 24h within the provider's limits]
    #[arg(long, short)]
    pub duration: Option<ChannelDuration>,
    /// Spend at most this of the deposit; lowers the configured limit, never raises it
    #[arg(long)]
    pub cap: Option<Usdc>,
}

pub(super) async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    let request = OpenRequest { provider: args.provider, amount: args.amount, duration: args.duration, cap: args.cap };
    let opened = session.run(Needs::Money, async |runtime, progress| runtime.open(request, progress).await).await?;
    session.output.answer(&opened, || text(&opened))?;
    Ok(Exit::Ok)
}

fn text(opened: &Opened) -> String {
    let channel = &opened.channel;
    let id = channel.channel_id.as_deref().unwrap_or("(not mined yet)");
    let what = if opened.resumed { "This channel was on its way already" } else { "Opened" };
    let mut lines = vec![
        format!("{what}: {id}"),
        super::channels::line(channel),
        format!("contract {} {}: {}", opened.contract.generation, opened.contract.contract, opened.contract.reason),
    ];
    if !opened.session_fee.is_zero() {
        lines.push(format!("session fee {} USDC", opened.session_fee));
    }
    lines.extend(opened.transactions.iter().map(|hash| format!("transaction {hash}")));
    lines.extend(opened.warnings.iter().map(|warning| format!("warning: {warning}")));
    if let Some(docs) = &opened.docs {
        lines.push(format!("\n{}", super::output::theirs("the provider's docs", docs)));
    }
    lines.push(format!("\nNext: drain-mcp chat {id} --model MODEL \"...\""));
    lines.join("\n")
}
