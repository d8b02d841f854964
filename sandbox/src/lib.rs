//! A DRAIN marketplace on loopback, for demos and tests: a development chain with the contracts, a directory and
//! providers, all of which can be told to misbehave. Play money only: keys are public test keys.

pub mod chain;
pub mod contracts;
pub mod provider;
