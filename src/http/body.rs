//! Bodies: what comes in within limits of size and time; what goes out keeps its call counted until it is out.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, StatusCode};
use futures::StreamExt;

use super::Refusal;

/// How long a body may take to arrive.
const ARRIVES: Duration = Duration::from_secs(30);

/// Reads a whole body.
pub(super) async fn read(headers: &HeaderMap, body: Body, most: usize) -> Result<Bytes, Refusal> {
    let told = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if told.is_some_and(|told| told > most as u64) {
        return Err(too_large(most));
    }
    let whole = async {
        let mut data = Vec::with_capacity(usize::try_from(told.unwrap_or(0)).unwrap_or(0).min(most));
        let mut parts = body.into_data_stream();
        while let Some(part) = parts.next().await {
            let part = part.map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "The body broke off.").and_close())?;
            if data.len() + part.len() > most {
                return Err(too_large(most));
            }
            data.extend_from_slice(&part);
        }
        Ok(Bytes::from(data))
    };
    tokio::time::timeout(ARRIVES, whole).await.unwrap_or_else(|_| {
        Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "The body took too long to arrive.").and_close())
    })
}

fn too_large(most: usize) -> Refusal {
    let text = format!("The body is larger than {most} bytes (DRAIN_MAX_BODY_BYTES).");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text).and_close()
}

/// An answer that holds on to something until it is sent, or not wanted any more.
pub(super) fn holding<T: Send + Sync + 'static>(
    body: impl HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + 'static,
    held: Arc<T>,
) -> Body {
    let body = Body::new(body);
    if body.is_end_stream() {
        return body;
    }
    Body::from_stream(body.into_data_stream().map(move |part| {
        let _ = &held;
        part
    }))
}
