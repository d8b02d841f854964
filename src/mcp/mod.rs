//! The MCP server: upstream's tools over the [`Runtime`], in every protocol revision that rmcp speaks (2024-11-05 to
//! 2026-07-28).
//!
//! One dispatch point ([`server`]) runs every call in a task of its own, so that a panic or a cancelled wait ends that
//! call only. Arguments are read in [`args`], text for agents is written in [`render`], and each tool is one file in
//! [`tools`]. No tool raises a limit or moves money out of the wallet (M5).

pub mod answer;
pub mod args;
pub mod instructions;
pub mod media;
pub mod person;
mod prompts;
pub mod render;
mod resources;
mod schema;
pub mod server;
mod supervise;
pub mod tools;
mod waiting;

#[cfg(test)]
mod docs;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod skill_tests;
#[cfg(test)]
mod wire_tests;

use rmcp::service::ServerInitializeError;
use rmcp::transport::{IntoTransport, stdio_pipes};
use rmcp::{RoleServer, ServiceExt};

use crate::actors::Runtime;
use crate::metrics;
use server::Server;

/// Why serving ended otherwise than by the client leaving.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The first messages were no MCP handshake.
    #[error("the client does not speak MCP: {0}")]
    Handshake(#[source] Box<ServerInitializeError>),
    /// The service loop broke.
    #[error("the MCP service loop failed: {0}")]
    Loop(#[from] tokio::task::JoinError),
}

/// Serves MCP on standard input and output until the client closes our input.
///
/// Standard output carries nothing else. Shutting the runtime down afterwards is the caller's business: other servers
/// may still use it.
pub async fn serve_stdio(runtime: Runtime) -> Result<(), ServeError> {
    let _session = metrics::session(metrics::Transport::Stdio);
    serve(Server::new(runtime), stdio_pipes()).await
}

/// Serves MCP on any transport until the peer leaves.
pub async fn serve<T, E, A>(server: Server, transport: T) -> Result<(), ServeError>
where
    T: IntoTransport<RoleServer, E, A>,
    E: std::error::Error + Send + Sync + 'static,
{
    match server.serve(transport).await {
        Ok(running) => {
            running.waiting().await?;
            Ok(())
        }
        // The client left before it said anything.
        Err(ServerInitializeError::ConnectionClosed(_) | ServerInitializeError::Cancelled) => Ok(()),
        Err(error) => Err(ServeError::Handshake(Box::new(error))),
    }
}
