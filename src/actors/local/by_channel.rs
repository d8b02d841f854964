//! Requests whose server is paid by payment channels (DRAIN): where one is the chat of a listed provider, it is paid as such.

use drain_protocol::chat::parse_messages;
use drain_protocol::directory::{Listing, ListingProtocol};
use drain_protocol::text::quoted;
use reqwest::Url;
use serde::Deserialize;
use serde_json::{Number, Value};

use super::Local;
use crate::actors::channel::Once;
use crate::api::{
    Body, ChatCall, ChatReply, DemandView, PayFrom, Payment, PaymentCall, PaymentReply, Progress, ProviderWish,
    QuoteCall, QuoteInput, Target,
};
use crate::error::{Code, Failure};
use crate::http_client::host_and_port;
use crate::policy::Caller;
use crate::provider::CHAT_PATH;

const WORST_CASE: &str = "the price, which is the most that the request can cost, out of a channel's deposit; the answer may fail all the same";

/// A chat, as providers take it. What else a body may hold is not passed on, and so it is refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Chat {
    model: String,
    messages: Value,
    max_tokens: Option<u32>,
    temperature: Option<Number>,
    stream: Option<bool>,
}

impl Local {
    /// Pays for a request that is the chat of a listed provider from its channel.
    pub(super) async fn pay_by_channel(
        &self,
        chat: ChatCall,
        listing: &Listing,
        once: Option<Once>,
        caller: Caller,
        progress: Progress,
    ) -> Result<PaymentReply, Failure> {
        let paid = self.pay(chat, once, caller.clone(), progress).await;
        let reply = paid.map_err(|failure| match failure.code {
            // A request by its URL has no argument for it.
            Code::ChannelNeeded => {
                let id = quoted(&listing.id, 80);
                let next = format!("Open one with drain_open_channel and provider {id}, then call again. Or use drain_chat with maxDeposit.");
                Failure { next, ..failure }
            }
            _ => failure,
        })?;
        Ok(self.answer_of_chat(reply, &caller).await)
    }

    /// The same answer as one of a request.
    pub(super) async fn answer_of_chat(&self, reply: ChatReply, caller: &Caller) -> PaymentReply {
        let content_type = Some("application/json".to_owned());
        let paid = match reply {
            ChatReply::Paid(paid) => paid,
            ChatReply::ReadFirst { docs } => {
                let note = "nothing was paid: these are the provider's instructions; call again with a request that follows them";
                let (status, body) = (402, Body::Text(docs));
                return PaymentReply {
                    status,
                    content_type: None,
                    body,
                    payment: None,
                    demand: None,
                    notes: vec![note.into()],
                };
            }
        };
        let channel = paid.channel.channel_id.unwrap_or_default();
        let record = match channel.parse() {
            Ok(id) => self.record(id, caller).await.ok(),
            Err(_) => None,
        };
        let (payee, host) = record.map_or_else(Default::default, |record| {
            let url = record.api_url.parse::<Url>().ok();
            (record.provider_wallet.to_string(), url.map(|url| host_and_port(&url)).unwrap_or_default())
        });
        let mut notes = paid.notes;
        notes.push(format!("paid from the channel {channel}"));
        let payment = Payment {
            receipt: paid.receipt,
            protocol: "drain".into(),
            state: "paid".into(),
            amount: paid.cost,
            payee,
            host,
            chain_id: self.services.config.chain.chain_id,
            transaction: None,
            spent_today: paid.spent_today,
        };
        let body = Body::Text(paid.raw.to_string());
        PaymentReply { status: 200, content_type, body, payment: Some(payment), demand: None, notes }
    }

    /// What the chat of a listed provider would cost; `None` where a request is none.
    pub(super) async fn view_by_channel(
        &self,
        call: &PaymentCall,
        caller: &Caller,
    ) -> Result<Option<DemandView>, Failure> {
        let Target::Url(url) = &call.target else { return Ok(None) };
        let Ok((chat, listing)) = self.as_chat(url, call).await else { return Ok(None) };
        let ChatCall { from, model, messages, max_tokens, max_cost, .. } = chat;
        let quote = QuoteCall { from, model, input: QuoteInput::Messages(messages), max_tokens, max_cost };
        let quote = self.quote(quote, caller).await?;
        Ok(Some(DemandView {
            protocol: "drain".into(),
            price: Some(quote.at_most),
            payee: Some(listing.provider_address.to_string()),
            token: Some(self.asset()?.token.to_string()),
            chain_id: Some(self.services.config.chain.chain_id),
            host: url.parse::<Url>().map(|url| host_and_port(&url)).unwrap_or_default(),
            caps_leave: quote.caps_leave,
            asks_person: quote.asks_person,
            refused: quote.refused,
            worst_case: Some(WORST_CASE.into()),
        }))
    }

    /// Why a request whose server wants to be paid from a channel is not paid so.
    pub(super) async fn no_chat(&self, url: &str, call: &PaymentCall) -> Failure {
        // Listed since it was looked at before.
        let listed = || Failure::unspent(Code::NotPayable, BY_CHANNEL, "Call again.");
        self.as_chat(url, call).await.map_or_else(|failure| failure, |_| listed())
    }

    /// The chat that a request is, and with whom.
    pub(super) async fn as_chat(&self, url: &str, call: &PaymentCall) -> Result<(ChatCall, Listing), Failure> {
        let url = url.parse::<Url>().map_err(|_| Failure::argument("url", "it is no URL"))?;
        let host = quoted(&host_and_port(&url), 100);
        let mut all = self.chats_at(&url).await?;
        let (Some(listing), true) = (all.pop(), all.is_empty()) else {
            let what = if all.is_empty() { "no listed provider's chat is" } else { "several listed providers are" };
            return Err(Failure::unspent(
                Code::NotPayable,
                format!("{host}: {BY_CHANNEL}, and {what} at this URL"),
                "Find it with drain_providers and use drain_chat. A person can list one in the configuration.",
            ));
        };
        let use_chat = |what: String| {
            let next = format!("Use drain_chat with provider {}.", quoted(&listing.id, 80));
            Failure::unspent(Code::NotPayable, format!("{host}: {BY_CHANNEL}, and {what}"), next)
        };
        if call.mpp_only {
            return Err(use_chat("only MPP was asked for".into()));
        }
        if call.method != "POST" {
            return Err(use_chat("only a chat that is sent by POST is paid so".into()));
        }
        let body = call.body.as_deref().unwrap_or_default();
        let chat: Chat = serde_json::from_str(body)
            .map_err(|error| use_chat(format!("the body is no chat that can be passed on ({error})")))?;
        if chat.stream == Some(true) {
            return Err(use_chat("its answer is not streamed here".into()));
        }
        let longest = self.services.config.requests.max_request_bytes;
        let messages = parse_messages(&chat.messages, longest).map_err(|why| use_chat(format!("messages: {why}")))?;
        let wish = ProviderWish { provider: listing.id.clone(), max_deposit: None, duration: None };
        let chat = ChatCall {
            from: PayFrom::Provider(wish),
            model: chat.model,
            messages,
            max_tokens: chat.max_tokens,
            temperature: chat.temperature,
            max_cost: call.max_cost,
            request_id: None,
        };
        Ok((chat, listing))
    }

    /// The listed providers whose chat is at exactly this URL. The directory is asked for what may be one alone.
    async fn chats_at(&self, url: &Url) -> Result<Vec<Listing>, Failure> {
        if !url.path().ends_with(CHAT_PATH) {
            return Ok(Vec::new());
        }
        let known = self.catalogue().await?;
        let at = |listing: &&Listing| {
            let chat = format!("{}{CHAT_PATH}", listing.api_url.trim_end_matches('/')).parse::<Url>();
            listing.protocol == ListingProtocol::Drain && chat.is_ok_and(|chat| chat == *url)
        };
        Ok(known.catalogue.listings.iter().filter(at).cloned().collect())
    }
}

const BY_CHANNEL: &str = "it is paid by payment channels (DRAIN)";
