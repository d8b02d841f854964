//! Between Rust's types and SQLite's columns. A value that no version of ours writes is an error, never a default.

use std::fmt::Display;
use std::str::FromStr;

use drain_protocol::{Address, Nonce, Usdc};

use super::JournalError;
use super::db::Row;

fn corrupt(column: &str, value: impl Display) -> JournalError {
    JournalError::Corrupt(format!("{column} = {value}"))
}

pub(super) fn usdc(row: &Row<'_>, column: &str) -> Result<Usdc, JournalError> {
    let units: i64 = row.get(column)?;
    Usdc::try_from(units).map_err(|_| corrupt(column, units))
}

pub(super) fn optional_usdc(row: &Row<'_>, column: &str) -> Result<Option<Usdc>, JournalError> {
    let units: Option<i64> = row.get(column)?;
    units.map(|units| Usdc::try_from(units).map_err(|_| corrupt(column, units))).transpose()
}

pub(super) fn nonce(row: &Row<'_>, column: &str) -> Result<Nonce, JournalError> {
    Nonce::new(unsigned(row, column)?).ok_or_else(|| corrupt(column, "too large"))
}

pub(super) fn unsigned(row: &Row<'_>, column: &str) -> Result<u64, JournalError> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| corrupt(column, value))
}

pub(super) fn parsed<T: FromStr>(row: &Row<'_>, column: &str) -> Result<T, JournalError> {
    let text: String = row.get(column)?;
    text.parse().map_err(|_| corrupt(column, text))
}

pub(super) fn optional_parsed<T: FromStr>(row: &Row<'_>, column: &str) -> Result<Option<T>, JournalError> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| text.parse().map_err(|_| corrupt(column, text))).transpose()
}

/// An unsigned number for a signed column; larger than a column holds is refused.
pub(super) fn column(value: u64) -> Result<i64, JournalError> {
    i64::try_from(value).map_err(|_| JournalError::Corrupt(format!("{value} does not fit a column")))
}

/// The day of a time (UTC), counted as columns count it.
pub(super) fn day(at: u64) -> Result<i64, JournalError> {
    column(at / 86_400)
}

/// An address as columns hold it: lower case.
pub(super) fn address(address: Address) -> String {
    format!("{address:#x}")
}
