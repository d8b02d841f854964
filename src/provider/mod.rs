//! HTTP to providers: the paid call, and the calls around it that carry no money.
//!
//! Everything here leaves through [`crate::http_client`]; nothing here decides about money. What a provider says is
//! returned as data, cleaned where people or models read it (M13).

mod chat;
mod client;
pub mod contract_choice;
mod error;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use crate::http_client::RequestLimits;
pub use chat::{ChatOutcome, Form};
pub(crate) use client::CHAT_PATH;
pub use client::{MAX_DOCS_CHARS, ProviderClient};
pub use error::{ChatError, ProviderError};
