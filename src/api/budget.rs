//! The caller's limits and what is left of them.

use drain_protocol::Usdc;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the caller may spend. Only a person changes it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct BudgetView {
    /// Whose.
    pub agent: String,
    /// Charged since midnight UTC.
    #[schemars(with = "String")]
    pub spent_today: Usdc,
    /// Nothing is paid or opened until a person lifts that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frozen: Option<String>,
    /// Limit by limit.
    pub limits: Vec<BudgetLine>,
    /// A person is asked before a request that may cost more.
    #[schemars(with = "Option<String>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person_above_request: Option<Usdc>,
    /// A person is asked before a larger deposit.
    #[schemars(with = "Option<String>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person_above_deposit: Option<Usdc>,
    /// What a paid request may lock by itself in a new channel.
    #[schemars(with = "Option<String>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_open: Option<Usdc>,
}

/// One limit.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct BudgetLine {
    /// Its stable name, such as `per_day`.
    pub name: String,
    /// What it bounds.
    pub meaning: String,
    /// Its value, with its unit.
    pub limit: String,
    /// What is used of it; not told where others of the wallet use it too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<String>,
    /// What is left of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left: Option<String>,
    /// Seconds until the oldest part of what is used is free again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frees_in: Option<u64>,
}
