//! In which order providers are shown: what the directory says of them, what we know of them, and what a described request
//! costs there. Never an allowance to pay.

use std::cmp::Reverse;

use drain_protocol::Usdc;
use drain_protocol::pricing::Price;
use serde::{Deserialize, Serialize};
use strum::{EnumString, VariantNames};

use super::choice::is_by_token;

/// A score from which on a provider counts as known to be good.
const GOOD: u8 = 50;

/// By what providers are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, EnumString, VariantNames)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Sort {
    /// What works first: online, then known to be good.
    #[default]
    Default,
    /// The described request's price, the cheapest first.
    Price,
    /// The answer time that the directory measured.
    Latency,
    /// The directory's measure of quality.
    Quality,
    /// Our own record; who was never paid stands in the middle.
    Record,
}

/// A request whose price is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// What is sent.
    pub input_tokens: u32,
    /// What is answered.
    pub output_tokens: u32,
}

impl Job {
    /// Where nobody describes one.
    pub const USUAL: Self = Self { input_tokens: 1_000, output_tokens: 500 };

    /// The one that is described, if any is; what is not said is as usual.
    pub fn described(input_tokens: Option<u32>, output_tokens: Option<u32>) -> Option<Self> {
        let usual = Self::USUAL;
        (input_tokens.is_some() || output_tokens.is_some()).then(|| Self {
            input_tokens: input_tokens.unwrap_or(usual.input_tokens),
            output_tokens: output_tokens.unwrap_or(usual.output_tokens),
        })
    }

    /// What it costs at this price of a provider of this category; `None` where tokens do not decide that.
    pub fn cost(&self, category: &str, price: &Price) -> Option<Usdc> {
        match price {
            Price::PerToken { .. } if !is_by_token(category, price) => None,
            _ => Some(price.bound(self.input_tokens.into(), self.output_tokens.into())),
        }
    }
}

/// What a provider is ranked by.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// A channel pays it.
    pub payable: bool,
    /// A person listed it in the configuration.
    pub by_person: bool,
    /// The directory's word.
    pub online: Option<bool>,
    /// The directory's word, in milliseconds.
    pub latency_ms: Option<u64>,
    /// The directory's word, 0 to 100.
    pub quality: Option<u8>,
    /// It is not paid until a person lifts that.
    pub set_aside: bool,
    /// Our own score, where enough is known.
    pub score: Option<u8>,
    /// What the described request costs.
    pub cost: Option<Usdc>,
}

impl Facts {
    /// Where it stands: smaller is earlier, equal keeps the directory's order.
    pub fn rank(&self, sort: Sort) -> impl Ord + use<> {
        let hindered = match (self.set_aside, self.payable, self.online) {
            (true, ..) => 3,
            (_, false, _) => 2,
            (_, _, Some(false)) => 1,
            _ => 0,
        };
        let trust = match self.score {
            _ if self.by_person => 0,
            Some(score) if score >= GOOD => 1,
            None => 2,
            Some(_) => 3,
        };
        let unknown_health = u64::from(self.online.is_none() && !self.by_person);
        let wanted = match sort {
            Sort::Default => unknown_health,
            Sort::Price => self.cost.map_or(u64::MAX, Usdc::units),
            Sort::Latency => self.latency_ms.unwrap_or(u64::MAX),
            Sort::Quality => falling(self.quality, 0),
            Sort::Record => falling(self.score, GOOD),
        };
        (hindered, wanted, trust, Reverse(self.score))
    }
}

impl Facts {
    /// Where it stands where a provider is chosen for an agent, smaller is earlier; `None` where it is not to be paid now. Who
    /// is known to work badly comes last, whatever it asks.
    pub fn chosen(&self) -> Option<impl Ord + use<>> {
        let may_be = self.payable && !self.set_aside && self.online != Some(false);
        let bad = !self.by_person && self.score.is_some_and(|score| score < GOOD);
        let unknown_health = self.online.is_none() && !self.by_person;
        may_be.then(|| (bad, unknown_health, self.cost.map_or(u64::MAX, Usdc::units), falling(self.score, GOOD)))
    }
}

/// The highest first.
fn falling(points: Option<u8>, where_unknown: u8) -> u64 {
    u64::from(u8::MAX - points.unwrap_or(where_unknown))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD_ONE: Facts = Facts {
        payable: true,
        by_person: false,
        online: Some(true),
        latency_ms: Some(200),
        quality: Some(80),
        set_aside: false,
        score: None,
        cost: Some(Usdc::new(500)),
    };

    fn order(sort: Sort, facts: &[(&'static str, Facts)]) -> Vec<&'static str> {
        let mut facts = facts.to_vec();
        facts.sort_by_cached_key(|(_, facts)| facts.rank(sort));
        facts.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn what_works_comes_first_and_equals_keep_their_order() {
        let listed = [
            ("aside", Facts { set_aside: true, score: Some(0), ..GOOD_ONE }),
            ("mpp", Facts { payable: false, ..GOOD_ONE }),
            ("offline", Facts { online: Some(false), score: Some(100), ..GOOD_ONE }),
            ("bad", Facts { score: Some(10), ..GOOD_ONE }),
            ("silent", Facts { online: None, score: Some(100), ..GOOD_ONE }),
            ("new", GOOD_ONE),
            ("newer", GOOD_ONE),
            ("good", Facts { score: Some(90), ..GOOD_ONE }),
            ("better", Facts { score: Some(99), ..GOOD_ONE }),
            ("mine", Facts { by_person: true, online: None, ..GOOD_ONE }),
        ];
        assert_eq!(
            order(Sort::Default, &listed),
            ["mine", "better", "good", "new", "newer", "bad", "silent", "offline", "mpp", "aside"]
        );
    }

    #[test]
    fn each_wish_sorts_what_works_and_unknown_comes_last() {
        let listed = [
            ("nothing", Facts { cost: None, latency_ms: None, quality: None, ..GOOD_ONE }),
            ("offline", Facts { online: Some(false), cost: Some(Usdc::ZERO), latency_ms: Some(1), ..GOOD_ONE }),
            ("dear", Facts { cost: Some(Usdc::new(900)), latency_ms: Some(100), score: Some(100), ..GOOD_ONE }),
            ("cheap", Facts { cost: Some(Usdc::new(100)), quality: Some(20), score: Some(20), ..GOOD_ONE }),
        ];
        assert_eq!(order(Sort::Price, &listed), ["cheap", "dear", "nothing", "offline"]);
        assert_eq!(order(Sort::Latency, &listed), ["dear", "cheap", "nothing", "offline"]);
        assert_eq!(order(Sort::Quality, &listed), ["dear", "cheap", "nothing", "offline"]);
        assert_eq!(order(Sort::Record, &listed), ["dear", "nothing", "cheap", "offline"]);
    }

    #[test]
    fn a_job_costs_what_our_prices_say() {
        let by_token = Price::per_1k(Usdc::new(225), Usdc::new(900));
        assert_eq!(Job::USUAL.cost("llm", &by_token), Some(Usdc::new(675)));
        let job = Job { input_tokens: 1, output_tokens: 1 };
        // Rounded up: it is the most.
        assert_eq!(job.cost("LLM", &by_token), Some(Usdc::new(2)));
        assert_eq!(job.cost("image", &by_token), None, "services list prices in the same form and do not count tokens");
        assert_eq!(job.cost("image", &Price::Flat(Usdc::new(5_000))), Some(Usdc::new(5_000)));
        assert_eq!(job.cost("image", &Price::Free), Some(Usdc::ZERO));
    }

    #[test]
    fn who_works_is_chosen_and_of_these_the_cheapest() {
        let online = Facts { payable: true, online: Some(true), ..Facts::default() };
        let cost = |units| Some(Usdc::new(units));
        let cheap = Facts { cost: cost(1), ..online };
        let dear = Facts { cost: cost(2), ..online };
        let bad = Facts { cost: cost(0), score: Some(GOOD - 1), ..online };
        let good = Facts { cost: cost(1), score: Some(90), ..online };
        let silent = Facts { cost: cost(0), online: None, ..online };
        assert!(cheap.chosen() < dear.chosen() && good.chosen() < cheap.chosen());
        assert!(dear.chosen() < silent.chosen() && silent.chosen() < bad.chosen());
        let of_a_person = Facts { by_person: true, online: None, score: Some(0), ..cheap };
        assert!(of_a_person.chosen() < dear.chosen());
        for never in [
            Facts { set_aside: true, ..cheap },
            Facts { online: Some(false), ..cheap },
            Facts { payable: false, ..cheap },
        ] {
            assert!(never.chosen().is_none());
        }
    }
}
