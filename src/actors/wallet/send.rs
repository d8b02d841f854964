//! Closes, and what a person sends.

use drain_protocol::{Address, Generation, U256};
use drain_signers::Call;

use super::{Bench, CloseDone, SendClose, finish, open};
use crate::api::{ChannelState, Progress, SendAmount};
use crate::error::{Code, Failure, Money};
use crate::journal::TxState;

/// Gas of a plain transfer of the chain's coin.
const GAS_TRANSFER: u64 = 21_000;

/// Sends a close whose channel actor checked it (M6), after one more look at the contract (M8) and a simulation.
pub(super) async fn close(bench: &Bench, message: SendClose) -> Result<CloseDone, Failure> {
    let record = message.record;
    let sent = async {
        bench.services.chain.verify_deployment(&record.deployment).await?;
        bench.transact(record.deployment, message.call, Some(record.intent), &message.progress).await
    }
    .await;
    match sent {
        Ok(landed) => finish::closed(bench, &record, &landed).await,
        Err(failure) => {
            // A close that can still land keeps the channel shut; a failed one opens it again (M6).
            if !matches!(failure.money, Money::Pending { .. }) {
                bench.purse.journal.set_state(record.intent, ChannelState::Open).await?;
            }
            Err(failure)
        }
    }
}

/// What a person typed on a terminal; no tool reaches this (M5).
pub(super) async fn send(
    bench: &Bench,
    to: Address,
    amount: SendAmount,
    progress: &Progress,
) -> Result<String, Failure> {
    let deployments = &bench.services.config.chain.deployments;
    let Some(deployment) =
        deployments.iter().find(|d| d.generation == Generation::V2).or_else(|| deployments.first()).copied()
    else {
        return Err(open::no_deployment());
    };
    let chain = &bench.services.chain;
    match amount {
        SendAmount::Usdc(wanted) => {
            let held = chain.usdc_balance(deployment.usdc, bench.purse.address).await?;
            let amount = wanted.unwrap_or(held);
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
