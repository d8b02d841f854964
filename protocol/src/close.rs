//! A provider's answer to `POST /v1/close-channel` (protocol.md section 8).

use serde_json::Value;

use crate::shape::{self, ShapeError};
use crate::text::quoted;
use crate::usdc::{AmountError, Usdc};
use crate::voucher::{ChannelId, SignatureError, parse_signature};

/// What a provider answered when asked to close a channel now. Nothing in it is checked against the channel: amount,
/// signer and chain state are the caller's checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseAnswer {
    /// The channel it speaks of, when it says so readably.
    pub channel_id: Option<ChannelId>,
    /// What it wants in total.
    pub final_amount: Usdc,
    /// r||s||v as sent; some providers send a signature of another kind.
    pub signature: [u8; 65],
}

/// Why an answer does not let us close a channel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseAnswerError {
    /// Not a JSON object.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The provider said no: its words, sanitised.
    #[error("the provider refused to close the channel: {}", quoted(.0, 300))]
    Refused(String),
    /// `finalAmount` is missing, or neither a string nor a number.
    #[error("the close answer has no finalAmount")]
    NoAmount,
    /// `finalAmount` is not a whole number of base units.
    #[error("the finalAmount of the close answer is unreadable: {0}")]
    Amount(AmountError),
    /// `signature` is missing or not a string.
    #[error("the close answer has no signature")]
    NoSignature,
    /// `signature` is not 65 bytes.
    #[error("the signature of the close answer is unreadable: {0}")]
    Signature(SignatureError),
}

impl CloseAnswer {
    /// Reads the answer: `finalAmount` as a string or an integer, `signature` with or without 0x.
    pub fn parse(body: &[u8]) -> Result<Self, CloseAnswerError> {
        const WHAT: &str = "the close answer";
        let answer = shape::json(WHAT, body)?;
        if !answer.is_object() {
            return Err(ShapeError::new(WHAT, "it is not an object").into());
        }
        if let Some(said) = shape::error_text(&answer) {
            return Err(CloseAnswerError::Refused(said));
        }
        let amount = answer.get("finalAmount").and_then(shape::scalar).ok_or(CloseAnswerError::NoAmount)?;
        let signature = answer.get("signature").and_then(Value::as_str).ok_or(CloseAnswerError::NoSignature)?;
        Ok(Self {
            channel_id: answer.get("channelId").and_then(Value::as_str).and_then(|text| text.parse().ok()),
            final_amount: Usdc::parse_units(&amount).map_err(CloseAnswerError::Amount)?,
            signature: parse_signature(signature).map_err(CloseAnswerError::Signature)?,
        })
    }
}

#[cfg(test)]
#[path = "close_tests.rs"]
mod tests;
