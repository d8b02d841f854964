//! The transactions that were signed for one slot, followed until one of them, or another, is final there (M7): what is not
//! mined for too long, or refused for its fee, is outbid by the same transaction with a higher fee.

use std::cmp::Ordering;

use alloy::eips::BlockNumberOrTag;
use drain_signers::{Call, Policy};

use super::{Bench, stored};
use crate::api::Progress;
use crate::chain::error::is_about_fees;
use crate::chain::{self, Attempt, ChainError, Fees, Finality, Receipt, Slot, Way};
use crate::error::{Code, Failure, Money};
use crate::journal::{IntentId, TxId, TxKind, TxRecord, TxState};

/// How many missing transactions before ours are looked for. More than one job of this wallet ever sends.
const MOST_MISSING: u64 = 16;

/// What became of a slot.
#[derive(Debug)]
pub(super) struct Followed {
    pub kind: TxKind,
    /// Every transaction of ours in it.
    pub ids: Vec<TxId>,
    /// The one that is final; `None` where another transaction took the slot.
    pub end: Result<Option<(TxId, Receipt)>, ChainError>,
}

fn attempt(record: &TxRecord) -> Option<Attempt> {
    Some(Attempt { raw: Some(record.raw.clone()?.into()), hash: record.hash? })
}

impl Bench {
    /// What was signed and may still land, slot by slot, the oldest first; of one channel, or of all. What was planned and
    /// never signed ends here.
    pub(super) async fn slots(&self, intent: Option<IntentId>) -> Result<Vec<Vec<TxRecord>>, Failure> {
        let chain_id = self.services.config.chain.chain_id;
        let unfinished = self.purse.journal.unfinished_transactions(chain_id, self.purse.address).await;
        // Something is on its way, whether or not its record can be read.
        let unfinished = unfinished.map_err(|error| Failure::from(error).with_money(Money::Unknown))?;
        let mut slots: Vec<Vec<TxRecord>> = Vec::new();
        for record in unfinished.into_iter().filter(|record| intent.is_none() || record.intent == intent) {
            if record.raw.is_none() {
                self.end(record.id, TxState::Dropped, "never signed").await?;
                continue;
            }
            let same = |other: &TxRecord| {
                (other.account_nonce, other.intent, other.kind) == (record.account_nonce, record.intent, record.kind)
            };
            match slots.iter_mut().find(|slot| slot.iter().any(same)) {
                Some(slot) => slot.push(record),
                None => slots.push(vec![record]),
            }
        }
        Ok(slots)
    }

    /// Broadcasts the newest of a slot until one of them, or another transaction in the slot, is final. Whatever was
    /// refused is outbid where its fee was the reason, and once where it is `resumed`: fees have changed since.
    pub(super) async fn follow(&self, mut slot: Vec<TxRecord>, resumed: bool, progress: &Progress) -> Followed {
        let followed = |slot: &[TxRecord], end| Followed {
            kind: slot.first().map_or(TxKind::Close, |record| record.kind),
            ids: slot.iter().map(|record| record.id).collect(),
            end,
        };
        let attempts: Vec<Attempt> = slot.iter().filter_map(attempt).collect();
        let (Some(account_nonce), false) = (slot.first().and_then(|record| record.account_nonce), attempts.is_empty())
        else {
            let what = "a stored transaction without signed bytes".into();
            return followed(&slot, Err(ChainError::Malformed { what }));
        };
        let place = Slot { wallet: self.purse.address, account_nonce };
        let mut way = Way::new(&self.services.chain, place, attempts);
        let (mut once_more, mut said, mut declined) = (resumed, false, false);
        loop {
            let newest = slot.last().map(|record| record.id);
            let sent = slot.last().and_then(|record| Some((record.id, record.hash?)));
            let end = way.end(|step| match step {
                chain::Progress::Sent => {
                    if let Some((operation, hash)) = sent {
                        tracing::info!(%operation, transaction = %hash, slot = account_nonce, "transaction sent");
                    }
                    // Losing this record costs nothing: what is stored signed is broadcast again.
                    let _ = newest.map(|id| self.purse.journal.broadcast_later(id));
                }
                chain::Progress::Mined { block_number, .. } => {
                    progress.say(format!("mined in block {block_number}, waiting until it is final"));
                }
                chain::Progress::Trouble { reason } if !said => {
                    said = true;
                    progress.say(format!("the chain does not answer at present ({reason}); going on"));
                }
                _ => {}
            });
            let refused = match end.await {
                Ok(Finality::Final(receipt)) => {
                    let landed = slot.iter().find(|record| record.hash == Some(receipt.hash));
                    let Some(id) = landed.map(|record| record.id) else {
                        let what = format!("a receipt of {}, which is none of ours", receipt.hash);
                        return followed(&slot, Err(ChainError::Malformed { what }));
                    };
                    return followed(&slot, Ok(Some((id, receipt))));
                }
                Ok(Finality::Replaced) => return followed(&slot, Ok(None)),
                Ok(Finality::Stalled) => None,
                Err(ChainError::Rejected { reason }) if once_more || is_about_fees(&reason) => {
                    Some(ChainError::Rejected { reason })
                }
                Err(error) => return followed(&slot, Err(error)),
            };
            once_more = false;
            // A person who did not press for a higher fee is not asked again and again: it waits as it is.
            let unblocked = if declined { Ok(None) } else { self.unblock(&slot, account_nonce, progress).await };
            match unblocked {
                Ok(None) => {
                    if let Some(error) = refused.filter(|_| declined) {
                        return followed(&slot, Err(error));
                    }
                }
                Ok(Some(next)) => {
                    if let Some(attempt) = attempt(&next) {
                        way.outbid(attempt);
                    }
                    slot.push(next);
                }
                Err(failure) => {
                    tracing::warn!(slot = account_nonce, %failure, "a transaction that is not mined could not be outbid");
                    declined = matches!(failure.code, Code::LedgerRejected | Code::LedgerNoAnswer);
                    if let Some(error) = refused {
                        return followed(&slot, Err(error));
                    }
                }
            }
        }
    }

    /// What keeps the slot's transactions from being mined: an earlier one that is missing, which is sent again; else the
    /// fee. `None` where nothing new was signed.
    async fn unblock(
        &self,
        slot: &[TxRecord],
        account_nonce: u64,
        progress: &Progress,
    ) -> Result<Option<TxRecord>, Failure> {
        let latest = self.services.chain.account_nonce_at(self.purse.address, BlockNumberOrTag::Latest).await?;
        match latest.cmp(&account_nonce) {
            Ordering::Less => self.fill_gap(latest, account_nonce).await.map(|()| None),
            // Mined a moment ago: the looks find out.
            Ordering::Greater => Ok(None),
            Ordering::Equal => self.outbid(slot, progress).await.map(Some),
        }
    }

    /// Sends what is stored for the slots from `first` to before `last` again: the chain, or a node, has lost it.
    pub(super) async fn fill_gap(&self, first: u64, last: u64) -> Result<(), Failure> {
        for missing in first..last.min(first.saturating_add(MOST_MISSING)) {
            let chain_id = self.services.config.chain.chain_id;
            let stored = self.purse.journal.stored_for(chain_id, self.purse.address, missing).await?;
            let Some(Attempt { raw: Some(raw), hash }) = stored.as_ref().and_then(attempt) else {
                tracing::error!(
                    alarm = "nonce_gap",
                    missing,
                    "a transaction of this wallet is missing, and is none of ours"
                );
                return Err(Failure::unspent(
                    Code::TransactionPending,
                    format!(
                        "transaction number {missing} of this wallet is missing on chain, and this journal does not know it"
                    ),
                    "Use this wallet in drain-mcp only. A person sends that transaction from where it was made.",
                ));
            };
            tracing::warn!(missing, transaction = %hash, "an earlier transaction of this wallet is missing; it is sent again");
            self.services.chain.send_raw(&raw, hash).await?;
        }
        Ok(())
    }

    /// The newest transaction of the slot once more, with a higher fee: today's, at least an eighth above what was offered.
    /// Recorded and stored before it is sent, as a transaction of its own in the same slot.
    async fn outbid(&self, slot: &[TxRecord], progress: &Progress) -> Result<TxRecord, Failure> {
        let (config, chain) = (&self.services.config.chain, &self.services.chain);
        let sent: Vec<_> = slot.iter().filter_map(|record| record.raw.as_deref().and_then(stored::read)).collect();
        let (Some(newest), Some(last)) = (slot.last(), sent.last()) else {
            return Err(Failure::internal("nothing is stored for the slot"));
        };
        // What was signed later for this slot must not be driven out by what came before it.
        let unfinished = self.purse.journal.unfinished_transactions(config.chain_id, self.purse.address).await?;
        if unfinished.iter().any(|other| other.account_nonce == newest.account_nonce && other.id > newest.id) {
            return Err(Failure::internal("a later transaction of this wallet is in the same slot"));
        }
        let Some(mut request) = stored::request(last, newest.kind, &config.deployments) else {
            return Err(Failure::internal(format!("the stored transaction {} is for no known contract", newest.id)));
        };
        let offered = sent.iter().map(stored::fees).reduce(Fees::max).unwrap_or_else(|| stored::fees(last));
        let Some(fees) = offered.outbidding(chain.fees().await?, Policy::MAX_FEE_PER_GAS) else {
            return Err(Failure::unspent(
                Code::TransactionPending,
                format!(
                    "the {} offers several times today's fees already, or the highest that is ever offered",
                    newest.kind
                ),
                "Wait: it is mined when the chain goes on.",
            ));
        };
        (request.max_fee_per_gas, request.max_priority_fee_per_gas) =
            (fees.max_fee_per_gas, fees.max_priority_fee_per_gas);
        if matches!(request.call, Call::Open { .. } | Call::Close { .. } | Call::CooperativeClose { .. }) {
            chain.verify_deployment(&request.deployment).await?;
        }
        match chain.simulate(self.purse.address, request.to(), request.calldata(), request.value()).await {
            // It would revert now, as when a provider claimed meanwhile: mined, that frees the slot, and what waits behind
            // it goes on. Left as it is, it would hold up every close of this wallet until fees fall.
            Err(ChainError::Reverted { reason }) => {
                tracing::warn!(kind = %newest.kind, reason, "a transaction that is not mined would revert now; it is outbid to free its slot");
            }
            simulated => {
                simulated?;
            }
        }
        self.affordable(&request).await?;
        let next = self.sign(&request, newest.intent, newest.account_nonce, progress).await?;
        let hash = next.hash.unwrap_or_default();
        progress.say(format!("{}: not mined yet; sent with a higher fee as {hash:#x}", newest.kind));
        Ok(next)
    }
}
