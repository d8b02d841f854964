//! Replicas over one PostgreSQL server: 1, 2 and 4 of them, with 100, 1,000 and 10,000 channels on record.
//!
//! One wallet is one replica's at a time, and the others pass on to it; so each number of replicas is measured with one wallet,
//! and with a wallet for each. Agents are spread over all replicas, as a proxy does that knows nothing of wallets. The server
//! is one of the test's own, on the same cores and the same disk: `DRAIN_TEST_POSTGRES` is the folder of its programs.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use drain_mcp::agents::token::Token;
use drain_sandbox::marketplace::AGENT_KEY;
use drain_signers::{Backend, LocalBackend, Secret};

use crate::errors::Result;
use crate::fleet::{Fleet, in_parallel};
use crate::machine::{cpu_seconds, status_mb};
use crate::postgres_server::{OWNER, Server};
use crate::report::Row;
use crate::stats::{Quantiles, median, range};
use crate::world::World;

const CHANNELS: [usize; 3] = [100, 1_000, 10_000];
/// In turns, of the channels that are on record beside those that pay.
const PROVIDERS: usize = 1_000;
const REPLICAS: [usize; 3] = [1, 2, 4];
/// Agents at once, each with a channel.
const AGENTS: usize = 64;
/// Chats of a run, of all agents together.
const CHATS: usize = 2_048;
const RUNS: usize = 3;
const WARM: usize = 5;
/// For wallets to be taken, and all channels to be looked at on chain.
const PATIENCE: Duration = Duration::from_secs(120);

/// Figure 14.
pub fn growth(_: &mut World) -> Result<Vec<Row>> {
    if std::env::var_os("DRAIN_TEST_POSTGRES").is_none() {
        return Err("DRAIN_TEST_POSTGRES is to be the folder of PostgreSQL's programs".into());
    }
    let mut site = Site::new()?;
    let mut rows = Vec::new();
    let mut known = 0;
    for channels in CHANNELS {
        site.record(channels - known)?;
        known = channels;
        for replicas in REPLICAS {
            rows.push(site.measured(&format!("{channels} channels, {replicas} x one wallet"), replicas, 1)?);
        }
    }
    // Each wallet's channels are its own: here the first one's are the 10,000.
    for replicas in REPLICAS.into_iter().skip(1) {
        rows.push(site.measured(&format!("{replicas} replicas, {replicas} wallets"), replicas, replicas)?);
    }
    Ok(rows)
}

/// Chain, provider, database and the files that replicas share.
struct Site {
    world: World,
    database: Server,
    shared: tempfile::TempDir,
    /// Of agents, with the channel that each has: the agents of wallet n are those of which the number modulo 4 is n.
    agents: Vec<(Token, String)>,
}

fn wallets() -> usize {
    REPLICAS.into_iter().max().unwrap_or(1)
}

impl Site {
    fn new() -> Result<Self> {
        let shared = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let mut site = Self { world: World::start()?, database: Server::start(), shared, agents: Vec::new() };
        for n in 0..wallets() {
            let key = if n == 0 { format!("{AGENT_KEY:x}") } else { format!("{:064x}", 0x17 + n) };
            let address = LocalBackend::new(Secret::parse(&key)?).address();
            if n > 0 {
                site.world.stub.fund(address)?;
            }
            let path = site.path(&format!("{n}.key"));
            std::fs::write(&path, key)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        }
        site.agents = (0..AGENTS).map(|_| (Token::new(), String::new())).collect();
        Ok(site)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.shared.path().join(name)
    }

    /// A configuration with so many wallets, and agents spread over them.
    fn configure(&self, wallets: usize) -> Result<()> {
        let key = |n: usize| self.path(&format!("{n}.key")).display().to_string();
        let tables = (0..wallets).map(|n| format!("[wallet.w{n}]\nprivate_key_file = \"{}\"\n", key(n)));
        std::fs::write(self.path("config.toml"), tables.collect::<String>())?;
        let agents = self.agents.iter().enumerate().map(|(n, (token, _))| {
            format!(
                "[agents.agent{n}]\nwallet = \"w{}\"\ntoken_sha256 = \"{}\"\ncreated_at = \"2026-01-01T00:00:00Z\"\nbudget = \"10000\"\n",
                n % wallets,
                token.hash()
            )
        });
        let path = self.path("agents.toml");
        std::fs::write(&path, agents.collect::<String>())?;
        Ok(std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?)
    }

    fn env(&self, home: &Path) -> Result<Vec<(String, String)>> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let (config, journal) = (self.path("config.toml").display().to_string(), self.database.url(OWNER));
        let (listen, url) = (format!("127.0.0.1:{port}"), format!("http://127.0.0.1:{port}"));
        let settings = [
            ("DRAIN_CONFIG", config.as_str()),
            ("DRAIN_JOURNAL_URL", &journal),
            ("DRAIN_LISTEN", &listen),
            ("DRAIN_REPLICA_URL", &url),
            ("DRAIN_MAX_OPEN_CHANNELS", "100000"),
        ];
        let mut env = self.world.env(home, &settings);
        env.retain(|(name, _)| name != "DRAIN_PRIVATE_KEY");
        Ok(env)
    }

    /// So many channels more of the first wallet, opened on chain and found by its record.
    fn record(&mut self, more: usize) -> Result<()> {
        self.world.stub.open_channels(more, PROVIDERS)?;
        self.configure(1)?;
        let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let begun = Instant::now();
        loop {
            let mut recover = Command::new(env!("CARGO_BIN_EXE_drain-mcp"));
            recover.args(["channels", "recover"]).env_clear().envs(self.env(home.path())?);
            let ended = recover.output()?;
            if ended.status.success() {
                return Ok(());
            }
            // The lease of the replicas that were killed after the last figure.
            let said = String::from_utf8_lossy(&ended.stderr).into_owned();
            if !said.contains("wallet_in_use") || begun.elapsed() > PATIENCE {
                return Err(format!("channels recover: {said}").into());
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    fn replica(&self) -> Result<Fleet> {
        let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        std::fs::copy(self.path("agents.toml"), home.path().join("agents.toml"))?;
        let env = self.env(home.path())?;
        Fleet::over(home, env)
    }

    fn measured(&mut self, name: &str, count: usize, wallets: usize) -> Result<Row> {
        self.configure(wallets)?;
        let replicas = (0..count).map(|_| self.replica()).collect::<Result<Vec<_>>>()?;
        let held = self.held(&replicas, wallets)?;
        let mut agents = Vec::new();
        for (n, (token, channel)) in self.agents.iter_mut().enumerate() {
            // Not the one that its wallet's number would give.
            let mut agent = replicas[(n / wallets) % count].connect(token.expose().to_owned())?;
            // What it has was opened with another wallet.
            if channel.is_empty() || wallets > 1 {
                *channel = agent.open()?;
            }
            agent.pays_from(channel);
            agents.push(agent);
        }
        in_parallel(&mut agents, WARM)?;
        let mut runs = Vec::new();
        let before = Load::of(&self.database, &replicas, self.world.stub.pid())?;
        let begun = Instant::now();
        for _ in 0..RUNS {
            let (rate, samples) = in_parallel(&mut agents, CHATS / AGENTS)?;
            runs.push((rate, samples.quantiles()));
        }
        let took = begun.elapsed().as_secs_f64();
        let load = Load::of(&self.database, &replicas, self.world.stub.pid())?;
        let rates: Vec<f64> = runs.iter().map(|(rate, _)| *rate).collect();
        let (low, high) = range(&rates);
        let latencies: Vec<Quantiles> = runs.iter().map(|(_, latency)| *latency).collect();
        let chats = (RUNS * CHATS) as f64;
        let share = |now: f64, then: f64| 100.0 * (now - then) / took;
        let memory: Vec<String> = replicas
            .iter()
            .map(|replica| Ok(format!("{:.0}", status_mb(replica.pid(), "VmRSS")?)))
            .collect::<Result<_>>()?;
        Ok(Row::new(
            name,
            "",
            format!("{:.0} chats/s (runs {low:.0} to {high:.0})", median(rates.iter().copied())),
            true,
        )
        .beside(format!("each {}", Quantiles::of_runs(&latencies)))
        .beside(format!("wallets held: {held:?}"))
        .beside(format!(
            "CPU of one core: generator {:.0} %, replicas {}, stub {:.0} %, database {:.0} %",
            share(load.generator, before.generator),
            load.replicas
                .iter()
                .zip(&before.replicas)
                .map(|(now, then)| format!("{:.0}", share(*now, *then)))
                .collect::<Vec<_>>()
                .join(" + "),
            share(load.stub, before.stub),
            share(load.database, before.database)
        ))
        .beside(format!(
            "database: {:.2} commits, {:.1} kB of log a chat, {} sessions, {:.0} MB on disk",
            (load.commits - before.commits) / chats,
            (load.log - before.log) / chats / 1e3,
            load.sessions,
            load.size / 1e6
        ))
        .beside(format!(
            "memory (RSS): replicas {} MB, database {:.0} MB (PSS)",
            memory.join(" + "),
            load.memory
        )))
    }

    /// How many wallets each has, when all are somebody's.
    fn held(&self, replicas: &[Fleet], wallets: usize) -> Result<Vec<usize>> {
        let begun = Instant::now();
        loop {
            let held = replicas
                .iter()
                .map(|replica| {
                    let text = replica.metrics()?;
                    Ok(text.lines().filter(|l| l.starts_with("drain_wallet_held{") && l.ends_with(" 1")).count())
                })
                .collect::<Result<Vec<usize>>>()?;
            if held.iter().sum::<usize>() == wallets {
                return Ok(held);
            }
            if begun.elapsed() > PATIENCE {
                return Err("the wallets are not taken".into());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// What was used so far: seconds of CPU, commits, bytes.
struct Load {
    generator: f64,
    replicas: Vec<f64>,
    stub: f64,
    database: f64,
    commits: f64,
    log: f64,
    sessions: u64,
    size: f64,
    memory: f64,
}

impl Load {
    fn of(database: &Server, replicas: &[Fleet], stub: u32) -> Result<Self> {
        let told = database.sql(
            "drain",
            "SELECT xact_commit, pg_current_wal_lsn() - '0/0', (SELECT count(*) FROM pg_stat_activity WHERE application_name = 'drain-mcp'), \
             pg_database_size('drain') FROM pg_stat_database WHERE datname = 'drain'",
        );
        let [commits, log, sessions, size] = told.split('|').collect::<Vec<_>>()[..] else {
            return Err(format!("the database says {told}").into());
        };
        let pids = database.sql("drain", "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()");
        let pids: Vec<u32> = pids.lines().map(str::parse).collect::<std::result::Result<_, _>>()?;
        let pss = |pid: &u32| -> Result<f64> {
            let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).ok_or("no Pss")?;
            Ok(line.split_whitespace().next().ok_or("no Pss")?.parse::<f64>()? * 1_024.0 / 1e6)
        };
        Ok(Self {
            generator: cpu_seconds(std::process::id())?,
            replicas: replicas.iter().map(|replica| cpu_seconds(replica.pid())).collect::<Result<_>>()?,
            stub: cpu_seconds(stub)?,
            database: pids.iter().map(|pid| cpu_seconds(*pid)).sum::<Result<f64>>()?,
            commits: commits.parse()?,
            log: log.parse()?,
            sessions: sessions.parse()?,
            size: size.parse()?,
            memory: pids.iter().map(pss).sum::<Result<f64>>()?,
        })
    }
}
