//! What the wallet is asked, and where its answers go.

use actix::{Addr, Handler, Message};
use drain_protocol::{Address, Usdc};
use drain_signers::Call;
use tokio::sync::oneshot;

use super::{OpenPlan, WalletActor, answer};
use crate::actors::services::gone;
use crate::api::{Approved, Progress, SendAmount, Swept, WalletView};
use crate::error::Failure;
use crate::journal::{ChannelRecord, Seen, TxId};
use crate::policy::{Caller, Pol};

/// What the wallet holds. Answered beside the queue.
#[derive(Debug, Message)]
#[rtype(result = "Result<WalletView, Failure>")]
pub struct Balance {
    /// For whom: an agent of the fleet sees its own part of what is locked and spent.
    pub caller: Caller,
}

/// Where the wallet's answer goes. Work whose asker dropped the other end before its turn is not begun: an answer
/// through the mailbox could not tell, since actix waits for it whether or not anybody listens.
pub type Reply<T> = oneshot::Sender<Result<T, Failure>>;

/// Asks the wallet and waits. Dropping this before the wallet's turn takes the question back.
pub async fn ask_wallet<T, M>(wallet: &Addr<WalletActor>, message: impl FnOnce(Reply<T>) -> M) -> Result<T, Failure>
where
    WalletActor: Handler<M>,
    M: Message<Result = ()> + core::marker::Send + 'static,
{
    let (reply, receiver) = oneshot::channel();
    wallet.send(message(reply)).await.map_err(|error| gone(&error))?;
    answer(receiver).await
}

/// Set the allowance of the V2 contract.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Approve {
    /// How much; the limit on what may be locked without it (M9).
    pub amount: Option<Usdc>,
    /// Within which limits.
    pub caller: Caller,
    /// Where progress goes.
    pub progress: Progress,
    /// Where the answer goes.
    pub reply: Reply<Approved>,
}

/// Open a channel whose provider was checked already.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Open {
    /// What to open.
    pub plan: OpenPlan,
    /// Within which limits.
    pub caller: Caller,
    /// Where progress goes.
    pub progress: Progress,
    /// Where the answer goes.
    pub reply: Reply<ChannelMade>,
}

/// A channel that is open now.
#[derive(Clone, Debug)]
pub struct ChannelMade {
    /// Its record.
    pub record: ChannelRecord,
    /// True when an earlier opening was joined.
    pub resumed: bool,
    /// Set when nothing was opened: the channel is one that agents share, as its new member sees it.
    pub shared: Option<Box<Seen>>,
    /// The V1 session fee that this opening used.
    pub session_fee: Usdc,
    /// Hashes, in order.
    pub transactions: Vec<String>,
}

impl ChannelMade {
    /// An earlier opening, which costs nothing more.
    pub(super) const fn resumed(record: ChannelRecord) -> Self {
        Self { record, resumed: true, shared: None, session_fee: Usdc::ZERO, transactions: Vec::new() }
    }

    /// A channel that others opened, which costs nothing.
    pub(super) fn shared(seen: Seen) -> Self {
        let record = seen.record.clone();
        Self { shared: Some(Box::new(seen)), resumed: false, ..Self::resumed(record) }
    }
}

/// Send a channel's close and see it final. Only a channel actor asks, in its turn (M6).
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct SendClose {
    /// The channel.
    pub record: Box<ChannelRecord>,
    /// `Close` or `CooperativeClose`.
    pub call: Call,
    /// For whom.
    pub caller: Caller,
    /// Where progress goes.
    pub progress: Progress,
    /// Where the answer goes.
    pub reply: Reply<CloseDone>,
}

/// Follow a close that an earlier call or run left behind. `None` where there is none: the channel is open again, or was
/// closed meanwhile. Only a channel actor asks, in its turn (M6).
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ResumeClose {
    /// The channel.
    pub record: Box<ChannelRecord>,
    /// For whom.
    pub caller: Caller,
    /// Where progress goes.
    pub progress: Progress,
    /// Where the answer goes.
    pub reply: Reply<Option<CloseDone>>,
}

/// The blocks of these transactions are gone: they are followed to their end once more.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Undone {
    /// Which ones.
    pub transactions: Vec<TxId>,
}

/// A close that is final.
#[derive(Clone, Debug)]
pub struct CloseDone {
    /// The record at its end.
    pub record: ChannelRecord,
    /// What came back.
    pub refund: Usdc,
    /// The protocol's part of what the provider got.
    pub protocol_fee: Usdc,
    /// The hash.
    pub transaction: String,
}

/// A person moves money out (terminal only, M5).
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Send {
    /// To whom.
    pub to: Address,
    /// What.
    pub amount: SendAmount,
    /// Even if the same was sent a moment ago.
    pub again: bool,
    /// For whom.
    pub caller: Caller,
    /// Where progress goes.
    pub progress: Progress,
    /// Where the answer goes.
    pub reply: Reply<String>,
}

/// Send from the treasury, whose wallet this is, to the one that software uses.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Fund {
    /// To whom.
    pub to: Address,
    /// How much.
    pub usdc: Usdc,
    /// How much gas money.
    pub pol: Pol,
    /// For whom.
    pub caller: Caller,
    /// Where progress goes.
    pub progress: Progress,
    /// Where the answer goes.
    pub reply: Reply<Vec<String>>,
}

/// Send back to the treasury what is above the operator's marks.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Sweep {
    /// For whom.
    pub caller: Caller,
    /// Where progress goes.
    pub progress: Progress,
    /// Where the answer goes.
    pub reply: Reply<Swept>,
}
