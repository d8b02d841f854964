//! What a final transaction means for the record, the same at once and after a restart (M7).

use actix::Addr;
use drain_protocol::{Address, Usdc};

use super::open::is_opening;
use super::transact::Landed;
use super::{Bench, CloseDone};
use crate::actors::supervisor::{ChannelOpened, Supervisor};
use crate::api::{ChannelState, Progress};
use crate::chain;
use crate::error::{Code, Failure, Money};
use crate::journal::{ChannelRecord, IntentId, TxKind, TxRecord, TxState};

/// The receipt must hold what the transaction was for. One that does not is not believed: it stays unfinished.
fn not_shown(landed: &Landed, error: &chain::ChainError) -> Failure {
    Failure {
        code: Code::ChainUnavailable,
        message: format!("the receipt of {:#x} does not show what it should: {error}", landed.receipt.hash),
        money: Money::Pending { receipt: landed.id.to_string() },
        next: "An RPC endpoint may be lying: check DRAIN_RPC_URL with drain-mcp doctor. The transaction is read again at the next start.".into(),
    }
}

/// The deposit is in the contract: the channel pays from now on.
pub(super) async fn opened(bench: &Bench, record: &ChannelRecord, landed: &Landed) -> Result<ChannelRecord, Failure> {
    let event = chain::expect_opened(
        &landed.receipt,
        &record.deployment,
        bench.purse.address,
        record.provider_wallet,
        record.books.deposit,
    )
    .map_err(|error| not_shown(landed, &error))?;
    Ok(bench.purse.journal.opened(record.intent, landed.id, event.channel_id, event.deposit, event.expiry).await?)
}

/// The channel is gone and the refund is in the wallet.
pub(super) async fn closed(bench: &Bench, record: &ChannelRecord, landed: &Landed) -> Result<CloseDone, Failure> {
    let Some(channel_id) = record.channel_id else { return Err(Failure::internal("a channel without id was closed")) };
    let event = chain::expect_closed(&landed.receipt, &record.deployment, channel_id, bench.purse.address)
        .map_err(|error| not_shown(landed, &error))?;
    let claimed = record.books.deposit.saturating_sub(event.refund);
    let record = bench.purse.journal.closed(record.intent, Some(landed.id), claimed, event.refund).await?;
    Ok(CloseDone {
        record,
        refund: event.refund,
        protocol_fee: event.fee,
        transaction: format!("{:#x}", landed.receipt.hash),
    })
}

/// USDC arrived where it was sent.
pub(super) async fn transferred(
    bench: &Bench,
    landed: &Landed,
    token: Address,
    to: Address,
    amount: Usdc,
) -> Result<(), Failure> {
    chain::expect_transfer(&landed.receipt, token, bench.purse.address, to, amount)
        .map_err(|error| not_shown(landed, &error))?;
    bench.end(landed.id, TxState::Final, "").await
}

/// An opening that cannot succeed any more.
pub(super) async fn fail_opening(bench: &Bench, intent: IntentId) -> Result<(), Failure> {
    Ok(bench.purse.journal.set_state(intent, ChannelState::Failed).await?)
}

/// At start: every transaction whose end is unknown is followed to it, oldest first; then channels whose transaction
/// never came to be are put back.
pub(super) async fn take_up(bench: &Bench, supervisor: &Addr<Supervisor>) -> Result<(), Failure> {
    let chain_id = bench.services.config.chain.chain_id;
    for transaction in bench.purse.journal.unfinished_transactions(chain_id, bench.purse.address).await? {
        let id = transaction.id;
        match take_up_one(bench, transaction).await {
            Ok(Some(record)) => {
                bench.untold.put(&record);
                supervisor.do_send(ChannelOpened(Box::new(record)));
            }
            Ok(None) => {}
            Err(failure) => {
                tracing::error!(transaction = %id, %failure, "a transaction of an earlier run did not end well")
            }
        }
    }
    put_back(bench, supervisor).await
}

/// An opening that an earlier run, or a chain that refused it, left behind: followed to its end.
pub(super) async fn resume_opening(bench: &Bench, record: ChannelRecord) -> Result<ChannelRecord, Failure> {
    let chain_id = bench.services.config.chain.chain_id;
    for transaction in bench.purse.journal.unfinished_transactions(chain_id, bench.purse.address).await? {
        if transaction.intent != Some(record.intent) {
            continue;
        }
        match take_up_one(bench, transaction).await {
            Ok(Some(opened)) => return Ok(opened),
            Ok(None) => {}
            Err(failure) => {
                // Its deposit counts as locked as long as it may land, and not longer.
                if !matches!(failure.money, Money::Pending { .. }) {
                    fail_opening(bench, record.intent).await?;
                }
                return Err(failure);
            }
        }
    }
    fail_opening(bench, record.intent).await?;
    Err(Failure::unspent(
        Code::TransactionReverted,
        "An earlier opening of this provider was broken off and is cleared now",
        "Call again.",
    ))
}

/// The record of a channel that turned out to be open.
async fn take_up_one(bench: &Bench, transaction: TxRecord) -> Result<Option<ChannelRecord>, Failure> {
    let (Some(raw), Some(hash), Some(account_nonce)) = (transaction.raw, transaction.hash, transaction.account_nonce)
    else {
        bench.end(transaction.id, TxState::Dropped, "never signed").await?;
        return Ok(None);
    };
    tracing::info!(kind = %transaction.kind, %hash, "a transaction of an earlier run is followed to its end");
    let finality = bench.follow(transaction.id, raw.into(), hash, account_nonce, &Progress::none()).await;
    let landed = bench.landed(transaction.id, transaction.kind, finality).await?;
    let record = match transaction.intent {
        Some(intent) => Some(bench.purse.journal.channel(intent).await?),
        None => None,
    };
    match (transaction.kind, record) {
        (TxKind::Open, Some(record)) => {
            return opened(bench, &record, &landed).await.map(Some);
        }
        (TxKind::Close | TxKind::CooperativeClose, Some(record)) => closed(bench, &record, &landed).await.map(drop)?,
        (TxKind::SessionFee, Some(record)) => {
            transferred(
                bench,
                &landed,
                record.deployment.usdc,
                transaction.target,
                drain_signers::request::SESSION_FEE,
            )
            .await?;
        }
        _ => bench.end(landed.id, TxState::Final, "").await?,
    }
    Ok(None)
}

/// Openings and closes of an earlier run that nothing is on its way for: failed, and open again.
async fn put_back(bench: &Bench, supervisor: &Addr<Supervisor>) -> Result<(), Failure> {
    let chain_id = bench.services.config.chain.chain_id;
    let unfinished = bench.purse.journal.unfinished_transactions(chain_id, bench.purse.address).await?;
    for record in bench.purse.journal.channels(false).await? {
        if unfinished.iter().any(|transaction| transaction.intent == Some(record.intent)) {
            continue;
        }
        if is_opening(&record) {
            fail_opening(bench, record.intent).await?;
        } else if record.state == ChannelState::Closing {
            bench.purse.journal.set_state(record.intent, ChannelState::Open).await?;
            supervisor.do_send(ChannelOpened(Box::new(bench.purse.journal.channel(record.intent).await?)));
        }
    }
    Ok(())
}
