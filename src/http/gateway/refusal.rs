//! Failures in the form that OpenAI clients read. They send a request again by themselves on 408, 409, 429 and 5xx, whatever it
//! cost: where money may have moved the status is none of these, and `x-should-retry` says no in any case.

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, TRANSFER_ENCODING};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::super::Refusal;
use super::request::BadRequest;
use crate::error::{Code, Failure, Money, Retry};

/// Whether a client may send the same once more.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// No answer of a replica's is larger.
const MOST_PASSED_ON: usize = 64 << 20;

/// Why there is no answer.
pub(in crate::http) enum Wrong {
    /// Before the request was looked at.
    Refused(Refusal),
    /// It makes no sense.
    Bad(BadRequest),
    /// It was looked at.
    Failed(Box<Failure>),
}

impl From<Refusal> for Wrong {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<BadRequest> for Wrong {
    fn from(bad: BadRequest) -> Self {
        Self::Bad(bad)
    }
}

impl From<Failure> for Wrong {
    fn from(failure: Failure) -> Self {
        Self::Failed(Box::new(failure))
    }
}

/// The object `error`.
fn error(text: &str, kind: &str, param: Option<&str>, code: &str) -> Value {
    json!({ "error": { "message": text, "type": kind, "param": param, "code": code } })
}

/// A failure's object, also for the middle of a stream.
pub(super) fn of_failure(failure: &Failure) -> Value {
    let text = format!("{}. {} {}", failure.message.trim_end_matches('.'), failure.money.sentence(), next(failure));
    error(&text, kind(failure), param(failure), failure.code.as_str())
}

/// What is to be done here: the tools that a failure names are those of MCP.
fn next(failure: &Failure) -> &str {
    match failure.code {
        Code::ChannelNeeded => {
            "A person lets this agent open channels: DRAIN_AUTO_OPEN, and drain-mcp agents add NAME --auto-open USDC; or opens one for it."
        }
        _ => &failure.next,
    }
}

const fn kind(failure: &Failure) -> &'static str {
    match failure.code {
        Code::InvalidArgument | Code::UnknownModel | Code::UnknownProvider | Code::IdempotencyConflict => {
            "invalid_request_error"
        }
        Code::LimitReached | Code::InsufficientUsdc | Code::InsufficientGas => "insufficient_quota",
        Code::NotAllowed | Code::ApprovalNeeded | Code::ApprovalDenied | Code::WalletFrozen => "permission_error",
        _ => "api_error",
    }
}

const fn param(failure: &Failure) -> Option<&'static str> {
    match failure.code {
        Code::UnknownModel | Code::UnknownProvider => Some("model"),
        _ => None,
    }
}

fn status(failure: &Failure) -> StatusCode {
    // A voucher or a transaction left: another try would pay again.
    if failure.money != Money::NotSpent {
        return StatusCode::FAILED_DEPENDENCY;
    }
    match failure.code {
        Code::InvalidArgument => StatusCode::BAD_REQUEST,
        Code::UnknownModel | Code::UnknownProvider => StatusCode::NOT_FOUND,
        Code::IdempotencyConflict => StatusCode::UNPROCESSABLE_ENTITY,
        Code::LimitReached
        | Code::InsufficientUsdc
        | Code::InsufficientGas
        | Code::ChannelNeeded
        | Code::ChannelExhausted => StatusCode::PAYMENT_REQUIRED,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        code if code.retry() == Retry::Safe => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::FORBIDDEN,
    }
}

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        let (retry, mut response) = match self {
            Self::Refused(refusal) => {
                let (kind, code) = match refusal.status {
                    StatusCode::UNAUTHORIZED => ("authentication_error", "invalid_api_key"),
                    StatusCode::TOO_MANY_REQUESTS => ("rate_limit_error", "rate_limited"),
                    StatusCode::FORBIDDEN => ("permission_error", "not_allowed"),
                    _ => ("api_error", "refused"),
                };
                let body = error(&refusal.text, kind, None, code);
                // Nothing was begun: who may come back is told when.
                (refusal.again_in.is_some(), refusal.with(Json(body)))
            }
            Self::Bad(bad) => {
                let body = error(&bad.text, "invalid_request_error", bad.param, "invalid_argument");
                (false, (StatusCode::BAD_REQUEST, Json(body)).into_response())
            }
            Self::Failed(failure) => {
                let again = failure.money == Money::NotSpent && failure.code.retry() == Retry::Safe;
                (again, (status(&failure), Json(of_failure(&failure))).into_response())
            }
        };
        let headers = response.headers_mut();
        headers.insert(SHOULD_RETRY, HeaderValue::from_static(if retry { "true" } else { "false" }));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// What another replica answered, whole where it is no stream: one that breaks off after its head would be repeated by its client,
/// as a 502 would.
pub(super) async fn passed_on(response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    let streams = head.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    if head.status != StatusCode::BAD_GATEWAY && streams {
        return Response::from_parts(head, body);
    }
    match to_bytes(body, MOST_PASSED_ON).await {
        Ok(whole) if head.status != StatusCode::BAD_GATEWAY => {
            head.headers.remove(TRANSFER_ENCODING);
            Response::from_parts(head, Body::from(whole))
        }
        _ => {
            let text = "The replica that has the wallet ended before it answered: what became of this request is not known. \
                        Send it again under the same Idempotency-Key only: then it is not paid twice.";
            let body = Json(error(text, "api_error", None, Code::OwnerLost.as_str()));
            let mut response = (StatusCode::FAILED_DEPENDENCY, body).into_response();
            response.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static("false"));
            response
        }
    }
}

#[cfg(test)]
mod tests {
    use drain_protocol::Usdc;

    use super::super::super::NOT_BEGUN;
    use super::*;

    /// Whatever a client does by itself with a status: none that it repeats is given where money may have moved.
    #[test]
    fn m15_nothing_that_may_have_cost_money_is_repeated_by_itself() {
        let moved = [
            Money::Reserved { receipt: "c1-1".into(), at_most: Usdc::new(1) },
            Money::Credit { receipt: "c1-1".into() },
            Money::Spent { receipt: "c1-1".into(), amount: Usdc::new(1) },
            Money::Unknown,
            Money::GasOnly,
            Money::Pending { receipt: "open".into() },
        ];
        for code in Code::ALL {
            for money in &moved {
                let failure = Failure::unspent(*code, "it", "Look.").with_money(money.clone());
                let response = Wrong::from(failure).into_response();
                assert_eq!(response.status(), StatusCode::FAILED_DEPENDENCY, "{code:?} {money:?}");
                assert_eq!(response.headers()[SHOULD_RETRY], "false");
                assert!(!response.headers().contains_key(NOT_BEGUN));
            }
            let unspent = Wrong::from(Failure::unspent(*code, "it", "Look.")).into_response();
            let again = unspent.headers()[SHOULD_RETRY] == "true";
            assert_eq!(again, code.retry() == Retry::Safe, "{code:?}");
            let by_itself = unspent.status().is_server_error() || matches!(unspent.status().as_u16(), 408 | 409 | 429);
            assert!(!by_itself || again || *code == Code::Internal, "{code:?}: {}", unspent.status());
        }
    }
}
