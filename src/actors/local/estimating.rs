//! What a request to whoever wants to be paid by HTTP 402 would cost.

use drain_protocol::Usdc;
use drain_protocol::demand::{Offer, Protocol};

use super::Local;
use super::quoting::{caps_leave, told};
use super::requesting::{Answered, Asked, against, reply, too_dear};
use crate::api::{Body, DemandView, PaymentCall, PaymentReply, Progress};
use crate::error::Failure;
use crate::journal::Payee;
use crate::payment::worst_case;
use crate::policy::Caller;
use crate::policy::approvals::ApprovalKind;
use crate::policy::budgets::{NewVoucher, may_sign};

impl Local {
    /// What a request would cost. It is sent once, without a payment and without its body: whoever asks what something costs
    /// does not want it done. The chat of a listed provider is not sent at all: its price is known.
    pub(super) async fn quote_request(
        &self,
        call: PaymentCall,
        caller: Caller,
        progress: Progress,
    ) -> Result<PaymentReply, Failure> {
        if !["GET", "POST"].contains(&call.method.as_str()) {
            return Err(Failure::argument("method", "a quote asks by GET or POST"));
        }
        if let Some(view) = self.view_by_channel(&call, &caller).await? {
            let body = Body::Text(String::new());
            return Ok(PaymentReply {
                status: 402,
                content_type: None,
                body,
                payment: None,
                demand: Some(view),
                notes: Vec::new(),
            });
        }
        let whole = call;
        let call = PaymentCall { body: None, ..whole.clone() };
        let asked = self.asked_for(&call, &caller).await?;
        let answered = self.ask_unpaid(&asked, &call, &progress).await?;
        let view = DemandView { host: asked.host.clone(), ..DemandView::default() };
        Ok(match answered {
            Answered::Unpaid(answer) => reply(answer, None),
            Answered::Drain(answer) => {
                let refused = Some(self.no_chat(asked.request.url().as_str(), &whole).await.message);
                reply(answer, Some(DemandView { protocol: "drain".into(), refused, ..view }))
            }
            Answered::NotPayable(answer, reasons) => {
                let protocol = reasons.first().map_or("unknown", |reason| reason.protocol.as_str());
                let refused = Some(against(&asked.host, &reasons));
                reply(answer, Some(DemandView { protocol: protocol.into(), refused, ..view }))
            }
            Answered::Offer(answer, offer) => {
                let view = self.view(&asked, &offer, &call, &caller).await?;
                reply(answer, Some(view))
            }
        })
    }

    async fn view(
        &self,
        asked: &Asked,
        offer: &Offer,
        call: &PaymentCall,
        caller: &Caller,
    ) -> Result<DemandView, Failure> {
        let limits = &caller.limits;
        // Gas of Tempo's is part of what it costs, and known when its chain was asked.
        let funds = match offer.protocol {
            Protocol::MppTempo => Ok(Usdc::ZERO),
            Protocol::Mpp | Protocol::X402V1 | Protocol::X402V2 => self.funds().await,
        };
        let (amount, asked_for, unable) = match self.order(&asked.host, offer, funds).await {
            Ok(ordered) => (ordered.order.at_most(), ordered.order.asked_for(), None),
            Err(failure) => (offer.amount, offer.amount, Some(failure.message)),
        };
        let (caps_leave, refused) = match self.purse() {
            Err(failure) => (None, Some(failure.message)),
            Ok(purse) => {
                let payee = Payee {
                    host: asked.host.clone(),
                    provider_id: asked.provider_id.clone(),
                    category: asked.category.clone(),
                    wallet: offer.payee,
                    chain_id: offer.chain_id,
                };
                let used = self.budget_use(Some(payee.key()), caller).await?;
                let wanted = NewVoucher { bound: amount, growth: amount, newcomer: used.newcomer };
                let dear = too_dear(call, limits, amount).err().map(|failure| failure.message);
                let against = purse.journal.payee_refused(payee, limits.clone(), self.services.clock.now()).await?;
                let against = against.map(|error| Failure::from(error).message);
                let over = told(may_sign(limits, &used.signed(), wanted), caller);
                let left = caps_leave(caller, &used).map(|left| left.min(limits.per_request).min(limits.per_payment));
                // In the order in which a payment is judged.
                (left, dear.or(unable).or(self.refused(caller).await?).or(against).or(over))
            }
        };
        Ok(DemandView {
            protocol: offer.protocol.as_str().into(),
            price: Some(amount),
            payee: Some(offer.payee.to_string()),
            token: Some(offer.token.to_string()),
            chain_id: Some(offer.chain_id),
            host: asked.host.clone(),
            caps_leave,
            asks_person: asked.unknown || limits.approve.needs_person(ApprovalKind::Request, asked_for),
            refused,
            worst_case: Some(worst_case(offer.protocol).into()),
        })
    }
}
