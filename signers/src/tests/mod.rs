//! Tests, by the file that they hold. A new backend joins the suite in [`conformance`].
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[cfg(feature = "aws")]
mod aws_kms;
mod conformance;
mod fixtures;
mod keystore;
#[cfg(feature = "aws")]
#[path = "../../../tests/kms/server.rs"]
mod kms_server;
#[cfg(feature = "ledger")]
mod ledger;
mod phrase;
mod rules;
mod secret;
mod signer;
