//! A keystore's password from a command, as the keyrings of operating systems give it.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use zeroize::Zeroizing;

use crate::child;
use crate::config::{Key, Password, PasswordFrom};
use crate::error::{Code, Failure};

/// Longest run: a keyring may ask the person first.
const COMMAND_TIME: Duration = Duration::from_secs(60);
/// Longest password.
const MOST: usize = 4_096;

/// The password itself. Never asks anybody: what a command asks is its own business, and not on our terminal's stdin.
pub(super) async fn resolve(from: PasswordFrom) -> Result<Password, Failure> {
    match from {
        PasswordFrom::Given(password) => Ok(password),
        PasswordFrom::Command(command) => run(&command, COMMAND_TIME).await.map_err(|problem| {
            Failure::unspent(
                Code::SignerFailed,
                // Without the command, which may hold credentials, and without anything that it wrote (M12).
                format!("The command of {} {problem}.", Key::KeystorePasswordCommand.spec().env),
                "Run it yourself to see what it says; it must write the password to its standard output, and sees PATH, \
                 HOME and the session's own variables only. Then start drain-mcp again.",
            )
        }),
    }
}

async fn run(command: &str, limit: Duration) -> Result<Password, String> {
    let mut child = child::shell(command);
    child.stdout(Stdio::piped());
    let mut child = child.spawn().map_err(|error| format!("could not be run: {error}"))?;
    let stdout = child.stdout.take().ok_or("has no output")?;
    // Filled once and never grown, so that no copy of a secret is left behind.
    let mut written = Zeroizing::new(Vec::with_capacity(MOST + 1));
    let work = async {
        stdout.take(MOST as u64 + 1).read_to_end(&mut written).await?;
        // One that writes on is not waited for.
        if written.len() > MOST {
            child.start_kill()?
        }
        child.wait().await
    };
    let status = match tokio::time::timeout(limit, work).await {
        Ok(ended) => ended.map_err(|error| format!("failed: {error}"))?,
        Err(_) => return Err(format!("took longer than {} s and was ended", limit.as_secs())),
    };
    if written.len() > MOST {
        return Err(format!("wrote more than {MOST} bytes"));
    }
    if !status.success() {
        return Err(format!("failed ({status})"));
    }
    let text = std::str::from_utf8(&written).map_err(|_| "wrote something that is no text")?.trim();
    if text.is_empty() { Err("wrote nothing".into()) } else { Ok(Password::new(text)) }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_gives_the_password_and_no_failure_repeats_it() {
        let second = Duration::from_secs(10);
        assert_eq!(run("printf 'correct horse\\n'", second).await.unwrap().expose(), "correct horse");
        for (command, part) in [
            ("echo hunter2; exit 3", "exit status: 3"),
            ("true", "wrote nothing"),
            ("printf '\\377'", "no text"),
            ("yes hunter2", "more than 4096"),
            ("kill -9 $$", "signal: 9"),
        ] {
            let problem = run(command, second).await.unwrap_err();
            assert!(problem.contains(part) && !problem.contains("hunter2"), "{command}: {problem}");
        }
        let problem = run("echo hunter2; exec sleep 60", Duration::from_millis(50)).await.unwrap_err();
        assert!(problem.contains("took longer") && !problem.contains("hunter2"), "{problem}");
        let failure = resolve(PasswordFrom::Command("echo hunter2; false".into())).await.unwrap_err();
        assert!(
            !format!("{failure:?}").contains("hunter2") && failure.message.contains("DRAIN_KEYSTORE_PASSWORD_COMMAND")
        );
    }

    /// M12: neither the key nor anything else of ours is handed on.
    #[tokio::test]
    async fn m12_a_command_sees_a_cleared_environment() {
        // Cargo sets variables of its own for tests.
        assert!(std::env::vars().any(|(name, _)| name.starts_with("CARGO")));
        let seen = run("env", Duration::from_secs(10)).await.unwrap();
        let names: Vec<&str> =
            seen.expose().lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
        assert!(names.contains(&"PATH"), "{names:?}");
        assert!(!names.iter().any(|name| name.starts_with("CARGO") || name.starts_with("DRAIN")), "{names:?}");
    }
}
