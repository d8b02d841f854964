//! MPP: the "Payment" authentication scheme, method `evm`, intent `charge`.

use std::time::UNIX_EPOCH;

use alloy::primitives::{B256, keccak256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_auth::ChallengeRef;
use http_auth::parser::ChallengeParser;
use serde::{Deserialize, Serialize};

use super::{Credential, LONGEST_HEADER, NotPayable, Offer, PaymentReceipt, Protocol, Terms, Time, address, amount};
use crate::transfer::Transfer;

const MPP: Protocol = Protocol::Mpp;
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
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    amount: String,
    currency: String,
    recipient: String,
    method_details: Details,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    chain_id: u64,
    #[serde(default)]
    credential_types: Vec<String>,
    #[serde(default)]
    splits: serde_json::Value,
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
    if (method.as_str(), intent.as_str()) != ("evm", "charge") {
        return Err(NotPayable::new(
            MPP,
            format!("method {method:?} with intent {intent:?} is not paid; evm/charge is"),
        ));
    }
    let named_header = optional("header");
    let header = match named_header.as_deref() {
        None => AUTHORIZATION,
        Some(name) if name.eq_ignore_ascii_case(AUTHORIZATION) => AUTHORIZATION,
        Some(name) if name.eq_ignore_ascii_case(PAYMENT_AUTHORIZATION) => PAYMENT_AUTHORIZATION,
        Some(name) => return Err(NotPayable::new(MPP, format!("it wants the payment in the header {name:?}"))),
    };
    let (request, expires) = (required("request")?, required("expires")?);
    let json = URL_SAFE_NO_PAD
        .decode(request.trim_end_matches('='))
        .map_err(|_| NotPayable::new(MPP, "its request is not base64"))?;
    let asked: Request = serde_json::from_slice(&json)
        .map_err(|error| NotPayable::new(MPP, format!("its request is not what evm/charge needs ({error})")))?;
    if !asked.method_details.credential_types.iter().any(|kind| kind == "authorization") {
        return Err(NotPayable::new(MPP, "it takes no authorization (EIP-3009), and nothing else is signed"));
    }
    if !matches!(&asked.method_details.splits, serde_json::Value::Null) {
        return Err(NotPayable::new(MPP, "it splits the amount between several payees"));
    }
    let until = humantime::parse_rfc3339(&expires)
        .ok()
        .and_then(|at| at.duration_since(UNIX_EPOCH).ok())
        .ok_or_else(|| NotPayable::new(MPP, "the time at which it expires cannot be read"))?;
    Ok(Offer {
        protocol: MPP,
        chain_id: asked.method_details.chain_id,
        token: address(MPP, "currency", &asked.currency)?,
        payee: address(MPP, "recipient", &asked.recipient)?,
        amount: amount(MPP, &asked.amount)?,
        time: Time::Until(until.as_secs()),
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
#[serde(rename_all = "camelCase")]
struct Payload {
    r#type: &'static str,
    from: String,
    to: String,
    value: String,
    valid_after: String,
    valid_before: String,
    nonce: String,
    signature: String,
}

impl Challenge {
    /// Bound to the challenge: a payment for one is good for no other.
    pub fn nonce(&self) -> B256 {
        keccak256([self.id.as_bytes(), self.realm.as_bytes()].concat())
    }

    pub fn credential(&self, chain_id: u64, transfer: &Transfer, signature: &[u8; 65]) -> Credential {
        let payload = Payload {
            r#type: "authorization",
            from: transfer.from.to_string(),
            to: transfer.to.to_string(),
            value: transfer.value.units().to_string(),
            valid_after: transfer.valid_after.to_string(),
            valid_before: transfer.valid_before.to_string(),
            nonce: format!("{:#x}", transfer.nonce),
            signature: alloy::hex::encode_prefixed(signature),
        };
        let source = format!("did:pkh:eip155:{chain_id}:{}", transfer.from);
        // Strings and maps of strings: nothing in it can fail to be JSON.
        let json = serde_json::to_vec(&Sent { challenge: self, payload, source }).unwrap_or_default();
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
