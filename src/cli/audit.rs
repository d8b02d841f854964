//! `drain-mcp audit`: what was decided about money, who asked, by which rule, and what came of it.

use serde::Serialize;

use super::exit::Exit;
use super::journal::{Place, blocking, place};
use super::output::clean;
use super::rows::{csv, harmless, since};
use super::session::Session;
use crate::error::Failure;
use crate::journal::audit::{self, AuditRow, Filter};
use crate::policy::RequestId;

/// Rows that are shown unless more are asked for.
const USUAL: u32 = 100;

/// Arguments of `drain-mcp audit`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp audit                              the newest 100 rows, oldest first
  drain-mcp audit --since 24h --agent ann
  drain-mcp audit --kind voucher --json | jq '.rows[] | select(.decision == \"refused\")'
  drain-mcp audit --since 2026-11-01 --limit 1000000 --csv     for a spreadsheet

Each row was written in the transaction that took the decision, and rows are only ever added. Amounts are USDC. It is read
beside a drain-mcp that runs, and without the key.")]
pub struct Args {
    /// Not older than this: 24h, 2026-11-01, or 2026-11-01T08:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = since)]
    pub since: Option<u64>,
    /// Of one agent
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    /// Of one kind, as the rows show it: voucher, settlement, opening, closed, freeze ...
    #[arg(long)]
    pub kind: Option<String>,
    /// Of one call: its id in the rows and in the log
    #[arg(long, value_name = "ID")]
    pub request: Option<RequestId>,
    /// The newest so many rows
    #[arg(long, default_value_t = USUAL, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// As comma-separated values
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
}

/// The answer of `audit`.
#[derive(Serialize)]
struct Found {
    rows: Vec<AuditRow>,
}

pub(super) async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    let Place { location, .. } = place(session).await?;
    let as_csv = args.csv;
    let Args { since, agent, kind, request, limit: most, .. } = args;
    let filter = Filter { since: since.unwrap_or(0), agent, kind, request, most };
    let rows = blocking(move || audit::read(&location, &filter)).await?;
    if as_csv {
        csv(rows.into_iter().map(in_cells))?;
    } else {
        let found = Found { rows };
        session.output.answer(&found, || match &*found.rows {
            [] => "no such rows".into(),
            rows => rows.iter().map(line).collect::<Vec<_>>().join("\n"),
        })?;
    }
    Ok(Exit::Ok)
}

/// Text of others in cells.
fn in_cells(row: AuditRow) -> AuditRow {
    AuditRow {
        provider: row.provider.map(harmless),
        outcome: row.outcome.map(harmless),
        rule: row.rule.map(harmless),
        ..row
    }
}

fn line(row: &AuditRow) -> String {
    let mut parts = vec![format!("{} #{} {} {}", row.at, row.seq, row.kind, row.decision)];
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            parts.push(format!("{name} {value}"));
        }
    };
    let money = |amount: Option<drain_protocol::Usdc>| amount.map(|amount| amount.to_string());
    add("by", row.rule.clone());
    add("amount", money(row.amount));
    add("growth", money(row.growth));
    add("bound", money(row.bound));
    add("left", money(row.left));
    add("charged", money(row.charged));
    add("disputed", money(row.disputed.filter(|disputed| !disputed.is_zero())));
    add("refunded", money(row.refunded));
    add("provider", row.provider.clone());
    add("channel", row.intent.clone());
    add("voucher", row.nonce.map(|nonce| nonce.to_string()));
    add("tx", row.tx.clone());
    add("hash", row.hash.clone());
    add("approval", row.approval.clone());
    add("for", Some(row.agent.clone()).filter(|agent| !agent.is_empty()));
    add("via", Some(row.tool.clone()));
    add("call", row.request.clone());
    add("repeated", Some(row.repeated).filter(|times| *times > 0).map(|times| format!("{times} times")));
    add("of", row.decided.map(|seq| format!("#{seq}")));
    add("-", row.outcome.clone());
    clean(&parts.join("  "))
}
