//! What commands that list records share: a time to begin at, and a table for a spreadsheet.

use std::time::SystemTime;

use serde::Serialize;

use crate::error::Failure;

/// A span before now, or a date: Unix seconds.
pub(super) fn since(text: &str) -> Result<u64, String> {
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

/// Text of others in a cell: what a spreadsheet would take for a formula begins with a quote.
pub(super) fn harmless(text: String) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text }
}

/// A table with a head, on stdout.
pub(super) fn csv<T: Serialize>(rows: impl IntoIterator<Item = T>) -> Result<(), Failure> {
    let failed = |error: csv::Error| Failure::internal(format!("the rows cannot be written: {error}"));
    let mut table = csv::Writer::from_writer(std::io::stdout().lock());
    for row in rows {
        table.serialize(row).map_err(failed)?;
    }
    table.flush().map_err(|error| failed(error.into()))
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

    #[test]
    fn no_cell_is_a_formula() {
        for formula in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1"] {
            assert!(harmless(formula.into()).starts_with('\''), "{formula:?}");
        }
        assert_eq!(harmless("sim-llm".into()), "sim-llm");
    }
}
