//! What a contract's owner does: never anything that a person should not know of. What it means for money is decided where
//! money moves: a changed token freezes openings and closes there (M8), a fee is the provider's.

use super::services::{Purse, Services};
use crate::chain::ChannelEvent;
use crate::metrics::{self, AdminEvent};
use crate::notify::EventKind;

/// Tells the operator. One node's word: a hint to look, and nothing else.
pub(super) fn alarm(services: &Services, purse: &Purse, event: &ChannelEvent) {
    let what = match event {
        ChannelEvent::FeeUpdated { recipient, bps, .. } => {
            metrics::admin_event(AdminEvent::FeeUpdated);
            format!("changed its fee to {bps} hundredths of a percent, paid to {recipient}; providers bear it")
        }
        ChannelEvent::UsdcUpdated { old, new, .. } => {
            metrics::admin_event(AdminEvent::UsdcUpdated);
            format!("changed its token from {old} to {new}: openings and closes are frozen (M8)")
        }
        ChannelEvent::Swept { to, amount, .. } => {
            metrics::admin_event(AdminEvent::Swept);
            format!("sent {amount} units of the token, which no channel holds, to {to}")
        }
        ChannelEvent::OwnershipRenounced { owner, .. } => {
            metrics::admin_event(AdminEvent::OwnershipRenounced);
            format!("has no owner any more; it was {owner}")
        }
        _ => return,
    };
    let at = event.at();
    tracing::warn!(alarm = "contract_changed", contract = %at.contract, transaction = %at.transaction, "the channel contract {what}");
    let text = format!("The channel contract {} {what} (transaction {:#x}).", at.contract, at.transaction);
    services.tell(Some(purse), EventKind::Alarm, "contract_changed", text);
}
