//! What a final transaction means for the record, the same at once and after a restart (M7).

use actix::Addr;
use drain_protocol::text::quoted;
use drain_protocol::{Address, U256, Usdc};

use super::open::is_opening;
use super::transact::{Landed, unrecorded};
use super::{Bench, CloseDone, stored};
use crate::actors::supervisor::{ChannelOpened, Supervisor};
use crate::api::{ChannelState, Progress};
use crate::chain::{self, ChainError};
use crate::error::{Code, Failure, Money};
use crate::journal::{ChannelRecord, IntentId, TxKind, TxRecord, TxState};
use crate::notify::EventKind;
use crate::points::{Point, reach};

/// The receipt must hold what the transaction was for. One that does not is not believed: it stays unfinished.
fn not_shown(landed: &Landed, error: &ChainError) -> Failure {
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
    let opened =
        bench.purse.journal.opened(record.intent, landed.id, event.channel_id, event.deposit, event.expiry).await;
    reach(Point::TransactionRecorded);
    opened.map_err(unrecorded(landed.id))
}

/// The channel is gone and the refund is in the wallet.
pub(super) async fn closed(bench: &Bench, record: &ChannelRecord, landed: &Landed) -> Result<CloseDone, Failure> {
    let Some(channel_id) = record.channel_id else {
        let pending = Money::Pending { receipt: landed.id.to_string() };
        return Err(Failure::internal("a channel without id was closed").with_money(pending));
    };
    let event = chain::expect_closed(&landed.receipt, &record.deployment, channel_id, bench.purse.address)
        .map_err(|error| not_shown(landed, &error))?;
    let claimed = record.books.deposit.saturating_sub(event.refund);
    let moment = bench.services.clock.moment();
    let closed = bench.purse.journal.closed(record.intent, Some(landed.id), claimed, event.refund, moment).await;
    let record = closed.map_err(unrecorded(landed.id))?;
    bench.services.tell(
        Some(&bench.purse),
        EventKind::RefundDone,
        record.intent.to_string(),
        format!("{} USDC came back from the channel to {}", event.refund, quoted(&record.provider_name, 60)),
    );
    reach(Point::TransactionRecorded);
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

/// The allowance is what was asked for.
pub(super) async fn approved(
    bench: &Bench,
    landed: &Landed,
    token: Address,
    spender: Address,
    allowance: U256,
) -> Result<(), Failure> {
    chain::expect_approval(&landed.receipt, token, bench.purse.address, spender, allowance)
        .map_err(|error| not_shown(landed, &error))?;
    bench.end(landed.id, TxState::Final, "").await
}

/// An opening or a close that came to nothing is failed, or open again, unless a transaction of it may land. A journal
/// that cannot record that must not hide what went wrong before: the next call, or the next start, does it.
pub(super) async fn put_back(bench: &Bench, intent: IntentId) -> Option<ChannelRecord> {
    let put_back = bench.purse.journal.put_back(intent).await;
    put_back
        .inspect_err(|error| tracing::error!(%intent, %error, "a channel stays in between until the next call"))
        .ok()
}

/// Who left something behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// A process that ended: nobody is at work on anything.
    ByEarlierRun,
    /// A job of this process that panicked. Channels that are closing may wait in the queue for their turn, and are not
    /// ours to open again (M6): their next close finds out.
    ByFault,
}

/// At start and after a fault: every transaction whose end is unknown is followed to it, oldest first; then channels
/// whose transaction never came to be are put back.
pub(super) async fn take_up(bench: &Bench, supervisor: &Addr<Supervisor>, left: Left) -> Result<(), Failure> {
    // Read first: what begins to open or to close from now on waits for its turn, and is not ours to put back.
    let mut in_between = bench.purse.journal.channels(false).await?;
    in_between
        .retain(|record| is_opening(record) || (left == Left::ByEarlierRun && record.state == ChannelState::Closing));
    for slot in bench.slots(None).await? {
        let ids: Vec<String> = slot.iter().map(|transaction| transaction.id.to_string()).collect();
        match take_up_slot(bench, slot).await {
            Ok(Some(record)) => {
                supervisor.do_send(ChannelOpened(Box::new(record)));
            }
            Ok(None) => {}
            Err(failure) => {
                tracing::error!(transactions = ?ids, %failure, "a transaction of an earlier run did not end well");
            }
        }
    }
    for before in in_between {
        if let Some(record) = put_back(bench, before.intent).await
            && record.state == ChannelState::Open
        {
            supervisor.do_send(ChannelOpened(Box::new(record)));
        }
    }
    Ok(())
}

/// What a reorganisation took back is followed to its end once more; `undone` are the channels that it was for.
pub(super) async fn follow_again(
    bench: &Bench,
    supervisor: &Addr<Supervisor>,
    undone: Vec<ChannelRecord>,
) -> Result<(), Failure> {
    take_up(bench, supervisor, Left::ByFault).await?;
    for record in undone {
        // Where nothing of it may land any more, the chain has told: it failed, or it is open again.
        if let Some(record) = put_back(bench, record.intent).await {
            supervisor.do_send(ChannelOpened(Box::new(record)));
        }
    }
    Ok(())
}

/// An opening that an earlier run, or a chain that refused it, left behind: followed to its end.
pub(super) async fn resume_opening(bench: &Bench, record: ChannelRecord) -> Result<ChannelRecord, Failure> {
    let mut money = Money::NotSpent;
    for slot in bench.slots(Some(record.intent)).await? {
        match take_up_slot(bench, slot).await {
            Ok(Some(opened)) => return Ok(opened),
            // The session fee, which pays for the next opening, or an allowance.
            Ok(None) => money = Money::GasOnly,
            Err(failure) => {
                // Its deposit counts as locked as long as it may land, and not longer.
                put_back(bench, record.intent).await;
                return Err(failure);
            }
        }
    }
    put_back(bench, record.intent).await;
    Err(Failure::unspent(
        Code::TransactionReverted,
        "An earlier opening of this provider was broken off and is cleared now",
        "Call again.",
    )
    .with_money(money))
}

/// A close that an earlier call or run left behind, followed to its end; one that every node still refuses is issued
/// anew. `None` where there is none: the channel is open again, or was closed meanwhile.
pub(super) async fn resume_close(
    bench: &Bench,
    record: &ChannelRecord,
    progress: &Progress,
) -> Result<Option<CloseDone>, Failure> {
    let mut failed = None;
    for slot in bench.slots(Some(record.intent)).await? {
        progress.say("following the transaction that was sent before");
        match bench.landed(bench.follow(slot, true, progress).await).await {
            Ok(landed) => return closed(bench, record, &landed).await.map(Some),
            // Another one of ours may have taken its place: the next one tells.
            Err(failure) => failed = Some(failure),
        }
    }
    put_back(bench, record.intent).await;
    failed.map_or(Ok(None), Err)
}

/// The record of a channel that turned out to be open.
async fn take_up_slot(bench: &Bench, slot: Vec<TxRecord>) -> Result<Option<ChannelRecord>, Failure> {
    // All of a slot are for the same end.
    let Some(transaction) = slot.first().cloned() else { return Ok(None) };
    tracing::info!(kind = %transaction.kind, slot = transaction.account_nonce, "a transaction of an earlier run is followed to its end");
    let landed = bench.landed(bench.follow(slot, true, &Progress::none()).await).await?;
    let record = match transaction.intent {
        Some(intent) => Some(bench.purse.journal.channel(intent).await.map_err(unrecorded(landed.id))?),
        None => None,
    };
    let sent = transaction.raw.as_deref().and_then(stored::read);
    match (transaction.kind, record) {
        (TxKind::Open, Some(record)) => {
            return opened(bench, &record, &landed).await.map(Some);
        }
        (TxKind::Close | TxKind::CooperativeClose, Some(record)) => closed(bench, &record, &landed).await.map(drop)?,
        (TxKind::SessionFee, Some(record)) => {
            let (token, fee) = (record.deployment.usdc, drain_signers::request::SESSION_FEE);
            transferred(bench, &landed, token, transaction.target, fee).await?;
        }
        (TxKind::SendUsdc, _) => {
            // Whom it calls is the token.
            let token = sent.as_ref().and_then(|sent| sent.to.to().copied()).unwrap_or_default();
            transferred(bench, &landed, token, transaction.target, transaction.amount.unwrap_or_default()).await?;
        }
        (TxKind::Approve, _) => {
            let (spender, allowance) = sent.as_ref().and_then(stored::approval).unwrap_or_default();
            approved(bench, &landed, transaction.target, spender, allowance).await?;
        }
        _ => bench.end(landed.id, TxState::Final, "").await?,
    }
    Ok(None)
}
