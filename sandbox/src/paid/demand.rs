//! The 402, of whatever protocols a route speaks, always with a fresh challenge.

use alloy::primitives::Address;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::mpp::{Challenge, Problem};
use super::terms::Terms;
use super::x402::{self, Version};
use super::{PaidFaults, Shared, wire};
use crate::provider::refusal::{json_body, set};

/// No text in either base64 alphabet.
const GARBAGE: &str = "%%%";

/// How a path wants to be paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Speaks {
    pub(crate) mpp: bool,
    pub(crate) x402: Option<Version>,
}

/// What is asked for one request, in the forms of the protocols that its route speaks.
pub(crate) struct Demand {
    pub(crate) speaks: Speaks,
    pub(crate) faults: PaidFaults,
    pub(crate) terms: Terms,
    pub(crate) challenge: Challenge,
    pub(crate) url: String,
    pub(crate) method: String,
}

/// What a 402 says of the request before it.
pub(crate) enum Reason {
    /// There was no credential, or a new one is wanted.
    Unpaid,
    /// Something is wrong with an MPP credential.
    Mpp(Problem),
    /// Something is wrong with an x402 payload of this payer, where it could be read.
    X402(&'static str, Option<Address>),
}

impl Demand {
    /// `path` is without the query, which MPP's challenge is not bound to.
    pub(crate) fn new(
        shared: &Shared,
        faults: PaidFaults,
        terms: Terms,
        speaks: Speaks,
        (method, path, whole): (&str, &str, &str),
    ) -> Self {
        let (route, number) = (format!("{method} {path}"), shared.next_challenge());
        let challenge = Challenge::new(&shared.config, &faults, &terms, &route, number);
        let url = format!("{}{whole}", shared.url);
        Self { speaks, faults, terms, challenge, url, method: method.to_owned() }
    }

    /// x402's entry.
    pub(crate) fn entry(&self, version: Version) -> Value {
        x402::entry(version, &self.faults, &self.terms, &self.url, &self.method)
    }

    /// The answer.
    pub(crate) fn response(&self, reason: &Reason) -> Response {
        let unpaid = Problem::unpaid();
        let problem = if let Reason::Mpp(problem) = reason { problem } else { &unpaid };
        let (status, mut body) = if self.speaks.mpp {
            (problem.status, problem.body(&self.challenge.id))
        } else {
            (StatusCode::PAYMENT_REQUIRED, json!({}))
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.speaks.mpp {
            set(&mut headers, "www-authenticate", Some(&self.challenge.header(&self.faults)));
        }
        if let Some(version) = self.speaks.x402 {
            let (error, payer) = match reason {
                Reason::X402(error, payer) => (*error, *payer),
                Reason::Mpp(problem) => (problem.detail.as_str(), None),
                Reason::Unpaid => (version.unpaid(), None),
            };
            let required = x402::required(version, self.entry(version), &self.url, error);
            match version {
                Version::V2 => {
                    let text = if self.faults.garbage { GARBAGE.to_owned() } else { wire::standard(&required) };
                    set(&mut headers, "payment-required", Some(&text));
                }
                Version::V1 => {
                    body = required;
                    if let Some(payer) = payer {
                        body["payer"] = json!(payer.to_string());
                    }
                }
            }
        }
        if self.faults.garbage && self.speaks.x402 == Some(Version::V1) {
            let half = r#"{"x402Version":1,"accepts":[{"scheme":"exact","#;
            return (status, headers, [(header::CONTENT_TYPE, "application/json; charset=utf-8")], half)
                .into_response();
        }
        let mut response = (status, headers, json_body(&body)).into_response();
        if self.speaks.mpp {
            let kind = HeaderValue::from_static("application/problem+json");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
        }
        response
    }
}
