//! The catalogue, and what else the marketplace answers.
#![no_main]

use drain_protocol::directory::Catalogue;
use drain_protocol::marketplace::{FeeConfig, GasStationAnswer, parse_status};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = (Catalogue::parse(data), FeeConfig::parse(data), GasStationAnswer::parse(data), parse_status(data));
});
