//! Signer backends for DRAIN: typed requests in, signatures out; the key never leaves.
//!
//! The way of a signature, in reading order:
//!
//! 1. [`request`]: what can be signed. A voucher, a transfer that pays for one request (of USDC, or over Tempo), or one of
//!    seven transactions; calldata and target are built there.
//! 2. [`rules`]: what is refused, whatever the layers above decided.
//! 3. [`signer`]: the only door for the runtime. Checks the rules, asks the backend, and checks what an outside backend
//!    answers by recovering the signer's address.
//! 4. A [`Backend`]: [`local`] (a key in memory, or opened by [`keystore`]), [`aws_kms`] (a key in a service), [`ledger`]
//!    (a key in a device that a person holds).
//!
//! There is no "sign this hash". [`secret`] and [`phrase`] hold keys on their way in; none has a way out except the
//! encrypted file that [`keystore::create`] writes (M12).

pub mod aws_kms;
pub mod error;
pub mod keystore;
pub mod ledger;
pub mod local;
pub mod phrase;
pub mod prompt;
pub mod request;
pub mod rules;
mod sealed;
pub mod secret;
pub mod signer;

#[cfg(test)]
mod tests;

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

use drain_protocol::{Address, TempoTransfer};
use futures::future::BoxFuture;

#[cfg(feature = "aws")]
pub use aws_kms::KmsBackend;
pub use aws_kms::{KmsProblem, KmsSettings};
pub use error::SignerError;
pub use ledger::{DeviceProblem, HdPath, LedgerSettings};
pub use local::LocalBackend;
pub use phrase::Phrase;
pub use prompt::Prompt;
pub use request::{
    Call, Message, SignedTransaction, TempoRequest, TransactionRequest, TransferRequest, VoucherRequest,
};
pub use rules::{Policy, Refusal};
pub use secret::Secret;
pub use signer::Signer;

/// Something that holds a key: memory, a device, a service.
///
/// A backend signs what it is asked, exactly; [`Signer`] holds the rules and checks the answer. Futures do not borrow the
/// request. A future that is dropped gives up waiting: what an interactive backend does then must not prompt twice.
pub trait Backend: Send + Sync + Debug {
    /// Signs a message: r||s||v with low s and v 27 or 28 (protocol.md section 2.8).
    fn sign_message(&self, message: &Message, prompt: &Prompt) -> BoxFuture<'_, Result<[u8; 65], SignerError>>;

    /// Signs exactly the transaction that [`TransactionRequest::unsigned`] gives.
    fn sign_transaction(
        &self,
        request: &TransactionRequest,
        prompt: &Prompt,
    ) -> BoxFuture<'_, Result<SignedTransaction, SignerError>>;

    /// Signs a transfer over Tempo, exactly: r||s||v as of a message. Only where [`Capabilities::tempo`] says so.
    fn sign_tempo(&self, order: &TempoTransfer, prompt: &Prompt) -> BoxFuture<'_, Result<[u8; 65], SignerError>>;

    /// The account whose key this is.
    fn address(&self) -> Address;

    /// How this backend behaves.
    fn capabilities(&self) -> Capabilities;
}

/// A backend behind a pointer.
pub type SharedBackend = Arc<dyn Backend>;

/// How a backend behaves, for timeouts, prompts and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Which kind, as metrics name it: `"local"`, `"keystore"`, `"ledger"`, `"aws-kms"`.
    pub kind: &'static str,
    /// A person must do something for each signature.
    pub interactive: bool,
    /// Shows a person what is signed, rather than its hash.
    pub clear_signing: bool,
    /// Signs transactions of Tempo's own type. A device's app does not know them.
    pub tempo: bool,
    /// Signs within this process. What comes from outside is checked by recovering the signer's address.
    pub in_process: bool,
    /// What a signature takes when nothing is wrong, the person's time included.
    pub typical_latency: Duration,
    /// How many signatures it makes at the same time; more wait their turn within the backend.
    pub concurrency: usize,
    /// Signatures a second that it allows; `None` without such a limit.
    pub rate_limit: Option<u32>,
}

impl fmt::Display for Capabilities {
    /// For people and agents: `ledger, a press for each signature, 1 at a time, about 10 s each`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {}",
            self.kind,
            if self.interactive { "a press for each signature" } else { "signs by itself" }
        )?;
        if self.in_process {
            return Ok(());
        }
        write!(f, ", {} at a time, about {} s each", self.concurrency, self.typical_latency.as_secs_f32())?;
        match self.rate_limit {
            Some(limit) => write!(f, ", at most {limit} a second"),
            None => Ok(()),
        }
    }
}
