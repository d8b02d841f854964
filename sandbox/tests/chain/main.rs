//! The development chain and the contracts on it.
//!
//! The tests in `contracts`, `authorizations` and `admin` also run against another node (anvil, chain id 137):
//! `SANDBOX_TEST_RPC=http://127.0.0.1:8545 cargo test -p drain-sandbox --test
//! chain contracts -- --test-threads=1`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod admin;
mod authorizations;
mod contracts;
mod faults;
mod node;
mod pool;
mod reorg;
mod rig;
