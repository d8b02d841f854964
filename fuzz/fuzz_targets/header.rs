//! What providers put into headers, and the voucher header of ours that comes back.
#![no_main]

use drain_protocol::SignedVoucher;
use drain_protocol::headers::{CostHeaders, Discovery};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let lines: Vec<&str> = text.split('\n').collect();
    let get = |name: &str| lines.get(name.len() % lines.len()).map(|line| (*line).to_owned());
    let _ = (CostHeaders::read(get), Discovery::read(get));
    if let Ok(voucher) = SignedVoucher::from_header(&text) {
        assert_eq!(SignedVoucher::from_header(&voucher.to_header()), Ok(voucher));
    }
});
