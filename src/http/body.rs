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
    read_within(ARRIVES, headers, body, most).await
}

async fn read_within(time: Duration, headers: &HeaderMap, body: Body, most: usize) -> Result<Bytes, Refusal> {
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
    tokio::time::timeout(time, whole).await.unwrap_or_else(|_| {
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
    if body.size_hint().exact().is_some() {
        // All of it is there.
        return body;
    }
    Body::from_stream(body.into_data_stream().map(move |part| {
        let _ = &held;
        part
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures::stream;

    use super::*;

    fn parts(parts: &[&'static str]) -> Body {
        Body::from_stream(stream::iter(parts.iter().map(|part| Ok::<_, std::io::Error>(*part)).collect::<Vec<_>>()))
    }

    async fn status(told: Option<&str>, body: Body) -> Result<Bytes, StatusCode> {
        let mut headers = HeaderMap::new();
        if let Some(told) = told {
            headers.insert(CONTENT_LENGTH, told.parse().unwrap());
        }
        read_within(Duration::from_millis(50), &headers, body, 8).await.map_err(|refusal| refusal.status)
    }

    #[tokio::test]
    async fn a_body_is_read_within_its_limits() {
        assert_eq!(status(Some("8"), parts(&["1234", "5678"])).await.unwrap(), "12345678");
        assert_eq!(status(None, parts(&[])).await.unwrap(), "");
        // What is told as too large is not even read.
        let never = || Body::from_stream(stream::pending::<Result<&str, std::io::Error>>());
        assert_eq!(status(Some("9"), never()).await, Err(StatusCode::PAYLOAD_TOO_LARGE));
        assert_eq!(status(None, parts(&["1234", "56789"])).await, Err(StatusCode::PAYLOAD_TOO_LARGE));
        assert_eq!(status(None, never()).await, Err(StatusCode::REQUEST_TIMEOUT));
        let broken = Body::from_stream(stream::iter([Ok("1"), Err(std::io::Error::other("gone"))]));
        assert_eq!(status(None, broken).await, Err(StatusCode::BAD_REQUEST));
    }

    #[tokio::test]
    async fn an_answer_holds_on_until_it_is_out() {
        let held = Arc::new(());
        let mut sent = holding(parts(&["1", "2"]), held.clone()).into_data_stream();
        for part in ["1", "2"] {
            assert_eq!(sent.next().await.unwrap().unwrap(), part);
            assert_eq!(Arc::strong_count(&held), 2);
        }
        drop(sent);
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
