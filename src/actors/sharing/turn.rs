//! Whose turn it is to take a wallet of a journal's server that nobody has: replicas that have fewer go first, so that wallets
//! spread over those that are there when they become free.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

/// Wallets that this process has.
static HELD: AtomicUsize = AtomicUsize::new(0);
/// Its wallets take one after another, so that each of them sees how many there are.
static TURN: Mutex<()> = Mutex::const_new(());

/// One wallet more, until it is dropped.
#[derive(Debug)]
pub(super) struct Counted(());

impl Counted {
    pub(super) fn one() -> Self {
        HELD.fetch_add(1, Ordering::SeqCst);
        Self(())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        HELD.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether others go first.
pub(super) fn waits() -> bool {
    HELD.load(Ordering::SeqCst) > 0
}

/// The turn, after a wait that is longer the more this process has. With none it has it now; with any it waits for longer than
/// one `look`, within which all others have seen that the wallet is free, and for less than two.
pub(super) async fn mine(look: Duration) -> MutexGuard<'static, ()> {
    let free = Instant::now();
    loop {
        let turn = TURN.lock().await;
        let held = u32::try_from(HELD.load(Ordering::SeqCst)).unwrap_or(u32::MAX).min(1_000);
        let wait = if held == 0 { Duration::ZERO } else { look + look * held / (held + 1) };
        let left = wait.saturating_sub(free.elapsed());
        if left.is_zero() {
            return turn;
        }
        drop(turn);
        tokio::time::sleep(left).await;
    }
}
