//! Why the journal could not do what was asked, and what that means for the money (M15).

use std::path::PathBuf;

use drain_protocol::duration::ChannelDuration;
use drain_protocol::text::shell_word;

use super::{ApprovalId, ApprovalState, DiskTrouble, Frozen, PaymentId, ReceiptId, trouble};
use crate::error::{Code, Failure, Money};
use crate::policy::books::NoVoucher;
use crate::policy::budgets::{OverLimit, Rule};
use crate::policy::limits::NotAllowed;

/// Why the journal could not do what was asked. Nothing was recorded.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be opened, or is not ours.
    #[error("the journal {path} cannot be opened: {reason}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// It was never made, or is gone.
    #[error("there is no journal {path}")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Written by a newer version.
    #[error("the journal {path} was written by a newer drain-mcp (schema {found}, this one knows {known})")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Schema of the file.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// Written by an older version.
    #[error("the journal {path} is of an older version (schema {found}, this one knows {known})")]
    Older {
        /// The file.
        path: PathBuf,
        /// Schema of the file.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// A statement or the commit failed.
    #[error("the journal cannot be written: {0}")]
    Write(String),
    /// The disk does not take it.
    #[error("the journal {path} cannot be written: {reason}")]
    Disk {
        /// The file.
        path: PathBuf,
        /// What is wrong with the disk.
        kind: DiskTrouble,
        /// What the system says.
        reason: String,
    },
    /// The file is not what was written.
    #[error("the journal {path} is damaged: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// It would lie on a network file system.
    #[error("{path} lies on a network file system ({kind}), whose locks and syncs cannot be relied on")]
    NetworkDisk {
        /// The folder.
        path: PathBuf,
        /// Which.
        kind: &'static str,
    },
    /// The server that holds it does not do what is asked.
    #[error("the journal's server: {0}")]
    Server(String),
    /// What is committed there could be lost.
    #[error("the journal's server can lose what it committed: {0}")]
    Unsafe(String),
    /// Another process has taken the wallet over.
    #[error("another process has taken this wallet over")]
    Fenced,
    /// The writer is gone or has too much to do.
    #[error("the journal is {0}")]
    Unavailable(&'static str),
    /// A row holds what no version of ours writes.
    #[error("the journal holds a value that makes no sense: {0}")]
    Corrupt(String),
    /// What the chain is said to hold cannot be.
    #[error("an endpoint tells of a {0}")]
    Impossible(String),
    /// A host asks for payment to another address than before (M14).
    #[error("{host} was first paid to {before}; now it asks for payment to {now}")]
    PayeeChanged {
        /// Who is asked.
        host: String,
        /// Whom it was paid to.
        before: String,
        /// Whom it names now.
        now: String,
    },
    /// A server asks for payment with a challenge that was signed for already (M15).
    #[error("{host} asks for payment with a challenge that was signed for already, receipt {receipt}")]
    ChallengeUsed {
        /// Who is asked.
        host: String,
        /// That payment.
        receipt: PaymentId,
    },
    /// No such channel, voucher or transaction.
    #[error("the journal knows no {0}")]
    Unknown(String),
    /// The channel is not in a state that signs.
    #[error("the channel is {0}, not open")]
    NotOpen(&'static str),
    /// The books have no room for the voucher (M2, M3).
    #[error("no voucher: {0:?}")]
    NoVoucher(NoVoucher),
    /// A person must say yes first (M5).
    #[error("a person must approve this first")]
    NeedsPerson,
    /// No block was ever seen: by the machine's clock alone nothing is counted (M4).
    #[error("the chain's time is not known yet")]
    NoTime,
    /// Too many questions wait already.
    #[error("{0} questions wait for a person already")]
    TooManyQuestions(u32),
    /// The question is not open any more.
    #[error("{0} is {state} already", state = .1.as_str())]
    Answered(ApprovalId, ApprovalState),
    /// The operator's lists forbid to pay this provider.
    #[error("this provider may not be paid")]
    NotAllowed(NotAllowed),
    /// The provider's record is too bad: only a person's word lets it be opened or paid again.
    #[error("this provider is set aside: {reason}")]
    SetAside {
        /// Its id in the directory.
        provider_id: String,
        /// Why.
        reason: String,
    },
    /// The wallet promises nothing more until a person lifts that (M11).
    #[error("the wallet is frozen: {}", .0.reason)]
    Frozen(Frozen),
    /// A request of this name was or may be charged.
    #[error("this request was sent before (receipt {0}) and is not paid a second time")]
    Repeated(ReceiptId),
    /// A request of this name asked something else.
    #[error("the same requestId stands for another request (receipt {0})")]
    OtherRequest(ReceiptId),
    /// A limit that only a person raises would be passed (M3, M4, M9).
    #[error("{0}")]
    OverLimit(OverLimit),
}

impl JournalError {
    /// A fault of disk or file, not an answer to what was asked.
    pub(crate) const fn is_fault(&self) -> bool {
        matches!(
            self,
            Self::Write(_)
                | Self::Disk { .. }
                | Self::Damaged { .. }
                | Self::Corrupt(_)
                | Self::Open { .. }
                | Self::Server(_)
                | Self::Unsafe(_)
        )
    }

    /// What was decided and by which rule, for metrics; `None` where nothing was.
    const fn decision(&self) -> Option<(&'static str, &'static str)> {
        Some(match self {
            Self::NeedsPerson => ("ask_person", "approval"),
            Self::TooManyQuestions(_) => ("refused", "questions"),
            Self::NotOpen(_) => ("refused", "not_open"),
            Self::NoVoucher(NoVoucher::Exhausted { .. }) => ("refused", "exhausted"),
            Self::NoVoucher(_) => ("refused", "no_voucher"),
            Self::NotAllowed(NotAllowed::DeniedProvider | NotAllowed::NotAnAllowedProvider) => ("refused", "provider"),
            Self::NotAllowed(_) => ("refused", "category"),
            Self::SetAside { .. } => ("refused", "set_aside"),
            Self::Frozen(_) => ("refused", "frozen"),
            Self::Repeated(_) | Self::OtherRequest(_) => ("refused", "request_id"),
            Self::NoTime => ("refused", "no_time"),
            Self::OverLimit(over) => ("refused", over.rule.name()),
            _ => return None,
        })
    }
}

/// Counts what was decided.
pub(super) fn decided<T>(result: Result<T, JournalError>) -> Result<T, JournalError> {
    let decision = result.as_ref().map_or_else(JournalError::decision, |_| Some(("allowed", "none")));
    if let Some((decision, rule)) = decision {
        crate::metrics::decided(decision, rule);
    }
    result
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        let text = error.to_string();
        match error {
            JournalError::NotOpen(_) => {
                Self::unspent(Code::ChannelNotOpen, text, "List the channels with drain_channels and use an open one.")
            }
            JournalError::NoVoucher(NoVoucher::Exhausted { available, bound }) => Self::unspent(
                Code::ChannelExhausted,
                format!("The request may cost up to {bound} USDC; the channel has {available} USDC left"),
                "Ask for a shorter answer (maxTokens), or close this channel and open one with a larger deposit.",
            ),
            JournalError::OverLimit(over) => over.into(),
            JournalError::Frozen(frozen) => frozen.into(),
            JournalError::NotAllowed(why) => why.into(),
            JournalError::SetAside { provider_id, .. } => Self::unspent(
                Code::ProviderSetAside,
                text,
                format!(
                    "Use another provider; channels to this one are closed as usual. A person who wants to pay it all the same runs: drain-mcp providers --trust {}",
                    shell_word(&provider_id)
                ),
            ),
            JournalError::PayeeChanged { host, .. } => Self::unspent(
                Code::ProviderChanged,
                text,
                format!(
                    "A person who knows that the change is right runs: drain-mcp providers --trust {}",
                    shell_word(&host)
                ),
            ),
            JournalError::ChallengeUsed { .. } => Self::unspent(
                Code::NotPayable,
                text,
                "Call again in a second: a server that makes its challenges from the time has another one then.",
            ),
            JournalError::Repeated(receipt) => Self {
                code: Code::RequestUnknown,
                message: text,
                money: Money::Unknown,
                next: format!("Look at it: drain_budget with receipt {receipt}."),
            },
            JournalError::OtherRequest(_) => Self::unspent(
                Code::IdempotencyConflict,
                text,
                "Give each request a requestId of its own; the same one only to repeat exactly the same request.",
            ),
            JournalError::NeedsPerson | JournalError::TooManyQuestions(_) => Self::unspent(
                Code::ApprovalNeeded,
                text,
                "A person looks at drain-mcp approvals and answers; then call again.",
            ),
            JournalError::NoTime => Self::unspent(
                Code::ChainUnavailable,
                format!("{text}, and limits are counted by it"),
                "Call again when an RPC endpoint (DRAIN_RPC_URL) answers.",
            ),
            JournalError::Answered(..) => {
                Self::unspent(Code::InvalidArgument, text, "List what waits with drain-mcp approvals.")
            }
            JournalError::Impossible(_) => Self::unspent(
                Code::ChainUnavailable,
                text,
                "An RPC endpoint is wrong or lying: check DRAIN_RPC_URL with drain-mcp doctor, or use another.",
            ),
            JournalError::Fenced => Self::unspent(Code::Busy, text, "Call again: it is asked for what is needed then."),
            JournalError::Unknown(_) => {
                Self::unspent(Code::UnknownChannel, text, "List the channels with drain_channels.")
            }
            other => Self::unspent(
                Code::JournalFailed,
                format!("{text}. {}", trouble::meaning(&other)),
                trouble::way_out(&other),
            ),
        }
    }
}

impl From<NotAllowed> for Failure {
    fn from(why: NotAllowed) -> Self {
        let what = match why {
            NotAllowed::DeniedProvider => "This provider is on the list of those who are not paid",
            NotAllowed::NotAnAllowedProvider => "Only some providers may be paid, and this is none of them",
            NotAllowed::DeniedCategory => "Providers of this category are not paid",
            NotAllowed::NotAnAllowedCategory => "Only providers of some categories may be paid",
        };
        let variable = why.variable();
        Self::unspent(
            Code::NotAllowed,
            format!("{what} ({variable})"),
            format!("Use another provider; only a person changes {variable}. Closing a channel is always allowed."),
        )
    }
}

impl From<OverLimit> for Failure {
    fn from(over: OverLimit) -> Self {
        let variable = over.rule.variable();
        let instead = match over.rule {
            Rule::PerRequest => "Ask for a shorter answer (maxTokens), or set a lower maxCost",
            Rule::Locked | Rule::OpenChannels => "Close a channel, or open with less",
            Rule::OpensPerHour => "Use a channel that is open, or wait",
            Rule::GasPerTransaction => "Wait until gas is cheaper",
            _ => "Ask for less, or wait",
        };
        let when = over.frees_in.map_or_else(String::new, |seconds| {
            let wait = ChannelDuration::from_seconds(seconds.max(1));
            wait.map_or_else(|_| String::new(), |wait| format!(" So much is free again in {wait}."))
        });
        Self::unspent(
            Code::LimitReached,
            format!("{over}.{when}"),
            format!("{instead}; only a person raises {variable}, in the configuration."),
        )
    }
}
