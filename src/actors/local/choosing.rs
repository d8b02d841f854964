//! A request that names a provider in place of a channel: an open channel that pays for it, else a new one where the caller
//! or a person allowed that (M5), else what would be opened.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use drain_protocol::chat::input_tokens_upper;
use drain_protocol::pricing::{Price, PriceList};
use drain_protocol::text::quoted;
use drain_protocol::{ChannelId, Generation, Usdc};

use super::Local;
use super::uses::Use;
use crate::actors::channel::unknown_model;
use crate::actors::{opening, view};
use crate::api::{ChatCall, ChatReply, OpenRequest, Opened, Paid, Progress, ProviderWish};
use crate::error::{Code, Failure, Money};
use crate::journal::{ChannelRecord, NewChannel};
use crate::policy::Caller;
use crate::policy::approvals::ApprovalKind;
use crate::policy::choice::{Candidate, Found, Wanted, choose, is_by_token};

/// Where nobody says how much to lock: the smallest round deposit that is worth its gas.
const USUAL_DEPOSIT: Usdc = Usdc::new(500_000);
/// And so many requests of this kind, where they cost more.
const REQUESTS: u64 = 20;

/// What pays for the request.
pub(super) enum Chosen {
    /// A channel that was open.
    Channel(Use),
    /// One that was opened for it; what to tell of that.
    Opened(Use, String),
    /// Nothing yet: the instructions of a service of another kind must be read before anything is locked for it.
    ReadFirst {
        /// The instructions (untrusted, bounded).
        docs: String,
    },
}

/// Takes turns by agent and provider, so that two requests at once open one channel and not two.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns(Arc<Mutex<HashMap<AgentAndProvider, Weak<Turn>>>>);

type AgentAndProvider = (String, String);
type Turn = tokio::sync::Mutex<()>;

impl Turns {
    fn of(&self, agent: &str, provider: &str) -> Arc<Turn> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = turns.entry((agent.to_owned(), provider.to_owned())).or_default();
        turn.upgrade().unwrap_or_else(|| {
            let new = Arc::new(Turn::default());
            *turn = Arc::downgrade(&new);
            new
        })
    }
}

/// A deposit to propose for requests that cost up to `bound` each.
pub(super) fn usual_deposit(bound: Usdc, caller: &Caller) -> Usdc {
    let enough = bound.units().saturating_mul(REQUESTS).div_ceil(100_000).saturating_mul(100_000);
    USUAL_DEPOSIT.max(Usdc::from_units(enough).unwrap_or(Usdc::MAX)).min(caller.limits.per_channel)
}

impl Local {
    /// The channel that pays for a request to a provider. Where all that could are at work, another one is opened, up to
    /// `at_once` of them, where opening is allowed; else the request waits for its turn on one of them.
    pub(super) async fn channel_for(
        &self,
        wish: &ProviderWish,
        at_once: u32,
        call: &ChatCall,
        caller: &Caller,
        progress: &Progress,
    ) -> Result<Chosen, Failure> {
        self.wallet().await?;
        let provider = self.provider_id(&wish.provider, caller).await?;
        let most = wish.max_deposit.or(caller.limits.auto_open);
        let at_once = if most.is_some() { at_once } else { 1 };
        let found = match self.look(&provider, at_once, call, caller).await? {
            Ok(used) => return Ok(Chosen::Channel(used)),
            Err(found) => found,
        };
        let most = match (found, most) {
            (Found::Fits(id) | Found::Busy(id) | Found::Short(id), None) => {
                return Ok(Chosen::Channel(self.uses.of(id)));
            }
            (Found::Nothing, None) => return Err(self.channel_needed(&provider, wish, call, caller).await?),
            (_, Some(most)) => most,
        };
        let turn = self.choosing.of(&caller.agent, &provider);
        let _turn = turn.lock().await;
        // Whoever had the turn before may have opened it.
        let busy = match self.look(&provider, at_once, call, caller).await? {
            Ok(used) => return Ok(Chosen::Channel(used)),
            Err(Found::Busy(id)) => Some(id),
            Err(_) => None,
        };
        if let Some(id) = busy
            && caller.limits.approve.needs_person(ApprovalKind::Deposit, most.min(caller.limits.per_channel))
        {
            // Nobody is asked for what only saves a wait.
            return Ok(Chosen::Channel(self.uses.of(id)));
        }
        match (self.open_for(&provider, wish, most, call, caller, progress).await, busy) {
            // There is one that pays: this one waits for its turn.
            (Err(failure), Some(id)) if failure.money == Money::NotSpent => Ok(Chosen::Channel(self.uses.of(id))),
            (chosen, _) => chosen,
        }
    }

    /// The id of a provider: of one with an open channel without asking the directory.
    pub(super) async fn provider_id(&self, named: &str, caller: &Caller) -> Result<String, Failure> {
        let named = named.trim();
        if !self.channels_to(named, caller).await?.is_empty() {
            return Ok(named.to_owned());
        }
        Ok(opening::find(&self.catalogue().await?.catalogue, named)?.id.clone())
    }

    /// Open channels to a provider that this caller pays with.
    pub(super) async fn channels_to(&self, provider: &str, caller: &Caller) -> Result<Vec<ChannelRecord>, Failure> {
        let member = caller.member().map(str::to_owned);
        Ok(self.purse()?.journal.channels_to(provider.to_owned(), member).await?)
    }

    /// Takes an open channel that pays for the request, or tells what else there is: one that pays and is at work, where
    /// fewer than `at_once` are open, or one that pays for a shorter answer.
    async fn look(
        &self,
        provider: &str,
        at_once: u32,
        call: &ChatCall,
        caller: &Caller,
    ) -> Result<Result<Use, Found<ChannelId>>, Failure> {
        let channels = self.channels_to(provider, caller).await?;
        Ok(self.uses.choose(|users| {
            match self.among(&channels, users, at_once, &call.model, self.wanted(call), caller) {
                Some((Found::Fits(id), _)) => Ok(id),
                Some((found, _)) => Err(found),
                None => Err(Found::Nothing),
            }
        }))
    }

    /// Which of these channels pays for such a request, and the most that it costs there; `None` where none offers the model.
    pub(super) fn among(
        &self,
        channels: &[ChannelRecord],
        users: &HashMap<ChannelId, usize>,
        at_once: u32,
        model: &str,
        wanted: Wanted,
        caller: &Caller,
    ) -> Option<(Found<ChannelId>, Usdc)> {
        let soon = self.services.clock.block_time().saturating_add(self.services.config.requests.timeout.as_secs());
        let mut bounds = Vec::new();
        let mut candidates = Vec::new();
        for record in channels.iter().filter(|record| record.offences == 0 && soon < record.expires_at) {
            let Some(id) = record.channel_id else { continue };
            // Channels to one provider may have pinned different prices.
            let list = PriceList::parse(record.prices.as_bytes()).unwrap_or_default();
            let Some(price) = list.models.get(model).map(|known| known.price) else { continue };
            let bound = wanted.bound(&price, is_by_token(&record.category, &price));
            let mut books = record.books;
            books.cap = books.cap.min(caller.limits.per_channel);
            bounds.push(bound);
            candidates.push((
                id,
                Candidate {
                    available: books.available(),
                    users: users.get(&id).copied().unwrap_or_default(),
                    in_flight: books.in_flight,
                    expires_at: record.expires_at,
                },
            ));
        }
        let bound = bounds.into_iter().max()?;
        Some((choose(candidates, bound, at_once), bound))
    }

    async fn open_for(
        &self,
        provider: &str,
        wish: &ProviderWish,
        most: Usdc,
        call: &ChatCall,
        caller: &Caller,
        progress: &Progress,
    ) -> Result<Chosen, Failure> {
        let amount = most.min(caller.limits.per_channel);
        let request = OpenRequest { provider: provider.to_owned(), amount, duration: wish.duration, cap: None };
        let prepared = self.prepare(&request, caller, progress).await?;
        let channel = &prepared.plan.channel;
        let bound = bound_at(channel, &call.model, self.wanted(call))?.1;
        if bound > amount {
            return Err(Failure::unspent(
                Code::ChannelExhausted,
                format!(
                    "The request may cost up to {bound} USDC, more than the {amount} USDC that may be locked for it"
                ),
                "Ask for a shorter answer (maxTokens), or allow a larger maxDeposit.",
            ));
        }
        if let Some(docs) = self.docs_before(&channel.provider_id, &channel.api_url, &channel.category).await? {
            return Ok(Chosen::ReadFirst { docs });
        }
        progress.say(format!("opening a channel of {amount} USDC to {}", quoted(&channel.provider_name, 60)));
        let opened = self.open_prepared(prepared, caller.clone(), progress.clone()).await?;
        let id = opened.channel.channel_id.as_deref().and_then(|id| id.parse().ok());
        let id =
            id.ok_or_else(|| Failure::internal("a channel was opened and has no id").with_money(Money::Unknown))?;
        let told = told(&opened);
        let used = self.uses.of(id);
        Ok(if opened.shared { Chosen::Channel(used) } else { Chosen::Opened(used, told) })
    }

    pub(super) fn wanted(&self, call: &ChatCall) -> Wanted {
        let requests = &self.services.config.requests;
        Wanted {
            input_tokens: input_tokens_upper(&call.messages),
            max_tokens: call.max_tokens.unwrap_or(requests.default_max_tokens),
            max_cost: call.max_cost.unwrap_or(requests.default_max_cost),
        }
    }

    /// The instructions of a service of another kind, where no agent was ever shown them.
    async fn docs_before(&self, provider: &str, api_url: &str, category: &str) -> Result<Option<String>, Failure> {
        let journal = &self.purse()?.journal;
        if category.eq_ignore_ascii_case("llm") || journal.were_docs_read(provider.to_owned()).await? {
            return Ok(None);
        }
        // A provider without readable instructions is paid as it is: they are a help, not a condition.
        let Ok(docs) = self.services.provider.docs(&opening::base_url(api_url)?).await else { return Ok(None) };
        journal.docs_read(provider.to_owned(), self.services.clock.now()).await?;
        Ok(Some(docs))
    }

    /// No channel is open and nobody allowed to open one: what would be opened, and what the request would cost.
    async fn channel_needed(
        &self,
        provider: &str,
        wish: &ProviderWish,
        call: &ChatCall,
        caller: &Caller,
    ) -> Result<Failure, Failure> {
        let prepared = self.look_at_opening(provider, wish.duration, None, caller).await?;
        let channel = &prepared.plan.channel;
        let bound = bound_at(channel, &call.model, self.wanted(call))?.1;
        let deposit = usual_deposit(bound, caller);
        let fee = match channel.deployment.generation {
            Generation::V1 => "; opening costs a session fee of 0.01 USDC and gas",
            Generation::V2 => "; opening costs gas only",
        };
        let name = quoted(&channel.provider_name, 60);
        Ok(Failure::unspent(
            Code::ChannelNeeded,
            format!(
                "no open channel to {name} pays for {}. This request costs at most {bound} USDC; a channel of {deposit} USDC for {} would be opened, \
                 of which comes back what is not used{fee}",
                quoted(&call.model, 80),
                view::seconds(channel.duration)
            ),
            format!(
                "Call again with maxDeposit \"{deposit}\" (the most that may be locked), or use drain_open_channel."
            ),
        ))
    }
}

/// The price and the most that such a request costs on a channel that would be opened.
pub(super) fn bound_at(channel: &NewChannel, model: &str, wanted: Wanted) -> Result<(Price, Usdc), Failure> {
    let list = PriceList::parse(channel.prices.as_bytes()).unwrap_or_default();
    let known = list.models.get(model).ok_or_else(|| unknown_model(&list, model, &channel.provider_name))?;
    Ok((known.price, wanted.bound(&known.price, is_by_token(&channel.category, &known.price))))
}

/// What to tell of a channel that was opened for a request.
fn told(opened: &Opened) -> String {
    let channel = &opened.channel;
    let id = channel.channel_id.as_deref().unwrap_or_default();
    let mut text = format!("channel {id} with {} USDC was opened for this, and stays open for more", channel.deposit);
    if !opened.session_fee.is_zero() {
        text.push_str(&format!("; session fee {} USDC", opened.session_fee));
    }
    for warning in &opened.warnings {
        text.push_str(&format!("; {warning}"));
    }
    text
}

/// The request's outcome, and the opening before it: a failure must not hide that money is locked (M15).
pub(super) fn with_opening(reply: Result<ChatReply, Failure>, told: String) -> Result<ChatReply, Failure> {
    match reply {
        Ok(ChatReply::Paid(paid)) => {
            let notes = std::iter::once(told).chain(paid.notes).collect();
            Ok(ChatReply::Paid(Box::new(Paid { notes, ..*paid })))
        }
        Ok(read_first) => Ok(read_first),
        Err(failure) => {
            let message = format!("{}. Before that {told}", failure.message.trim_end_matches('.'));
            Err(Failure { message, ..failure })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_agent_takes_turns_at_one_provider() {
        let turns = Turns::default();
        let first = turns.of("ann", "p");
        let held = first.lock().await;
        assert!(turns.of("ann", "p").try_lock().is_err());
        assert!(turns.of("ann", "q").try_lock().is_ok() && turns.of("bob", "p").try_lock().is_ok());
        drop(held);
        drop(first);
        assert!(turns.of("ann", "p").try_lock().is_ok());
        // Nothing is kept of who has gone.
        let kept = turns.of("eve", "z");
        assert_eq!((turns.0.lock().unwrap_or_else(PoisonError::into_inner).len(), Arc::strong_count(&kept)), (1, 1));
    }
}
