//! In a debug build every failure that is told is held against its row of the table, and a run of the tests records which
//! codes it saw. A release build holds none of it.

use super::Failure;

/// The variable that names a file to which a debug build adds the code of each failure that it tells.
pub const VARIABLE: &str = "DRAIN_TEST_CODES";

/// A failure is about to be told to somebody.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn told(_: &Failure) {}

/// A failure is about to be told to somebody.
#[cfg(debug_assertions)]
pub fn told(failure: &Failure) {
    use std::io::Write;

    let Failure { code, message, money, next } = failure;
    debug_assert!(
        code.fates().contains(&money.fate()) && !message.trim().is_empty() && !next.trim().is_empty(),
        "the table of errors does not know this: {failure:?}"
    );
    // Unit tests go through the whole table: they show nothing of what happens.
    if !cfg!(test)
        && let Some(path) = std::env::var_os(VARIABLE)
        && let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(path)
    {
        let _ = writeln!(file, "{}", code.as_str());
    }
}
