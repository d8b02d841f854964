//! Streamed answers: chunks, [DONE], then the cost in comment lines (protocol.md section 5.5).

use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::provider::Shared;
use crate::provider::chat::{Order, cost};
use crate::provider::faults::Usage;
use crate::provider::model::estimate;
use crate::provider::validate::Accepted;

type Line = Result<Bytes, io::Error>;

/// Characters per chunk: about three tokens.
const CHUNK: usize = 12;

/// Starts the stream. A task of its own writes it, so that it is billed even when nobody reads it to the end.
pub(crate) fn respond(shared: &Arc<Shared>, order: Order, accepted: Accepted, ticket: Option<usize>) -> Response {
    let (lines, received) = unbounded_channel::<Line>();
    let channel = accepted.key.clone();
    let shared = Arc::clone(shared);
    tokio::spawn(async move { write(&shared, &order, &accepted, ticket, &lines).await });
    let body = Body::from_stream(stream::unfold(received, |mut received| async move {
        received.recv().await.map(|line| (line, received))
    }));
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream".to_owned()),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (header::HeaderName::from_static("x-drain-channel"), channel),
    ];
    (headers, body).into_response()
}

async fn write(
    shared: &Shared,
    order: &Order,
    accepted: &Accepted,
    ticket: Option<usize>,
    lines: &UnboundedSender<Line>,
) {
    // A consumer that has gone does not stop the provider: a failed send is no reason to end.
    let send = |text: String| {
        let _ = lines.send(Ok(text.into()));
    };
    let faults = shared.faults();
    let answer = shared.text(order);
    let (id, created) = shared.next_completion();
    let chunk = |delta: Value, finish: Option<&str>| {
        json!({"id": id, "object": "chat.completion.chunk", "created": created, "model": order.model.id,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
    };
    let (cut, broken) = shared.with_faults(|faults| (faults.cut_stream.take(), faults.stream_error.take()));
    let stalled = shared.with_faults(|faults| faults.stall_stream.take());
    send(event(&chunk(json!({"role": "assistant", "content": ""}), None)));
    let characters: Vec<char> = answer.text.chars().collect();
    let parts: Vec<&[char]> = characters.chunks(CHUNK).collect();
    let whole = if cut || broken || stalled { parts.len() / 2 } else { parts.len() };
    for (number, part) in parts.iter().take(whole).enumerate() {
        if let Some(held) = faults.hold_stream.as_ref().filter(|_| number == parts.len() / 2) {
            held.notified().await;
        }
        if let Some(pause) = faults.chunk_delay {
            tokio::time::sleep(pause).await;
        }
        send(event(&chunk(json!({"content": part.iter().collect::<String>()}), None)));
    }
    if stalled {
        shared.fail(accepted, ticket, "stream stalled");
        lines.closed().await;
        return;
    }
    if cut {
        shared.fail(accepted, ticket, "stream cut");
        let _ = lines.send(Err(io::ErrorKind::ConnectionReset.into()));
        return;
    }
    if broken {
        shared.fail(accepted, ticket, "stream error");
        send("data: {\"error\": \"upstream failed\"}\n\n".into());
        return;
    }
    send(event(&chunk(json!({}), Some(answer.finish))));
    // Providers see no usage in the chunks and estimate; no check afterwards, so the cost may pass the voucher.
    let estimated = Usage { prompt: estimate(&order.messages.to_string()), completion: estimate(&answer.text) };
    let mut usage = match faults.fixed_usage {
        Some(usage) => usage,
        None if faults.stream_usage => answer.usage,
        None => estimated,
    };
    usage.prompt = usage.prompt.saturating_mul(faults.inflated_usage.max(1));
    usage.completion = usage.completion.saturating_mul(faults.inflated_usage.max(1));
    if faults.stream_usage {
        send(event(&json!({"id": id, "object": "chat.completion.chunk", "created": created, "model": order.model.id,
            "choices": [], "usage": {"prompt_tokens": usage.prompt, "completion_tokens": usage.completion,
            "total_tokens": usage.prompt.saturating_add(usage.completion)}})));
    }
    let cost = cost(&order.model, usage, &faults).saturating_add(faults.overcharge);
    let figures = shared.bill(accepted, cost);
    shared.close_ticket(ticket, &format!("billed {cost}"));
    send("data: [DONE]\n\n".into());
    if !shared.with_faults(|faults| faults.no_trailer.take()) {
        send(figures.trailer());
    }
}

fn event(value: &Value) -> String {
    format!("data: {value}\n\n")
}
