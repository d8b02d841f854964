//! How a backend tells the person beside it what to do: plug in, unlock, confirm.

use std::fmt;
use std::sync::Arc;

/// Where a backend's requests to a person go. Cheap to clone; texts hold nothing secret (M12).
#[derive(Clone, Default)]
pub struct Prompt(Option<Arc<Show>>);

type Show = dyn Fn(&str) + Send + Sync;

impl Prompt {
    /// Nobody reads.
    pub const fn nobody() -> Self {
        Self(None)
    }

    /// Each text goes to `show`, which must not block.
    pub fn new(show: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(show)))
    }

    /// Says what the backend waits for.
    pub fn show(&self, text: &str) {
        if let Some(show) = &self.0 {
            show(text);
        }
    }
}

impl fmt::Debug for Prompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Prompt(somebody)" } else { "Prompt(nobody)" })
    }
}
