//! Which channels work for requests that name no channel, so that requests at once spread over those that are open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use drain_protocol::ChannelId;

/// How many requests use each channel. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Uses(Arc<Mutex<HashMap<ChannelId, usize>>>);

/// One request that uses a channel, until it is dropped.
#[derive(Debug)]
pub(super) struct Use {
    uses: Uses,
    /// The channel.
    pub id: ChannelId,
}

impl Uses {
    /// Chooses a channel by how many use each, and counts the choice: nobody chooses in between.
    pub fn choose<E>(&self, by: impl FnOnce(&HashMap<ChannelId, usize>) -> Result<ChannelId, E>) -> Result<Use, E> {
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let id = by(&users)?;
        *users.entry(id).or_default() += 1;
        Ok(Use { uses: self.clone(), id })
    }

    /// Counts one that is chosen already.
    pub fn of(&self, id: ChannelId) -> Use {
        let Ok(used) = self.choose(|_| Ok::<_, std::convert::Infallible>(id));
        used
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut users = self.uses.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = users.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                users.remove(&self.id);
            }
        }
    }
}
