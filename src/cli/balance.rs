//! `drain-mcp balance` and `drain-mcp wallet balance`.

use super::exit::Exit;
use super::session::{Needs, Session};
use crate::api::WalletView;
use crate::error::Failure;

/// Arguments of `drain-mcp balance`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp balance
  drain-mcp balance --json | jq -r .usdc
  drain-mcp wallet balance                 the same

The wallet should be one of its own, with $1-5 of native USDC on Polygon and about 0.10 POL for gas. Bridged USDC.e
(0x2791Bca1f2de4661ED88A30C99A7a9449Aa84174) does not count.")]
pub struct Args {}

pub(super) async fn run(_: Args, session: &mut Session) -> Result<Exit, Failure> {
    let view = session.run(Needs::Wallet, async |runtime, _| runtime.balance().await).await?;
    session.output.answer(&view, || text(&view))?;
    Ok(Exit::Ok)
}

pub(super) fn text(view: &WalletView) -> String {
    let mut lines = vec![
        format!("wallet     {} (chain {})", view.address, view.chain_id),
        format!("USDC       {}", view.usdc),
        format!("POL        {}", view.pol),
        format!("allowance  {}", view.allowance),
        format!("locked     {} USDC in open channels", view.locked),
        format!("today      {} USDC spent", view.spent_today),
        format!("signer     {}", view.signer),
    ];
    lines.extend(view.advice.iter().map(|advice| format!("\n{advice}")));
    lines.join("\n")
}
