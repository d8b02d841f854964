//! drain-mcp: an actor-based agent runtime and MCP server for the Handshake58 marketplace.
//!
//! Agents discover providers, open USDC payment channels on Polygon, pay per request with signed vouchers and get the
//! rest back. `ARCHITECTURE.md` shows the house, the way of one paid request and where each money rule is held.

pub mod actors;
pub mod agents;
pub mod answers;
pub mod api;
pub mod chain;
pub mod child;
pub mod cli;
pub mod clock;
pub mod config;
pub mod error;
pub mod http;
pub mod http_client;
pub mod journal;
mod listener;
pub mod logging;
pub mod marketplace;
pub mod mcp;
pub mod metrics;
pub mod notify;
pub mod operator;
pub mod payment;
pub mod points;
pub mod policy;
pub mod provider;
pub mod relay;
pub mod socket;
pub mod times;
