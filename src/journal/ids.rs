//! Names of things in the journal, short enough to read aloud.

use std::fmt;
use std::str::FromStr;

use drain_protocol::Nonce;

/// An opening of a channel. Keys a channel for its whole life: the on-chain id may change in a reorg. Shown as `c17`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IntentId(pub(super) i64);

/// One voucher: an opening and a nonce. Shown as `c17-5`. What an agent quotes to ask for an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// Which channel.
    pub intent: IntentId,
    /// Which of its vouchers.
    pub nonce: Nonce,
}

/// A payment without a channel. Shown as `p3`: what an agent quotes to ask for its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PaymentId(pub(super) i64);

/// What an agent quotes: a voucher or a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReceiptId {
    /// A voucher.
    Voucher(Receipt),
    /// A payment without a channel.
    Payment(PaymentId),
}

/// A transaction of the wallet. Shown as `t4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxId(pub(super) i64);

impl fmt::Display for IntentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

impl FromStr for IntentId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        text.strip_prefix('c').and_then(|n| n.parse().ok()).filter(|n| *n > 0).map(Self).ok_or(())
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.intent, self.nonce.get())
    }
}

impl FromStr for Receipt {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (intent, nonce) = text.split_once('-').ok_or(())?;
        let nonce = nonce.parse().ok().and_then(Nonce::new).ok_or(())?;
        Ok(Self { intent: intent.parse()?, nonce })
    }
}

impl fmt::Display for PaymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", self.0)
    }
}

impl fmt::Display for ReceiptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Voucher(receipt) => receipt.fmt(f),
            Self::Payment(id) => id.fmt(f),
        }
    }
}

impl FromStr for ReceiptId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.strip_prefix('p') {
            Some(number) => number
                .parse()
                .ok()
                .filter(|number| *number > 0)
                .map(|number| Self::Payment(PaymentId(number)))
                .ok_or(()),
            None => text.parse().map(Self::Voucher),
        }
    }
}

impl From<Receipt> for ReceiptId {
    fn from(receipt: Receipt) -> Self {
        Self::Voucher(receipt)
    }
}

impl fmt::Display for TxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}", self.0)
    }
}
