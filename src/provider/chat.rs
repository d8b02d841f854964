//! The paid call: one request, one voucher, and whatever comes back put into one of three drawers: an answer, a
//! refusal, or a loss that says whether the voucher can have arrived (M15).

use drain_protocol::chat::{ChatAnswer, ChatRequest};
use drain_protocol::headers::{self, CostHeaders};
use drain_protocol::refusal::{Refusal, RefusalCode};
use drain_protocol::sse::{SseItem, SseReader};
use drain_protocol::text::one_line;
use reqwest::Url;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::client::{CHAT_PATH, ProviderClient, header_text};
use super::error::ChatError;
use crate::http_client::{self, HttpError, RequestLimits, join, post_json, read_prefix, read_watched};
use crate::points::{Point, reach};

/// Of a refusal so much is read; the code is in the headers or at the beginning.
const MAX_REFUSAL_BYTES: usize = 64 << 10;

/// What a provider did with a paid request.
#[derive(Clone, Debug, PartialEq)]
pub enum ChatOutcome {
    /// It answered.
    Answered {
        /// The answer.
        answer: Box<ChatAnswer>,
        /// What it says about the cost: a claim.
        costs: CostHeaders,
        /// How it came.
        form: Form,
    },
    /// It began a stream, and then failed and said so.
    BrokenOff {
        /// Its word.
        refusal: Refusal,
        /// The text that came before (untrusted).
        came: String,
    },
    /// It refused, or failed and says so.
    Refused(Refusal),
}

/// How an answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// At once.
    Whole,
    /// Part by part, asked for or not.
    Stream,
}

impl ProviderClient {
    /// Sends `body` with the voucher and reads the whole answer. Sent once: nothing here repeats it.
    ///
    /// `voucher_header` goes to this provider only; it is marked as sensitive and appears in no log and no error.
    pub async fn chat(
        &self,
        base: &Url,
        body: &ChatRequest,
        voucher_header: &str,
        limits: RequestLimits,
    ) -> Result<ChatOutcome, ChatError> {
        self.chat_watched(base, body, voucher_header, limits, || {}, |_| {}).await
    }

    /// The same, and tells when the head of the answer is there, and what comes of a streamed one.
    pub async fn chat_watched(
        &self,
        base: &Url,
        body: &ChatRequest,
        voucher_header: &str,
        limits: RequestLimits,
        head_is_there: impl FnOnce(),
        mut part_is_there: impl FnMut(String),
    ) -> Result<ChatOutcome, ChatError> {
        let streams = body.stream;
        let body = serde_json::to_vec(body).map_err(|_| ChatError::Unsendable("it cannot be written as JSON"))?;
        let mut voucher = HeaderValue::from_str(voucher_header)
            .map_err(|_| ChatError::Unsendable("the voucher does not fit into a header"))?;
        voucher.set_sensitive(true);
        let mut request = post_json(join(base, CHAT_PATH), body);
        request.headers_mut().insert(HeaderName::from_static(headers::VOUCHER), voucher);
        let accepted = if streams { "text/event-stream, application/json" } else { "application/json" };
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static(accepted));

        let deadline = http_client::deadline(limits.timeout);
        let sent = self.http.send(request, deadline).await;
        reach(Point::VoucherSent);
        let response = sent.map_err(|error| ChatError::Lost { error, costs: Box::default(), came: None })?;
        head_is_there();
        let (status, head) = (response.status(), response.headers().clone());
        if !status.is_success() {
            // Status and headers count whatever becomes of the body.
            let (body, _) = read_prefix(response, MAX_REFUSAL_BYTES, deadline).await;
            return Ok(ChatOutcome::Refused(Refusal::parse(status.as_u16(), header_text(&head), &body)));
        }
        // What is told on the way is a courtesy; what counts is read from the whole below.
        let mut live = is_stream(&head).then(|| SseReader::new(limits.max_bytes));
        let (body, error) = read_watched(response, limits.max_bytes, deadline, |bytes| {
            for item in live.as_mut().and_then(|live| live.push(bytes).ok()).into_iter().flatten() {
                if let SseItem::Text(text) = item {
                    part_is_there(text);
                }
            }
        })
        .await;
        read_success(status.as_u16(), &head, &body, error)
    }
}

fn read_success(
    status: u16,
    head: &HeaderMap,
    body: &[u8],
    error: Option<HttpError>,
) -> Result<ChatOutcome, ChatError> {
    let costs = CostHeaders::read(header_text(head));
    if is_stream(head) || body.starts_with(b"data:") {
        return read_stream(status, costs, body, error);
    }
    if let Some(error) = error {
        return Err(ChatError::Lost { error, costs: Box::new(costs), came: None });
    }
    match ChatAnswer::parse(body) {
        Ok(answer) => Ok(ChatOutcome::Answered { answer: Box::new(answer), costs, form: Form::Whole }),
        // It was paid for: whatever it is, it belongs to the caller.
        Err(_) if costs.cost.is_some() => {
            let text = String::from_utf8_lossy(body).into_owned();
            Ok(ChatOutcome::Answered {
                answer: Box::new(bare(text.clone(), Value::String(text))),
                costs,
                form: Form::Whole,
            })
        }
        Err(_) => {
            let excerpt = String::from_utf8_lossy(body.get(..2000).unwrap_or(body));
            Err(ChatError::Nonsense {
                status,
                content_type: content_type(head).map(|text| one_line(&text, 60)),
                excerpt: one_line(&excerpt, 120),
            })
        }
    }
}

fn content_type(head: &HeaderMap) -> Option<String> {
    head.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()).to_lowercase())
}

fn is_stream(head: &HeaderMap) -> bool {
    content_type(head).is_some_and(|text| text.starts_with("text/event-stream"))
}

/// A stream, asked for or not. It is an answer when its end came, whatever the connection did afterwards.
fn read_stream(
    status: u16,
    head: CostHeaders,
    body: &[u8],
    error: Option<HttpError>,
) -> Result<ChatOutcome, ChatError> {
    let mut reader = SseReader::new(body.len());
    let items = reader.push(body).unwrap_or_default();
    let end = reader.finish();
    // Cut within a line, a number may have lost its last digits: then it is no number.
    let costs = match (end.unterminated, end.costs.cost) {
        (true, _) => CostHeaders { garbage: true, ..head },
        (false, Some(_)) => end.costs,
        (false, None) => head,
    };
    if end.done {
        let raw = json!({
            "object": "chat.completion",
            "choices": [{
                "index": 0,
                "message": { "role": "assistant", "content": &end.text },
                "finish_reason": &end.finish_reason,
            }],
            "usage": end.usage,
        });
        let answer = ChatAnswer { finish_reason: end.finish_reason, usage: end.usage, ..bare(end.text, raw) };
        return Ok(ChatOutcome::Answered { answer: Box::new(answer), costs, form: Form::Stream });
    }
    let said = items.into_iter().find_map(|item| match item {
        SseItem::Error(said) => Some(said),
        SseItem::Text(_) | SseItem::Done => None,
    });
    match (error, said) {
        (None, Some(message)) => {
            let code = RefusalCode::Upstream("stream_error".into());
            let refusal = Refusal { status, code, required: None, provided: None, message };
            Ok(ChatOutcome::BrokenOff { refusal, came: end.text })
        }
        (error, _) => {
            let error = error.unwrap_or_else(|| HttpError::Cut("the stream stopped before its end".into()));
            Err(ChatError::Lost { error, costs: Box::new(costs), came: Some(end.text) })
        }
    }
}

fn bare(content: String, raw: Value) -> ChatAnswer {
    ChatAnswer { id: String::new(), model: String::new(), content, finish_reason: None, usage: None, raw }
}
