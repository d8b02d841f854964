//! A process that wants to use a wallet: it takes the lock, or finds who has it.

use std::sync::Arc;
use std::time::Duration;

use drain_protocol::Address;
use drain_signers::Signer;

use super::turn::{self, Counted};
use super::{HAND_OVER, Post};
use crate::actors::local::{DRAIN_TIME, Local};
use crate::actors::services::Services;
use crate::actors::startup::{location, take};
use crate::api::{Command, Progress};
use crate::error::{Code, Failure};
use crate::journal::{Holder, Holders, Location, Lock};
use crate::metrics;
use crate::policy::{Asked, Caller};
use crate::socket::greeting::{Hello, Spoken};
use crate::socket::{NotConnected, Server, Work, connect, path};

/// How long who cannot hold the wallet itself waits for another process to take it over.
const OTHERS: Duration = Duration::from_secs(3);

/// A runtime in this process. The socket is closed before the lock is let go.
pub(super) struct Holding {
    server: Option<Server>,
    pub local: Local,
    _lock: Option<Lock>,
    _counted: Option<Counted>,
}

impl Holding {
    /// Without a wallet.
    pub(super) const fn nothing(local: Local) -> Self {
        Self { server: None, local, _lock: None, _counted: None }
    }

    /// Ends in order: other processes' commands and the channels' requests end, within a limit, and nothing new begins
    /// for others. The lock stays: two runtimes never work on one journal, and this one does until the process ends.
    pub(super) async fn leave(&self) {
        let others = async {
            if let Some(server) = &self.server
                && tokio::time::timeout(DRAIN_TIME, server.leave()).await.is_err()
            {
                tracing::warn!("a command of another process is still on its way; its outcome is in the journal");
            }
        };
        futures::join!(others, self.local.idle());
        self.local.flush().await;
    }
}

/// Why there is no wallet to use, and how long to go on looking before that is said.
pub(super) struct Without {
    pub why: Failure,
    pub patience: Duration,
}

/// One per process and wallet.
pub(super) struct Candidate {
    pub services: Services,
    pub wallet: Address,
    /// Or why this process cannot sign.
    signer: Result<Signer, Failure>,
    location: Location,
    holders: Arc<Holders>,
    hello: Hello,
    /// For discovery while there is no wallet: made when first needed.
    keyless: Option<Local>,
    shared: bool,
}

impl Candidate {
    pub(super) fn new(services: Services, wallet: Address, signer: Result<Signer, Failure>) -> Self {
        let Caller { agent, limits, .. } = services.operator(Asked::by("runtime"));
        let chain_id = services.config.chain.chain_id;
        let hello = Hello { spoken: Spoken::here(), chain_id, wallet, agent, limits: (*limits).clone() };
        let location = location(&services.config, wallet);
        Self {
            holders: Arc::new(Holders::of(&location)),
            location,
            services,
            wallet,
            signer,
            hello,
            keyless: None,
            shared: false,
        }
    }

    /// With what serves discovery already.
    pub(super) fn with(self, keyless: Local) -> Self {
        Self { keyless: Some(keyless), ..self }
    }

    /// Takes the wallet where it is this process' turn now; `None` as for [`Self::take`]. Only on the main thread.
    pub(super) async fn take_at_once(&self) -> Result<Option<Arc<Holding>>, Failure> {
        if !self.location.is_a_file() && turn::waits() {
            return Ok(None);
        }
        self.take().await
    }

    /// Takes the lock and starts the runtime; `None` when another process has it, or this one cannot sign. Only on the
    /// main thread.
    async fn take(&self) -> Result<Option<Arc<Holding>>, Failure> {
        let Ok(signer) = &self.signer else { return Ok(None) };
        let turn = match self.location.is_a_file() {
            true => None,
            false => Some(turn::mine(self.services.config.journal.look()).await),
        };
        let Some(hold) = take(self.location.clone()).await? else { return Ok(None) };
        let counted = turn.map(|_| Counted::one());
        let (local, lock) = Local::with_wallet(self.services.clone(), signer.clone(), hold).await?;
        if let Some(url) = &self.services.config.serve.replica_url
            && let Err(why) = local.served_at(url).await
        {
            // Its actors would go on, and hold the wallet.
            local.stop();
            return Err(why);
        }
        metrics::wallet_taken(self.wallet);
        let server = self.listen(&local);
        if let Err(error) = &server {
            tracing::warn!(%error, "this process has the wallet and cannot share it: others answer wallet_in_use");
        }
        Ok(Some(Arc::new(Holding { server: server.ok(), local, _lock: Some(lock), _counted: counted })))
    }

    fn listen(&self, local: &Local) -> std::io::Result<Server> {
        let local = local.clone();
        let work: Work = Arc::new(move |command: Command, caller: Caller, progress: Progress| {
            let local = local.clone();
            Box::pin(async move { local.run(command, caller, progress).await })
        });
        let listener = path::listen(self.location.folder())?;
        Server::start(listener, self.hello.chain_id, self.wallet, self.services.operator(Asked::by("runtime")), work)
    }

    /// The wallet, here or with who has it. Only on the main thread.
    pub(super) async fn look(&mut self) -> Result<Post, Without> {
        let at_once = |why| Without { why, patience: Duration::ZERO };
        if !self.location.is_a_file() {
            return self.look_at_server().await;
        }
        if let Some(holding) = self.take().await.map_err(at_once)? {
            return Ok(Post::Here(holding));
        }
        match connect(self.location.folder(), &self.hello).await {
            Ok(remote) => {
                self.shared = true;
                Ok(Post::There(remote))
            }
            Err(NotConnected::Refused(why)) => Err(at_once(why)),
            Err(NotConnected::Absent) => Err(match &self.signer {
                // Somebody has the lock: it is about to listen, or to end.
                Ok(_) => Without { why: self.in_use(), patience: HAND_OVER },
                Err(why) => Without { why: why.clone(), patience: if self.shared { OTHERS } else { Duration::ZERO } },
            }),
        }
    }

    /// A server that does not answer this once says nothing of who has the wallet: what was known stays.
    async fn look_at_server(&self) -> Result<Post, Without> {
        let patient = |why| Without { why, patience: HAND_OVER };
        let holders = self.holders.clone();
        let seen = tokio::task::spawn_blocking(move || holders.now()).await;
        // What cannot be read may not be made yet: taking it makes it, or says what is wrong.
        if let Ok(Ok(Some(Holder { url }))) = seen {
            return Ok(Post::Away(url));
        }
        match self.take().await.map_err(patient)? {
            Some(holding) => Ok(Post::Here(holding)),
            // Another one was quicker, or this one cannot sign.
            None => Err(patient(self.signer.as_ref().err().cloned().unwrap_or_else(|| self.in_use()))),
        }
    }

    /// Discovery only, for this reason. Only on the main thread.
    pub(super) fn nothing(&mut self, why: Failure) -> Post {
        let services = &self.services;
        let keyless = self.keyless.get_or_insert_with(|| Local::without_wallet(services.clone(), why.clone()));
        Post::Here(Arc::new(Holding::nothing(keyless.because(why))))
    }

    fn in_use(&self) -> Failure {
        Failure::unspent(
            Code::WalletInUse,
            format!("Another process has the wallet {} and does not answer on its socket", self.wallet),
            "It hangs, or is a drain-mcp from before wallets were shared: end it. Listing providers works here meanwhile.",
        )
    }
}
