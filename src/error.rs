//! The one failure that people and agents see: what happened, to the money too, and what to do next (M15).

use drain_protocol::Usdc;
use drain_signers::SignerError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $retry:ident;)+) => {
        /// Every way a request can fail, with a stable name for programs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Code { $($(#[$doc])* #[serde(rename = $text)] $name,)+ }

        impl Code {
            /// All codes, for the documentation and its test.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The stable name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// Whether the same call may be made again.
            pub const fn retry(self) -> Retry {
                match self { $(Self::$name => Retry::$retry,)+ }
            }
        }
    };
}

codes! {
    /// An argument is malformed or out of range.
    InvalidArgument = "invalid_argument", AfterFix;
    /// A configuration value is malformed, contradictory or missing.
    InvalidConfig = "invalid_config", AfterFix;
    /// No key is configured: discovery works, money does not.
    NoSigner = "no_signer", AfterFix;
    /// The signer refused or failed.
    SignerFailed = "signer_failed", AfterFix;
    /// No Ledger is connected.
    LedgerAbsent = "ledger_absent", AfterFix;
    /// The Ledger asks for its PIN.
    LedgerLocked = "ledger_locked", AfterFix;
    /// The Ledger's Ethereum app is not open.
    LedgerWrongApp = "ledger_wrong_app", AfterFix;
    /// The Ledger's Ethereum app must be updated.
    LedgerAppTooOld = "ledger_app_too_old", AfterFix;
    /// The Ledger's Ethereum app signs nothing that it cannot show in full.
    LedgerBlindSigningOff = "ledger_blind_signing_off", AfterFix;
    /// A person rejected it on the Ledger.
    LedgerRejected = "ledger_rejected", AfterFix;
    /// The Ledger is in use by another program or an earlier request.
    LedgerBusy = "ledger_busy", Safe;
    /// This user may not open the Ledger's USB device.
    LedgerNotAllowed = "ledger_not_allowed", AfterFix;
    /// The Ledger was unplugged before it answered.
    LedgerUnplugged = "ledger_unplugged", AfterFix;
    /// Nobody pressed in time.
    LedgerNoAnswer = "ledger_no_answer", AfterFix;
    /// The Ledger's account is not the configured one.
    LedgerOtherAddress = "ledger_other_address", AfterFix;
    /// The Ledger does not let the configured path be used.
    LedgerPathRefused = "ledger_path_refused", AfterFix;
    /// The Ledger's answer makes no sense.
    LedgerGarbled = "ledger_garbled", AfterFix;
    /// The Ledger answered with a status that is not known.
    LedgerStatus = "ledger_status", AfterFix;
    /// USB cannot be used here.
    LedgerNoUsb = "ledger_no_usb", AfterFix;
    /// Another process owns this wallet, and does not share it for this.
    WalletInUse = "wallet_in_use", AfterFix;
    /// The process that has the wallet speaks another version of the socket's protocol.
    IncompatibleVersion = "incompatible_version", AfterFix;
    /// The process that ran the call ended before it answered.
    OwnerLost = "owner_lost", No;
    /// The fleet's server cannot be reached, or refuses everybody for now.
    ServerUnavailable = "server_unavailable", Safe;
    /// The fleet's server does not take this agent's token.
    TokenRefused = "token_refused", AfterFix;
    /// No provider of that id or wallet is in the directory.
    UnknownProvider = "unknown_provider", AfterFix;
    /// Several listings share the wallet address that was given.
    AmbiguousProvider = "ambiguous_provider", AfterFix;
    /// The listing is paid by another protocol.
    NotPayable = "not_payable", No;
    /// The provider does not answer, or answers nonsense, before any money moved.
    ProviderUnreachable = "provider_unreachable", Safe;
    /// The provider's wallet, chain or contract is not what the directory says.
    ProviderMismatch = "provider_mismatch", No;
    /// URL, wallet or price of a provider changed since it was pinned (M14): a question for a person.
    ProviderChanged = "provider_changed", AfterFix;
    /// The provider's URL is not allowed (M14).
    UrlRefused = "url_refused", AfterFix;
    /// The provider does not offer the model.
    UnknownModel = "unknown_model", AfterFix;
    /// The duration is outside of what the provider accepts.
    DurationRefused = "duration_refused", AfterFix;
    /// The wallet holds too little USDC.
    InsufficientUsdc = "insufficient_usdc", AfterFix;
    /// The wallet holds too little POL for gas.
    InsufficientGas = "insufficient_gas", AfterFix;
    /// A limit that only a person raises (M3, M5, M9).
    LimitReached = "limit_reached", AfterFix;
    /// A person must say yes first (M5).
    ApprovalNeeded = "approval_needed", AfterFix;
    /// A person said no.
    ApprovalDenied = "approval_denied", No;
    /// The operator's lists do not allow to pay this provider, or its category.
    NotAllowed = "not_allowed", AfterFix;
    /// No open channel pays for the request, and nobody allowed to open one.
    ChannelNeeded = "channel_needed", AfterFix;
    /// No channel of that id is known.
    UnknownChannel = "unknown_channel", AfterFix;
    /// The channel is not open any more, or not yet.
    ChannelNotOpen = "channel_not_open", AfterFix;
    /// The channel is at or near its expiry.
    ChannelExpired = "channel_expired", AfterFix;
    /// What is left of the channel does not cover the request.
    ChannelExhausted = "channel_exhausted", AfterFix;
    /// The channel expires later: a plain close is not possible yet.
    NotExpired = "not_expired", AfterFix;
    /// Too many requests wait on this channel.
    Busy = "busy", Safe;
    /// The provider refused the voucher or the request before doing any work.
    ProviderRefused = "provider_refused", AfterFix;
    /// The provider failed after it got a voucher.
    ProviderFailed = "provider_failed", No;
    /// No usable answer came within the limits of time and size.
    AnswerLost = "answer_lost", No;
    /// The provider insists on more than price, usage and bound explain.
    ProviderOffence = "provider_offence", No;
    /// The provider's record is too bad: only a person lets it be opened or paid again.
    ProviderSetAside = "provider_set_aside", AfterFix;
    /// The directory does not answer and nothing is cached.
    DirectoryUnavailable = "directory_unavailable", Safe;
    /// No RPC endpoint gives a usable answer.
    ChainUnavailable = "chain_unavailable", Safe;
    /// The RPC endpoint serves another chain.
    WrongChain = "wrong_chain", AfterFix;
    /// The wallet promises nothing more until a person lifts that (M11).
    WalletFrozen = "wallet_frozen", No;
    /// The contract's token, code or owner is not what the table says (M8): opens and closes are frozen.
    ContractFrozen = "contract_frozen", No;
    /// A transaction was mined and reverted, or would.
    TransactionReverted = "transaction_reverted", AfterFix;
    /// A transaction is on its way; its outcome is not final yet.
    TransactionPending = "transaction_pending", Safe;
    /// A person has not pressed on the signing device yet, or what follows is not over: the same call collects it.
    WaitingForDevice = "waiting_for_device", Safe;
    /// The provider's close answer breaks a rule (M6).
    CloseRefused = "close_refused", AfterFix;
    /// The gas of a close would cost more than it brings back (M10).
    NotWorthIt = "not_worth_it", Safe;
    /// The durable record cannot be written: nothing is signed (M1).
    JournalFailed = "journal_failed", AfterFix;
    /// The caller cancelled.
    Cancelled = "cancelled", No;
    /// A fault of ours.
    Internal = "internal", No;
}

impl From<&SignerError> for Code {
    /// Where a person at a device can act, the device's own code.
    fn from(error: &SignerError) -> Self {
        let SignerError::Device(problem) = error else { return Self::SignerFailed };
        Self::ALL.iter().copied().find(|code| code.as_str() == problem.code()).unwrap_or(Self::SignerFailed)
    }
}

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

/// What happened to the money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Money {
    /// Nothing was signed and nothing was sent.
    NotSpent,
    /// A voucher left. The channel's books keep it reserved until the provider's next answer tells.
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
    /// One sentence for a reader.
    pub fn sentence(&self) -> String {
        match self {
            Self::NotSpent => "Nothing was spent.".into(),
            Self::Reserved { receipt, at_most } => format!(
                "A voucher left: at most {at_most} USDC is reserved until the provider's next answer tells (receipt {receipt})."
            ),
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
