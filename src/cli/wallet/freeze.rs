//! `drain-mcp wallet freeze`: stops all paying at once, beside whatever runs. Anybody may: it only tightens (M5).

use serde_json::json;

use super::super::exit::Exit;
use super::super::session::{Needs, Session};
use crate::error::Failure;

/// Arguments of `drain-mcp wallet freeze`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp wallet freeze
  drain-mcp wallet freeze --reason \"odd bills of Sim-LLM\"

From this moment nothing is paid, opened or approved, in every process of this wallet and after restarts too. Closing goes
on. drain-mcp wallet unfreeze lifts it.")]
pub struct Args {
    /// Why, for who meets it
    #[arg(long, default_value = "the operator froze it")]
    pub reason: String,
}

pub(super) async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    let frozen = session.run(Needs::Money, async |runtime, _| runtime.freeze(&args.reason).await).await?;
    session.output.answer(&json!({ "frozen": frozen }), || match frozen {
        true => {
            "The wallet is frozen: nothing is paid, opened or approved. drain-mcp wallet unfreeze lifts that.".into()
        }
        false => "The wallet was frozen by you before.".into(),
    })?;
    Ok(Exit::Ok)
}
