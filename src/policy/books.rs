//! The accounting of one channel (design section 4): what may be signed next, and what an answer is booked at.

use drain_protocol::{Nonce, Usdc};

/// The amounts of a channel, each on its own authority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Chain: what the contract holds.
    pub deposit: Usdc,
    /// Person: the most that vouchers may reach (M3).
    pub cap: Usdc,
    /// Chain: what the provider has taken already.
    pub claimed: Usdc,
    /// Journal: highest voucher ever signed. This is exposure; it never falls (M2).
    pub signed: Usdc,
    /// Journal: what we accept to owe.
    pub charged: Usdc,
    /// Journal: bounds of requests whose outcome is unknown.
    pub in_flight: Usdc,
    /// Journal: what the provider says beyond price, usage and bound. Never paid without a person.
    pub disputed: Usdc,
    /// Journal: number of the last voucher; it never falls (M2).
    pub nonce: Nonce,
}

/// What the next voucher of a channel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextVoucher {
    /// Cumulative amount.
    pub amount: Usdc,
    /// Its number.
    pub nonce: Nonce,
    /// By how much it raises what the provider can take.
    pub growth: Usdc,
}

/// Why no voucher can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoVoucher {
    /// The request's bound does not fit under deposit and cap.
    Exhausted {
        /// What is left.
        available: Usdc,
        /// What the request may cost.
        bound: Usdc,
    },
    /// 2^63 vouchers.
    NoncesUsedUp,
}

/// What the provider says about one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// X-DRAIN-Cost.
    pub cost: Option<Usdc>,
    /// X-DRAIN-Total.
    pub total: Option<Usdc>,
    /// What price and usage explain; `None` where cost is not by token or the provider gave no usage.
    pub explained: Option<Usdc>,
}

/// How a request ended in the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Booked for this request.
    pub charged: Usdc,
    /// Claimed by the provider beyond that, at most the deposit.
    pub disputed: Usdc,
    /// Older requests of unknown outcome turned out to have cost this in all; `None` while still unknown.
    pub older: Option<Usdc>,
}

/// What a provider's correction of the books means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Correction {
    /// It fits: older unknown requests cost this in all, and none is unknown any more.
    Adopted(Usdc),
    /// The provider knows of less than we owe: it lost its books. Ours stay.
    ProviderForgot,
    /// Beyond everything that is in flight: an offence.
    Unexplained {
        /// By how much.
        excess: Usdc,
    },
}

impl Books {
    /// The most that vouchers of this channel may grow to (M3).
    pub fn ceiling(&self) -> Usdc {
        self.deposit.min(self.cap)
    }

    /// What further requests can use.
    pub fn available(&self) -> Usdc {
        self.ceiling().saturating_sub(self.committed())
    }

    /// Owed, or possibly owed.
    fn committed(&self) -> Usdc {
        self.charged.saturating_add(self.in_flight)
    }

    /// What is owed where nobody can tell: all that was ever signed, less what is in flight and counts by itself.
    pub fn owed_at_most(&self) -> Usdc {
        self.charged.max(self.signed.saturating_sub(self.in_flight))
    }

    /// The voucher for a request that costs at most `bound` (design section 4, M2, M3).
    ///
    /// Vouchers are cumulative, so what an earlier one signed too much pays for this one. Where the cap was lowered since
    /// below what is signed, the voucher says that once more, above the ceiling: it must not fall (M2), and by it the provider
    /// can take nothing that it could not take before.
    pub fn next_voucher(&self, bound: Usdc) -> Result<NextVoucher, NoVoucher> {
        let needed = self.committed().checked_add(bound);
        let Some(needed) = needed.filter(|needed| *needed <= self.ceiling()) else {
            return Err(NoVoucher::Exhausted { available: self.available(), bound });
        };
        let amount = needed.max(self.signed);
        let nonce = self.nonce.next().ok_or(NoVoucher::NoncesUsedUp)?;
        Ok(NextVoucher { amount, nonce, growth: amount.saturating_sub(self.signed) })
    }

    /// Takes a voucher into the books before it is signed.
    pub fn record(&mut self, voucher: NextVoucher, bound: Usdc) {
        self.signed = self.signed.max(voucher.amount);
        self.nonce = self.nonce.max(voucher.nonce);
        self.in_flight = self.in_flight.saturating_add(bound);
    }

    /// Books the answer to a request of `bound`: the smallest of the provider's word, what price and usage explain,
    /// and the bound. The rest is disputed. Without any word the whole bound is booked.
    pub fn settle(&mut self, bound: Usdc, claims: Claims) -> Settlement {
        let stated = claims.cost.or(claims.explained).unwrap_or(bound);
        let charged = claims.explained.map_or(stated, |explained| stated.min(explained)).min(bound);
        // A provider may claim anything; what is remembered of it has an end.
        let disputed = stated.saturating_sub(charged).min(self.deposit);
        self.in_flight = self.in_flight.saturating_sub(bound);
        self.charged = self.charged.saturating_add(charged);
        self.disputed = self.disputed.saturating_add(disputed);
        let older = claims.total.and_then(|total| self.older_cost(total, stated));
        if let Some(older) = older {
            self.resolve(older);
        }
        Settlement { charged, disputed, older }
    }

    /// What a total says of older unknown requests, where it says it without doubt.
    ///
    /// Old providers add the last cost twice (protocol.md section 5.5): a total that could be either is no evidence.
    fn older_cost(&self, total: Usdc, last_cost: Usdc) -> Option<Usdc> {
        if self.in_flight.is_zero() {
            return None;
        }
        let known = self.charged.saturating_add(self.disputed);
        let beyond = total.checked_sub(known)?;
        let doubled = beyond == last_cost && !last_cost.is_zero();
        (beyond <= self.in_flight && !doubled).then_some(beyond)
    }

    /// The request did no work: its bound is free again. `signed` stays, since the voucher left (M2).
    pub fn not_charged(&mut self, bound: Usdc) {
        self.in_flight = self.in_flight.saturating_sub(bound);
    }

    /// Books every unknown request at its full bound: the provider gives no figures that could tell more.
    pub fn book_unknown_at_bound(&mut self) -> Usdc {
        let owed = self.in_flight;
        self.resolve(owed);
        owed
    }

    /// Reads a provider's correction: `total` is what it says was charged before the refused request, whose bound is
    /// not in flight any more. Adopted only up to what is in flight (design section 4).
    pub fn correct(&mut self, total: Usdc) -> Correction {
        let known = self.charged.saturating_add(self.disputed);
        match total.checked_sub(known) {
            None => Correction::ProviderForgot,
            Some(beyond) if beyond <= self.in_flight => {
                self.resolve(beyond);
                Correction::Adopted(beyond)
            }
            Some(beyond) => Correction::Unexplained { excess: beyond.saturating_sub(self.in_flight) },
        }
    }

    fn resolve(&mut self, cost: Usdc) {
        self.charged = self.charged.saturating_add(cost);
        self.in_flight = Usdc::ZERO;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn usdc(units: u32) -> Usdc {
        Usdc::new(units)
    }

    fn open(deposit: u32) -> Books {
        Books { deposit: usdc(deposit), cap: usdc(deposit), ..Books::default() }
    }

    fn pay(books: &mut Books, bound: u32, cost: u32) -> NextVoucher {
        let next = books.next_voucher(usdc(bound)).unwrap();
        books.record(next, usdc(bound));
        books.settle(usdc(bound), Claims { cost: Some(usdc(cost)), ..Claims::default() });
        next
    }

    /// The worked example of protocol.md section 17.
    #[test]
    fn unused_bound_pays_the_next_request() {
        let mut books = open(5_000_000);
        assert_eq!(pay(&mut books, 934, 330).amount, usdc(934));
        assert_eq!(pay(&mut books, 934, 300).amount, usdc(1_264));
        assert_eq!((books.charged, books.signed), (usdc(630), usdc(1_264)));
    }

    #[test]
    fn m3_nothing_above_deposit_or_cap() {
        let mut books = open(1_000);
        assert_eq!(
            books.next_voucher(usdc(1_001)),
            Err(NoVoucher::Exhausted { available: usdc(1_000), bound: usdc(1_001) })
        );
        books.cap = usdc(500);
        assert!(books.next_voucher(usdc(501)).is_err());
        assert!(books.next_voucher(usdc(500)).is_ok());
    }

    #[test]
    fn m2_what_nobody_can_tell_is_owed_as_it_was_signed() {
        let found = Books { claimed: usdc(300), signed: usdc(300), charged: usdc(300), ..open(1_000) };
        assert_eq!(found.owed_at_most(), usdc(300));
        let restored = Books { signed: usdc(700), charged: usdc(300), in_flight: usdc(100), ..open(1_000) };
        assert_eq!(restored.owed_at_most(), usdc(600));
        let books = Books { charged: restored.owed_at_most(), ..restored };
        assert_eq!((books.available(), books.next_voucher(usdc(50)).unwrap().growth), (usdc(300), usdc(50)));
    }

    /// What was signed under a higher cap cannot be taken back, and no more is added to it.
    #[test]
    fn m3_a_cap_that_is_lowered_below_what_is_signed_lets_nothing_grow() {
        let mut books = open(1_000);
        pay(&mut books, 400, 100);
        books.cap = usdc(300);
        let next = books.next_voucher(usdc(150)).unwrap();
        assert_eq!((next.amount, next.growth), (usdc(400), Usdc::ZERO));
        assert_eq!(books.next_voucher(usdc(201)), Err(NoVoucher::Exhausted { available: usdc(200), bound: usdc(201) }));
    }

    #[test]
    fn an_unknown_request_stays_reserved() {
        let mut books = open(1_000);
        let next = books.next_voucher(usdc(400)).unwrap();
        books.record(next, usdc(400));
        assert_eq!(books.available(), usdc(600));
        assert_eq!(books.next_voucher(usdc(100)).unwrap().amount, usdc(500));
    }

    #[test]
    fn cost_above_bound_or_usage_is_disputed() {
        let mut books = open(1_000);
        let next = books.next_voucher(usdc(400)).unwrap();
        books.record(next, usdc(400));
        let claims = Claims { cost: Some(usdc(450)), explained: Some(usdc(120)), total: None };
        assert_eq!(
            books.settle(usdc(400), claims),
            Settlement { charged: usdc(120), disputed: usdc(330), older: None }
        );
        assert_eq!((books.charged, books.disputed, books.in_flight), (usdc(120), usdc(330), Usdc::ZERO));
    }

    #[test]
    fn a_total_resolves_older_unknowns_but_never_on_a_double_count() {
        let mut books = open(10_000);
        for _ in 0..2 {
            let next = books.next_voucher(usdc(400)).unwrap();
            books.record(next, usdc(400));
        }
        let mut doubled = books;
        let claims = |total| Claims { cost: Some(usdc(100)), total: Some(usdc(total)), explained: None };
        assert_eq!(books.settle(usdc(400), claims(150)).older, Some(usdc(50)));
        assert_eq!((books.charged, books.in_flight), (usdc(150), Usdc::ZERO));
        assert_eq!(doubled.settle(usdc(400), claims(200)).older, None);
        assert_eq!((doubled.charged, doubled.in_flight), (usdc(100), usdc(400)));
    }

    #[test]
    fn corrections_are_adopted_up_to_what_is_in_flight() {
        let mut books = open(10_000);
        let next = books.next_voucher(usdc(400)).unwrap();
        books.record(next, usdc(400));
        let (mut fits, mut beyond) = (books, books);
        assert_eq!(fits.correct(usdc(300)), Correction::Adopted(usdc(300)));
        assert_eq!((fits.charged, fits.in_flight), (usdc(300), Usdc::ZERO));
        assert_eq!(beyond.correct(usdc(401)), Correction::Unexplained { excess: usdc(1) });
        assert_eq!(beyond, books);
        books.charged = usdc(50);
        assert_eq!(books.correct(usdc(10)), Correction::ProviderForgot);
    }

    #[test]
    fn m3_beyond_a_lowered_cap_nothing_is_signed_not_even_for_nothing() {
        let mut books = Books { deposit: usdc(1_000), cap: usdc(1_000), ..Books::default() };
        let next = books.next_voucher(usdc(400)).unwrap();
        books.record(next, usdc(400));
        books.cap = usdc(399);
        for bound in [0, 1] {
            let refused = books.next_voucher(usdc(bound)).unwrap_err();
            assert_eq!(refused, NoVoucher::Exhausted { available: Usdc::ZERO, bound: usdc(bound) });
        }
        books.cap = usdc(400);
        assert_eq!(books.next_voucher(Usdc::ZERO).unwrap().growth, Usdc::ZERO);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Pay {
            bound: u32,
            cost: Option<u32>,
            total: Option<u32>,
            explained: Option<u32>,
        },
        Unknown {
            bound: u32,
        },
        Refused {
            bound: u32,
            total: Option<u32>,
        },
        /// The operator's word of today.
        Cap {
            cap: u32,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        let amount = || 0u32..3_000;
        prop_oneof![
            (
                amount(),
                proptest::option::of(amount()),
                proptest::option::of(0u32..20_000),
                proptest::option::of(amount())
            )
                .prop_map(|(bound, cost, total, explained)| Step::Pay { bound, cost, total, explained }),
            amount().prop_map(|bound| Step::Unknown { bound }),
            (amount(), proptest::option::of(0u32..20_000)).prop_map(|(bound, total)| Step::Refused { bound, total }),
            (1u32..20_000).prop_map(|cap| Step::Cap { cap }),
        ]
    }

    proptest! {
        /// M2, M3: whatever providers answer, signed and nonce never fall, nothing passes deposit or cap, and a
        /// request is never booked above its bound.
        #[test]
        fn m2_m3_hold_for_any_history(deposit in 1u32..20_000, cap in 1u32..20_000, steps in prop::collection::vec(step(), 0..60)) {
            let mut books = Books { deposit: usdc(deposit), cap: usdc(cap), ..Books::default() };
            let mut bounds = Usdc::ZERO;
            let mut largest = Usdc::ZERO;
            for step in steps {
                if let Step::Cap { cap } = step {
                    books.cap = usdc(cap);
                    continue;
                }
                let before = books;
                let bound = usdc(match step { Step::Cap { .. } => 0, Step::Pay { bound, .. } | Step::Unknown { bound } | Step::Refused { bound, .. } => bound });
                let Ok(next) = books.next_voucher(bound) else {
                    // Beyond a cap that was lowered since, a request that costs nothing waits too.
                    let beyond = before.committed() > before.ceiling();
                    prop_assert!(before.available() < bound || (bound.is_zero() && beyond));
                    continue;
                };
                books.record(next, bound);
                bounds = bounds.saturating_add(bound);
                largest = largest.max(bound);
                let claim = |units: Option<u32>| units.map(usdc);
                match step {
                    Step::Pay { cost, total, explained, .. } => {
                        let settled = books.settle(bound, Claims { cost: claim(cost), total: claim(total), explained: claim(explained) });
                        prop_assert!(settled.charged <= bound);
                    }
                    Step::Unknown { .. } | Step::Cap { .. } => {}
                    Step::Refused { total, .. } => {
                        books.not_charged(bound);
                        if let Some(total) = total { books.correct(usdc(total)); }
                    }
                }
                prop_assert!(books.signed >= before.signed && books.nonce > before.nonce);
                prop_assert!(books.signed <= books.ceiling().max(before.signed));
                prop_assert!(books.charged.saturating_add(books.in_flight) <= bounds);
                prop_assert!(books.charged.saturating_add(books.in_flight) <= books.signed);
                prop_assert!(books.charged >= before.charged);
            }
        }
    }
}
