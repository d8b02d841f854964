//! End-to-end tests by capability, against the sandbox: real chain semantics, real HTTP, real processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod allowance;
mod contracts;
mod directory;
mod harness;
mod import;
mod life;
mod mcp;
mod opening;
mod transactions;
mod trust;
mod watcher;
