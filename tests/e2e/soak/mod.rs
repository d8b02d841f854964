//! A fleet of agents against misbehaving providers, nodes and directories, kills and reorgs, for as long as asked:
//!
//! `DRAIN_SOAK_MINUTES=20 cargo test --locked --test e2e soak -- --nocapture`
//!
//! Without the variable it runs for some seconds, as a part of the suite. Each agent has a wallet, a chain and a
//! marketplace of its own. At the end all money comes back, and the table is made by an observer from chain balances and
//! the providers' logs; the runtime is not asked.

mod fleet;
mod sums;
mod weather;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Agents that live at once.
const FLEET: u64 = 4;
/// Without [`MINUTES`].
const SHORT: Duration = Duration::from_secs(15);
const MINUTES: &str = "DRAIN_SOAK_MINUTES";
/// What failed once fails again with the seed that it printed.
const SEED: &str = "DRAIN_SOAK_SEED";

/// What happened, by kind.
pub type Counts = BTreeMap<&'static str, u64>;

/// Everything that one agent's soak brought.
#[derive(Debug, Default)]
pub struct Tally {
    pub faults: Counts,
    pub kills: Counts,
    pub outcomes: BTreeMap<String, u64>,
    pub reorgs: u64,
    pub lives: u64,
}

/// Numbers without a pattern, the same for the same seed.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub const fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn soak() {
    let minutes = variable(MINUTES);
    let length = minutes.map_or(SHORT, |minutes| Duration::from_secs(minutes * 60));
    let seed = variable(SEED).unwrap_or(1);
    println!("{FLEET} agents, {} s, {SEED}={seed}", length.as_secs());
    let end = Instant::now() + length;
    let agents: Vec<_> =
        (0..FLEET).map(|number| tokio::spawn(fleet::agent(Dice::new(seed * 1_000 + number), end))).collect();
    let (mut all, mut sums) = (Tally::default(), sums::Sums::default());
    for agent in agents {
        let (tally, of_agent) = agent.await.unwrap();
        for (into, from) in [(&mut all.faults, tally.faults), (&mut all.kills, tally.kills)] {
            for (kind, count) in from {
                *into.entry(kind).or_default() += count;
            }
        }
        for (outcome, count) in tally.outcomes {
            *all.outcomes.entry(outcome).or_default() += count;
        }
        all.reorgs += tally.reorgs;
        all.lives += tally.lives;
        sums.add(&of_agent);
    }
    report(&all, &sums);
    assert_eq!(sums.missing, 0, "money is gone");
    assert_eq!(sums.beyond_bounds, 0, "a provider took more than the stated bounds");
    assert!(sums.requests > 0 && all.lives >= FLEET, "nothing happened");
    if minutes.is_some_and(|minutes| minutes >= 20) {
        for kind in weather::KINDS {
            assert!(all.faults.get(kind).is_some_and(|count| *count >= 10), "{kind} happened too rarely");
        }
        assert!(all.kills.values().sum::<u64>() >= 200 && all.reorgs >= 50);
    }
}

fn report(all: &Tally, sums: &sums::Sums) {
    let section = |title: &str, counts: &mut dyn Iterator<Item = (String, u64)>| {
        println!("\n{title}");
        for (name, count) in counts {
            println!("  {name:<28} {count:>8}");
        }
    };
    section("faults", &mut all.faults.iter().map(|(kind, count)| ((*kind).to_owned(), *count)));
    section("kills", &mut all.kills.iter().map(|(kind, count)| ((*kind).to_owned(), *count)));
    section("answers to agents", &mut all.outcomes.clone().into_iter());
    println!(
        "\nlives {}, reorgs {}, channels {}, requests that reached a provider {}, billed {}",
        all.lives, all.reorgs, sums.channels, sums.requests, sums.billed_requests
    );
    let usdc = |units: u64| format!("{}.{:06}", units / 1_000_000, units % 1_000_000);
    println!("\nUSDC, by the chain and the providers' logs");
    for (name, units) in [
        ("deposited", sums.deposited),
        ("signed", sums.signed),
        ("billed within price and bound", sums.explained),
        ("taken by providers", sums.taken),
        ("session fees", sums.fees),
        ("refunded", sums.refunded),
        ("gone without a trace", sums.missing),
        ("taken beyond stated bounds", sums.beyond_bounds),
        ("LOST", sums.missing + sums.beyond_bounds),
    ] {
        println!("  {name:<32} {:>16}", usdc(units));
    }
}
