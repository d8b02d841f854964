use super::*;
use crate::policy::testing::limits;

const fn usdc(units: u32) -> Usdc {
    Usdc::new(units)
}

fn voucher(bound: u32, growth: u32) -> NewVoucher {
    NewVoucher { bound: usdc(bound), growth: usdc(growth), newcomer: false }
}

fn rule<T>(result: Result<T, OverLimit>) -> Option<Rule> {
    result.err().map(|over| over.rule)
}

#[test]
fn m3_each_budget_refuses_by_its_own_name() {
    let limits = limits();
    let none = Signed::default();
    assert_eq!(rule(may_sign(&limits, &none, voucher(250_001, 0))), Some(Rule::PerRequest));
    let used = |change: fn(&mut Signed)| {
        let mut signed = Signed::default();
        change(&mut signed);
        signed
    };
    for (signed, expected) in [
        (used(|s| s.hour = usdc(4_999_950)), Rule::PerHour),
        (used(|s| s.day = usdc(19_999_950)), Rule::PerDay),
        (used(|s| s.provider = usdc(9_999_950)), Rule::PerProvider),
        (used(|s| s.agent = usdc(19_999_950)), Rule::PerAgent),
    ] {
        assert_eq!(rule(may_sign(&limits, &signed, voucher(100, 51))), Some(expected));
        assert_eq!(rule(may_sign(&limits, &signed, voucher(100, 50))), None, "the last cent of {expected:?} is there");
        // What was signed too much before is charged already: it pays although the budget is used up.
        assert_eq!(rule(may_sign(&limits, &signed, voucher(100, 0))), None);
    }
}

#[test]
fn m3_newcomers_share_one_budget_and_others_do_not() {
    let limits = limits();
    let signed = Signed { newcomers: usdc(1_000_000), ..Signed::default() };
    let newcomer = NewVoucher { newcomer: true, ..voucher(10, 10) };
    assert_eq!(rule(may_sign(&limits, &signed, newcomer)), Some(Rule::Newcomers));
    assert_eq!(rule(may_sign(&limits, &signed, voucher(10, 10))), None);
}

#[test]
fn a_lowered_limit_refuses_what_is_new_only() {
    let mut limits = limits();
    limits.per_day = usdc(5);
    let signed = Signed { day: usdc(100), ..Signed::default() };
    let over = may_sign(&limits, &signed, voucher(1, 1)).unwrap_err();
    assert_eq!((over.left, over.limit), (Some(Quantity::Usdc(usdc(0))), Quantity::Usdc(usdc(5))));
    assert_eq!(rule(may_sign(&limits, &signed, voucher(1, 0))), None);
}

#[test]
fn m9_deposits_channels_and_openings_have_an_end() {
    let limits = limits();
    let locked = |deposits, channels, opened| Locked { deposits: usdc(deposits), channels, opened };
    for (locked, deposit, expected) in [
        (locked(19_000_000, 1, 1), 1_000_001, Some(Rule::Locked)),
        (locked(19_000_000, 1, 1), 1_000_000, None),
        (locked(0, 20, 1), 1, Some(Rule::OpenChannels)),
        (locked(0, 19, 20), 1, Some(Rule::OpensPerHour)),
        (locked(0, 19, 19), 1, None),
    ] {
        assert_eq!(rule(may_open(&limits, &locked, usdc(deposit))), expected);
    }
}

#[test]
fn gas_has_an_end_but_money_comes_back() {
    let limits = limits();
    let pol = |text: &str| text.parse::<Pol>().unwrap();
    let burn = |used, most, purpose| rule(may_burn(&limits, pol(used), pol(most), purpose));
    assert_eq!(burn("0", "0.500000001", GasFor::Spending), Some(Rule::GasPerTransaction));
    assert_eq!(burn("0", "0.500000001", GasFor::Refund), Some(Rule::GasPerTransaction));
    assert_eq!(burn("1.9", "0.2", GasFor::Spending), Some(Rule::GasPerDay));
    assert_eq!(burn("1.9", "0.1", GasFor::Spending), None);
    assert_eq!(burn("1.9", "0.2", GasFor::Refund), None);
}

#[test]
fn a_refusal_names_variable_limit_and_rest() {
    let signed = Signed { hour: usdc(4_900_000), ..Signed::default() };
    let over = may_sign(&limits(), &signed, voucher(200_000, 200_000)).unwrap_err();
    assert_eq!(
        over.to_string(),
        "0.20 USDC would pass DRAIN_MAX_PER_HOUR: 5.00 USDC newly signed in an hour; 0.10 USDC is left"
    );
}
