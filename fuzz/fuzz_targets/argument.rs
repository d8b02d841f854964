//! What agents and people give: amounts, durations, ids, signatures, messages; and how it is shown.
#![no_main]

use drain_protocol::chat::parse_messages;
use drain_protocol::duration::ChannelDuration;
use drain_protocol::text::{one_line, untrusted};
use drain_protocol::voucher::parse_signature;
use drain_protocol::{ChannelId, Usdc};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let _ = (Usdc::parse_units(&text), parse_signature(&text), text.parse::<ChannelId>());
    // What is read is written so that it reads the same.
    if let Ok(amount) = text.parse::<Usdc>() {
        assert_eq!(amount.to_string().parse::<Usdc>(), Ok(amount));
    }
    if let Ok(duration) = text.parse::<ChannelDuration>() {
        assert_eq!(ChannelDuration::from_seconds(duration.seconds()), Ok(duration));
    }
    assert!(!one_line(&text, 80).contains('\n') && !untrusted(&text, 80).contains('\u{1b}'));
    if let Ok(value) = serde_json::from_slice(data) {
        let _ = parse_messages(&value, 10_000);
    }
});
