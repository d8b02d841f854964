//! What is wrong with a value, and what would be right. Holds no secret and no whole URL (M12).

use drain_protocol::text::without_keys;

use crate::error::{Code, Failure};

/// A configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {problem}. {fix}")]
pub struct ConfigError {
    /// Where it was set: the variable, the key and line of the file, or the flag.
    pub name: String,
    /// What is wrong.
    pub problem: String,
    /// What is right.
    pub fix: String,
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::unspent(Code::InvalidConfig, format!("{}: {}.", error.name, error.problem), error.fix)
    }
}

/// What a parser says of a text, without knowing where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) problem: String,
    pub(super) fix: String,
}

impl Bad {
    pub(super) fn new(problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { problem: problem.into(), fix: fix.into() }
    }

    pub(super) fn at(self, name: impl Into<String>) -> ConfigError {
        ConfigError { name: name.into(), problem: without_keys(&self.problem), fix: self.fix }
    }
}

/// Outside text in quotes: bounded, without control characters.
pub(super) fn quoted(text: &str) -> String {
    // Before it is cut: a part of a key is no better.
    let text = without_keys(text);
    let mut shown: String = text.chars().filter(|c| !c.is_control()).take(60).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("\"{shown}\"")
}
