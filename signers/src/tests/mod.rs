//! Tests, by the file that they hold. A new backend joins the suite in [`conformance`].
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod conformance;
mod fixtures;
mod keystore;
#[cfg(feature = "ledger")]
mod ledger;
mod phrase;
mod rules;
mod secret;
mod signer;
