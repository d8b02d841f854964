//! Switches that make a chain endpoint misbehave the way public nodes do.

use std::collections::BTreeMap;

use alloy::primitives::{Bytes, FixedBytes};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How a request chosen to fail is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailKind {
    /// HTTP 500 with a plain text body.
    #[default]
    Http500,
    /// HTTP 429, as rate-limited public nodes answer.
    Http429,
    /// HTTP 200 with a JSON-RPC error of code -32000.
    RpcError,
}

/// What an endpoint claims in place of the true receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForgedReceipt {
    /// Every receipt says status 1.
    Success,
    /// Every receipt says status 0 and carries no logs.
    Failure,
    /// The first indexed argument of every log (the channel id) is another one.
    Logs,
}

/// Misbehaviour of one endpoint. The default is an honest, quick node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Accept this many transactions, answer with their hash and forget them.
    pub drop_next: u64,
    /// Serve reads (block number, calls, receipts, logs, balances, code) as of
    /// this many blocks ago. Nonces and gas estimates stay current.
    pub lagging_reads: u64,
    /// Wait this long before answering.
    pub latency_ms: u64,
    /// Fail this many requests.
    pub fail_next: u64,
    /// Fail this part of all requests (0 to 1), evenly spread so that a test
    /// sees the same pattern each time.
    pub fail_rate: f64,
    /// How failing requests are answered.
    pub fail_kind: FailKind,
    /// Never answer.
    pub hang: bool,
    /// The chain id to claim in place of the real one.
    pub wrong_chain_id: Option<u64>,
    /// Lie about receipts.
    pub forged_receipt: Option<ForgedReceipt>,
    /// Answer `eth_getLogs` with nothing.
    pub hide_logs: bool,
    /// Answer an `eth_call` whose data starts with the selector with these bytes.
    pub call_overrides: BTreeMap<FixedBytes<4>, Bytes>,
    /// Limit latency, failures and hanging to these methods; empty means all.
    pub methods: Vec<String>,
}

impl Faults {
    /// Takes over the keys of a JSON object and leaves the others as they are.
    ///
    /// # Errors
    /// When a key is unknown or a value has the wrong type.
    pub fn patch(&mut self, changes: &serde_json::Map<String, Value>) -> Result<(), String> {
        let mut all = serde_json::to_value(&*self).map_err(|error| error.to_string())?;
        if let Some(fields) = all.as_object_mut() {
            fields.extend(changes.clone());
        }
        *self = serde_json::from_value(all).map_err(|error| error.to_string())?;
        Ok(())
    }

    /// Whether latency, failures and hanging concern this method.
    pub(super) fn concerns(&self, method: &str) -> bool {
        // The control method must stay reachable, or a hang could never be lifted.
        method != "sandbox_setFaults" && (self.methods.is_empty() || self.methods.iter().any(|name| name == method))
    }

    /// Decides whether the request at hand fails, and counts it. `carried` is
    /// the endpoint's running remainder of `fail_rate`.
    pub(super) fn fails(&mut self, carried: &mut f64) -> bool {
        if self.fail_next > 0 {
            self.fail_next -= 1;
            return true;
        }
        *carried += self.fail_rate.clamp(0.0, 1.0);
        let fails = *carried >= 1.0;
        if fails {
            *carried -= 1.0;
        }
        fails
    }

    /// Decides whether the transaction at hand is dropped, and counts it.
    pub(super) fn drops(&mut self) -> bool {
        let drops = self.drop_next > 0;
        self.drop_next = self.drop_next.saturating_sub(1);
        drops
    }

    /// Applies [`ForgedReceipt`] to a receipt on its way out.
    pub(super) fn forge(&self, receipt: &mut Value) {
        let Some(forged) = self.forged_receipt else {
            return;
        };
        let Some(fields) = receipt.as_object_mut() else {
            return;
        };
        match forged {
            ForgedReceipt::Success => {
                fields.insert("status".to_owned(), Value::from("0x1"));
            }
            ForgedReceipt::Failure => {
                fields.insert("status".to_owned(), Value::from("0x0"));
                fields.insert("logs".to_owned(), Value::Array(Vec::new()));
            }
            ForgedReceipt::Logs => {
                for log in fields.get_mut("logs").and_then(Value::as_array_mut).into_iter().flatten() {
                    if let Some(topic) = log.pointer_mut("/topics/1") {
                        *topic = Value::from(format!("0x{}", "ab".repeat(32)));
                    }
                }
            }
        }
    }
}
