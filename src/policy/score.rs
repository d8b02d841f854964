//! What a provider's record says of it: a score for agents, and when it is set aside (design section 4).
//!
//! A record belongs to a wallet and a host, so a hundred listings of one provider share it. One that starts anew under
//! another wallet or host has no history, and pays for that with the newcomers' small budget.

use std::fmt;

use drain_protocol::Usdc;

/// Answers after which a provider has history: until then it shares the newcomers' budget.
pub const HISTORY: u64 = 10;
/// So many offences set a provider aside.
pub const MAX_OFFENCES: u64 = 3;
/// So many vouchers taken one after another without a usable answer set it aside.
pub const MAX_IN_A_ROW: usize = 5;
/// Outcomes from which on a rate of failures counts.
const ENOUGH: usize = 10;
/// Outcomes that are remembered.
const WINDOW: usize = 20;
/// What an offence takes from a score of 100.
const OFFENCE_COSTS: u128 = 25;

/// What happened, for the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A voucher was taken and a usable answer given.
    Answered,
    /// A voucher was taken and no usable answer given.
    Failed,
    /// It said that it did no work.
    Refused,
    /// It insisted on more than price, usage and bound explain, or asked for more than was signed at the end.
    Offence,
    /// What a request cost by our books, and what was claimed beyond.
    Booked {
        /// Accepted.
        charged: Usdc,
        /// Not accepted.
        disputed: Usdc,
    },
}

/// What a provider did so far with our vouchers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderRecord {
    /// Requests with a usable answer.
    pub answered: u64,
    /// Requests whose voucher it took without giving one.
    pub failed: u64,
    /// Requests that it refused before the work.
    pub refused: u64,
    /// How often it insisted on what nothing explains.
    pub offences: u64,
    /// Offences up to the last time that a person trusted it.
    pub forgiven: u64,
    /// The last outcomes, oldest first: `a` answered, `f` failed.
    pub recent: String,
    /// Accepted as owed, in all.
    pub charged: Usdc,
    /// Claimed beyond, in all.
    pub disputed: Usdc,
    /// First outcome, Unix seconds.
    pub first_at: u64,
    /// Last outcome.
    pub last_at: u64,
    /// Why it is neither opened nor paid any more; a person lifts that.
    pub set_aside: Option<String>,
    /// Since when.
    pub set_aside_at: Option<u64>,
}

/// A score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Score {
    /// Too little is known.
    New,
    /// 0 to 100.
    Known(u8),
}

/// Why a provider is set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Too many offences.
    Offences(u64),
    /// Vouchers taken one after another without an answer.
    InARow(usize),
    /// More failures than answers.
    Mostly {
        /// Failures.
        failed: usize,
        /// Of so many.
        of: usize,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offences(times) => write!(f, "it asked {times} times for more than price, usage and bounds explain"),
            Self::InARow(times) => write!(f, "it took {times} vouchers in a row and gave no usable answer"),
            Self::Mostly { failed, of } => write!(f, "{failed} of its last {of} requests got no usable answer"),
        }
    }
}

impl ProviderRecord {
    /// Takes an event in, and sets the provider aside where that is too much.
    pub fn take(&mut self, event: Event, at: u64) {
        match event {
            Event::Answered => {
                self.answered = self.answered.saturating_add(1);
                self.remember('a');
            }
            Event::Failed => {
                self.failed = self.failed.saturating_add(1);
                self.remember('f');
            }
            Event::Refused => self.refused = self.refused.saturating_add(1),
            Event::Offence => self.offences = self.offences.saturating_add(1),
            Event::Booked { charged, disputed } => {
                self.charged = self.charged.saturating_add(charged);
                self.disputed = self.disputed.saturating_add(disputed);
            }
        }
        if self.first_at == 0 {
            self.first_at = at;
        }
        self.last_at = self.last_at.max(at);
        if self.set_aside.is_none()
            && let Some(reason) = self.too_much()
        {
            (self.set_aside, self.set_aside_at) = (Some(reason.to_string()), Some(at));
        }
    }

    /// A person trusts the provider: what set it aside counts no more, what it did stays known. True if it was aside.
    pub fn forgive(&mut self) -> bool {
        self.forgiven = self.offences;
        self.recent.clear();
        self.set_aside_at = None;
        self.set_aside.take().is_some()
    }

    fn remember(&mut self, outcome: char) {
        self.recent.push(outcome);
        while self.recent.chars().count() > WINDOW {
            self.recent.remove(0);
        }
    }

    fn too_much(&self) -> Option<Reason> {
        let offences = self.offences.saturating_sub(self.forgiven);
        if offences >= MAX_OFFENCES {
            return Some(Reason::Offences(offences));
        }
        let in_a_row = self.recent.chars().rev().take_while(|outcome| *outcome == 'f').count();
        if in_a_row >= MAX_IN_A_ROW {
            return Some(Reason::InARow(in_a_row));
        }
        let (of, failed) = (self.recent.chars().count(), self.recent.chars().filter(|outcome| *outcome == 'f').count());
        (of >= ENOUGH && failed * 2 > of).then_some(Reason::Mostly { failed, of })
    }

    /// Whether it is more than a newcomer: it answered often enough, and is not set aside.
    pub fn has_history(&self) -> bool {
        self.answered >= HISTORY && self.set_aside.is_none()
    }

    /// The share of requests that were answered, times the share of what was claimed that was right, less 25 an offence;
    /// zero while set aside.
    pub fn score(&self) -> Score {
        if self.set_aside.is_some() {
            return Score::Known(0);
        }
        let taken = u128::from(self.answered) + u128::from(self.failed);
        if taken < u128::from(HISTORY) && self.offences == 0 {
            return Score::New;
        }
        let share = |part: u128, whole: u128| (part * 100).checked_div(whole).unwrap_or(100);
        let reliable = share(self.answered.into(), taken);
        let charged = u128::from(self.charged.units());
        let honest = share(charged, charged + u128::from(self.disputed.units()));
        let score = (reliable * honest / 100).saturating_sub(OFFENCE_COSTS * u128::from(self.offences));
        Score::Known(u8::try_from(score).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(outcomes: &str) -> ProviderRecord {
        let mut record = ProviderRecord::default();
        for outcome in outcomes.chars() {
            record.take(if outcome == 'a' { Event::Answered } else { Event::Failed }, 7);
        }
        record
    }

    #[test]
    fn three_offences_or_five_failures_in_a_row_set_aside_and_a_person_lifts_it() {
        let mut offender = record("aaaaaaaaaaaa");
        for offence in 1..=3 {
            assert!(offender.set_aside.is_none(), "at {offence}");
            offender.take(Event::Offence, 8);
        }
        assert!(offender.set_aside.as_deref().is_some_and(|why| why.contains("3 times")));
        assert_eq!((offender.set_aside_at, offender.score()), (Some(8), Score::Known(0)));
        assert!(!offender.has_history());
        assert!(offender.forgive() && !offender.forgive() && offender.has_history());
        assert_eq!(offender.score(), Score::Known(25));
        offender.take(Event::Offence, 9);
        assert!(offender.set_aside.is_none(), "it starts anew");

        assert!(record("affff").set_aside.is_none() && record("ffffafffa").set_aside.is_none());
        let failing = record("afffff");
        assert!(failing.set_aside.is_some_and(|why| why.contains("5 vouchers in a row")));
    }

    #[test]
    fn more_failures_than_answers_among_the_last_ones_set_aside() {
        assert!(record("fafafafafa").set_aside.is_none(), "half is not more than half");
        assert!(record("ffafaffaf").set_aside.is_none(), "nine are too few");
        assert!(record("ffafaffafa").set_aside.is_some_and(|why| why.contains("6 of its last 10")));
        // A long good past does not hide a bad present.
        let turned = format!("{}{}", "a".repeat(500), "ffffa".repeat(3));
        assert!(record(&turned).set_aside.is_some());
    }

    #[test]
    fn history_is_ten_answers_and_refusals_cost_none() {
        assert!(!record("aaaaaaaaa").has_history() && record("aaaaaaaaaa").has_history());
        let mut refuses = record("aaaaaaaaaa");
        for _ in 0..50 {
            refuses.take(Event::Refused, 1);
        }
        assert!(refuses.has_history() && refuses.score() == Score::Known(100) && refuses.refused == 50);
    }

    #[test]
    fn what_is_disputed_lowers_the_score() {
        let mut record = record("aaaaaaaaaa");
        record.take(Event::Booked { charged: Usdc::new(300), disputed: Usdc::new(100) }, 1);
        assert_eq!(record.score(), Score::Known(75));
        assert_eq!(ProviderRecord::default().score(), Score::New);
    }

    proptest! {
        #[test]
        fn any_history_is_bounded_and_never_forgives_by_itself(events in prop::collection::vec(0u8..5, 0..200)) {
            let mut record = ProviderRecord::default();
            let mut aside = false;
            for event in events {
                record.take(match event {
                    0 => Event::Answered,
                    1 => Event::Failed,
                    2 => Event::Refused,
                    3 => Event::Offence,
                    _ => Event::Booked { charged: Usdc::MAX, disputed: Usdc::MAX },
                }, 5);
                prop_assert!(!aside || record.set_aside.is_some());
                aside = record.set_aside.is_some();
                prop_assert!(record.recent.len() <= WINDOW);
                prop_assert!(matches!(record.score(), Score::New | Score::Known(0..=100)));
                prop_assert!(!(aside && record.has_history()));
            }
        }
    }
}
