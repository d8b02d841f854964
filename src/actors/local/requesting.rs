//! Requests to whoever wants to be paid by HTTP 402: asked without a payment first, then judged, then paid once.

use drain_protocol::demand::{self, Demand, NotPayable, Offer};
use drain_protocol::directory::{Listing, ListingProtocol};
use drain_protocol::text::quoted;
use drain_protocol::{Address, B256, Usdc};

use super::Local;
use super::ordering::Ordered;
use super::repeating::{Named, Running};
use crate::actors::channel::Once;
use crate::actors::payments::{Bought, Purchase, unkept};
use crate::actors::{opening, person};
use crate::api::{ChatCall, DemandView, KeptAnswer, Payment, PaymentCall, PaymentReply, Progress, Target};
use crate::error::{Code, Failure};
use crate::journal::audit::{Kind, Wanted};
use crate::journal::{Earlier, PaymentIntent, ReceiptId};
use crate::payment::offer::Judged;
use crate::payment::{Answer, Choice, WebRequest, choose, request};
use crate::policy::limits::{NotAllowed, Party};
use crate::policy::repeat::IdempotencyKey;
use crate::policy::{Caller, Limits};
use crate::provider::CHAT_PATH;

/// Who is asked, and on whose word.
pub(super) struct Asked {
    pub(super) request: WebRequest,
    pub(super) host: String,
    /// The listing's id, else the host.
    pub(super) provider_id: String,
    pub(super) category: String,
    /// Neither the directory nor a person names the host.
    pub(super) unknown: bool,
}

/// What a request without a payment led to.
pub(super) enum Answered {
    /// It asks for no payment.
    Unpaid(Answer),
    /// It is paid by channels.
    Drain(Answer),
    /// It asks for payment, in a way that is paid.
    Offer(Answer, Box<Offer>),
    /// It asks for payment, and is not paid.
    NotPayable(Answer, Vec<NotPayable>),
}

impl Local {
    /// Asks, and pays where that is asked for. Where a person must say yes first, waits for that as long as the operator says,
    /// and then asks anew: a demand does not live as long as a person thinks.
    async fn buy(
        &self,
        call: PaymentCall,
        once: Option<Once>,
        caller: Caller,
        progress: Progress,
    ) -> Result<PaymentReply, Failure> {
        self.purse()?;
        // Where it is known to be a provider's chat nothing else is asked; what else stands against that is told when its server asks.
        if let Target::Url(url) = &call.target
            && let Ok((chat, listing)) = self.as_chat(url, &call).await
        {
            return Box::pin(self.pay_by_channel(chat, &listing, once, caller, progress)).await;
        }
        let asked = self.asked_for(&call, &caller).await?;
        match self.one_try(&asked, &call, once.as_ref(), &caller, &progress).await? {
            Bought::Done(reply) => Ok(*reply),
            Bought::AskPerson(approval) => {
                person::answered(&self.services, self.purse()?, *approval, &progress).await?;
                match self.one_try(&asked, &call, once.as_ref(), &caller, &progress).await? {
                    Bought::Done(reply) => Ok(*reply),
                    // Another call used the yes meanwhile, or it asks for more now.
                    Bought::AskPerson(approval) => Err(person::needed(&approval)),
                }
            }
        }
    }

    async fn one_try(
        &self,
        asked: &Asked,
        call: &PaymentCall,
        once: Option<&Once>,
        caller: &Caller,
        progress: &Progress,
    ) -> Result<Bought, Failure> {
        let purse = self.purse()?;
        let (answered, funds) = futures::join!(self.ask_unpaid(asked, call, progress), self.funds());
        // What is free is given whatever the chain says.
        let offer = match answered? {
            Answered::Unpaid(answer) => return Ok(Bought::Done(Box::new(reply(answer, None)))),
            Answered::Drain(_) => return Err(self.no_chat(asked.request.url().as_str(), call).await),
            Answered::NotPayable(_, reasons) => return Err(not_payable(&asked.host, &reasons)),
            Answered::Offer(_, offer) => *offer,
        };
        self.recorded(asked, offer.amount, too_dear(call, &caller.limits, offer.amount))?;
        let Ordered { order, now } = self.order(&asked.host, &offer, funds).await?;
        self.recorded(asked, order.at_most(), too_dear(call, &caller.limits, order.at_most()))?;
        // Held to its end: who leaves before may withdraw it, and who leaves after it began may not.
        let turn = once.map(|once| once.turn.clone().try_lock_owned()).transpose();
        let Ok(_turn) = turn else {
            return Err(Failure::unspent(Code::Cancelled, "Nobody waits for this request any more", "Call again."));
        };
        let intent = PaymentIntent {
            protocol: offer.protocol,
            order,
            host: asked.host.clone(),
            provider_id: asked.provider_id.clone(),
            category: asked.category.clone(),
            what: asked.request.what(),
            request: asked.request.hash(),
            ask_person: asked.unknown,
            limits: caller.limits.clone(),
            agent: caller.agent.clone(),
            key: once.map(|once| once.key.clone()),
            moment: self.services.clock.moment(),
        };
        let signer = self.addresses().await?.signer;
        let signer = signer.ok_or_else(|| Failure::internal("a wallet without its signer"))?;
        let (services, purse, request) = (self.services.clone(), purse.clone(), asked.request.clone());
        Purchase { services, purse, signer, request, offer, intent, progress: progress.clone() }.buy(now).await
    }

    /// Who is asked. A list that forbids it counts before it is contacted.
    pub(super) async fn asked_for(&self, call: &PaymentCall, caller: &Caller) -> Result<Asked, Failure> {
        let longest = self.services.config.requests.max_request_bytes;
        let made = |url: &str| WebRequest::new(url, &call.method, &call.headers, call.body.as_deref(), longest);
        let (request, listing) = match &call.target {
            Target::Provider(id) => {
                let known = self.catalogue().await?;
                let listing = opening::find(&known.catalogue, id)?.clone();
                (made(&endpoint(&listing)?)?, Some(listing))
            }
            Target::Url(url) => {
                let request = made(url)?;
                // Whom a person names is paid whether or not the directory answers.
                let listing = match self.named(caller, &request) {
                    true => None,
                    false => self.listed_at(&request, caller).await?,
                };
                (request, listing)
            }
        };
        let host = request.host();
        let unknown = listing.is_none() && !self.named(caller, &request);
        let provider_id = listing.as_ref().map_or_else(|| host.clone(), |listing| listing.id.clone());
        let category = listing.map(|listing| listing.category).unwrap_or_default();
        let allowed = allowed(caller, &request, &provider_id, &category).map_err(Failure::from);
        let asked = Asked { request, host, provider_id: provider_id.clone(), category: category.clone(), unknown };
        self.recorded(&asked, Usdc::ZERO, allowed)?;
        Ok(asked)
    }

    /// The MPP listing whose endpoint is at the same place. Of several there the first that is not paid, if there is one: no
    /// listing beside another one makes that payable.
    async fn listed_at(&self, request: &WebRequest, caller: &Caller) -> Result<Option<Listing>, Failure> {
        let known = self.catalogue().await?;
        let here = request.url().origin();
        let same = |listing: &&Listing| {
            let url = endpoint(listing).ok().and_then(|url| url.parse::<reqwest::Url>().ok());
            url.is_some_and(|url| url.origin() == here)
        };
        let all: Vec<&Listing> = known.catalogue.listings.iter().filter(same).collect();
        let denied = all.iter().find(|it| allowed(caller, request, &it.id, &it.category).is_err());
        Ok(denied.or(all.first()).map(|listing| (*listing).clone()))
    }

    /// Whether a person named the host: who owns the wallet, or who wrote the agent's limits. The list of another process that
    /// shares the wallet only narrows (M5).
    fn named(&self, caller: &Caller, request: &WebRequest) -> bool {
        let (host, name) = (request.host(), request.url().host_str().unwrap_or_default());
        let by = if caller.member().is_some() { &caller.limits } else { &self.services.config.limits };
        caller.limits.pay_hosts.contains(&host)
            || by.parties.allow_providers.as_ref().is_some_and(|only| only.iter().any(|allowed| allowed == name))
    }

    pub(super) async fn ask_unpaid(
        &self,
        asked: &Asked,
        call: &PaymentCall,
        progress: &Progress,
    ) -> Result<Answered, Failure> {
        self.services.know_time().await?;
        progress.say(format!("asking {}", quoted(&asked.host, 100)));
        let config = &self.services.config.requests;
        let limits = request::limits(config.timeout, config.max_answer_bytes);
        let answer = asked.request.send(&self.services.http, None, limits).await;
        let answer = answer.map_err(|error| request::unreachable(&asked.host, &error))?;
        if answer.status != 402 {
            return Ok(Answered::Unpaid(answer));
        }
        let offers = match demand::read(|name| answer.values(name), &answer.body) {
            Ok(Demand::Payment(offers)) => offers,
            Ok(Demand::Drain) => return Ok(Answered::Drain(answer)),
            Ok(Demand::Unknown) => return Ok(Answered::NotPayable(answer, Vec::new())),
            Err(reason) => return Ok(Answered::NotPayable(answer, vec![reason])),
        };
        let own = self.purse().map(|purse| purse.address).unwrap_or_default();
        let now = self.services.clock.block_time();
        let asset = self.asset()?;
        let judged = Judged { asset: &asset, tempo: self.tempo(), own, now, mpp_only: call.mpp_only };
        let Choice { offer, refused } = choose(offers, &asked.request, judged);
        Ok(match offer {
            Some(offer) => Answered::Offer(answer, Box::new(offer)),
            None => Answered::NotPayable(answer, refused),
        })
    }

    /// A refusal that did not need the journal's word is recorded all the same.
    fn recorded(&self, asked: &Asked, amount: Usdc, result: Result<(), Failure>) -> Result<(), Failure> {
        if let (Err(failure), Ok(purse)) = (&result, self.purse()) {
            let (provider, amount) = (Some(asked.provider_id.clone()), Some(amount));
            purse.journal.refused_later(Wanted { kind: Kind::Payment, provider, intent: None, amount }, failure);
        }
        result
    }
}

/// Whether the lists let it be asked.
fn allowed(caller: &Caller, request: &WebRequest, id: &str, category: &str) -> Result<(), NotAllowed> {
    let host = request.url().host_str().unwrap_or_default();
    caller.limits.parties.check_before_payee(Party { id, wallet: Address::ZERO, host, category })
}

/// Where an MPP listing is asked.
fn endpoint(listing: &Listing) -> Result<String, Failure> {
    if listing.protocol != ListingProtocol::Mpp {
        return Err(Failure::unspent(
            Code::NotPayable,
            format!("{} is paid by a channel", quoted(&listing.name, 60)),
            "Use drain_chat with it.",
        ));
    }
    match &listing.mpp_endpoint {
        Some(endpoint) => Ok(endpoint.clone()),
        None if listing.api_url.is_empty() => Err(Failure::unspent(
            Code::ProviderMismatch,
            format!("{} names no endpoint", quoted(&listing.name, 60)),
            "Use another provider.",
        )),
        None => Ok(format!("{}{CHAT_PATH}", listing.api_url.trim_end_matches('/'))),
    }
}

/// The caller's own maximum, and what one payment may be. The rest is the journal's to decide.
pub(super) fn too_dear(call: &PaymentCall, limits: &Limits, price: Usdc) -> Result<(), Failure> {
    if let Some(most) = call.max_cost.filter(|most| price > *most) {
        return Err(Failure::unspent(
            Code::LimitReached,
            format!("it costs {price} USDC, and maxCost is {most} USDC"),
            "Call again with a higher maxCost if it is worth that.",
        ));
    }
    crate::policy::budgets::may_pay(limits, price)?;
    Ok(())
}

fn not_payable(host: &str, reasons: &[NotPayable]) -> Failure {
    Failure::unspent(
        Code::NotPayable,
        against(host, reasons),
        "Ask somebody else, or have a person look at what it asks for: drain_quote shows it without paying.",
    )
}

pub(super) fn against(host: &str, reasons: &[NotPayable]) -> String {
    let host = quoted(host, 100);
    if reasons.is_empty() {
        return format!("{host} asks for payment by a protocol that is not known");
    }
    let reasons: Vec<String> = reasons.iter().take(5).map(ToString::to_string).collect();
    format!("{host} asks for payment in no way that is paid: {}", reasons.join("; "))
}

pub(super) fn reply(answer: Answer, demand: Option<DemandView>) -> PaymentReply {
    let notes = answer.cut.as_ref().map(|cut| format!("the answer is not whole: {cut}")).into_iter().collect();
    PaymentReply {
        status: answer.status.as_u16(),
        content_type: answer.content_type(),
        body: answer.shown(),
        payment: None,
        demand,
        notes,
    }
}

impl Named for PaymentCall {
    type Reply = PaymentReply;

    fn name(&self) -> Option<&IdempotencyKey> {
        self.request_id.as_ref()
    }

    fn body_hash(&self) -> Result<B256, Failure> {
        Self::body_hash(self)
    }

    fn running(local: &Local) -> &Running<PaymentReply> {
        &local.payments
    }

    async fn pay(
        self,
        local: &Local,
        once: Option<Once>,
        caller: Caller,
        progress: Progress,
    ) -> Result<PaymentReply, Failure> {
        local.buy(self, once, caller, progress).await
    }

    async fn again(
        local: &Local,
        earlier: &Earlier,
        kept: KeptAnswer,
        caller: &Caller,
    ) -> Result<Option<PaymentReply>, Failure> {
        let purse = local.purse()?;
        if let ReceiptId::Voucher(_) = earlier.receipt {
            let reply = ChatCall::again(local, earlier, kept, caller).await?;
            return Ok(match reply {
                Some(reply) => Some(local.answer_of_chat(reply, caller).await),
                None => None,
            });
        }
        let Some((status, content_type, body)) = unkept(&kept) else { return Ok(None) };
        let Some(receipt) = purse.journal.receipt(earlier.receipt, caller.member().map(str::to_owned)).await? else {
            return Ok(None);
        };
        let payment = Payment {
            receipt: receipt.receipt,
            protocol: receipt.protocol,
            state: if receipt.charged.is_some() { "paid" } else { "reserved" }.into(),
            amount: receipt.bound,
            payee: receipt.payee.unwrap_or_default(),
            host: receipt.host.unwrap_or_default(),
            chain_id: receipt.chain_id.unwrap_or(local.services.config.chain.chain_id),
            transaction: receipt.transaction,
            spent_today: purse.journal.spent_today(local.services.clock.now()).await?,
        };
        let notes = kept.notes;
        Ok(Some(PaymentReply { status, content_type, body, payment: Some(payment), demand: None, notes }))
    }

    fn noted(mut reply: PaymentReply, note: &str) -> PaymentReply {
        reply.notes.push(note.into());
        reply
    }
}
