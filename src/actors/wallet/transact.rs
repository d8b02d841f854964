//! One transaction from the wish to its final receipt (M7): planned, simulated, signed, stored, broadcast, final.

use drain_protocol::{Deployment, U256, Usdc};
use drain_signers::{Call, TransactionRequest};

use super::Bench;
use super::slot::Followed;
use crate::actors::services::ask;
use crate::actors::signer::SignTransaction;
use crate::api::Progress;
use crate::chain::{ChainError, Receipt};
use crate::error::{Code, Failure, Money};
use crate::journal::{IntentId, JournalError, NewTransaction, TxId, TxKind, TxRecord, TxState};
use crate::points::{Point, reach};
use crate::policy::Pol;

/// A transaction that is final and succeeded. Its events are the caller's to check, and its record the caller's to end.
#[derive(Debug)]
pub(super) struct Landed {
    pub id: TxId,
    pub receipt: Receipt,
}

/// The failure to record what became of a transaction that was signed: it may land, or has, whatever the journal knows
/// of it (M15). Every error of the journal goes through here from the moment that the signed bytes are stored.
pub(super) fn unrecorded(id: TxId) -> impl FnOnce(JournalError) -> Failure {
    move |error| {
        Failure {
        code: Code::JournalFailed,
        message: format!("what became of the transaction {id} could not be recorded: {error}"),
        money: Money::Pending { receipt: id.to_string() },
        next: "Check free space and permissions of DRAIN_HOME, then call again: the transaction is read from the chain again, and none is sent twice.".into(),
    }
    }
}

impl Bench {
    /// Sends `call` and waits, without limit, until it is final. What was signed is never signed anew: a restart takes
    /// it up from the journal.
    pub(super) async fn transact(
        &self,
        deployment: Deployment,
        call: Call,
        intent: Option<IntentId>,
        progress: &Progress,
    ) -> Result<Landed, Failure> {
        let mut request = TransactionRequest {
            deployment,
            call,
            account_nonce: 0,
            gas_limit: 0,
            max_fee_per_gas: 0,
            max_priority_fee_per_gas: 0,
        };
        self.price(&mut request).await?;
        let signed = self.sign(&request, intent, None, progress).await?;
        let hash = signed.hash.unwrap_or_default();
        progress.say(format!("{}: transaction {hash:#x} sent, waiting until it is final", signed.kind));
        self.landed(self.follow(vec![signed], false, progress).await).await
    }

    /// Plans, signs and stores a transaction, in this order: what it gives may be sent. `outbids` names the slot, where
    /// something of ours is there already.
    pub(super) async fn sign(
        &self,
        request: &TransactionRequest,
        intent: Option<IntentId>,
        outbids: Option<u64>,
        progress: &Progress,
    ) -> Result<TxRecord, Failure> {
        let (kind, amount) = kind_of(&request.call);
        self.services.know_time().await?;
        let wanted = NewTransaction {
            kind,
            intent,
            chain_id: request.deployment.chain_id(),
            wallet: self.purse.address,
            target: target(request),
            amount,
            gas_most: gas_most(request),
            outbids,
            moment: self.services.clock.moment(),
        };
        let limits = self.limits.clone();
        let id = self.purse.journal.plan_transaction(wanted, limits).await?;
        reach(Point::TransactionPlanned);
        let signed =
            match ask(&self.signer, SignTransaction { request: request.clone(), progress: progress.clone() }).await {
                Ok(signed) => signed,
                Err(failure) => {
                    // Nothing was signed, whether or not that can be recorded.
                    if let Err(error) = self.end(id, TxState::Dropped, failure.code.as_str()).await {
                        tracing::warn!(%error, "an unsigned transaction stays planned until the next start");
                    }
                    return Err(failure.with_money(Money::NotSpent));
                }
            };
        reach(Point::TransactionSigned);
        let (raw, hash, account_nonce) = (signed.raw.to_vec(), signed.hash, request.account_nonce);
        let stored = self.purse.journal.signed(id, account_nonce, raw.clone(), hash).await;
        stored.map_err(|error| match error {
            // Whether the server has them is not known: then they are sent by whoever has the wallet next.
            JournalError::Server(_) | JournalError::Fenced => unrecorded(id)(error),
            other => other.into(),
        })?;
        reach(Point::TransactionStored);
        tracing::info!(%kind, operation = %id, transaction = %hash, slot = account_nonce, "transaction signed");
        Ok(TxRecord {
            id,
            intent,
            kind,
            target: target(request),
            amount,
            account_nonce: Some(account_nonce),
            raw: Some(raw),
            hash: Some(hash),
            state: TxState::Signed,
        })
    }

    /// What finality means for the record.
    pub(super) async fn landed(&self, Followed { kind, ids, end }: Followed) -> Result<Landed, Failure> {
        if let Ok(Some((id, receipt))) = &end {
            reach(Point::TransactionFinal);
            tracing::info!(%kind, operation = %id, transaction = %receipt.hash, block = receipt.block_number, success = receipt.success, "transaction final");
            // Losing this record leaves the larger reservation.
            let _ = self.purse.journal.placed_later(*id, receipt.block_number, receipt.block_hash);
            let _ = self.purse.journal.burnt_later(*id, Pol::from_wei(receipt.gas_cost_wei()));
        }
        match end {
            Ok(Some((id, receipt))) if receipt.success => Ok(Landed { id, receipt }),
            Ok(Some((id, receipt))) => {
                self.end(id, TxState::Reverted, "reverted").await?;
                Err(Failure {
                    code: Code::TransactionReverted,
                    message: format!("the {kind} transaction {:#x} was mined and reverted", receipt.hash),
                    money: Money::GasOnly,
                    next: "Look at drain_balance and the channel's state, then call again.".into(),
                })
            }
            Ok(None) => {
                for id in ids {
                    self.end(id, TxState::Dropped, "replaced").await?;
                }
                Err(Failure::unspent(
                    Code::TransactionReverted,
                    format!("the {kind} transaction can never land: another one of this wallet took its place"),
                    "Use this wallet in drain-mcp only, then call again.",
                ))
            }
            Err(error) => {
                let receipt = ids.last().map(ToString::to_string).unwrap_or_default();
                Err(Failure::from(error).with_money(Money::Pending { receipt }))
            }
        }
    }

    pub(super) async fn end(&self, id: TxId, state: TxState, reason: &str) -> Result<(), Failure> {
        self.purse.journal.finish_transaction(id, state, Some(reason.into())).await.map_err(unrecorded(id))
    }

    /// The slot for a new transaction. One of this wallet that waits elsewhere would be replaced by ours, or ours by it.
    async fn free_slot(&self) -> Result<u64, Failure> {
        let (chain, wallet) = (&self.services.chain, self.purse.address);
        let (lower, higher) = chain.mined_agreed(wallet).await?;
        let used = self.purse.journal.account_nonces_used(chain.chain_id(), wallet).await?;
        // The lower word counts, unless that node is behind what this journal saw final.
        let latest = lower.max(used.min(higher));
        if latest < used {
            // A reorganisation took it back, or the node is behind. The slot is not ours to use for anything else.
            self.fill_gap(latest, used).await?;
            return Err(Failure::unspent(
                Code::TransactionPending,
                format!(
                    "the chain does not have transaction number {latest} of this wallet any more, which was final: it was sent again"
                ),
                "Call again in a minute.",
            ));
        }
        if chain.account_nonce(wallet).await? <= latest {
            return Ok(latest);
        }
        let unfinished = self.purse.journal.unfinished_transactions(chain.chain_id(), wallet).await?;
        let ours = unfinished.iter().find(|known| known.account_nonce.is_some_and(|nonce| nonce >= latest));
        Err(match ours {
            Some(ours) => Failure::unspent(
                Code::TransactionPending,
                format!(
                    "an earlier transaction of this wallet ({}, operation {}) is still on its way",
                    ours.kind, ours.id
                ),
                "Call again when it is mined.",
            ),
            None => Failure::unspent(
                Code::TransactionPending,
                "another transaction of this wallet is pending elsewhere: a second one now could replace it, or be replaced",
                "Use this wallet in drain-mcp only. Call again when the other transaction is mined.",
            ),
        })
    }

    /// Simulates the call and fills in nonce, gas and fees. Refuses what would revert or cannot be paid.
    async fn price(&self, request: &mut TransactionRequest) -> Result<(), Failure> {
        let chain = &self.services.chain;
        let (from, to, data, value) = (self.purse.address, request.to(), request.calldata(), request.value());
        let gas = chain.estimate_gas(from, to, data, value).await.map_err(|error| match error {
            ChainError::Reverted { reason } => Failure::unspent(
                Code::TransactionReverted,
                format!("the {} would revert: {reason}", request.call.kind()),
                "Nothing was sent. Look at drain_balance and the channel's state.",
            ),
            other => other.into(),
        })?;
        let fees = chain.fees().await?;
        // A quarter above the estimate: storage that changes between estimate and block costs a little more.
        request.gas_limit = gas.saturating_add(gas / 4);
        request.max_fee_per_gas = fees.max_fee_per_gas;
        request.max_priority_fee_per_gas = fees.max_priority_fee_per_gas;
        self.affordable(request).await?;
        request.account_nonce = self.free_slot().await?;
        Ok(())
    }

    /// Whether the wallet's coin covers the most that a transaction can cost; the same for one that outbids another.
    pub(super) async fn affordable(&self, request: &TransactionRequest) -> Result<(), Failure> {
        let gas = U256::from(request.gas_limit).saturating_mul(U256::from(request.max_fee_per_gas));
        let cost = gas.saturating_add(request.value());
        let held = self.services.chain.native_balance(self.purse.address).await?;
        if held < cost { Err(not_enough_gas(held, cost)) } else { Ok(()) }
    }
}

/// Too little POL, said with both figures.
pub(super) fn not_enough_gas(held: U256, needed: U256) -> Failure {
    Failure::unspent(
        Code::InsufficientGas,
        format!(
            "the wallet holds {} POL; gas may cost up to {} POL",
            super::balance::pol(held),
            super::balance::pol(needed)
        ),
        "Send about 0.10 POL to the wallet, or, with 5 USDC in it, ask the marketplace's gas station: drain-mcp wallet gas.",
    )
}

fn gas_most(request: &TransactionRequest) -> Pol {
    Pol::from_wei(U256::from(request.gas_limit).saturating_mul(U256::from(request.max_fee_per_gas)))
}

fn target(request: &TransactionRequest) -> drain_protocol::Address {
    match request.call {
        Call::SessionFee { to } | Call::SendUsdc { to, .. } | Call::SendNative { to, .. } => to,
        _ => request.to(),
    }
}

fn kind_of(call: &Call) -> (TxKind, Option<Usdc>) {
    match *call {
        Call::Approve { amount } => (TxKind::Approve, Some(amount)),
        Call::ApproveUnlimited => (TxKind::Approve, None),
        Call::Open { amount, .. } => (TxKind::Open, Some(amount)),
        Call::Close { .. } => (TxKind::Close, None),
        Call::CooperativeClose { final_amount, .. } => (TxKind::CooperativeClose, Some(final_amount)),
        Call::SessionFee { .. } => (TxKind::SessionFee, Some(drain_signers::request::SESSION_FEE)),
        Call::SendUsdc { amount, .. } => (TxKind::SendUsdc, Some(amount)),
        Call::SendNative { .. } => (TxKind::SendNative, None),
    }
}
