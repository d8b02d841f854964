//! The greeting: which protocol, chain and wallet, for whom, and within which limits.
//!
//! Its first two fields are the same in every version, so that two of them can tell each other who is older.

use drain_protocol::Address;
use drain_protocol::text::one_line;
use serde::{Deserialize, Serialize};

use crate::error::{Code, Failure};
use crate::policy::Limits;

/// The language of this socket. Raise it with any change of a command, an answer or a frame that an older process would
/// misread.
pub const PROTOCOL: u32 = 4;

/// This build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What every version says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spoken {
    /// Of the socket.
    pub protocol: u32,
    /// Of the program.
    pub version: String,
}

impl Spoken {
    /// This process.
    pub fn here() -> Self {
        Self { protocol: PROTOCOL, version: VERSION.into() }
    }

    /// What is wrong when `other`, the process `pid`, speaks another language than this one.
    pub fn incompatible(&self, other: &Self, pid: Option<i32>) -> Option<Failure> {
        if self.protocol == other.protocol {
            return None;
        }
        let pid = pid.map_or_else(|| "the other process".into(), |pid| format!("process {pid}"));
        let theirs = one_line(&other.version, 40);
        let next = if self.protocol > other.protocol {
            format!("Update drain-mcp where {pid} comes from ({theirs} is older), and start it again.")
        } else {
            format!("Update the drain-mcp of this process ({} is older), or end {pid}.", self.version)
        };
        Some(Failure::unspent(
            Code::IncompatibleVersion,
            format!(
                "{pid} has the wallet, but this drain-mcp {} and its {theirs} cannot share it (socket protocols {} and {})",
                self.version, self.protocol, other.protocol
            ),
            next,
        ))
    }
}

/// A client's first frame.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// Who speaks.
    #[serde(flatten)]
    pub spoken: Spoken,
    /// The chain it means.
    pub chain_id: u64,
    /// The wallet it means.
    pub wallet: Address,
    /// Its agent's name.
    pub agent: String,
    /// Its operator's limits: they count where they are tighter than the holder's (M5).
    pub limits: Limits,
}

/// The holder's first frame.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Welcome {
    /// Who speaks.
    #[serde(flatten)]
    pub spoken: Spoken,
    /// Why not; the connection ends then.
    #[serde(default)]
    pub refused: Option<Failure>,
}

impl Welcome {
    /// Come in, or why not.
    pub fn of(refused: Option<Failure>) -> Self {
        Self { spoken: Spoken::here(), refused }
    }
}
