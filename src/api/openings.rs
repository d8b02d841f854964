//! Openings of the wallet: those that the contracts count, and those that the record knows (M10).

use drain_protocol::{Address, Generation};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checksummed;

/// How many openings of the wallet a contract counts, and how many of them are recorded here.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct OpeningsFound {
    /// The contract.
    #[serde(serialize_with = "checksummed")]
    #[schemars(with = "String")]
    pub contract: Address,
    /// V1 or V2.
    #[schemars(with = "String")]
    pub generation: Generation,
    /// The contract's count.
    pub on_chain: u64,
    /// In our record, or about to be: a transaction of ours made it and is followed.
    pub known: u64,
}

/// What a search for the wallet's channels found.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Recovery {
    /// Every opening that the contracts count is known.
    pub complete: bool,
    /// How many were new.
    pub found: u64,
    /// Contract by contract.
    pub contracts: Vec<OpeningsFound>,
}

/// How many openings the contracts count that the record does not know.
pub fn unknown(found: &[OpeningsFound]) -> u64 {
    found.iter().map(|on| on.on_chain.saturating_sub(on.known)).fold(0, u64::saturating_add)
}

/// What a person should know and do about them; `None` where all are known.
pub fn unknown_told(found: &[OpeningsFound]) -> Option<String> {
    match unknown(found) {
        0 => None,
        missing => Some(format!(
            "{missing} channels of this wallet are on chain and not in this record; their deposits may be waiting. A person finds them with drain-mcp channels recover."
        )),
    }
}
