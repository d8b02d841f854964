//! x402, both versions, scheme exact: requirements, payloads and settlement answers.

use alloy::primitives::{Address, B256};
use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::terms::{DOMAIN, Terms};
use super::token::{Authorization, Flaw};
use super::{PaidFaults, wire};

/// What the protocol's two versions do not share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

impl Version {
    fn number(self) -> u64 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    pub(crate) fn request_header(self) -> &'static str {
        match self {
            Self::V1 => "x-payment",
            Self::V2 => "payment-signature",
        }
    }

    pub(crate) fn response_header(self) -> &'static str {
        match self {
            Self::V1 => "x-payment-response",
            Self::V2 => "payment-response",
        }
    }

    fn network(self, terms: &Terms) -> &str {
        match self {
            Self::V1 => &terms.network_v1,
            Self::V2 => &terms.network,
        }
    }

    pub(crate) fn unpaid(self) -> &'static str {
        match self {
            Self::V1 => "X-PAYMENT header is required",
            Self::V2 => "Payment required",
        }
    }

    /// The header's text, where there is one.
    pub(crate) fn payload(self, headers: &HeaderMap) -> Option<&str> {
        headers.get(self.request_header())?.to_str().ok()
    }
}

/// The one entry of `accepts`.
pub(crate) fn entry(version: Version, faults: &PaidFaults, terms: &Terms, url: &str, method: &str) -> Value {
    let (name, token_version) = match &faults.domain {
        Some((name, version)) => (name.as_str(), version.as_str()),
        None => DOMAIN,
    };
    let mut extra = json!({"name": name, "version": token_version});
    if faults.permit2 {
        extra["assetTransferMethod"] = json!("permit2");
    }
    let mut entry = json!({
        "scheme": "exact", "network": version.network(terms), "asset": terms.asset.to_string(),
        "payTo": terms.payee.to_string(), "maxTimeoutSeconds": terms.timeout, "extra": extra,
    });
    match version {
        Version::V2 => entry["amount"] = json!(terms.amount),
        Version::V1 => {
            entry["maxAmountRequired"] = json!(terms.amount);
            entry["resource"] = json!(url);
            entry["description"] = json!("a sandbox answer");
            entry["mimeType"] = json!("application/json");
            entry["outputSchema"] = json!({"input": {"type": "http", "method": method, "discoverable": true}});
        }
    }
    entry
}

/// What says all that is asked: the content of v2's header, and the body of v1.
pub(crate) fn required(version: Version, entry: Value, url: &str, error: &str) -> Value {
    let mut required = json!({"x402Version": version.number(), "error": error, "accepts": [entry]});
    if version == Version::V2 {
        required["resource"] = json!({"url": url, "description": "a sandbox answer", "mimeType": "application/json"});
    }
    required
}

/// A payload that was read and not checked.
#[derive(Clone, Debug)]
pub(crate) struct Presented {
    version: Version,
    payload: Value,
    pub(crate) authorization: Authorization,
}

impl Presented {
    /// The error is what deployed servers say about a payload that they cannot read.
    pub(crate) fn read(version: Version, header: &str) -> Result<Self, &'static str> {
        let read = || {
            let payload = wire::from_standard(header)?;
            let inner = payload.get("payload")?;
            let authorization = Authorization::parse(inner.get("authorization")?, inner.get("signature")?)?;
            Some(Self { version, authorization, payload })
        };
        read().ok_or(match version {
            Version::V1 => "Invalid character",
            Version::V2 => version.unpaid(),
        })
    }

    /// Whether it pays what is asked.
    pub(crate) fn check(&self, terms: &Terms, entry: &Value) -> Result<(), &'static str> {
        let field = |name: &str| self.payload.get(name);
        let matching = match self.version {
            Version::V2 => field("accepted") == Some(entry),
            Version::V1 => ["scheme", "network"].into_iter().all(|name| field(name) == entry.get(name)),
        };
        if !matching || field("x402Version") != Some(&json!(self.version.number())) {
            return Err("No matching payment requirements");
        }
        match (self.authorization.flaw(terms), self.version) {
            (None, _) => Ok(()),
            (Some(Flaw::Amount), Version::V1) => Err("invalid_exact_evm_authorization_value"),
            (Some(Flaw::Amount), Version::V2) => Err("invalid_exact_evm_payload_authorization_value_mismatch"),
            (Some(Flaw::Payee), _) => Err("invalid_exact_evm_recipient_mismatch"),
            (Some(Flaw::Expired), _) => Err("invalid_exact_evm_payload_authorization_valid_before"),
            (Some(Flaw::NotYet), _) => Err("invalid_exact_evm_payload_authorization_valid_after"),
            (Some(Flaw::Signature), _) => Err("invalid_exact_evm_signature"),
        }
    }
}

/// The chain would not take it: a replay or an empty wallet.
pub(crate) const NOT_TAKEN: &str = "invalid_exact_evm_transaction_simulation_failed";
/// The chain did not take it.
pub(crate) const NOT_SETTLED: &str = "invalid_exact_evm_transaction_failed";

/// The value of the response's header, after a settlement.
pub(crate) fn receipt(version: Version, terms: &Terms, payer: Address, transaction: B256) -> String {
    let network = version.network(terms);
    let receipt = json!({"success": true, "transaction": transaction, "network": network, "payer": payer.to_string()});
    wire::standard(&receipt)
}

/// The same after one that failed.
pub(crate) fn failure(version: Version, terms: &Terms, payer: Address) -> String {
    let network = version.network(terms);
    let receipt = json!({
        "success": false, "errorReason": NOT_SETTLED, "transaction": "", "network": network, "payer": payer.to_string()});
    wire::standard(&receipt)
}
