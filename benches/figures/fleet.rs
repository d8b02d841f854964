//! Agents over HTTP: as many as a fleet has, each with a token, a channel and a connection of its own, beside the figures
//! of one client on stdio. Raw HTTP/1.1 here too: a client library would be measured with it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::disk::{Disk, Took};
use crate::errors::Result;
use crate::machine::Shares;
use crate::report::Row;
use crate::stats::{Quantiles, RUNS, Samples, median, range};
use crate::world::{MODEL, World, prompt};

/// Agents at once.
const AGENTS: [usize; 3] = [1, 8, 64];
/// Chats of a run, of all agents together.
const CHATS: usize = 1_024;
/// The first ones of each agent: connections, prices and models are new.
const WARM: usize = 10;
/// What hangs is an error.
const PATIENCE: Duration = Duration::from_secs(60);
const VERSION: &str = "2026-07-28";

/// Figure 11: chats a second and how long each took, for 1, 8 and 64 agents at once.
pub fn agents(world: &mut World) -> Result<Vec<Row>> {
    AGENTS.into_iter().map(|count| with(world, count)).collect()
}

fn with(world: &World, count: usize) -> Result<Row> {
    let each = CHATS / count;
    let (mut rates, mut latencies, mut disks, mut shares) = (Vec::new(), Vec::new(), Vec::new(), Shares::default());
    for _ in 0..RUNS {
        let fleet = Fleet::start(world)?;
        let mut agents = (0..count).map(|n| fleet.agent(n)).collect::<Result<Vec<_>>>()?;
        in_parallel(&mut agents, WARM)?;
        let mut disk = Disk::default();
        disk.probe(fleet.home.path())?;
        let (rate, samples) = shares.during(fleet.pid(), world.stub.pid(), || in_parallel(&mut agents, each))?;
        disk.probe(fleet.home.path())?;
        disks.push(disk.took());
        rates.push(rate);
        latencies.push(samples.quantiles());
    }
    let ((low, high), rate) = (range(&rates), median(rates));
    let plural = if count == 1 { "agent" } else { "agents" };
    let row = Row::new(
        &format!("{count} {plural} over HTTP"),
        "beside stdio",
        format!("{rate:.0} chats/s (runs {low:.0} to {high:.0})"),
        true,
    );
    Ok(row
        .beside(format!("each {}", Quantiles::of_runs(&latencies)))
        .beside(format!("right before and after: {}", Took::of_runs(&disks)))
        .beside(shares.for_each(RUNS * each * count, "chat"))
        .beside(shares))
}

/// Each agent on a thread of its own, one chat after another. Chats a second, and what each took.
pub fn in_parallel(agents: &mut [Agent], each: usize) -> Result<(f64, Samples)> {
    let begun = Instant::now();
    let taken = std::thread::scope(|scope| {
        let threads: Vec<_> =
            agents.iter_mut().map(|agent| scope.spawn(move || agent.pay(each).map_err(|e| e.to_string()))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| "a client panicked")?.map_err(Into::into))
            .collect::<Result<Vec<_>>>()
    })?;
    let took = begun.elapsed().as_secs_f64();
    let samples: Vec<Duration> = taken.into_iter().flatten().collect();
    Ok((samples.len() as f64 / took, Samples::new(samples)))
}

/// A running `drain-mcp serve` with a home of its own.
pub struct Fleet {
    child: Child,
    /// Kept open: the server writes remarks there.
    _stderr: BufReader<ChildStderr>,
    address: String,
    env: Vec<(String, String)>,
    home: TempDir,
}

impl Fleet {
    fn start(world: &World) -> Result<Self> {
        let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let env = world.env(home.path(), &[("DRAIN_LISTEN", "127.0.0.1:0")]);
        Self::over(home, env)
    }

    /// In this home, with this environment.
    pub fn over(home: TempDir, env: Vec<(String, String)>) -> Result<Self> {
        let mut child = program(&env).arg("serve").stderr(Stdio::piped()).spawn()?;
        let mut stderr = BufReader::new(child.stderr.take().ok_or("the server has no stderr")?);
        let mut said = String::new();
        let address = loop {
            let begins = said.len();
            if stderr.read_line(&mut said)? == 0 {
                return Err(format!("the server did not start: {said}").into());
            }
            if let Some(address) = said[begins..].split_once("http://").and_then(|(_, url)| url.split_once("/mcp")) {
                break address.0.to_owned();
            }
        };
        Ok(Self { child, _stderr: stderr, address, env, home })
    }

    /// A new agent with a channel and a connection.
    fn agent(&self, n: usize) -> Result<Agent> {
        let args = ["agents", "add", &format!("agent-{n}"), "--budget", "1000", "--json"];
        let made = program(&self.env).args(args).output()?;
        let made: Value = serde_json::from_slice(&made.stdout)?;
        let token = made["token"].as_str().ok_or("an agent without token")?.to_owned();
        let mut agent = self.connect(token)?;
        let channel = agent.open()?;
        agent.pays_from(&channel);
        Ok(agent)
    }

    /// A connection of the agent with this token.
    pub fn connect(&self, token: String) -> Result<Agent> {
        let stream = TcpStream::connect(&self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Agent { host: self.address.clone(), token, stream: BufReader::new(stream), request: Vec::new(), id: 0 })
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What its metrics say.
    #[cfg(feature = "postgres")]
    pub fn metrics(&self) -> Result<String> {
        let mut stream = TcpStream::connect(&self.address)?;
        write!(stream, "GET /metrics HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.address)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // Its journal goes with its home.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program(env: &[(String, String)]) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_drain-mcp")));
    command.env_clear().envs(env.iter().map(|(name, value)| (name, value))).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// A client of the stateless revision on one connection.
pub struct Agent {
    host: String,
    token: String,
    stream: BufReader<TcpStream>,
    /// The chat.
    request: Vec<u8>,
    id: u64,
}

impl Agent {
    /// Opens a channel; its id.
    pub fn open(&mut self) -> Result<String> {
        let opened = self.call("drain_open_channel", &json!({ "provider": "sim-llm", "amount": "5" }))?;
        Ok(opened["channel"]["channel_id"].as_str().ok_or("an opened channel without id")?.to_owned())
    }

    /// Its chats are paid from this channel.
    pub fn pays_from(&mut self, channel: &str) {
        let messages = json!([{ "role": "user", "content": prompt() }]);
        let arguments = json!({ "channelId": channel, "model": MODEL, "messages": messages });
        self.request = self.prepared("drain_chat", &arguments);
    }

    /// The whole request.
    fn prepared(&mut self, tool: &str, arguments: &Value) -> Vec<u8> {
        self.id += 1;
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": VERSION,
            "io.modelcontextprotocol/clientInfo": { "name": "figures", "version": "1" },
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let params = json!({ "name": tool, "arguments": arguments, "_meta": meta });
        let body = json!({ "jsonrpc": "2.0", "id": self.id, "method": "tools/call", "params": params }).to_string();
        let head = format!(
            "POST /mcp HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\naccept: application/json, text/event-stream\r\n\
             content-type: application/json\r\nmcp-protocol-version: {VERSION}\r\nmcp-method: tools/call\r\nmcp-name: {tool}\r\n\
             content-length: {}\r\n\r\n",
            self.host,
            self.token,
            body.len()
        );
        (head + &body).into_bytes()
    }

    /// One chat after another; what each took.
    fn pay(&mut self, count: usize) -> Result<Vec<Duration>> {
        let request = std::mem::take(&mut self.request);
        let taken = (0..count).map(|_| {
            let begun = Instant::now();
            self.good(&request)?;
            Ok(begun.elapsed())
        });
        let taken = taken.collect();
        self.request = request;
        taken
    }

    /// A call; its structured content.
    fn call(&mut self, tool: &str, arguments: &Value) -> Result<Value> {
        let request = self.prepared(tool, arguments);
        Ok(self.good(&request)?["result"]["structuredContent"].take())
    }

    /// Sends a request and reads its good answer.
    fn good(&mut self, request: &[u8]) -> Result<Value> {
        self.stream.get_mut().write_all(request)?;
        let (status, body) = self.answer()?;
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status != 200 || answer["result"]["isError"] == true || answer["result"].is_null() {
            return Err(format!("refused with {status}: {:.400}", String::from_utf8_lossy(&body)).into());
        }
        Ok(answer)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        Ok(line.trim_end().to_ascii_lowercase())
    }

    /// Status and body, by length or in chunks.
    fn answer(&mut self) -> Result<(u16, Vec<u8>)> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).ok_or("no HTTP answer")?.parse()?;
        let (mut length, mut chunked) = (0, false);
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            if let Some(text) = line.strip_prefix("content-length:") {
                length = text.trim().parse()?;
            }
            chunked |= line.starts_with("transfer-encoding:") && line.ends_with("chunked");
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        while chunked {
            let size = usize::from_str_radix(&self.line()?, 16)?;
            let from = body.len();
            body.resize(from + size, 0);
            self.stream.read_exact(&mut body[from..])?;
            self.line()?;
            chunked = size > 0;
        }
        Ok((status, body))
    }
}
