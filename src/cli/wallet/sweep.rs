//! `drain-mcp wallet sweep`: what is above the marks goes back to the treasury, and to nobody else (design section 8).

use serde_json::json;

use super::super::exit::Exit;
use super::super::session::{Needs, Session};
use crate::error::Failure;

/// Arguments of `drain-mcp wallet sweep`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp wallet sweep

It leaves DRAIN_SWEEP_KEEP in USDC, DRAIN_SWEEP_KEEP_POL in POL, and what pending openings need; POL is sent only where more
than twice that is held. DRAIN_MAX_SWEEPS_PER_DAY limits how often. Money in open channels is not in the wallet:
drain-mcp refund brings it back. It asks nothing, since the treasury is the configuration's word.")]
pub struct Args {}

pub(super) async fn run(session: &mut Session) -> Result<Exit, Failure> {
    let swept = session.run(Needs::Money, async |runtime, progress| runtime.sweep(progress).await).await?;
    let object =
        json!({ "to": swept.to.to_string(), "usdc": swept.usdc, "pol": swept.pol, "transactions": swept.transactions });
    session.output.answer(&object, || match swept.transactions.is_empty() {
        true => "Nothing is above what a sweep leaves.".into(),
        false => format!("{} USDC and {} POL went to {}.", swept.usdc, swept.pol, swept.to),
    })?;
    Ok(Exit::Ok)
}
