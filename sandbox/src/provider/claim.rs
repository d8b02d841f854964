//! Claims: on demand, over a threshold, and shortly before expiry (protocol.md section 8).

use std::sync::{Arc, Weak};

use alloy::primitives::{B256, Bytes, U256};
use alloy::sol_types::SolCall;
use drain_protocol::contract::DrainChannel;
use serde_json::{Value, json};

use crate::provider::Shared;
use crate::provider::config::AutoClaim;
use crate::rpc::{RpcError, succeeded};

/// What became of one channel's claim.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The channel.
    pub channel: B256,
    /// The cumulative amount that was claimed.
    pub amount: u64,
    /// The transaction, when one was sent.
    pub transaction: Option<B256>,
    /// The node's refusal, when it did not accept the transaction.
    pub error: Option<RpcError>,
}

impl Claim {
    pub(crate) fn json(&self) -> Value {
        json!({
            "channelId": self.channel, "amount": self.amount.to_string(), "txHash": self.transaction,
            "error": self.error.as_ref().map(ToString::to_string)})
    }
}

/// A voucher chosen for a claim.
struct Chosen {
    key: String,
    channel: B256,
    amount: u64,
    nonce: U256,
    signature: Bytes,
}

impl Shared {
    /// Channels with an unclaimed voucher of at least `least` units, in a fixed order.
    fn chosen(&self, least: u64, only: Option<B256>) -> Vec<Chosen> {
        let pages = self.pages();
        let mut chosen: Vec<_> = pages
            .iter()
            .filter(|(_, page)| only.is_none_or(|channel| channel == page.channel))
            .filter_map(|(key, page)| {
                let voucher = page.highest_unclaimed().filter(|voucher| voucher.amount >= least)?;
                Some(Chosen {
                    key: key.clone(),
                    channel: page.channel,
                    amount: voucher.amount,
                    nonce: voucher.nonce,
                    signature: voucher.signature.clone(),
                })
            })
            .collect();
        chosen.sort_by(|a, b| a.key.cmp(&b.key));
        chosen
    }

    fn mark_claimed(&self, key: &str) {
        if let Some(page) = self.pages().get_mut(key) {
            page.vouchers.iter_mut().for_each(|voucher| voucher.claimed = true);
        }
    }

    /// Claims each channel's highest voucher. Returns when the transactions are submitted, as the templates do.
    pub(crate) async fn claim(&self, least: u64, only: Option<B256>) -> Vec<Claim> {
        // One at a time: the account's nonces must follow each other.
        let _turn = self.claims.lock().await;
        let mut claims = Vec::new();
        for chosen in self.chosen(least, only) {
            claims.extend(self.claim_one(chosen).await);
        }
        claims
    }

    async fn claim_one(&self, chosen: Chosen) -> Option<Claim> {
        let balance = DrainChannel::getBalanceCall { channelId: chosen.channel };
        if self.rpc.view(self.config.contract, &balance).await == Ok(U256::ZERO) {
            self.mark_claimed(&chosen.key);
            return None;
        }
        let call = DrainChannel::claimCall {
            channelId: chosen.channel,
            amount: U256::from(chosen.amount),
            nonce: chosen.nonce,
            signature: chosen.signature,
        };
        let sent = self.rpc.send(&self.config.key, self.config.contract, call.abi_encode()).await;
        // Submitted, or refused by the contract: either way the vouchers count as claimed. Anything else is tried again.
        if matches!(sent, Ok(_) | Err(RpcError::Refused { code: 3, .. })) {
            self.mark_claimed(&chosen.key);
        }
        let (transaction, error) = match sent {
            Ok(hash) => (Some(hash), None),
            Err(error) => (None, Some(error)),
        };
        Some(Claim { channel: chosen.channel, amount: chosen.amount, transaction, error })
    }

    /// Waits until the transactions of claims are mined; a failed one gets an error.
    pub(crate) async fn settle(&self, mut claims: Vec<Claim>) -> Vec<Claim> {
        for claim in &mut claims {
            let Some(hash) = claim.transaction else { continue };
            claim.error = match self.rpc.receipt(hash).await {
                Ok(receipt) if succeeded(&receipt) => None,
                Ok(_) => Some(RpcError::Refused { code: 3, message: "the claim failed".into(), data: None }),
                Err(error) => Some(error),
            };
        }
        claims
    }

    /// Claims what expires within the buffer, by block time.
    async fn claim_expiring(&self, buffer: u64) -> Result<(), RpcError> {
        let now = self.rpc.block_time().await?;
        for chosen in self.chosen(0, None) {
            let record = self.rpc.channel(self.config.contract, chosen.channel).await?;
            if record.expiry <= U256::from(now.saturating_add(buffer)) {
                self.claim(0, Some(chosen.channel)).await;
            }
        }
        Ok(())
    }
}

/// Runs until the provider is dropped.
pub(crate) async fn auto_claim(shared: Weak<Shared>, settings: AutoClaim) {
    let mut ticks = tokio::time::interval(settings.interval);
    loop {
        ticks.tick().await;
        let Some(shared): Option<Arc<Shared>> = shared.upgrade() else { return };
        if let Err(error) = shared.claim_expiring(settings.buffer.as_secs()).await {
            tracing::debug!(%error, provider = %shared.config.name, "auto-claim failed");
        }
    }
}
