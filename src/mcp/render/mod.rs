//! The one place where text for agents is written: short, plain, with amounts as decimal USDC.
//!
//! What others wrote is cleaned, bounded and fenced here (M13); what became of the money is said here (M15).

mod fence;
mod listing;
mod money;
mod receipts;
mod views;

#[cfg(test)]
mod tests;

use crate::api::Paid;
use drain_protocol::text::one_line;

use super::answer::Fault;
use crate::provider::MAX_DOCS_CHARS;

pub use crate::times::{span, utc};
pub use fence::fence;
pub use listing::{Table, provider, providers};
pub use money::{budget, demand, payment_line, quote};
pub use receipts::{receipt, receipt_with_answer, receipts, without_answer};
pub use views::{approved, channel, channels, closed, opened, wallet};

/// A failure: what happened, the money, whether to repeat, what next.
pub fn fault(fault: &Fault) -> String {
    let failure = &fault.failure;
    let money = failure.money.sentence();
    let message = failure.message.trim_end();
    let stop = if message.ends_with(['.', '!', '?']) { "" } else { "." };
    format!(
        "Failed ({}): {message}{stop}\n{money} {}\nNext: {}",
        failure.code.as_str(),
        fault.retry().sentence(),
        failure.next
    )
}

/// The line that ends each paid answer.
pub fn paid_line(paid: &Paid) -> String {
    format!(
        "Paid {} USDC, channel left {} USDC until {}, spent today {} USDC, receipt {}.",
        paid.cost,
        paid.channel.available,
        utc(paid.channel.expires_at),
        paid.spent_today,
        paid.receipt
    )
}

/// A provider's word within one of our lines: one line, bounded, unable to look like a fence.
pub(super) fn word(text: &str, max: usize) -> String {
    one_line(text, max).replace(['<', '>'], "")
}

/// The instructions of a provider, fenced.
pub fn docs(text: &str) -> String {
    fence("provider docs", text, MAX_DOCS_CHARS)
}

/// Remarks, one a line.
pub(super) fn bullets(out: &mut String, title: &str, lines: &[String]) {
    for line in lines {
        out.push_str(&format!("\n{title}: {}", one_line(line, 400)));
    }
}
