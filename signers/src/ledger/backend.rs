//! The Ledger as a backend.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::Signature;
use drain_protocol::{Address, TempoTransfer};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use tokio::sync::{Mutex, oneshot};
use tokio::time::timeout;

use super::path::HdPath;
use super::problem::DeviceProblem;
use super::session::{Session, Waits};
use super::transport::Connect;
use crate::error::SignerError;
use crate::prompt::Prompt;
use crate::request::{Message, SignedTransaction, TransactionRequest};
use crate::{Backend, Capabilities};

/// What a device does is asked for anew with each signature: nothing here goes stale, and starting needs no device.
///
/// One request at a time. Each runs in a task of its own that owns the connection: a caller who gives up while the device
/// asks leaves the task waiting for the press (its outcome is thrown away), and the next request waits for that. So no
/// prompt is on the screen twice, and no late answer meets another request.
pub struct LedgerBackend {
    device: Arc<Device>,
}

struct Device {
    connect: Connect,
    path: HdPath,
    address: Address,
    waits: Waits,
    turn: Arc<Mutex<()>>,
}

enum Job {
    Message(Message),
    Transaction(Box<TransactionRequest>),
}

type Outcome = Result<[u8; 65], DeviceProblem>;

impl LedgerBackend {
    /// The account `address`, which the device has at `path`. Contacts nothing.
    ///
    /// `patience` is for a person, from the question to the press, and for a request's turn.
    pub fn new(connect: Connect, path: HdPath, address: Address, patience: Duration) -> Self {
        Self::with_waits(connect, path, address, Waits::for_a_person(patience))
    }

    pub(crate) fn with_waits(connect: Connect, path: HdPath, address: Address, waits: Waits) -> Self {
        let turn = Arc::default();
        Self { device: Arc::new(Device { connect, path, address, waits, turn }) }
    }

    /// Must be called within a tokio runtime, as all of this is.
    async fn run(device: Arc<Device>, job: Job, prompt: Prompt) -> Result<[u8; 65], SignerError> {
        let turn = match device.turn.clone().try_lock_owned() {
            Ok(turn) => turn,
            Err(_) => {
                prompt
                    .show("the Ledger is busy with an earlier request: answer what its screen asks, this one is next");
                timeout(device.waits.person, device.turn.clone().lock_owned()).await.map_err(|_| DeviceProblem::Busy)?
            }
        };
        let (tell, told) = oneshot::channel();
        tokio::spawn(async move {
            let mut tell = tell;
            let outcome = device.serve(&job, &prompt, &mut tell).await;
            // The connection is gone; the next one may come before this outcome is read.
            drop(turn);
            let _ = tell.send(outcome);
        });
        // Dropped without a word: the runtime ends, or the task panicked.
        Ok(told.await.unwrap_or(Err(DeviceProblem::Unplugged))?)
    }
}

impl Device {
    async fn serve(&self, job: &Job, prompt: &Prompt, asker: &mut oneshot::Sender<Outcome>) -> Outcome {
        // Up to here nothing is on the screen: who gives up leaves nothing behind.
        let mut session = tokio::select! {
            ready = self.prepare(job) => ready?,
            () = asker.closed() => return Err(DeviceProblem::Unplugged),
        };
        match job {
            Job::Transaction(request) => session.transaction(request, prompt).await,
            Job::Message(message) => {
                // Not left in the middle: the app would mix half of a definition with the next one.
                let shown = session.define(message).await?;
                if asker.is_closed() {
                    return Err(DeviceProblem::Unplugged);
                }
                session.message(message, shown, prompt).await
            }
        }
    }

    /// All that needs no press and leaves no trace.
    ///
    /// Twice: the late answer to a prompt that was given up may have met one of these commands, and a fresh connection does
    /// not have it. Nothing of this request is on the screen yet.
    async fn prepare(&self, job: &Job) -> Result<Session, DeviceProblem> {
        match self.prepare_once(job).await {
            Err(DeviceProblem::Garbled { .. } | DeviceProblem::Rejected) => self.prepare_once(job).await,
            done => done,
        }
    }

    async fn prepare_once(&self, job: &Job) -> Result<Session, DeviceProblem> {
        let mut session = Session::open(&self.connect, &self.path, self.address, self.waits).await?;
        if let Job::Transaction(request) = job {
            session.check_transaction(request).await?;
        }
        Ok(session)
    }
}

impl Backend for LedgerBackend {
    fn sign_message(&self, message: &Message, prompt: &Prompt) -> BoxFuture<'_, Result<[u8; 65], SignerError>> {
        Self::run(self.device.clone(), Job::Message(*message), prompt.clone()).boxed()
    }

    fn sign_transaction(
        &self,
        request: &TransactionRequest,
        prompt: &Prompt,
    ) -> BoxFuture<'_, Result<SignedTransaction, SignerError>> {
        let unsigned = request.unsigned();
        let signed = Self::run(self.device.clone(), Job::Transaction(Box::new(request.clone())), prompt.clone());
        async move {
            let bytes = signed.await?;
            let signature =
                Signature::from_raw_array(&bytes).map_err(|e| DeviceProblem::Garbled { problem: e.to_string() })?;
            Ok(SignedTransaction::assemble(unsigned, signature))
        }
        .boxed()
    }

    /// The device's Ethereum app does not know Tempo's transactions.
    fn sign_tempo(&self, _: &TempoTransfer, _: &Prompt) -> BoxFuture<'_, Result<[u8; 65], SignerError>> {
        ready(Err(DeviceProblem::NoTempo.into())).boxed()
    }

    fn address(&self) -> Address {
        self.device.address
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: "ledger",
            interactive: true,
            clear_signing: true,
            tempo: false,
            in_process: false,
            typical_latency: Duration::from_secs(20),
            concurrency: 1,
            rate_limit: None,
        }
    }
}

impl fmt::Debug for LedgerBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Device { connect, path, address, .. } = &*self.device;
        f.debug_struct("LedgerBackend")
            .field("connect", connect)
            .field("path", path)
            .field("address", address)
            .finish_non_exhaustive()
    }
}
