//! What a row of the audit record says.

use std::borrow::Cow;

use drain_protocol::{B256, ChannelId, Nonce, Usdc};
use strum::Display;

use crate::journal::{ApprovalId, IntentId, TxId, TxKind};

/// What a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display)]
#[strum(serialize_all = "snake_case")]
pub enum Kind {
    /// A voucher: allowed, or refused.
    Voucher,
    /// A payment without a channel: allowed, or refused.
    Payment,
    /// A voucher of amount zero, which authorises nothing.
    Probe,
    /// What became of vouchers.
    Settlement,
    /// A voucher was taken, and what it costs is not known.
    Unknown,
    /// A provider insisted on more than is explained.
    Offence,
    /// The wish to open a channel: allowed, or refused.
    Opening,
    /// A channel is open.
    Opened,
    /// A channel is closed.
    Closed,
    /// A transaction of the wallet, by its own kind: allowed and signed, refused, or at its end.
    #[strum(transparent)]
    Transaction(TxKind),
    /// A person is asked.
    Question,
    /// A person's answer.
    Answer,
    /// The wallet is frozen.
    Freeze,
    /// A person lifted every freeze.
    Unfreeze,
    /// A person accepts what a provider, or the marketplace's fee wallet, is now.
    Trust,
    /// A person says whom a foreign channel pays.
    Adopt,
    /// Something that must not be, such as a claim of more than was signed (M11).
    Alarm,
    /// The chain took back what was final.
    Reorg,
    /// A channel of the wallet was found on chain.
    Found,
    /// A channel's history may be incomplete from here on.
    Recovered,
    /// A copy was put in place of the journal, or the journal is not what was last used.
    Copy,
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display)]
#[strum(serialize_all = "snake_case")]
pub(in crate::journal) enum Decision {
    Allowed,
    Refused,
    /// Nobody was asked: it happened, or it is what came of a decision.
    Recorded,
}

/// A row to write.
#[derive(Clone, Debug)]
pub(in crate::journal) struct Entry<'a> {
    pub kind: Kind,
    pub decision: Decision,
    pub rule: Option<Cow<'a, str>>,
    /// As the directory calls it; cleaned when it is written (M13).
    pub provider: Option<&'a str>,
    pub intent: Option<IntentId>,
    pub nonce: Option<Nonce>,
    pub tx: Option<TxId>,
    pub approval: Option<ApprovalId>,
    pub channel: Option<ChannelId>,
    pub hash: Option<B256>,
    pub amount: Option<Usdc>,
    pub growth: Option<Usdc>,
    pub bound: Option<Usdc>,
    pub left: Option<Usdc>,
    pub charged: Option<Usdc>,
    pub disputed: Option<Usdc>,
    pub refunded: Option<Usdc>,
    /// Cleaned when it is written.
    pub outcome: Option<Cow<'a, str>>,
    pub decided: Option<i64>,
}

impl<'a> Entry<'a> {
    const fn of(kind: Kind, decision: Decision) -> Self {
        Self {
            kind,
            decision,
            rule: None,
            provider: None,
            intent: None,
            nonce: None,
            tx: None,
            approval: None,
            channel: None,
            hash: None,
            amount: None,
            growth: None,
            bound: None,
            left: None,
            charged: None,
            disputed: None,
            refunded: None,
            outcome: None,
            decided: None,
        }
    }

    pub(in crate::journal) const fn allowed(kind: Kind) -> Self {
        Self::of(kind, Decision::Allowed)
    }

    pub(in crate::journal) const fn refused(kind: Kind) -> Self {
        Self::of(kind, Decision::Refused)
    }

    pub(in crate::journal) const fn recorded(kind: Kind) -> Self {
        Self::of(kind, Decision::Recorded)
    }

    pub(in crate::journal) fn told(self, outcome: impl Into<Cow<'a, str>>) -> Self {
        Self { outcome: Some(outcome.into()), ..self }
    }
}
