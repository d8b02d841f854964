//! Who calls: a bearer token, and no more tries than a person would need.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};

use super::fleet::{Member, Unknown};
use super::{Refusal, Shared, guard};
use crate::agents::token::TokenHash;

/// Failures of one address within a window before it is told to wait.
const FAILURES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are remembered.
const ADDRESSES: usize = 4_096;
/// A longer token is none of ours.
const LONGEST: usize = 512;

/// Headers by which a proxy says that it passes on what somebody else asked.
const FORWARDED: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];

/// Whose token a request shows. All that can be wrong with it is answered alike.
///
/// A right token is let through however often its address failed before: behind a proxy all agents have one address, and
/// one of them must not shut the others out. Nobody finds a token of 256 random bits by trying, so what is limited is the
/// noise: who fails too often is answered 429, and that is logged once.
pub(super) fn agent(shared: &Shared, peer: IpAddr, headers: &HeaderMap) -> Result<Arc<Member>, Refusal> {
    let shown = bearer(headers).unwrap_or_default();
    match shared.fleet.whose(&TokenHash::of(shown)) {
        Ok(member) => Ok(member),
        Err(Unknown::Nobody) => Err(shared.failures.failed(peer)),
        Err(Unknown::Unusable(text)) => {
            Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text).again_in(Duration::from_secs(10)))
        }
    }
}

/// Metrics hold what was spent: they are for whoever shows their token, or without one for this machine alone. What a proxy
/// passes on is not of this machine.
pub(super) fn may_see_metrics(shared: &Shared, peer: IpAddr, request: &Request) -> Result<(), Refusal> {
    let headers = request.headers();
    let Some(token) = &shared.settings.metrics_token else {
        shared.guard.check(request.uri(), headers)?;
        let passed_on = FORWARDED.iter().any(|name| headers.contains_key(*name));
        if is_here(peer) && guard::means_here(request.uri(), headers) && !passed_on {
            return Ok(());
        }
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "Metrics are shown to this machine only, by its own address; DRAIN_METRICS_TOKEN lets others see them.",
        ));
    };
    match bearer(headers) {
        // By their hashes: two that differ in length take as long.
        Some(shown) if TokenHash::of(shown) == TokenHash::of(token.expose()) => Ok(()),
        _ => Err(shared.failures.failed(peer)),
    }
}

fn is_here(peer: IpAddr) -> bool {
    peer.to_canonical().is_loopback()
}

/// The token of the one Authorization header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.len() <= LONGEST).then_some(token)
}

/// Who failed, how often, since when. Bounded.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<HashMap<IpAddr, (Instant, u32)>>);

impl Failures {
    /// One more: what it is answered.
    pub(super) fn failed(&self, peer: IpAddr) -> Refusal {
        let (now, peer) = (Instant::now(), network(peer));
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !table.contains_key(&peer) && table.len() >= ADDRESSES {
            table.retain(|_, (since, _)| now.duration_since(*since) < WINDOW);
            if table.len() >= ADDRESSES
                && let Some(oldest) = table.iter().min_by_key(|(_, (since, _))| *since).map(|(peer, _)| *peer)
            {
                table.remove(&oldest);
            }
        }
        let (since, count) = table.entry(peer).or_insert((now, 0));
        if now.duration_since(*since) >= WINDOW {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        if *count <= FAILURES {
            return Refusal::new(
                StatusCode::UNAUTHORIZED,
                "A token is needed: an agent's of drain-mcp agents add, or what this asks for.",
            );
        }
        if *count == FAILURES + 1 {
            tracing::warn!(%peer, "more than {FAILURES} requests without a right token within a minute");
        }
        let wait = WINDOW.saturating_sub(now.duration_since(*since));
        Refusal::new(StatusCode::TOO_MANY_REQUESTS, "Too many requests without a right token.").again_in(wait)
    }
}

/// A whole network of IPv6 is one customer's.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_bearer_token_is_read_and_nothing_else() {
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            bearer(&headers).map(str::to_owned)
        };
        for good in ["Bearer drain_x", "bearer drain_x", "BEARER  drain_x "] {
            assert_eq!(read(&[good]).as_deref(), Some("drain_x"), "{good}");
        }
        let long = format!("Bearer {}", "x".repeat(LONGEST + 1));
        for bad in ["", "Bearer", "Bearer ", "Basic drain_x", "drain_x", &long] {
            assert_eq!(read(&[bad]), None, "{bad}");
        }
        assert_eq!(read(&[]), None);
        assert_eq!(read(&["Bearer a", "Bearer b"]), None);
    }

    #[test]
    fn who_fails_too_often_waits_and_others_do_not() {
        let failures = Failures::default();
        let (one, other): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first: Vec<StatusCode> = (0..FAILURES).map(|_| failures.failed(one).status).collect();
        assert!(first.iter().all(|status| *status == StatusCode::UNAUTHORIZED));
        let refused = failures.failed(one);
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(refused.again_in.is_some_and(|wait| wait > Duration::from_secs(50) && wait <= WINDOW));
        assert_eq!(failures.failed("::ffff:192.0.2.1".parse().unwrap()).status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(failures.failed(other).status, StatusCode::UNAUTHORIZED);
        // The window passes.
        failures.0.lock().unwrap().get_mut(&one).unwrap().0 -= WINDOW;
        assert_eq!(failures.failed(one).status, StatusCode::UNAUTHORIZED);
        // Addresses of one network of IPv6 are one.
        for n in 0..FAILURES {
            failures.failed(format!("2001:db8::{n}").parse().unwrap());
        }
        assert_eq!(failures.failed("2001:db8::ffff".parse().unwrap()).status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(failures.failed("2001:db8:1::1".parse().unwrap()).status, StatusCode::UNAUTHORIZED);
    }

    #[test]
    fn the_table_is_bounded() {
        let failures = Failures::default();
        for n in 0..u32::try_from(ADDRESSES).unwrap() + 100 {
            failures.failed(IpAddr::from(n.to_be_bytes()));
        }
        assert_eq!(failures.0.lock().unwrap().len(), ADDRESSES);
    }
}
