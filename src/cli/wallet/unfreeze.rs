//! `drain-mcp wallet unfreeze`: only a person lifts a freeze (M11).

use serde_json::json;

use super::super::exit::Exit;
use super::super::output::clean;
use super::super::prompt::{Terminal, Tty, need_terminal, terminal_failed};
use super::super::session::{Needs, Session};
use crate::error::{Code, Failure};

/// Arguments of `drain-mcp wallet unfreeze`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp wallet unfreeze

A wallet freezes when a provider claims more than was ever signed here: then somebody else may have its key. Lift that
only when you know why, for example because you used the same key in another program. Otherwise close all channels with
drain-mcp refund, move the rest to a new wallet with drain-mcp wallet send, and use that one. Stop other drain-mcp
processes of this wallet first.")]
pub struct Args {}

const WORD: &str = "unfreeze";

pub(super) async fn run(session: &mut Session) -> Result<Exit, Failure> {
    need_terminal(&Tty, "Lifting a freeze")?;
    let lifted = session
        .run(Needs::Money, async |runtime, _| {
            let Some(reason) = runtime.frozen().await? else { return Ok(false) };
            // Asked on a thread of its own: the actors go on meanwhile.
            let asked = tokio::task::spawn_blocking(move || confirm(&reason, &mut Tty)).await;
            asked.map_err(|e| Failure::internal(e.to_string()))??;
            runtime.unfreeze().await
        })
        .await?;
    session.output.answer(&json!({ "lifted": lifted }), || match lifted {
        true => "The wallet pays again.".into(),
        false => "The wallet is not frozen.".into(),
    })?;
    Ok(Exit::Ok)
}

fn confirm(reason: &str, terminal: &mut dyn Terminal) -> Result<(), Failure> {
    terminal.show(&format!("The wallet is frozen: {}", clean(reason))).map_err(terminal_failed)?;
    let typed = terminal.line(&format!("Type {WORD} to let it pay again: ")).map_err(terminal_failed)?;
    if typed == WORD {
        return Ok(());
    }
    Err(Failure::unspent(Code::Cancelled, "Not confirmed; the wallet stays frozen.", "Run the command again."))
}

#[cfg(test)]
mod tests {
    use super::super::super::prompt::Script;
    use super::*;

    #[test]
    fn m11_a_person_types_the_word() {
        let mut script = Script::of([WORD]);
        confirm("somebody claimed", &mut script).unwrap();
        assert!(script.seen.contains("somebody claimed"));
        for typed in ["", "yes", "Unfreeze"] {
            assert!(confirm("", &mut Script::of([typed])).is_err());
        }
    }
}
