//! The fleet's server: MCP over HTTP for agents with tokens, and what an operator's machines ask.
//!
//! One listener ([`crate::listener`]): `/mcp` ([`mcp`]) and `/v1` ([`gateway`]) for agents, `/metrics`, `/healthz` and `/readyz`
//! ([`health`]). A request is looked at in this order: is the host ours and the page allowed ([`guard`]), whose token is it
//! ([`auth`]), which replica has its wallet ([`forward`]), has the agent a call to spare, is the body within its limits. Only then it reaches MCP. Each agent has an MCP
//! service and sessions of its own ([`fleet`]), so that another agent's session is none at all. TLS is a proxy's business.

mod auth;
mod body;
pub mod console;
mod fleet;
mod forward;
mod gateway;
mod guard;
mod health;
mod mcp;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONNECTION, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::actors::Runtime;
use crate::config::ServeConfig;
use crate::error::{Code, Failure};
use crate::http_client::{HttpClient, UrlPolicy};
use crate::listener::{self, Peer};
use crate::metrics;

/// How often the agents' file is looked at where nobody calls.
const LOOK: Duration = Duration::from_secs(1);

/// A wallet that is served.
#[derive(Clone)]
pub struct Wallet {
    /// Its name in the configuration.
    pub name: String,
    /// Its actors, or who has them.
    pub runtime: Runtime,
}

/// What all requests share.
struct Shared {
    settings: ServeConfig,
    guard: guard::Guard,
    failures: auth::Failures,
    fleet: fleet::Fleet,
    health: health::Health,
    /// To other replicas.
    replicas: HttpClient,
    /// Answers that did not reach the gateway's clients.
    undelivered: gateway::Undelivered,
    /// Cancelled when nothing new is begun.
    ending: CancellationToken,
    /// Cancelled when nobody is waited for any more.
    closes: CancellationToken,
    /// Calls that run.
    calls: TaskTracker,
}

/// The server while it listens.
pub struct Serving {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// Cancelled when the listener and all connections end.
    closed: CancellationToken,
    connections: TaskTracker,
}

impl Serving {
    /// Listens, and serves from now on.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn start(settings: ServeConfig, home: &Path, wallets: Vec<Wallet>) -> Result<Self, Failure> {
        let cannot = |error: std::io::Error| {
            Failure::unspent(
                Code::InvalidConfig,
                format!("{} cannot be listened on: {error}", settings.listen),
                "End what listens there, or set DRAIN_LISTEN to another address.",
            )
        };
        let listener = TcpListener::bind(settings.listen).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let shared = Arc::new(Shared {
            guard: guard::Guard::new(&settings),
            failures: auth::Failures::default(),
            fleet: fleet::Fleet::new(&settings, home, wallets.clone()),
            health: health::Health::new(wallets.clone()),
            // The operator names them, on the operator's own network.
            replicas: HttpClient::new(UrlPolicy { allow_insecure: true }),
            undelivered: gateway::Undelivered::new(settings.call_time),
            ending: CancellationToken::new(),
            closes: CancellationToken::new(),
            calls: TaskTracker::new(),
            settings,
        });
        metrics::serve();
        let (closed, connections) = (CancellationToken::new(), TaskTracker::new());
        let most = shared.settings.max_connections;
        connections.spawn(listener::accept(
            listener,
            with_console(router(shared.clone()), &shared, &wallets),
            most,
            closed.clone(),
            connections.clone(),
        ));
        connections.spawn(look(shared.clone(), closed.clone()));
        Ok(Self { shared, address, closed, connections })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many agents there are.
    ///
    /// # Errors
    /// While their file cannot be used.
    pub fn agents(&self) -> Result<usize, Failure> {
        self.shared.fleet.refresh().map(|book| book.agents().count())
    }

    /// Begins nothing new from now on, and waits for calls that run, within the limit; those that go on then are not waited
    /// for any more. False where there were any. Readiness and health are answered on.
    pub async fn drain(&self) -> bool {
        self.shared.ending.cancel();
        self.shared.calls.close();
        let ended = tokio::time::timeout(self.shared.settings.drain_time, self.shared.calls.wait()).await.is_ok();
        self.shared.fleet.end();
        ended
    }

    /// Ends the listener and all connections.
    pub async fn close(self) {
        self.shared.closes.cancel();
        // What that lets be said goes out first.
        let _ = tokio::time::timeout(Duration::from_millis(200), self.shared.calls.wait()).await;
        self.closed.cancel();
        self.connections.close();
        // Who does not read an answer is not waited for.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.connections.wait()).await;
    }
}

/// Where the operator named a token for it.
fn with_console(router: Router, shared: &Arc<Shared>, wallets: &[Wallet]) -> Router {
    let Some(token) = &shared.settings.console_token else { return router };
    let key = console::Key::always(token.expose());
    let console = console::console(wallets.to_vec(), key, &shared.settings, shared.ending.clone());
    router.merge(console::router(console))
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/mcp", any(mcp::serve))
        .route("/v1/chat/completions", post(gateway::chat))
        .route("/v1/models", get(gateway::models))
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(async || "drain-mcp runs\n"))
        .route("/readyz", get(health::ready))
        .fallback(async || {
            Refusal::new(
                StatusCode::NOT_FOUND,
                "Only /mcp, /v1/chat/completions, /v1/models, /metrics, /healthz and /readyz are here.",
            )
        })
        .with_state(shared)
}

/// Ends the sessions of agents that were revoked, where none of their requests shows it.
async fn look(shared: Arc<Shared>, closed: CancellationToken) {
    while tokio::time::timeout(LOOK, closed.cancelled()).await.is_err() {
        // What is wrong with the file is logged where it is read.
        let _ = shared.fleet.refresh();
    }
}

async fn show_metrics(
    State(shared): State<Arc<Shared>>,
    axum::Extension(Peer(peer)): axum::Extension<Peer>,
    request: axum::extract::Request,
) -> Result<Response, Refusal> {
    auth::may_see_metrics(&shared, peer, &request)?;
    let head = [(axum::http::header::CONTENT_TYPE, metrics::CONTENT_TYPE), (CACHE_CONTROL, "no-store")];
    Ok((head, metrics::render()).into_response())
}

/// In every refusal: the message was not looked at, so that whoever sent it may send it again.
pub const NOT_BEGUN: HeaderName = HeaderName::from_static("drain-not-begun");

/// A request that goes no further.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    text: String,
    /// When the same may be tried again.
    again_in: Option<Duration>,
    /// Nothing more is read of this connection.
    close: bool,
}

impl Refusal {
    fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), again_in: None, close: false }
    }

    fn again_in(self, wait: Duration) -> Self {
        Self { again_in: Some(wait), ..self }
    }

    fn and_close(self) -> Self {
        Self { close: true, ..self }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = format!("{}\n", self.text);
        self.with(body)
    }
}

impl Refusal {
    /// With this body: what it says to clients and to other replicas is in its head.
    fn with(self, body: impl IntoResponse) -> Response {
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(NOT_BEGUN, HeaderValue::from_static("1"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(axum::http::header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(wait) = self.again_in {
            headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
        }
        if self.close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
