//! End-to-end tests by capability, against the sandbox: real chain semantics, real HTTP, real processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod accounting;
mod actors;
mod allowance;
mod anvil;
mod approvals;
mod bad_input;
mod bad_parties;
mod budgets;
mod closing;
mod command_line;
mod configuration;
mod contracts;
mod crowd;
mod demo;
mod directory;
mod disk;
mod doctor;
mod harness;
mod import;
mod injection;
#[cfg(debug_assertions)]
mod kills;
#[cfg(target_os = "linux")]
mod layer;
mod liars;
mod lies;
mod life;
mod lost;
mod mcp;
mod opening;
#[cfg(debug_assertions)]
mod panics;
#[cfg(all(target_os = "linux", debug_assertions))]
mod power;
mod process;
mod process_harness;
mod replacement;
mod requests;
mod schema;
mod second_chain;
mod standing;
mod stdio;
mod survivor;
mod transactions;
mod transfers;
mod trust;
mod wallet;
mod watcher;
mod weather;
