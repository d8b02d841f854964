//! The signer actor: the only way to a key. It takes leave from the journal, or one of the known transactions.

use std::time::Instant;

use actix::{Actor, Context, Handler, Message, ResponseFuture};
use drain_protocol::{PaymentOrder, SignedVoucher};
use drain_signers::{
    Prompt, SignedTransaction, Signer, SignerError, TempoRequest, TransactionRequest, TransferRequest, VoucherRequest,
};
use tokio_util::sync::CancellationToken;

use super::services::Counted;
use crate::api::Progress;
use crate::error::{Code, Failure};
use crate::journal::{Authorized, AuthorizedPayment};
use crate::metrics::{self, Signed};

/// Waiting requests. Signing is quick or, on a device, one at a time: more would only grow old here.
const MAILBOX: usize = 1_024;

/// One per key.
#[derive(Debug)]
pub struct SignerActor {
    signer: Signer,
}

impl SignerActor {
    /// Over a signer with its rules.
    pub const fn new(signer: Signer) -> Self {
        Self { signer }
    }
}

impl Counted for SignerActor {
    const KIND: Option<metrics::Actor> = Some(metrics::Actor::Signer);
}

impl Actor for SignerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

/// Sign the one voucher that the journal gave leave for (M1).
#[derive(Debug, Message)]
#[rtype(result = "Result<SignedVoucher, Failure>")]
pub struct SignVoucher {
    /// The journal's leave.
    pub leave: Authorized,
    /// Where an interactive backend says what a person must do.
    pub progress: Progress,
    /// Cancelled when nobody wants the voucher any more.
    pub gone: Option<CancellationToken>,
}

/// Sign a transaction that the journal planned (M7).
#[derive(Debug, Message)]
#[rtype(result = "Result<SignedTransaction, Failure>")]
pub struct SignTransaction {
    /// What to sign.
    pub request: TransactionRequest,
    /// Where an interactive backend says what a person must do.
    pub progress: Progress,
}

/// Sign the one transfer that the journal gave leave for (M1).
#[derive(Debug, Message)]
#[rtype(result = "Result<[u8; 65], Failure>")]
pub struct SignPayment {
    /// The journal's leave.
    pub leave: AuthorizedPayment,
    /// Where an interactive backend says what a person must do.
    pub progress: Progress,
    /// Cancelled when nobody wants the payment any more.
    pub gone: CancellationToken,
}

impl Handler<SignPayment> for SignerActor {
    type Result = ResponseFuture<Result<[u8; 65], Failure>>;

    fn handle(&mut self, SignPayment { leave, progress, gone }: SignPayment, _: &mut Self::Context) -> Self::Result {
        let signer = self.signer.clone();
        Box::pin(async move {
            let (prompt, begun) = (prompt(progress), Instant::now());
            let now = leave.now();
            let sign = async {
                match *leave.order() {
                    PaymentOrder::Authorization { asset, transfer } => {
                        signer.sign_transfer(&TransferRequest { asset, transfer, now }, &prompt).await
                    }
                    PaymentOrder::Tempo(order) => signer.sign_tempo(&TempoRequest { order, now }, &prompt).await,
                }
            };
            // Dropped, the backend asks no longer. What was never handed out is worth nothing to anybody.
            tokio::select! {
                biased;
                signed = sign => {
                    measured(&signer, Signed::Payment, begun, signed.as_ref().err());
                    signed.map_err(failure)
                }
                () = gone.cancelled() => Err(unwanted()),
            }
        })
    }
}

fn unwanted() -> Failure {
    Failure::unspent(Code::Cancelled, "Nobody waits for this request any more", "Call again if it is still wanted.")
}

impl Handler<SignVoucher> for SignerActor {
    type Result = ResponseFuture<Result<SignedVoucher, Failure>>;

    fn handle(&mut self, SignVoucher { leave, progress, gone }: SignVoucher, _: &mut Self::Context) -> Self::Result {
        let signer = self.signer.clone();
        let request = VoucherRequest { domain: leave.domain(), voucher: leave.voucher(), deposit: leave.deposit() };
        Box::pin(async move {
            let (prompt, begun) = (prompt(progress), Instant::now());
            let left = async {
                match gone {
                    Some(gone) => gone.cancelled().await,
                    None => std::future::pending().await,
                }
            };
            // Dropped, the backend asks no longer. What was never handed out is worth nothing to anybody.
            tokio::select! {
                biased;
                signed = signer.sign_voucher(&request, &prompt) => {
                    measured(&signer, Signed::Voucher, begun, signed.as_ref().err());
                    signed.map_err(failure)
                }
                () = left => Err(unwanted()),
            }
        })
    }
}

impl Handler<SignTransaction> for SignerActor {
    type Result = ResponseFuture<Result<SignedTransaction, Failure>>;

    fn handle(
        &mut self,
        SignTransaction { request, progress }: SignTransaction,
        _: &mut Self::Context,
    ) -> Self::Result {
        let signer = self.signer.clone();
        Box::pin(async move {
            let begun = Instant::now();
            let signed = signer.sign_transaction(&request, &prompt(progress)).await;
            measured(&signer, Signed::Transaction, begun, signed.as_ref().err());
            signed.map_err(failure)
        })
    }
}

fn measured(signer: &Signer, what: Signed, begun: Instant, error: Option<&SignerError>) {
    metrics::signature(signer.address(), signer.capabilities().kind, what, begun.elapsed(), error);
}

fn prompt(progress: Progress) -> Prompt {
    Prompt::new(move |text| progress.say(text))
}

fn failure(error: SignerError) -> Failure {
    Failure::unspent(
        Code::from(&error),
        format!("{error} ({})", error.code()),
        "Follow the text, then call again; nothing was signed.",
    )
}
