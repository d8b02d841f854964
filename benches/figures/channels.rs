//! A wallet with 10,000 open channels: what it costs to start, to hold, to scrape and to pay with it.
//!
//! The channels are opened on the stub's chain by the wallet's key, with 1,000 providers, and brought into the journal by
//! `drain-mcp channels recover`: each is watched, counted and looked at as any other.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use drain_mcp::metrics;
use drain_protocol::Usdc;

use crate::errors::Result;
use crate::machine::{Shares, cpu_seconds, status_mb};
use crate::report::Row;
use crate::server::Server;
use crate::stats::{Quantiles, Samples};
use crate::world::{Session, World, chat};

const CHANNELS: usize = 10_000;
/// In turns.
const PROVIDERS: usize = 1_000;
const SCRAPES: usize = 500;
const CHATS: usize = 1_000;
/// Providers, and agents, of which the metrics show 50 by name.
const MANY: usize = 200;
const WARM_UP: usize = 100;
/// The observer looks every two seconds.
const REST: Duration = Duration::from_secs(10);
/// For the first look at all of them on chain.
const PATIENCE: Duration = Duration::from_secs(150);
/// A look of the watcher at nothing new is a few requests for each thousand channels, every two seconds.
const QUIET: Duration = Duration::from_secs(2);
const FEW_CALLS: u64 = 500;
const SCRAPE_MS: f64 = 5.0;

/// Figure 12: beside a wallet with one channel.
pub fn many(world: &mut World) -> Result<Vec<Row>> {
    let (few, _) = measured(world, tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?, 1)?;
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let begun = Instant::now();
    world.stub.open_channels(CHANNELS, PROVIDERS)?;
    let opened = begun.elapsed().as_secs_f64();
    recover(&world.env(home.path(), &settings("9464")[1..]))?;
    let recovered = begun.elapsed().as_secs_f64() - opened;
    let (all, shares) = measured(world, home, CHANNELS as u64)?;
    let (most, fullest) = fullest();
    let row = |figure: &str, target: &str, measured: String, reached| {
        Row::new(&format!("10,000 open channels: {figure}"), target, measured, reached)
    };
    Ok(vec![
        row("spawn to tools/list answered", "beside one", format!("{:.0} ms ({:.1} ms)", all.start, few.start), true)
            .beside("one run of each")
            .beside(format!("first scrape {:.0} ms ({:.0} ms) after the spawn", all.shown, few.shown))
            .beside(format!("all compared with the chain {:.1} s after it", all.watched))
            .beside(format!("opened on chain in {opened:.0} s, found by channels recover in {recovered:.0} s")),
        row("scrape, p50 / p99", "<= 5 ms", format!("{}", all.scrape), all.scrape.p50 <= SCRAPE_MS)
            .beside(format!("{} series, {} kB; with one channel {}", all.series, all.bytes / 1_000, few.scrape))
            .beside(format!("{SCRAPES} scrapes one after another, a connection each")),
        row(
            "scrape, were there no end of providers and agents",
            "<= 5 ms",
            format!("{fullest:.1} ms"),
            fullest <= SCRAPE_MS,
        )
        .beside(format!("{most} series: {MANY} providers and agents with every outcome, rendered in this process")),
        row("memory (RSS) at rest", "beside one", format!("{:.1} MB ({:.1} MB)", all.rest, few.rest), true)
            .beside(format!("{:.1} MB ({:.1} MB) after the scrapes", all.scraped, few.scraped))
            .beside(format!("CPU of one core meanwhile {:.0} % ({:.0} %)", all.idle, few.idle)),
        row("chat, p50 / p99", "beside one", format!("{} ({})", all.chat, few.chat), true).beside(shares),
    ])
}

/// Of one server.
struct Measured {
    /// Milliseconds from the spawn to the first answer, and to the first scrape.
    start: f64,
    shown: f64,
    /// Seconds until the chain was asked no more than for new blocks.
    watched: f64,
    /// CPU of one core at rest, in percent.
    idle: f64,
    /// Resident megabytes.
    rest: f64,
    scraped: f64,
    scrape: Quantiles,
    series: usize,
    bytes: usize,
    chat: Quantiles,
}

fn settings(port: &str) -> [(&str, &str); 3] {
    [("DRAIN_METRICS_ADDR", port), ("DRAIN_MAX_OPEN_CHANNELS", "100000"), ("DRAIN_MAX_OPENS_PER_HOUR", "100000")]
}

fn recover(env: &[(String, String)]) -> Result<()> {
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_drain-mcp")));
    command.args(["channels", "recover"]).env_clear().envs(env.iter().map(|(name, value)| (name, value)));
    let ended = command.stdin(Stdio::null()).stderr(Stdio::piped()).output()?;
    if !ended.status.success() {
        return Err(format!("channels recover: {}", String::from_utf8_lossy(&ended.stderr)).into());
    }
    Ok(())
}

fn measured(world: &mut World, home: tempfile::TempDir, channels: u64) -> Result<(Measured, Shares)> {
    // Free now, and soon taken by the server.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let port = address.port().to_string();
    let env = world.env(home.path(), &settings(&port));
    let at_first = world.stub.chain_calls()?;
    let mut calls = at_first;
    let begun = Instant::now();
    let mut server = Server::start(&env)?;
    server.list_tools()?;
    let start = begun.elapsed().as_secs_f64() * 1e3;
    while scrape(&port).is_err() {
        still(begun)?;
        std::thread::sleep(Duration::from_millis(1));
    }
    let shown = begun.elapsed().as_secs_f64() * 1e3;
    let mut session = Session { server, home, stub: world.stub.pid() };
    let channel = session.open("5")?;
    let watched = loop {
        still(begun)?;
        let before = begun.elapsed().as_secs_f64();
        std::thread::sleep(QUIET);
        let now = world.stub.chain_calls()?;
        let lately = now.saturating_sub(std::mem::replace(&mut calls, now));
        if now - at_first > channels && lately < FEW_CALLS {
            break before;
        }
    };
    let request = chat(&channel);
    for _ in 0..WARM_UP {
        session.server.run(&request)?;
    }
    let pid = session.server.pid();
    let used = cpu_seconds(pid)?;
    std::thread::sleep(REST);
    let idle = 100.0 * (cpu_seconds(pid)? - used) / REST.as_secs_f64();
    let rest = status_mb(pid, "VmRSS")?;
    let mut samples = Vec::with_capacity(SCRAPES);
    let mut text = String::new();
    for _ in 0..SCRAPES {
        let asked = Instant::now();
        text = scrape(&port)?;
        samples.push(asked.elapsed());
    }
    let scraped = status_mb(pid, "VmRSS")?;
    let mut chats = Vec::with_capacity(CHATS);
    let mut shares = Shares::default();
    shares.during(pid, session.stub, || {
        for _ in 0..CHATS {
            let asked = Instant::now();
            session.server.run(&request)?;
            chats.push(asked.elapsed());
        }
        Ok(())
    })?;
    let measured = Measured {
        start,
        shown,
        watched,
        idle,
        rest,
        scraped,
        scrape: Samples::new(samples).quantiles(),
        series: text.lines().filter(|line| !line.starts_with('#')).count(),
        bytes: text.len(),
        chat: Samples::new(chats).quantiles(),
    };
    Ok((measured, shares))
}

/// The most that counters can show beside one wallet's state: how many series, and the milliseconds to render them.
fn fullest() -> (usize, f64) {
    for n in 0..MANY {
        let (provider, took) = (format!("{n:#012x} host-{n}.example"), Duration::from_millis(1));
        for agent in 0..MANY {
            metrics::spent(&format!("agent-{agent}"), &provider, Usdc::new(1));
        }
        metrics::channel(&provider, std::iter::empty());
        metrics::request(&provider, metrics::Request::Answered, took);
        metrics::first_byte(&provider, took);
        metrics::booked("agent-0", &provider, Usdc::new(1), Usdc::new(2));
    }
    let rendered = (0..50).map(|_| {
        let asked = Instant::now();
        std::hint::black_box(metrics::render());
        asked.elapsed()
    });
    let median = Samples::new(rendered.collect()).percentile(50);
    (metrics::render().lines().filter(|line| !line.starts_with('#')).count(), median)
}

fn still(begun: Instant) -> Result<()> {
    if begun.elapsed() > PATIENCE { Err("waited in vain for the server's metrics".into()) } else { Ok(()) }
}

/// The body that is shown.
fn scrape(port: &str) -> Result<String> {
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => Err(format!("no metrics: {answer:.200}").into()),
    }
}
