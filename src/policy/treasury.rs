//! What may go from the operator's treasury to the wallet that software uses, and what goes back (design section 8).

use drain_protocol::Usdc;

use super::Pol;

/// The operator's marks and limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Below this much USDC a refill is asked for.
    pub refill_below: Usdc,
    /// What a sweep leaves; at least twice the refill mark, so that no sweep is followed by a refill.
    pub keep: Usdc,
    /// What a sweep leaves of the chain's own coin, and the most that one refill brings.
    pub keep_pol: Pol,
    /// The most USDC that refills bring in a day.
    pub fund_per_day: Usdc,
    /// How many sweeps a day sends.
    pub sweeps_per_day: usize,
}

/// What a sweep sends; zero is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// USDC.
    pub usdc: Usdc,
    /// The chain's own coin.
    pub pol: Pol,
}

/// Which limit forbids a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OverMarks {
    /// Refills of the last day and this one.
    #[error("{sent} USDC were sent in the last day; with {asked} more it is above DRAIN_MAX_FUND_PER_DAY ({limit})")]
    FundPerDay {
        /// In the last day.
        sent: Usdc,
        /// Now.
        asked: Usdc,
        /// The limit.
        limit: Usdc,
    },
    /// Gas money of one refill.
    #[error("{asked} POL are more than a wallet keeps (DRAIN_SWEEP_KEEP_POL, {limit})")]
    PolPerRefill {
        /// Now.
        asked: Pol,
        /// The limit.
        limit: Pol,
    },
    /// Sweeps of the last day.
    #[error("{sent} sweeps were sent in the last day (DRAIN_MAX_SWEEPS_PER_DAY)")]
    SweepsPerDay {
        /// In the last day.
        sent: usize,
    },
}

impl Marks {
    /// Whether the marks leave room between a sweep and the next refill.
    pub fn are_apart(&self) -> bool {
        self.keep >= self.refill_below.saturating_add(self.refill_below)
    }

    /// Whether a wallet that holds this much is to be refilled.
    pub fn needs_refill(&self, held: Usdc) -> bool {
        held < self.refill_below
    }

    /// Whether a refill may be sent, `sent` having been sent in the last day.
    pub fn may_fund(&self, sent: Usdc, usdc: Usdc, pol: Pol) -> Result<(), OverMarks> {
        if sent.saturating_add(usdc) > self.fund_per_day {
            return Err(OverMarks::FundPerDay { sent, asked: usdc, limit: self.fund_per_day });
        }
        if pol > self.keep_pol {
            return Err(OverMarks::PolPerRefill { asked: pol, limit: self.keep_pol });
        }
        Ok(())
    }

    /// What goes back of what is held, `pending` of it being needed by openings on their way and `sent` sweeps having been
    /// sent in the last day. Coin goes back only where twice what is kept is held: the transfer costs some.
    pub fn sweep(&self, held: Usdc, coin: Pol, pending: Usdc, sent: usize) -> Result<Sweep, OverMarks> {
        let usdc = held.saturating_sub(self.keep).saturating_sub(pending);
        let pol = coin.saturating_sub(self.keep_pol);
        let sweep = Sweep { usdc, pol: if pol > self.keep_pol { pol } else { Pol::ZERO } };
        if sweep != Sweep::default() && sent >= self.sweeps_per_day {
            return Err(OverMarks::SweepsPerDay { sent });
        }
        Ok(sweep)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn marks() -> Marks {
        Marks {
            refill_below: Usdc::new(1_000_000),
            keep: Usdc::new(5_000_000),
            keep_pol: Pol::from_gwei(500_000_000),
            fund_per_day: Usdc::new(20_000_000),
            sweeps_per_day: 4,
        }
    }

    #[test]
    fn a_day_brings_no_more_than_its_limit() {
        let (marks, some) = (marks(), Pol::from_gwei(1));
        assert_eq!(marks.may_fund(Usdc::new(15_000_000), Usdc::new(5_000_000), some), Ok(()));
        let over = marks.may_fund(Usdc::new(15_000_000), Usdc::new(5_000_001), some).unwrap_err();
        assert!(over.to_string().contains("DRAIN_MAX_FUND_PER_DAY (20.00)"), "{over}");
        let over = marks.may_fund(Usdc::ZERO, Usdc::ZERO, Pol::from_gwei(500_000_001)).unwrap_err();
        assert_eq!(over, OverMarks::PolPerRefill { asked: Pol::from_gwei(500_000_001), limit: marks.keep_pol });
    }

    #[test]
    fn sweeps_are_counted_where_one_is_sent() {
        let marks = marks();
        let held = Usdc::new(7_000_000);
        assert_eq!(marks.sweep(held, Pol::ZERO, Usdc::ZERO, 3).unwrap().usdc, Usdc::new(2_000_000));
        assert_eq!(marks.sweep(held, Pol::ZERO, Usdc::ZERO, 4), Err(OverMarks::SweepsPerDay { sent: 4 }));
        assert_eq!(marks.sweep(marks.keep, Pol::ZERO, Usdc::ZERO, 4), Ok(Sweep::default()));
        let twice = marks.keep_pol.saturating_add(marks.keep_pol);
        assert_eq!(marks.sweep(Usdc::ZERO, twice, Usdc::ZERO, 0), Ok(Sweep::default()));
        let more = twice.saturating_add(Pol::from_gwei(1));
        assert!(marks.sweep(Usdc::ZERO, more, Usdc::ZERO, 0).unwrap().pol > marks.keep_pol);
    }

    proptest! {
        /// Whatever is held: what is kept, and what openings need, stays; and no sweep is followed by a refill.
        #[test]
        fn a_sweep_leaves_what_is_needed(held in 0u32..100_000_000, coin in 0u64..10_000_000_000, pending in 0u32..100_000_000) {
            let (marks, held, coin) = (marks(), Usdc::new(held), Pol::from_gwei(coin));
            let sweep = marks.sweep(held, coin, Usdc::new(pending), 0).unwrap();
            let left = held.checked_sub(sweep.usdc).unwrap();
            prop_assert!(sweep.usdc.is_zero() || left >= marks.keep.saturating_add(Usdc::new(pending)));
            prop_assert!(sweep.usdc.is_zero() || !marks.needs_refill(left));
            prop_assert!(sweep.pol == Pol::ZERO || coin.saturating_sub(sweep.pol) >= marks.keep_pol);
            prop_assert!(marks.are_apart());
        }
    }
}
