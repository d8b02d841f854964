//! End-to-end tests by capability, against the sandbox: real chain semantics, real HTTP, real processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod accounting;
mod actors;
mod allowance;
mod anvil;
mod approvals;
mod audit;
mod backup;
mod bad_input;
mod bad_parties;
mod budgets;
mod choosing;
mod clients;
mod closing;
mod command_line;
mod configuration;
mod contracts;
mod crowd;
mod dashboards;
mod demo;
mod descriptors;
mod directory;
mod disk;
mod doctor;
mod documents;
mod fleet;
mod fleet_sharing;
mod freeze;
mod harness;
mod idempotency;
mod import;
mod injection;
mod install;
mod kills;
#[cfg(feature = "aws")]
mod kms;
#[cfg(feature = "aws")]
#[allow(dead_code, reason = "the signers' tests use the rest")]
#[path = "../kms/server.rs"]
mod kms_server;
mod layer;
#[cfg(feature = "ledger")]
mod ledger;
mod liars;
mod lies;
mod life;
mod listing;
mod logs;
mod lost;
mod mcp;
mod metrics;
mod neighbours;
mod opening;
mod outgoing;
mod panics;
mod power;
mod process;
mod process_harness;
mod receipts;
mod recover;
mod refunds;
mod relay;
mod relay_questions;
mod relay_refusals;
mod relay_trouble;
mod reorgs;
mod replacement;
#[cfg(feature = "postgres")]
mod replicas;
mod requests;
mod rescue;
mod schema;
mod second_chain;
mod secrets;
mod serve;
mod serve_life;
mod serve_limits;
mod sharing;
mod soak;
mod standing;
mod stdio;
mod streaming;
mod streaming_books;
mod supply_chain;
mod survivor;
mod takeover;
mod tap;
mod toolsets;
mod transactions;
mod transfers;
mod treasury;
mod trust;
mod unlocking;
mod wallet;
mod watcher;
mod weather;
