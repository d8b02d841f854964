//! The runtime of the process that holds the wallet, or of one without: it finds the actor that a command is for, and
//! holds no money itself.

mod asking;
mod budget;
mod by_channel;
mod choosing;
mod estimating;
mod market;
mod ordering;
mod overview;
mod paying;
mod quoting;
mod reading;
mod receipts;
pub(super) mod recovering;
mod refunding;
mod repeating;
mod requesting;
mod selecting;
mod treasury;
mod uses;

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr};
use drain_protocol::ChannelId;
use drain_protocol::text::quoted;
use drain_signers::Signer;
use reqwest::Url;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::channel::{ChannelActor, CloseKind, Idle};
use super::import;
use super::observer;
use super::payments;
use super::services::{Purse, Services, gone};
use super::startup::{Access, wallet};
use super::supervisor::{Addresses, ChannelOpened, End, Find, FindAll, FindChannel, Found, Supervisor, WithKey};
use super::wallet::WalletActor;
use crate::api::{ChannelState, ChatReply, Command, PaymentReply, Progress, Reply};
use crate::error::{Code, Failure};
use crate::journal::{ChannelRecord, Hold, Lock, Seen};
use crate::logging;
use crate::policy::Caller;

/// How long requests on their way may take to end at shutdown.
pub(super) const DRAIN_TIME: Duration = Duration::from_secs(20);

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Local {
    services: Services,
    access: Access,
    supervisor: Addr<Supervisor>,
    /// Who is finding or opening a channel by itself.
    choosing: choosing::Turns,
    uses: uses::Uses,
    /// Requests with a name that run.
    chats: repeating::Running<ChatReply>,
    payments: repeating::Running<PaymentReply>,
    /// That the token is what its table says.
    token: Arc<OnceCell<()>>,
}

impl Local {
    /// With the wallet that this process holds. Call on the main thread of a running actix system.
    pub(super) async fn with_wallet(services: Services, signer: Signer, hold: Hold) -> Result<(Self, Lock), Failure> {
        let (with_key, lock) = wallet(&services, signer, hold).await?;
        let purse = with_key.purse.clone();
        let local = Self::over(services, Access::Key(purse.clone()), Some(with_key));
        observer::start(local.services.clone(), &purse, &local.supervisor);
        payments::follow(local.services.clone(), purse.clone(), &local.supervisor);
        import::start(local.services.clone(), purse, local.supervisor.clone());
        Ok((local, lock))
    }

    /// Without a wallet: discovery works, everything that needs one answers `why`. Call as [`Self::with_wallet`].
    pub(super) fn without_wallet(services: Services, why: Failure) -> Self {
        Self::over(services, Access::Without(why), None)
    }

    /// The same without a wallet for another reason.
    pub(super) fn because(&self, why: Failure) -> Self {
        Self { access: Access::Without(why), ..self.clone() }
    }

    fn over(services: Services, access: Access, with_key: Option<WithKey>) -> Self {
        let supervisor = Supervisor::new(services.clone(), with_key).start();
        Self {
            services,
            access,
            supervisor,
            choosing: choosing::Turns::default(),
            uses: uses::Uses::default(),
            chats: repeating::Running::default(),
            payments: repeating::Running::default(),
            token: Arc::default(),
        }
    }

    /// Does what a command says, for `caller`.
    pub(super) async fn run(&self, command: Command, caller: Caller, progress: Progress) -> Result<Reply, Failure> {
        let progress = match caller.member() {
            None => progress,
            Some(_) => {
                for_agents(&command)?;
                // Who holds an agent's token is not the wallet's person, whatever is asked at its client (M5).
                progress.without_person()
            }
        };
        let span = logging::call(&caller);
        self.asked(&caller).work(command, caller, progress).instrument(span).await
    }

    /// The same runtime for this caller: what is recorded names it.
    pub(super) fn asked(&self, caller: &Caller) -> Self {
        let access = match &self.access {
            Access::Key(purse) => Access::Key(purse.asked(caller)),
            Access::Without(why) => Access::Without(why.clone()),
        };
        Self { access, ..self.clone() }
    }

    async fn work(&self, command: Command, caller: Caller, progress: Progress) -> Result<Reply, Failure> {
        Ok(match self.spelled_out(command).await? {
            Command::Providers(query) => Reply::Providers(self.providers(query, &caller).await?),
            Command::Provider(id) => Reply::Provider(Box::new(self.provider(&id, &caller).await?)),
            Command::Overview => Reply::Overview(Box::new(self.overview().await?)),
            Command::Models => Reply::Models(self.models(&caller).await?),
            Command::Balance => Reply::Balance(self.balance(caller).await?),
            Command::Approve(amount) => Reply::Approved(self.approve(amount, caller, progress).await?),
            Command::Open(request) => Reply::Opened(Box::new(self.noted(self.open(request, caller, progress).await)?)),
            Command::Chat(call) => Reply::Chat(self.noted(self.once(call, caller, progress).await)?),
            Command::PayRequest(call) => Reply::Request(Box::new(self.noted(self.once(call, caller, progress).await)?)),
            Command::QuoteRequest(call) => Reply::Request(Box::new(self.quote_request(call, caller, progress).await?)),
            Command::Quote(call) => Reply::Quote(Box::new(self.quote(call, &caller).await?)),
            Command::Receipts(query) => Reply::Receipts(self.receipts(query, &caller).await?),
            Command::Receipt(id) => Reply::Receipt(Box::new(self.receipt(&id, &caller).await?)),
            Command::Budget => Reply::Budget(self.budget(&caller).await?),
            Command::Channels(all) => Reply::Channels(self.channels(all, &caller).await?),
            Command::Channel(id) => Reply::Channel(Box::new(self.channel(id, &caller).await?)),
            Command::Close(id) => Reply::Closed(Box::new(self.end(id, CloseKind::AtExpiry, caller, progress).await?)),
            Command::CooperativeClose(id) => {
                Reply::Closed(Box::new(self.end(id, CloseKind::Cooperative, caller, progress).await?))
            }
            Command::Refund(idle) => Reply::Refunds(self.refund(idle, caller, progress).await?),
            Command::Openings => Reply::Openings(recovering::openings(&self.services, self.purse()?).await?),
            Command::Recover => Reply::Recovered(self.recover(progress).await?),
            Command::Import(left) => {
                Reply::Imported(import::take_over(&self.services, self.purse()?, &self.supervisor, left).await)
            }
            Command::Adopt { channel, provider } => {
                Reply::Channel(Box::new(self.adopt(channel, provider, &caller).await?))
            }
            Command::Sweep => Reply::Swept(self.sweep(caller, progress).await?),
            Command::Feedback(feedback) => {
                self.feedback(feedback).await?;
                Reply::Sent
            }
            Command::RequestGas => Reply::Gas(self.request_gas().await?),
            Command::Freeze(reason) => Reply::Frozen(self.freeze(&reason).await?),
            Command::Unfreeze(passphrase) => {
                self.verify(passphrase).await?;
                Reply::Frozen(self.unfreeze().await?)
            }
            Command::Approvals => Reply::Approvals(self.approvals(&caller).await?),
            Command::Decide { id, verdict, passphrase } => Reply::Decided(self.decide(&id, verdict, passphrase).await?),
            Command::TrustProvider(id) => Reply::Forgotten(self.trust_provider(&id).await?),
            Command::TrustFeeWallet => Reply::Forgotten(self.trust_fee_wallet().await?),
        })
    }

    pub(super) fn has_wallet(&self) -> bool {
        matches!(self.access, Access::Key(_))
    }

    fn purse(&self) -> Result<&Purse, Failure> {
        match &self.access {
            Access::Key(purse) => Ok(purse),
            Access::Without(failure) => Err(failure.clone()),
        }
    }

    /// Why there is no wallet, if there is none.
    pub(super) fn without(&self) -> Option<Failure> {
        self.purse().err()
    }

    /// Writes as far as the disk.
    pub(super) async fn prove_journal(&self) -> Result<(), Failure> {
        Ok(self.purse()?.journal.prove_writable().await?)
    }

    async fn addresses(&self) -> Result<Addresses, Failure> {
        self.supervisor.send(Find).await.map_err(|error| gone(&error))
    }

    async fn wallet(&self) -> Result<Addr<WalletActor>, Failure> {
        self.purse()?;
        self.addresses().await?.wallet.ok_or_else(|| Failure::internal("a wallet without its actor"))
    }

    /// Lets requests on their way end, within a limit.
    pub(super) async fn idle(&self) {
        let Ok(purse) = self.purse() else { return };
        if let Ok(running) = self.supervisor.send(FindAll).await {
            let idle = futures::future::join_all(running.0.iter().map(|channel| channel.send(Idle)));
            let idle = futures::future::join(idle, purse.underway.none());
            if tokio::time::timeout(DRAIN_TIME, idle).await.is_err() {
                tracing::warn!("a request is still on its way; its bound stays reserved");
            }
        }
    }

    /// Makes everything durable, and lets the wallet go where that is what the next holder waits for.
    pub(super) async fn flush(&self) {
        let Ok(purse) = self.purse() else { return };
        if tokio::time::timeout(DRAIN_TIME, purse.journal.let_go()).await.is_err() {
            tracing::warn!(
                "the journal does not answer; what was recorded is there, and the wallet is free when its lease ends"
            );
        }
    }

    /// Tells other replicas where the wallet's agents are served.
    pub(super) async fn served_at(&self, url: &Url) -> Result<(), Failure> {
        Ok(self.purse()?.journal.served_at(url.to_string()).await?)
    }

    /// Cancelled when the wallet is another process' and this runtime can do no more for it.
    pub(super) fn lost(&self) -> Option<CancellationToken> {
        self.purse().ok().map(|purse| purse.journal.lost())
    }

    /// Ends the actors: nothing is started anew.
    pub(super) fn stop(&self) {
        self.supervisor.do_send(End);
    }

    /// A channel that the caller sees. Another one's is as one that does not exist.
    async fn sight(&self, id: ChannelId, caller: &Caller) -> Result<Seen, Failure> {
        let (journal, chain_id) = (&self.purse()?.journal, self.services.config.chain.chain_id);
        let seen = journal.channel_seen_by_id(chain_id, id, caller.member().map(str::to_owned)).await?;
        seen.ok_or_else(|| unknown_channel(id))
    }

    async fn record(&self, id: ChannelId, caller: &Caller) -> Result<ChannelRecord, Failure> {
        self.sight(id, caller).await.map(|seen| seen.record)
    }

    async fn find_channel(&self, id: ChannelId, caller: &Caller) -> Result<Addr<ChannelActor>, Failure> {
        self.purse()?;
        let find = FindChannel { id, member: caller.member().map(str::to_owned) };
        // Twice: a stopped one is started from the journal in between.
        for _ in 0..2 {
            match self.supervisor.send(find.clone()).await.map_err(|error| gone(&error))? {
                Some(Found::Running(actor)) => return Ok(actor),
                Some(Found::Stopped(intent)) => {
                    let record = self.purse()?.journal.channel(intent).await?;
                    self.supervisor.send(ChannelOpened(Box::new(record))).await.map_err(|error| gone(&error))?;
                }
                None => {
                    // Ended channels have no actor; their record tells what became of them.
                    let record = self.record(id, caller).await?;
                    if matches!(record.state, ChannelState::Open | ChannelState::Closing) {
                        // Recorded a moment ago; the supervisor is about to hear of it.
                        self.supervisor.send(ChannelOpened(Box::new(record))).await.map_err(|error| gone(&error))?;
                        continue;
                    }
                    return Err(Failure::unspent(
                        Code::ChannelNotOpen,
                        format!(
                            "The channel of {} is {}",
                            quoted(&record.provider_name, 60),
                            format!("{:?}", record.state).to_lowercase()
                        ),
                        "List the channels with drain_channels, or open a new one.",
                    ));
                }
            }
        }
        Err(Failure::internal("a channel could not be started from the journal"))
    }
}

/// What only the operator does, or a person on the operator's behalf (M5).
pub(super) fn persons_only() -> Failure {
    Failure::unspent(
        Code::NotAllowed,
        "this is for the operator of the wallet, not for an agent of its fleet",
        "Do without, or ask the operator.",
    )
}

/// Whether an agent of the fleet may ask for this at all. What it may ask for is answered within what it sees.
fn for_agents(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Providers(_)
        | Command::Provider(_)
        | Command::Models
        | Command::Balance
        | Command::Open(_)
        | Command::Chat(_)
        | Command::PayRequest(_)
        | Command::Quote(_)
        | Command::QuoteRequest(_)
        | Command::Budget
        | Command::Receipts(_)
        | Command::Receipt(_)
        | Command::Channels(_)
        | Command::Channel(_)
        | Command::Close(_)
        | Command::CooperativeClose(_)
        | Command::Feedback(_)
        | Command::Approvals => Ok(()),
        Command::Approve(_) => Err(Failure::unspent(
            Code::NotAllowed,
            "the allowance is the whole wallet's, and an agent of the fleet does not set it",
            "Go on without: opening a channel raises the allowance by itself.",
        )),
        Command::Overview
        | Command::Refund(_)
        | Command::Openings
        | Command::Recover
        | Command::Import(_)
        | Command::Adopt { .. }
        | Command::Sweep
        | Command::RequestGas
        | Command::Freeze(_)
        | Command::Unfreeze(_)
        | Command::Decide { .. }
        | Command::TrustProvider(_)
        | Command::TrustFeeWallet => Err(persons_only()),
    }
}

fn unknown_channel(id: ChannelId) -> Failure {
    Failure::unspent(
        Code::UnknownChannel,
        format!("no channel {id} is known here"),
        "List the channels with drain_channels.",
    )
}
