//! The runtime: what tools and commands call. It finds the actor that a call is for, and holds no money itself.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr};
use drain_protocol::marketplace::{FeedbackBody, FeedbackReason, PaidBy, TelemetryBody};
use drain_protocol::{Address, ChannelId, Usdc};
use drain_signers::Signer;

use super::channel::{ChannelActor, CloseKind, End, Idle, Pay, answer};
use super::directory::{Known, Read};
use super::services::{Purse, Services, ask, gone};
use super::startup::{Access, no_signer, services, take_wallet};
use super::supervisor::{Addresses, ChannelOpened, Find, FindAll, FindChannel, Found, Supervisor, WithKey};
use super::wallet::{Approve, Balance, Open, Send, WalletActor, ask_wallet};
use super::{import, listing, opening, view};
use crate::api::{
    Approved, ChannelState, ChannelView, ChatCall, ChatReply, Closed, Feedback, OpenRequest, Opened, Progress,
    ProviderDetails, ProviderPage, ProviderQuery, SendAmount, WalletView,
};
use crate::config::Config;
use crate::error::{Code, Failure, Money};
use crate::journal::ChannelRecord;

/// How long requests on their way may take to end at shutdown.
const DRAIN_TIME: Duration = Duration::from_secs(20);

/// The facade; cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    services: Services,
    access: Access,
    supervisor: Addr<Supervisor>,
    /// Held as long as any clone lives: one process a wallet (design section 7).
    _lock: Option<Arc<File>>,
}

impl Runtime {
    /// Starts the actors; call inside of a running actix system. Contacts nobody. Without a signer, discovery works and
    /// money answers how to make a wallet; with a wallet that another process owns, likewise.
    pub async fn start(config: Config, signer: Option<Signer>) -> Result<Self, Failure> {
        match signer {
            None => Self::without_wallet(config, no_signer()),
            Some(signer) => {
                let services = services(config)?;
                // A journal that cannot be opened keeps money still, not discovery.
                let taken = take_wallet(&services, signer).await;
                let (access, lock, with_key) = taken.unwrap_or_else(|why| (Access::Without(why), None, None));
                let runtime = Self::over(services, access, lock, with_key);
                if let Access::Key(purse) = &runtime.access {
                    import::start(runtime.services.clone(), purse.clone(), runtime.supervisor.clone());
                }
                Ok(runtime)
            }
        }
    }

    /// Starts without a wallet; everything that needs one answers `why`.
    pub fn without_wallet(config: Config, why: Failure) -> Result<Self, Failure> {
        Ok(Self::over(services(config)?, Access::Without(why), None, None))
    }

    fn over(services: Services, access: Access, lock: Option<Arc<File>>, with_key: Option<WithKey>) -> Self {
        let supervisor = Supervisor::new(services.clone(), with_key).start();
        Self { services, access, supervisor, _lock: lock }
    }

    /// Whether all of this is the sandbox's play money.
    pub fn play_money(&self) -> bool {
        self.services.config.play_money
    }

    /// The operator's settings.
    pub fn config(&self) -> &Config {
        &self.services.config
    }

    fn purse(&self) -> Result<&Purse, Failure> {
        match &self.access {
            Access::Key(purse) => Ok(purse),
            Access::Without(failure) => Err(failure.clone()),
        }
    }

    async fn addresses(&self) -> Result<Addresses, Failure> {
        self.supervisor.send(Find).await.map_err(|error| gone(&error))
    }

    async fn wallet(&self) -> Result<Addr<WalletActor>, Failure> {
        self.purse()?;
        self.addresses().await?.wallet.ok_or_else(no_signer)
    }

    async fn catalogue(&self) -> Result<Known, Failure> {
        ask(&self.addresses().await?.directory, Read).await
    }

    /// The directory, filtered.
    pub async fn providers(&self, query: ProviderQuery) -> Result<ProviderPage, Failure> {
        let mut page = listing::page(&self.catalogue().await?, &query);
        if let Ok(purse) = self.purse() {
            listing::add_standings(&purse.journal, &mut page.providers).await?;
        }
        Ok(page)
    }

    /// One provider, with its own prices and instructions.
    pub async fn provider(&self, id: &str) -> Result<ProviderDetails, Failure> {
        let known = self.catalogue().await?;
        let found = opening::find(&known.catalogue, id)?;
        let mut details = listing::details(&self.services, found, known.catalogue.contract).await;
        if let Ok(purse) = self.purse() {
            if details.docs.is_some() {
                purse.journal.docs_read(found.id.clone(), self.services.clock.now()).await?;
            }
            listing::add_standings(&purse.journal, std::slice::from_mut(&mut details.listing)).await?;
            let now = self.services.clock.block_time();
            let channels = purse.journal.channels(false).await?;
            details.channels =
                channels.iter().filter(|c| c.provider_id == found.id).map(|c| view::channel(c, now)).collect();
        }
        Ok(details)
    }

    /// What the wallet holds.
    pub async fn balance(&self) -> Result<WalletView, Failure> {
        ask(&self.wallet().await?, Balance).await
    }

    /// Sets the allowance, never above the limit on what may be locked (M9).
    pub async fn approve(&self, amount: Option<Usdc>, progress: Progress) -> Result<Approved, Failure> {
        let wallet = self.wallet().await?;
        let work = ask_wallet(&wallet, |reply| Approve { amount, progress, reply });
        self.patiently(work, "the approval", "Look at drain_balance in a while; the same call again is harmless.").await
    }

    /// Opens a channel, or joins the pending opening of the same provider.
    pub async fn open(&self, request: OpenRequest, progress: Progress) -> Result<Opened, Failure> {
        let wallet = self.wallet().await?;
        let purse = self.purse()?;
        let prepared =
            opening::prepare(&self.services, purse, &self.addresses().await?.directory, &request, &progress).await?;
        let (provider_id, api_url) = (prepared.plan.channel.provider_id.clone(), prepared.plan.channel.api_url.clone());
        let plan = prepared.plan;
        let work = ask_wallet(&wallet, |reply| Open { plan, progress, reply });
        let next = "Look again in a while with drain_channels; the same call again joins it.";
        let made = self.patiently(work, "the opening", next).await?;
        let docs = match opening::base_url(&api_url) {
            Ok(base) => self.services.provider.docs(&base).await.ok(),
            Err(_) => None,
        };
        // The channel is open and paid for: nothing after that may fail the call.
        if docs.is_some()
            && let Err(error) = purse.journal.docs_read(provider_id.clone(), self.services.clock.now()).await
        {
            tracing::warn!(%error, "that the instructions were read could not be recorded; they are shown again");
        }
        // A caller that went away before is given this channel by the same call.
        if let Err(error) = purse.journal.told_later(made.record.intent) {
            tracing::warn!(%error, "that the channel was given to its opener could not be recorded; it is given once more");
        }
        Ok(Opened {
            channel: view::channel(&made.record, self.services.clock.block_time()),
            resumed: made.resumed,
            contract: prepared.choice,
            session_fee: made.session_fee,
            transactions: made.transactions,
            docs,
            warnings: prepared.warnings,
        })
    }

    /// Pays for a request.
    pub async fn chat(&self, call: ChatCall, progress: Progress) -> Result<ChatReply, Failure> {
        let channel = self.find_channel(call.channel).await?;
        let started = std::time::Instant::now();
        let (reply, receiver) = tokio::sync::oneshot::channel();
        let result = match ask(&channel, Pay { call, progress, reply }).await {
            Ok(()) => answer(receiver).await,
            Err(failure) => Err(failure),
        };
        self.report(&result, started.elapsed());
        result
    }

    /// Every channel; those at their end only with `all`.
    pub async fn channels(&self, all: bool) -> Result<Vec<ChannelView>, Failure> {
        let now = self.services.clock.block_time();
        Ok(self.purse()?.journal.channels(all).await?.iter().map(|record| view::channel(record, now)).collect())
    }

    /// One channel, compared with what the chain says.
    pub async fn channel(&self, id: ChannelId) -> Result<ChannelView, Failure> {
        let record = self.record(id).await?;
        let chain = &self.services.chain;
        let seen = futures::try_join!(chain.head(), chain.channel(&record.deployment, id));
        if let Ok((head, _)) = &seen {
            self.services.clock.saw_block(head.timestamp);
        }
        let mut view = view::channel(&record, self.services.clock.block_time());
        match seen {
            Ok((_, Some(on_chain))) => view.claimed = view.claimed.max(on_chain.claimed),
            Ok((_, None)) if matches!(view.state, ChannelState::Open | ChannelState::Expired) => {
                view.notes.push("the contract knows this channel no more: it was closed elsewhere".into());
            }
            Ok(_) => {}
            Err(error) => view.notes.push(format!("the chain could not be read ({error}); this is our record")),
        }
        if view.state == ChannelState::Expired {
            view.notes.extend(self.marketplace_hint(id).await);
        }
        Ok(view)
    }

    /// What the marketplace says of an expired channel. A hint: its calldata is compared with ours and never sent.
    async fn marketplace_hint(&self, id: ChannelId) -> Option<String> {
        let hints = self.services.marketplace.channel_status(&[id]).await.ok()?;
        let hint = hints.into_iter().find(|hint| hint.channel_id == id)?;
        let own = import::close_calldata(id);
        match hint.close_calldata {
            Some(theirs) if theirs != own => {
                Some("the marketplace proposes another close transaction than ours; it is ignored".into())
            }
            _ => Some(format!("the marketplace says: {}", drain_protocol::text::one_line(&hint.status, 40))),
        }
    }

    /// Closes at expiry.
    pub async fn close(&self, id: ChannelId, progress: Progress) -> Result<Closed, Failure> {
        self.end(id, CloseKind::AtExpiry, progress).await
    }

    /// Closes now, with the provider's consent (V2).
    pub async fn cooperative_close(&self, id: ChannelId, progress: Progress) -> Result<Closed, Failure> {
        self.end(id, CloseKind::Cooperative, progress).await
    }

    async fn end(&self, id: ChannelId, kind: CloseKind, progress: Progress) -> Result<Closed, Failure> {
        let channel = self.find_channel(id).await?;
        let (reply, mut receiver) = tokio::sync::oneshot::channel();
        ask(&channel, End { kind, progress, reply }).await?;
        let result = self
            .patiently(
                answer(&mut receiver),
                "the close",
                "Look again in a while with drain_channels; the same call again joins it.",
            )
            .await;
        if !receiver.is_terminated() {
            // Longer than is waited for, and yet wanted: it keeps its place in the queue.
            tokio::spawn(receiver);
        }
        result
    }

    /// An agent's word on a provider, sent to the marketplace.
    pub async fn feedback(&self, feedback: Feedback) -> Result<(), Failure> {
        let body = feedback_body(feedback)?;
        self.services.marketplace.feedback(&body).await.map_err(|error| {
            Failure::unspent(
                Code::DirectoryUnavailable,
                format!("the marketplace did not take the feedback: {error}"),
                "Go on without, or call again later.",
            )
        })
    }

    /// Moves money out; only for a person on a terminal (M5). What was sent a moment ago is sent a second time only with
    /// `again`.
    pub async fn send(
        &self,
        to: Address,
        amount: SendAmount,
        again: bool,
        progress: Progress,
    ) -> Result<String, Failure> {
        let wallet = self.wallet().await?;
        let work = ask_wallet(&wallet, |reply| Send { to, amount, again, progress, reply });
        let next = "Look at drain-mcp wallet balance before anything else: the transfer may arrive at any time, and a later one is a second one.";
        self.patiently(work, "the transfer", next).await
    }

    /// Asks the marketplace's gas station for POL.
    pub async fn request_gas(&self) -> Result<String, Failure> {
        let answer = self.services.marketplace.request_gas(self.purse()?.address).await.map_err(|error| {
            Failure::unspent(
                Code::DirectoryUnavailable,
                format!("the gas station did not answer: {error}"),
                "Send about 0.10 POL to the wallet yourself.",
            )
        })?;
        if answer.success {
            return Ok(answer.tx_hash.unwrap_or_default());
        }
        Err(Failure::unspent(
            Code::InsufficientGas,
            format!("the gas station refused: {}", answer.error.unwrap_or_default()),
            "It gives POL to wallets with 5 USDC; otherwise send about 0.10 POL to the wallet yourself.",
        ))
    }

    /// A person accepts a provider's URL and wallet of now (M14), and that it is paid again if it was set aside. True if
    /// there was anything to accept.
    pub async fn trust_provider(&self, id: &str) -> Result<bool, Failure> {
        let journal = &self.purse()?.journal;
        // The record first: the pin tells which wallet and host it belongs to.
        let lifted = journal.forgive_provider(id.into()).await?;
        Ok(journal.forget_provider_pin(id.into()).await? || lifted)
    }

    /// A person accepts the marketplace's fee wallet of now.
    pub async fn trust_fee_wallet(&self) -> Result<bool, Failure> {
        Ok(self.purse()?.journal.forget_fee_wallet_pin(self.services.config.chain.chain_id).await?)
    }

    /// Lets requests on their way end, within a limit, and makes everything durable.
    pub async fn shutdown(&self) {
        let Ok(purse) = self.purse() else { return };
        if let Ok(running) = self.supervisor.send(FindAll).await {
            let idle = futures::future::join_all(running.0.iter().map(|channel| channel.send(Idle)));
            if tokio::time::timeout(DRAIN_TIME, idle).await.is_err() {
                tracing::warn!("a request is still on its way; its bound stays reserved");
            }
        }
        // A read is answered after the commit of everything before it.
        let _ = purse.journal.spent_today(0).await;
    }

    async fn record(&self, id: ChannelId) -> Result<ChannelRecord, Failure> {
        let known = self.purse()?.journal.channel_by_id(self.services.config.chain.chain_id, id).await?;
        known.ok_or_else(|| unknown_channel(id))
    }

    async fn find_channel(&self, id: ChannelId) -> Result<Addr<ChannelActor>, Failure> {
        self.purse()?;
        // Twice: a stopped one is started from the journal in between.
        for _ in 0..2 {
            match self.supervisor.send(FindChannel(id)).await.map_err(|error| gone(&error))? {
                Some(Found::Running(actor)) => return Ok(actor),
                Some(Found::Stopped(intent)) => {
                    let record = self.purse()?.journal.channel(intent).await?;
                    self.supervisor.send(ChannelOpened(Box::new(record))).await.map_err(|error| gone(&error))?;
                }
                None => {
                    // Ended channels have no actor; their record tells what became of them.
                    let record = self.record(id).await?;
                    if matches!(record.state, ChannelState::Open | ChannelState::Closing) {
                        // Recorded a moment ago; the supervisor is about to hear of it.
                        self.supervisor.send(ChannelOpened(Box::new(record))).await.map_err(|error| gone(&error))?;
                        continue;
                    }
                    return Err(Failure::unspent(
                        Code::ChannelNotOpen,
                        format!("The channel of {} is {:?}", record.provider_name, record.state).to_lowercase(),
                        "List the channels with drain_channels, or open a new one.",
                    ));
                }
            }
        }
        Err(Failure::internal("a channel could not be started from the journal"))
    }

    /// Waits for a transaction as long as is usual. Work that was begun goes on when this stops waiting.
    async fn patiently<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
        what: &str,
        next: &str,
    ) -> Result<T, Failure> {
        let limit = self.services.config.chain.transaction_timeout;
        tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
            Err(Failure {
                code: Code::TransactionPending,
                message: format!(
                    "{what} is not final after {} s; drain-mcp goes on with it if its turn had come",
                    limit.as_secs()
                ),
                money: Money::Pending { receipt: what.into() },
                next: next.into(),
            })
        })
    }

    /// Telemetry to the marketplace, where the operator switched it on.
    fn report(&self, result: &Result<ChatReply, Failure>, elapsed: Duration) {
        let (true, Ok(ChatReply::Paid(paid))) = (self.services.config.marketplace.telemetry, result) else { return };
        self.services.marketplace.telemetry(TelemetryBody {
            provider_id: paid.channel.provider_id.clone(),
            latency_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            http_status: 200,
            cost_usdc: paid.cost,
            protocol: PaidBy::Drain,
            timestamp: self.services.clock.timestamp(),
            agent_id: None,
        });
    }
}

fn feedback_body(feedback: Feedback) -> Result<FeedbackBody, Failure> {
    if feedback.protocol.as_deref().is_some_and(|protocol| protocol != "drain") {
        return Err(Failure::argument("protocol", "only drain can be paid, and so judged, here"));
    }
    let reason = match feedback.reason.as_deref() {
        None => None,
        Some("quality") => Some(FeedbackReason::Quality),
        Some("timeout") => Some(FeedbackReason::Timeout),
        Some("error") => Some(FeedbackReason::Error),
        Some("format") => Some(FeedbackReason::Format),
        Some("unavailable") => Some(FeedbackReason::Unavailable),
        Some(_) => return Err(Failure::argument("reason", "it is quality, timeout, error, format or unavailable")),
    };
    match (feedback.outcome.as_str(), reason) {
        ("success", None) => Ok(FeedbackBody::success(feedback.provider_id)),
        ("success", Some(_)) => Err(Failure::argument("reason", "it goes with the outcome failure only")),
        ("failure", reason) => Ok(FeedbackBody::failure(feedback.provider_id, reason)),
        _ => Err(Failure::argument("outcome", "it is success or failure")),
    }
}

fn unknown_channel(id: ChannelId) -> Failure {
    Failure::unspent(
        Code::UnknownChannel,
        format!("no channel {id} is known here"),
        "List the channels with drain_channels.",
    )
}
