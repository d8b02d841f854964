//! A key in this process's memory.

use std::fmt;
use std::time::Duration;

use alloy::consensus::SignableTransaction;
use alloy::primitives::Signature;
use drain_protocol::{Address, B256, TempoTransfer};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use secp256k1::SECP256K1;

use crate::error::SignerError;
use crate::prompt::Prompt;
use crate::request::{Message, SignedTransaction, TransactionRequest};
use crate::secret::Secret;
use crate::{Backend, Capabilities};

/// Signs with a key in memory, by libsecp256k1: RFC 6979 nonces, low s, about 30 us a signature.
///
/// The key is erased on drop ([`Secret`]). Copies that the compiler or the system made on the way (registers, stack,
/// swap) are not in our hand: keep little money on such a key.
pub struct LocalBackend {
    secret: Secret,
    address: Address,
    kind: &'static str,
}

impl LocalBackend {
    /// A backend for a key that came from the environment or a phrase.
    pub fn new(secret: Secret) -> Self {
        Self::of_kind(secret, "local")
    }

    pub(crate) fn of_kind(secret: Secret, kind: &'static str) -> Self {
        Self { address: secret.address(), secret, kind }
    }

    /// Private: whoever can have any hash signed has the key.
    fn sign(&self, digest: B256) -> Result<(Signature, [u8; 65]), SignerError> {
        let signature = SECP256K1.sign_ecdsa_recoverable(&secp256k1::Message::from_digest(digest.0), self.secret.key());
        let (id, compact) = signature.serialize_compact();
        let odd = match i32::from(id) {
            0 => false,
            1 => true,
            // r above the group's order: happens once in 2^127, and the contract could not verify it.
            _ => {
                return Err(SignerError::BadSignature {
                    kind: self.kind,
                    expected: self.address,
                    problem: "its r does not fit v 27 or 28".into(),
                });
            }
        };
        let mut bytes = [0u8; 65];
        bytes[..64].copy_from_slice(&compact);
        bytes[64] = 27 + u8::from(odd);
        Ok((Signature::from_bytes_and_parity(&compact, odd), bytes))
    }
}

impl Backend for LocalBackend {
    fn sign_message(&self, message: &Message, _: &Prompt) -> BoxFuture<'_, Result<[u8; 65], SignerError>> {
        ready(self.sign(message.digest()).map(|(_, bytes)| bytes)).boxed()
    }

    fn sign_transaction(
        &self,
        request: &TransactionRequest,
        _: &Prompt,
    ) -> BoxFuture<'_, Result<SignedTransaction, SignerError>> {
        let unsigned = request.unsigned();
        let signed = self.sign(unsigned.signature_hash());
        ready(signed.map(|(signature, _)| SignedTransaction::assemble(unsigned, signature))).boxed()
    }

    fn sign_tempo(&self, order: &TempoTransfer, _: &Prompt) -> BoxFuture<'_, Result<[u8; 65], SignerError>> {
        ready(self.sign(order.signing_hash()).map(|(_, bytes)| bytes)).boxed()
    }

    fn address(&self) -> Address {
        self.address
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: self.kind,
            interactive: false,
            clear_signing: false,
            tempo: true,
            in_process: true,
            typical_latency: Duration::from_micros(50),
            concurrency: usize::MAX,
            rate_limit: None,
        }
    }
}

impl fmt::Debug for LocalBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalBackend").field("kind", &self.kind).field("address", &self.address).finish_non_exhaustive()
    }
}
