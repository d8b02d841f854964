//! What a server asks for with its 402 (MPP, x402), its receipt, and the credential that is made of what it sent.
#![no_main]

use drain_protocol::demand::{Demand, Protocol, read, receipt};
use drain_protocol::tempo::Gas;
use drain_protocol::{Asset, PaymentOrder, TempoTransfer};
use libfuzzer_sys::fuzz_target;

const NOW: u64 = 1_800_000_000;
const LONGEST: u64 = 600;

/// Input: a line for each header that a server uses, then the body.
const HEADERS: [&str; 4] = ["www-authenticate", "payment-required", "payment-receipt", "payment-response"];

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(HEADERS.len() + 1, |byte| *byte == b'\n');
    let lines: Vec<_> = HEADERS.iter().map(|_| String::from_utf8_lossy(parts.next().unwrap_or_default())).collect();
    let header = |name: &str| {
        let here = HEADERS.iter().position(|header| name.eq_ignore_ascii_case(header));
        here.map(|at| &*lines[at]).into_iter().collect::<Vec<_>>()
    };
    for protocol in Protocol::ALL {
        let _ = receipt(protocol, header);
    }
    let Ok(Demand::Payment(offers)) = read(header, parts.next().unwrap_or_default()) else { return };
    for offer in offers.into_iter().flatten() {
        let Some(left) = offer.seconds_left(NOW, LONGEST) else { continue };
        let transfer = offer.transfer(Default::default(), NOW, LONGEST, Default::default());
        assert!(left <= LONGEST && transfer.valid_before <= NOW + LONGEST, "a signature outlives what is allowed");
        assert_eq!((transfer.to, transfer.value), (offer.payee, offer.amount));
        let order = match offer.protocol {
            Protocol::MppTempo => {
                let gas = Gas { limit: 100_000, price: 20_000_000_000, tip: 0 };
                PaymentOrder::Tempo(TempoTransfer {
                    chain_id: offer.chain_id,
                    token: offer.token,
                    transfer,
                    gas,
                    sponsored: offer.is_sponsored(),
                })
            }
            _ => PaymentOrder::Authorization { asset: Asset::usdc(offer.chain_id, offer.token), transfer },
        };
        let _ = offer.credential(&order, &[0; 65]);
    }
});
