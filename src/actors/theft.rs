//! Whether somebody else signs with our key (M11): a claim that took more than this journal ever signed.

use drain_protocol::{B256, ChannelId, Deployment, Usdc};

use super::services::{Purse, Services};
use super::watcher::CLOCK_SLACK;
use crate::chain::{ChainError, ChannelEvent, claimed_voucher};
use crate::journal::{IntentId, JournalError};
use crate::notify::EventKind;

/// Judges one claim of ours. A voucher counts that recovers to our key: no node can make one up.
pub(super) async fn judge(
    services: &Services,
    purse: &Purse,
    on: &Deployment,
    intent: IntentId,
    transaction: B256,
) -> Result<bool, ChainError> {
    let Some(claim) = services.chain.transaction(transaction).await? else {
        return Err(ChainError::Unavailable { reason: format!("no node has the claim {transaction:#x}") });
    };
    let Some(voucher) = claimed_voucher(&on.domain, &claim.input).filter(|v| v.signer == purse.address) else {
        return Ok(false);
    };
    let record = purse.journal.channel(intent).await.map_err(unreadable)?;
    let taken = Usdc::try_from(voucher.amount).unwrap_or(Usdc::MAX);
    if record.channel_id != Some(voucher.channel_id) || record.recovered || taken <= record.books.signed {
        return Ok(false);
    }
    freeze(services, purse, intent, voucher.channel_id, taken).await
}

/// Judges the claims of a channel up to block `last`, where they took `total` and less was signed.
pub(super) async fn search(
    services: &Services,
    purse: &Purse,
    on: &Deployment,
    intent: IntentId,
    total: Usdc,
    last: u64,
) -> Result<(), ChainError> {
    let record = purse.journal.channel(intent).await.map_err(unreadable)?;
    let Some(channel_id) = record.channel_id else { return Ok(()) };
    if record.recovered || total <= record.books.signed {
        return Ok(());
    }
    let opened_at = record.expires_at.saturating_sub(record.duration).saturating_sub(CLOCK_SLACK);
    let first = services.chain.first_block_since(opened_at, last).await?;
    for event in services.chain.channel_events(&[channel_id], first, last).await? {
        if let ChannelEvent::Claimed { at, .. } = event
            && at.contract == on.contract()
            && judge(services, purse, on, intent, at.transaction).await?
        {
            return Ok(());
        }
    }
    tracing::error!(channel = %channel_id, %total, signed = %record.books.signed,
        "more was claimed than was signed, and no claim with a voucher of this wallet's key is there: a node may be lying");
    Ok(())
}

fn unreadable(error: JournalError) -> ChainError {
    ChainError::Unavailable { reason: error.to_string() }
}

async fn freeze(
    services: &Services,
    purse: &Purse,
    intent: IntentId,
    channel_id: ChannelId,
    taken: Usdc,
) -> Result<bool, ChainError> {
    let reason = format!(
        "the provider of channel {channel_id} claimed {taken} USDC with a voucher of this wallet's key that this journal never signed"
    );
    let (at, floor) = (services.clock.now(), services.clock.nonce_floor());
    let frozen = purse.journal.key_was_used_elsewhere(intent, taken, reason.clone(), floor, at).await;
    let frozen = frozen.inspect_err(|error| {
        tracing::error!(alarm = "wallet_frozen", %error, "{reason}, and that cannot be recorded (M11)");
    });
    if frozen.map_err(unreadable)? {
        tracing::error!(alarm = "wallet_frozen", channel = %channel_id, %taken, "{reason}: no voucher, approval or opening any more (M11)");
        services.tell(Some(purse), EventKind::Alarm, "key_used_elsewhere", reason);
    }
    Ok(true)
}
