//! The marketplace's directory on loopback, faithful to protocol.md section 10, that can be told to misbehave.

mod catalogue;
mod helpers;
mod listing;
mod varied;

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use alloy::primitives::Address;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;

pub use listing::{Form, Listing};
pub use varied::varied;

use crate::loopback::Server;
use crate::provider::lock;
use crate::rpc::RpcClient;

/// What is fixed for the life of a directory.
#[derive(Clone, Debug)]
pub struct DirectoryConfig {
    /// The node that channel statuses and balances are read from.
    pub rpc_url: String,
    /// Chain of the contracts.
    pub chain_id: u64,
    /// First generation.
    pub contract_v1: Address,
    /// Second generation, named in `_meta.contract`.
    pub contract_v2: Address,
    /// The token.
    pub usdc: Address,
    /// `/api/directory/config`.
    pub fee_wallet: Option<Address>,
    /// The catalogue to begin with.
    pub listings: Vec<Listing>,
}

/// What the directory can do wrong; the default is honest.
#[derive(Clone, Debug, Default)]
pub struct DirectoryFaults {
    /// A bare array in place of the object.
    pub bare_array: bool,
    /// How health and models are spelled.
    pub form: Form,
    /// Each listing appears twice.
    pub duplicated: bool,
    /// Another contract in `_meta.contract`.
    pub meta_contract: Option<Address>,
    /// 500 on the catalogue.
    pub down: bool,
    /// The catalogue is cut-off JSON.
    pub malformed: bool,
    /// The catalogue is a web page.
    pub html: bool,
    /// The catalogue has this many bytes (valid JSON).
    pub huge: Option<usize>,
    /// The catalogue never answers.
    pub hang: bool,
    /// Names and descriptions carry control characters and instructions.
    pub hostile: bool,
    /// 500 on `/api/directory/config`.
    pub config_down: bool,
    /// The gas station's refusal.
    pub gas_refusal: Option<String>,
    /// The gas station never answers.
    pub gas_hang: bool,
    /// Calldata that the status endpoint gives for every channel.
    pub forged_calldata: Option<String>,
    /// Status that the status endpoint gives for every channel.
    pub forged_status: Option<String>,
    /// Refuse feedback and telemetry with 500.
    pub feedback_down: bool,
}

pub(crate) struct Shared {
    config: DirectoryConfig,
    url: String,
    rpc: RpcClient,
    listings: Mutex<Vec<Listing>>,
    faults: Mutex<DirectoryFaults>,
    fee_wallet: Mutex<Option<Address>>,
    telemetry: Mutex<Vec<Value>>,
    feedback: Mutex<Vec<Value>>,
    fuelled: Mutex<HashSet<Address>>,
    requests: Mutex<Vec<String>>,
}

impl Shared {
    fn faults(&self) -> DirectoryFaults {
        lock(&self.faults).clone()
    }
}

/// A running directory. Dropping it resets every connection.
pub struct Directory {
    shared: Arc<Shared>,
    server: Server,
}

impl Directory {
    /// Starts serving on a free port of 127.0.0.1.
    pub async fn start(config: DirectoryConfig) -> io::Result<Self> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let rpc = RpcClient::new(config.rpc_url.clone()).map_err(io::Error::other)?;
        let shared = Arc::new(Shared {
            url,
            rpc,
            listings: Mutex::new(config.listings.clone()),
            faults: Mutex::default(),
            fee_wallet: Mutex::new(config.fee_wallet),
            telemetry: Mutex::default(),
            feedback: Mutex::default(),
            fuelled: Mutex::default(),
            requests: Mutex::default(),
            config,
        });
        let server = Server::start_on(listener, router(Arc::clone(&shared)))?;
        Ok(Self { shared, server })
    }

    /// Full URL of the catalogue, for `DRAIN_DIRECTORY_URL`.
    pub fn url(&self) -> String {
        format!("{}/api/mcp/providers", self.shared.url)
    }

    /// Origin of the marketplace, without a slash at the end.
    pub fn origin(&self) -> String {
        self.shared.url.clone()
    }

    /// The catalogue; changes are served at once.
    pub fn listings(&self) -> MutexGuard<'_, Vec<Listing>> {
        lock(&self.shared.listings)
    }

    /// Changes one listing; false if there is none of that id.
    pub fn change(&self, id: &str, change: impl FnOnce(&mut Listing)) -> bool {
        self.listings().iter_mut().find(|listing| listing.id == id).map(change).is_some()
    }

    /// Changes switches.
    pub fn set(&self, change: impl FnOnce(&mut DirectoryFaults)) {
        change(&mut lock(&self.shared.faults));
    }

    /// Another fee wallet, or none.
    pub fn set_fee_wallet(&self, wallet: Option<Address>) {
        *lock(&self.shared.fee_wallet) = wallet;
    }

    /// While down, every connection is reset.
    pub fn set_down(&self, down: bool) {
        self.server.set_down(down);
    }

    /// Telemetry received.
    pub fn telemetry(&self) -> Vec<Value> {
        lock(&self.shared.telemetry).clone()
    }

    /// Feedback received.
    pub fn feedback(&self) -> Vec<Value> {
        lock(&self.shared.feedback).clone()
    }

    /// Addresses that the gas station has served.
    pub fn fuelled(&self) -> HashSet<Address> {
        lock(&self.shared.fuelled).clone()
    }

    /// Requests received: method, path and query.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.shared.requests).clone()
    }
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory").field("url", &self.url()).finish()
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/api/mcp/providers", get(catalogue::providers))
        // The seed document's spelling.
        .route("/api/mcpproviders", get(catalogue::providers))
        .route("/api/directory/providers", get(catalogue::directory_providers))
        .route("/api/directory/config", get(helpers::config))
        .route("/api/channels/status", get(helpers::channel_status))
        .route("/api/gas-station", post(helpers::gas_station))
        .route("/api/telemetry", post(helpers::telemetry))
        .route("/api/feedback", post(helpers::feedback))
        .route("/api/drain/signing", get(helpers::signing))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), record))
        .with_state(shared)
}

async fn record(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    lock(&shared.requests).push(format!("{} {}", request.method(), request.uri()));
    next.run(request).await
}

fn json_answer(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

fn error(status: StatusCode, text: &str) -> Response {
    json_answer(status, &json!({"error": text}))
}
