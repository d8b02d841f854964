//! What a channel's actor is told.

use std::sync::Arc;

use actix::Message;
use drain_protocol::{Nonce, Usdc};
use tokio::sync::{Mutex, oneshot};

use crate::api::{ChatCall, ChatReply, Closed, Progress};
use crate::error::Failure;
use crate::journal::Approval;
use crate::policy::Caller;
use crate::policy::repeat::RequestKey;

/// Pay for a request. Requests go one after another. Taken into the queue, or refused; the answer comes by `reply`.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Failure>")]
pub struct Pay {
    /// The request.
    pub call: ChatCall,
    /// For whom, and within which limits.
    pub caller: Caller,
    /// Where progress goes.
    pub progress: Progress,
    /// Where the caller has a name for it.
    pub once: Option<Once>,
    /// Where the answer goes. A caller who drops the other end before the request's turn is not charged: an answer
    /// through the mailbox could not tell, since actix waits for it whether or not anybody listens.
    pub reply: oneshot::Sender<Result<Turn, Failure>>,
}

/// A request that is paid once, however often it is asked for.
#[derive(Clone, Debug)]
pub struct Once {
    /// Its name.
    pub key: RequestKey,
    /// Held while it has its turn: what began goes on to its end, and who asks again joins it. Held by who withdrew it, too.
    pub turn: Arc<Mutex<()>>,
}

/// What a request's turn led to.
#[derive(Debug)]
pub enum Turn {
    /// An answer.
    Done(ChatReply),
    /// Nothing was signed: a person must say yes first (M5).
    AskPerson(Box<Approval>),
}

/// How a channel is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseKind {
    /// With the provider's consent, at any time (V2).
    Cooperative,
    /// Alone, at expiry.
    AtExpiry,
}

/// End the channel. Takes its turn in the queue; afterwards nothing is signed (M6). Taken into the queue, or refused;
/// the answer comes by `reply`.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Failure>")]
pub struct End {
    /// How.
    pub kind: CloseKind,
    /// For whom.
    pub caller: Caller,
    /// Only while this is the channel's last voucher: one that pays again meanwhile stays open.
    pub only_after: Option<Nonce>,
    /// Where progress goes.
    pub progress: Progress,
    /// Where the answer goes. Without anybody at the other end when its turn comes, the channel stays as it is.
    pub reply: oneshot::Sender<Result<Closed, Failure>>,
}

/// What happened to this channel elsewhere. Taken in between two requests.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub enum Seen {
    /// The provider has taken this much in all.
    Claimed(Usdc),
    /// The channel is gone; `refund` came back.
    Closed {
        /// To the wallet.
        refund: Usdc,
    },
    /// The wallet changed its record.
    Recorded,
}

/// Answered when nothing is left to do: for an ordered end.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Idle;
