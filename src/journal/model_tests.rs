//! Journal and policy together against a model of provider and chain: whatever order requests, failures, lost answers,
//! crashes, claims, reorgs and closes come in, the invariants hold after each step (M1-M4, design section 4).

use drain_protocol::Usdc;
use proptest::prelude::*;

use super::usage_tests::{Bench, START, at};
use super::*;
use crate::policy::Books;
use crate::policy::books::{Claims, Correction};

const DEPOSIT: u32 = 20_000;

/// What a provider does with one request.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It does the work and says what it cost, as it is.
    Honest { cost: u32, tells_total: bool },
    /// It says another cost, and another total; usage may explain the true one.
    Lies { cost: u32, says: u32, total: u32, usage: bool },
    /// The answer is lost; the work may be done.
    Lost { cost: Option<u32> },
    /// It refuses before the work.
    Refuses,
    /// It refuses and says what its books hold: as they are, or off by so much.
    Corrects { off: i32 },
    /// The signer fails: nothing leaves.
    Unsigned,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Pay {
        bound: u32,
        fate: Fate,
    },
    /// The process dies: what it knew and the journal does not is gone.
    Crash,
    /// It dies between the answer and its record.
    CrashBeforeRecord {
        bound: u32,
        cost: u32,
    },
    /// The provider claims so many hundredths of the highest voucher that it holds.
    Claim {
        hundredths: u8,
    },
    /// The last claim is undone by a reorg.
    Reorg,
    /// The provider's books are asked for by a voucher of zero.
    Ask,
    /// Minutes pass.
    Wait {
        seconds: u32,
    },
    /// A close with what the provider signs for.
    Close {
        hundredths: u8,
    },
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => (0u32..3_000, any::<bool>()).prop_map(|(cost, tells_total)| Fate::Honest { cost, tells_total }),
        2 => (0u32..3_000, 0u32..5_000, 0u32..40_000, any::<bool>())
            .prop_map(|(cost, says, total, usage)| Fate::Lies { cost, says, total, usage }),
        2 => proptest::option::of(0u32..3_000).prop_map(|cost| Fate::Lost { cost }),
        1 => Just(Fate::Refuses),
        2 => (-500i32..3_000).prop_map(|off| Fate::Corrects { off }),
        1 => Just(Fate::Unsigned),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (1u32..3_000, fate()).prop_map(|(bound, fate)| Step::Pay { bound, fate }),
        1 => Just(Step::Crash),
        1 => (1u32..3_000, 0u32..3_000).prop_map(|(bound, cost)| Step::CrashBeforeRecord { bound, cost }),
        2 => (0u8..=100).prop_map(|hundredths| Step::Claim { hundredths }),
        1 => Just(Step::Reorg),
        1 => Just(Step::Ask),
        2 => (0u32..30_000).prop_map(|seconds| Step::Wait { seconds }),
        1 => (0u8..=110).prop_map(|hundredths| Step::Close { hundredths }),
    ]
}

/// What the provider holds and knows.
#[derive(Debug, Default)]
struct Provider {
    /// Every voucher that reached it: number and amount.
    vouchers: Vec<(u64, u64)>,
    /// What its work cost, each request at most its bound.
    honest: u64,
}

/// What the contract knows.
#[derive(Debug, Default)]
struct Chain {
    claimed: u64,
    before: u64,
}

/// A life of one channel.
struct World {
    bench: Bench,
    intent: IntentId,
    /// The books in memory, as a channel's actor has them.
    books: Books,
    provider: Provider,
    chain: Chain,
    /// What each voucher newly signed, and when.
    growths: Vec<(u64, u64)>,
    /// The most that was ever owed, or possibly owed, with the next request.
    peak: u64,
    now: u64,
    /// Whether every figure of the provider was true so far.
    truthful: bool,
    closed: bool,
}

impl World {
    async fn start() -> Self {
        let mut bench = Bench::new(|limits| limits.per_hour = Usdc::new(6_000));
        let intent = bench.open(7, DEPOSIT, at(0)).await;
        let books = bench.journal.channel(intent).await.unwrap().books;
        Self {
            bench,
            intent,
            books,
            provider: Provider::default(),
            chain: Chain::default(),
            growths: Vec::new(),
            peak: 0,
            now: 0,
            truthful: true,
            closed: false,
        }
    }

    fn journal(&self) -> &Journal {
        &self.bench.journal
    }

    async fn take(&mut self, step: Step) {
        if self.closed {
            return;
        }
        match step {
            Step::Pay { bound, fate } => self.pay(bound, fate).await,
            Step::Crash => self.crash().await,
            Step::CrashBeforeRecord { bound, cost } => {
                if self.authorize(bound).await.is_some() {
                    self.work(cost, bound);
                    self.crash().await;
                }
            }
            Step::Claim { hundredths } => {
                let highest = self.provider.vouchers.iter().map(|(_, amount)| *amount).max().unwrap_or(0);
                let amount = highest * u64::from(hundredths) / 100;
                // A claim is a voucher's whole amount; any that it holds will do.
                let held = self.provider.vouchers.iter().map(|(_, held)| *held).filter(|held| *held <= amount).max();
                if let Some(amount) = held.filter(|amount| *amount > self.chain.claimed) {
                    (self.chain.before, self.chain.claimed) = (self.chain.claimed, amount);
                    self.journal().claimed(self.intent, units(amount)).await.unwrap();
                    self.books = self.record().await.books;
                }
            }
            Step::Reorg => self.chain.claimed = self.chain.before,
            Step::Ask => {
                let leave = self.journal().authorize_probe(self.intent, START).await.unwrap();
                assert_eq!(leave.voucher().amount, Usdc::ZERO, "a question authorises nothing");
                self.books = leave.books();
                self.correct(units(self.provider.honest)).await;
            }
            Step::Wait { seconds } => self.now += u64::from(seconds),
            Step::Close { hundredths } => self.close(hundredths).await,
        }
    }

    /// Leave for a voucher, which then reaches the provider.
    async fn authorize(&mut self, bound: u32) -> Option<Receipt> {
        let before = self.books;
        let request = self.bench.request(self.intent, bound, "a", at(self.now));
        let leave = self.journal().authorize(request).await.ok()?;
        self.books = leave.books();
        let (amount, nonce) = (leave.voucher().amount.units(), leave.voucher().nonce.get());
        self.peak = self.peak.max(before.charged.units() + before.in_flight.units() + u64::from(bound));
        self.growths.push((self.now, self.books.signed.units() - before.signed.units()));
        assert!(self.provider.vouchers.iter().all(|(number, held)| nonce > *number && amount >= *held), "M2");
        // M1: another connection reads what a power cut would leave.
        let durable = self.bench.reads("SELECT signed FROM channels");
        assert!(durable >= amount, "M1: {amount} is signed, {durable} is recorded");
        self.provider.vouchers.push((nonce, amount));
        Some(leave.receipt())
    }

    fn work(&mut self, cost: u32, bound: u32) -> u64 {
        let cost = u64::from(cost.min(bound));
        self.provider.honest += cost;
        cost
    }

    async fn pay(&mut self, bound: u32, fate: Fate) {
        let Some(receipt) = self.authorize(bound).await else { return };
        let bound_usdc = Usdc::new(bound);
        match fate {
            Fate::Honest { cost, tells_total } => {
                let cost = self.work(cost, bound);
                let total = tells_total.then(|| units(self.provider.honest));
                self.settle(receipt, bound_usdc, Claims { cost: Some(units(cost)), total, explained: None });
            }
            Fate::Lies { cost, says, total, usage } => {
                let cost = self.work(cost, bound);
                self.truthful = false;
                let (says, total) = (Some(Usdc::new(says)), Some(Usdc::new(total)));
                self.settle(receipt, bound_usdc, Claims { cost: says, total, explained: usage.then(|| units(cost)) });
            }
            Fate::Lost { cost } => {
                if let Some(cost) = cost {
                    self.work(cost, bound);
                }
            }
            Fate::Refuses => self.free(receipt, bound_usdc, Outcome::Refused { note: "no".into() }),
            Fate::Corrects { off } => {
                self.free(receipt, bound_usdc, Outcome::Refused { note: "more".into() });
                self.truthful &= off == 0;
                let total = self.provider.honest.saturating_add_signed(off.into());
                self.correct(units(total)).await;
            }
            Fate::Unsigned => {
                self.provider.vouchers.pop();
                self.free(receipt, bound_usdc, Outcome::Unsent { note: "no".into() });
            }
        }
    }

    fn settle(&mut self, receipt: Receipt, bound: Usdc, claims: Claims) {
        let settled = self.books.settle(bound, claims);
        assert!(settled.charged <= bound, "a request costs at most its bound");
        let outcome =
            Outcome::Settled { answered: true, charged: settled.charged, disputed: settled.disputed, answer: None };
        self.journal().settle_later(receipt, outcome, START).unwrap();
        if let Some(older) = settled.older {
            self.journal().resolve_unknown_later(self.intent, older, "total", START).unwrap();
        }
    }

    fn free(&mut self, receipt: Receipt, bound: Usdc, outcome: Outcome) {
        self.books.not_charged(bound);
        self.journal().settle_later(receipt, outcome, START).unwrap();
    }

    async fn correct(&mut self, total: Usdc) {
        let unknown = self.books.in_flight;
        if let Correction::Adopted(cost) = self.books.correct(total)
            && !unknown.is_zero()
        {
            assert!(cost <= unknown, "adopted beyond what is in flight");
            self.journal().resolve_unknown(self.intent, cost, "asked", START).await.unwrap();
        }
    }

    async fn crash(&mut self) {
        self.bench.restart();
        self.books = self.record().await.books;
    }

    async fn close(&mut self, hundredths: u8) {
        let signed = self.books.signed.units();
        let final_amount = signed * u64::from(hundredths) / 100;
        let most = signed.min(u64::from(DEPOSIT));
        // What the channel actor checks before it sends one (M6).
        if final_amount < self.chain.claimed || final_amount > most {
            return;
        }
        let (paid, refunded) = (units(final_amount), units(u64::from(DEPOSIT) - final_amount));
        self.journal().closed(self.intent, None, paid, refunded, at(self.now)).await.unwrap();
        self.closed = true;
        let record = self.record().await;
        assert_eq!(record.refunded.unwrap().units() + final_amount, u64::from(DEPOSIT), "money is conserved");
        assert!(final_amount <= signed, "nobody takes more than was signed");
    }

    async fn record(&self) -> ChannelRecord {
        self.journal().channel(self.intent).await.unwrap()
    }

    /// Everything that must hold after any step.
    async fn check(&self) {
        let record = self.record().await;
        let books = record.books;
        if !self.closed {
            assert_eq!(
                (books, record.state),
                (self.books, crate::api::ChannelState::Open),
                "memory and journal differ"
            );
        }
        let highest = self.provider.vouchers.iter().map(|(_, amount)| *amount).max().unwrap_or(0);
        assert!(highest <= books.signed.units(), "the provider holds more than the journal knows");
        assert!(self.chain.claimed <= books.signed.units(), "more was claimed than signed");
        assert!(books.signed <= books.ceiling(), "M3");
        assert!(books.charged.saturating_add(books.in_flight) <= books.signed, "owed beyond what is signed");
        assert!(books.signed.units() <= self.peak, "more is signed than was ever owed with the next request");
        if self.truthful {
            let covered = books.charged.units() + books.in_flight.units();
            assert!(self.provider.honest <= covered, "an honest provider's work is not covered");
        }
        if self.closed {
            return;
        }
        // M4: the budget is what was newly signed within the hour, to the unit of a bucket.
        let used = self.bench.reads(
            "SELECT COALESCE(SUM(amount), 0) FROM usage WHERE scope = 'all' AND \"window\" = 'hour' \
             AND bucket >= (SELECT (at - 3600) / 60 FROM window_clock)",
        );
        let within = |seconds: u64| -> u64 {
            let last = self.growths.last().map_or(0, |(t, _)| *t);
            self.growths.iter().filter(|(t, _)| t + seconds > last).map(|(_, growth)| growth).sum()
        };
        assert!(used >= within(3_600) && used <= within(3_720), "M4: {used} is counted");
        assert!(within(3_600) <= 6_000, "M4: the hour's limit is passed");
    }
}

fn units(units: u64) -> Usdc {
    Usdc::from_units(units).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn m1_m2_m3_m4_hold_for_any_life_of_a_channel(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut world = World::start().await;
            for step in steps {
                world.take(step).await;
                world.check().await;
            }
        });
    }
}
