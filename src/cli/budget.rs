//! `drain-mcp budget`: the limits and what is left of them.

use super::exit::Exit;
use super::output::table;
use super::session::{Needs, Session};
use crate::api::{BudgetLine, BudgetView};
use crate::error::Failure;
use crate::times::span;

/// Arguments of `drain-mcp budget`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp budget
  drain-mcp budget --json | jq '.limits[] | select(.name == \"per_day\") | .left'

The limits are set in the configuration, and nowhere else: docs/configuration.md.")]
pub struct Args {}

pub(super) async fn run(_: Args, session: &mut Session) -> Result<Exit, Failure> {
    let view = session.run(Needs::Wallet, async |runtime, _| runtime.budget().await).await?;
    session.output.answer(&view, || text(&view))?;
    Ok(Exit::Ok)
}

fn text(view: &BudgetView) -> String {
    let row = |line: &BudgetLine| {
        [
            line.name.clone(),
            line.limit.clone(),
            line.used.clone().unwrap_or_default(),
            line.left.clone().unwrap_or_default(),
            line.frees_in.map_or_else(String::new, span),
        ]
    };
    let rows: Vec<_> = view.limits.iter().map(row).collect();
    let mut lines = vec![table(["LIMIT", "AT MOST", "USED", "LEFT", "MORE IN"], &rows)];
    lines.push(format!("\n{} spent {} USDC today.", view.agent, view.spent_today));
    lines.extend(view.frozen.iter().map(|why| format!("FROZEN: {why}.")));
    for (what, above) in [("request", view.person_above_request), ("deposit", view.person_above_deposit)] {
        lines.extend(above.map(|amount| format!("A person is asked before a {what} above {amount} USDC.")));
    }
    lines.extend(
        view.auto_open.map(|amount| format!("A request that names a provider may lock {amount} USDC by itself.")),
    );
    lines.join("\n")
}
