//! What labels say: each a word of a known set.

use strum::{AsRefStr, VariantArray};

/// What is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsRefStr)]
#[strum(serialize_all = "snake_case")]
pub enum Signed {
    /// A voucher.
    Voucher,
    /// A payment without a channel.
    Payment,
    /// A transaction.
    Transaction,
}

/// What became of a payment without a channel, as far as its server told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsRefStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum PaymentOutcome {
    /// Taken, and answered.
    Answered,
    /// Taken, and no answer came.
    Failed,
    /// Answered, without a word on the money.
    NoReceipt,
    /// Neither.
    Lost,
    /// Never sent.
    Unsent,
}

/// What became of a voucher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsRefStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum VoucherEnd {
    /// A usable answer.
    Answered,
    /// It was charged, and no usable answer came.
    Unusable,
    /// The provider says that it did no work.
    Refused,
    /// Not known.
    Lost,
    /// It never left.
    Unsent,
}

/// A provider told other books than ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsRefStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Correction {
    /// What was unknown explains it.
    Adopted,
    /// It tells no books: what was unknown is booked whole.
    AtBound,
    /// Nothing explains it.
    Unexplained,
}

/// What a provider did with a paid request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsRefStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Request {
    /// It answered.
    Answered,
    /// It refused before it worked.
    Refused,
    /// It failed with the voucher in hand.
    Failed,
    /// No usable answer.
    Lost,
    /// It was not reached.
    Unreachable,
}

/// What an RPC endpoint answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsRefStr)]
#[strum(serialize_all = "snake_case")]
pub enum Rpc {
    /// An answer.
    Ok,
    /// The call reverts.
    Reverted,
    /// The node does not take it.
    Refused,
    /// It has not this block or this range.
    Unable,
    /// It serves another chain.
    WrongChain,
    /// No answer, or one that makes no sense.
    Fault,
}

/// Which kind of actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsRefStr)]
#[strum(serialize_all = "snake_case")]
pub enum Actor {
    /// The catalogue.
    Directory,
    /// Channels.
    Channel,
    /// The key.
    Signer,
    /// Transactions.
    Wallet,
    /// Chain events.
    Watcher,
    /// What brings money back.
    Refund,
    /// The journal's thread.
    Journal,
}

/// Why an actor was started anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsRefStr)]
#[strum(serialize_all = "snake_case")]
pub enum Restart {
    /// It had stopped.
    Gone,
    /// A job of it broke off.
    Panic,
}

/// What a contract's owner did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsRefStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum AdminEvent {
    /// The fee.
    FeeUpdated,
    /// The token.
    UsdcUpdated,
    /// What no channel holds was sent away.
    Swept,
    /// It has no owner any more.
    OwnershipRenounced,
}

/// What became of a request that was passed on to another replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsRefStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Forwarded {
    /// It answered.
    Answered,
    /// It surely did not begin it.
    NotBegun,
    /// Nobody here knows.
    Unknown,
}

/// How a client is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsRefStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Transport {
    /// Standard input and output.
    Stdio,
    /// HTTP.
    Http,
    /// Another process, by the wallet's socket.
    Socket,
}
