//! Which tools MCP clients are given: flags of `drain-mcp` without a command, and of `drain-mcp serve`.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use strum::VariantNames;

use super::Command;
use crate::config::Toolset;
use crate::error::{Code, Failure};

/// A set of tools, or which ones there are.
pub(super) fn a_set() -> impl TypedValueParser<Value = Toolset> {
    PossibleValuesParser::new(Toolset::VARIANTS).try_map(|set| set.parse())
}

/// What MCP clients are given; of the commands that serve them.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Offer {
    /// Give MCP clients these tools only: read, pay or all [default: DRAIN_TOOLS, or all]
    #[arg(long, value_name = "SET", value_parser = a_set())]
    pub tools: Option<Toolset>,
    /// The same as --tools read: nothing is paid, opened or closed
    #[arg(long, conflicts_with = "tools")]
    pub read_only: bool,
}

impl Offer {
    const fn is_said(self) -> bool {
        self.read_only || self.tools.is_some()
    }

    /// The one that counts, of what stands before and after the command. Whoever says it relies on it: nothing ignores it.
    pub(super) fn or_of(self, command: Option<&Command>) -> Result<Self, Failure> {
        let refused = |message: &str, next: &str| Err(Failure::unspent(Code::InvalidArgument, message, next));
        match command {
            Some(Command::Serve(args)) if args.offer.is_said() && self.is_said() => {
                refused("the tools are named twice, before and after the command", "Name them once.")
            }
            Some(Command::Serve(args)) if args.offer.is_said() => Ok(args.offer),
            None | Some(Command::Serve(_)) => Ok(self),
            Some(_) if self.is_said() => refused(
                "--tools and --read-only are for MCP servers: drain-mcp without a command, and drain-mcp serve",
                "Leave it away: a command does what it says and nothing else.",
            ),
            Some(_) => Ok(self),
        }
    }
}
