//! MPP, the "Payment" authentication scheme: challenges, credentials, problems and receipts.

use alloy::primitives::{Address, B256, keccak256};
use axum::http::{HeaderMap, StatusCode};
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::terms::Terms;
use super::token::{Authorization, Flaw};
use super::{PaidConfig, PaidFaults, wire};

/// Who gets the other part of a split payment.
const SPLIT_PAYEE: Address = Address::repeat_byte(0x5b);

/// What is asked over MPP.
#[derive(Clone, Debug)]
pub(crate) struct Challenge {
    pub(crate) id: String,
    realm: String,
    method: String,
    intent: String,
    request: String,
    expires: String,
    opaque: String,
    route: String,
}

impl Challenge {
    /// A fresh one for a route, which it is bound to. The number tells it from the others of the same second: from equal
    /// ids payers would make equal nonces.
    pub(crate) fn new(config: &PaidConfig, faults: &PaidFaults, terms: &Terms, route: &str, number: u64) -> Self {
        let mut challenge = Self {
            id: String::new(),
            realm: config.realm.clone(),
            method: faults.method.clone().unwrap_or_else(|| "evm".into()),
            intent: faults.intent.clone().unwrap_or_else(|| "charge".into()),
            request: wire::url_safe(&request(faults, terms)),
            expires: wire::iso(terms.expires),
            opaque: wire::url_safe(&json!({"route": route, "number": number})),
            route: route.to_owned(),
        };
        challenge.id = id(&config.secret, &challenge.parts());
        challenge
    }

    /// What the id is made of, in this order.
    fn parts(&self) -> [&str; 7] {
        [&self.realm, &self.method, &self.intent, &self.request, &self.expires, "", &self.opaque]
    }

    /// The value of `WWW-Authenticate`.
    pub(crate) fn header(&self, faults: &PaidFaults) -> String {
        let Self { id, realm, method, intent, request, expires, opaque, .. } = self;
        // No base64url text has a per cent sign.
        let request = if faults.garbage { "%%%" } else { request };
        let elsewhere = if faults.separate_header { ", header=\"Payment-Authorization\"" } else { "" };
        format!(
            "Payment id=\"{id}\", realm=\"{realm}\", method=\"{method}\", intent=\"{intent}\", request=\"{request}\", \
             description=\"a sandbox answer\", expires=\"{expires}\", opaque=\"{opaque}\"{elsewhere}"
        )
    }
}

fn request(faults: &PaidFaults, terms: &Terms) -> Value {
    let types = faults.credential_types.clone().unwrap_or_else(|| vec!["authorization".into()]);
    let mut details = json!({"chainId": terms.named_chain, "credentialTypes": types, "decimals": 6});
    if let Some(details) = details.as_object_mut() {
        if types.is_empty() {
            details.remove("credentialTypes");
        }
        if faults.splits {
            details.insert("splits".into(), json!([{"amount": "1", "recipient": SPLIT_PAYEE.to_string()}]));
        }
    }
    json!({
        "amount": terms.amount, "currency": terms.asset.to_string(), "recipient": terms.payee.to_string(),
        "methodDetails": details,
    })
}

/// base64url(HMAC-SHA256(secret, realm|method|intent|request|expires|digest|opaque)).
fn id(secret: &str, parts: &[&str; 7]) -> String {
    // HMAC takes keys of every length, so there is no second branch to be in.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
    mac.update(parts.join("|").as_bytes());
    wire::url_safe_bytes(&mac.finalize().into_bytes())
}

/// Why a credential was not taken, as `application/problem+json` says it.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    kind: &'static str,
    title: &'static str,
    pub(crate) detail: String,
}

impl Problem {
    fn of(kind: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status: StatusCode::PAYMENT_REQUIRED, kind, title, detail: detail.into() }
    }

    /// No credential.
    pub(crate) fn unpaid() -> Self {
        Self::of("payment-required", "Payment Required", "Payment is required.")
    }

    /// The chain did not take it: a replay, an empty wallet, a lost race.
    pub(crate) fn unsettled() -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        let detail = "An internal payment error occurred.";
        Self { status, ..Self::of("internal-payment-error", "Internal Payment Error", detail) }
    }

    fn malformed() -> Self {
        let detail = "Credential is malformed: Invalid base64url or JSON..";
        Self::of("malformed-credential", "Malformed Credential", detail)
    }

    fn challenge(id: &str, reason: &str) -> Self {
        Self::of("invalid-challenge", "Invalid Challenge", format!("Challenge \"{id}\" is invalid: {reason}."))
    }

    fn verification(reason: &str) -> Self {
        let detail = format!("Payment verification failed: EVM authorization {reason}.");
        Self::of("verification-failed", "Verification Failed", detail)
    }

    /// The body, which names the fresh challenge that goes with it.
    pub(crate) fn body(&self, challenge: &str) -> Value {
        json!({
            "type": format!("https://paymentauth.org/problems/{}", self.kind), "title": self.title,
            "status": self.status.as_u16(), "detail": self.detail, "challengeId": challenge,
        })
    }
}

/// The credential's text, from either header. Another scheme in Authorization is none.
pub(crate) fn credential(headers: &HeaderMap) -> Option<&str> {
    let found = ["payment-authorization", "authorization"].into_iter().flat_map(|name| headers.get_all(name));
    found.filter_map(|value| value.to_str().ok()?.split_once(' ')).find_map(|(scheme, token)| {
        let payment = scheme.eq_ignore_ascii_case("payment");
        payment.then(|| token.trim())
    })
}

/// A credential that was read and not checked.
#[derive(Clone, Debug)]
pub(crate) struct Presented {
    challenge: Value,
    kind: String,
    source: String,
    pub(crate) authorization: Authorization,
}

impl Presented {
    pub(crate) fn read(token: &str) -> Result<Self, Problem> {
        let read = || {
            let credential = wire::from_url_safe(token)?;
            let payload = credential.get("payload")?;
            Some(Self {
                challenge: credential.get("challenge")?.clone(),
                kind: payload.get("type")?.as_str()?.to_owned(),
                source: credential.get("source").and_then(Value::as_str).unwrap_or_default().to_owned(),
                authorization: Authorization::parse(payload, payload.get("signature")?)?,
            })
        };
        read().ok_or_else(Problem::malformed)
    }

    fn echoed(&self, name: &str) -> &str {
        self.challenge.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether it answers a challenge of this server for this route, and pays it. `fresh` is what the route asks now.
    pub(crate) fn check(&self, config: &PaidConfig, terms: &Terms, fresh: &Challenge) -> Result<(), Problem> {
        let told = self.echoed("id");
        let parts =
            ["realm", "method", "intent", "request", "expires", "digest", "opaque"].map(|name| self.echoed(name));
        if id(&config.secret, &parts) != told {
            return Err(Problem::challenge(told, "challenge was not issued by this server"));
        }
        let [realm, method, intent, request, expires, _, opaque] = parts;
        let opaque = wire::from_url_safe(opaque).unwrap_or_default();
        let route = opaque.get("route").and_then(Value::as_str);
        let same = [
            ("realm", realm == fresh.realm),
            ("method", method == fresh.method),
            ("intent", intent == fresh.intent),
            ("route", route == Some(fresh.route.as_str())),
            ("request", request == fresh.request),
        ];
        if let Some((what, _)) = same.into_iter().find(|(_, same)| !same) {
            let reason = format!("credential {what} does not match this route's requirements");
            return Err(Problem::challenge(told, &reason));
        }
        if wire::seconds(expires).is_none_or(|expires| expires <= terms.now) {
            return Err(Problem::of("payment-expired", "Payment Expired", format!("Payment expired at {expires}.")));
        }
        if self.kind != "authorization" {
            return Err(Problem::verification("type mismatch"));
        }
        if let Some(flaw) = self.authorization.flaw(terms) {
            return Err(Problem::verification(match flaw {
                Flaw::Amount => "amount mismatch",
                Flaw::Payee => "recipient mismatch",
                Flaw::NotYet => "is not valid yet",
                Flaw::Expired => "has expired",
                Flaw::Signature => "signature mismatch",
            }));
        }
        if self.authorization.nonce != keccak256(format!("{told}{realm}")) {
            return Err(Problem::verification("challenge hash mismatch"));
        }
        let source = format!("did:pkh:eip155:{}:{}", terms.named_chain, self.authorization.from);
        if !source.eq_ignore_ascii_case(&self.source) {
            return Err(Problem::verification("source mismatch"));
        }
        Ok(())
    }
}

/// The value of `Payment-Receipt`.
pub(crate) fn receipt(transaction: B256, now: u64) -> String {
    let receipt = json!({"method": "evm", "reference": transaction, "status": "success", "timestamp": wire::iso(now)});
    wire::url_safe(&receipt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_as_a_deployed_server_makes_it() {
        let request = "eyJhbW91bnQiOiIxMDAwMCIsImN1cnJlbmN5IjoiMHg1RmJEQjIzMTU2NzhhZmVjYjM2N2YwMzJkOTNGNjQyZjY0MTgwYWEzIi\
                       wibWV0aG9kRGV0YWlscyI6eyJjaGFpbklkIjoxMzcsImNyZWRlbnRpYWxUeXBlcyI6WyJhdXRob3JpemF0aW9uIl0sImRlY2ltYW\
                       xzIjo2fSwicmVjaXBpZW50IjoiMHgzQzQ0Q2REZEI2YTkwMGZhMmI1ODVkZDI5OWUwM2QxMkZBNDI5M0JDIn0";
        let parts = ["mpp.test.local", "evm", "charge", request, "2026-11-20T11:59:46.460Z", "", ""];
        let made = id("test-secret-key-at-least-32-bytes-long!!", &parts);
        assert_eq!(made, "TZqgW1KwddRZCEoz0U1E8e8roYj8C8kbD50QH1BCZXM");
        let nonce = keccak256(format!("{made}mpp.test.local"));
        assert_eq!(nonce.to_string(), "0x84b20a8e81a7148848f59b442a8b99693ab855fc71e93fff1cf5775ad28096e0");
    }

    #[test]
    fn a_credential_is_found_in_either_header() {
        let headers = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
            pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
        };
        assert_eq!(credential(&headers(&[("authorization", "payment abc")])), Some("abc"));
        assert_eq!(credential(&headers(&[("authorization", "Bearer abc")])), None);
        let both = [("authorization", "Bearer abc"), ("payment-authorization", "Payment def")];
        assert_eq!(credential(&headers(&both)), Some("def"));
    }
}
