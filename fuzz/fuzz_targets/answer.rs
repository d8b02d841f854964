//! A provider's answers to a request and to a close.
#![no_main]

use drain_protocol::chat::ChatAnswer;
use drain_protocol::close::CloseAnswer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = (ChatAnswer::parse(data), CloseAnswer::parse(data));
});
