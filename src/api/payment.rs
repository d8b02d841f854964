//! Requests that are paid one by one, without a channel: MPP and x402.

use std::collections::BTreeMap;

use drain_protocol::{B256, Usdc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::policy::repeat::{IdempotencyKey, sha256};

/// A request to whoever wants to be paid for it by HTTP 402.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PaymentCall {
    /// Who is asked, and for what.
    pub target: Target,
    /// `GET`, `POST`, `PUT`, `PATCH` or `DELETE`.
    pub method: String,
    /// Headers of the caller's own.
    pub headers: BTreeMap<String, String>,
    /// What is sent.
    pub body: Option<String>,
    /// By MPP alone, whatever else is offered.
    pub mpp_only: bool,
    /// The most that it may cost; never raises a limit.
    pub max_cost: Option<Usdc>,
    /// The caller's own name for this request: the same request under it again is answered as the first one, and not paid
    /// a second time.
    pub request_id: Option<IdempotencyKey>,
}

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// This URL.
    Url(String),
    /// The MPP endpoint of this provider, by its id.
    Provider(String),
}

impl PaymentCall {
    /// SHA-256 of what is asked.
    pub fn body_hash(&self) -> Result<B256, Failure> {
        let asked = ("payment", &self.target, &self.method, &self.headers, &self.body, self.mpp_only, self.max_cost);
        let bytes = serde_json::to_vec(&asked).map_err(|e| Failure::internal(e.to_string()))?;
        Ok(sha256(bytes))
    }
}

/// What came back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PaymentReply {
    /// The answer's HTTP status.
    pub status: u16,
    /// Its content type (untrusted).
    pub content_type: Option<String>,
    /// Its body (untrusted).
    pub body: Body,
    /// What was paid for it; none where nothing was.
    pub payment: Option<Payment>,
    /// What it asks for, where it was not paid.
    pub demand: Option<DemandView>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// A body as text where it is text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// UTF-8.
    Text(String),
    /// Anything else, in base64.
    Base64(String),
}

/// A payment without a channel.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Payment {
    /// The receipt.
    pub receipt: String,
    /// `mpp`, `mpp_tempo`, `x402v1`, `x402v2`, or `drain` from a channel.
    pub protocol: String,
    /// `paid`; or `reserved` where the server did not say that it took the money, until the chain tells.
    pub state: String,
    /// How much.
    #[schemars(with = "String")]
    pub amount: Usdc,
    /// To whom.
    pub payee: String,
    /// Who was asked.
    pub host: String,
    /// On which chain.
    pub chain_id: u64,
    /// The transaction that took it, by the server's word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction: Option<String>,
    /// Spent since midnight UTC, this payment included.
    #[schemars(with = "String")]
    pub spent_today: Usdc,
}

/// What an answer with status 402 asks for.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct DemandView {
    /// `drain`, `mpp`, `mpp_tempo`, `x402v1`, `x402v2`, or `unknown`.
    pub protocol: String,
    /// What would be paid.
    #[schemars(with = "Option<String>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<Usdc>,
    /// To whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payee: Option<String>,
    /// With which token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// On which chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain_id: Option<u64>,
    /// Who asks.
    pub host: String,
    /// What the caps leave for it now; not told where others use them too.
    #[schemars(with = "Option<String>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caps_leave: Option<Usdc>,
    /// A person would be asked before it is paid.
    pub asks_person: bool,
    /// Why it would not be paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// The most that can be lost by paying, and how.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worst_case: Option<String>,
}
