//! A software Ledger: speaks the emulators' frames over TCP, answers as the Ethereum app does, and can be told to misbehave.
//!
//! A command comes as its length in four bytes and its bytes; an answer goes as the length of its data without the status in
//! four bytes, the data, and the status in two. What it answers is held to recordings of the real app by tests.

mod device;
mod keys;
mod screens;
mod typed;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use device::{Device, Step};
pub use keys::{Keys, TEST_PHRASE};

/// The longest command.
const MAX_COMMAND: usize = 260;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 16;
/// Exchanges that are remembered.
const MAX_LOG: usize = 100_000;

/// What the device is and how it is set.
#[derive(Clone, Debug)]
pub struct LedgerPeerConfig {
    /// Its accounts.
    pub keys: Keys,
    /// The open app, as the device calls it.
    pub app: String,
    /// The app's version.
    pub version: String,
    /// The app's setting "Blind signing".
    pub blind_signing: bool,
    /// The app's setting "Raw messages": every field of a message is shown.
    pub raw_messages: bool,
    /// Whether the app takes messages field by field. The oldest devices do not.
    pub full_eip712: bool,
}

impl Default for LedgerPeerConfig {
    fn default() -> Self {
        Self {
            keys: Keys::Phrase(TEST_PHRASE.into()),
            app: "Ethereum".into(),
            version: "1.22.0".into(),
            blind_signing: true,
            raw_messages: false,
            full_eip712: true,
        }
    }
}

/// What the person at the device does when it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finger {
    /// Approves at once.
    Approve,
    /// Rejects at once.
    Reject,
    /// Does nothing yet: the prompt stays until this changes.
    Wait,
}

/// How the device misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerFault {
    /// It asks for its PIN.
    Locked,
    /// Another program holds it, as the pipe to USB reports that.
    Busy,
    /// It takes commands and never answers.
    Silent,
    /// It answers, but the status of success with bytes that mean nothing.
    Garbage,
    /// It announces an answer of four gigabytes.
    Endless,
    /// Its signatures lack their last byte.
    Truncated,
    /// It signs something else.
    OtherSignature,
}

/// A software Ledger. Stops when it is dropped.
#[derive(Debug)]
pub struct LedgerPeer {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: tokio::sync::Mutex<Option<JoinHandle<()>>>,
    /// Keeps the port while nothing listens on it, so that nobody else answers there.
    port: Mutex<Option<TcpSocket>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    finger: watch::Sender<Finger>,
}

#[derive(Debug)]
struct State {
    config: LedgerPeerConfig,
    device: Device,
    fault: Option<LedgerFault>,
    /// What a command is answered with after so many others.
    late: Option<(usize, Vec<u8>, u16)>,
    screens: Vec<Vec<String>>,
    asking: bool,
    log: Vec<(Vec<u8>, Vec<u8>)>,
    received: usize,
}

impl State {
    fn note(&mut self, command: Vec<u8>, answer: Vec<u8>) {
        if self.log.len() < MAX_LOG {
            self.log.push((command, answer));
        }
    }
}

impl LedgerPeer {
    /// Plugged in on a free port of loopback.
    ///
    /// # Errors
    ///
    /// Where no port can be had.
    pub async fn start(config: LedgerPeerConfig) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let state = State {
            config,
            device: Device::default(),
            fault: None,
            late: None,
            screens: Vec::new(),
            asking: false,
            log: Vec::new(),
            received: 0,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), finger: watch::Sender::new(Finger::Approve) });
        let server = tokio::spawn(serve(listener, shared.clone()));
        Ok(Self { address, shared, server: tokio::sync::Mutex::new(Some(server)), port: Mutex::new(None) })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Pulls the cable: connections end, new ones are refused. Returns when it is so.
    pub async fn unplug(&self) {
        if let Some(server) = self.server.lock().await.take() {
            server.abort();
            // Ends with the error of an aborted task.
            let _ = server.await;
            *self.port() = self.reserve().ok();
        }
        let mut state = self.shared.lock();
        // Without power it forgets what it was asked.
        state.device = Device::default();
        state.asking = false;
    }

    /// Plugs it in again, on the same port.
    ///
    /// # Errors
    ///
    /// Where another program took the port.
    pub async fn plug(&self) -> io::Result<()> {
        let mut server = self.server.lock().await;
        if server.is_none() {
            let kept = self.port().take();
            let listener = kept.map_or_else(|| self.reserve(), Ok)?.listen(BACKLOG)?;
            *server = Some(tokio::spawn(serve(listener, self.shared.clone())));
        }
        Ok(())
    }

    fn port(&self) -> MutexGuard<'_, Option<TcpSocket>> {
        self.port.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reserve(&self) -> io::Result<TcpSocket> {
        let socket = TcpSocket::new_v4()?;
        // Connections of before are still being forgotten.
        socket.set_reuseaddr(true)?;
        socket.bind(self.address)?;
        Ok(socket)
    }

    /// What the person does from now on, with a prompt that waits, too.
    pub fn finger(&self, finger: Finger) {
        self.shared.finger.send_replace(finger);
    }

    /// Misbehaves from now on; `None` stops it.
    pub fn fault(&self, fault: Option<LedgerFault>) {
        self.shared.lock().fault = fault;
    }

    /// The answer to a prompt that nobody waits for any more meets a command: the next one, or that after `others`.
    pub fn late_answer(&self, others: usize, data: Vec<u8>, status: u16) {
        self.shared.lock().late = Some((others, data, status));
    }

    /// Changes app or settings.
    pub fn configure(&self, change: impl FnOnce(&mut LedgerPeerConfig)) {
        change(&mut self.shared.lock().config);
    }

    /// What the person read, a list for each prompt so far, the last one perhaps still on the screen.
    pub fn screens(&self) -> Vec<Vec<String>> {
        self.shared.lock().screens.clone()
    }

    /// Every command so far that was answered, with its answer and status.
    pub fn exchanges(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.shared.lock().log.clone()
    }

    /// How many commands came, those without an answer included.
    pub fn received(&self) -> usize {
        self.shared.lock().received
    }

    /// Whether a prompt is on the screen.
    pub fn asking(&self) -> bool {
        self.shared.lock().asking
    }
}

impl Drop for LedgerPeer {
    fn drop(&mut self) {
        if let Some(server) = self.server.get_mut() {
            server.abort();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, and the connections with it.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        connections.spawn(connection(stream, shared.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(mut stream: TcpStream, shared: Arc<Shared>) {
    // Whoever hung up is not answered: nothing to do about an error.
    let _ = stream.set_nodelay(true);
    while let Ok(length) = stream.read_u32().await {
        let mut command = vec![0; length as usize];
        if command.len() > MAX_COMMAND || stream.read_exact(&mut command).await.is_err() {
            return;
        }
        let (length, data, status) = answer(&shared, &command).await;
        shared.lock().note(command, [&data[..], &status.to_be_bytes()].concat());
        let frame = [&length.to_be_bytes()[..], &data, &status.to_be_bytes()].concat();
        if stream.write_all(&frame).await.is_err() {
            return;
        }
    }
}

/// The announced length, the data and the status.
async fn answer(shared: &Shared, command: &[u8]) -> (u32, Vec<u8>, u16) {
    let (fault, step) = {
        let mut state = shared.lock();
        state.received += 1;
        match state.late.take() {
            Some((0, data, status)) => return (data.len() as u32, data, status),
            Some((others, data, status)) => state.late = Some((others - 1, data, status)),
            None => {}
        }
        let State { config, device, fault, .. } = &mut *state;
        let fault = *fault;
        // A prompt of an earlier connection is replaced by what comes now.
        let step = match fault {
            Some(LedgerFault::Locked) => Step::status(0x5515),
            Some(LedgerFault::Busy) => Step::status(0x0d02),
            Some(LedgerFault::Garbage) => Step::Answer(vec![0xde, 0xad, 0xbe, 0xef], 0x9000),
            _ => device.step(config, command),
        };
        if let Step::Prompt { screens, .. } = &step {
            state.screens.push(screens.clone());
            state.asking = true;
        }
        (fault, step)
    };
    match fault {
        Some(LedgerFault::Silent) => std::future::pending().await,
        Some(LedgerFault::Endless) => return (u32::MAX, vec![0; 64], 0x9000),
        _ => {}
    }
    let (mut data, status, signed) = match step {
        Step::Answer(data, status) => (data, status, false),
        Step::Prompt { signature, .. } => {
            let mut finger = shared.finger.subscribe();
            // The sender lives in `shared`.
            let approved = finger.wait_for(|finger| *finger != Finger::Wait).await.is_ok_and(|f| *f == Finger::Approve);
            let mut state = shared.lock();
            state.asking = false;
            if approved {
                (signature, 0x9000, true)
            } else {
                if let Some(last) = state.screens.last_mut() {
                    screens::rejected(last);
                }
                (Vec::new(), 0x6985, false)
            }
        }
    };
    match fault {
        Some(LedgerFault::Truncated) if signed => drop(data.pop()),
        Some(LedgerFault::OtherSignature) if signed => data[40] ^= 1,
        _ => {}
    }
    (data.len() as u32, data, status)
}
