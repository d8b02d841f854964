//! What a request would cost and what would pay for it: the decisions of a paid request, asked without taking one.

use std::collections::HashMap;

use drain_protocol::chat::input_tokens_upper;
use drain_protocol::duration::ChannelDuration;
use drain_protocol::pricing::{Price, PriceList};
use drain_protocol::{Generation, U256, Usdc};
use drain_signers::request::SESSION_FEE;

use super::Local;
use super::choosing::{bound_at, usual_deposit};
use crate::actors::channel::unknown_model;
use crate::actors::opening::Prepared;
use crate::actors::wallet::gas_of_opening;
use crate::actors::{opening, view};
use crate::api::{OpenRequest, Opening, PayFrom, Progress, ProviderWish, Quote, QuoteCall, QuoteInput};
use crate::error::Failure;
use crate::journal::{BudgetAsked, BudgetUse, ChannelRecord, FirstSight, JournalError, provider_key};
use crate::policy::approvals::ApprovalKind;
use crate::policy::budgets::{NewVoucher, OverLimit, Signed, may_open, may_sign};
use crate::policy::choice::{Found, Wanted, is_by_token};
use crate::policy::{Caller, Pol};

/// Looked at with the smallest deposit there is: what is asked for is judged by [`Local::quote`] itself.
const ANY_DEPOSIT: Usdc = Usdc::new(1);

impl Local {
    /// What a request would cost, and what would pay for it.
    pub(super) async fn quote(&self, call: QuoteCall, caller: &Caller) -> Result<Quote, Failure> {
        let requests = &self.services.config.requests;
        let wanted = Wanted {
            input_tokens: match &call.input {
                QuoteInput::Messages(messages) => input_tokens_upper(messages),
                QuoteInput::Tokens(tokens) => u64::from(*tokens),
            },
            max_tokens: call.max_tokens.unwrap_or(requests.default_max_tokens),
            max_cost: call.max_cost.unwrap_or(requests.default_max_cost),
        };
        match &call.from {
            PayFrom::Channel(id) => {
                let record = self.record(*id, caller).await?;
                self.quote_of_channel(&record, &call.model, wanted, caller).await
            }
            PayFrom::Allowed { .. } => {
                let (wish, model) = self.selected(&call.model, wanted, caller).await?;
                let call = QuoteCall { from: PayFrom::Provider(wish), model, ..call };
                Box::pin(self.quote(call, caller)).await
            }
            PayFrom::Provider(wish) => {
                let provider = self.provider_id(&wish.provider, caller).await?;
                let channels = self.channels_to(&provider, caller).await?;
                let found =
                    self.among(&channels, &HashMap::new(), 1, &call.model, wanted, caller).map(|(found, _)| found);
                let pays = match (found, wish.max_deposit.or(caller.limits.auto_open)) {
                    (Some(Found::Fits(id)), _) | (Some(Found::Short(id)), None) => Some(id),
                    _ => None,
                };
                match channels.iter().find(|record| pays.is_some() && record.channel_id == pays) {
                    Some(record) => self.quote_of_channel(record, &call.model, wanted, caller).await,
                    None => self.quote_of_opening(&provider, wish, &call.model, wanted, caller).await,
                }
            }
        }
    }

    /// Looks at an opening without pinning or recording anything.
    pub(super) async fn look_at_opening(
        &self,
        provider: &str,
        duration: Option<ChannelDuration>,
        amount: Option<Usdc>,
        caller: &Caller,
    ) -> Result<Prepared, Failure> {
        let (purse, directory) = (self.purse()?, self.addresses().await?.directory);
        let amount = amount.unwrap_or(ANY_DEPOSIT);
        let request = OpenRequest { provider: provider.to_owned(), amount, duration, cap: None };
        let progress = Progress::none();
        opening::prepare(&self.services, purse, &directory, &request, caller, FirstSight::Looks, &progress).await
    }

    async fn quote_of_channel(
        &self,
        record: &ChannelRecord,
        model: &str,
        wanted: Wanted,
        caller: &Caller,
    ) -> Result<Quote, Failure> {
        let list = PriceList::parse(record.prices.as_bytes()).unwrap_or_default();
        let known = list.models.get(model).ok_or_else(|| unknown_model(&list, model, &record.provider_name))?;
        let bound = wanted.bound(&known.price, is_by_token(&record.category, &known.price));
        let used = self.budget_use(Some(record.provider_key()), caller).await?;
        let mut books = record.books;
        books.cap = books.cap.min(caller.limits.per_channel);
        let (growth, short) = match books.next_voucher(bound) {
            Ok(next) => (next.growth, None),
            Err(short) => (bound, Some(Failure::from(JournalError::NoVoucher(short)).message)),
        };
        let seen = self.purse()?.journal.channel_seen(record.intent, caller.member().map(str::to_owned)).await?;
        let over = may_sign(&caller.limits, &used.signed(), NewVoucher { bound, growth, newcomer: used.newcomer });
        Ok(Quote {
            provider_id: record.provider_id.clone(),
            provider_name: record.provider_name.clone(),
            model: model.to_owned(),
            price: known.price.to_string(),
            at_most: bound,
            channel: Some(view::seen(&seen, self.services.clock.block_time())),
            opens: None,
            caps_leave: caps_leave(caller, &used),
            asks_person: caller.limits.approve.needs_person(ApprovalKind::Request, bound),
            refused: self.refused(caller).await?.or_else(|| told(over, caller)).or(short),
            notes: self.streamed(&known.price, &record.category, wanted).into_iter().collect(),
        })
    }

    async fn quote_of_opening(
        &self,
        provider: &str,
        wish: &ProviderWish,
        model: &str,
        wanted: Wanted,
        caller: &Caller,
    ) -> Result<Quote, Failure> {
        let limits = &caller.limits;
        let said = wish.max_deposit.or(limits.auto_open).map(|most| most.min(limits.per_channel));
        let prepared = self.look_at_opening(provider, wish.duration, said, caller).await?;
        let channel = &prepared.plan.channel;
        let (price, bound) = bound_at(channel, model, wanted)?;
        let deposit = said.unwrap_or_else(|| usual_deposit(bound, caller));
        let key = provider_key(&format!("{:#x}", channel.provider_wallet), &channel.api_url);
        let used = self.budget_use(Some(key), caller).await?;
        let voucher = NewVoucher { bound, growth: bound, newcomer: used.newcomer };
        let over = may_sign(limits, &used.signed(), voucher).and_then(|()| may_open(limits, &used.locked, deposit));
        let fee = match channel.deployment.generation {
            Generation::V1 if prepared.plan.fee_wallet.is_some() => SESSION_FEE,
            Generation::V1 | Generation::V2 => Usdc::ZERO,
        };
        let held = self.services.chain.usdc_balance(channel.deployment.usdc, channel.consumer).await.ok();
        let poor = held.filter(|held| deposit.saturating_add(fee) > *held);
        let poor = poor.map(|held| format!("the wallet holds {held} USDC, less than the deposit"));
        let short = (bound > deposit).then(|| format!("a deposit of {deposit} USDC does not cover the request"));
        let opens = Opening {
            deposit,
            duration: channel.duration,
            generation: channel.deployment.generation,
            session_fee: fee,
            gas: self.gas_of_opening(!fee.is_zero()).await,
            allowed: said.is_some(),
            asks_person: limits.approve.needs_person(ApprovalKind::Deposit, deposit),
        };
        Ok(Quote {
            provider_id: channel.provider_id.clone(),
            provider_name: channel.provider_name.clone(),
            model: model.to_owned(),
            price: price.to_string(),
            at_most: bound,
            channel: None,
            opens: Some(opens),
            caps_leave: caps_leave(caller, &used),
            asks_person: limits.approve.needs_person(ApprovalKind::Request, bound),
            refused: self.refused(caller).await?.or_else(|| told(over, caller)).or(short).or(poor),
            notes: self.streamed(&price, &channel.category, wanted).into_iter().chain(prepared.warnings).collect(),
        })
    }

    /// What a stream reserves, where it may be asked for.
    fn streamed(&self, price: &Price, category: &str, wanted: Wanted) -> Option<String> {
        let may_be = self.services.config.requests.stream && is_by_token(category, price);
        may_be.then(|| {
            let most = wanted.streamed().bound(price, true);
            format!("where the client follows progress the answer is streamed, which reserves up to {most} USDC; never above maxCost")
        })
    }

    /// What is used of the caller's budgets.
    pub(super) async fn budget_use(&self, provider: Option<String>, caller: &Caller) -> Result<BudgetUse, Failure> {
        let purse = self.purse()?;
        let asked = BudgetAsked {
            chain_id: self.services.config.chain.chain_id,
            wallet: purse.address,
            agent: caller.agent.clone(),
            provider,
            moment: self.services.clock.moment(),
        };
        Ok(purse.journal.budget_use(asked).await?)
    }

    /// Why nothing is paid now, whatever it costs.
    pub(super) async fn refused(&self, caller: &Caller) -> Result<Option<String>, Failure> {
        if caller.limits.frozen {
            return Ok(Some("the operator has frozen the wallet (DRAIN_FREEZE)".into()));
        }
        self.frozen().await
    }

    async fn gas_of_opening(&self, fee: bool) -> Option<String> {
        let fees = self.services.chain.fees().await.ok()?;
        let wei = U256::from(gas_of_opening(fee)).saturating_mul(U256::from(fees.expected_per_gas()));
        Some(Pol::from_wei(wei).to_string())
    }
}

/// The most that may be newly signed for a provider now. What others of the wallet use is not an agent's to know.
pub(super) fn caps_leave(caller: &Caller, used: &BudgetUse) -> Option<Usdc> {
    let (limits, Signed { hour, day, provider, agent, newcomers }) = (&caller.limits, used.signed());
    let mut windows = vec![
        (limits.per_hour, hour),
        (limits.per_day, day),
        (limits.per_provider, provider),
        (limits.per_agent, agent),
    ];
    if used.newcomer {
        windows.push((limits.newcomers, newcomers));
    }
    let left = windows.into_iter().map(|(limit, used)| limit.saturating_sub(used)).min();
    left.filter(|_| caller.member().is_none())
}

pub(super) fn told(decided: Result<(), OverLimit>, caller: &Caller) -> Option<String> {
    let over = decided.err()?;
    let over = if caller.member().is_some() { over.for_an_agent() } else { over };
    Some(over.to_string())
}
