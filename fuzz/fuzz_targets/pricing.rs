//! A provider's prices.
#![no_main]

use drain_protocol::pricing::{PriceList, price_decimal};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = price_decimal(&String::from_utf8_lossy(data));
    if let Ok(list) = PriceList::parse(data) {
        for model in list.models.values() {
            assert!(model.price.bound(1000, 1000) >= model.price.cost(1000, 1000), "a bound below the cost");
        }
    }
});
