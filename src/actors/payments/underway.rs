//! Payments whose request this process still has on its way: what became of those is its own to say first.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

use crate::journal::PaymentId;

/// All of a wallet's.
#[derive(Clone, Debug, Default)]
pub struct AllUnderway(Arc<watch::Sender<BTreeSet<PaymentId>>>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct Underway {
    of: AllUnderway,
    id: PaymentId,
}

impl AllUnderway {
    pub fn begin(&self, id: PaymentId) -> Underway {
        self.0.send_modify(|ids| {
            ids.insert(id);
        });
        Underway { of: self.clone(), id }
    }

    pub fn has(&self, id: PaymentId) -> bool {
        self.0.borrow().contains(&id)
    }

    /// Waits until there is none.
    pub async fn none(&self) {
        // Fails only when nobody can begin one any more.
        let _ = self.0.subscribe().wait_for(BTreeSet::is_empty).await;
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.of.0.send_modify(|ids| {
            ids.remove(&self.id);
        });
    }
}
