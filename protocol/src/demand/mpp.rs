//! MPP: the "Payment" authentication scheme, methods `evm` and `tempo`, intent `charge`.

use std::time::UNIX_EPOCH;

use alloy::primitives::{B256, keccak256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_auth::ChallengeRef;
use http_auth::parser::ChallengeParser;
use serde::{Deserialize, Serialize};

use super::{
    Authorization, Credential, LONGEST_HEADER, NotPayable, Offer, PaymentReceipt, Protocol, Terms, Time, address,
    amount,
};
use crate::tempo;
use crate::transfer::PaymentOrder;

const MPP: Protocol = Protocol::Mpp;
const TEMPO: Protocol = Protocol::MppTempo;
const AUTHORIZATION: &str = "authorization";
/// Where a challenge leaves `Authorization` to the caller's own.
const PAYMENT_AUTHORIZATION: &str = "payment-authorization";

/// A server's challenge, as it came.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Challenge {
    id: String,
    realm: String,
    method: String,
    intent: String,
    /// Never written anew: the server compares it byte by byte.
    request: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    expires: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    opaque: Option<String>,
    #[serde(rename = "header", skip_serializing_if = "Option::is_none")]
    named_header: Option<String>,
    /// Where the credential goes.
    #[serde(skip)]
    pub header: &'static str,
    /// Tempo: the server pays the gas.
    #[serde(skip)]
    pub sponsored: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    amount: String,
    currency: String,
    recipient: String,
    #[serde(default)]
    method_details: Details,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    chain_id: Option<u64>,
    #[serde(default)]
    credential_types: Vec<String>,
    #[serde(default)]
    splits: serde_json::Value,
    /// Tempo: whether the server pays the gas.
    #[serde(default)]
    fee_payer: bool,
    /// Tempo: who may send the transaction; both where nothing is said.
    supported_modes: Option<Vec<String>>,
}

/// Every challenge of the scheme in these headers; one line may hold several, and others beside them.
pub(super) fn offers(lines: &[&str]) -> Result<Vec<Result<Offer, NotPayable>>, NotPayable> {
    let mut offers = Vec::new();
    for line in lines {
        if line.len() > LONGEST_HEADER {
            return Err(NotPayable::new(MPP, "its header is too long"));
        }
        for challenge in ChallengeParser::new(line) {
            match challenge {
                Ok(challenge) if challenge.scheme.eq_ignore_ascii_case("payment") => offers.push(offer(&challenge)),
                Ok(_) => {}
                // What is no challenge of ours is none of our business.
                Err(_) if !line.to_ascii_lowercase().contains("payment ") => break,
                Err(_) => {
                    return Err(NotPayable::new(MPP, "its challenge cannot be read"));
                }
            }
        }
    }
    Ok(offers)
}

fn offer(challenge: &ChallengeRef<'_>) -> Result<Offer, NotPayable> {
    let optional = |name: &str| {
        let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_unescaped())
    };
    let required = |name: &str| {
        optional(name)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| NotPayable::new(MPP, format!("it has no {name}")))
    };
    let (method, intent) = (required("method")?, required("intent")?);
    let protocol = match (method.as_str(), intent.as_str()) {
        ("evm", "charge") => MPP,
        ("tempo", "charge") => TEMPO,
        _ => {
            let what = format!("method {method:?} with intent {intent:?} is not paid; evm/charge and tempo/charge are");
            return Err(NotPayable::new(MPP, what));
        }
    };
    let not = |reason: String| NotPayable::new(protocol, reason);
    let named_header = optional("header");
    let header = match named_header.as_deref() {
        None => AUTHORIZATION,
        Some(name) if name.eq_ignore_ascii_case(AUTHORIZATION) => AUTHORIZATION,
        Some(name) if name.eq_ignore_ascii_case(PAYMENT_AUTHORIZATION) => PAYMENT_AUTHORIZATION,
        Some(name) => return Err(not(format!("it wants the payment in the header {name:?}"))),
    };
    let (request, expires) = (required("request")?, required("expires")?);
    let json =
        URL_SAFE_NO_PAD.decode(request.trim_end_matches('=')).map_err(|_| not("its request is not base64".into()))?;
    let asked: Request = serde_json::from_slice(&json)
        .map_err(|error| not(format!("its request is not what {method}/charge needs ({error})")))?;
    let details = &asked.method_details;
    let chain_id = match protocol {
        TEMPO => details.chain_id.unwrap_or(tempo::MAINNET),
        _ => details.chain_id.ok_or_else(|| not("it names no chain".into()))?,
    };
    if !matches!(&details.splits, serde_json::Value::Null) {
        return Err(not("it splits the amount between several payees".into()));
    }
    if protocol == MPP && !details.credential_types.iter().any(|kind| kind == "authorization") {
        return Err(not("it takes no authorization (EIP-3009), and nothing else is signed".into()));
    }
    if details.supported_modes.as_ref().is_some_and(|modes| !modes.iter().any(|mode| mode == "pull")) {
        return Err(not("it does not send the transaction itself".into()));
    }
    let until = humantime::parse_rfc3339(&expires)
        .ok()
        .and_then(|at| at.duration_since(UNIX_EPOCH).ok())
        .ok_or_else(|| not("the time at which it expires cannot be read".into()))?
        .as_secs();
    Ok(Offer {
        protocol,
        chain_id,
        token: address(protocol, "currency", &asked.currency)?,
        payee: address(protocol, "recipient", &asked.recipient)?,
        amount: amount(protocol, &asked.amount)?,
        time: if protocol == TEMPO { Time::By(until) } else { Time::Until(until) },
        terms: Terms::Mpp(Challenge {
            id: required("id")?,
            realm: required("realm")?,
            method,
            intent,
            request,
            description: optional("description"),
            expires,
            digest: optional("digest"),
            opaque: optional("opaque"),
            named_header,
            header,
            sponsored: details.fee_payer,
        }),
    })
}

#[derive(Serialize)]
struct Sent<'a> {
    challenge: &'a Challenge,
    payload: Payload,
    source: String,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
enum Payload {
    Authorization {
        #[serde(flatten)]
        authorization: Authorization,
        signature: String,
    },
    /// The whole transaction, in a field of that name.
    Transaction { signature: String },
}

impl Payload {
    fn of(order: &PaymentOrder, signature: &[u8; 65]) -> Self {
        match order {
            PaymentOrder::Authorization { transfer, .. } => Self::Authorization {
                authorization: Authorization::of(transfer),
                signature: alloy::hex::encode_prefixed(signature),
            },
            PaymentOrder::Tempo(order) => Self::Transaction { signature: order.signed(signature).to_string() },
        }
    }
}

impl Challenge {
    /// Bound to the challenge: a payment for one is good for no other.
    pub fn nonce(&self) -> B256 {
        keccak256([self.id.as_bytes(), self.realm.as_bytes()].concat())
    }

    /// The same for Tempo's transfers.
    pub fn memo(&self) -> B256 {
        tempo::memo(&self.id, &self.realm)
    }

    pub fn credential(&self, order: &PaymentOrder, signature: &[u8; 65]) -> Credential {
        let source = format!("did:pkh:eip155:{}:{}", order.chain_id(), order.transfer().from);
        let sent = Sent { challenge: self, payload: Payload::of(order, signature), source };
        // Strings and maps of strings: nothing in it can fail to be JSON.
        let json = serde_json::to_vec(&sent).unwrap_or_default();
        Credential { header: self.header, value: format!("Payment {}", URL_SAFE_NO_PAD.encode(json)) }
    }
}

#[derive(Deserialize)]
struct Receipt {
    status: String,
    #[serde(default)]
    reference: String,
}

pub(super) fn receipt(values: &[&str]) -> Option<PaymentReceipt> {
    let value = super::single(MPP, values).ok()??;
    let json = URL_SAFE_NO_PAD.decode(value.trim_end_matches('=')).ok()?;
    let receipt: Receipt = serde_json::from_slice(&json).ok()?;
    Some(PaymentReceipt { success: receipt.status == "success", transaction: receipt.reference.parse().ok() })
}
