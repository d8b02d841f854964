//! How long answers of a model are: lowers the max_tokens that is sent when the caller names none.
//!
//! A shorter max_tokens makes a tighter bound, and so less overhang. The bound itself is always price times what is
//! sent (design section 4); learning never touches it.

/// Answers seen before anything is learned.
const ENOUGH: u32 = 8;
/// Room above the longest answer seen.
const ROOM: u32 = 4;
/// Never below this.
const LEAST: u32 = 256;

/// What was seen of one model's answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnswerLength {
    seen: u32,
    longest: u32,
}

impl AnswerLength {
    /// Takes an answer of `tokens` into account. An answer that was cut (`cut`) unlearns everything.
    pub fn observe(&mut self, tokens: u64, cut: bool) {
        if cut {
            *self = Self::default();
            return;
        }
        self.seen = self.seen.saturating_add(1);
        self.longest = self.longest.max(u32::try_from(tokens).unwrap_or(u32::MAX));
    }

    /// The max_tokens to send when the caller names none; at most `default`.
    pub fn suggest(&self, default: u32) -> u32 {
        if self.seen < ENOUGH { default } else { self.longest.saturating_mul(ROOM).max(LEAST).min(default) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learns_slowly_and_unlearns_at_once() {
        let mut length = AnswerLength::default();
        for _ in 0..7 {
            length.observe(60, false);
        }
        assert_eq!(length.suggest(1_024), 1_024);
        length.observe(60, false);
        assert_eq!(length.suggest(1_024), 256);
        length.observe(200, false);
        assert_eq!(length.suggest(1_024), 800);
        length.observe(800, true);
        assert_eq!(length.suggest(1_024), 1_024);
        length.observe(u64::MAX, false);
    }
}
