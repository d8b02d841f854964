//! The marketplace's other answers and the bodies sent to it (protocol.md sections 9 and 10.2).

use alloy::primitives::{Address, Bytes};
use serde::Serialize;
use serde_json::Value;

use crate::shape::{self, ShapeError};
use crate::usdc::Usdc;
use crate::voucher::ChannelId;

/// Channels of one status answer at most; the rest is dropped.
pub const MAX_HINTS: usize = 10_000;

/// `GET /api/directory/config`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeeConfig {
    /// To whom the session fee of V1 goes; `None` for no fee. Never followed unless it is the pinned wallet.
    pub fee_wallet: Option<Address>,
}

impl FeeConfig {
    /// Reads the answer. An absent, null or empty `feeWallet` is no fee; anything else but `0x` and 40 digits is an
    /// error, so that it is not mistaken for no fee.
    pub fn parse(body: &[u8]) -> Result<Self, ShapeError> {
        const WHAT: &str = "the marketplace's configuration";
        let answer = object(WHAT, body)?;
        let fee_wallet = match answer.get("feeWallet") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if text.is_empty() => None,
            Some(Value::String(text)) if text.starts_with("0x") && text.len() == 42 => {
                Some(text.parse().map_err(|_| ShapeError::new(WHAT, "feeWallet is not an address"))?)
            }
            Some(_) => return Err(ShapeError::new(WHAT, "feeWallet is not an address")),
        };
        Ok(Self { fee_wallet })
    }
}

/// An object, and not one that only says what went wrong.
fn object(what: &'static str, body: &[u8]) -> Result<Value, ShapeError> {
    let answer = shape::json(what, body)?;
    if !answer.is_object() {
        return Err(ShapeError::new(what, "it is not an object"));
    }
    match shape::error_text(&answer) {
        Some(said) => Err(ShapeError::new(what, format!("the marketplace says {}", crate::text::quoted(&said, 300)))),
        None => Ok(answer),
    }
}

/// What the marketplace believes about a channel. A hint to look at the chain, never a reason to act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusHint {
    /// Which channel.
    pub channel_id: ChannelId,
    /// `expired_unclosed` is the only documented one; sanitised and bounded.
    pub status: String,
    /// Calldata that it proposes. Compared with our own, never signed.
    pub close_calldata: Option<Bytes>,
}

/// Reads `GET /api/channels/status`. Entries without a readable id are dropped.
pub fn parse_status(body: &[u8]) -> Result<Vec<StatusHint>, ShapeError> {
    const WHAT: &str = "the marketplace's channel status";
    let answer = object(WHAT, body)?;
    let channels =
        answer.get("channels").and_then(Value::as_array).ok_or_else(|| ShapeError::new(WHAT, "it has no channels"))?;
    let hints = channels.iter().filter_map(|entry| {
        let calldata = entry.get("closeCalldata").and_then(Value::as_str).filter(|text| text.len() <= 4_096);
        Some(StatusHint {
            channel_id: entry.get("channelId")?.as_str()?.parse().ok()?,
            status: shape::line(entry, "status", 60).unwrap_or_else(|| "unknown".into()),
            close_calldata: calldata.and_then(|text| text.parse().ok()),
        })
    });
    Ok(hints.take(MAX_HINTS).collect())
}

/// The body of `POST /api/gas-station`: asks for a little POL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GasStationBody {
    /// The wallet that needs gas.
    pub address: Address,
}

/// What the gas station answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GasStationAnswer {
    /// True when it says that it sent POL. The chain decides.
    pub success: bool,
    /// The transaction it names; sanitised and bounded, not checked.
    pub tx_hash: Option<String>,
    /// Why not; sanitised and bounded.
    pub error: Option<String>,
}

impl GasStationAnswer {
    /// Reads the answer, of whatever status. An error in it is not a success, whatever else it says.
    pub fn parse(body: &[u8]) -> Result<Self, ShapeError> {
        const WHAT: &str = "the gas station's answer";
        let answer = shape::json(WHAT, body)?;
        if !answer.is_object() {
            return Err(ShapeError::new(WHAT, "it is not an object"));
        }
        let error = shape::error_text(&answer).filter(|text| !text.is_empty());
        Ok(Self {
            success: answer.get("success") == Some(&Value::Bool(true)) && error.is_none(),
            tx_hash: shape::line(&answer, "txHash", 100),
            error,
        })
    }
}

/// How a job went, for the marketplace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FeedbackOutcome {
    /// Well.
    Success,
    /// Badly.
    Failure,
}

/// Why a job went badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FeedbackReason {
    /// The answer was poor.
    Quality,
    /// It took too long.
    Timeout,
    /// It failed.
    Error,
    /// The answer was not of the agreed form.
    Format,
    /// Nobody answered.
    Unavailable,
}

/// The protocol that is named in bodies: this runtime pays by vouchers only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PaidBy {
    /// Vouchers.
    #[default]
    Drain,
}

/// The body of `POST /api/feedback`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FeedbackBody {
    /// The listing's id.
    pub provider_id: String,
    /// How it went.
    pub outcome: FeedbackOutcome,
    /// Always `drain`.
    pub protocol: PaidBy,
    /// Only with a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<FeedbackReason>,
}

impl FeedbackBody {
    /// It went well.
    pub fn success(provider_id: impl Into<String>) -> Self {
        Self {
            provider_id: provider_id.into(),
            outcome: FeedbackOutcome::Success,
            protocol: PaidBy::Drain,
            reason: None,
        }
    }

    /// It went badly.
    pub fn failure(provider_id: impl Into<String>, reason: Option<FeedbackReason>) -> Self {
        Self { outcome: FeedbackOutcome::Failure, reason, ..Self::success(provider_id) }
    }
}

/// The body of `POST /api/telemetry`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TelemetryBody {
    /// The listing's id.
    pub provider_id: String,
    /// Milliseconds from request to answer.
    pub latency_ms: u64,
    /// The answer's status; 0 when there was none.
    pub http_status: u16,
    /// USDC as a decimal string.
    pub cost_usdc: Usdc,
    /// Always `drain`.
    pub protocol: PaidBy,
    /// When, in ISO 8601 with UTC.
    pub timestamp: String,
    /// Who: left out unless the operator wants to be known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
}

#[cfg(test)]
#[path = "marketplace_tests.rs"]
mod tests;
