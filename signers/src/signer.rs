//! The only door to a key for the rest of the software.

use std::sync::Arc;

use alloy::consensus::TxEip1559;
use alloy::consensus::transaction::{RlpEcdsaDecodableTx, SignerRecoverable};
use drain_protocol::voucher::verify_signature;
use drain_protocol::{Address, B256, SignedVoucher};

use crate::error::SignerError;
use crate::prompt::Prompt;
use crate::request::{Message, SignedTransaction, TempoRequest, TransactionRequest, TransferRequest, VoucherRequest};
use crate::rules::Policy;
use crate::{Backend, Capabilities, SharedBackend};

/// A backend with the rules that it is used by. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Signer {
    backend: SharedBackend,
    policy: Arc<Policy>,
}

impl Signer {
    /// A signer over a backend.
    pub fn new(backend: impl Backend + 'static, policy: Policy) -> Self {
        Self::from_shared(Arc::new(backend), policy)
    }

    /// A signer over a backend that is chosen at run time.
    pub fn from_shared(backend: SharedBackend, policy: Policy) -> Self {
        Self { backend, policy: Arc::new(policy) }
    }

    /// The account.
    pub fn address(&self) -> Address {
        self.backend.address()
    }

    /// How the backend behaves.
    pub fn capabilities(&self) -> Capabilities {
        self.backend.capabilities()
    }

    /// The rules.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Signs a voucher. The caller has it durable already (M1).
    pub async fn sign_voucher(&self, request: &VoucherRequest, prompt: &Prompt) -> Result<SignedVoucher, SignerError> {
        self.policy.check_voucher(request)?;
        let signature = self.sign_message((*request).into(), prompt).await?;
        Ok(SignedVoucher { voucher: request.voucher, signature })
    }

    /// Signs a transfer that pays for one request. The caller has it durable already (M1).
    pub async fn sign_transfer(&self, request: &TransferRequest, prompt: &Prompt) -> Result<[u8; 65], SignerError> {
        self.policy.check_transfer(request, self.address())?;
        self.sign_message((*request).into(), prompt).await
    }

    /// Signs a transfer that pays for one request over Tempo. The caller has it durable already (M1).
    pub async fn sign_tempo(&self, request: &TempoRequest, prompt: &Prompt) -> Result<[u8; 65], SignerError> {
        self.policy.check_tempo(request, self.address())?;
        let signature = self.backend.sign_tempo(&request.order, prompt).await?;
        self.check_signature(request.order.signing_hash(), signature)
    }

    async fn sign_message(&self, message: Message, prompt: &Prompt) -> Result<[u8; 65], SignerError> {
        let signature = self.backend.sign_message(&message, prompt).await?;
        self.check_signature(message.digest(), signature)
    }

    /// What comes from outside of this process is of this account, over what was asked.
    fn check_signature(&self, digest: B256, signature: [u8; 65]) -> Result<[u8; 65], SignerError> {
        if !self.capabilities().in_process {
            verify_signature(digest, &signature, self.address()).map_err(|e| self.bad_signature(e))?;
        }
        Ok(signature)
    }

    /// Signs a transaction. The caller journals it before it is broadcast (M7).
    pub async fn sign_transaction(
        &self,
        request: &TransactionRequest,
        prompt: &Prompt,
    ) -> Result<SignedTransaction, SignerError> {
        self.policy.check_transaction(request, self.address())?;
        let signed = self.backend.sign_transaction(request, prompt).await?;
        if !self.capabilities().in_process {
            self.check_signed_transaction(request, &signed)?;
        }
        Ok(signed)
    }

    /// The bytes hold what was asked, nothing after it, under their own hash, signed by the right account.
    fn check_signed_transaction(
        &self,
        request: &TransactionRequest,
        signed: &SignedTransaction,
    ) -> Result<(), SignerError> {
        let mut rest = signed.raw.as_ref();
        let decoded = TxEip1559::eip2718_decode(&mut rest).map_err(|e| self.bad_signature(e))?;
        if !rest.is_empty() || *decoded.tx() != request.unsigned() || *decoded.hash() != signed.hash {
            return Err(self.bad_signature("it is another transaction"));
        }
        // Refuses high s, as nodes do.
        match decoded.recover_signer() {
            Ok(signer) if signer == self.address() => Ok(()),
            Ok(_) => Err(self.bad_signature("somebody else signed it")),
            Err(e) => Err(self.bad_signature(e)),
        }
    }

    fn bad_signature(&self, problem: impl ToString) -> SignerError {
        let Capabilities { kind, .. } = self.capabilities();
        SignerError::BadSignature { kind, expected: self.address(), problem: problem.to_string() }
    }
}
