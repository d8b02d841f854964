//! The backend: typed requests in, one question to KMS each.

use std::fmt;
use std::time::Duration;

use alloy::consensus::SignableTransaction;
use alloy::primitives::Signature;
use alloy::signers::Signer as _;
use alloy_signer_aws::aws_sdk_kms::Client;
use alloy_signer_aws::{AwsSigner, AwsSignerError};
use drain_protocol::{Address, B256, TempoTransfer};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{OnceCell, Semaphore};

use super::answers::{Question, Trouble};
use super::patience::Patience;
use super::{KmsProblem, KmsSettings, client};
use crate::error::SignerError;
use crate::prompt::Prompt;
use crate::request::{Message, SignedTransaction, TransactionRequest};
use crate::{Backend, Capabilities};

const KIND: &str = "aws-kms";
/// What the credentials must be allowed to do, and nothing else.
pub(super) const GET_PUBLIC_KEY: &str = "kms:GetPublicKey";
const SIGN: &str = "kms:Sign";

/// Signs with a key in AWS KMS. Every signature is a request to the service.
pub struct KmsBackend {
    settings: KmsSettings,
    address: Address,
    service: Service,
    turns: Semaphore,
}

/// The connection and the key's public half: made once, kept while the backend lives.
#[derive(Default)]
struct Service {
    client: OnceCell<Client>,
    key: OnceCell<AwsSigner>,
}

impl KmsBackend {
    /// For an account that the operator knows: asks nobody now, so it starts where AWS cannot be reached. The key is held
    /// against the account before the first signature.
    pub fn of_account(settings: KmsSettings, address: Address) -> Self {
        Self::new(KmsSettings { address: Some(address), ..settings }, address, Service::default())
    }

    /// Reads the public key, which says the account, within `limit`.
    pub async fn connect(settings: KmsSettings, limit: Duration) -> Result<Self, SignerError> {
        let service = Service::default();
        let address = service.key(&settings, Patience::of(limit), &Prompt::nobody()).await?.address();
        Ok(Self::new(settings, address, service))
    }

    fn new(settings: KmsSettings, address: Address, service: Service) -> Self {
        // The semaphore's own bound is far above any use.
        let turns = Semaphore::new(settings.concurrency.clamp(1, Semaphore::MAX_PERMITS));
        Self { settings, address, service, turns }
    }

    /// Private: whoever can have any hash signed has the key.
    async fn sign(&self, digest: B256, prompt: Prompt) -> Result<Signature, SignerError> {
        let patience = Patience::of(self.settings.limit);
        let _turn = match patience.wait(self.turns.acquire()).await {
            // Who ends with the time passes the turn on too late to use it.
            Some(Ok(turn)) if !patience.is_over() => turn,
            _ => {
                let (waited, concurrency) = (patience.limit(), self.settings.concurrency);
                return Err(KmsProblem::Busy { waited, concurrency }.into());
            }
        };
        let key = self.service.key(&self.settings, patience, &prompt).await?;
        patience.insist(&prompt, || self.ask(key, digest)).await
    }

    /// One request. Low s, and v by recovery: a signature of another key does not pass.
    async fn ask(&self, key: &AwsSigner, digest: B256) -> Result<Signature, SignerError> {
        let question = Question { action: SIGN, settings: &self.settings };
        key.sign_hash(&digest).await.map_err(|error| match error {
            alloy::signers::Error::Other(error) => match error.downcast_ref::<AwsSignerError>() {
                Some(error) => self.failure(question.judge(error)),
                None => self.failure(Trouble::Nonsense("its form is not known".into())),
            },
            other => self.failure(Trouble::Nonsense(other.to_string())),
        })
    }

    fn failure(&self, trouble: Trouble) -> SignerError {
        match trouble {
            Trouble::Problem(problem) => problem.into(),
            Trouble::Nonsense(problem) => SignerError::BadSignature { kind: KIND, expected: self.address, problem },
        }
    }
}

impl Service {
    /// The key, read at the first call and held against the account that the operator expects.
    async fn key(
        &self,
        settings: &KmsSettings,
        patience: Patience,
        prompt: &Prompt,
    ) -> Result<&AwsSigner, SignerError> {
        let read = self.key.get_or_try_init(|| patience.insist(prompt, || self.read_key(settings)));
        // Another call may be reading it: that one's time is not this one's.
        let over = || KmsProblem::TimedOut { waited: patience.limit() }.into();
        patience.wait(read).await.unwrap_or_else(|| Err(over()))
    }

    async fn read_key(&self, settings: &KmsSettings) -> Result<AwsSigner, SignerError> {
        // Boxed: the SDK's futures are deep.
        let client = self.client.get_or_try_init(|| client::connect(settings).boxed()).await?.clone();
        let key = AwsSigner::new(client, settings.key.clone(), None).boxed().await;
        let question = Question { action: GET_PUBLIC_KEY, settings };
        let key = key.map_err(|error| match question.judge(&error) {
            Trouble::Problem(problem) => problem,
            // An answer without a key.
            Trouble::Nonsense(_) => KmsProblem::WrongKeyType { key: settings.key.clone() },
        })?;
        match settings.address {
            Some(expected) if expected != key.address() => {
                let (key_id, found) = (settings.key.clone(), key.address());
                Err(KmsProblem::WrongAddress { key: key_id, found, expected }.into())
            }
            _ => Ok(key),
        }
    }
}

impl Backend for KmsBackend {
    fn sign_message(&self, message: &Message, prompt: &Prompt) -> BoxFuture<'_, Result<[u8; 65], SignerError>> {
        let signed = self.sign(message.digest(), prompt.clone());
        async move { Ok(signed.await?.as_bytes()) }.boxed()
    }

    fn sign_transaction(
        &self,
        request: &TransactionRequest,
        prompt: &Prompt,
    ) -> BoxFuture<'_, Result<SignedTransaction, SignerError>> {
        let unsigned = request.unsigned();
        let signed = self.sign(unsigned.signature_hash(), prompt.clone());
        async move { Ok(SignedTransaction::assemble(unsigned, signed.await?)) }.boxed()
    }

    fn sign_tempo(&self, order: &TempoTransfer, prompt: &Prompt) -> BoxFuture<'_, Result<[u8; 65], SignerError>> {
        let signed = self.sign(order.signing_hash(), prompt.clone());
        async move { Ok(signed.await?.as_bytes()) }.boxed()
    }

    fn address(&self) -> Address {
        self.address
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: KIND,
            interactive: false,
            clear_signing: false,
            tempo: true,
            in_process: false,
            typical_latency: Duration::from_millis(50),
            concurrency: self.settings.concurrency,
            // AWS's default for all elliptic-curve keys of an account in a region together.
            rate_limit: Some(1_000),
        }
    }
}

impl fmt::Debug for KmsBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KmsBackend")
            .field("settings", &self.settings)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
