//! Ledger devices: each signature is confirmed by a press.
//!
//! From the outside inwards: [`LedgerBackend`] (whose turn it is), `session` (one request, from the connection to the
//! press), `app` and `typed_data` (what the Ethereum app is told and answers), `apdu` (commands and status words),
//! `transport` (frames, to a child process or over TCP), [`pipe`] (that child: USB). [`DeviceProblem`] is what a person
//! hears; `describe` what they are asked.
//!
//! The commands and answers were recorded from the real app: see the tests beside `vectors.json`.

mod apdu;
mod app;
mod backend;
mod describe;
mod path;
pub mod pipe;
pub(crate) mod session;
mod transport;
mod typed_data;
pub mod usb;

use drain_protocol::Address;

pub use backend::LedgerBackend;
pub use path::{HdPath, NotAPath};
pub use transport::Connect;

use crate::error::SignerError;

/// The accounts that a device has at some paths, in their order. Needs no press.
pub async fn accounts(connect: &Connect, paths: &[HdPath]) -> Result<Vec<Address>, SignerError> {
    Ok(session::accounts(connect, paths).await?)
}
