//! Every entry of `vectors.json`, against this crate. The file was made by viem and recomputed by another program.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod chain;
mod maths;
mod signing;

use std::collections::BTreeSet;
use std::fmt::Debug;

use drain_protocol::{Address, B256, U256, Usdc};
use serde_json::Value;

/// The file, and what has been looked at.
struct Vectors {
    file: Value,
    sections: BTreeSet<String>,
    checks: usize,
}

impl Vectors {
    fn load() -> Self {
        let file = serde_json::from_str(include_str!("../../vectors.json")).unwrap();
        Self { file, sections: BTreeSet::new(), checks: 0 }
    }

    /// A section of the file; each is taken once.
    fn section(&mut self, name: &str) -> Value {
        assert!(self.sections.insert(name.into()), "{name} taken twice");
        self.file[name].clone()
    }

    fn list(&mut self, name: &str) -> Vec<Value> {
        let entries = self.section(name).as_array().unwrap().clone();
        assert!(!entries.is_empty(), "{name} is empty");
        entries
    }

    fn same<T: PartialEq + Debug>(&mut self, what: &str, ours: T, theirs: T) {
        assert_eq!(ours, theirs, "{what}");
        self.checks += 1;
    }

    fn holds(&mut self, what: &str, holds: bool) {
        self.same(what, holds, true);
    }
}

/// The keys of an object must be these, so that none goes unread.
fn keys(value: &Value, known: &[&str]) {
    let there: BTreeSet<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    let known: BTreeSet<&str> = known.iter().copied().collect();
    assert!(there.is_subset(&known), "{there:?} has more than {known:?}");
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} in {value}"))
}

fn word(value: &Value, key: &str) -> B256 {
    text(value, key).parse().unwrap()
}

fn address(value: &Value, key: &str) -> Address {
    text(value, key).parse().unwrap()
}

fn number(value: &Value, key: &str) -> U256 {
    text(value, key).parse().unwrap()
}

fn usdc(value: &Value, key: &str) -> Usdc {
    Usdc::parse_units(text(value, key)).unwrap()
}

fn bytes(value: &Value, key: &str) -> Vec<u8> {
    alloy::hex::decode(text(value, key)).unwrap()
}

#[test]
fn every_vector() {
    let mut vectors = Vectors::load();
    let header = vectors.section("header");
    vectors.holds("units", text(&header, "amountUnits").starts_with("USDC base units"));
    for check in [
        signing::constants,
        signing::accounts,
        signing::domain_separators,
        signing::signatures,
        signing::channel_ids,
        chain::selectors,
        chain::topics,
        chain::custom_errors,
        chain::calldata,
        chain::call_results,
        chain::events,
        chain::logs_filter,
        chain::raw_transactions,
        maths::claim_fees,
        maths::cooperative_closes,
        maths::provider_costs,
        maths::estimates,
    ] {
        let before = vectors.checks;
        check(&mut vectors);
        assert!(vectors.checks > before, "a section checks nothing");
    }
    let all: BTreeSet<String> = vectors.file.as_object().unwrap().keys().cloned().collect();
    assert_eq!(vectors.sections, all, "a section was skipped");
    // Counted, so that a loop which stops running is noticed.
    assert_eq!(vectors.checks, 908);
}
