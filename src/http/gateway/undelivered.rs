//! Requests without a name whose answer did not reach their client, or not yet: its own time was over, or a connection broke,
//! and this side need not know of it. OpenAI's clients send such a request again by themselves, and say that they do; it is then
//! the same request, under the name that it was given here, and is not paid a second time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderName};
use drain_protocol::B256;

use crate::policy::RequestId;
use crate::policy::repeat::IdempotencyKey;

/// How often a client has sent this before.
const RETRIES: HeaderName = HeaderName::from_static("x-stainless-retry-count");
/// A client that repeats does so soon.
const SOON: Duration = Duration::from_secs(900);
/// Of all agents together; the oldest is forgotten.
const MOST: usize = 10_000;

/// What was sent: whose it is, what was asked, its name, and when it was sent last.
type Sent = (String, B256, IdempotencyKey, Instant);

/// Cheap to clone.
#[derive(Clone)]
pub(in crate::http) struct Undelivered {
    sent: Arc<Mutex<VecDeque<Sent>>>,
    kept: Duration,
}

/// A request that was given a name here; unless it is told to be delivered it counts as lost.
pub(super) struct Delivery {
    all: Undelivered,
    name: IdempotencyKey,
}

impl Undelivered {
    /// Of requests that last so long at most.
    pub(in crate::http) fn new(longest: Duration) -> Self {
        Self { sent: Arc::default(), kept: longest.saturating_add(SOON) }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Sent>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name of an agent's request that has none of its own: that of the same one before, where this is said to be a repeat
    /// of it and its answer was not delivered; else a new one.
    pub(super) fn name(&self, agent: &str, body: B256, headers: &HeaderMap) -> Option<(IdempotencyKey, Delivery)> {
        let retries = headers.get(RETRIES).and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
        let mut all = self.lock();
        all.retain(|(.., at)| at.elapsed() < self.kept);
        let known = all.iter().position(|(whose, what, ..)| whose == agent && *what == body);
        let before = known.filter(|_| retries.is_some_and(|count| count > 0)).and_then(|place| all.remove(place));
        let name = match before {
            Some((.., name, _)) => name,
            None => format!("gateway-{}", RequestId::new()).parse().ok()?,
        };
        if all.len() >= MOST {
            all.pop_front();
        }
        // Behind the others: of two that are lost each is repeated under its own name.
        all.push_back((agent.to_owned(), body, name.clone(), Instant::now()));
        Some((name.clone(), Delivery { all: self.clone(), name }))
    }
}

impl Delivery {
    /// Its answer, or why there is none, is on its way to the client.
    pub(super) fn delivered(self) {
        self.all.lock().retain(|(.., name, _)| *name != self.name);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn count(count: &str) -> HeaderMap {
        HeaderMap::from_iter([(RETRIES, count.parse().unwrap())])
    }

    #[test]
    fn m15_a_repeat_of_what_was_lost_has_the_same_name_and_nothing_else_has() {
        let all = Undelivered::new(Duration::ZERO);
        let body = B256::repeat_byte(1);
        let named = |agent: &str, body, headers: &HeaderMap| all.name(agent, body, headers).unwrap();
        let (first, lost) = named("ann", body, &count("0"));
        drop(lost);
        // Said to be no repeat, another agent's, or another request: a new name.
        for (agent, body, headers) in [
            ("ann", body, HeaderMap::new()),
            ("ann", body, count("0")),
            ("bob", body, count("1")),
            ("ann", B256::repeat_byte(2), count("1")),
        ] {
            let (name, delivery) = named(agent, body, &headers);
            assert_ne!(name, first);
            delivery.delivered();
        }
        let (again, _on_its_way) = named("ann", body, &count("1"));
        assert_eq!(again, first);
        // What is still waited for here may have been given up there.
        let (again, delivery) = named("ann", body, &count("2"));
        assert_eq!(again, first);
        delivery.delivered();
        // What was delivered is not repeated: this is another one.
        assert_ne!(named("ann", body, &count("1")).0, first);
    }

    #[test]
    fn m15_of_two_that_are_alike_each_is_repeated_under_its_own_name() {
        let all = Undelivered::new(Duration::ZERO);
        let named = |headers: &HeaderMap| all.name("ann", B256::repeat_byte(1), headers).unwrap().0;
        let sent = [named(&count("0")), named(&count("0"))];
        assert_ne!(sent[0], sent[1]);
        assert_eq!([named(&count("1")), named(&count("1"))], sent);
    }
}
