//! Who asks, and what counts for it.

use std::sync::Arc;

use super::Limits;

/// Travels with every command that may move money, from whoever asked to the journal's decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The agent's name, for its budget and its records.
    pub agent: String,
    /// The limits that count for it: never looser than those of the process that holds the wallet (M5).
    pub limits: Arc<Limits>,
}

impl Caller {
    /// Another process' agent under this one's limits: its own count where they are tighter.
    pub fn guest(&self, agent: String, limits: &Limits) -> Self {
        Self { agent, limits: Arc::new(self.limits.tightened(limits)) }
    }
}
