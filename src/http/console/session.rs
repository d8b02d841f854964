//! Who looks at the console: whoever showed the operator's token, by a cookie that no script reads, for half a day.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::header::COOKIE;
use axum::http::{HeaderMap, HeaderValue};

use crate::agents::token::{Token, TokenHash};
use crate::policy::RequestId;

const LIFE: Duration = Duration::from_secs(12 * 3_600);
/// Sessions at once; the oldest one ends for the next.
const MOST: usize = 32;

/// How the operator shows who it is.
pub struct Key {
    hash: TokenHash,
    /// It counts once.
    once: bool,
}

impl Key {
    /// The operator's token, as often as it is shown.
    pub fn always(token: &str) -> Self {
        Self { hash: TokenHash::of(token), once: false }
    }

    /// A token that opens one session.
    pub fn once(token: &Token) -> Self {
        Self { hash: token.hash(), once: true }
    }
}

/// All sessions, and what opens one.
pub(super) struct Sessions {
    key: Mutex<Option<Key>>,
    /// The cookie's: consoles on other ports of this machine have other ones, and cookies know no ports.
    name: String,
    /// By the hash of the cookie, the oldest first. Few, and compared in constant time.
    open: Mutex<Vec<(TokenHash, Instant)>>,
}

impl Sessions {
    pub(super) fn new(key: Key) -> Self {
        let name = format!("drain-console-{}", RequestId::new());
        Self { key: Mutex::new(Some(key)), name, open: Mutex::default() }
    }

    fn open(&self) -> MutexGuard<'_, Vec<(TokenHash, Instant)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a session where this is the operator's token: the cookie for it. Over TLS, or on this machine.
    pub(super) fn login(&self, shown: &str, here: bool) -> Option<HeaderValue> {
        let mut key = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        let known = key.as_ref().filter(|key| key.hash == TokenHash::of(shown))?;
        if known.once {
            *key = None;
        }
        drop(key);
        let session = Token::new();
        let mut open = self.open();
        open.retain(|(_, since)| since.elapsed() < LIFE);
        if open.len() >= MOST {
            open.remove(0);
        }
        open.push((session.hash(), Instant::now()));
        drop(open);
        // A browser sends a secure cookie over plain HTTP to its own machine only.
        let secure = if here { "" } else { "; Secure" };
        let life = LIFE.as_secs();
        let text = format!(
            "{}={}; HttpOnly; SameSite=Strict; Path=/console; Max-Age={life}{secure}",
            self.name,
            session.expose()
        );
        HeaderValue::from_str(&text).ok().map(|mut value| {
            value.set_sensitive(true);
            value
        })
    }

    /// Whether the cookie is that of an open session.
    pub(super) fn is_open(&self, headers: &HeaderMap) -> bool {
        let Some(shown) = self.shown(headers) else { return false };
        self.open().iter().any(|(id, since)| *id == shown && since.elapsed() < LIFE)
    }

    fn shown(&self, headers: &HeaderMap) -> Option<TokenHash> {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(name, _)| *name == self.name).map(|(_, value)| TokenHash::of(value))
    }

    pub(super) fn end(&self, headers: &HeaderMap) {
        if let Some(id) = self.shown(headers) {
            self.open().retain(|(open, _)| *open != id);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn with(cookie: &HeaderValue) -> HeaderMap {
        let pair = cookie.to_str().unwrap().split(';').next().unwrap();
        HeaderMap::from_iter([(COOKIE, format!("other=1; {pair}").parse().unwrap())])
    }

    #[test]
    fn m5_only_the_operators_token_opens_a_session() {
        let sessions = Sessions::new(Key::always("the-operators-token"));
        assert!(sessions.login("another-token", true).is_none() && sessions.login("", true).is_none());
        let cookie = sessions.login("the-operators-token", true).unwrap();
        assert!(sessions.is_open(&with(&cookie)) && !sessions.is_open(&HeaderMap::new()));
        let text = cookie.to_str().unwrap();
        assert!(text.contains("HttpOnly") && text.contains("SameSite=Strict") && !text.contains("Secure"), "{text}");
        assert!(sessions.login("the-operators-token", false).unwrap().to_str().unwrap().contains("Secure"));
        sessions.end(&with(&cookie));
        assert!(!sessions.is_open(&with(&cookie)));
    }

    #[test]
    fn m5_a_token_for_once_opens_one_session() {
        let token = Token::new();
        let sessions = Sessions::new(Key::once(&token));
        let cookie = sessions.login(token.expose(), true).unwrap();
        assert!(sessions.login(token.expose(), true).is_none() && sessions.is_open(&with(&cookie)));
    }

    #[test]
    fn the_oldest_session_ends_for_the_next() {
        let sessions = Sessions::new(Key::always("the-operators-token"));
        let first = sessions.login("the-operators-token", true).unwrap();
        for _ in 0..MOST {
            sessions.login("the-operators-token", true).unwrap();
        }
        assert!(!sessions.is_open(&with(&first)));
        assert_eq!(sessions.open().len(), MOST);
    }
}
