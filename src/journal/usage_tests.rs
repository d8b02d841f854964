//! Budgets over time (M4): a week of an agent's life in milliseconds, on the real journal.

use std::collections::VecDeque;
use std::sync::Arc;

use drain_protocol::deployment::builtin;
use drain_protocol::{Address, Nonce, Usdc};
use proptest::prelude::*;

use super::db::{DbError, params};
use super::location::Reader;
use super::vouchers::VoucherIntent;
use super::*;
use crate::clock::Moment;
use crate::policy::budgets::OverLimit;
use crate::policy::budgets::Rule;
use crate::policy::testing::limits;
use crate::policy::{Limits, Pol};

/// A Monday.
pub(super) const START: u64 = 1_772_323_200;

fn usdc(units: u32) -> Usdc {
    Usdc::new(units)
}

/// A moment that the chain agrees with.
pub(super) fn at(seconds: u64) -> Moment {
    Moment { at: START + seconds, windows: Some(START + seconds) }
}

pub(super) struct Bench {
    pub journal: Journal,
    home: tempfile::TempDir,
    pub limits: Limits,
    channels: u8,
}

impl Bench {
    pub fn new(change: impl FnOnce(&mut Limits)) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut limits = limits();
        // Far away, so that each test meets the limit that it sets.
        limits.per_channel = usdc(4_000_000_000);
        (limits.locked, limits.per_request) = (limits.per_channel, limits.per_channel);
        (limits.per_hour, limits.per_day) = (limits.per_channel, limits.per_channel);
        (limits.per_provider, limits.per_agent, limits.newcomers) =
            (limits.per_channel, limits.per_channel, limits.per_channel);
        change(&mut limits);
        Self { journal: Journal::at(home.path()).unwrap(), home, limits, channels: 0 }
    }

    /// As after a restart.
    pub fn restart(&mut self) {
        self.stop();
        self.journal = Journal::at(self.home.path()).unwrap();
    }

    /// Nobody has the journal open.
    pub fn stop(&mut self) {
        drop(std::mem::replace(&mut self.journal, Journal::at(tempfile::tempdir().unwrap().path()).unwrap()));
    }

    /// Where its file lies, if it is one.
    pub fn folder(&self) -> &std::path::Path {
        self.home.path()
    }

    pub fn wish(&mut self, provider: u8, deposit: u32, when: Moment) -> NewChannel {
        self.channels += 1;
        NewChannel {
            deployment: builtin(137)[0],
            consumer: Address::repeat_byte(1),
            provider_id: format!("p{}", self.channels),
            provider_name: "P".into(),
            provider_wallet: Address::repeat_byte(provider),
            api_url: format!("https://p{provider}.example"),
            category: "llm".into(),
            prices: String::new(),
            deposit: usdc(deposit),
            cap: usdc(deposit),
            duration: 3_600,
            agent: "a".into(),
            shared: false,
            at: when.at,
        }
    }

    pub async fn begin(&mut self, provider: u8, deposit: u32, when: Moment) -> Result<IntentId, JournalError> {
        let new = self.wish(provider, deposit, when);
        Ok(self.journal.begin_open(new, Arc::new(self.limits.clone()), when).await?.0.intent)
    }

    pub async fn open(&mut self, provider: u8, deposit: u32, when: Moment) -> IntentId {
        let intent = self.begin(provider, deposit, when).await.unwrap();
        let id = drain_protocol::ChannelId([self.channels; 32].into());
        let plan = NewTransaction {
            kind: TxKind::Open,
            intent: Some(intent),
            chain_id: 137,
            wallet: Address::repeat_byte(1),
            target: Address::repeat_byte(2),
            amount: None,
            gas_most: Pol::ZERO,
            outbids: None,
            moment: when,
        };
        let tx = self.journal.plan_transaction(plan, Arc::new(self.limits.clone())).await.unwrap();
        self.journal.opened(intent, tx, id, usdc(deposit), when.at + 3_600).await.unwrap();
        intent
    }

    /// A channel that was found, of which `signed` is known.
    pub async fn adopt(&mut self, provider: u8, deposit: u32, signed: u32) -> IntentId {
        let new = self.wish(provider, deposit, at(0));
        let id = drain_protocol::ChannelId([self.channels; 32].into());
        let found = Found {
            over: false,
            claimed: usdc(signed),
            signed: usdc(signed),
            nonce_floor: Nonce::new(1_000_000).unwrap(),
        };
        self.journal.record_foreign(new, id, START + 86_400, found).await.unwrap().intent
    }

    /// So that the time of windows is known.
    pub async fn sign_once(&mut self, when: Moment) {
        let channel = self.open(200, 1_000, when).await;
        self.sign(channel, 1, "a", when).await.unwrap();
    }

    pub fn request(&self, intent: IntentId, bound: u32, agent: &str, when: Moment) -> VoucherIntent {
        VoucherIntent {
            intent,
            bound: usdc(bound),
            limits: Arc::new(self.limits.clone()),
            agent: agent.into(),
            approval: None,
            model: "m".into(),
            key: None,
            moment: when,
        }
    }

    pub async fn sign(&self, intent: IntentId, bound: u32, agent: &str, when: Moment) -> Result<Receipt, JournalError> {
        Ok(self.journal.authorize(self.request(intent, bound, agent, when)).await?.receipt())
    }

    /// Writes as another program does.
    pub fn write(&self, sql: &str) -> Result<(), DbError> {
        write(&self.location(), sql)
    }

    /// What is wrong with the journal.
    pub fn problems(&self) -> Vec<String> {
        beside(|| backup::verify(&backup::Looked::Live(self.location())).unwrap().problems)
    }

    /// Where the journal lies.
    pub fn location(&self) -> Location {
        Location::new(self.home.path().into())
    }

    /// One number of it, as another process reads it.
    pub fn reads(&self, query: &str) -> u64 {
        beside(|| {
            let reader = self.location().reader().unwrap();
            let whole = format!("SELECT CAST(({query}) AS BIGINT)");
            reader.db().query_row(&whole, params![], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs()
        })
    }

    pub fn settle(&self, receipt: Receipt, charged: u32) {
        let outcome = Outcome::Settled { answered: true, charged: usdc(charged), disputed: Usdc::ZERO, answer: None };
        self.journal.settle_later(receipt, outcome, START).unwrap();
    }
}

/// Writes to a journal as another program does.
pub(super) fn write(location: &Location, sql: &str) -> Result<(), DbError> {
    beside(|| match location.reader().unwrap() {
        Reader::File(_) => Ok(rusqlite::Connection::open(location.file()).unwrap().execute_batch(sql)?),
        #[cfg(feature = "postgres")]
        Reader::Server(session) => session.run(sql),
    })
}

/// Blocks beside a test's own tasks.
pub(super) fn beside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|threads| threads.spawn(work).join().unwrap())
}

fn over<T: std::fmt::Debug>(result: Result<T, JournalError>) -> OverLimit {
    match result {
        Err(JournalError::OverLimit(over)) => over,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn m4_an_hour_moves_and_the_refusal_tells_when_it_is_free() {
    let mut bench = Bench::new(|limits| limits.per_hour = usdc(100));
    let channel = bench.open(7, 1_000_000, at(0)).await;
    bench.sign(channel, 60, "a", at(0)).await.unwrap();
    bench.sign(channel, 40, "a", at(1_800)).await.unwrap();
    let refused = over(bench.sign(channel, 50, "a", at(1_801)).await);
    assert_eq!(refused.rule, Rule::PerHour);
    let wait = refused.frees_in.unwrap();
    assert!((3_600 - 1_801..=3_660 - 1_801).contains(&wait), "{wait}");
    over(bench.sign(channel, 50, "a", at(1_801 + wait - 1)).await);
    bench.sign(channel, 50, "a", at(1_801 + wait)).await.unwrap();
    // More than the limit never becomes free.
    assert_eq!(over(bench.sign(channel, 101, "a", at(100_000)).await).frees_in, None);
}

#[tokio::test]
async fn m4_budgets_hold_over_restarts() {
    let mut bench = Bench::new(|limits| limits.per_day = usdc(100));
    let channel = bench.open(7, 1_000_000, at(0)).await;
    bench.sign(channel, 100, "a", at(0)).await.unwrap();
    bench.restart();
    assert_eq!(over(bench.sign(channel, 1, "a", at(60)).await).rule, Rule::PerDay);
}

/// More than a 32-bit number holds, in what is signed, booked and given back.
#[tokio::test]
async fn amounts_of_thousands_of_dollars_are_booked_as_they_are() {
    let mut bench = Bench::new(|limits| {
        let much = Usdc::new(u32::MAX);
        (limits.per_request, limits.per_hour, limits.per_day) = (much, much, much);
        (limits.per_provider, limits.per_agent, limits.newcomers) = (much, much, much);
        (limits.per_channel, limits.locked) = (much, much);
    });
    let channel = bench.open(7, u32::MAX, at(0)).await;
    bench.sign(channel, 4_000_000_000, "a", at(1)).await.unwrap();
    bench.journal.resolve_unknown(channel, Usdc::new(3_000_000_000), "asked", at(2).at).await.unwrap();
    let books = bench.journal.channel(channel).await.unwrap().books;
    assert_eq!(
        (books.signed, books.charged, books.in_flight),
        (Usdc::new(4_000_000_000), Usdc::new(3_000_000_000), Usdc::ZERO)
    );
    assert_eq!(bench.problems(), Vec::<String>::new());
}

#[tokio::test]
async fn m4_a_clock_that_jumps_resets_no_window() {
    let mut bench = Bench::new(|limits| limits.per_day = usdc(100));
    let channel = bench.open(7, 1_000_000, at(0)).await;
    bench.sign(channel, 100, "a", at(0)).await.unwrap();
    // Two days ahead by the machine's clock alone; the chain is not known yet.
    let unknown = Moment { at: START + 200_000, windows: None };
    over(bench.sign(channel, 1, "a", unknown).await);
    // And back by a year: nothing is forgotten then either, nor counted twice.
    let back = Moment { at: START - 31_000_000, windows: Some(START - 31_000_000) };
    over(bench.sign(channel, 1, "a", back).await);
    bench.sign(channel, 1, "a", at(200_000)).await.unwrap();
}

#[tokio::test]
async fn m3_the_operators_word_of_today_caps_a_channel_in_the_transaction() {
    let mut bench = Bench::new(|_| {});
    let channel = bench.open(7, 1_000, at(0)).await;
    bench.limits.per_channel = usdc(100);
    assert!(matches!(bench.sign(channel, 101, "a", at(1)).await, Err(JournalError::NoVoucher(_))));
    bench.sign(channel, 100, "a", at(1)).await.unwrap();
}

#[tokio::test]
async fn m4_only_growth_is_charged_and_overhang_pays_the_next() {
    let mut bench = Bench::new(|limits| limits.per_hour = usdc(150));
    let channel = bench.open(7, 1_000_000, at(0)).await;
    for _ in 0..5 {
        let receipt = bench.sign(channel, 100, "a", at(10)).await.unwrap();
        bench.settle(receipt, 10);
    }
    // 100 for the first, then 10 each: 140. One more fits, none after it.
    let receipt = bench.sign(channel, 100, "a", at(20)).await.unwrap();
    bench.settle(receipt, 10);
    over(bench.sign(channel, 100, "a", at(20)).await);
}

#[tokio::test]
async fn m4_the_end_of_a_channel_gives_back_what_was_not_taken_once() {
    let mut bench = Bench::new(|limits| (limits.per_hour, limits.per_day) = (usdc(100), usdc(100)));
    let channel = bench.open(7, 1_000_000, at(0)).await;
    let receipt = bench.sign(channel, 100, "a", at(0)).await.unwrap();
    bench.settle(receipt, 30);
    let other = bench.open(8, 1_000_000, at(0)).await;
    over(bench.sign(other, 10, "a", at(5)).await);
    for _ in 0..2 {
        bench.journal.closed(channel, None, usdc(30), usdc(999_970), at(10)).await.unwrap();
    }
    over(bench.sign(other, 71, "a", at(10)).await);
    bench.sign(other, 70, "a", at(10)).await.unwrap();
}

#[tokio::test]
async fn m4_providers_and_agents_have_budgets_of_their_own() {
    let mut bench = Bench::new(|limits| (limits.per_provider, limits.per_agent) = (usdc(100), usdc(150)));
    // Two listings of one wallet and host.
    let (one, same) = (bench.open(7, 1_000_000, at(0)).await, bench.open(7, 1_000_000, at(0)).await);
    let other = bench.open(8, 1_000_000, at(0)).await;
    bench.sign(one, 90, "a", at(0)).await.unwrap();
    assert_eq!(over(bench.sign(same, 20, "a", at(0)).await).rule, Rule::PerProvider);
    assert_eq!(over(bench.sign(other, 61, "a", at(0)).await).rule, Rule::PerAgent);
    bench.sign(other, 61, "b", at(0)).await.unwrap();
}

#[tokio::test]
async fn m9_deposits_and_openings_are_counted_in_the_transaction_that_records_them() {
    let mut bench = Bench::new(|limits| (limits.locked, limits.opens_per_hour) = (usdc(100), 3));
    bench.begin(7, 60, at(0)).await.unwrap();
    assert_eq!(over(bench.begin(7, 41, at(1)).await).rule, Rule::Locked);
    bench.begin(7, 20, at(1)).await.unwrap();
    bench.begin(7, 1, at(2)).await.unwrap();
    assert_eq!(over(bench.begin(7, 1, at(3)).await).rule, Rule::OpensPerHour);
    bench.begin(7, 1, at(3_700)).await.unwrap();
}

#[tokio::test]
async fn gas_of_a_day_counts_what_was_burnt_and_what_may_be() {
    let bench = Bench::new(|limits| limits.gas_per_day = "1".parse().unwrap());
    let wanted = Arc::new(bench.limits.clone());
    let send = |kind, gas, when| bench.journal.plan_transaction(plan(kind, gas, when), wanted.clone());
    let first = send(TxKind::Approve, "0.5", at(0)).await.unwrap();
    send(TxKind::Approve, "0.5", at(0)).await.unwrap();
    assert_eq!(over(send(TxKind::Approve, "0.1", at(1)).await).rule, Rule::GasPerDay);
    // Money comes back all the same.
    send(TxKind::Close, "0.1", at(1)).await.unwrap();
    bench.journal.burnt_later(first, "0.1".parse().unwrap()).unwrap();
    send(TxKind::Approve, "0.3", at(2)).await.unwrap();
    assert_eq!(over(send(TxKind::Approve, "0.1", at(3)).await).rule, Rule::GasPerDay);
    send(TxKind::Approve, "0.5", at(90_000)).await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// M4: whatever the order of requests and times, no hour and no day ever holds more newly signed than its limit.
    #[test]
    fn m4_no_window_is_ever_overdrawn(steps in prop::collection::vec((0u64..4_000, 1u32..60, 0u32..60), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut bench = Bench::new(|limits| (limits.per_hour, limits.per_day) = (usdc(100), usdc(400)));
            let channel = bench.open(7, 1_000_000, at(0)).await;
            let (mut now, mut signed, mut seen) = (0, 0, VecDeque::new());
            for (pause, bound, cost) in steps {
                now += pause;
                let Ok(receipt) = bench.sign(channel, bound, "a", at(now)).await else { continue };
                let books = bench.journal.channel(channel).await.unwrap().books;
                seen.push_back((now, books.signed.units() - signed));
                signed = books.signed.units();
                bench.settle(receipt, cost.min(bound));
                let within = |length| seen.iter().filter(|(t, _)| t + length > now).map(|(_, growth)| growth).sum::<u64>();
                assert!(within(3_600) <= 100 && within(86_400) <= 400, "{seen:?} at {now}");
            }
        });
    }
}

/// A transaction to plan, of a wallet that has no other.
pub(super) fn plan(kind: TxKind, gas: &str, moment: Moment) -> NewTransaction {
    NewTransaction {
        kind,
        intent: None,
        chain_id: 137,
        wallet: Address::repeat_byte(1),
        target: Address::repeat_byte(2),
        amount: None,
        gas_most: pol(gas),
        outbids: None,
        moment,
    }
}

pub(super) fn pol(text: &str) -> Pol {
    text.parse().unwrap()
}
