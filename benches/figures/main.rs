//! The measured figures of the README: `cargo bench --bench figures [-- NAME...]`, where a name is a part of a figure's.
//!
//! Same work for all: a prompt of 800 characters, answers with a fixed usage of 200 prompt and 60 completion tokens at
//! 225 / 900 base units per 1000 tokens, from a provider without latency that verifies every signature. This process is
//! the load generator; it drives the release binary over one stdio connection. Chain, directory and provider run in a
//! second process (this binary again), so that the CPU time of all three can be told apart.
//!
//! A bench is not a test: a missed target is marked, and nothing fails.

mod backends;
mod channels;
mod disk;
mod errors;
mod fleet;
#[cfg(feature = "aws")]
#[allow(dead_code, clippy::unwrap_used, clippy::expect_used, reason = "the tests' own")]
#[path = "../../tests/kms/server.rs"]
mod kms_server;
mod latency;
mod machine;
mod money;
mod payments;
#[cfg(feature = "postgres")]
#[allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "the tests' own")]
#[path = "../../tests/postgres/server.rs"]
mod postgres_server;
mod process;
#[cfg(feature = "postgres")]
mod replicas;
mod report;
mod server;
mod signing;
mod stats;
mod stub;
mod world;

use std::time::Instant;

use errors::Result;
use report::{Report, Row};
use world::World;

/// A figure measures itself against a world and gives the rows of the table.
type Measure = fn(&mut World) -> Result<Vec<Row>>;

/// Every figure with the name that selects it.
const FIGURES: &[(&str, Measure)] = &[
    ("signed", money::signed_to_charged),
    ("deposit", money::chats_out_of_a_deposit),
    ("parallel", money::parallel_on_one_channel),
    ("chain-calls", money::chain_calls),
    ("latency", latency::quick_node),
    ("slow-rpc", latency::slow_node),
    ("throughput", latency::fifty_channels),
    ("fleet", fleet::agents),
    ("start", process::start),
    ("memory", process::memory),
    ("signing", signing::vouchers),
    ("backends", backends::vouchers),
    ("payments", payments::beside_the_reference_clients),
    // Last: the wallet has these channels from then on.
    ("channels", channels::many),
    // In a world of its own.
    #[cfg(feature = "postgres")]
    ("replicas", replicas::growth),
];

fn main() -> Result<()> {
    if stub::is_stub() {
        return stub::serve();
    }
    // Cargo adds --bench.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let mut report = Report::begin()?;
    let mut world = World::start()?;
    for (name, measure) in FIGURES.iter().copied() {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        let started = Instant::now();
        eprintln!("measuring {name} ...");
        match measure(&mut world) {
            Ok(rows) => report.add(rows),
            Err(error) => report.add(vec![Row::failed(name, &error.to_string())]),
        }
        eprintln!("measuring {name} took {:.0} s", started.elapsed().as_secs_f64());
    }
    report.end()
}
