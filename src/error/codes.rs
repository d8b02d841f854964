//! Every error code: one row each, from which docs/errors.md is written.

use Fate::{Credit, GasOnly, NotSpent, Pending, Reserved, Spent, Unknown};
use drain_signers::SignerError;
use serde::{Deserialize, Serialize};

use super::{Fate, Retry};

macro_rules! codes {
    ($(#[doc = $about:literal] $name:ident = $text:literal, $retry:ident, [$($fate:ident),+], $step:literal;)+) => {
        /// Every way a request can fail, with a stable name for programs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Code { $(#[doc = $about] #[serde(rename = $text)] $name,)+ }

        impl Code {
            /// All codes, for the documentation and its tests.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The stable name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// Whether the same call may be made again.
            pub const fn retry(self) -> Retry {
                match self { $(Self::$name => Retry::$retry,)+ }
            }

            /// What it means, in one sentence.
            pub const fn about(self) -> &'static str {
                match self { $(Self::$name => $about,)+ }
            }

            /// What can have become of the money.
            pub const fn fates(self) -> &'static [Fate] {
                match self { $(Self::$name => &[$($fate),+],)+ }
            }

            /// What to do, in general; a failure's own next step is more exact.
            pub const fn step(self) -> &'static str {
                match self { $(Self::$name => $step,)+ }
            }
        }
    };
}

codes! {
    /// An argument is malformed or out of range.
    InvalidArgument = "invalid_argument", AfterFix, [NotSpent], "Correct the argument that the message names.";
    /// A configuration value is malformed, contradictory or missing.
    InvalidConfig = "invalid_config", AfterFix, [NotSpent], "A person corrects the setting that the message names; drain-mcp doctor shows all.";
    /// No key is configured: discovery works, money does not.
    NoSigner = "no_signer", AfterFix, [NotSpent], "A person makes a wallet (drain-mcp wallet new) or sets a key.";
    /// The signer refused or failed.
    SignerFailed = "signer_failed", AfterFix, [NotSpent, Credit, GasOnly], "A person looks at the signer: docs/signers.md.";
    /// No Ledger is connected.
    LedgerAbsent = "ledger_absent", AfterFix, [NotSpent, Credit, GasOnly, Spent], "Plug the Ledger in.";
    /// The Ledger asks for its PIN.
    LedgerLocked = "ledger_locked", AfterFix, [NotSpent, Credit, GasOnly, Spent], "Unlock the Ledger with its PIN.";
    /// The Ledger's Ethereum app is not open.
    LedgerWrongApp = "ledger_wrong_app", AfterFix, [NotSpent, Credit, GasOnly, Spent], "Open the Ethereum app on the Ledger.";
    /// The Ledger's Ethereum app must be updated.
    LedgerAppTooOld = "ledger_app_too_old", AfterFix, [NotSpent, Credit, GasOnly, Spent], "Update the Ethereum app of the Ledger.";
    /// The Ledger's Ethereum app signs nothing that it cannot show in full.
    LedgerBlindSigningOff = "ledger_blind_signing_off", AfterFix, [NotSpent, Credit, GasOnly, Spent], "Follow the message; blind signing is needed for contract calls that the app cannot show.";
    /// A person rejected it on the Ledger.
    LedgerRejected = "ledger_rejected", AfterFix, [NotSpent, Credit, GasOnly, Spent], "Call again if it is still wanted, and confirm on the Ledger.";
    /// The Ledger is in use by another program or an earlier request.
    LedgerBusy = "ledger_busy", Safe, [NotSpent, Credit, GasOnly, Spent], "Close the other program, then call again.";
    /// This user may not open the Ledger's USB device.
    LedgerNotAllowed = "ledger_not_allowed", AfterFix, [NotSpent, Credit, GasOnly, Spent], "A person adds the udev rule that the message names.";
    /// The Ledger was unplugged before it answered.
    LedgerUnplugged = "ledger_unplugged", AfterFix, [NotSpent, Credit, GasOnly, Spent], "Plug the Ledger in again.";
    /// Nobody pressed in time.
    LedgerNoAnswer = "ledger_no_answer", AfterFix, [NotSpent, Credit, GasOnly, Spent], "Call again and press in time.";
    /// The Ledger's account is not the configured one.
    LedgerOtherAddress = "ledger_other_address", AfterFix, [NotSpent, Credit, GasOnly, Spent], "Use the Ledger, or the account, that DRAIN_LEDGER_ADDRESS names.";
    /// The Ledger does not let the configured path be used.
    LedgerPathRefused = "ledger_path_refused", AfterFix, [NotSpent, Credit, GasOnly, Spent], "A person corrects DRAIN_LEDGER_PATH.";
    /// The Ledger's answer makes no sense.
    LedgerGarbled = "ledger_garbled", AfterFix, [NotSpent, Credit, GasOnly, Spent], "Unplug the Ledger and plug it in again; report it if it happens again.";
    /// The Ledger answered with a status that is not known.
    LedgerStatus = "ledger_status", AfterFix, [NotSpent, Credit, GasOnly, Spent], "Follow the message; report the status if it happens again.";
    /// USB cannot be used here.
    LedgerNoUsb = "ledger_no_usb", AfterFix, [NotSpent, Credit, GasOnly, Spent], "A person makes USB available to this process.";
    /// Another process owns this wallet, and does not share it for this.
    WalletInUse = "wallet_in_use", AfterFix, [NotSpent], "End the process that the message names, or do it there.";
    /// The process that has the wallet speaks another version of the socket's protocol.
    IncompatibleVersion = "incompatible_version", AfterFix, [NotSpent], "Update the drain-mcp that the message names.";
    /// The process that ran the call ended before it answered.
    OwnerLost = "owner_lost", No, [NotSpent, Unknown], "Look at the channel, or at drain_channels, before any other paid call.";
    /// The fleet's server cannot be reached, or refuses everybody for now.
    ServerUnavailable = "server_unavailable", Safe, [NotSpent], "Call again in a while; a person looks at the server.";
    /// The fleet's server does not take this agent's token.
    TokenRefused = "token_refused", AfterFix, [NotSpent], "A person makes a new token with drain-mcp agents add.";
    /// No provider of that id or wallet is in the directory.
    UnknownProvider = "unknown_provider", AfterFix, [NotSpent], "Take an id from drain_providers.";
    /// Several listings share the wallet address that was given.
    AmbiguousProvider = "ambiguous_provider", AfterFix, [NotSpent], "Use one of the ids that the message names.";
    /// It is paid by another protocol, or asks for payment in a way that is not paid.
    NotPayable = "not_payable", No, [NotSpent], "Use the tool that the message names, or another provider.";
    /// The provider does not answer, or answers nonsense, before any money moved.
    ProviderUnreachable = "provider_unreachable", Safe, [NotSpent, Credit], "Call again, or use another provider.";
    /// The provider's wallet, chain or contract is not what the directory says.
    ProviderMismatch = "provider_mismatch", No, [NotSpent], "Use another provider.";
    /// URL, wallet or price of a provider changed since it was pinned (M14): a question for a person.
    ProviderChanged = "provider_changed", AfterFix, [NotSpent], "A person who knows that the change is right runs drain-mcp providers --trust ID.";
    /// The provider's URL is not allowed (M14).
    UrlRefused = "url_refused", AfterFix, [NotSpent], "Use another provider.";
    /// The provider does not offer the model.
    UnknownModel = "unknown_model", AfterFix, [NotSpent], "Use one of the models that the message names.";
    /// The duration is outside of what the provider accepts.
    DurationRefused = "duration_refused", AfterFix, [NotSpent], "Use a duration within the limits that the message names.";
    /// The wallet holds too little USDC.
    InsufficientUsdc = "insufficient_usdc", AfterFix, [NotSpent, Spent, GasOnly], "A person sends native USDC to the wallet, or open with less.";
    /// The wallet holds too little POL for gas.
    InsufficientGas = "insufficient_gas", AfterFix, [NotSpent, Spent, GasOnly], "A person sends POL to the wallet.";
    /// A limit that only a person raises (M3, M5, M9).
    LimitReached = "limit_reached", AfterFix, [NotSpent, Credit, Spent, GasOnly], "Ask for less, or wait as long as the message says; only a person raises a limit.";
    /// A person must say yes first (M5).
    ApprovalNeeded = "approval_needed", AfterFix, [NotSpent, Credit], "A person answers with the command that the message names; then the same call again.";
    /// A person said no.
    ApprovalDenied = "approval_denied", No, [NotSpent, Credit], "Do without it, or use another provider.";
    /// The operator's lists do not allow to pay this provider, or its category.
    NotAllowed = "not_allowed", AfterFix, [NotSpent], "Use another provider; only a person changes the lists.";
    /// No open channel pays for the request, and nobody allowed to open one.
    ChannelNeeded = "channel_needed", AfterFix, [NotSpent], "Call again with maxDeposit, or open a channel with drain_open_channel.";
    /// No channel of that id is known.
    UnknownChannel = "unknown_channel", AfterFix, [NotSpent], "Take an id from drain_channels.";
    /// The channel is not open any more, or not yet.
    ChannelNotOpen = "channel_not_open", AfterFix, [NotSpent, Credit], "Use another channel, or open one.";
    /// The channel is at or near its expiry.
    ChannelExpired = "channel_expired", AfterFix, [NotSpent], "Get the rest back with drain_close_channel, and open a new one.";
    /// What is left of the channel does not cover the request.
    ChannelExhausted = "channel_exhausted", AfterFix, [NotSpent, Credit], "Ask for a shorter answer, or close this channel and open one with a larger deposit.";
    /// The channel expires later: a plain close is not possible yet.
    NotExpired = "not_expired", AfterFix, [NotSpent], "Close with drain_cooperative_close, or after the expiry that the message names.";
    /// The same requestId stands for another request.
    IdempotencyConflict = "idempotency_conflict", AfterFix, [NotSpent], "Give each request a requestId of its own.";
    /// This request was sent before under the same requestId, and what became of it is not known.
    RequestUnknown = "request_unknown", No, [Reserved, Unknown], "It is never sent again by itself. Its receipt tells when it is known: drain_budget.";
    /// This request was answered before under the same requestId, and the answer is not kept any more.
    AnswerNotKept = "answer_not_kept", No, [Spent], "Where the answer is still wanted, use another requestId: that is paid anew.";
    /// No receipt of that name is known to the caller.
    UnknownReceipt = "unknown_receipt", AfterFix, [NotSpent], "List the last receipts with drain_budget.";
    /// Too many requests wait on this channel.
    Busy = "busy", Safe, [NotSpent], "Call again in a moment.";
    /// The provider refused the voucher or the request before doing any work.
    ProviderRefused = "provider_refused", AfterFix, [Credit], "Follow the message: correct the request, or use another channel or provider.";
    /// The provider failed after it got a voucher.
    ProviderFailed = "provider_failed", No, [Reserved], "Do not repeat blindly: another call may be charged too. The reservation ends with the next answer.";
    /// No usable answer came within the limits of time and size.
    AnswerLost = "answer_lost", No, [Reserved, Spent], "Do not repeat blindly: another call may be charged too. A channel's reservation ends with the next answer, a payment's when the chain tells.";
    /// The provider insists on more than price, usage and bound explain.
    ProviderOffence = "provider_offence", No, [NotSpent, Credit], "Close this channel with drain_cooperative_close and use another provider.";
    /// The provider's record is too bad: only a person lets it be opened or paid again.
    ProviderSetAside = "provider_set_aside", AfterFix, [NotSpent, Credit], "Use another provider; a person lifts it with drain-mcp providers --trust ID.";
    /// The directory does not answer and nothing is cached.
    DirectoryUnavailable = "directory_unavailable", Safe, [NotSpent], "Call again in a while.";
    /// No RPC endpoint gives a usable answer.
    ChainUnavailable = "chain_unavailable", Safe, [NotSpent, Credit, Spent, GasOnly, Unknown, Pending], "Call again when an RPC endpoint answers; a person checks DRAIN_RPC_URL.";
    /// The RPC endpoint serves another chain.
    WrongChain = "wrong_chain", AfterFix, [NotSpent], "A person corrects DRAIN_RPC_URL or DRAIN_CHAIN_ID.";
    /// The wallet promises nothing more until a person lifts that (M11).
    WalletFrozen = "wallet_frozen", No, [NotSpent, Credit, Spent, GasOnly], "A person lifts it with drain-mcp wallet unfreeze. Closes go on.";
    /// The contract's token, code or owner is not what the table says (M8): opens and closes are frozen.
    ContractFrozen = "contract_frozen", No, [NotSpent, Spent, GasOnly], "A person looks at the contract before anything is opened or closed.";
    /// A transaction was mined and reverted, or would.
    TransactionReverted = "transaction_reverted", AfterFix, [GasOnly, Spent, NotSpent], "Follow the message; what was to be sent did not happen.";
    /// A transaction is on its way; its outcome is not final yet.
    TransactionPending = "transaction_pending", Safe, [NotSpent, Pending, Unknown, Spent], "The same call later joins what is on its way and never pays twice.";
    /// A person has not pressed on the signing device yet, or what follows is not over: the same call collects it.
    WaitingForDevice = "waiting_for_device", Safe, [Pending], "Press on the device; then the same call again.";
    /// The provider's close answer breaks a rule (M6).
    CloseRefused = "close_refused", AfterFix, [NotSpent], "Wait for expiry and use drain_close_channel.";
    /// The gas of a close would cost more than it brings back (M10).
    NotWorthIt = "not_worth_it", Safe, [NotSpent], "Nothing: it is tried again when gas is cheaper.";
    /// The durable record cannot be written: nothing is signed (M1).
    JournalFailed = "journal_failed", AfterFix, [NotSpent, Credit, Unknown, Pending], "A person looks at the disk and the file that the message names.";
    /// The caller cancelled.
    Cancelled = "cancelled", No, [NotSpent, Unknown], "Look with drain_channels where things stand, and for an answer that was paid for with drain_budget.";
    /// A fault of ours.
    Internal = "internal", No, [NotSpent, Unknown, Credit], "Report it with the message; look with drain_channels before any other paid call.";
}

impl From<&SignerError> for Code {
    /// Where a person at a device can act, the device's own code.
    fn from(error: &SignerError) -> Self {
        let SignerError::Device(problem) = error else { return Self::SignerFailed };
        Self::ALL.iter().copied().find(|code| code.as_str() == problem.code()).unwrap_or(Self::SignerFailed)
    }
}
