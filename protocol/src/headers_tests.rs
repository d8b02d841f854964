#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use proptest::prelude::*;

const ID: &str = "0x82a9ffc76f7278708ca6008cfde035cfcc3129123126c48df9bfbb6189eee47c";

fn from<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
    |name| pairs.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| (*value).to_owned())
}

#[test]
fn reads_costs() {
    let costs = CostHeaders::read(from(&[
        ("X-DRAIN-Cost", "8250"),
        ("X-DRAIN-Total", " 158250 "),
        ("X-DRAIN-Remaining", "4841750"),
        ("X-DRAIN-Channel", &ID.to_uppercase().replace("0X", "0x")),
    ]));
    let expected = CostHeaders {
        cost: Some(Usdc::new(8_250)),
        total: Some(Usdc::new(158_250)),
        remaining: Some(Usdc::new(4_841_750)),
        channel: Some(ID.parse().unwrap()),
        garbage: false,
    };
    assert_eq!(costs, expected);
    assert_eq!(CostHeaders::read(|_| None), CostHeaders::default());
}

#[test]
fn marks_garbage() {
    for (name, value) in [
        (COST, "-1"),
        (COST, ""),
        (COST, "0.00825"),
        (COST, "8e3"),
        (COST, "9223372036854775808"),
        (TOTAL, "NaN"),
        (TOTAL, "-5"),
        (REMAINING, "lots"),
        (REMAINING, "-"),
        (CHANNEL, "0x12"),
    ] {
        let costs = CostHeaders::read(from(&[(name, value)]));
        assert_eq!(costs, CostHeaders { garbage: true, ..CostHeaders::default() }, "{name}: {value}");
    }
    // A stream may cost more than was left.
    let costs = CostHeaders::read(from(&[(REMAINING, "-250")]));
    assert_eq!((costs.remaining, costs.garbage), (Some(Usdc::ZERO), false));
}

#[test]
fn reads_discovery() {
    let found = Discovery::read(from(&[
        ("X-Payment-Protocol", "drain-v2"),
        ("X-Payment-Provider", "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"),
        ("X-Payment-Contract", "0x0C2B3aA1e80629D572b1f200e6DF3586B3946A8A"),
        ("X-Payment-Chain", "137"),
        ("X-Payment-Docs", "/v1/docs"),
    ]));
    assert_eq!(found.protocol.as_deref(), Some("drain-v2"));
    assert_eq!(found.provider, Some("0x70997970C51812dc3A010C7d01b50e0d17dc79C8".parse().unwrap()));
    assert_eq!(found.contract, Some(crate::deployment::POLYGON_V2));
    assert_eq!((found.chain_id, found.docs.as_deref()), (Some(137), Some("/v1/docs")));
    assert_eq!(
        Discovery::read(from(&[("X-Payment-Chain", "+137"), ("X-Payment-Provider", "me")])),
        Discovery::default()
    );
}

proptest! {
    #[test]
    fn no_header_panics(value in any::<String>()) {
        let costs = CostHeaders::read(|_| Some(value.clone()));
        prop_assert!(costs.garbage);
        let _ = Discovery::read(|_| Some(value.clone()));
    }
}
