//! A stream of server-sent events. However it is cut, the same events come out of it.
#![no_main]

use drain_protocol::sse::SseReader;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (mut whole, mut cut) = (SseReader::new(4_096), SseReader::new(4_096));
    let at_once = whole.push(data);
    let mut piecewise = Vec::new();
    for byte in data.chunks(1) {
        match cut.push(byte) {
            Ok(items) => piecewise.extend(items),
            Err(_) => return,
        }
    }
    if let Ok(items) = at_once {
        assert_eq!(format!("{items:?}"), format!("{piecewise:?}"));
    }
});
