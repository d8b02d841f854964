//! Death at every point and at random: nothing is forgotten, nothing is paid twice (M1, M2, M7).

use std::collections::BTreeMap;
use std::time::Duration;

use drain_mcp::points::Point;
use drain_sandbox::provider::Times;
use serde_json::json;

use crate::harness::World;
use crate::process_harness::{Env, chat, world};
use crate::survivor::{Agenda, Died, Life, audit_chain, audit_payments, audit_vouchers, quiet};

/// Worlds that live at once.
const WORLDS: usize = 4;
/// Deaths at each point.
const ROUNDS: usize = 13;
/// Deaths at random.
const RANDOM: usize = 24;
/// Longer than the journal waits before it copies its log.
const IDLE: Duration = Duration::from_millis(900);

/// At which time a point is to be reached, over the rounds.
pub const fn count(point: Point, round: usize) -> usize {
    match point {
        Point::JournalWritten | Point::JournalCommitted => 1 + round * 5,
        Point::JournalCheckpoint => 1,
        Point::ProbeAuthorized | Point::OpenBegun | Point::CloseBegun => 1 + round % 2,
        Point::PaymentAuthorized | Point::PaymentSigned | Point::PaymentSent | Point::PaymentEnded => 1 + round % 3,
        Point::VoucherAuthorized
        | Point::VoucherSigned
        | Point::VoucherSent
        | Point::VoucherAnswered
        | Point::VoucherSettled
        | Point::TransactionPlanned
        | Point::TransactionSigned
        | Point::TransactionStored
        | Point::TransactionBroadcast
        | Point::TransactionMined
        | Point::TransactionFinal
        | Point::TransactionRecorded
        | Point::CloseConsented => 1 + round % 5,
    }
}

/// Other caps than the deposit's are out of the way: hundreds of days pass within a minute.
pub fn unlimited(world: &World) -> Env {
    Env::of(world)
        .with("DRAIN_MAX_OPENS_PER_HOUR", "100000")
        .with("DRAIN_MAX_GAS_PER_DAY", "1000")
        .with("DRAIN_MAX_PER_HOUR", "1000")
        .with("DRAIN_MAX_PER_DAY", "1000")
        .with("DRAIN_MAX_PER_PROVIDER", "1000")
        .with("DRAIN_MAX_PER_AGENT", "1000")
        .with("DRAIN_MAX_NEWCOMERS", "1000")
}

/// The same, and no close is worth its gas: the audit reads chain and journal one after the other, and nothing may close by
/// itself in between.
fn by_hand(world: &World) -> Env {
    unlimited(world).with("DRAIN_POL_USDC", "1000000")
}

/// What an agent does all day.
pub async fn day(world: &World, life: &mut Life, agenda: &mut Agenda) -> Result<(), Died> {
    for _ in 0..3 {
        agenda.open(life, "sim-llm").await?;
        agenda.chat(life, "sim-llm-v1", "hello from V1").await?;
        agenda.pay(world, life).await?;
        for _ in 0..3 {
            agenda.chat(life, "sim-llm", "hello").await?;
        }
        // Of unknown outcome, so that the close asks for the books.
        world.sandbox.llm.set(|faults| faults.fail_500 = Times::next(1));
        agenda.chat(life, "sim-llm", "who knows").await?;
        world.sandbox.llm.reset_faults();
        agenda.close(life, "sim-llm", "drain_cooperative_close").await?;
    }
    Ok(())
}

/// The next process on the same home: it takes up what was left, goes on, and leaves.
pub async fn go_on(world: &World, env: &Env, agenda: &mut Agenda) {
    world.sandbox.llm.reset_faults();
    let mut life = Life::start(env).await.expect("it starts on what is left");
    audit_vouchers(world);
    quiet(world).await;
    agenda.find_void(world);
    audit_chain(world, agenda).await;
    audit_payments(world);
    agenda.pay(world, &mut life).await.expect("it pays again without a channel");
    agenda.chat(&mut life, "sim-llm", "after the death").await.expect("it pays again");
    audit_vouchers(world);
    audit_payments(world);
    let (signal, stderr) = life.end().await;
    assert_eq!(signal, None, "{stderr}");
}

#[derive(Debug, Default)]
struct Tally {
    kills: BTreeMap<&'static str, usize>,
    missed: BTreeMap<&'static str, usize>,
    void: usize,
    wanted: usize,
}

async fn lives(first: usize) -> Tally {
    let world = world().await;
    let plain = by_hand(&world);
    let (mut tally, mut agenda) = (Tally::default(), Agenda::default());
    let all = (0..ROUNDS).flat_map(|round| Point::ALL.map(|point| (point, count(point, round))));
    for (number, (point, count)) in all.enumerate().skip(first).step_by(WORLDS) {
        let env = plain.clone().with("DRAIN_TEST_POINT", format!("{}=kill@{count}", point.name()));
        if let Ok(mut life) = Life::start(&env).await {
            let lived = day(&world, &mut life, &mut agenda).await;
            if lived.is_ok() || point == Point::JournalCheckpoint {
                // The log is copied when nothing happens.
                tokio::time::sleep(IDLE).await;
            }
            let (signal, stderr) = life.end().await;
            assert!(signal.is_none() || signal == Some(9), "{point:?}: {signal:?} {stderr}");
            let into = if signal.is_some() { &mut tally.kills } else { &mut tally.missed };
            *into.entry(point.name()).or_default() += 1;
        } else {
            *tally.kills.entry(point.name()).or_default() += 1;
        }
        if number % 3 == first % 3 {
            world.sandbox.v1.claim_all().await;
        }
        if number % 11 == first && !agenda.waits() {
            // The older contract's channel expires, and all others with it.
            world.advance(5 * 3_600).await;
        }
        go_on(&world, &plain, &mut agenda).await;
    }
    tally.void = agenda.void;
    tally.wanted = agenda.wanted;
    tally
}

/// The suite. It ends with a table of its deaths.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn m1_m2_m7_killed_at_every_point_nothing_is_lost_and_nothing_is_paid_twice() {
    let worlds: Vec<_> = (0..WORLDS).map(|first| tokio::spawn(lives(first))).collect();
    let random = tokio::spawn(random_deaths());
    let mut all = Tally::default();
    for world in worlds {
        let tally = world.await.unwrap();
        for (point, kills) in tally.kills {
            *all.kills.entry(point).or_default() += kills;
        }
        for (point, missed) in tally.missed {
            *all.missed.entry(point).or_default() += missed;
        }
        all.void += tally.void;
        all.wanted += tally.wanted;
    }
    *all.kills.entry("at random under load").or_default() += random.await.unwrap();
    let sum: usize = all.kills.values().sum();
    println!("{sum} kills; {} channels wanted, {} answers into the void", all.wanted, all.void);
    for point in Point::ALL.map(Point::name).into_iter().chain(["at random under load"]) {
        let of = |tally: &BTreeMap<_, usize>| tally.get(point).copied().unwrap_or_default();
        println!("{point:24} {:4} kills {:4} not reached", of(&all.kills), of(&all.missed));
        assert!(of(&all.kills) >= 5, "{point} is not reached often enough");
    }
    assert!(sum >= 200, "{sum}");
}

/// Eight requests at a time over three channels, and a death at any moment.
async fn random_deaths() -> usize {
    let world = world().await;
    let env = by_hand(&world);
    let mut agenda = Agenda::default();
    // A fixed seed: what failed once fails again.
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    for number in 0..RANDOM {
        if let Ok(mut life) = Life::start(&env).await {
            let pid = rustix::process::Pid::from_raw(i32::try_from(life.pid()).unwrap()).unwrap();
            let after = Duration::from_millis(random(200));
            let loaded = tokio::spawn(async move {
                let done = load(&mut life, &mut agenda).await;
                assert!(done.is_err(), "it lives until it is killed");
                (life, agenda)
            });
            tokio::time::sleep(after).await;
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            let life;
            (life, agenda) = loaded.await.unwrap();
            assert_eq!(life.end().await.0, Some(9), "{number}");
        }
        go_on(&world, &env, &mut agenda).await;
    }
    RANDOM
}

async fn load(life: &mut Life, agenda: &mut Agenda) -> Result<(), Died> {
    const PROVIDERS: [(&str, &str); 3] =
        [("sim-llm", "sim-small"), ("sim-weather", "sim/forecast"), ("sim-llm-v1", "sim-small")];
    let mut ids = Vec::new();
    for (provider, model) in PROVIDERS {
        ids.push((agenda.open(life, provider).await?, model));
    }
    loop {
        for (id, model) in ids.iter().cycle().take(8) {
            let mut arguments = chat(id, "hello");
            arguments["model"] = (*model).into();
            life.ask("tools/call", json!({ "name": "drain_chat", "arguments": arguments })).await?;
        }
        for _ in 0..8 {
            while life.next().await?.get("id").is_none() {}
        }
    }
}
