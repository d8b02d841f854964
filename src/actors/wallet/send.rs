//! Closes, and what a person sends.

use drain_protocol::{Address, U256};
use drain_signers::Call;

use super::{Bench, CloseDone, finish, stored};
use crate::api::{Progress, SendAmount};
use crate::error::{Code, Failure, Money};
use crate::journal::{ChannelRecord, TxKind, TxRecord, TxState};

/// Gas of a plain transfer of the chain's coin.
const GAS_TRANSFER: u64 = 21_000;
/// A transfer that repeats one which ended less than this many seconds ago is taken for a repeated call.
const REPEATED_WITHIN: u64 = 600;

/// Sends a close whose channel actor checked it (M6), after one more look at the contract (M8) and a simulation.
pub(super) async fn close(
    bench: &Bench,
    record: &ChannelRecord,
    call: Call,
    progress: &Progress,
) -> Result<CloseDone, Failure> {
    let sent = async {
        bench.services.chain.verify_deployment(&record.deployment).await?;
        bench.transact(record.deployment, call, Some(record.intent), progress).await
    }
    .await;
    match sent {
        Ok(landed) => finish::closed(bench, record, &landed).await,
        Err(failure) => {
            // A close that can still land keeps the channel shut; a failed one opens it again (M6).
            finish::put_back(bench, record.intent).await;
            Err(failure)
        }
    }
}

/// Refuses what is on its way already, or has just arrived: a transfer whose end nobody saw is what people repeat.
async fn refuse_repeated(
    bench: &Bench,
    kind: TxKind,
    to: Address,
    same: impl Fn(&TxRecord) -> bool,
) -> Result<(), Failure> {
    let since = bench.services.clock.now().saturating_sub(REPEATED_WITHIN);
    let chain_id = bench.services.config.chain.chain_id;
    let before = bench.purse.journal.sends(chain_id, bench.purse.address, kind, to, since).await?;
    let Some(before) = before.into_iter().find(same) else { return Ok(()) };
    let hash = before.hash.map(|hash| format!("{hash:#x}")).unwrap_or_default();
    let (what, money) = if before.state == TxState::Final {
        ("arrived a moment ago", Money::Spent { receipt: hash.clone(), amount: before.amount.unwrap_or_default() })
    } else {
        ("is on its way and may arrive at any time", Money::Pending { receipt: before.id.to_string() })
    };
    Err(Failure {
        code: Code::TransactionPending,
        message: format!("the same transfer to {to} {what} (transaction {hash}): nothing was sent a second time"),
        money,
        next: "Look at drain-mcp wallet balance. A person who wants a second transfer of the same amount says so with --again.".into(),
    })
}

/// What a person typed on a terminal; no tool reaches this (M5).
pub(super) async fn send(
    bench: &Bench,
    to: Address,
    amount: SendAmount,
    again: bool,
    progress: &Progress,
) -> Result<String, Failure> {
    let deployment = bench.deployment()?;
    let chain = &bench.services.chain;
    match amount {
        SendAmount::Usdc(wanted) => {
            let held = chain.usdc_balance(deployment.usdc, bench.purse.address).await?;
            let amount = wanted.unwrap_or(held);
            if !again {
                refuse_repeated(bench, TxKind::SendUsdc, to, |before| before.amount == Some(amount)).await?;
            }
            if amount.is_zero() || amount > held {
                return Err(Failure::unspent(
                    Code::InsufficientUsdc,
                    format!("the wallet holds {held} USDC"),
                    "Send at most that.",
                ));
            }
            let landed = bench.transact(deployment, Call::SendUsdc { to, amount }, None, progress).await?;
            let hash = landed.receipt.hash;
            finish::transferred(bench, &landed, deployment.usdc, to, amount).await?;
            Ok(format!("{hash:#x}"))
        }
        SendAmount::Native(wanted) => {
            let held = chain.native_balance(bench.purse.address).await?;
            let fees = chain.fees().await?;
            // With a margin above the limit that the transaction will get.
            let gas = U256::from(GAS_TRANSFER + GAS_TRANSFER / 2).saturating_mul(U256::from(fees.max_fee_per_gas));
            let most = held.saturating_sub(gas);
            let wei = wanted.unwrap_or(most);
            if !again {
                // The journal's amounts are USDC; these are in the signed bytes. "All" is never twice the same.
                let value = |before: &TxRecord| before.raw.as_deref().and_then(stored::read).map(|sent| sent.value);
                let same = |before: &TxRecord| {
                    value(before) == Some(wei) || (wanted.is_none() && before.state != TxState::Final)
                };
                refuse_repeated(bench, TxKind::SendNative, to, same).await?;
            }
            if wei.is_zero() || wei > most {
                return Err(Failure::unspent(
                    Code::InsufficientGas,
                    format!(
                        "the wallet holds {} POL, of which {} can be sent",
                        super::balance::pol(held),
                        super::balance::pol(most)
                    ),
                    "Send less.",
                ));
            }
            let landed = bench.transact(deployment, Call::SendNative { to, wei }, None, progress).await?;
            let hash = landed.receipt.hash;
            bench.end(landed.id, TxState::Final, "").await?;
            Ok(format!("{hash:#x}"))
        }
    }
}
