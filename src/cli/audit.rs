//! `drain-mcp audit`: what was decided about money, who asked, by which rule, and what came of it.

use std::time::SystemTime;

use serde::Serialize;

use super::exit::Exit;
use super::journal::{Place, blocking, place};
use super::output::clean;
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

/// A span before now, or a date.
fn since(text: &str) -> Result<u64, String> {
    let at = match humantime::parse_duration(text) {
        Ok(before) => SystemTime::now().checked_sub(before),
        Err(_) => {
            let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
            humantime::parse_rfc3339_weak(&whole).ok()
        }
    };
    let seconds = at.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok()).map(|since| since.as_secs());
    seconds
        .filter(|at| i64::try_from(*at).is_ok())
        .ok_or_else(|| "write 24h, 2026-11-01 or 2026-11-01T08:00:00Z".into())
}

pub(super) async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    let Place { folder, .. } = place(session).await?;
    let Args { since, agent, kind, request, limit: most, csv } = args;
    let filter = Filter { since: since.unwrap_or(0), agent, kind, request, most };
    let rows = blocking(move || audit::read(&folder, &filter)).await?;
    if csv {
        print(&rows)?;
    } else {
        let found = Found { rows };
        session.output.answer(&found, || match &*found.rows {
            [] => "no such rows".into(),
            rows => rows.iter().map(line).collect::<Vec<_>>().join("\n"),
        })?;
    }
    Ok(Exit::Ok)
}

/// A table with a head. What a spreadsheet would take for a formula begins with a quote.
fn print(rows: &[AuditRow]) -> Result<(), Failure> {
    let failed = |error: csv::Error| Failure::internal(format!("the rows cannot be written: {error}"));
    let mut table = csv::Writer::from_writer(std::io::stdout().lock());
    for row in rows {
        let harmless = |text: &Option<String>| {
            text.as_ref().map(|text| {
                if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.clone() }
            })
        };
        let row = AuditRow {
            provider: harmless(&row.provider),
            outcome: harmless(&row.outcome),
            rule: harmless(&row.rule),
            ..row.clone()
        };
        table.serialize(row).map_err(failed)?;
    }
    table.flush().map_err(|error| failed(error.into()))
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn times_are_spans_or_dates() {
        assert_eq!(since("2026-11-01"), since("2026-11-01T00:00:00Z"));
        assert_eq!(since("1970-01-01T00:01:00Z"), Ok(60));
        let day = since("24h").unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        assert!((now - 86_401..=now - 86_399).contains(&day));
        for bad in ["", "yesterday", "2026-13-01", "1969-01-01", "99999999999999h", "-1h"] {
            assert!(since(bad).is_err(), "{bad}");
        }
    }
}
