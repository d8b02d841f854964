//! `drain-mcp approvals`: a person answers what an agent may not decide (M5).

use serde_json::json;
use zeroize::Zeroizing;

use super::exit::Exit;
use super::output::table;
use super::prompt::{Terminal, Tty, need_terminal, new_password, terminal_failed};
use super::session::{Needs, Session};
use crate::api::ApprovalView;
use crate::config::Password;
use crate::error::{Code, Failure};
use crate::operator;
use crate::policy::approvals::Verdict;

/// Arguments of `drain-mcp approvals`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp approvals               what waits for you
  drain-mcp approvals approve a3    say yes, once, to exactly that
  drain-mcp approvals deny a3
  drain-mcp approvals passphrase    set or change the passphrase that shows you to be the operator

A person is asked above DRAIN_APPROVE_REQUESTS_ABOVE and DRAIN_APPROVE_DEPOSITS_ABOVE. No answer is no.")]
pub struct Args {
    /// What to do; without it, list what waits
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What a person does.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List questions that wait, and answers that were not used yet
    #[command(after_help = "Examples:\n  drain-mcp approvals list\n  drain-mcp approvals list --json")]
    List,
    /// Say yes to one question, once (asks for the passphrase)
    #[command(after_help = "Examples:\n  drain-mcp approvals approve a3")]
    Approve {
        /// The question, such as a3
        id: String,
    },
    /// Say no to one question (asks for the passphrase)
    #[command(after_help = "Examples:\n  drain-mcp approvals deny a3")]
    Deny {
        /// The question, such as a3
        id: String,
    },
    /// Set or change the operator's passphrase
    #[command(after_help = "Examples:\n  drain-mcp approvals passphrase")]
    Passphrase,
}

pub(super) async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    match args.command {
        None | Some(Command::List) => list(session).await,
        Some(Command::Approve { id }) => decide(session, id, Verdict::Approve).await,
        Some(Command::Deny { id }) => decide(session, id, Verdict::Deny).await,
        Some(Command::Passphrase) => passphrase(session, &mut Tty),
    }
}

async fn list(session: &mut Session) -> Result<Exit, Failure> {
    let found = session.run(Needs::Wallet, async |runtime, _| runtime.approvals().await).await?;
    session.output.answer(&json!({ "approvals": found }), || match found.is_empty() {
        true => "Nothing waits for you.".into(),
        false => shown(&found),
    })?;
    Ok(Exit::Ok)
}

fn shown(found: &[ApprovalView]) -> String {
    let row = |asked: &ApprovalView| {
        [asked.id.clone(), asked.state.clone(), format!("{} min", asked.expires_in / 60), asked.what.clone()]
    };
    table(["ID", "STATE", "EXPIRES IN", "WHAT"], &found.iter().map(row).collect::<Vec<_>>())
}

async fn decide(session: &mut Session, id: String, verdict: Verdict) -> Result<Exit, Failure> {
    need_terminal(&Tty, "Answering a question")?;
    let decided = session
        .run(Needs::Wallet, async |runtime, _| {
            let asked = runtime.approvals().await?;
            let Some(asked) = asked.into_iter().find(|asked| asked.id == id.trim()) else {
                return Err(Failure::argument("id", "no such question waits; list them with drain-mcp approvals"));
            };
            // Asked on a thread of its own: the actors go on meanwhile.
            let typed = tokio::task::spawn_blocking(move || confirm(&asked, verdict, &mut Tty)).await;
            let typed = typed.map_err(|error| Failure::internal(error.to_string()))??;
            runtime.decide(&id, verdict, Password::new(&typed)).await
        })
        .await?;
    session.output.answer(&decided, || format!("{} is {} now.", decided.id, decided.state))?;
    Ok(Exit::Ok)
}

/// Shows what the answer is to, and takes the passphrase.
fn confirm(asked: &ApprovalView, verdict: Verdict, terminal: &mut dyn Terminal) -> Result<Zeroizing<String>, Failure> {
    let answer = match verdict {
        Verdict::Approve => "You say YES, once, to this:",
        Verdict::Deny => "You say NO to this:",
    };
    terminal.show(&format!("{answer}\n  {}", super::output::clean(&asked.what))).map_err(terminal_failed)?;
    let typed = terminal.secret("Operator's passphrase: ").map_err(terminal_failed)?;
    if typed.is_empty() {
        return Err(Failure::unspent(Code::Cancelled, "Nothing was answered.", "Run the command again."));
    }
    Ok(typed)
}

fn passphrase(session: &mut Session, terminal: &mut dyn Terminal) -> Result<Exit, Failure> {
    need_terminal(terminal, "The operator's passphrase")?;
    let home = session.config()?.home.clone();
    if operator::is_set(&home)? {
        let old = terminal.secret("The passphrase so far: ").map_err(terminal_failed)?;
        operator::verify(&home, &old)?;
    }
    operator::set(&home, &new_password(terminal, "New operator's passphrase")?)?;
    session.output.answer(&json!({ "set": true }), || "The operator's passphrase is set.".into())?;
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::super::prompt::Script;
    use super::*;
    use drain_protocol::Usdc;

    fn asked() -> ApprovalView {
        ApprovalView {
            id: "a3".into(),
            kind: "request".into(),
            what: "agent ann pays P\u{1b}[2J at most 0.50 USDC".into(),
            agent: "ann".into(),
            provider_id: "p".into(),
            amount: Usdc::new(500_000),
            state: "waiting".into(),
            expires_in: 120,
        }
    }

    #[test]
    fn a_person_sees_what_the_answer_is_to() {
        let mut script = Script::of(["secret words"]);
        assert_eq!(*confirm(&asked(), Verdict::Approve, &mut script).unwrap(), "secret words");
        assert!(script.seen.contains("YES") && script.seen.contains("0.50 USDC") && !script.seen.contains('\u{1b}'));
        assert!(confirm(&asked(), Verdict::Deny, &mut Script::of([""])).is_err());
        assert!(confirm(&asked(), Verdict::Deny, &mut Script::of([])).is_err());
    }
}
