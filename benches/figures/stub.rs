//! The other process: chain, directory and providers. This binary starts itself again to be it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use alloy::sol_types::SolCall;
use drain_protocol::contract::{DrainChannel, Erc20};
use drain_protocol::{Address, U256, Usdc};
use drain_sandbox::chain::Faults;
use drain_sandbox::contracts::{CHANNEL_V2, USDC};
use drain_sandbox::marketplace::{Sandbox, SandboxConfig};
use drain_sandbox::provider::{Answers, ProviderConfig, Usage};
use serde_json::{Value, json};

use crate::errors::Result;

/// Set in the environment of the stub's process.
const MARK: &str = "DRAIN_FIGURES_STUB";
/// What every request is billed.
pub const USAGE: Usage = Usage { prompt: 200, completion: 60 };
/// What the agent's wallet starts with.
const WALLET: u64 = 1_000_000_000_000;
/// Its gas, in wei: 1,000 POL.
const GAS: u128 = 1_000_000_000_000_000_000_000;
/// What each of many channels holds, in base units, and for how long, in seconds.
const DEPOSIT: u64 = 100_000;
const DURATION: u64 = 7 * 86_400;

/// Whether this process is the stub.
pub fn is_stub() -> bool {
    std::env::var_os(MARK).is_some()
}

/// No latency, the same answer always, no chain call and no record for each request; the signature is verified.
fn adjust(provider: &mut ProviderConfig) {
    let words = ["word"; 60].join(" ");
    provider.answers = Answers::Fixed { text: words, usage: USAGE };
    provider.validate_on_chain = false;
    provider.record = false;
}

/// Serves until standard input ends. Each line there is a request of [`Stub`], answered by one line.
pub fn serve() -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let agent_usdc = Usdc::from_units(WALLET).ok_or("more USDC than there can be")?;
    let config = SandboxConfig { agent_usdc, agent_native: U256::from(GAS), adjust, ..SandboxConfig::default() };
    let sandbox = runtime.block_on(Sandbox::start(config))?;
    let chain = sandbox.chain.as_ref().ok_or("the sandbox has no chain of its own")?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", json!(sandbox.env()))?;
    for line in std::io::stdin().lock().lines() {
        let answer = match line?.split_once(' ') {
            Some(("latency", milliseconds)) => {
                chain.main().set_faults(Faults { latency_ms: milliseconds.parse()?, ..Faults::default() });
                Value::Null
            }
            Some(("open", counts)) => {
                let (channels, providers) = counts.split_once(' ').ok_or("how many providers?")?;
                runtime.block_on(open(&sandbox, channels.parse()?, providers.parse()?))?;
                Value::Null
            }
            Some(("fund", account)) => {
                let observer = sandbox.observer();
                runtime.block_on(observer.fund(account.parse()?, agent_usdc, U256::from(GAS)))?;
                Value::Null
            }
            Some(("count", _)) => json!(chain.request_count().values().sum::<u64>()),
            _ => return Err("the stub was asked something that it does not know".into()),
        };
        writeln!(out, "{answer}")?;
    }
    Ok(())
}

/// Opens channels of the agent's past any runtime, with providers that are nobody.
async fn open(sandbox: &Sandbox, channels: u64, providers: u64) -> Result<()> {
    let (rpc, agent) = (sandbox.observer().rpc(), sandbox.agent());
    let approve = Erc20::approveCall { spender: CHANNEL_V2, amount: U256::from(channels * DEPOSIT) };
    rpc.execute(agent, USDC, approve.abi_encode()).await?;
    for n in 0..channels {
        let provider = Address::right_padding_from(&u32::try_from(1 + n % providers)?.to_be_bytes());
        let open = DrainChannel::openCall { provider, amount: U256::from(DEPOSIT), duration: U256::from(DURATION) };
        rpc.execute(agent, CHANNEL_V2, open.abi_encode()).await?;
    }
    Ok(())
}

/// The generator's handle to the stub's process. Dropping it ends the process.
#[derive(Debug)]
pub struct Stub {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    env: Vec<(String, String)>,
}

impl Stub {
    /// Starts it and waits until it serves.
    pub fn start() -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .env_clear()
            .env(MARK, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take().ok_or("the stub has no input")?;
        let stdout = BufReader::new(child.stdout.take().ok_or("the stub has no output")?);
        let mut stub = Self { child, stdin, stdout, env: Vec::new() };
        stub.env = serde_json::from_value(stub.answer()?)?;
        Ok(stub)
    }

    /// What the server needs to find it.
    pub fn env(&self) -> &[(String, String)] {
        &self.env
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets the node wait before each answer.
    pub fn set_node_latency(&mut self, milliseconds: u64) -> Result<()> {
        writeln!(self.stdin, "latency {milliseconds}")?;
        self.answer().map(drop)
    }

    /// Opens so many channels of the agent's, with so many providers in turns.
    pub fn open_channels(&mut self, channels: usize, providers: usize) -> Result<()> {
        writeln!(self.stdin, "open {channels} {providers}")?;
        self.answer().map(drop)
    }

    /// Gives an account as much as the agent's wallet began with.
    pub fn fund(&mut self, account: Address) -> Result<()> {
        writeln!(self.stdin, "fund {account}")?;
        self.answer().map(drop)
    }

    /// Requests that the server's node has received so far.
    pub fn chain_calls(&mut self) -> Result<u64> {
        writeln!(self.stdin, "count all")?;
        Ok(self.answer()?.as_u64().ok_or("the stub did not count")?)
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(serde_json::from_str(&line).map_err(|error| format!("the stub said {line:?}: {error}"))?)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
