//! The way of one payment without a channel: leave, signature, send, outcome.
//!
//! The order is always: authorize, durable, sign, send (M1). Everything that can be refused is refused before. A payment is
//! made once: whatever comes back for it, a 402 too, is no reason to make another (M15).

use std::time::Instant;

use drain_protocol::demand::{self, Offer, Protocol};
use drain_protocol::text::{one_line, quoted};
use drain_protocol::{Address, B256, PaymentOrder, Usdc};
use reqwest::StatusCode;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::underway::Underway;
use crate::actors::services::{Purse, Services, ask};
use crate::actors::signer::{SignPayment, SignerActor};
use crate::answers::AnswerId;
use crate::api::{Body, KeptAnswer, Payment, PaymentReply, Progress};
use crate::error::{Code, Failure, Money};
use crate::http_client::HttpError;
use crate::journal::{Approval, AuthorizedPayment, JournalError, PaymentEnd, PaymentId, PaymentIntent};
use crate::metrics::{self, PaymentOutcome};
use crate::payment::{Answer, WebRequest, request};
use crate::points::{Point, reach};
use crate::policy::repeat::sha256;

/// What a try led to.
#[derive(Debug)]
pub enum Bought {
    /// An answer, paid for or on its way to be.
    Done(Box<PaymentReply>),
    /// Nothing was signed: a person must say yes first (M5).
    AskPerson(Box<Approval>),
}

/// One request that is about to be paid.
#[derive(Debug)]
pub struct Purchase {
    pub services: Services,
    pub purse: Purse,
    pub signer: actix::Addr<SignerActor>,
    pub request: WebRequest,
    pub offer: Offer,
    pub intent: PaymentIntent,
    pub progress: Progress,
}

/// A payment that was authorized.
struct Paying {
    of: Purchase,
    id: PaymentId,
    spent_before: Usdc,
    /// Over Tempo the one that was signed.
    transaction: Option<B256>,
    _underway: Underway,
}

impl Purchase {
    /// Pays, where the journal gives leave. What was signed goes on to its end and is recorded, whoever leaves meanwhile.
    pub async fn buy(self, now: u64) -> Result<Bought, Failure> {
        let gone = CancellationToken::new();
        let _waited_for = gone.clone().drop_guard();
        let done = tokio::spawn(self.decided(now, gone)).await;
        done.unwrap_or_else(|panic| Err(Failure::internal(panic.to_string()).with_money(Money::Unknown)))
    }

    async fn decided(self, now: u64, gone: CancellationToken) -> Result<Bought, Failure> {
        let leave = match self.purse.journal.authorize_payment(self.intent.clone(), now).await {
            Err(JournalError::NeedsPerson) => {
                let subject = self.intent.subject();
                let asked = super::super::person::question(&self.services, &self.purse, subject).await?;
                return Ok(Bought::AskPerson(Box::new(asked)));
            }
            leave => leave?,
        };
        reach(Point::PaymentAuthorized);
        let underway = self.purse.underway.begin(leave.id());
        let paying = Paying {
            id: leave.id(),
            spent_before: leave.spent_today(),
            of: self,
            transaction: None,
            _underway: underway,
        };
        paying.pay(leave, gone).await.map(|reply| Bought::Done(Box::new(reply)))
    }
}

impl Paying {
    async fn pay(mut self, leave: AuthorizedPayment, gone: CancellationToken) -> Result<PaymentReply, Failure> {
        let order = *leave.order();
        // By which time it is valid, and since when.
        let (now, since) = (leave.now(), Instant::now());
        if gone.is_cancelled() {
            self.ended(PaymentEnd::Unsent { note: "nobody waits for it".into() }, PaymentOutcome::Unsent);
            return Err(Failure::unspent(Code::Cancelled, "Nobody waits for this request any more", "Call again."));
        }
        let sign = SignPayment { leave, progress: self.of.progress.clone(), gone };
        let signature = match ask(&self.of.signer, sign).await {
            Ok(signature) => signature,
            Err(failure) => {
                // Nothing left, whatever became of the signer.
                self.ended(PaymentEnd::Unsent { note: failure.code.as_str().into() }, PaymentOutcome::Unsent);
                return Err(failure.with_money(Money::NotSpent));
            }
        };
        reach(Point::PaymentSigned);
        if let PaymentOrder::Tempo(order) = &order {
            self.transaction = order.hash(&signature);
        }
        if let Some(hash) = self.transaction
            && let Err(error) = self.of.purse.journal.payment_signed(self.id, hash).await
        {
            self.ended(
                PaymentEnd::Unsent { note: "its transaction could not be recorded".into() },
                PaymentOutcome::Unsent,
            );
            return Err(Failure::from(error).with_money(Money::NotSpent));
        }
        // A person's press may have taken longer than the payment is good for.
        if now + since.elapsed().as_secs() >= order.transfer().valid_before {
            self.ended(PaymentEnd::Unsent { note: "signed too late".into() }, PaymentOutcome::Unsent);
            return Err(Failure::unspent(
                Code::LedgerNoAnswer,
                "the payment was signed when its time was over, and was not sent",
                "Call again, and confirm sooner.",
            ));
        }
        let (id, amount, host) = (self.id, self.amount(), &self.of.intent.host);
        tracing::info!(payment = %id, host, %amount, payee = %self.payee(), "payment signed");
        self.of.progress.say(format!("sent to {} ({amount} USDC, receipt {id})", quoted(host, 100)));
        let config = &self.of.services.config.requests;
        let limits = request::limits(config.timeout, config.max_answer_bytes);
        let credential = self.of.offer.credential(&order, &signature);
        let begun = Instant::now();
        let answer = self.of.request.send(&self.of.services.http, Some(&credential), limits).await;
        drop(credential);
        metrics::payment_took(self.of.offer.protocol, begun.elapsed());
        reach(Point::PaymentSent);
        match answer {
            Ok(answer) => self.answered(answer).await,
            Err(error) => Err(self.lost(&error)),
        }
    }

    async fn answered(self, answer: Answer) -> Result<PaymentReply, Failure> {
        let protocol = self.of.offer.protocol;
        let receipt = demand::receipt(protocol, |name| answer.values(name));
        let taken = receipt.as_ref().filter(|receipt| receipt.success);
        // A body that was cut is no whole answer, whatever its status says.
        let good = answer.status.is_success() && answer.cut.is_none();
        let mut kept = kept(&answer);
        let hash = good.then(|| sha256(kept.text().as_bytes()));
        let outcome = match (taken.is_some(), good) {
            (true, true) => PaymentOutcome::Answered,
            (true, false) => PaymentOutcome::Failed,
            (false, true) => PaymentOutcome::NoReceipt,
            (false, false) => PaymentOutcome::Lost,
        };
        let transaction = self.transaction.or_else(|| taken.and_then(|receipt| receipt.transaction));
        let end = if taken.is_some() {
            PaymentEnd::Taken { transaction, answer: hash }
        } else {
            PaymentEnd::Unknown { answer: hash, note: said(&answer, receipt.is_some()) }
        };
        if good {
            kept.cost = if taken.is_some() { self.amount() } else { Usdc::ZERO };
            self.keep(&kept).await;
        }
        let failed = (!good).then(|| self.failed(&answer, taken.is_some()));
        let recorded = self.ended(end, outcome);
        if let Some(failure) = failed {
            return Err(failure);
        }
        let mut notes = Vec::new();
        if taken.is_none() {
            notes.push(
                "the server did not say that it took the money: the amount stays reserved until the chain tells".into(),
            );
        }
        if !recorded {
            notes.push("the outcome could not be recorded; the chain tells it later".into());
        }
        let spent_today = self.spent_before.saturating_add(kept.cost);
        Ok(PaymentReply {
            status: answer.status.as_u16(),
            content_type: answer.content_type(),
            body: answer.shown(),
            payment: Some(Payment {
                receipt: self.id.to_string(),
                protocol: protocol.as_str().into(),
                state: if taken.is_some() { "paid" } else { "reserved" }.into(),
                amount: self.amount(),
                payee: self.payee().to_string(),
                host: self.of.intent.host.clone(),
                chain_id: self.of.offer.chain_id,
                transaction: transaction.map(|hash| format!("{hash:#x}")),
                spent_today,
            }),
            demand: None,
            notes,
        })
    }

    /// No answer to what was paid for. The status alone never tells whether the money is gone.
    fn failed(&self, answer: &Answer, taken: bool) -> Failure {
        let host = quoted(&self.of.intent.host, 100);
        let what = match (&answer.cut, answer.status) {
            (Some(cut), _) => format!("{host} began an answer and did not end it: {cut}"),
            (None, StatusCode::PAYMENT_REQUIRED) => {
                format!("{host} was paid and asks for payment again, which is not made: {}", words(answer))
            }
            (None, status) => format!("{host} was paid and answered HTTP {}: {}", status.as_u16(), words(answer)),
        };
        let receipt = self.id.to_string();
        let money = match taken {
            true => Money::Spent { receipt, amount: self.amount() },
            false => Money::Reserved { receipt, at_most: self.amount() },
        };
        Failure { code: Code::AnswerLost, message: what, money, next: self.next() }
    }

    fn lost(&self, error: &HttpError) -> Failure {
        let (host, id) = (quoted(&self.of.intent.host, 100), self.id);
        if error.before_sent() {
            self.ended(PaymentEnd::Unsent { note: "not sent".into() }, PaymentOutcome::Unsent);
            return Failure::unspent(
                Code::ProviderUnreachable,
                format!("{host} was not reached with the payment: {error}"),
                "Call again in a while.",
            );
        }
        let end = PaymentEnd::Unknown { answer: None, note: one_line(&error.to_string(), 200) };
        self.ended(end, PaymentOutcome::Lost);
        Failure {
            code: Code::AnswerLost,
            message: format!("{host} has the payment and gave no usable answer: {error}"),
            money: Money::Reserved { receipt: id.to_string(), at_most: self.amount() },
            next: self.next(),
        }
    }

    fn next(&self) -> String {
        format!(
            "Do not count on a free repeat: another call is another payment. drain_budget with receipt {} tells what the chain says; \
             a payment that is never taken is free again when its time is over.",
            self.id
        )
    }

    /// The most that it costs: gas of Tempo's is known when the chain has told.
    fn amount(&self) -> Usdc {
        self.of.intent.order.at_most()
    }

    fn payee(&self) -> Address {
        self.of.intent.order.transfer().to
    }

    /// Records how it ended, and has the chain asked. False where it could not be recorded.
    fn ended(&self, end: PaymentEnd, outcome: PaymentOutcome) -> bool {
        metrics::payment(self.of.offer.protocol, outcome);
        // What gas costs over Tempo the chain tells, and a counter cannot be corrected.
        let counts = self.of.offer.protocol != Protocol::MppTempo;
        if counts && matches!(end, PaymentEnd::Taken { .. }) {
            metrics::spent(&self.of.intent.agent, &self.of.intent.payee().key(), self.amount());
        }
        let recorded = self.of.purse.journal.payment_ended_later(self.id, end, self.of.services.clock.now());
        if let Err(error) = &recorded {
            tracing::warn!(payment = %self.id, %error, "a payment's outcome could not be recorded; the chain tells it");
        }
        reach(Point::PaymentEnded);
        self.of.purse.paid.notify_one();
        recorded.is_ok()
    }

    /// Before it is given to a caller who may have gone.
    async fn keep(&self, answer: &KeptAnswer) {
        let id = AnswerId {
            receipt: self.id.to_string(),
            // Never another payment's: the journal holds each once, and an account's token too, also where a journal was lost.
            channel: format!("{:#x}", self.of.intent.order.transfer().nonce),
            agent: self.of.intent.agent.clone(),
        };
        if let Err(error) = self.of.purse.answers.keep(id, answer).await {
            tracing::warn!(payment = %self.id, %error, "an answer could not be kept");
        }
    }
}

/// An answer as it is kept.
fn kept(answer: &Answer) -> KeptAnswer {
    let (content, base64) = match answer.shown() {
        Body::Text(text) => (text, false),
        Body::Base64(text) => (text, true),
    };
    KeptAnswer {
        content,
        raw: json!({ "status": answer.status.as_u16(), "content_type": answer.content_type(), "base64": base64 }),
        finish_reason: None,
        max_tokens_sent: None,
        cost: Usdc::ZERO,
        disputed: Usdc::ZERO,
        notes: Vec::new(),
    }
}

/// The reverse of [`kept`]: status, content type and body.
pub(in crate::actors) fn unkept(kept: &KeptAnswer) -> Option<(u16, Option<String>, Body)> {
    let status = kept.raw.get("status")?.as_u64().and_then(|status| u16::try_from(status).ok())?;
    let content_type = kept.raw.get("content_type").and_then(|kind| kind.as_str()).map(str::to_owned);
    let body = match kept.raw.get("base64")?.as_bool()? {
        true => Body::Base64(kept.content.clone()),
        false => Body::Text(kept.content.clone()),
    };
    Some((status, content_type, body))
}

/// The beginning of what a server says (untrusted).
fn words(answer: &Answer) -> String {
    quoted(&String::from_utf8_lossy(&answer.body), 300)
}

fn said(answer: &Answer, refused: bool) -> String {
    let status = answer.status.as_u16();
    match refused {
        true => format!("HTTP {status}, and it says that it could not take the money"),
        false => format!("HTTP {status} without a receipt"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_kept_and_given_again_as_it_was() {
        let answer = |body: &[u8]| Answer {
            status: StatusCode::CREATED,
            headers: [(reqwest::header::CONTENT_TYPE, reqwest::header::HeaderValue::from_static("image/png"))]
                .into_iter()
                .collect(),
            body: body.to_vec(),
            cut: None,
        };
        for body in [b"text".as_slice(), &[0xff, 0x00, 0x80]] {
            let before = answer(body);
            let again = unkept(&kept(&before));
            assert_eq!(again, Some((201, Some("image/png".into()), before.shown())));
        }
    }
}
