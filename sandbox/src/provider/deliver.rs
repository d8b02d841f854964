//! Billing, and how a billed answer reaches the consumer, or does not.

use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use futures::{StreamExt, stream};
use serde_json::json;

use crate::provider::books::KeptVoucher;
use crate::provider::chat::{Reply, completion};
use crate::provider::model::Answer;
use crate::provider::refusal::{json_body, set};
use crate::provider::validate::Accepted;
use crate::provider::{Shared, lock};

/// The figures that go with a billed answer; `None` where a fault leaves one out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) cost: Option<String>,
    pub(crate) total: Option<String>,
    pub(crate) remaining: Option<String>,
    pub(crate) channel: String,
}

impl Figures {
    /// The headers of an answer that is not streamed.
    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        set(&mut headers, "x-drain-cost", self.cost.as_deref());
        set(&mut headers, "x-drain-total", self.total.as_deref());
        set(&mut headers, "x-drain-remaining", self.remaining.as_deref());
        set(&mut headers, "x-drain-channel", Some(&self.channel));
        headers
    }

    /// The comment lines after a stream's [DONE]: one newline each, no blank line.
    pub(crate) fn trailer(&self) -> String {
        let line = |name: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!(": {name}: {value}\n")).unwrap_or_default()
        };
        line("X-DRAIN-Cost", &self.cost)
            + &line("X-DRAIN-Total", &self.total)
            + &line("X-DRAIN-Remaining", &self.remaining)
    }
}

impl Shared {
    /// Keeps a voucher and adds a cost to the channel's page. Returns the page's total.
    pub(crate) fn keep(&self, accepted: &Accepted, cost: u64) -> u64 {
        let mut pages = self.pages();
        let page = pages.entry(accepted.key.clone()).or_default();
        page.channel = accepted.channel;
        page.consumer = accepted.record.consumer;
        page.deposit = accepted.deposit;
        page.total_charged = page.total_charged.saturating_add(cost);
        page.last_nonce = Some(accepted.nonce);
        page.vouchers.push(KeptVoucher {
            amount: accepted.amount,
            nonce: accepted.nonce,
            signature: accepted.signature.clone().into(),
            claimed: false,
        });
        page.total_charged
    }

    /// Step 9: bills, and says so.
    pub(crate) fn bill(&self, accepted: &Accepted, cost: u64) -> Figures {
        let faults = self.faults();
        // What drips goes into the books, not into the figures of this answer.
        let total = self.keep(accepted, cost.saturating_add(faults.drip)).saturating_sub(faults.drip);
        let told = if faults.double_count_totals { total.saturating_add(cost) } else { total };
        let remaining = i128::from(accepted.deposit) - i128::from(told);
        let forged = faults.forged_headers;
        let channel = accepted.key.clone();
        if forged.omit {
            return Figures { channel, ..Figures::default() };
        }
        Figures {
            cost: forged.cost.or_else(|| Some(cost.to_string())),
            total: forged.total.or_else(|| Some(told.saturating_add(faults.overcharge_total).to_string())),
            remaining: forged.remaining.or_else(|| Some(remaining.to_string())),
            channel,
        }
    }
}

/// The answer as it leaves, with the faults of its transport. It is billed already.
pub(crate) fn answer(shared: &Shared, model: &str, answer: &Answer, figures: &Figures) -> Reply {
    let headers = figures.headers();
    if shared.with_faults(|faults| faults.cut_before_answer.take()) {
        return Reply::Cut;
    }
    if shared.with_faults(|faults| faults.html_answer.take()) {
        let page = "<html><body><h1>Welcome to nginx!</h1></body></html>";
        return Reply::Answer((headers, [(header::CONTENT_TYPE, "text/html")], page).into_response());
    }
    if shared.with_faults(|faults| faults.empty_answer.take()) {
        return Reply::Answer((StatusCode::OK, headers).into_response());
    }
    if shared.with_faults(|faults| faults.endless_body.take()) {
        return Reply::Answer((headers, [(header::CONTENT_TYPE, "application/json")], endless()).into_response());
    }
    if let Some(name) = shared.faults().encoded {
        // Whoever unpacked it would meet no end of it; nobody should.
        let headers = (headers, [(header::CONTENT_ENCODING, name), (header::CONTENT_TYPE, "application/json".into())]);
        return Reply::Answer((headers.0, headers.1, vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]).into_response());
    }
    let last = lock(&shared.last_answer).clone();
    if let Some((headers, body)) = last
        && shared.with_faults(|faults| faults.replay.take())
    {
        return Reply::Answer((headers, [(header::CONTENT_TYPE, "application/json")], body).into_response());
    }
    let (id, created) = shared.next_completion();
    let mut answer = answer.clone();
    if let Some(bytes) = shared.faults().oversized_body {
        answer.text = "x".repeat(bytes);
    }
    let body = if shared.with_faults(|faults| faults.no_choices.take()) {
        json!({"id": id, "object": "chat.completion", "created": created, "model": model})
    } else {
        completion(&id, created, model, &answer)
    };
    *lock(&shared.last_answer) = Some((headers.clone(), body.to_string()));
    if let Some(pause) = shared.faults().trickle {
        let bytes = stream::iter(body.to_string().into_bytes()).then(move |byte| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, io::Error>(Bytes::from(vec![byte]))
        });
        let headers = (headers, [(header::CONTENT_TYPE, "application/json")]);
        return Reply::Answer((headers.0, headers.1, Body::from_stream(bytes)).into_response());
    }
    if shared.with_faults(|faults| faults.cut_mid_body.take()) {
        let text = body.to_string();
        let half = Bytes::copy_from_slice(text.as_bytes().get(..text.len() / 2).unwrap_or_default());
        // The head and the half must be on the wire before the reset, or there is no middle.
        let reset = stream::once(async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Err(io::Error::from(io::ErrorKind::ConnectionReset))
        });
        let parts = stream::once(async { Ok(half) }).chain(reset);
        let headers = (headers, [(header::CONTENT_TYPE, "application/json; charset=utf-8")]);
        return Reply::Answer((headers.0, headers.1, Body::from_stream(parts)).into_response());
    }
    Reply::Answer((headers, json_body(&body)).into_response())
}

/// JSON that starts well and then is blank for ever, as fast as it is read but not faster than a network.
fn endless() -> Body {
    let first =
        Bytes::from_static(br#"{"id":"sim-endless","choices":[{"index":0,"message":{"role":"assistant","content":""#);
    Body::from_stream(stream::unfold(Some(first), |first| async move {
        if let Some(first) = first {
            return Some((Ok::<_, io::Error>(first), None));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        Some((Ok(Bytes::from(vec![b' '; 64 * 1024])), None))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trailer_has_three_comment_lines_and_no_blank_one() {
        let figures = Figures {
            cost: Some("8250".into()),
            total: Some("158250".into()),
            remaining: Some("4841750".into()),
            channel: String::new(),
        };
        assert_eq!(figures.trailer(), ": X-DRAIN-Cost: 8250\n: X-DRAIN-Total: 158250\n: X-DRAIN-Remaining: 4841750\n");
        assert_eq!(Figures::default().trailer(), "");
    }
}
