//! What can be asked of a runtime, as one value: the same for the process that holds the wallet and for those that share
//! it over the socket.
//!
//! Moving money out and showing a key are not among it: only the person at the terminal of the process that holds the
//! wallet does these (M5). A sweep is: its one recipient is the operator's own account, by the holder's configuration.

use drain_protocol::{ChannelId, Usdc};
use serde::{Deserialize, Serialize};

use super::{
    ApprovalView, Approved, BudgetView, ChannelView, ChatCall, ChatReply, Closed, Feedback, Imported, LeftBehind,
    OfferedModel, OpenRequest, Opened, OpeningsFound, Overview, PaymentCall, PaymentReply, ProviderDetails,
    ProviderPage, ProviderQuery, Quote, QuoteCall, ReceiptDetails, ReceiptQuery, ReceiptView, Recovery, RefundReport,
    Swept, WalletView,
};
use crate::config::Password;
use crate::error::{Code, Failure, Money};
use crate::policy::approvals::Verdict;

/// One thing to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// The directory, filtered.
    Providers(ProviderQuery),
    /// One provider, by its id.
    Provider(String),
    /// Models of the providers that a person allowed by name.
    Models,
    /// What the wallet holds.
    Balance,
    /// Set the allowance; without an amount to all that may be locked (M9).
    Approve(Option<Usdc>),
    /// Open a channel.
    Open(OpenRequest),
    /// Pay for a request.
    Chat(ChatCall),
    /// Pay for a request without a channel, where its server asks for that by HTTP 402.
    PayRequest(PaymentCall),
    /// The same without paying: what it asks for.
    QuoteRequest(PaymentCall),
    /// What a request would cost, and what would pay for it.
    Quote(QuoteCall),
    /// The caller's limits and what is left of them.
    Budget,
    /// Receipts, newest first.
    Receipts(ReceiptQuery),
    /// One receipt, with its answer while that is kept.
    Receipt(String),
    /// Everything that the operator sees at once.
    Overview,
    /// Every channel; those at their end only with `true`.
    Channels(bool),
    /// One channel, compared with the chain.
    Channel(ChannelId),
    /// Close at expiry.
    Close(ChannelId),
    /// Close now, with the provider's consent.
    CooperativeClose(ChannelId),
    /// Close what can be closed now: what is expired, and with their providers' consent what paid nothing for so many
    /// seconds, where they are given.
    Refund(Option<u64>),
    /// How many openings of the wallet the contracts count, and how many the record knows.
    Openings,
    /// Search the chain for channels of the wallet that are not recorded here.
    Recover,
    /// Take over what another program's file names.
    Import(Vec<LeftBehind>),
    /// A person says whom a foreign channel pays.
    Adopt {
        /// Which channel.
        channel: ChannelId,
        /// The provider's id; without it the one listing with the channel's wallet.
        provider: Option<String>,
    },
    /// Send what is above the marks back to the operator's treasury, and to nobody else.
    Sweep,
    /// Tell the marketplace about a provider.
    Feedback(Feedback),
    /// Ask the marketplace's gas station for POL.
    RequestGas,
    /// Freeze the wallet, for this reason.
    Freeze(String),
    /// A person lifts every freeze, and shows by the operator's passphrase who it is (M5, M11).
    Unfreeze(Password),
    /// Questions that wait for a person.
    Approvals,
    /// A person answers one, and shows by the operator's passphrase who it is (M5).
    Decide {
        /// Which question.
        id: String,
        /// Yes or no.
        verdict: Verdict,
        /// The operator's.
        passphrase: Password,
    },
    /// A person accepts a provider's URL, wallet and prices of now (M14).
    TrustProvider(String),
    /// A person accepts the marketplace's fee wallet of now.
    TrustFeeWallet,
}

/// What came of it; the variant is the command's.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Of [`Command::Providers`].
    Providers(ProviderPage),
    /// Of [`Command::Provider`].
    Provider(Box<ProviderDetails>),
    /// Of [`Command::Balance`].
    Balance(WalletView),
    /// Of [`Command::Approve`].
    Approved(Approved),
    /// Of [`Command::Open`].
    Opened(Box<Opened>),
    /// Of [`Command::Chat`].
    Chat(ChatReply),
    /// Of [`Command::PayRequest`] and [`Command::QuoteRequest`].
    Request(Box<PaymentReply>),
    /// Of [`Command::Quote`].
    Quote(Box<Quote>),
    /// Of [`Command::Overview`].
    Overview(Box<Overview>),
    /// Of [`Command::Models`].
    Models(Vec<OfferedModel>),
    /// Of [`Command::Budget`].
    Budget(BudgetView),
    /// Of [`Command::Receipts`].
    Receipts(Vec<ReceiptView>),
    /// Of [`Command::Receipt`].
    Receipt(Box<ReceiptDetails>),
    /// Of [`Command::Channels`].
    Channels(Vec<ChannelView>),
    /// Of [`Command::Channel`] and [`Command::Adopt`].
    Channel(Box<ChannelView>),
    /// Of both closes.
    Closed(Box<Closed>),
    /// Of [`Command::Refund`].
    Refunds(Vec<RefundReport>),
    /// Of [`Command::Openings`].
    Openings(Vec<OpeningsFound>),
    /// Of [`Command::Recover`].
    Recovered(Recovery),
    /// Of [`Command::Import`].
    Imported(Vec<Imported>),
    /// Of [`Command::Sweep`].
    Swept(Swept),
    /// Of [`Command::Feedback`].
    Sent,
    /// Of [`Command::RequestGas`]: the transaction.
    Gas(String),
    /// Of [`Command::Freeze`]: false where it was frozen before.
    Frozen(bool),
    /// Of [`Command::Approvals`].
    Approvals(Vec<ApprovalView>),
    /// Of [`Command::Decide`].
    Decided(ApprovalView),
    /// Of [`Command::TrustProvider`] and [`Command::TrustFeeWallet`]: whether anything was remembered.
    Forgotten(bool),
}

/// What a command does to the world, and so what becomes of it when nobody answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Reads, or says something that may be said twice.
    Repeatable,
    /// Sends a voucher: a second one is a second payment.
    Pays,
    /// Sends transactions that the same call joins.
    Joins,
    /// Tells somebody something, or records a person's word, once; no money.
    Tells,
}

impl Effect {
    /// Whether breaking off may leave money in an unknown state.
    pub const fn moves_money(self) -> bool {
        matches!(self, Self::Pays | Self::Joins)
    }

    /// Whoever did the work ended with it, or cannot be heard any more. It is not asked again: what it may have signed is in
    /// its journal (M15). `what_ended` is the beginning of the message.
    pub fn lost(self, what_ended: &str) -> Failure {
        let message = |what: &str| format!("{what_ended}. {what}");
        match self {
            Self::Pays => Failure {
                code: Code::OwnerLost,
                message: message("The outcome is unknown; what may have been signed stays reserved, and nothing was sent again"),
                money: Money::Unknown,
                next: "Look at the last receipt with drain_budget before any other paid call: an answer that came is kept there, and a voucher of unknown outcome stays in flight on its channel (drain_channel_status) until the provider's next answer tells.".into(),
            },
            Self::Joins => Failure {
                code: Code::TransactionPending,
                message: message("What it had signed is followed to its end, and nothing was sent again"),
                money: Money::Unknown,
                next: "Look with drain_channels and drain_balance; then the same call joins what is on its way.".into(),
            },
            Self::Tells => Failure::unspent(
                Code::OwnerLost,
                message("No money was moved; whether the rest was done is not known"),
                "Call again if it is still wanted: an answer that there is nothing to do means that it was done.",
            ),
            Self::Repeatable => Failure::unspent(
                Code::OwnerLost,
                message("No money was moved"),
                "Call again if it is still wanted.",
            ),
        }
    }
}

impl Command {
    /// What it does.
    pub const fn effect(&self) -> Effect {
        match self {
            Self::Providers(_)
            | Self::Provider(_)
            | Self::Models
            | Self::Balance
            | Self::Quote(_)
            | Self::Budget
            | Self::Overview
            | Self::Receipts(_)
            | Self::Receipt(_)
            | Self::Channels(_)
            | Self::Channel(_)
            | Self::Freeze(_)
            | Self::Approvals
            | Self::Openings
            | Self::Recover
            | Self::Import(_) => Effect::Repeatable,
            Self::Chat(_) | Self::PayRequest(_) => Effect::Pays,
            Self::Approve(_)
            | Self::Open(_)
            | Self::Close(_)
            | Self::CooperativeClose(_)
            | Self::Refund(_)
            | Self::Sweep => Effect::Joins,
            // What the request itself does is its server's business.
            Self::QuoteRequest(_)
            | Self::Feedback(_)
            | Self::RequestGas
            | Self::Unfreeze(_)
            | Self::Decide { .. }
            | Self::TrustProvider(_)
            | Self::TrustFeeWallet
            | Self::Adopt { .. } => Effect::Tells,
        }
    }
}

impl Reply {
    /// Another command's answer: a fault of ours.
    pub fn unexpected(&self) -> Failure {
        Failure::internal("the runtime gave the answer to another question")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asked anew after a take-over, these would answer "nothing to do" of what has just been done.
    #[test]
    fn what_records_a_persons_word_is_not_asked_anew() {
        for command in [Command::TrustProvider("a".into()), Command::TrustFeeWallet] {
            assert_eq!(command.effect(), Effect::Tells);
        }
        assert_eq!(Command::Balance.effect(), Effect::Repeatable);
    }
}
