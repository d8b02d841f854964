//! Who asks, by which call, and what counts for it.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use alloy::primitives::B64;
use drain_protocol::text::one_line;
use serde::{Deserialize, Serialize};

use super::Limits;

/// A tool's name in logs and records.
const TOOL_CHARS: usize = 40;

/// One tool call or command line command, from its first line in the log to the last transaction that it led to. Shown as
/// 16 hex characters. Says nothing of who asks, and never leaves for a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RequestId(u64);

impl RequestId {
    /// A new one.
    pub fn new() -> Self {
        Self(u64::from_be_bytes(B64::random().0))
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Not 16 lower-case hex characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a request's id is 16 characters of 0-9 and a-f")]
pub struct NotARequest;

impl FromStr for RequestId {
    type Err = NotARequest;

    fn from_str(text: &str) -> Result<Self, NotARequest> {
        let hex = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        u64::from_str_radix(text, 16).ok().filter(|_| hex).map(Self).ok_or(NotARequest)
    }
}

impl TryFrom<String> for RequestId {
    type Error = NotARequest;

    fn try_from(text: String) -> Result<Self, NotARequest> {
        text.parse()
    }
}

impl From<RequestId> for String {
    fn from(id: RequestId) -> Self {
        id.to_string()
    }
}

/// By which call something is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The call.
    pub request: RequestId,
    /// The tool or command, or the part of the runtime that does it by itself.
    pub tool: Cow<'static, str>,
}

impl Asked {
    /// A new call of this tool.
    pub fn by(tool: &'static str) -> Self {
        Self { request: RequestId::new(), tool: Cow::Borrowed(tool) }
    }

    /// As another process tells it: its words are data (M13).
    pub fn cleaned(self) -> Self {
        Self { request: self.request, tool: Cow::Owned(one_line(&self.tool, TOOL_CHARS)) }
    }
}

/// Travels with every command that may move money, from whoever asked to the journal's decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The agent's name, for its budget and its records.
    pub agent: String,
    /// The limits that count for it: never looser than those of the process that holds the wallet (M5).
    pub limits: Arc<Limits>,
    /// By which call.
    pub asked: Asked,
    /// How much of the wallet is shown to it, and how much it may touch.
    pub sees: Sees,
}

/// Whose channels a caller sees and uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sees {
    /// All of the wallet: the operator, on stdio, over the wallet's socket and on the command line.
    All,
    /// Its own channels only, as an agent of the fleet. Of everything else there is nothing.
    Own {
        /// It shares channels with others of its wallet that do, too.
        shares: bool,
    },
}

impl Caller {
    /// The name by which an agent of the fleet knows its channels; `None` where everything is seen.
    pub fn member(&self) -> Option<&str> {
        matches!(self.sees, Sees::Own { .. }).then_some(self.agent.as_str())
    }

    /// Whether it shares channels with others of its wallet.
    pub const fn shares(&self) -> bool {
        matches!(self.sees, Sees::Own { shares: true })
    }

    /// Another process' agent under this one's limits: its own count where they are tighter.
    pub fn guest(&self, agent: String, limits: &Limits) -> Self {
        Self { agent, limits: Arc::new(self.limits.tightened(limits)), ..self.clone() }
    }

    /// The same, by another call.
    pub fn by(self, asked: Asked) -> Self {
        Self { asked, ..self }
    }
}

/// An agent of a fleet, as the fleet's server knows it by its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetAgent {
    /// Its name.
    pub name: String,
    /// Its wallet's limits, tightened by its own (M5).
    pub limits: Arc<Limits>,
    /// Whether it shares channels with others of its wallet that do.
    pub share: bool,
}

impl FleetAgent {
    /// It, as whoever asks, by this call.
    pub fn caller(&self, asked: Asked) -> Caller {
        let sees = Sees::Own { shares: self.share };
        Caller { agent: self.name.clone(), limits: self.limits.clone(), asked, sees }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_16_hex_characters_and_nothing_else() {
        let id = RequestId::new();
        assert_eq!(id.to_string().len(), 16);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_ne!(id, RequestId::new());
        for odd in ["", "12", "+23456789abcdef0", "0123456789ABCDEF", "0123456789abcdef0", "\u{fe}123456789abcd"] {
            assert_eq!(odd.parse::<RequestId>(), Err(NotARequest), "{odd}");
        }
    }

    /// M13: what another process says stays one short line.
    #[test]
    fn m13_a_tools_name_from_another_process_is_cleaned() {
        let told = Asked { request: RequestId::new(), tool: format!("chat\n{}", "x".repeat(500)).into() }.cleaned();
        assert!(told.tool.starts_with("chat") && told.tool.len() <= 2 * TOOL_CHARS && !told.tool.contains('\n'));
    }
}
