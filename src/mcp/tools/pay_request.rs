//! `pay_request`: any request whose server wants to be paid for it by HTTP 402.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Definition, Hints};
use crate::actors::Runtime;
use crate::api::{Body, DemandView, Effect, Payment, PaymentCall, PaymentReply, Progress, Target};
use crate::error::Failure;
use crate::mcp::answer::Answer;
use crate::mcp::args::{Args, Kind, Param};
use crate::mcp::media::{MAX_SHOWN, pieces, uri};
use crate::mcp::{render, schema};
use drain_protocol::text::untrusted;

/// What servers take.
pub(super) const METHODS: &[&str] = &["GET", "POST", "PUT", "PATCH", "DELETE"];

/// The tool.
pub const TOOL: Definition = Definition {
    name: "pay_request",
    title: "Paid request",
    about: "Send an HTTP request, and pay once if answered 402 (MPP, x402). A person is asked for hosts that \
            nobody listed.",
    hints: Hints { read_only: false, destructive: true, idempotent: false, open_world: true },
    effect: Effect::Pays,
    params: &[
        Param::required("url", Kind::Text, ""),
        Param::optional("method", Kind::OneOf(METHODS), ""),
        Param::optional("headers", Kind::Map, ""),
        Param::optional("body", Kind::Text, ""),
        Param::optional("maxCost", Kind::Text, ""),
        Param::optional("requestId", Kind::Text, "").or(&["idempotencyKey"]),
    ],
    output: schema::output_schema::<Reply>,
    run: |runtime, args, progress| Box::pin(run(runtime, args, progress)),
};

/// What came of a request.
#[derive(Serialize, JsonSchema)]
pub(super) struct Reply {
    /// The HTTP status.
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    /// The answer's text, or its first part.
    answer: String,
    /// The whole text is attached as this resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    whole_answer: Option<String>,
    /// None where nothing was paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    payment: Option<Payment>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

async fn run(runtime: Runtime, args: Args, progress: Progress) -> Result<Answer, Failure> {
    let call = call(&args, None)?;
    answered(runtime.pay_request(call, progress).await?, |text| text)
}

/// The request that the arguments describe.
pub(super) fn call(args: &Args, usual: Option<&'static str>) -> Result<PaymentCall, Failure> {
    let body = args.body("body")?;
    let usual = usual.unwrap_or(if body.is_some() { "POST" } else { "GET" });
    Ok(PaymentCall {
        target: Target::Url(args.url("url")?),
        method: args.one_of("method", METHODS)?.unwrap_or(usual).into(),
        headers: args.map("headers")?,
        body,
        mpp_only: false,
        max_cost: args.positive_amount("maxCost")?,
        request_id: args.request_id("requestId")?,
    })
}

/// An answer, paid for or not. `read` finds what a model wants of a text.
pub(super) fn answered(reply: PaymentReply, read: impl FnOnce(String) -> String) -> Result<Answer, Failure> {
    let PaymentReply { status, content_type, body, payment, notes, .. } = reply;
    let receipt = payment.as_ref().map_or("unpaid", |payment| &payment.receipt).to_owned();
    let body = match body {
        Body::Text(text) => read(text),
        // Shown as what it is where a client can show it.
        Body::Base64(data) => {
            let kind = content_type.as_deref().unwrap_or("application/octet-stream");
            format!("data:{};base64,{data}", kind.split(';').next().unwrap_or(kind).trim())
        }
    };
    let pieces = pieces(&body, &receipt);
    let mut text = format!("HTTP {status}\n{}", render::fence("server answer", &pieces.text, MAX_SHOWN));
    let whole_answer = pieces.truncated.then(|| uri(&receipt));
    if let Some(whole) = &whole_answer {
        text.push_str(&format!("\nThis is the first part; the whole answer is attached as {whole}."));
    }
    render::bullets(&mut text, "Note", &notes);
    let last_line = render::payment_line(payment.as_ref());
    let content_type = content_type.map(|kind| render::word(&kind, 100));
    let answer = untrusted(&pieces.text, MAX_SHOWN);
    let reply = Reply { status, content_type, answer, whole_answer, payment, notes };
    let answer = Answer::new(&reply, &["answer", "content_type", "payment.host"], text)?.ending_with(last_line);
    Ok(pieces.blocks.into_iter().fold(answer, Answer::attach))
}

/// What a request asks for, as `drain_quote` tells.
pub(super) fn quoted(reply: PaymentReply) -> Result<Answer, Failure> {
    #[derive(Serialize)]
    struct Quoted {
        request: DemandView,
    }
    let status = reply.status;
    let demand = reply.demand.unwrap_or_else(|| DemandView { protocol: "none".into(), ..DemandView::default() });
    let text = render::demand(status, &demand);
    Answer::new(&Quoted { request: demand }, &["request.host", "request.refused"], text)
}
