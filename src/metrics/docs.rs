//! `docs/metrics.md`, written from the table of families.

use std::fmt::Write;

use super::families::{ALL, PREFIX};

const HEAD: &str = "# Metrics

<!-- Written from src/metrics/families.rs: UPDATE_DOCS=1 cargo test --lib metrics -->

`DRAIN_METRICS_ADDR=127.0.0.1:9464` serves these at `GET /metrics`, in the text format of Prometheus, from the process that
has the wallet; one that shares another's wallet serves none, and takes over when it takes over the wallet. `drain-mcp serve`
shows them on its own listener. Nothing is served without it.

Times are seconds, amounts USDC or POL as decimal numbers; within drain-mcp they are integers, and no metric decides on money.
What is a wallet's state (channels, sums, limits, balances) is read from the journal every few seconds, and from the chain when
a channel or transaction came or ended, at the latest every minute: while metrics are served, never by the scrape itself. Counters begin at zero with the process.

Labels are few, and bounded however many channels, providers and agents there are. `wallet` is the beginning of the wallet's
address. `provider` is the host and the beginning of the provider's wallet; of the sums the 50 with the highest deposits are
shown, of the counters the first 50 with a channel in this process, and all others as `other`; `agent` likewise. `endpoint` is scheme and
host of an RPC URL, without credentials. No channel id is a label. No key, token or URL path is in any of them.

| metric | type | labels | meaning |
|---|---|---|---|
";

/// The page.
pub fn markdown() -> String {
    let mut page = String::from(HEAD);
    for family in ALL {
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        let kind = family.kind.to_lowercase();
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| `{PREFIX}_{}` | {kind} | {} | {} |", family.name, labels.join(", "), family.help);
    }
    page
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn docs_metrics_is_what_the_table_says() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, markdown()).unwrap();
        }
        assert!(
            std::fs::read_to_string(&path).unwrap_or_default() == markdown(),
            "docs/metrics.md is not what the table says: UPDATE_DOCS=1 cargo test --lib metrics"
        );
    }

    /// What `promtool check metrics` would say.
    #[test]
    fn names_keep_the_rules_of_the_trade() {
        let mut names = std::collections::BTreeSet::new();
        for family in ALL {
            assert!(names.insert(family.name), "{} twice", family.name);
            assert_eq!(family.kind == "Counter", family.name.ends_with("_total"), "{}", family.name);
            assert!(family.help.ends_with('.') && !family.help.contains('|'), "{}", family.name);
            for bad in ["_ms", "_milliseconds", "_minutes", "_gwei", "_count", "_sum", "_bucket"] {
                assert!(!family.name.ends_with(bad), "{}", family.name);
            }
            assert!(family.labels.iter().all(|label| !["le", "quantile", "channel", "channel_id"].contains(label)));
        }
    }
}
