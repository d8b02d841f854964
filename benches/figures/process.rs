//! Figures about the process: its start and its memory.

use std::path::Path;
use std::time::{Duration, Instant};

use drain_signers::{Secret, keystore};

use crate::errors::Result;
use crate::machine::{Shares, status_mb};
use crate::report::Row;
use crate::server::Server;
use crate::stats::{RUNS, Samples, median};
use crate::world::{World, chat};

const SPAWNS: usize = 20;
const START_MS: f64 = 30.0;
const IDLE: Duration = Duration::from_secs(5);
const CHATS: usize = 100;
const MEMORY_MB: f64 = 20.0;

/// Figure 8: from spawning the process to the answered `tools/list`.
pub fn start(world: &mut World) -> Result<Vec<Row>> {
    let mut session = world.session(&[])?;
    for _ in 0..3 {
        let request = chat(&session.open("1")?);
        (0..20).try_for_each(|_| session.server.run(&request))?;
    }
    drop(session.server);
    let home = session.home.path();
    let with_key = spawns(&world.env(home, &[]))?;
    // The same wallet in a keystore, which takes half a second to open: the client is answered meanwhile.
    let with_keystore = spawns(&in_keystore(world.env(home, &[]), home)?)?;
    let empty = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut env = world.env(empty.path(), &[]);
    env.retain(|(name, _)| name != "DRAIN_PRIVATE_KEY");
    let without_key = spawns(&env)?;
    let row = |figure: &str, (p50, p99): (f64, f64)| {
        let measured = format!("{p50:.1} ms (slowest {p99:.1} ms)");
        Row::new(figure, "<= 30 ms", measured, p50 <= START_MS)
    };
    Ok(vec![
        row("spawn to tools/list answered, key and three channels", with_key)
            .beside(format!("median of {SPAWNS} spawns, of {RUNS} runs; listed every tool with its schemas")),
        row("spawn to tools/list answered, key in a keystore", with_keystore),
        row("spawn to tools/list answered, no key", without_key),
    ])
}

/// The environment with its key moved into a keystore of standard cost.
fn in_keystore(mut env: Vec<(String, String)>, home: &Path) -> Result<Vec<(String, String)>> {
    let place = env.iter().position(|(name, _)| name == "DRAIN_PRIVATE_KEY").ok_or("no key")?;
    let secret = Secret::parse(&env.swap_remove(place).1)?;
    let (path, password) = (home.join("keystore.json"), "figures");
    keystore::create(&path, &secret, password)?;
    env.push(("DRAIN_KEYSTORE".into(), path.display().to_string()));
    env.push(("DRAIN_KEYSTORE_PASSWORD".into(), password.into()));
    Ok(env)
}

/// Median and slowest of spawns, each the median of all runs, in milliseconds.
fn spawns(env: &[(String, String)]) -> Result<(f64, f64)> {
    let (mut medians, mut slowest) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let mut samples = Vec::with_capacity(SPAWNS);
        for _ in 0..SPAWNS {
            let start = Instant::now();
            let mut server = Server::start(env)?;
            server.list_tools()?;
            samples.push(start.elapsed());
        }
        let samples = Samples::new(samples);
        medians.push(samples.percentile(50));
        slowest.push(samples.percentile(100));
    }
    Ok((median(medians), median(slowest)))
}

/// Figure 9: memory of a server that nobody asks anything: after its start, and after it has worked.
pub fn memory(world: &mut World) -> Result<Vec<Row>> {
    let mut sessions = (0..RUNS).map(|_| world.session(&[])).collect::<Result<Vec<_>>>()?;
    let pids: Vec<u32> = sessions.iter().map(|session| session.server.pid()).collect();
    let fresh = idle(&pids)?;
    let mut shares = Shares::default();
    for session in &mut sessions {
        let request = chat(&session.open("1")?);
        let (server, stub) = (session.server.pid(), session.stub);
        shares.during(server, stub, || (0..CHATS).try_for_each(|_| session.server.run(&request)))?;
    }
    let worked = idle(&pids)?;
    let row = |figure: &str, (rss, anonymous): (f64, f64)| {
        Row::new(figure, "<= 20 MB", format!("{rss:.1} MB"), rss <= MEMORY_MB)
            .beside(format!("{anonymous:.1} MB of it its own, the rest pages of the program file"))
    };
    let size = std::fs::metadata(Path::new(env!("CARGO_BIN_EXE_drain-mcp")))?.len() as f64 / 1e6;
    Ok(vec![
        row("idle memory (RSS) 5 s after start", fresh).beside(format!("program of {size:.0} MB")),
        row("idle memory (RSS) 5 s after 100 chats", worked).beside(shares),
    ])
}

/// After some seconds of quiet: all resident memory, and the part that is no file's. Medians.
fn idle(pids: &[u32]) -> Result<(f64, f64)> {
    std::thread::sleep(IDLE);
    let all = |name: &str| pids.iter().map(|pid| status_mb(*pid, name)).collect::<Result<Vec<_>>>();
    Ok((median(all("VmRSS")?), median(all("RssAnon")?)))
}
