//! The routes, and the order in which a paid request is verified, settled and answered.

use std::sync::Arc;

use alloy::primitives::{B256, keccak256};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Shared;
use super::demand::{Demand, Reason, Speaks};
use super::log::{PaidRequest, Protocol, Ticket};
use super::mpp::{self, Problem};
use super::terms::Terms;
use super::token::Authorization;
use super::work::work;
use super::x402::{self, Version};
use crate::loopback::Connection;
use crate::provider::refusal::{json_body, not_found, set};

/// Body limit.
const BODY: usize = 8 * 1024 * 1024;

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(answer).layer(DefaultBodyLimit::max(BODY)).with_state(shared)
}

/// What becomes of a request.
enum Reply {
    Answer(Response),
    /// The connection is reset.
    Cut,
}

/// What the first part of a path stands for.
enum Route {
    Priced(Speaks),
    Free,
    Other,
}

impl Route {
    fn of(path: &str) -> Option<Self> {
        let priced = |mpp, x402| Some(Self::Priced(Speaks { mpp, x402 }));
        match path.split('/').nth(1)? {
            "mpp" => priced(true, None),
            "x402v2" => priced(false, Some(Version::V2)),
            "x402v1" => priced(false, Some(Version::V1)),
            "both" => priced(true, Some(Version::V2)),
            "free" => Some(Self::Free),
            "other" => Some(Self::Other),
            _ => None,
        }
    }
}

/// A request as the log has it, and its headers as they were read.
struct Asked {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

/// Every route. The work runs in its own task, since what was begun is settled also when the client has gone.
async fn answer(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let ticket = shared.open_ticket(PaidRequest {
        method: method.to_string(),
        path: uri.path_and_query().map_or_else(String::new, ToString::to_string),
        headers: headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect(),
        body: body.to_vec(),
        status: None,
        credential: None,
    });
    let work = tokio::spawn(async move {
        let reply = shared.serve(ticket, &Asked { method, uri, headers, body }).await;
        if let Reply::Answer(response) = &reply {
            shared.answered(ticket, response.status().as_u16());
        }
        reply
    });
    match work.await {
        Ok(Reply::Answer(response)) => response,
        Ok(Reply::Cut) | Err(_) => {
            connection.cut();
            std::future::pending().await
        }
    }
}

/// A credential that passed every check, and what it pays for.
struct Verified<'a> {
    ticket: Ticket,
    protocol: Protocol,
    authorization: Authorization,
    demand: &'a Demand,
    asked: &'a Asked,
}

impl Shared {
    async fn serve(&self, ticket: Ticket, asked: &Asked) -> Reply {
        let (path, faults) = (asked.uri.path(), self.faults());
        let speaks = match Route::of(path) {
            None => return Reply::Answer(not_found(asked.method.as_str(), path)),
            Some(Route::Free) => return Reply::Answer(self.work(asked, false)),
            Some(Route::Other) => return Reply::Answer(other()),
            Some(Route::Priced(speaks)) => speaks,
        };
        if let Some(location) = &faults.redirect {
            return Reply::Answer(redirect(location));
        }
        let now = match self.rpc.clock().await {
            Ok(now) => now,
            Err(error) => {
                let body = json_body(&json!({"error": error.to_string()}));
                return Reply::Answer((StatusCode::SERVICE_UNAVAILABLE, body).into_response());
            }
        };
        let whole = asked.uri.path_and_query().map_or(path, |whole| whole.as_str());
        let terms = Terms::new(self, &faults, now);
        let demand = Demand::new(self, faults, terms, speaks, (asked.method.as_str(), path, whole));
        match self.verify(ticket, asked, &demand).await {
            Ok(verified) => self.charge(&verified).await,
            Err(reason) => Reply::Answer(demand.response(&reason)),
        }
    }

    /// Finds the request's credential and checks it, up to what the chain would say.
    async fn verify<'a>(&self, ticket: Ticket, asked: &'a Asked, demand: &'a Demand) -> Result<Verified<'a>, Reason> {
        let (speaks, terms) = (demand.speaks, &demand.terms);
        let token = mpp::credential(&asked.headers).filter(|_| speaks.mpp);
        let payload = speaks.x402.and_then(|version| Some((version, version.payload(&asked.headers)?)));
        let (protocol, authorization) = match (token, payload) {
            (Some(token), _) => {
                let presented = mpp::Presented::read(token).map_err(Reason::Mpp)?;
                self.presented(ticket, Protocol::Mpp, &presented.authorization, terms.asset);
                presented.check(&self.config, terms, &demand.challenge).map_err(Reason::Mpp)?;
                (Protocol::Mpp, presented.authorization)
            }
            (None, Some((version, payload))) => {
                let presented = x402::Presented::read(version, payload).map_err(|error| Reason::X402(error, None))?;
                let protocol = if version == Version::V1 { Protocol::X402V1 } else { Protocol::X402V2 };
                self.presented(ticket, protocol, &presented.authorization, terms.asset);
                let payer = Some(presented.authorization.from);
                presented.check(terms, &demand.entry(version)).map_err(|error| Reason::X402(error, payer))?;
                (protocol, presented.authorization)
            }
            (None, None) => return Err(Reason::Unpaid),
        };
        if self.simulate(&authorization, terms.asset).await.is_err() {
            return Err(match protocol {
                Protocol::Mpp => Reason::Mpp(Problem::unsettled()),
                Protocol::X402V1 | Protocol::X402V2 => Reason::X402(x402::NOT_TAKEN, Some(authorization.from)),
            });
        }
        self.verified(ticket);
        Ok(Verified { ticket, protocol, authorization, demand, asked })
    }

    /// MPP settles before the work, x402 after it and only if it went well.
    async fn charge(&self, verified: &Verified<'_>) -> Reply {
        let (demand, protocol) = (verified.demand, verified.protocol);
        if let Some(location) = &demand.faults.redirect_paid {
            return Reply::Answer(redirect(location));
        }
        let done = if protocol == Protocol::Mpp { None } else { Some(self.handle(verified.asked)) };
        let done = match done {
            Some(failed) if failed.status().as_u16() >= 400 => return Reply::Answer(failed),
            done => done,
        };
        let lies = self.with_faults(|faults| faults.lie.take());
        let settled = if lies {
            Ok(invented(verified))
        } else {
            self.settle(verified.ticket, &verified.authorization, demand.terms.asset).await
        };
        let Ok(transaction) = settled else { return Reply::Answer(unsettled(verified)) };
        if self.with_faults(|faults| faults.cut_after_settle.take()) {
            return Reply::Cut;
        }
        if self.with_faults(|faults| faults.greedy.take()) {
            return Reply::Answer(demand.response(&Reason::Unpaid));
        }
        if let Some(pause) = demand.faults.hang {
            tokio::time::sleep(pause).await;
        }
        let mut response = done.unwrap_or_else(|| self.handle(verified.asked));
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private"));
        if !self.with_faults(|faults| faults.no_receipt.take()) {
            let (name, value) = receipt(verified, transaction);
            set(headers, name, Some(&value));
        }
        Reply::Answer(response)
    }

    /// The work, or its failure.
    fn handle(&self, asked: &Asked) -> Response {
        if self.with_faults(|faults| faults.fail_500.take()) {
            let body = json_body(&json!({"err": "backend broke"}));
            return (StatusCode::INTERNAL_SERVER_ERROR, body).into_response();
        }
        self.work(asked, self.faults().oversized)
    }

    fn work(&self, asked: &Asked, oversized: bool) -> Response {
        let (status, body) = work(asked.uri.path(), &asked.body, self.next_answer(), oversized);
        (status, json_body(&body)).into_response()
    }
}

fn version(protocol: Protocol) -> Option<Version> {
    match protocol {
        Protocol::Mpp => None,
        Protocol::X402V1 => Some(Version::V1),
        Protocol::X402V2 => Some(Version::V2),
    }
}

/// Header and value that tell of a settlement.
fn receipt(verified: &Verified<'_>, transaction: B256) -> (&'static str, String) {
    let terms = &verified.demand.terms;
    match version(verified.protocol) {
        None => ("payment-receipt", mpp::receipt(transaction, terms.now)),
        Some(version) => {
            let payer = verified.authorization.from;
            (version.response_header(), x402::receipt(version, terms, payer, transaction))
        }
    }
}

/// The chain refused what it seemed to take: somebody else was quicker.
fn unsettled(verified: &Verified<'_>) -> Response {
    let (demand, payer) = (verified.demand, verified.authorization.from);
    let Some(version) = version(verified.protocol) else {
        return demand.response(&Reason::Mpp(Problem::unsettled()));
    };
    let mut response = demand.response(&Reason::X402(x402::NOT_SETTLED, Some(payer)));
    if version == Version::V2 {
        // The second version tells of it in the settlement's header alone.
        let headers = response.headers_mut();
        headers.remove(HeaderName::from_static("payment-required"));
        set(headers, version.response_header(), Some(&x402::failure(version, &demand.terms, payer)));
    }
    response
}

fn invented(verified: &Verified<'_>) -> B256 {
    keccak256(verified.authorization.nonce)
}

fn redirect(location: &str) -> Response {
    (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]).into_response()
}

/// A 402 that no protocol is in.
fn other() -> Response {
    let body: Value = json!({"error": "payment required", "message": "Buy credits at the desk.", "price": "0.01"});
    (StatusCode::PAYMENT_REQUIRED, json_body(&body)).into_response()
}
