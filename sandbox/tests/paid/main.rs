//! Drives the server that is paid by HTTP 402, as a payer made by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod after;
mod asking;
mod listing;
mod paying;
mod refusing;
mod world;
