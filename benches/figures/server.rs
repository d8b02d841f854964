//! The release binary, driven over one stdio connection by raw lines of JSON-RPC: a client library would be measured
//! with it otherwise.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::errors::Result;

/// A server lives at most so long: what hangs is killed, and its figure says so.
const LIFE: Duration = Duration::from_secs(180);

/// A running `drain-mcp`. Dropping it closes its input and waits for its orderly end.
#[derive(Debug)]
pub struct Server {
    child: Arc<Mutex<Child>>,
    pid: u32,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    next_id: u64,
    line: Vec<u8>,
    request: Vec<u8>,
    /// Dropped when the server has ended.
    watchdog: Option<(Sender<()>, std::thread::JoinHandle<()>)>,
}

/// As much of an answer as the hot path reads.
#[derive(Debug, Deserialize)]
struct Head {
    id: Option<u64>,
    #[serde(default)]
    result: Option<ResultHead>,
}

#[derive(Debug, Deserialize)]
struct ResultHead {
    #[serde(default, rename = "isError")]
    is_error: bool,
}

/// An answer: to which request, and whether it is a good one.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// What [`Server::send`] gave.
    pub id: u64,
    /// No refusal and no error.
    pub good: bool,
}

/// A request that is ready but for its id.
#[derive(Clone, Debug)]
pub struct Prepared(String);

impl Prepared {
    /// A call of a tool.
    pub fn call(tool: &str, arguments: &Value) -> Self {
        Self::method("tools/call", &json!({ "name": tool, "arguments": arguments }))
    }

    fn method(method: &str, params: &Value) -> Self {
        Self(format!(",\"method\":\"{method}\",\"params\":{params}}}\n"))
    }
}

impl Server {
    /// Starts the process with exactly this environment and shakes hands.
    pub fn start(env: &[(String, String)]) -> Result<Self> {
        let mut server = Self::spawn(env)?;
        let hello = json!({
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": { "name": "figures", "version": "1" },
        });
        server.ask(&Prepared::method("initialize", &hello))?;
        server.write(b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n")?;
        Ok(server)
    }

    fn spawn(env: &[(String, String)]) -> Result<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_drain-mcp"))
            .env_clear()
            .envs(env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().ok_or("the server has no output")?);
        let pid = child.id();
        let child = Arc::new(Mutex::new(child));
        let watchdog = Some(watch(child.clone())?);
        Ok(Self { child, pid, stdin, stdout, next_id: 1, line: Vec::new(), request: Vec::new(), watchdog })
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stdin.as_mut().ok_or("the server's input is closed")?.write_all(bytes)?)
    }

    /// Writes a request and gives its id. One write to the pipe each, as a client does.
    ///
    /// What is not answered yet must fit into a pipe (64 KiB), or both sides may wait for each other.
    pub fn send(&mut self, request: &Prepared) -> Result<u64> {
        let id = self.next_id;
        self.next_id += 1;
        let mut bytes = std::mem::take(&mut self.request);
        bytes.clear();
        write!(bytes, "{{\"jsonrpc\":\"2.0\",\"id\":{id}{}", request.0)?;
        self.write(&bytes)?;
        self.request = bytes;
        Ok(id)
    }

    /// Waits for the next answer, whichever request it belongs to.
    pub fn receive(&mut self) -> Result<Answered> {
        loop {
            self.line.clear();
            if self.stdout.read_until(b'\n', &mut self.line)? == 0 {
                return Err("the server has ended (or was stopped after three minutes)".into());
            }
            let head: Head = serde_json::from_slice(&self.line)?;
            // Notifications have no id.
            if let Some(id) = head.id {
                return Ok(Answered { id, good: head.result.is_some_and(|result| !result.is_error) });
            }
        }
    }

    /// The answer that was received last, whole.
    pub fn last(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&self.line)?)
    }

    /// One request and its answer; a bad one is an error.
    fn ask(&mut self, request: &Prepared) -> Result<()> {
        self.send(request)?;
        if self.receive()?.good {
            return Ok(());
        }
        Err(format!("refused: {:.400}", String::from_utf8_lossy(&self.line)).into())
    }

    /// Asks for the list of tools: the first thing that a client does.
    pub fn list_tools(&mut self) -> Result<()> {
        self.ask(&Prepared::method("tools/list", &json!({})))
    }

    /// One call; its structured content.
    pub fn call(&mut self, tool: &str, arguments: &Value) -> Result<Value> {
        self.run(&Prepared::call(tool, arguments))?;
        Ok(self.last()?["result"]["structuredContent"].take())
    }

    /// One prepared call, answered well.
    pub fn run(&mut self, request: &Prepared) -> Result<()> {
        self.ask(request)
    }
}

/// Kills the process when its life is over.
fn watch(child: Arc<Mutex<Child>>) -> Result<(Sender<()>, std::thread::JoinHandle<()>)> {
    let (ended, waits) = channel::<()>();
    let thread = std::thread::Builder::new().name("watchdog".into()).spawn(move || {
        if waits.recv_timeout(LIFE) == Err(RecvTimeoutError::Timeout) {
            // It may have ended at this very moment.
            let _ = child.lock().unwrap_or_else(PoisonError::into_inner).kill();
        }
    })?;
    Ok((ended, thread))
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stdin = None;
        // Its end of the pipe closes when it has gone, by itself or by the watchdog.
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(&mut self.stdout, &mut rest);
        let _ = self.child.lock().unwrap_or_else(PoisonError::into_inner).wait();
        if let Some((ended, thread)) = self.watchdog.take() {
            drop(ended);
            let _ = thread.join();
        }
    }
}
