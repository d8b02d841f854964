//! When a provider's price has risen so far that a person must say yes (design section 4).

use drain_protocol::Usdc;
use drain_protocol::pricing::{Price, PriceList};

/// The first model whose price rose by more than `tolerance_percent` since `before`. New models are no rise.
pub fn risen<'a>(before: &PriceList, now: &'a PriceList, tolerance_percent: u32) -> Option<&'a str> {
    now.models
        .iter()
        .find(|(id, model)| before.models.get(*id).is_some_and(|old| rose(&old.price, &model.price, tolerance_percent)))
        .map(|(id, _)| id.as_str())
}

fn rose(before: &Price, now: &Price, tolerance_percent: u32) -> bool {
    let beyond = |before: Usdc, now: Usdc| {
        let limit = u128::from(before.units()) * (100 + u128::from(tolerance_percent));
        u128::from(now.units()) * 100 > limit
    };
    match (before, now) {
        (Price::Flat(before), Price::Flat(now)) => beyond(*before, *now),
        (
            Price::PerToken { input_per_1k: input_before, output_per_1k: output_before },
            Price::PerToken { input_per_1k, output_per_1k },
        ) => beyond(*input_before, *input_per_1k) || beyond(*output_before, *output_per_1k),
        (_, Price::Free) => false,
        // Another way to charge is not comparable.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn per_token(input: u32, output: u32) -> Price {
        Price::PerToken { input_per_1k: Usdc::new(input), output_per_1k: Usdc::new(output) }
    }

    #[test]
    fn a_rise_counts_beyond_the_tolerance_only() {
        let old = per_token(200, 1_000);
        assert!(!rose(&old, &per_token(250, 1_250), 25));
        assert!(rose(&old, &per_token(251, 1_000), 25));
        assert!(rose(&old, &per_token(200, 1_251), 25));
        assert!(!rose(&old, &per_token(1, 1), 0));
        assert!(rose(&old, &per_token(201, 1_000), 0));
    }

    #[test]
    fn another_way_to_charge_is_a_rise_unless_it_is_free() {
        let flat = Price::Flat(Usdc::new(100));
        assert!(rose(&flat, &per_token(1, 1), 1_000) && rose(&Price::Free, &flat, 1_000));
        assert!(!rose(&flat, &Price::Free, 0));
        assert!(!rose(&flat, &Price::Flat(Usdc::new(100)), 0) && rose(&flat, &Price::Flat(Usdc::new(101)), 0));
    }
}
