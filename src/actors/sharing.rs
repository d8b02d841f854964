//! Who has the wallet: this process, or another one that it shares it with (design section 7).
//!
//! The process with the lock of the wallet's folder holds it and runs the runtime. Every other one is thin: its commands
//! go over the socket. When the holder ends, the thin ones race for the lock; the winner starts the runtime from the
//! journal and the others find it on the socket. Commands that come in between wait.

mod candidate;
mod turn;

use std::sync::{Arc, Weak};
use std::time::Duration;

use drain_protocol::Address;
use drain_signers::Signer;
use reqwest::Url;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::local::Local;
use super::services::Services;
use super::standing::Standing;
use crate::api::{Command, Effect, Progress, Reply};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Code, Failure};
use crate::metrics;
use crate::policy::Caller;
use crate::policy::approvals::Via;
use crate::socket::{Fate, Remote};
use candidate::{Candidate, Holding, Without};

/// How long commands wait for who has the wallet next.
const HAND_OVER: Duration = Duration::from_secs(20);
/// Between two tries to get or find the wallet: at first, and when it takes longer.
const PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often a command that only reads is asked for anew when its holder ends.
const READS: u32 = 5;

/// Where commands go.
#[derive(Clone)]
enum Post {
    /// The key is being opened; without it, providers can be read.
    Opening(Box<Local>),
    /// Nobody is found yet.
    Between,
    /// To this process' own runtime.
    Here(Arc<Holding>),
    /// To the process that holds the wallet.
    There(Remote),
    /// Another machine's process has it, and serves its agents there.
    Away(Option<Url>),
}

/// Cheap to clone; when the last clone drops, the wallet is let go.
#[derive(Clone)]
pub(super) struct Shared {
    inner: Arc<Inner>,
}

struct Inner {
    services: Services,
    post: watch::Sender<Post>,
    keeper: std::sync::OnceLock<JoinHandle<()>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.abort();
        }
    }
}

impl Shared {
    /// With a key: holds the wallet, or shares it while another process has it.
    pub(super) async fn with_key(services: Services, signer: Signer) -> Self {
        let wallet = signer.address();
        Self::start(Candidate::new(services, wallet, Ok(signer))).await
    }

    /// Without the key of `wallet`: shares it only, and answers `why` when nobody has it.
    pub(super) async fn locked(services: Services, wallet: Address, why: Failure) -> Self {
        Self::start(Candidate::new(services, wallet, Err(why))).await
    }

    /// Without any wallet.
    pub(super) fn without_wallet(services: Services, why: Failure) -> Self {
        let holding = Holding::nothing(Local::without_wallet(services.clone(), why));
        Self::at(services, Post::Here(Arc::new(holding)))
    }

    /// With a key that is being opened in the background.
    pub(super) fn opening(
        services: Services,
        wallet: Option<Address>,
        signer: impl Future<Output = Result<Signer, Failure>> + 'static,
    ) -> Self {
        let keyless = Local::without_wallet(services.clone(), still_closed());
        let shared = Self::at(services.clone(), Post::Opening(Box::new(keyless.clone())));
        let inner = Arc::downgrade(&shared.inner);
        let keeper = actix::spawn(async move {
            let signer = signer.await;
            let Some(wallet) = signer.as_ref().map_or(wallet, |signer| Some(signer.address())) else {
                let (Some(inner), Err(why)) = (inner.upgrade(), signer) else { return };
                inner.post.send_replace(Post::Here(Arc::new(Holding::nothing(keyless.because(why)))));
                return;
            };
            keep(inner, Candidate::new(services, wallet, signer).with(keyless)).await;
        });
        let _ = shared.inner.keeper.set(keeper);
        shared
    }

    fn at(services: Services, post: Post) -> Self {
        Self { inner: Arc::new(Inner { services, post: watch::Sender::new(post), keeper: Default::default() }) }
    }

    /// Takes the wallet if it is free; whoever else has it is found in the background.
    async fn start(mut candidate: Candidate) -> Self {
        let services = candidate.services.clone();
        let post = match candidate.take_at_once().await {
            Ok(Some(holding)) => Post::Here(holding),
            Ok(None) => Post::Between,
            // A journal that cannot be opened keeps money still, not discovery.
            Err(why) => candidate.nothing(why),
        };
        let shared = Self::at(services, post);
        // On the main thread, where actors can be started.
        let keeper = actix::spawn(keep(Arc::downgrade(&shared.inner), candidate));
        let _ = shared.inner.keeper.set(keeper);
        shared
    }

    pub(super) fn config(&self) -> &Config {
        &self.inner.services.config
    }

    pub(super) fn services(&self) -> &Services {
        &self.inner.services
    }

    pub(super) fn standing(&self) -> Standing {
        match &*self.inner.post.borrow() {
            Post::Opening(_) | Post::Between => Standing::Looking,
            Post::There(remote) => Standing::Elsewhere(remote.pid),
            Post::Away(url) => Standing::Away(url.clone()),
            Post::Here(holding) => holding.local.without().map_or(Standing::Held, Standing::Without),
        }
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.inner.services.clock
    }

    /// Where commands go now; waits while nobody is found. The keeper ends that wait.
    async fn post(&self) -> Post {
        let mut post = self.inner.post.subscribe();
        let found = post.wait_for(|post| match post {
            Post::Opening(_) | Post::Between => false,
            Post::Here(_) | Post::Away(_) => true,
            Post::There(remote) => !remote.is_gone(),
        });
        // The sender lives in `self`.
        found.await.map_or(Post::Between, |post| post.clone())
    }

    /// Does what a command says, wherever the wallet is. One that moves money is sent to one holder only.
    pub(super) async fn run(&self, command: Command, caller: Caller, progress: Progress) -> Result<Reply, Failure> {
        let opening = match &*self.inner.post.borrow() {
            Post::Opening(keyless) => Some(keyless.clone()),
            _ => None,
        };
        if let Some(keyless) = opening {
            if matches!(command, Command::Providers(_) | Command::Provider(_)) {
                return keyless.run(command, caller, progress).await;
            }
            progress.say("the wallet's key is being opened");
            // As long as it takes: what opens a key has limits of its own.
            self.post().await;
        }
        let deadline = Instant::now() + HAND_OVER * 2;
        let mut reads = 0;
        while Instant::now() < deadline {
            match self.post().await {
                Post::Here(holding) => {
                    return holding.local.run(command, caller, progress).await;
                }
                Post::There(remote) => {
                    match remote.run(command.clone(), caller.asked.clone(), self.own_person(&progress)).await {
                        Fate::Answered(result) => return result,
                        Fate::Lost(_) if command.effect() == Effect::Repeatable && reads < READS => reads += 1,
                        Fate::Lost(last) => return Err(lost(&command, &remote, last)),
                        // It ends what it has begun first, and is not asked again.
                        Fate::NotBegun => drop(tokio::time::timeout_at(deadline, remote.gone().cancelled()).await),
                    }
                }
                Post::Away(url) => return Err(away(url.as_ref())),
                Post::Opening(_) | Post::Between => break,
            }
        }
        Err(Failure::unspent(
            Code::Busy,
            "the process that has the wallet is about to end, and nobody has taken it over yet",
            "Call again.",
        ))
    }

    /// Where this process' operator does not let a client's person count, nobody else's does (M5).
    fn own_person(&self, progress: &Progress) -> Progress {
        let counts = self.config().approvals.via.contains(&Via::Elicitation);
        if counts { progress.clone() } else { progress.clone().without_person() }
    }

    /// Waits until this process has the wallet.
    pub(super) async fn held(&self) {
        let mut post = self.inner.post.subscribe();
        // The sender lives in `self`.
        let _ = post.wait_for(|post| matches!(post, Post::Here(holding) if holding.local.has_wallet())).await;
    }

    /// Waits until the wallet is not any more where this replica is.
    pub(super) async fn moved(&self, from: &Url) {
        let mut post = self.inner.post.subscribe();
        // The sender lives in `self`.
        let _ = post.wait_for(|post| !matches!(post, Post::Away(Some(url)) if url == from)).await;
    }

    /// This process' own runtime, for what only the holder does (M5).
    pub(super) async fn holder(&self) -> Result<Local, Failure> {
        match self.post().await {
            Post::Here(holding) => Ok(holding.local.clone()),
            Post::There(remote) => Err(only_the_holder(remote.pid)),
            Post::Away(url) => Err(away(url.as_ref())),
            Post::Opening(_) | Post::Between => Err(only_the_holder(None)),
        }
    }

    /// Lets what is on its way end, within a limit, for other processes too; then everything is durable.
    pub(super) async fn shutdown(&self) {
        let post = self.inner.post.borrow().clone();
        if let Post::Here(holding) = post {
            holding.leave().await;
        } else if let Some(keeper) = self.inner.keeper.get() {
            // No runtime is started in a process that ends, and a command that opens a key does not outlive it.
            keeper.abort();
            while !keeper.is_finished() {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Finds who has the wallet, again and again, until it is this process. Runs on the main thread.
async fn keep(shared: Weak<Inner>, mut candidate: Candidate) {
    while_held(&shared, candidate.wallet).await;
    let mut since = Instant::now();
    let mut pause = PAUSE;
    loop {
        let found = candidate.look().await;
        let Some(inner) = shared.upgrade() else { return };
        match found {
            Ok(holding @ Post::Here(_)) => {
                inner.post.send_replace(holding);
                drop(inner);
                while_held(&shared, candidate.wallet).await;
                (since, pause) = (Instant::now(), PAUSE);
                continue;
            }
            Ok(away @ Post::Away(_)) => {
                metrics::wallet_elsewhere(candidate.wallet);
                inner.post.send_replace(away);
                drop(inner);
                tokio::time::sleep(candidate.services.config.journal.look()).await;
                (since, pause) = (Instant::now(), PAUSE);
                continue;
            }
            Ok(post) => {
                let gone = match &post {
                    Post::There(remote) => Some(remote.gone()),
                    _ => None,
                };
                inner.post.send_replace(post);
                drop(inner);
                if let Some(gone) = gone {
                    gone.cancelled().await;
                }
                let Some(inner) = shared.upgrade() else { return };
                inner.post.send_replace(Post::Between);
                (since, pause) = (Instant::now(), PAUSE);
                continue;
            }
            Err(Without { why, patience }) if since.elapsed() >= patience => {
                inner.post.send_replace(candidate.nothing(why));
            }
            Err(_) => {}
        }
        drop(inner);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Waits while this process has the wallet: on a file to its end, on a server as long as it keeps its lease. What its runtime
/// still does then is recorded by nobody, and so it ends.
async fn while_held(shared: &Weak<Inner>, wallet: Address) {
    let Some(inner) = shared.upgrade() else { return };
    let held = match &*inner.post.borrow() {
        Post::Here(holding) => holding.local.lost().map(|lost| (holding.clone(), lost)),
        _ => None,
    };
    drop(inner);
    let Some((holding, lost)) = held else { return };
    let local = holding.local.clone();
    drop(holding);
    lost.cancelled().await;
    local.stop();
    metrics::wallet_lost(wallet);
    if let Some(inner) = shared.upgrade() {
        inner.post.send_replace(Post::Between);
    }
}

/// The holder ended with a command. It is not sent again: what it may have signed is in the journal (M15).
fn lost(command: &Command, remote: &Remote, last: Option<String>) -> Failure {
    let holder = remote.pid.map_or_else(|| "the process".into(), |pid| format!("process {pid}"));
    let told = last.map_or_else(String::new, |line| format!("; the last that it told: {line}"));
    command.effect().lost(&format!("{holder}, which had the wallet, ended before it answered{told}"))
}

/// What is asked of a wallet whose agents another replica serves.
fn away(url: Option<&Url>) -> Failure {
    let at = url.map_or_else(String::new, |url| format!(", at {url}"));
    Failure::unspent(
        Code::WalletInUse,
        format!("another replica has this wallet{at}"),
        "Ask it there; it comes here when that replica ends.",
    )
}

/// Never told: what needs the key waits until it is open, or is known not to open.
fn still_closed() -> Failure {
    Failure::unspent(Code::SignerFailed, "the wallet's key is being opened", "Call again.")
}

fn only_the_holder(pid: Option<i32>) -> Failure {
    let (who, how) = match pid {
        Some(pid) => (format!("process {pid}"), format!("Close the MCP client that started it, or run: kill {pid}")),
        None => ("another process".into(), "Close the MCP clients that use this wallet".into()),
    };
    Failure::unspent(
        Code::WalletInUse,
        format!("{who} has the wallet and shares it for paying only: money is moved out by the process that has it"),
        format!("{how}. Then run the command again."),
    )
}
