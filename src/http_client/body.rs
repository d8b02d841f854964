//! Reading a body within limits of size and time.

use reqwest::Response;
use reqwest::header::{CONTENT_ENCODING, HeaderMap};
use tokio::time::Instant;

use super::error::HttpError;

/// Reads the body of `response`, at most `max_bytes`, until `deadline`.
///
/// The deadline covers the whole body: a server that drips a byte per second does not outlast it. No compression is
/// built in, so what is counted is what arrives; a body that is encoded all the same is refused.
pub async fn read_bounded(mut response: Response, max_bytes: usize, deadline: Instant) -> Result<Vec<u8>, HttpError> {
    let headers = std::mem::take(response.headers_mut());
    read(response, &headers, max_bytes, deadline).await
}

pub(super) async fn read(
    mut response: Response,
    headers: &HeaderMap,
    max_bytes: usize,
    deadline: Instant,
) -> Result<Vec<u8>, HttpError> {
    let too_large = HttpError::TooLarge { limit: max_bytes };
    for encoding in headers.get_all(CONTENT_ENCODING) {
        if !encoding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity") {
            let name = String::from_utf8_lossy(encoding.as_bytes());
            return Err(HttpError::Encoding(drain_protocol::text::one_line(&name, 40)));
        }
    }
    let announced = response.content_length().unwrap_or(0);
    if announced > max_bytes as u64 {
        return Err(too_large);
    }
    let work = async {
        // What a server announces is its word: memory follows what really comes.
        let mut body = Vec::with_capacity(usize::try_from(announced).unwrap_or(0).min(64 * 1024));
        while let Some(chunk) = response.chunk().await.map_err(HttpError::from_reqwest)? {
            if chunk.len() > max_bytes.saturating_sub(body.len()) {
                return Err(too_large);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    };
    tokio::time::timeout_at(deadline, work).await.unwrap_or(Err(HttpError::Timeout { before_sent: false }))
}
