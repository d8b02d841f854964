//! Drives the simulated providers, the directory and the whole sandbox over HTTP, as a consumer does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod billing;
mod closing;
mod directory;
mod example;
mod faults;
mod services;
mod streaming;
mod validation;
mod world;
