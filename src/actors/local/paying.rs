//! What moves money: each finds its actor, hands over for whom it is, and waits as long as is usual.

use drain_protocol::{Address, ChannelId, Usdc};

use super::choosing::Chosen;
use super::{Local, choosing};
use crate::actors::channel::{CloseKind, End, Once, Pay, Turn, answer};
use crate::actors::opening::Prepared;
use crate::actors::person;
use crate::actors::services::{ask, gone};
use crate::actors::supervisor::ChannelOpened;
use crate::actors::wallet::{Approve, Open, Send, ask_wallet};
use crate::actors::{opening, view};
use crate::api::{
    Approved, ChannelState, ChannelView, ChatCall, ChatReply, Closed, OpenRequest, Opened, PayFrom, Progress,
    SendAmount,
};
use crate::error::{Code, Failure, Money};
use crate::journal::audit::{Kind, Wanted};
use crate::journal::{FirstSight, Leave, NewChannel};
use crate::policy::Caller;
use crate::policy::approvals::ApprovalKind;

/// What to do with a channel that was left.
const LEFT: &str = "Nothing: others use it, and its last user's close brings the rest back, or expiry.";

impl Local {
    /// Sets the allowance, never above the limit on what may be locked (M9).
    pub(super) async fn approve(
        &self,
        amount: Option<Usdc>,
        caller: Caller,
        progress: Progress,
    ) -> Result<Approved, Failure> {
        let wallet = self.wallet().await?;
        let work = ask_wallet(&wallet, |reply| Approve { amount, caller, progress, reply });
        self.patiently(work, "the approval", "Look at drain_balance in a while; the same call again is harmless.").await
    }

    /// Opens a channel, or joins the pending opening of the same provider.
    pub(super) async fn open(
        &self,
        request: OpenRequest,
        caller: Caller,
        progress: Progress,
    ) -> Result<Opened, Failure> {
        self.wallet().await?;
        let prepared = self.prepare(&request, &caller, &progress).await?;
        self.open_prepared(prepared, caller, progress).await
    }

    /// Everything that can be said of an opening before money moves; a refusal is recorded.
    pub(super) async fn prepare(
        &self,
        request: &OpenRequest,
        caller: &Caller,
        progress: &Progress,
    ) -> Result<Prepared, Failure> {
        let (purse, directory) = (self.purse()?, self.addresses().await?.directory);
        opening::prepare(&self.services, purse, &directory, request, caller, FirstSight::Pins, progress)
            .await
            .inspect_err(|failure| {
                let (provider, amount) = (Some(request.provider.clone()), Some(request.amount));
                let wanted = Wanted { kind: Kind::Opening, provider, intent: None, amount };
                purse.journal.refused_later(wanted, failure);
            })
    }

    /// Opens what was prepared.
    pub(super) async fn open_prepared(
        &self,
        prepared: Prepared,
        caller: Caller,
        progress: Progress,
    ) -> Result<Opened, Failure> {
        let (wallet, purse) = (self.wallet().await?, self.purse()?);
        let (provider_id, api_url) = (prepared.plan.channel.provider_id.clone(), prepared.plan.channel.api_url.clone());
        let plan = prepared.plan;
        if caller.limits.approve.needs_person(ApprovalKind::Deposit, plan.channel.deposit)
            && !self.shares_one(&plan.channel, &caller).await?
        {
            let asked = person::question(&self.services, purse, plan.channel.subject()).await?;
            person::answered(&self.services, purse, asked, &progress).await?;
        }
        let work = ask_wallet(&wallet, |reply| Open { plan, caller, progress, reply });
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
        let now = self.services.clock.block_time();
        Ok(Opened {
            channel: made
                .shared
                .as_ref()
                .map_or_else(|| view::channel(&made.record, now), |seen| view::seen(seen, now)),
            resumed: made.resumed,
            shared: made.shared.is_some(),
            contract: prepared.choice,
            session_fee: made.session_fee,
            transactions: made.transactions,
            docs,
            warnings: prepared.warnings,
        })
    }

    /// Whether an opening will lock nothing, since a channel that agents share serves it.
    async fn shares_one(&self, new: &NewChannel, caller: &Caller) -> Result<bool, Failure> {
        if !new.shared {
            return Ok(false);
        }
        let now = self.services.clock.block_time();
        Ok(self.purse()?.journal.shareable(new.clone(), caller.limits.clone(), now).await?.is_some())
    }

    /// Pays for a request. Where a person must say yes first, waits for that as long as the operator says (M5).
    pub(super) async fn pay(
        &self,
        call: ChatCall,
        once: Option<Once>,
        caller: Caller,
        progress: Progress,
    ) -> Result<ChatReply, Failure> {
        match &call.from {
            PayFrom::Channel(id) => self.pay_from(*id, call, once, caller, progress).await,
            PayFrom::Provider(wish) => {
                let chosen = self.channel_for(wish, 1, &call, &caller, &progress).await?;
                self.pay_chosen(chosen, call, once, caller, progress).await
            }
            PayFrom::Allowed { at_once } => {
                let (wish, model) = self.selected(&call.model, self.wanted(&call), &caller).await?;
                let at_once = *at_once;
                let call = ChatCall { model, ..call };
                let chosen = self.channel_for(&wish, at_once, &call, &caller, &progress).await?;
                self.pay_chosen(chosen, call, once, caller, progress).await
            }
        }
    }

    async fn pay_chosen(
        &self,
        chosen: Chosen,
        call: ChatCall,
        once: Option<Once>,
        caller: Caller,
        progress: Progress,
    ) -> Result<ChatReply, Failure> {
        match chosen {
            Chosen::ReadFirst { docs } => Ok(ChatReply::ReadFirst { docs }),
            Chosen::Channel(used) => self.pay_from(used.id, call, once, caller, progress).await,
            Chosen::Opened(used, told) => {
                let paid = self.pay_from(used.id, call, once, caller, progress).await;
                choosing::with_opening(paid, told)
            }
        }
    }

    async fn pay_from(
        &self,
        channel: ChannelId,
        call: ChatCall,
        once: Option<Once>,
        caller: Caller,
        progress: Progress,
    ) -> Result<ChatReply, Failure> {
        let again = caller.limits.approve.request.is_some().then(|| (call.clone(), once.clone(), caller.clone()));
        match (self.turn(channel, call, once, caller, progress.clone()).await?, again) {
            (Turn::Done(reply), _) => Ok(reply),
            (Turn::AskPerson(asked), None) => Err(person::needed(&asked)),
            (Turn::AskPerson(asked), Some((call, once, caller))) => {
                person::answered(&self.services, self.purse()?, *asked, &progress).await?;
                match self.turn(channel, call, once, caller, progress).await? {
                    Turn::Done(reply) => Ok(reply),
                    // Another call used the yes meanwhile, or this one costs more now.
                    Turn::AskPerson(asked) => Err(person::needed(&asked)),
                }
            }
        }
    }

    async fn turn(
        &self,
        channel: ChannelId,
        call: ChatCall,
        once: Option<Once>,
        caller: Caller,
        progress: Progress,
    ) -> Result<Turn, Failure> {
        let channel = self.find_channel(channel, &caller).await?;
        let started = std::time::Instant::now();
        let (reply, receiver) = tokio::sync::oneshot::channel();
        let result = match ask(&channel, Pay { call, caller, progress, once, reply }).await {
            Ok(()) => answer(receiver).await,
            Err(failure) => Err(failure),
        };
        self.report(&result, started.elapsed());
        result
    }

    pub(super) async fn end(
        &self,
        id: ChannelId,
        kind: CloseKind,
        caller: Caller,
        progress: Progress,
    ) -> Result<Closed, Failure> {
        if let Some(left) = self.leave(id, kind, &caller).await? {
            return Ok(left);
        }
        let channel = self.find_channel(id, &caller).await?;
        let (reply, mut receiver) = tokio::sync::oneshot::channel();
        ask(&channel, End { kind, caller, only_after: None, progress, reply }).await?;
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

    /// An agent that wants a channel to end which others use too leaves it: their money stays where it is. `Some` where that
    /// was all. A channel that has expired pays nobody any more, and every member may get its rest back.
    async fn leave(&self, id: ChannelId, kind: CloseKind, caller: &Caller) -> Result<Option<Closed>, Failure> {
        let Some(agent) = caller.member() else { return Ok(None) };
        let record = self.record(id, caller).await?;
        let now = self.services.clock.block_time();
        if record.state != ChannelState::Open || now >= record.expires_at {
            return Ok(None);
        }
        let journal = &self.purse()?.journal;
        let (left, seen) = journal
            .leave(record.intent, agent.to_owned(), kind == CloseKind::Cooperative, self.services.clock.now())
            .await?;
        if left == Leave::Alone {
            return Ok(None);
        }
        let channel = ChannelView { next: LEFT.into(), ..view::seen(&seen, now) };
        self.supervisor.send(ChannelOpened(Box::new(seen.record))).await.map_err(|error| gone(&error))?;
        Ok(Some(Closed {
            channel,
            left: true,
            paid: Usdc::ZERO,
            protocol_fee: Usdc::ZERO,
            refund: Usdc::ZERO,
            transaction: String::new(),
        }))
    }

    /// Moves money out; only for a person on a terminal (M5). What was sent a moment ago is sent a second time only with
    /// `again`.
    pub(in crate::actors) async fn send(
        &self,
        to: Address,
        amount: SendAmount,
        again: bool,
        caller: Caller,
        progress: Progress,
    ) -> Result<String, Failure> {
        let wallet = self.wallet().await?;
        let work = ask_wallet(&wallet, |reply| Send { to, amount, again, caller, progress, reply });
        let next = "Look at drain-mcp wallet balance before anything else: the transfer may arrive at any time, and a later one is a second one.";
        self.patiently(work, "the transfer", next).await
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
}
