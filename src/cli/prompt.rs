//! Asking a person. Only where a person is: stdin and stderr are a terminal.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use zeroize::Zeroizing;

use crate::error::{Code, Failure};

/// A terminal with a person in front of it; a script in tests.
pub trait Terminal {
    /// Whether a person can answer.
    fn present(&self) -> bool;
    /// Shows text that must not end up in a pipe or file.
    fn show(&mut self, text: &str) -> io::Result<()>;
    /// Asks for a line.
    fn line(&mut self, prompt: &str) -> io::Result<String>;
    /// Asks for a line that is not echoed.
    fn secret(&mut self, prompt: &str) -> io::Result<Zeroizing<String>>;
}

/// The terminal of this process.
#[derive(Clone, Copy, Debug)]
pub struct Tty;

impl Terminal for Tty {
    fn present(&self) -> bool {
        io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    fn show(&mut self, text: &str) -> io::Result<()> {
        writeln!(io::stderr(), "{text}")
    }

    fn line(&mut self, prompt: &str) -> io::Result<String> {
        write!(io::stderr(), "{prompt}")?;
        io::stderr().flush()?;
        let mut line = String::new();
        if io::stdin().lock().read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim().to_string())
    }

    fn secret(&mut self, prompt: &str) -> io::Result<Zeroizing<String>> {
        rpassword::prompt_password(prompt).map(Zeroizing::new)
    }
}

/// Nobody: standard input is an MCP client's.
#[derive(Clone, Copy, Debug)]
pub struct Nobody;

impl Terminal for Nobody {
    fn present(&self) -> bool {
        false
    }

    fn show(&mut self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn line(&mut self, _: &str) -> io::Result<String> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn secret(&mut self, _: &str) -> io::Result<Zeroizing<String>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Everything that is piped into this process, for secrets without a terminal.
pub fn piped_secret() -> io::Result<Zeroizing<String>> {
    // Filled once and never grown, so that no copy of a secret is left behind.
    let mut text = Zeroizing::new(String::with_capacity(4096));
    io::stdin().lock().take(4096).read_to_string(&mut text)?;
    Ok(text)
}

/// The failure of a terminal.
pub fn terminal_failed(error: io::Error) -> Failure {
    Failure::unspent(
        Code::Cancelled,
        format!("The terminal gave no answer: {error}."),
        "Run the command again on a terminal.",
    )
}

/// Refuses where nobody can be asked.
pub fn need_terminal(terminal: &dyn Terminal, what: &str) -> Result<(), Failure> {
    if terminal.present() {
        return Ok(());
    }
    Err(Failure::unspent(
        Code::InvalidArgument,
        format!("{what} needs a person at a terminal."),
        "Run it on a terminal, without pipes.",
    ))
}

/// A new password, typed twice.
pub fn new_password(terminal: &mut dyn Terminal, what: &str) -> Result<Zeroizing<String>, Failure> {
    for _ in 0..3 {
        let first = terminal.secret(&format!("{what}: ")).map_err(terminal_failed)?;
        if first.is_empty() {
            terminal.show("It is empty; choose one, better of twelve characters or more.").map_err(terminal_failed)?;
            continue;
        }
        if *first == *terminal.secret("The same again: ").map_err(terminal_failed)? {
            return Ok(first);
        }
        terminal.show("The two differ.").map_err(terminal_failed)?;
    }
    Err(Failure::unspent(Code::Cancelled, "No password was set; nothing was written.", "Run the command again."))
}

/// A terminal that answers from a list.
#[cfg(test)]
#[derive(Default)]
pub struct Script {
    /// What it types, in order.
    pub answers: std::collections::VecDeque<String>,
    /// What it was shown and asked.
    pub seen: String,
    /// Nobody is there.
    pub absent: bool,
}

#[cfg(test)]
impl Script {
    pub(super) fn of<const N: usize>(answers: [&str; N]) -> Self {
        Self { answers: answers.map(str::to_string).into(), ..Self::default() }
    }
}

#[cfg(test)]
impl Terminal for Script {
    fn present(&self) -> bool {
        !self.absent
    }

    fn show(&mut self, text: &str) -> io::Result<()> {
        self.seen.push_str(text);
        self.seen.push('\n');
        Ok(())
    }

    fn line(&mut self, prompt: &str) -> io::Result<String> {
        self.show(prompt)?;
        self.answers.pop_front().ok_or(io::ErrorKind::UnexpectedEof.into())
    }

    fn secret(&mut self, prompt: &str) -> io::Result<Zeroizing<String>> {
        self.line(prompt).map(Zeroizing::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_typed_twice() {
        assert_eq!(*new_password(&mut Script::of(["", "a", "b", "c", "c"]), "New").unwrap(), "c");
        assert!(new_password(&mut Script::of(["a", "b", "a", "b", "a", "b"]), "New").is_err());
        assert!(new_password(&mut Script::of([]), "New").is_err());
    }
}
