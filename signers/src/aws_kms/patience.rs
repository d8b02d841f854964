//! What is tried again, and for how long.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::KmsProblem;
use crate::error::SignerError;
use crate::prompt::Prompt;

/// Before the second try; doubled before each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// No request to a service ends sooner.
const SHORTEST: Duration = Duration::from_millis(5);
/// Tries without a connection: a name that does not resolve seldom does so a second later.
const CONNECTIONS: u32 = 3;

/// The time that one request has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    limit: Duration,
    deadline: Instant,
}

impl Patience {
    /// From now on.
    pub(super) fn of(limit: Duration) -> Self {
        Self { limit, deadline: Instant::now() + limit }
    }

    pub(super) const fn limit(self) -> Duration {
        self.limit
    }

    /// Whether nothing can be asked any more in what is left.
    pub(super) fn is_over(self) -> bool {
        Instant::now() + SHORTEST >= self.deadline
    }

    /// Waits for `work`, and no longer than the time that is left.
    pub(super) async fn wait<T>(self, work: impl Future<Output = T>) -> Option<T> {
        timeout_at(self.deadline, work).await.ok()
    }

    /// Asks until there is an answer, an error that time does not heal, or no time left.
    ///
    /// A request without an answer is given up after a third of the limit, so that a lost connection leaves time for a
    /// new one. Asking twice is harmless: the same digest is signed.
    pub(super) async fn insist<T, F>(self, prompt: &Prompt, mut ask: impl FnMut() -> F) -> Result<T, SignerError>
    where
        F: Future<Output = Result<T, SignerError>>,
    {
        let mut last = None;
        let mut pause = FIRST_PAUSE;
        let mut unconnected = 0;
        loop {
            let until = self.deadline.min(Instant::now() + (self.limit / 3).max(Duration::from_secs(1)));
            match timeout_at(until, ask()).await {
                Ok(Err(SignerError::Service(problem))) if heals(&problem) => {
                    unconnected += u32::from(matches!(problem, KmsProblem::Unreachable { .. }));
                    last = Some(problem);
                }
                Ok(answer) => return answer,
                // What came before says more than that time is over.
                Err(_) => last = last.or(Some(KmsProblem::TimedOut { waited: self.limit })),
            }
            let pausing = jittered(pause);
            if unconnected >= CONNECTIONS || Instant::now() + pausing >= self.deadline {
                let over = KmsProblem::TimedOut { waited: self.limit };
                return Err(last.unwrap_or(over).into());
            }
            if pause == FIRST_PAUSE {
                prompt.show("AWS KMS did not sign at the first try; trying again");
            }
            sleep(pausing).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Whether another try may have another end.
const fn heals(problem: &KmsProblem) -> bool {
    matches!(problem, KmsProblem::Throttled { .. } | KmsProblem::Failing { .. } | KmsProblem::Unreachable { .. })
}

/// Between half of the pause and all of it, so that many waiting requests do not come back together.
fn jittered(pause: Duration) -> Duration {
    // Without randomness all wait the whole pause: slower, nothing worse.
    let random = getrandom::u32().unwrap_or(u32::MAX);
    pause / 2 + (pause / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}
