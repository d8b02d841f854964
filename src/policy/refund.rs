//! When unspent money comes back by itself (M10): what to do with a channel now, or when to look again.

use std::time::Duration;

use drain_protocol::{Generation, Usdc};

use super::Pol;

/// No cooperative close within this time before expiry, in seconds: the provider usually claims in the last hour, and
/// then its consent is worth nothing (protocol.md section 8).
pub const BEFORE_EXPIRY: u64 = 75 * 60;
/// In the last moments before that, a shorter idle time is enough.
const LAST_CHANCE: u64 = 15 * 60;
/// That shorter idle time.
const SHORT_IDLE: u64 = 30 * 60;
/// So often a provider is asked for its consent; afterwards expiry is waited for.
const MOST_REFUSALS: u32 = 4;
/// A close that is under way is somebody's; after so long it is taken up.
const UNDER_WAY: u64 = 5 * 60;
/// Gas of each close, from above.
const CLOSE_GAS: u64 = 80_000;
const COOPERATIVE_GAS: u64 = 140_000;

/// The operator's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// After how long without a payment a channel is closed with the provider's consent; `None`: never.
    pub idle: Option<Duration>,
    /// What one POL is worth, in USDC: there is no oracle.
    pub pol_in_usdc: Usdc,
}

/// What counts of a channel. Times are Unix seconds of block time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// V1 has no cooperative close.
    pub generation: Generation,
    /// The record may be incomplete: no cooperative close without a person (design section 4).
    pub recovered: bool,
    /// Since when a close is under way, as far as that was seen.
    pub closing: Option<u64>,
    /// When it expires.
    pub expires_at: u64,
    /// When it last paid.
    pub used_at: u64,
    /// In the contract.
    pub deposit: Usdc,
    /// Taken by the provider.
    pub claimed: Usdc,
    /// What the provider can take in all.
    pub signed: Usdc,
}

/// What was tried before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    /// Cooperative closes that came to nothing.
    pub refused: u32,
    /// Plain closes that came to nothing, in a row.
    pub failed: u32,
    /// When the last one ended; zero: none was.
    pub at: u64,
}

/// How a channel is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// With the provider's consent.
    Cooperative,
    /// Alone, at expiry.
    AtExpiry,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Close it now, if the gas is worth it.
    Now(Way),
    /// Nothing before this block time.
    At(u64),
}

/// What to do with a channel at block time `now`.
pub fn due(settings: &Settings, holding: &Holding, tries: &Tries, now: u64) -> Due {
    // Failures of the way that is due: a provider that refused holds up no close that needs nobody.
    let not_before = |tried| if tried == 0 { 0 } else { tries.at.saturating_add(pause(tried)) };
    let asked_again = not_before(tries.refused.max(tries.failed));
    let (way, at) = match cooperative_at(settings, holding, tries, now.max(asked_again)) {
        Some(at) => (Way::Cooperative, at.max(asked_again)),
        None => (Way::AtExpiry, holding.expires_at.max(not_before(tries.failed))),
    };
    let at = at.max(holding.closing.map_or(0, |since| since.saturating_add(UNDER_WAY)));
    if at <= now { Due::Now(way) } else { Due::At(at) }
}

/// When the provider is asked for its consent, if it still makes sense not before `earliest`.
fn cooperative_at(settings: &Settings, holding: &Holding, tries: &Tries, earliest: u64) -> Option<u64> {
    let idle = settings.idle?.as_secs();
    if holding.generation == Generation::V1 || holding.recovered || tries.refused >= MOST_REFUSALS {
        return None;
    }
    let last = holding.expires_at.checked_sub(BEFORE_EXPIRY)?;
    let usual = holding.used_at.saturating_add(idle);
    let short = holding.used_at.saturating_add(idle.min(SHORT_IDLE)).max(last.saturating_sub(LAST_CHANCE));
    let at = usual.min(short);
    (at.max(earliest) <= last).then_some(at)
}

/// Growing pauses: ten minutes after the first failure, never above two hours.
fn pause(tried: u32) -> u64 {
    600u64.saturating_mul(1 << tried.saturating_sub(1).min(4)).min(7_200)
}

/// What a close brings back at most.
pub fn left(holding: &Holding, way: Way) -> Usdc {
    match way {
        Way::Cooperative => holding.deposit.saturating_sub(holding.signed.max(holding.claimed)),
        Way::AtExpiry => holding.deposit.saturating_sub(holding.claimed),
    }
}

/// Whether a close brings back more than its gas costs, at `wei_per_gas`.
pub fn worth_it(settings: &Settings, holding: &Holding, way: Way, wei_per_gas: u128) -> bool {
    let gas = match way {
        Way::Cooperative => COOPERATIVE_GAS,
        Way::AtExpiry => CLOSE_GAS,
    };
    let wei = wei_per_gas.saturating_mul(u128::from(gas));
    units(left(holding, way)) > cost(Pol::from_wei(drain_protocol::U256::from(wei)), settings.pol_in_usdc)
}

/// Gas money in USDC base units, rounded up.
fn cost(gas: Pol, pol_in_usdc: Usdc) -> u128 {
    u128::from(gas.gwei()).saturating_mul(units(pol_in_usdc)).div_ceil(1_000_000_000)
}

fn units(amount: Usdc) -> u128 {
    u128::try_from(amount.as_i64()).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: u64 = 3_600;
    const GWEI: u128 = 1_000_000_000;

    fn settings() -> Settings {
        Settings { idle: Some(Duration::from_secs(6 * HOUR)), pol_in_usdc: Usdc::new(500_000) }
    }

    /// Opened, and last used, at 1000 h; open for a day.
    fn holding() -> Holding {
        Holding {
            generation: Generation::V2,
            recovered: false,
            closing: None,
            expires_at: 1_024 * HOUR,
            used_at: 1_000 * HOUR,
            deposit: Usdc::new(1_000_000),
            claimed: Usdc::ZERO,
            signed: Usdc::new(400_000),
        }
    }

    fn at(holding: Holding, now: u64) -> Due {
        due(&settings(), &holding, &Tries::default(), now)
    }

    #[test]
    fn m10_an_idle_channel_is_closed_with_consent_and_any_other_at_expiry() {
        let idle = 1_006 * HOUR;
        assert_eq!(at(holding(), idle - 1), Due::At(idle));
        assert_eq!(at(holding(), idle), Due::Now(Way::Cooperative));
        for alone in [Holding { generation: Generation::V1, ..holding() }, Holding { recovered: true, ..holding() }] {
            assert_eq!(at(alone, idle), Due::At(alone.expires_at));
            assert_eq!(at(alone, alone.expires_at), Due::Now(Way::AtExpiry));
        }
        let off = Settings { idle: None, ..settings() };
        assert_eq!(due(&off, &holding(), &Tries::default(), idle), Due::At(holding().expires_at));
    }

    #[test]
    fn m10_consent_is_asked_for_75_minutes_before_expiry_or_not_at_all() {
        let last = holding().expires_at - BEFORE_EXPIRY;
        let used_late = Holding { used_at: last - 2 * HOUR, ..holding() };
        // Not idle for six hours, but for long enough, in the last moments in which it makes sense.
        assert_eq!(at(used_late, last - HOUR), Due::At(last - LAST_CHANCE));
        assert_eq!(at(used_late, last - LAST_CHANCE), Due::Now(Way::Cooperative));
        assert_eq!(at(used_late, last), Due::Now(Way::Cooperative));
        assert_eq!(at(used_late, last + 1), Due::At(used_late.expires_at));
        let in_use = Holding { used_at: last - 60, ..holding() };
        assert_eq!(at(in_use, last), Due::At(in_use.expires_at));
    }

    #[test]
    fn m10_a_refusing_provider_is_asked_a_few_times_with_growing_pauses() {
        let mut now = 1_006 * HOUR;
        let mut tries = Tries::default();
        let mut pauses = Vec::new();
        while due(&settings(), &holding(), &tries, now) == Due::Now(Way::Cooperative) {
            tries = Tries { refused: tries.refused + 1, at: now, ..tries };
            let Due::At(next) = due(&settings(), &holding(), &tries, now) else { break };
            pauses.push(next - now);
            now = next;
        }
        assert_eq!(tries.refused, MOST_REFUSALS);
        assert_eq!(pauses[..3], [600, 1_200, 2_400]);
        assert_eq!(now, holding().expires_at);
        // At expiry nobody is asked any more, and its own failures count from the first.
        assert_eq!(due(&settings(), &holding(), &tries, now), Due::Now(Way::AtExpiry));
        let failed = Tries { failed: 1, at: now, ..tries };
        assert_eq!(due(&settings(), &holding(), &failed, now), Due::At(now + 600));
        // It goes on until it is final.
        let tries = Tries { failed: 9, at: now, ..tries };
        assert_eq!(due(&settings(), &holding(), &tries, now), Due::At(now + 7_200));
    }

    #[test]
    fn m10_a_close_that_somebody_began_has_its_time_however_long_nothing_was_paid() {
        let since = holding().expires_at + HOUR;
        let begun = Holding { closing: Some(since), ..holding() };
        assert_eq!(at(begun, since), Due::At(since + UNDER_WAY));
        assert_eq!(at(begun, since + UNDER_WAY), Due::Now(Way::AtExpiry));
    }

    #[test]
    fn m10_no_close_costs_more_than_it_brings_back() {
        let worth = |holding: Holding, way, gwei: u128| worth_it(&settings(), &holding, way, gwei * GWEI);
        assert!(worth(holding(), Way::AtExpiry, 100) && worth(holding(), Way::Cooperative, 100));
        // 80,000 gas at 1,000 gwei are 0.08 POL, 0.04 USDC.
        let left = |units: u32| Holding { claimed: Usdc::new(1_000_000 - units), ..holding() };
        assert!(!worth(left(40_000), Way::AtExpiry, 1_000) && worth(left(40_001), Way::AtExpiry, 1_000));
        // With consent the provider gets what was signed.
        let spent = Holding { signed: Usdc::new(1_000_000), ..holding() };
        assert!(!worth(spent, Way::Cooperative, 0) && worth(spent, Way::AtExpiry, 100));
        assert!(!worth(Holding { claimed: Usdc::new(1_000_000), ..holding() }, Way::AtExpiry, 0));
        assert!(!worth_it(&settings(), &holding(), Way::AtExpiry, u128::MAX));
    }

    proptest! {
        /// M10: never with consent in the last 75 minutes, never alone before expiry, and always some day.
        #[test]
        fn m10_holds_for_any_time(used in 0u64..100_000, open in 0u64..200_000, now in 0u64..400_000, refused in 0u32..9, failed in 0u32..99, tried in 0u64..400_000, idle in 0u64..90_000) {
            let settings = Settings { idle: Some(Duration::from_secs(idle)), ..settings() };
            let holding = Holding { used_at: used, expires_at: used + open, ..holding() };
            let tries = Tries { refused, failed, at: tried.min(now) };
            match due(&settings, &holding, &tries, now) {
                Due::Now(Way::Cooperative) => prop_assert!(now + BEFORE_EXPIRY <= holding.expires_at && refused < MOST_REFUSALS),
                Due::Now(Way::AtExpiry) => prop_assert!(now >= holding.expires_at),
                Due::At(at) => prop_assert!(at > now && at <= holding.expires_at.max(now) + 7_200),
            }
        }
    }
}
