//! What is shown of endpoints and of what they say: no credentials (M12), no control characters, no novels (M13).

use reqwest::Url;

/// Longest text of a node that is kept.
const MAX_TEXT: usize = 200;

/// Scheme, host and an explicit port: all of an URL that is ever shown (M12).
pub(super) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or("(no host)");
    match url.port() {
        Some(port) => format!("{}://{host}:{port}", url.scheme()),
        None => format!("{}://{host}", url.scheme()),
    }
}

/// Parts of an URL that may be a key, should a node repeat them in a message.
pub(super) fn secrets_of(url: &Url) -> Vec<String> {
    let path = url.path_segments().into_iter().flatten().map(str::to_owned);
    let query = url.query_pairs().map(|(_, value)| value.into_owned());
    let user = [Some(url.username()), url.password()].into_iter().flatten().map(str::to_owned);
    path.chain(query).chain(user).filter(|part| part.len() >= 6).collect()
}

/// Takes those parts out of a text.
pub(super) fn scrub(mut text: String, secrets: &[String]) -> String {
    for secret in secrets {
        text = text.replace(secret, "***");
    }
    text
}

/// Text of a node, bounded and without control characters (M13).
pub(super) fn clean(text: &str) -> String {
    drain_protocol::text::one_line(text, MAX_TEXT)
}
