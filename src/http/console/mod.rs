//! The console: a page for the person who owns the wallets. Looking needs the operator's token, and what loosens anything the
//! passphrase too. The page's parts are in `page/`, served as they are, under a policy that lets nothing else in.

mod actions;
mod session;
mod state;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, SET_COOKIE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::{Refusal, Wallet, auth, body, guard};
use crate::listener::Peer;
pub use session::Key;
use session::Sessions;

/// Nothing of others, nothing inline, in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";
/// On what the page asks for: no other page can send it.
const OURS: HeaderName = HeaderName::from_static("drain-console");
/// The largest that a page sends.
const MOST_BYTES: usize = 8 << 10;
/// The pause after a wrong token.
const WRONG: Duration = Duration::from_millis(500);
/// Between two documents for a page that watches.
const LOOK: Duration = Duration::from_secs(2);

/// The page's parts.
const PARTS: [(&str, &str, &str); 13] = [
    ("/console", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("/console/console.css", "text/css; charset=utf-8", include_str!("page/console.css")),
    ("/console/favicon.svg", "image/svg+xml", include_str!("page/favicon.svg")),
    ("/console/console.js", SCRIPT, include_str!("page/console.js")),
    ("/console/acts.js", SCRIPT, include_str!("page/acts.js")),
    ("/console/channels.js", SCRIPT, include_str!("page/channels.js")),
    ("/console/chart.js", SCRIPT, include_str!("page/chart.js")),
    ("/console/dom.js", SCRIPT, include_str!("page/dom.js")),
    ("/console/figures.js", SCRIPT, include_str!("page/figures.js")),
    ("/console/link.js", SCRIPT, include_str!("page/link.js")),
    ("/console/model.js", SCRIPT, include_str!("page/model.js")),
    ("/console/panels.js", SCRIPT, include_str!("page/panels.js")),
    ("/console/theme.js", SCRIPT, include_str!("page/theme.js")),
];
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Cheap to clone.
pub type Console = Arc<Shared>;

/// What all requests share.
pub struct Shared {
    state: state::State,
    sessions: Sessions,
    failures: auth::Failures,
    signing_in: tokio::sync::Mutex<()>,
    guard: guard::Guard,
    /// Ends what watches.
    ending: CancellationToken,
}

/// A console over these wallets.
pub fn console(
    wallets: Vec<Wallet>,
    key: Key,
    settings: &crate::config::ServeConfig,
    ending: CancellationToken,
) -> Console {
    Arc::new(Shared {
        state: state::State::new(wallets),
        sessions: Sessions::new(key),
        failures: auth::Failures::default(),
        signing_in: tokio::sync::Mutex::default(),
        guard: guard::Guard::new(settings),
        ending,
    })
}

/// Its routes.
pub fn router(console: Console) -> Router {
    let asked = Router::new()
        .route("/console/api/state", get(show))
        .route("/console/api/events", get(watch))
        .route("/console/api/approvals", post(actions::decide))
        .route("/console/api/freeze", post(actions::freeze))
        .route("/console/api/unfreeze", post(actions::unfreeze))
        .route("/console/api/close", post(actions::close))
        .layer(middleware::from_fn_with_state(console.clone(), signed_in))
        .route("/console/api/session", post(sign_in).delete(sign_out));
    let page = PARTS.into_iter().fold(Router::new(), |router, (path, kind, text)| {
        router.route(path, get(move || async move { ([(CONTENT_TYPE, kind)], text) }))
    });
    page.merge(asked).layer(middleware::from_fn_with_state(console.clone(), ours)).with_state(console)
}

/// By a name of ours, and from a page of ours; what goes out says what a browser may do with it.
async fn ours(State(console): State<Console>, request: Request, next: Next) -> Result<Response, Refusal> {
    console.guard.check_own(request.uri(), request.headers())?;
    let changes = request.method() != Method::GET;
    if changes && !request.headers().contains_key(OURS) {
        return Err(Refusal::new(StatusCode::FORBIDDEN, "Only the console's own page may ask this."));
    }
    let (parts, body) = request.into_parts();
    // In time too: a body that never ends holds a connection.
    let body = if changes { body::read(&parts.headers, body, MOST_BYTES).await? } else { Bytes::new() };
    let mut response = next.run(Request::from_parts(parts, Body::from(body))).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

async fn signed_in(State(console): State<Console>, request: Request, next: Next) -> Result<Response, Refusal> {
    if !console.sessions.is_open(request.headers()) {
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, "The operator's token is needed."));
    }
    Ok(next.run(request).await)
}

#[derive(Deserialize)]
struct SignIn {
    token: String,
}

async fn sign_in(
    State(console): State<Console>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    uri: axum::http::Uri,
    Json(shown): Json<SignIn>,
) -> Result<Response, Refusal> {
    // One try at a time, and a pause after a wrong one: a token that a person thought of is not found by trying.
    let Ok(_turn) = console.signing_in.try_lock() else {
        let text = "Somebody else is signing in.";
        return Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, text).again_in(WRONG));
    };
    match console.sessions.login(&shown.token, guard::means_here(&uri, &headers)) {
        Some(cookie) => Ok((StatusCode::NO_CONTENT, [(SET_COOKIE, cookie)]).into_response()),
        None => {
            tokio::time::sleep(WRONG).await;
            Err(console.failures.failed(peer))
        }
    }
}

async fn sign_out(State(console): State<Console>, headers: HeaderMap) -> StatusCode {
    console.sessions.end(&headers);
    StatusCode::NO_CONTENT
}

async fn show(State(console): State<Console>) -> Result<Response, Refusal> {
    let document = console.state.now().await.map_err(|error| unwritten(&error))?;
    Ok(([(CONTENT_TYPE, "application/json")], document.get().to_owned()).into_response())
}

fn unwritten(error: &serde_json::Error) -> Refusal {
    tracing::error!(%error, "the console's document cannot be written");
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "The state cannot be shown; see the log.")
}

/// The document again and again, as long as the session is open.
async fn watch(State(console): State<Console>, headers: HeaderMap) -> Response {
    let events = futures::stream::unfold((console, headers, false), async |(console, headers, begun)| {
        if begun && tokio::time::timeout(LOOK, console.ending.cancelled()).await.is_ok() {
            return None;
        }
        if !console.sessions.is_open(&headers) {
            return None;
        }
        let document = tokio::select! {
            document = console.state.now() => document.ok()?,
            () = console.ending.cancelled() => return None,
        };
        let event = format!("event: state\ndata: {}\n\n", document.get());
        Some((Ok::<_, Infallible>(event), (console, headers, true)))
    });
    ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(events)).into_response()
}
