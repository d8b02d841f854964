//! End-to-end tests by capability, against the sandbox: real chain semantics, real HTTP, real processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod bad_input;
mod bad_parties;
mod harness;
mod life;
mod mcp;
mod process;
mod process_harness;
mod schema;
mod stdio;
