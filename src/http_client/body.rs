//! Reading a body within limits of size and time.

use reqwest::Response;
use reqwest::header::CONTENT_ENCODING;
use tokio::time::Instant;

use super::error::HttpError;

/// Reads the body of `response`, at most `max_bytes`, until `deadline`.
///
/// The deadline covers the whole body: a server that drips a byte per second does not outlast it. No compression is
/// built in, so what is counted is what arrives; a body that is encoded all the same is refused.
pub async fn read_bounded(response: Response, max_bytes: usize, deadline: Instant) -> Result<Vec<u8>, HttpError> {
    match read_prefix(response, max_bytes, deadline).await {
        (body, None) => Ok(body),
        (_, Some(error)) => Err(error),
    }
}

/// Like [`read_bounded`], but keeps what came before the error: for texts, and for refusals, whose status and headers
/// count whatever becomes of the body.
pub async fn read_prefix(response: Response, max_bytes: usize, deadline: Instant) -> (Vec<u8>, Option<HttpError>) {
    read_watched(response, max_bytes, deadline, |_| {}).await
}

/// The same, and shows each part when it comes.
pub async fn read_watched(
    mut response: Response,
    max_bytes: usize,
    deadline: Instant,
    mut watch: impl FnMut(&[u8]),
) -> (Vec<u8>, Option<HttpError>) {
    for encoding in response.headers().get_all(CONTENT_ENCODING) {
        if !encoding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity") {
            let name = String::from_utf8_lossy(encoding.as_bytes());
            return (Vec::new(), Some(HttpError::Encoding(drain_protocol::text::one_line(&name, 40))));
        }
    }
    // What a server announces is its word: memory follows what really comes.
    let announced = usize::try_from(response.content_length().unwrap_or(0)).unwrap_or(usize::MAX);
    let mut body = Vec::with_capacity(announced.min(max_bytes).min(64 * 1024));
    let work = async {
        while let Some(chunk) = response.chunk().await.map_err(HttpError::from_reqwest)? {
            let room = max_bytes.saturating_sub(body.len());
            let part = chunk.get(..room).unwrap_or(&chunk);
            body.extend_from_slice(part);
            watch(part);
            if chunk.len() > room {
                return Err(HttpError::TooLarge { limit: max_bytes });
            }
        }
        Ok(())
    };
    let end = tokio::time::timeout_at(deadline, work).await;
    let error = end.unwrap_or(Err(HttpError::Timeout { before_sent: false })).err();
    (body, error)
}
