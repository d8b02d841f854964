//! The two clocks: the machine's, and the chain's as last seen by the watcher. Where the journal lies on a server, the server's
//! takes the place of the machine's: replicas count windows by one clock.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use drain_protocol::Nonce;
use tokio::sync::watch;

/// How far the machine's clock may be ahead of the chain's before windows follow the chain (M4).
const CLOCK_SLACK: u64 = 600;

/// When something is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Unix seconds by the machine's clock. For records.
    pub at: u64,
    /// Unix seconds that windows of budgets may trust: the machine's clock, where the chain does not contradict it; `None`
    /// before any block was seen (M4).
    pub windows: Option<u64>,
}

/// A block's time and when we heard of it.
#[derive(Clone, Copy, Debug)]
pub struct BlockTime {
    /// Unix seconds of the block.
    pub timestamp: u64,
    /// When it was read.
    pub seen: Instant,
}

/// Cheap to clone; every holder reads the same block time.
#[derive(Clone, Debug)]
pub struct Clock {
    block: Arc<watch::Sender<Option<BlockTime>>>,
    /// The journal's server's, in Unix seconds, and when it was heard.
    server: Arc<Mutex<Option<(u64, Instant)>>>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { block: Arc::new(watch::Sender::new(None)), server: Arc::default() }
    }
}

fn since_epoch() -> Duration {
    // A clock before 1970 is as good as none: time zero makes every expiry far away and every window the first.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// No clock that is right shows less: December 2025.
const EARLIEST: Duration = Duration::from_secs(1_764_547_200);

fn floor(since_epoch: Duration) -> Nonce {
    // It fits for 290,000 years.
    u64::try_from(since_epoch.max(EARLIEST).as_micros()).ok().and_then(Nonce::new).unwrap_or(Nonce::ZERO)
}

impl Clock {
    /// Unix seconds by the machine's clock, or by that of the journal's server. For records, never for expiry.
    pub fn now(&self) -> u64 {
        let server = *self.server.lock().unwrap_or_else(PoisonError::into_inner);
        server.map_or_else(|| since_epoch().as_secs(), |(then, heard)| then.saturating_add(heard.elapsed().as_secs()))
    }

    /// Goes by the clock of the journal's server from here on.
    pub fn follow(&self, server: u64) {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some((server, Instant::now()));
    }

    /// Now as RFC 3339, for the marketplace.
    pub fn timestamp(&self) -> String {
        humantime::format_rfc3339_millis(SystemTime::now()).to_string()
    }

    /// Now, for a decision about budgets.
    pub fn moment(&self) -> Moment {
        let at = self.now();
        Moment { at, windows: self.knows_block().then(|| at.min(self.block_time().saturating_add(CLOCK_SLACK))) }
    }

    /// Whether any block was seen yet.
    pub fn knows_block(&self) -> bool {
        self.block.borrow().is_some()
    }

    /// Waits until any block was seen.
    pub async fn first_block(&self) {
        // The sender lives in `self`.
        let _ = self.block.subscribe().wait_for(Option::is_some).await;
    }

    /// A nonce above any that a counter reached: microseconds since 1970 (design section 4).
    pub fn nonce_floor(&self) -> Nonce {
        floor(since_epoch())
    }

    /// The watcher saw a block.
    pub fn saw_block(&self, timestamp: u64) {
        self.block.send_replace(Some(BlockTime { timestamp, seen: Instant::now() }));
    }

    /// Unix seconds of the chain's clock: the last block's time plus what has passed since; the machine's clock before
    /// any block was seen.
    pub fn block_time(&self) -> u64 {
        match *self.block.borrow() {
            Some(block) => block.timestamp.saturating_add(block.seen.elapsed().as_secs()),
            None => self.now(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Replicas whose machines disagree count by one clock, and each holder of the clock hears of it.
    #[test]
    fn m4_windows_are_counted_by_the_servers_clock_where_there_is_one() {
        let clock = Clock::default();
        let (other, behind) = (clock.clone(), clock.now() - 90_000);
        clock.saw_block(behind + 3);
        assert_eq!(other.moment().windows, Some(behind + 3 + CLOCK_SLACK), "the machine's, as far as the chain agrees");
        clock.follow(behind);
        assert!((behind..behind + 5).contains(&other.now()));
        let moment = other.moment();
        assert_eq!(moment.windows, Some(moment.at));
    }

    /// A counter never gets there, whatever the machine takes the time to be.
    #[test]
    fn m2_a_nonce_from_the_clock_is_above_every_count() {
        for clock in [Duration::ZERO, Duration::from_secs(86_400), Duration::from_secs(1_800_000_000)] {
            assert!(floor(clock).get() >= 1_000_000_000_000_000, "{clock:?}");
        }
        let now = Duration::from_secs(1_800_000_000);
        assert_eq!(floor(now).get(), 1_800_000_000_000_000);
    }
}
