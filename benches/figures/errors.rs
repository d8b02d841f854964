//! One error for everything: a figure that cannot be measured says why, and the others go on.

/// Anything that went wrong, as text.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The result of every step.
pub type Result<T> = std::result::Result<T, Error>;
