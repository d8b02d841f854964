//! Bodies of 402 and other refusals, in all three dialects.
#![no_main]

use drain_protocol::Usdc;
use drain_protocol::refusal::Refusal;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for status in [402, 401, 429] {
        let _ = Refusal::parse(status, |_| None, data).total_charged(Usdc::new(7));
    }
});
