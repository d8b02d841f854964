//! Channels that another program's file names, and what became of each.

use drain_protocol::{ChannelId, Usdc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A channel as the file has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftBehind {
    /// Which one.
    pub channel: ChannelId,
    /// The provider's id.
    pub provider: String,
    /// At least so much was signed.
    pub signed: Usdc,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Import {
    /// It is in our record now.
    TakenOver,
    /// It was in our record before.
    Known,
    /// The chain has no such channel of this wallet, or has none any more.
    NotThere,
    /// It could not be looked at; the message says why.
    Failed,
}

/// A channel and what became of it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Imported {
    /// Which one.
    pub channel_id: String,
    /// What became of it.
    pub outcome: Import,
    /// Why not, or what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
