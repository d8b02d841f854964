//! The one failure that people and agents see: what happened, to the money too, and what to do next (M15).

mod codes;
#[cfg(test)]
mod docs;
mod seen;

use drain_protocol::Usdc;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use codes::Code;
pub use seen::{VARIABLE, told};

/// Whether the same call may be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// Yes, as it is.
    Safe,
    /// Yes, after the next step was taken.
    AfterFix,
    /// No: it would pay again, or fail again.
    No,
}

/// What happened to the money, without its amounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// [`Money::NotSpent`].
    NotSpent,
    /// [`Money::Reserved`].
    Reserved,
    /// [`Money::Credit`].
    Credit,
    /// [`Money::Spent`].
    Spent,
    /// [`Money::Unknown`].
    Unknown,
    /// [`Money::GasOnly`].
    GasOnly,
    /// [`Money::Pending`].
    Pending,
}

/// What happened to the money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Money {
    /// Nothing was signed and nothing was sent.
    NotSpent,
    /// A voucher left, and the channel's books keep it reserved until the provider's next answer tells; or a payment without a
    /// channel, and the chain will tell.
    Reserved {
        /// Ask for the outcome with this.
        receipt: String,
        /// The most that it can cost.
        #[schemars(with = "String")]
        at_most: Usdc,
    },
    /// A voucher left, but the provider says that it did no work: the voucher pays the next request on this channel.
    Credit {
        /// The receipt.
        receipt: String,
    },
    /// The provider did work that was paid for.
    Spent {
        /// The receipt.
        receipt: String,
        /// What was charged.
        #[schemars(with = "String")]
        amount: Usdc,
    },
    /// The call broke off where money may have moved: the channel's and the wallet's records tell.
    Unknown,
    /// Only gas was used.
    GasOnly,
    /// A transaction is signed and may land at any time; ask again, it is never sent twice.
    Pending {
        /// The operation to ask for.
        receipt: String,
    },
}

/// A refusal or failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Failure {
    /// What kind.
    pub code: Code,
    /// What happened, in one or two sentences. Text from outside is already bounded and cleaned.
    pub message: String,
    /// What happened to the money.
    pub money: Money,
    /// What to do next.
    pub next: String,
}

impl Failure {
    /// A failure before anything was signed or sent.
    pub fn unspent(code: Code, message: impl Into<String>, next: impl Into<String>) -> Self {
        Self { code, message: message.into(), money: Money::NotSpent, next: next.into() }
    }

    /// The same failure with another fate of the money.
    pub fn with_money(mut self, money: Money) -> Self {
        self.money = money;
        self
    }

    /// A fault of ours.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::unspent(Code::Internal, message, "This is a fault of drain-mcp; please report it with this text.")
    }

    /// The malformed argument `name`.
    pub fn argument(name: &str, reason: impl std::fmt::Display) -> Self {
        Self::unspent(Code::InvalidArgument, format!("{name}: {reason}."), format!("Correct {name} and call again."))
    }
}

impl Money {
    /// Which of the few things that can happen to it.
    pub const fn fate(&self) -> Fate {
        match self {
            Self::NotSpent => Fate::NotSpent,
            Self::Reserved { .. } => Fate::Reserved,
            Self::Credit { .. } => Fate::Credit,
            Self::Spent { .. } => Fate::Spent,
            Self::Unknown => Fate::Unknown,
            Self::GasOnly => Fate::GasOnly,
            Self::Pending { .. } => Fate::Pending,
        }
    }

    /// One sentence for a reader.
    pub fn sentence(&self) -> String {
        match self {
            Self::NotSpent => "Nothing was spent.".into(),
            Self::Reserved { receipt, at_most } => {
                format!(
                    "A signature left: at most {at_most} USDC is reserved until it is known what became of it (receipt {receipt})."
                )
            }
            Self::Credit { receipt } => format!(
                "Nothing was charged; the voucher that left stays as credit on this channel (receipt {receipt})."
            ),
            Self::Spent { receipt, amount } => format!("{amount} USDC was charged (receipt {receipt})."),
            Self::Unknown => {
                "Money may have moved: look with drain_channels and drain_balance before any other paid call.".into()
            }
            Self::GasOnly => "Only gas was used; no USDC moved.".into(),
            Self::Pending { receipt } => {
                format!("A transaction is on its way and is never sent twice (operation {receipt}).")
            }
        }
    }
}

impl Retry {
    /// One sentence for a reader.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Safe => "Calling again is safe.",
            Self::AfterFix => "Calling again is safe after the next step.",
            Self::No => "Do not repeat the call as it is.",
        }
    }
}
