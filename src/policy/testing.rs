//! Limits for tests.

use super::limits::Limits;
use crate::config::{Config, Sources};

/// The defaults.
pub fn limits() -> Limits {
    let config = Config::load(Sources::from_pairs([("HOME", "/nonexistent")])).unwrap();
    (*config.limits).clone()
}
