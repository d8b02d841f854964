//! What a person must hear about the device.

use drain_protocol::Address;

/// Why the device did not sign. Each text says what to do next; nothing was signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceProblem {
    /// No device.
    #[error("no Ledger is connected; plug it in, unlock it, open its Ethereum app, then try again")]
    Absent,
    /// The device asks for its PIN.
    #[error("the Ledger is locked; unlock it with its PIN, open its Ethereum app, then try again")]
    Locked,
    /// Another app than Ethereum is open, or none.
    #[error("the Ledger shows {open}; open its Ethereum app, then try again")]
    WrongApp {
        /// Which app, as the device calls it.
        open: String,
    },
    /// The app does not know what is needed.
    #[error(
        "the Ledger's Ethereum app is {found}, at least {needed} is needed; update it in Ledger Live, then try again"
    )]
    AppTooOld {
        /// The version found.
        found: String,
        /// The lowest that works.
        needed: &'static str,
    },
    /// The app's default: it signs nothing that it cannot explain.
    #[error(
        "the Ledger refuses what it cannot show in full; in its Ethereum app open Settings and switch on Blind signing (the device then signs calls and messages of which it shows a hash only: compare what drain-mcp says it asks for), then try again"
    )]
    BlindSigningOff,
    /// Its app has no such transactions.
    #[error(
        "the Ledger's Ethereum app cannot sign transactions of Tempo; another service, or a wallet with a key of its own, can be used instead"
    )]
    NoTempo,
    /// The person said no.
    #[error("it was rejected on the Ledger; if that was not meant, try again and approve it")]
    Rejected,
    /// Another program has the device, or an earlier request waits for its press.
    #[error(
        "the Ledger is in use by another program or an earlier request; close Ledger Live and wallets that use it, answer what its screen asks, then try again"
    )]
    Busy,
    /// The system does not let this user open the device.
    #[error(
        "this user may not open the Ledger's USB device; install the udev rule that drain-mcp doctor prints, plug the device in again, then try again"
    )]
    NotAllowed,
    /// The connection ended in the middle.
    #[error(
        "the Ledger was unplugged, or its connection ended, before it answered; plug it in, open its Ethereum app, then try again"
    )]
    Unplugged,
    /// Nobody pressed, or the device hangs.
    #[error(
        "the Ledger gave no answer within {seconds} s; reject what its screen may still show, then try again when somebody is there"
    )]
    NoAnswer {
        /// How long it was waited for.
        seconds: u64,
    },
    /// Other recovery words, another path, another device.
    #[error(
        "the Ledger's account at {path} is {found}, the configured one is {configured}; connect the right device, or correct DRAIN_LEDGER_ADDRESS or DRAIN_LEDGER_PATH (drain-mcp wallet ledger list shows them)"
    )]
    OtherAddress {
        /// Where it was looked for.
        path: String,
        /// What is configured.
        configured: Address,
        /// What the device has.
        found: Address,
    },
    /// The device does not let the path be used.
    #[error(
        "the Ledger's Ethereum app does not allow the path {path}; correct DRAIN_LEDGER_PATH (drain-mcp wallet ledger list shows usual ones)"
    )]
    PathRefused {
        /// The path.
        path: String,
    },
    /// An answer that makes no sense.
    #[error(
        "the Ledger's answer makes no sense ({problem}); unplug it, plug it in again, open its Ethereum app, then try again"
    )]
    Garbled {
        /// What is wrong with it.
        problem: String,
    },
    /// A status that is not known here.
    #[error(
        "the Ledger answered with status {status:04x}; unplug it, plug it in again, open its Ethereum app, then try again"
    )]
    Status {
        /// The status word.
        status: u16,
    },
    /// USB itself does not work here, or the program for it cannot be started.
    #[error("USB cannot be used here ({problem}); on a machine with USB, check that this user may use it")]
    NoUsb {
        /// What was said.
        problem: String,
    },
}

impl DeviceProblem {
    /// A stable name, for metrics, logs and callers.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Absent => "ledger_absent",
            Self::Locked => "ledger_locked",
            Self::WrongApp { .. } => "ledger_wrong_app",
            Self::AppTooOld { .. } => "ledger_app_too_old",
            Self::BlindSigningOff => "ledger_blind_signing_off",
            Self::NoTempo => "ledger_no_tempo",
            Self::Rejected => "ledger_rejected",
            Self::Busy => "ledger_busy",
            Self::NotAllowed => "ledger_not_allowed",
            Self::Unplugged => "ledger_unplugged",
            Self::NoAnswer { .. } => "ledger_no_answer",
            Self::OtherAddress { .. } => "ledger_other_address",
            Self::PathRefused { .. } => "ledger_path_refused",
            Self::Garbled { .. } => "ledger_garbled",
            Self::Status { .. } => "ledger_status",
            Self::NoUsb { .. } => "ledger_no_usb",
        }
    }

    #[cfg(feature = "ledger")]
    pub(crate) fn garbled(problem: impl Into<String>) -> Self {
        Self::Garbled { problem: problem.into() }
    }
}
