//! Ledger devices: each signature is confirmed by a press.
//!
//! From the outside inwards: `backend` (whose turn it is), `session` (one request, from the connection to the
//! press), `app` and `typed_data` (what the Ethereum app is told and answers), `apdu` (commands and status words),
//! `transport` (frames, to a child process or over TCP), `pipe` (that child: USB). [`DeviceProblem`] is what a person
//! hears; `describe` what they are asked.
//!
//! The commands and answers were recorded from the real app: see the tests beside `vectors.json`.
//!
//! [`LedgerSettings`], [`HdPath`] and [`DeviceProblem`] are there without the feature `ledger`, too: a configuration can be
//! read, and its refusal be told, by every build.

#[cfg(feature = "ledger")]
mod apdu;
#[cfg(feature = "ledger")]
mod app;
#[cfg(feature = "ledger")]
mod backend;
#[cfg(feature = "ledger")]
mod describe;
mod path;
#[cfg(feature = "ledger")]
pub mod pipe;
mod problem;
#[cfg(feature = "ledger")]
pub(crate) mod session;
#[cfg(feature = "ledger")]
mod transport;
#[cfg(feature = "ledger")]
mod typed_data;
#[cfg(feature = "ledger")]
pub mod usb;

use std::time::Duration;

use drain_protocol::Address;

#[cfg(feature = "ledger")]
pub use backend::LedgerBackend;
pub use path::{HdPath, NotAPath};
pub use problem::DeviceProblem;
#[cfg(feature = "ledger")]
pub use transport::Connect;

/// Which account of which device, and how long a person is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerSettings {
    /// Where the device has the account.
    pub path: HdPath,
    /// The account: so that starting needs no device, and another device is noticed.
    pub address: Address,
    /// Host and port of an emulator; else USB.
    pub emulator: Option<String>,
    /// From the question to the press.
    pub patience: Duration,
}

/// The accounts that a device has at some paths, in their order. Needs no press.
#[cfg(feature = "ledger")]
pub async fn accounts(connect: &Connect, paths: &[HdPath]) -> Result<Vec<Address>, crate::SignerError> {
    Ok(session::accounts(connect, paths).await?)
}
