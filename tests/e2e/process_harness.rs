//! A real `drain-mcp` process against a sandbox in the test: its environment, its pipes, its end.
//!
//! Nothing of the tester's environment reaches it. Every line that it writes to stdout as an MCP server must be a
//! JSON-RPC message; all it writes is kept, for what must not be in it.

mod agent;
pub mod served;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::future::Future;
use std::process::Stdio;
use std::time::Duration;

use drain_sandbox::Provider;
use drain_sandbox::provider::PaidRequest;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::watch;

pub use agent::{Agent, Answer, Greeting, Human};

use drain_mcp::error::VARIABLE as CODES;

use crate::harness::World;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_drain-mcp");
/// Longest wait for anything. Generous: machines that build and test at once are slow.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// "Within seconds".
pub const SOON: Duration = Duration::from_secs(10);

/// A marketplace for processes.
pub async fn world() -> World {
    let _ = rustls::crypto::ring::default_provider().install_default();
    World::start().await
}

/// Waits for a condition.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let waited = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

/// The requests that came to a provider with a voucher.
pub fn vouchers(provider: &Provider) -> Vec<PaidRequest> {
    provider.request_log().paid.into_iter().filter(|request| request.header.is_some()).collect()
}

/// The arguments of a request to an LLM.
pub fn chat(channel: &str, text: &str) -> Value {
    json!({ "channelId": channel, "model": "sim-small", "messages": [{ "role": "user", "content": text }] })
}

/// The whole environment of a process.
#[derive(Clone, Debug, Default)]
pub struct Env(BTreeMap<String, String>);

impl Env {
    /// What makes a process use this world, and nothing else.
    pub fn of(world: &World) -> Self {
        let home = world.home.path().display().to_string();
        Self(world.sandbox.env().into_iter().collect())
            .with("DRAIN_HOME", home)
            .with("DRAIN_PLAY_MONEY", "on")
            .with("DRAIN_POLL_INTERVAL", "200ms")
            .with("DRAIN_DIRECTORY_MAX_AGE", "0")
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.0.remove(name);
        self
    }

    pub fn get(&self, name: &str) -> &str {
        &self.0[name]
    }

    /// As the JSON object of an MCP client's configuration.
    pub fn json(&self) -> Value {
        json!(self.0)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.program(PROGRAM);
        command.args(args);
        command
    }

    /// Another program with this environment.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(&self.0).kill_on_drop(true);
        // What the whole run is asked to record.
        command.envs(std::env::var_os(CODES).map(|path| (CODES, path)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end under another program, which is found by the PATH of the tests.
    pub async fn run_under(&self, program: &[&str], args: &[&str]) -> Ended {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).arg(PROGRAM).args(args).env_clear().envs(&self.0).kill_on_drop(true);
        let output = command.stdin(Stdio::null()).output().await.unwrap();
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a command to its end, with nothing on its stdin.
    pub async fn run(&self, args: &[&str]) -> Ended {
        self.run_with(args, "").await
    }

    /// The same with a text on its stdin.
    pub async fn run_with(&self, args: &[&str], input: &str) -> Ended {
        let ended = Ended::of(self.command(args), input, PATIENCE).await;
        println!("--- drain-mcp {}: {:?}\n{}{}", args.join(" "), ended.code, ended.stdout, ended.stderr);
        ended
    }
}

/// What a process left behind.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Runs a command to its end, with this text on its stdin.
    pub async fn of(mut command: Command, input: &str, patience: Duration) -> Self {
        let mut child = command.spawn().unwrap();
        // A command that does not read its input closes it early.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes()).await;
        let output = tokio::time::timeout(patience, child.wait_with_output()).await;
        let output = output.unwrap_or_else(|_| panic!("{command:?} does not end")).unwrap();
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Its stdout as the one JSON object that `--json` promises.
    pub fn json(&self) -> Value {
        let value: Value = serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"));
        assert!(value.is_object(), "{value}");
        value
    }

    /// The same of a command that succeeded.
    pub fn ok_json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.json()
    }

    pub fn everything(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

pub fn collect(mut pipe: impl AsyncRead + Unpin + Send + 'static) -> watch::Receiver<String> {
    let (sender, receiver) = watch::channel(String::new());
    tokio::spawn(async move {
        let mut part = [0; 4096];
        while let Ok(read @ 1..) = pipe.read(&mut part).await {
            sender.send_modify(|text| text.push_str(&String::from_utf8_lossy(&part[..read])));
        }
    });
    receiver
}
