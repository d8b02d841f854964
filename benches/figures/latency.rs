//! Figures about time: one chat after the other, and many channels at once.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::disk::{Disk, Took};
use crate::errors::Result;
use crate::machine::Shares;
use crate::report::Row;
use crate::stats::{Quantiles, RUNS, Samples, median, range};
use crate::world::{Session, World, chat};

/// Chats of one run, after those that warm up.
const CHATS: usize = 2_000;
const WARM_UP: usize = 100;
/// A run ends after this, with fewer samples.
const RUN_LIMIT: Duration = Duration::from_secs(60);
/// What a chat may take above a bare fdatasync, in milliseconds.
const ABOVE: Quantiles = Quantiles { p50: 1.2, p99: 3.5 };

const CHANNELS: usize = 50;
const CHATS_EACH: usize = 200;
const CHATS_PER_SECOND: f64 = 2_000.0;

/// Figure 5: chats one after the other.
pub fn quick_node(world: &mut World) -> Result<Vec<Row>> {
    one_after_another(world, "chat over stdio, durable record included, p50 / p99", 0)
}

/// Figure 6: the same when each RPC answer takes 60 ms.
pub fn slow_node(world: &mut World) -> Result<Vec<Row>> {
    let rows = one_after_another(world, "same with an RPC of 60 ms", 60);
    world.stub.set_node_latency(0)?;
    rows
}

fn one_after_another(world: &mut World, figure: &str, node_latency: u64) -> Result<Vec<Row>> {
    let mut shares = Shares::default();
    let (mut chats, mut disks, mut above) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        world.stub.set_node_latency(0)?;
        let mut session = world.session(&[])?;
        let channel = session.open("5")?;
        world.stub.set_node_latency(node_latency)?;
        let mut disk = Disk::default();
        disk.probe(session.home.path())?;
        let took = sequential(&mut session, &channel, &mut shares)?.quantiles();
        disk.probe(session.home.path())?;
        let disk = disk.took();
        chats.push(took);
        disks.push(disk);
        above.push(took.above(disk.least()));
    }
    let above = Quantiles::of_runs(&above);
    let row = Row::new(
        figure,
        "fdatasync + 1.2 / 3.5 ms",
        format!("{}, that is fdatasync + {above}", Quantiles::of_runs(&chats)),
        above.p50 <= ABOVE.p50 && above.p99 <= ABOVE.p99,
    );
    Ok(vec![row.beside(format!("right before and after: {}", Took::of_runs(&disks))).beside(shares)])
}

/// Times chats from the write of the request to the whole answer.
fn sequential(session: &mut Session, channel: &str, shares: &mut Shares) -> Result<Samples> {
    let request = chat(channel);
    for _ in 0..WARM_UP {
        session.server.run(&request)?;
    }
    let (server, stub) = (session.server.pid(), session.stub);
    let begun = Instant::now();
    shares.during(server, stub, || {
        let mut samples = Vec::with_capacity(CHATS);
        while samples.len() < CHATS && begun.elapsed() < RUN_LIMIT {
            let start = Instant::now();
            session.server.run(&request)?;
            samples.push(start.elapsed());
        }
        Ok(Samples::new(samples))
    })
}

/// Figure 7: 50 channels with one request in flight each, over one connection.
pub fn fifty_channels(world: &mut World) -> Result<Vec<Row>> {
    let mut session = world.session(&[])?;
    let channels = (0..CHANNELS).map(|_| session.open("5")).collect::<Result<Vec<_>>>()?;
    let mut shares = Shares::default();
    let (mut rates, mut disks, mut latencies) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let mut disk = Disk::default();
        disk.probe(session.home.path())?;
        let (server, stub) = (session.server.pid(), session.stub);
        let (rate, samples) = shares.during(server, stub, || in_flight(&mut session, &channels))?;
        disk.probe(session.home.path())?;
        disks.push(disk.took());
        rates.push(rate);
        latencies.push(samples.quantiles());
    }
    let ((low, high), rate) = (range(&rates), median(rates));
    let row = Row::new(
        "50 channels, 50 in flight",
        ">= 2,000 chats/s",
        format!("{rate:.0} chats/s (runs {low:.0} to {high:.0})"),
        rate >= CHATS_PER_SECOND,
    );
    Ok(vec![
        row.beside(format!("each {}", Quantiles::of_runs(&latencies)))
            .beside(format!("right before and after: {}", Took::of_runs(&disks)))
            .beside(shares.for_each(RUNS * CHANNELS * CHATS_EACH, "chat"))
            .beside(shares),
    ])
}

/// Keeps one request of each channel on its way. Chats a second, and what each took.
fn in_flight(session: &mut Session, channels: &[String]) -> Result<(f64, Samples)> {
    let requests: Vec<_> = channels.iter().map(|channel| chat(channel)).collect();
    let mut left = vec![CHATS_EACH; requests.len()];
    let mut sent = HashMap::new();
    let mut samples = Vec::with_capacity(requests.len() * CHATS_EACH);
    let begun = Instant::now();
    for (channel, request) in requests.iter().enumerate() {
        sent.insert(session.server.send(request)?, (channel, Instant::now()));
    }
    while !sent.is_empty() {
        let answer = session.server.receive()?;
        let (channel, start) = sent.remove(&answer.id).ok_or("an answer to nothing that was asked")?;
        if !answer.good {
            return Err(format!("a chat was refused: {:.300}", session.server.last()?).into());
        }
        samples.push(start.elapsed());
        left[channel] -= 1;
        if left[channel] > 0 && begun.elapsed() < RUN_LIMIT {
            sent.insert(session.server.send(&requests[channel])?, (channel, Instant::now()));
        }
    }
    Ok((samples.len() as f64 / begun.elapsed().as_secs_f64(), Samples::new(samples)))
}
