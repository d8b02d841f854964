//! What the marketplace is told and asked, and what a person accepts of it.

use std::time::Duration;

use drain_protocol::marketplace::{FeedbackBody, FeedbackReason, PaidBy, TelemetryBody};
use drain_protocol::text::quoted;

use super::Local;
use crate::actors::channel::Turn;
use crate::api::{ChatReply, Feedback};
use crate::error::{Code, Failure};

impl Local {
    /// An agent's word on a provider, sent to the marketplace.
    pub(super) async fn feedback(&self, feedback: Feedback) -> Result<(), Failure> {
        let body = feedback_body(feedback)?;
        self.services.marketplace.feedback(&body).await.map_err(|error| {
            Failure::unspent(
                Code::DirectoryUnavailable,
                format!("the marketplace did not take the feedback: {error}"),
                "Go on without, or call again later.",
            )
        })
    }

    /// Asks the marketplace's gas station for POL.
    pub(super) async fn request_gas(&self) -> Result<String, Failure> {
        let answer = self.services.marketplace.request_gas(self.purse()?.address).await.map_err(|error| {
            Failure::unspent(
                Code::DirectoryUnavailable,
                format!("the gas station did not answer: {error}"),
                "Send about 0.10 POL to the wallet yourself.",
            )
        })?;
        if answer.success {
            return Ok(answer.tx_hash.unwrap_or_default());
        }
        Err(Failure::unspent(
            Code::InsufficientGas,
            format!("the gas station refused: {}", quoted(&answer.error.unwrap_or_default(), 300)),
            "It gives POL to wallets with 5 USDC; otherwise send about 0.10 POL to the wallet yourself.",
        ))
    }

    /// A person accepts a provider's URL and wallet of now (M14), and that it is paid again if it was set aside. True if
    /// there was anything to accept.
    pub(super) async fn trust_provider(&self, id: &str) -> Result<bool, Failure> {
        let journal = &self.purse()?.journal;
        // The record first: the pin tells which wallet and host it belongs to.
        let lifted = journal.forgive_provider(id.into()).await?;
        let payee =
            journal.trust_payee(id.into(), self.services.config.chain.chain_id, self.services.clock.now()).await?;
        Ok(journal.forget_provider_pin(id.into()).await? || payee || lifted)
    }

    /// A person accepts the marketplace's fee wallet of now.
    pub(super) async fn trust_fee_wallet(&self) -> Result<bool, Failure> {
        Ok(self.purse()?.journal.forget_fee_wallet_pin(self.services.config.chain.chain_id).await?)
    }

    /// Telemetry to the marketplace, where the operator switched it on.
    pub(super) fn report(&self, result: &Result<Turn, Failure>, elapsed: Duration) {
        let (true, Ok(Turn::Done(ChatReply::Paid(paid)))) = (self.services.config.marketplace.telemetry, result) else {
            return;
        };
        self.services.marketplace.telemetry(TelemetryBody {
            provider_id: paid.channel.provider_id.clone(),
            latency_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            http_status: 200,
            cost_usdc: paid.cost,
            protocol: PaidBy::Drain,
            timestamp: self.services.clock.timestamp(),
            agent_id: None,
        });
    }
}

fn feedback_body(feedback: Feedback) -> Result<FeedbackBody, Failure> {
    if feedback.protocol.as_deref().is_some_and(|protocol| protocol != "drain") {
        return Err(Failure::argument("protocol", "only drain can be paid, and so judged, here"));
    }
    let reason = match feedback.reason.as_deref() {
        None => None,
        Some("quality") => Some(FeedbackReason::Quality),
        Some("timeout") => Some(FeedbackReason::Timeout),
        Some("error") => Some(FeedbackReason::Error),
        Some("format") => Some(FeedbackReason::Format),
        Some("unavailable") => Some(FeedbackReason::Unavailable),
        Some(_) => return Err(Failure::argument("reason", "it is quality, timeout, error, format or unavailable")),
    };
    match (feedback.outcome.as_str(), reason) {
        ("success", None) => Ok(FeedbackBody::success(feedback.provider_id)),
        ("success", Some(_)) => Err(Failure::argument("reason", "it goes with the outcome failure only")),
        ("failure", reason) => Ok(FeedbackBody::failure(feedback.provider_id, reason)),
        _ => Err(Failure::argument("outcome", "it is success or failure")),
    }
}
