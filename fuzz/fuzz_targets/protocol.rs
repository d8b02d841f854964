//! What providers, directories and people send, read by drain-protocol. The first byte says by which reader.
#![no_main]

use drain_protocol::chat::{ChatAnswer, parse_messages};
use drain_protocol::close::CloseAnswer;
use drain_protocol::directory::Catalogue;
use drain_protocol::headers::{CostHeaders, Discovery};
use drain_protocol::marketplace::{FeeConfig, GasStationAnswer, parse_status};
use drain_protocol::pricing::{PriceList, price_decimal};
use drain_protocol::refusal::Refusal;
use drain_protocol::sse::SseReader;
use drain_protocol::text::{one_line, untrusted};
use drain_protocol::voucher::parse_signature;
use drain_protocol::{ChannelId, SignedVoucher, Usdc};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((which, rest)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(rest);
    match which % 10 {
        0 => {
            let lines: Vec<&str> = text.split('\n').collect();
            let get = |name: &str| lines.get(name.len() % lines.len().max(1)).map(|line| (*line).to_owned());
            let _ = (CostHeaders::read(get), Discovery::read(get));
        }
        1 => {
            let refusal = Refusal::parse(402, |_| None, rest);
            let _ = refusal.total_charged(Usdc::new(7));
        }
        2 => sse(rest),
        3 => drop(Catalogue::parse(rest)),
        4 => {
            if let Ok(list) = PriceList::parse(rest) {
                for model in list.models.values() {
                    assert!(model.price.bound(1000, 1000) >= model.price.cost(1000, 1000), "a bound below the cost");
                }
            }
        }
        5 => drop(CloseAnswer::parse(rest)),
        6 => {
            let _ = price_decimal(&text);
            let _ = Usdc::parse_units(&text);
            // What is read is written so that it reads the same.
            if let Ok(amount) = text.parse::<Usdc>() {
                assert_eq!(amount.to_string().parse::<Usdc>(), Ok(amount));
            }
        }
        7 => {
            let shown = untrusted(&text, 80);
            let line = one_line(&text, 80);
            assert!(!line.contains('\n') && !shown.contains('\u{1b}'));
        }
        8 => {
            let _ =
                (FeeConfig::parse(rest), GasStationAnswer::parse(rest), parse_status(rest), ChatAnswer::parse(rest));
            let _ = (parse_signature(&text), text.parse::<ChannelId>());
            if let Ok(voucher) = SignedVoucher::from_header(&text) {
                assert_eq!(SignedVoucher::from_header(&voucher.to_header()), Ok(voucher));
            }
        }
        _ => {
            if let Ok(value) = serde_json::from_slice(rest) {
                let _ = parse_messages(&value, 10_000);
            }
        }
    }
});

/// However a stream is cut, the same events come out of it.
fn sse(bytes: &[u8]) {
    let (mut whole, mut cut) = (SseReader::new(4_096), SseReader::new(4_096));
    let at_once = whole.push(bytes);
    let mut piecewise = Vec::new();
    for byte in bytes.chunks(1) {
        match cut.push(byte) {
            Ok(items) => piecewise.extend(items),
            Err(_) => return,
        }
    }
    if let Ok(items) = at_once {
        assert_eq!(format!("{items:?}"), format!("{piecewise:?}"));
    }
}
