//! The tools: upstream's names and arguments, one file each.

pub mod approve;
pub mod balance;
pub mod budget;
pub mod channel_status;
pub mod channels;
pub mod chat;
pub mod close_channel;
pub mod cooperative_close;
pub mod feedback;
#[cfg(feature = "mpp")]
pub mod mpp_chat;
#[cfg(feature = "mpp")]
pub mod mpp_request;
pub mod open_channel;
pub mod pay_request;
pub mod provider_info;
pub mod providers;
pub mod quote;

#[cfg(test)]
pub(super) mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use drain_protocol::text::one_line;
use rmcp::model::{ErrorData, JsonObject, Tool, ToolAnnotations};

use super::answer::Answer;
use super::args::{Args, Param, input_schema, nearest};
use crate::actors::Runtime;
use crate::api::{Effect, Progress};
use crate::config::Toolset;
use crate::error::Failure;

/// A call that runs.
pub type Running = Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send>>;

/// One tool.
pub struct Definition {
    /// Its name, as upstream spells it.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// For the model: when to use it and what it costs.
    pub about: &'static str,
    /// What a client may assume.
    pub hints: Hints,
    /// What it does to the world, and so what is told where nobody answers.
    pub effect: Effect,
    /// Its arguments.
    pub params: &'static [Param],
    /// The schema of its structured content.
    pub output: fn() -> JsonObject,
    /// Does it.
    pub run: fn(Runtime, Args, Progress) -> Running,
}

impl std::fmt::Debug for Definition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Definition").field(&self.name).finish()
    }
}

/// The four hints of the protocol. All of them are always sent.
#[derive(Clone, Copy, Debug)]
pub struct Hints {
    /// Changes nothing.
    pub read_only: bool,
    /// What it does cannot be undone: money is spent or locked, a channel ends.
    pub destructive: bool,
    /// The same call again does nothing more.
    pub idempotent: bool,
    /// Speaks to others: providers, the marketplace, the chain.
    pub open_world: bool,
}

impl Hints {
    /// Looks, changes nothing.
    pub const READ: Self = Self { read_only: true, destructive: false, idempotent: true, open_world: true };
}

/// In the order in which a session uses them.
pub(super) static ALL: &[&Definition] = &[
    &providers::TOOL,
    &provider_info::TOOL,
    &quote::TOOL,
    &balance::TOOL,
    &budget::TOOL,
    &approve::TOOL,
    &open_channel::TOOL,
    &chat::TOOL,
    #[cfg(any(feature = "mpp", feature = "x402"))]
    &pay_request::TOOL,
    #[cfg(feature = "mpp")]
    &mpp_chat::TOOL,
    #[cfg(feature = "mpp")]
    &mpp_request::TOOL,
    &channel_status::TOOL,
    &channels::TOOL,
    &cooperative_close::TOOL,
    &close_channel::TOOL,
    &feedback::TOOL,
];

/// The tools of a set, as a client sees them.
pub fn listed(set: Toolset) -> Vec<Tool> {
    ALL.iter().filter(|tool| tool.set() <= set).map(|tool| tool.listed()).collect()
}

/// The tool of a name, where the set has it.
pub fn offered(name: &str, set: Toolset) -> Result<&'static Definition, ErrorData> {
    let tool = find(name).ok_or_else(|| unknown(name, set))?;
    if tool.set() > set {
        let message = format!(
            "{name} is not offered here: the operator gave this client the tools \"{set}\" only (DRAIN_TOOLS). No tool changes that."
        );
        return Err(ErrorData::invalid_params(message, None));
    }
    Ok(tool)
}

/// The tool of a name.
pub fn find(name: &str) -> Option<&'static Definition> {
    ALL.iter().find(|tool| tool.name == name).copied()
}

/// No such tool.
fn unknown(name: &str, set: Toolset) -> ErrorData {
    let shown = one_line(name, 60);
    let message = if name.starts_with("mpp_") && cfg!(not(feature = "mpp")) {
        format!("There is no tool {shown}; a drain-mcp that is built with --features mpp has it.")
    } else if let Some(near) = nearest(names(set), name) {
        format!("There is no tool {shown}; {near} is meant?")
    } else {
        let names: Vec<&str> = names(set).collect();
        format!("There is no tool {shown}; there are {}.", names.join(", "))
    };
    ErrorData::invalid_params(message, None)
}

fn names(set: Toolset) -> impl Iterator<Item = &'static str> {
    ALL.iter().filter(move |tool| tool.set() <= set).map(|tool| tool.name)
}

impl Definition {
    /// The smallest set that has it. Opening raises the allowance by itself, and a word on a provider is no payment.
    pub(super) fn set(&self) -> Toolset {
        match self.name {
            "drain_approve" | "drain_feedback" => Toolset::All,
            _ if self.hints.read_only => Toolset::Read,
            _ => Toolset::Pay,
        }
    }

    fn listed(&self) -> Tool {
        let hints = self.hints;
        let annotations = ToolAnnotations::from_raw(
            None,
            Some(hints.read_only),
            Some(hints.destructive),
            Some(hints.idempotent),
            Some(hints.open_world),
        );
        Tool::new(self.name, self.about, Arc::new(input_schema(self.params)))
            .with_title(self.title)
            .with_annotations(annotations)
            .with_raw_output_schema(Arc::new((self.output)()))
    }
}
