//! A DRAIN marketplace on loopback, for demos and tests: a development chain with the contracts, a directory, providers
//! and a server that is paid by HTTP 402, all of which can be told to misbehave. Play money only: the keys are public
//! test keys.
//!
//! [`Sandbox::start`] brings up everything; the parts also start one by one. None of it uses the runtime, and what it
//! writes on the wire it writes with its own code, so that it can be the other side of the runtime's tests.

pub mod chain;
pub mod contracts;
pub mod directory;
pub mod ledger;
mod loopback;
pub mod marketplace;
pub mod observer;
pub mod paid;
pub mod provider;
pub mod rpc;

pub use directory::{Directory, DirectoryConfig, DirectoryFaults, Listing};
pub use ledger::LedgerPeer;
pub use marketplace::{Sandbox, SandboxConfig, SandboxError};
pub use observer::Observer;
pub use paid::{Paid, PaidConfig, PaidFaults};
pub use provider::{Faults, Provider, ProviderConfig, Times};
