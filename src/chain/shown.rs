//! What is shown of endpoints and of what they say: no credentials (M12), no control characters, no novels (M13).

use drain_protocol::text::one_line;
use reqwest::Url;

/// Longest text of a node that is kept.
const MAX_TEXT: usize = 200;

/// Parts of an URL that may be a key, should a node repeat them in a message.
pub(super) fn secrets_of(url: &Url) -> Vec<String> {
    let path = url.path_segments().into_iter().flatten().map(str::to_owned);
    let query = url.query_pairs().map(|(_, value)| value.into_owned());
    let user = [Some(url.username()), url.password()].into_iter().flatten().map(str::to_owned);
    let mut secrets: Vec<String> = path.chain(query).chain(user).filter(|part| part.len() >= 6).collect();
    // One that holds another goes first, or its rest would stay.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets
}

/// Text of a node as it is shown: without those parts (M12), bounded, without control characters (M13). Cut last: a part of
/// a secret would not be found.
pub(super) fn clean(text: &str, secrets: &[String]) -> String {
    let line = one_line(text, usize::MAX);
    one_line(&secrets.iter().fold(line, |text, secret| text.replace(secret, "***")), MAX_TEXT)
}
