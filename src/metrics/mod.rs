//! What an operator watches, in the text format of Prometheus: one registry a process.
//!
//! [`families`] is the table of what there is, `docs/metrics.md` is written from it. The code tells what happened by the
//! functions of [`record`]; what is a wallet's state is replaced by its observer ([`state`]), every few seconds and only
//! while somebody looks. Amounts are integers here too: they become numbers with a point when they are shown. Nothing
//! reads a metric to decide.

pub mod docs;
mod families;
pub mod http;
mod kinds;
mod labels;
pub mod names;
mod record;
pub mod state;

use tokio::sync::watch;

pub use labels::*;
pub use record::*;

use families::{FAMILIES, REGISTRY};

/// Whether anybody looks.
static SERVED: std::sync::LazyLock<watch::Sender<bool>> = std::sync::LazyLock::new(|| watch::Sender::new(false));

/// Metrics are served from now on: observers begin to read what is state. Call when a listener starts.
pub fn serve() {
    SERVED.send_if_modified(|served| !std::mem::replace(served, true));
}

/// Waits until metrics are served.
pub async fn served() {
    // The sender is there as long as the process.
    let _ = SERVED.subscribe().wait_for(|served| *served).await;
}

/// The media type of [`render`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Everything, as it is scraped. Reads no disk and no network.
pub fn render() -> String {
    serve();
    begin();
    let mut text = String::new();
    if let Err(error) = prometheus::TextEncoder::new().encode_utf8(&REGISTRY.gather(), &mut text) {
        tracing::error!(%error, "metrics cannot be shown");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_registered_once_and_says_what_it_is() {
        let text = render();
        assert!(text.contains("# TYPE drain_build_info gauge"), "{text}");
        assert!(text.contains("\ndrain_journal_errors_total "), "{text}");
        assert!(text.contains("drain_contract_admin_events_total{event=\"usdc_updated\"} "), "{text}");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.starts_with("drain_"), "{line}");
        }
    }
}
