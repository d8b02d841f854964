//! The actors: directory, one per channel, signer, watcher, wallet; and the runtime that starts and stops them.
//!
//! They exchange messages; none reads another's state. All run on the system's main thread; what waits (HTTP, RPC,
//! signing on a device, the journal) is spawned to the runtime's workers, so that a mailbox never blocks.

mod admin;
pub mod channel;
pub mod directory;
pub mod import;
pub mod listing;
mod local;
mod naming;
mod observer;
pub mod opening;
mod payments;
mod person;
pub mod refund;
mod reorg;
pub mod runtime;
mod services;
mod sharing;
pub mod signer;
pub mod standing;
pub mod startup;
pub mod supervisor;
mod theft;
pub mod view;
pub mod wallet;
mod watcher;

pub use runtime::Runtime;
pub use startup::{folder as wallet_folder, location as journal_location};
