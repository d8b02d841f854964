//! What a node answers, by every reader of JSON-RPC replies.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| drain_mcp::chain::read_reply(data));
