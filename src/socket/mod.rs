//! The wallet's socket: one process holds a wallet and runs its runtime, others share it from here (design section 7).
//!
//! A frame is a length and JSON. The first one of each side is a greeting, which compares what must be equal; then the
//! client sends commands, takes them back and answers questions to its person; the server sends progress, questions and
//! results.
//!
//! What crosses are the runtime's own commands and answers, never a key, a voucher or a signature (M12). Who may connect
//! may pay within the limits: the socket lies in the wallet's folder, for its owner alone, and the peer's uid is checked.

mod client;
pub mod frames;
pub mod greeting;
pub mod path;
mod server;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;

pub use client::{Fate, NotConnected, Remote, connect};
pub use server::{Server, Work};

use std::time::Duration;

/// Clients at once.
pub const MAX_CONNECTIONS: usize = 64;
/// Commands at once, of one client.
pub const MAX_CALLS: usize = 256;
/// Commands at once, of all clients.
const MAX_CALLS_OF_ALL: u32 = 1_024;
/// A greeting: the longest part of it are the operator's lists of providers.
pub const GREETING_BYTES: usize = 256 * 1024;
/// A command or an answer. The largest answer that is configured by default fits twice.
pub const FRAME_BYTES: usize = 64 * 1024 * 1024;
/// How long a peer may take to greet.
const GREETING_TIME: Duration = Duration::from_secs(5);
/// How long a peer may take to read one frame.
const WRITE_TIME: Duration = Duration::from_secs(30);
/// Frames that wait for a slow reader.
const OUTGOING: usize = 256;
/// Lines of progress that wait for a slow reader; more are dropped.
const PROGRESS: usize = 32;

/// Whether the other end is a process of the same user.
fn same_user(stream: &tokio::net::UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == rustix::process::getuid().as_raw())
}
