//! `drain-mcp completions`: what a shell completes.

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;
use super::exit::Exit;
use crate::error::Failure;

/// Arguments of `drain-mcp completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp completions bash > ~/.local/share/bash-completion/completions/drain-mcp
  drain-mcp completions zsh > ~/.zfunc/_drain-mcp
  drain-mcp completions fish > ~/.config/fish/completions/drain-mcp.fish")]
pub struct Args {
    /// For which shell
    #[arg(value_enum)]
    pub shell: Shell,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "drain-mcp", &mut script);
    std::io::Write::write_all(&mut std::io::stdout(), &script)
        .map_err(|e| Failure::internal(format!("stdout cannot be written: {e}")))?;
    Ok(Exit::Ok)
}
