//! `DRAIN_METRICS_ADDR`: a listener of its own for [`render`], where nothing else is served.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{CONTENT_TYPE as TEXT, render, serve};
use crate::listener;

/// Connections at once: a scraper or two, and a person who looks. Further ones are answered 503.
const MOST: usize = 16;
/// Between two tries to listen: who had the wallet before may not have ended yet.
const AGAIN: Duration = Duration::from_secs(2);

/// The one thing that is served.
pub fn router() -> Router {
    Router::new().route("/metrics", get(async || ([(CONTENT_TYPE, TEXT)], render())))
}

/// Serves until it is dropped.
pub async fn listen(addr: SocketAddr) {
    serve();
    let mut said = false;
    loop {
        let error = match TcpListener::bind(addr).await {
            Ok(listener) => {
                tracing::info!(%addr, "metrics are served");
                // Its connections end with it.
                let closed = CancellationToken::new();
                let _end = closed.clone().drop_guard();
                return listener::accept(listener, router(), MOST, closed, TaskTracker::new()).await;
            }
            Err(error) => error,
        };
        if !std::mem::replace(&mut said, true) {
            tracing::warn!(%addr, %error, "metrics cannot be served there (DRAIN_METRICS_ADDR); tried again");
        }
        tokio::time::sleep(AGAIN).await;
    }
}
