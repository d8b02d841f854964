//! The one framed transport: a child process over USB and an emulator over TCP speak the same.
//!
//! A command is its length in four bytes, then the command. An answer is the length of its data **without** the status in
//! four bytes, the data, and the status in two.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, join};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::apdu::{Answer, Apdu};
use super::problem::DeviceProblem;

/// The longest answer: 256 bytes is what the protocol allows; anything near this is not a Ledger.
const MAX_ANSWER: usize = 1_024;
/// What an emulator on the same network needs at most.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// What the child keeps of the environment: where Windows and macOS find their system libraries.
const KEPT: [&str; 3] = ["PATH", "SystemRoot", "TMPDIR"];

/// Where the device is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connect {
    /// An emulator: host and port.
    Tcp(String),
    /// A program that carries the frames between its stdin and stdout and a device on USB.
    Child {
        /// The program.
        program: PathBuf,
        /// Its arguments.
        args: Vec<OsString>,
    },
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection. Dropping it ends it, the child included. After an error it is not to be used again.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    /// Killed when it is dropped.
    _child: Option<Child>,
}

impl Connect {
    pub(super) async fn connect(&self) -> Result<Connection, DeviceProblem> {
        match self {
            Self::Tcp(address) => {
                let stream = timeout(CONNECT_LIMIT, TcpStream::connect(address.as_str()))
                    .await
                    .map_err(|_| DeviceProblem::Absent)?
                    .map_err(|_| DeviceProblem::Absent)?;
                // Small frames to and fro: waiting to fill a packet would cost 40 ms each.
                stream.set_nodelay(true).map_err(|_| DeviceProblem::Unplugged)?;
                Ok(Connection { stream: Box::new(stream), _child: None })
            }
            Self::Child { program, args } => {
                let failed = |problem: &str| DeviceProblem::NoUsb { problem: problem.to_owned() };
                let mut command = Command::new(program);
                command.args(args).env_clear();
                for name in KEPT {
                    if let Some(value) = std::env::var_os(name) {
                        command.env(name, value);
                    }
                }
                command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
                let mut child = command.spawn().map_err(|e| failed(&e.to_string()))?;
                let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
                    return Err(failed("its helper has no pipes"));
                };
                Ok(Connection { stream: Box::new(join(stdout, stdin)), _child: Some(child) })
            }
        }
    }
}

impl Connection {
    /// One command and its answer, within `limit`.
    pub async fn exchange(&mut self, apdu: &Apdu, limit: Duration) -> Result<Answer, DeviceProblem> {
        timeout(limit, self.exchange_patiently(apdu))
            .await
            .map_err(|_| DeviceProblem::NoAnswer { seconds: limit.as_secs() })?
    }

    /// One command and its answer, for a caller that knows when to stop.
    pub async fn exchange_patiently(&mut self, apdu: &Apdu) -> Result<Answer, DeviceProblem> {
        let gone = |_: std::io::Error| DeviceProblem::Unplugged;
        let command = apdu.to_bytes();
        let mut frame = Vec::with_capacity(4 + command.len());
        frame.extend((command.len() as u32).to_be_bytes());
        frame.extend(command);
        self.stream.write_all(&frame).await.map_err(gone)?;
        self.stream.flush().await.map_err(gone)?;

        let length = self.stream.read_u32().await.map_err(gone)? as usize;
        if length > MAX_ANSWER {
            return Err(DeviceProblem::garbled(format!("it announces {length} bytes")));
        }
        let mut data = vec![0; length];
        self.stream.read_exact(&mut data).await.map_err(gone)?;
        let status = self.stream.read_u16().await.map_err(gone)?;
        Ok(Answer { data, status })
    }
}
