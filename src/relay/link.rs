//! One message to the server, and what became of it: the one place that says whether it may have been begun.

use std::time::Duration;

use axum::body::Bytes;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use drain_protocol::text::one_line;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, Url};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::message::{self, Message, Request};
use super::session::Session;
use crate::config::{RelayConfig, shown_url};
use crate::error::Failure;
use crate::http::NOT_BEGUN;
use crate::http_client::{HttpClient, HttpError, UrlPolicy, deadline, post_json, read_prefix};

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");
const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");
const EVENTS: &str = "text/event-stream";
const JSON: &str = "application/json";

/// What is read of a refusal, and for how long.
const REFUSAL_BYTES: usize = 64 * 1024;
const REFUSAL_TIME: Duration = Duration::from_secs(5);
/// How soon an address that cannot be reached is tried again.
const SOON: Duration = Duration::from_millis(250);
/// What a server may say of waiting.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// What became of a message.
pub(super) enum Fate {
    /// The server has it and answers.
    Answers(Reply),
    /// It was surely not begun.
    Refused(Refusal),
    /// It may have been begun; why there is no answer.
    Unknown(String),
}

/// An answer whose head is there.
pub(super) struct Reply {
    /// The session that it begins.
    pub session: Option<HeaderValue>,
    pub body: Body,
}

/// What comes after the head.
pub(super) enum Body {
    /// Nothing: it was taken.
    Empty,
    /// One message, which is here.
    Whole(Bytes),
    /// One message.
    Json(Response),
    /// Messages, the answer last.
    Events(Response),
}

/// A message that was not begun.
#[derive(Debug)]
pub(super) struct Refusal {
    pub why: Why,
    /// When it may be sent again, where waiting helps.
    pub again: Option<Duration>,
}

/// Why not.
#[derive(Debug)]
pub(super) enum Why {
    Unreachable(String),
    NotNow(String),
    Token,
    Name(String),
    TooLarge,
    NoSession,
    /// The client has not greeted the server.
    NoGreeting,
    OtherRevision,
    Elsewhere,
    NoServer(u16),
}

/// Where a message belongs.
#[derive(Clone, Copy)]
pub(super) enum To<'a> {
    /// To no session: it begins one, or there is none.
    Nobody,
    Session(&'a Session),
    /// To none, of a client of the stateless revision.
    Stateless(&'a Request, &'a str),
}

/// The server, as this agent reaches it.
pub(super) struct Link {
    http: HttpClient,
    url: Url,
    authorization: HeaderValue,
    /// The server in texts.
    pub shown: String,
}

impl Link {
    pub fn new(config: &RelayConfig) -> Result<Self, Failure> {
        let bearer = Zeroizing::new(format!("Bearer {}", config.token.expose()));
        let mut authorization =
            HeaderValue::from_str(&bearer).map_err(|_| Failure::internal("the token is no header"))?;
        // Whatever logs headers leaves it out (M12).
        authorization.set_sensitive(true);
        // The operator's own server may be on this machine or in a private network; https or loopback it is anyway.
        let http = HttpClient::new(UrlPolicy { allow_insecure: true });
        let shown = shown_url(&config.url).trim_end_matches("/…").to_owned();
        Ok(Self { http, url: config.url.clone(), authorization, shown })
    }

    /// Sends a message once, and waits for the head of the answer.
    pub async fn post(&self, body: &Bytes, to: To<'_>, until: Instant) -> Fate {
        let mut request = post_json(self.url.clone(), Vec::new());
        *request.body_mut() = Some(body.clone().into());
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        self.head(headers, to);
        self.send(request, to, until).await
    }

    /// Listens to a session beside its calls; after `last`, to what came since.
    pub async fn listen(&self, session: &Session, last: Option<&str>, until: Instant) -> Fate {
        let mut request = reqwest::Request::new(Method::GET, self.url.clone());
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static(EVENTS));
        if let Some(Ok(last)) = last.map(HeaderValue::from_str) {
            headers.insert(LAST_EVENT, last);
        }
        self.head(headers, To::Session(session));
        self.send(request, To::Session(session), until).await
    }

    /// Ends a session. Where that fails the server ends it when it was unused for a while.
    pub async fn end(&self, session: &Session, within: Duration) {
        if session.id.is_none() {
            return;
        }
        let mut request = reqwest::Request::new(Method::DELETE, self.url.clone());
        self.head(request.headers_mut(), To::Session(session));
        let _ = self.http.send(request, deadline(within)).await;
    }

    fn head(&self, headers: &mut HeaderMap, to: To<'_>) {
        headers.insert(AUTHORIZATION, self.authorization.clone());
        match to {
            To::Nobody => {}
            To::Session(session) => {
                headers.extend(session.id.clone().map(|id| (SESSION, id)));
                headers.extend(session.version.clone().map(|version| (VERSION, version)));
            }
            To::Stateless(request, version) => {
                let named = [
                    (VERSION, Some(version)),
                    (METHOD, Some(request.method.as_str())),
                    (NAME, request.subject.as_deref()),
                ];
                for (name, value) in named {
                    // What is no header is missed by the server, which says so.
                    headers
                        .extend(value.and_then(|value| Some((name, HeaderValue::from_str(&as_header(value)).ok()?))));
                }
            }
        }
    }

    async fn send(&self, request: reqwest::Request, to: To<'_>, until: Instant) -> Fate {
        match self.http.send(request, until).await {
            Ok(response) => judge(response, matches!(to, To::Session(session) if session.id.is_some())).await,
            Err(HttpError::Redirect { .. }) => Fate::Refused(Refusal { why: Why::Elsewhere, again: None }),
            Err(error) if error.before_sent() => {
                // Who is not trusted now is not in a second.
                let again = (!matches!(error, HttpError::Tls(_) | HttpError::NoRoots)).then_some(SOON);
                Fate::Refused(Refusal { why: Why::Unreachable(error.to_string()), again })
            }
            Err(error) => Fate::Unknown(error.to_string()),
        }
    }
}

async fn judge(response: Response, in_session: bool) -> Fate {
    let (status, headers) = (response.status(), response.headers());
    let session = headers.get(SESSION).cloned();
    if status.is_success() {
        let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let body = match kind.as_str() {
            JSON => Body::Json(response),
            EVENTS => Body::Events(response),
            _ if status == StatusCode::ACCEPTED || status == StatusCode::NO_CONTENT => Body::Empty,
            _ => return Fate::Unknown("what answered does not speak MCP".into()),
        };
        return Fate::Answers(Reply { session, body });
    }
    let not_begun = headers.contains_key(NOT_BEGUN);
    let wait = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let wait = wait.map(|seconds: u64| Duration::from_secs(seconds).min(LONGEST_WAIT));
    let (body, _) = read_prefix(response, REFUSAL_BYTES, deadline(REFUSAL_TIME)).await;
    let body = Bytes::from(body);
    let text = one_line(&String::from_utf8_lossy(&body), 200);
    if !not_begun && matches!(message::read(body.clone()), Ok(Message::Answer { .. })) {
        return Fate::Answers(Reply { session: None, body: Body::Whole(body) });
    }
    why_not(status, in_session, not_begun, text).map_or_else(
        || Fate::Unknown(format!("HTTP {}", status.as_u16())),
        |why| {
            let waits = matches!(why, Why::NotNow(_)).then(|| wait.unwrap_or(SOON));
            let again = if matches!(why, Why::NoSession) { Some(Duration::ZERO) } else { waits };
            Fate::Refused(Refusal { why, again })
        },
    )
}

/// Why a status means that nothing was begun; `None` where something may have been. A proxy that has sent the message on
/// says 502, 504 or 503 of a server that then broke off, so these count only with the server's own word for it.
fn why_not(status: StatusCode, in_session: bool, not_begun: bool, text: String) -> Option<Why> {
    match status.as_u16() {
        401 => Some(Why::Token),
        403 => Some(Why::Name(text)),
        404 if in_session && !not_begun => Some(Why::NoSession),
        413 => Some(Why::TooLarge),
        429 => Some(Why::NotNow(text)),
        _ if not_begun => Some(Why::NotNow(text)),
        // What is wrong with the head of a request is found before it is worked on.
        code @ (400 | 404 | 405 | 406 | 410 | 411 | 414 | 415 | 417 | 421 | 422 | 426 | 431) => {
            Some(Why::NoServer(code))
        }
        _ => None,
    }
}

/// A value as MCP writes it in a header: in base64 where it is no plain text.
fn as_header(value: &str) -> String {
    let plain = value.bytes().all(|byte| (0x20..=0x7e).contains(&byte)) && value.trim() == value;
    if plain && !value.starts_with("=?base64?") {
        return value.to_owned();
    }
    format!("=?base64?{}?=", BASE64_STANDARD.encode(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m15_a_status_means_not_begun_only_where_that_is_sure() {
        let why = |code: u16, in_session, not_begun| {
            why_not(StatusCode::from_u16(code).unwrap(), in_session, not_begun, String::new())
        };
        for code in [408, 409, 500, 502, 503, 504, 520, 599] {
            assert!(why(code, true, false).is_none(), "{code}");
        }
        for code in [408, 500, 503] {
            assert!(matches!(why(code, true, true), Some(Why::NotNow(_))), "{code}");
        }
        assert!(matches!(why(401, true, true), Some(Why::Token)));
        assert!(matches!(why(404, true, false), Some(Why::NoSession)));
        assert!(matches!(why(404, false, false), Some(Why::NoServer(404))));
        assert!(matches!(why(413, false, true), Some(Why::TooLarge)));
    }

    #[test]
    fn names_are_written_as_headers_can_hold_them() {
        assert_eq!(as_header("drain_chat"), "drain_chat");
        assert_eq!(as_header("drain://wallet"), "drain://wallet");
        for odd in ["é", " a", "a\n", "=?base64?x?="] {
            let written = as_header(odd);
            let inner = written.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")).unwrap();
            assert_eq!(BASE64_STANDARD.decode(inner).unwrap(), odd.as_bytes());
        }
    }
}
