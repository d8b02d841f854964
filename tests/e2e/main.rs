//! End-to-end tests by capability, against the sandbox: real chain semantics, real HTTP, real processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod accounting;
mod actors;
mod allowance;
mod closing;
mod contracts;
mod directory;
mod harness;
mod import;
mod liars;
mod life;
mod mcp;
mod opening;
mod requests;
mod transactions;
mod trust;
mod watcher;
