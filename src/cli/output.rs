//! What a command prints: one answer on stdout, as text or as one JSON object; everything else on stderr.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::api::{Progress, Said};
use crate::error::{Failure, told};
use crate::logging;

/// Lines of progress that may wait for a slow terminal.
const PROGRESS_LINES: usize = 64;

/// Where answers go.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// One JSON object instead of text.
    pub json: bool,
    /// Everything is marked PLAY MONEY.
    pub play_money: bool,
}

impl Output {
    /// Prints the answer. `value` must serialise to an object.
    pub fn answer(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
        if !self.json {
            let mark = if self.play_money { "PLAY MONEY\n" } else { "" };
            return print(&format!("{mark}{}", clean(text().trim_end())));
        }
        let value =
            serde_json::to_value(value).map_err(|e| Failure::internal(format!("the answer is no JSON: {e}")))?;
        print(&self.marked(value).to_string())
    }

    /// Prints a failure: as text on stderr, or as the JSON object on stdout.
    pub fn failure(&self, failure: &Failure) {
        // Nothing is left to be told when stdout or stderr is gone.
        let _ = if self.json {
            print(&self.marked(error_object(failure)).to_string())
        } else {
            say(&failure_text(failure)).map_err(|e| Failure::internal(e.to_string()))
        };
    }

    /// A remark on stderr.
    pub fn remark(&self, text: &str) {
        let _ = say(text);
    }

    /// Says on stderr what takes time, on a terminal or where a person reads.
    pub fn reporter(&self) -> Reporter {
        if self.json && !std::io::stderr().is_terminal() {
            return Reporter { progress: Progress::none(), task: None };
        }
        let (sender, mut lines) = mpsc::channel::<Said>(PROGRESS_LINES);
        let task = tokio::spawn(async move {
            // Parts of an answer are not asked for: it is printed once, whole.
            while let Some(Said::Line(line)) = lines.recv().await {
                let _ = writeln!(std::io::stderr(), "  {}", clean(&line));
            }
        });
        Reporter { progress: Progress::to(sender), task: Some(task) }
    }

    fn marked(&self, mut value: Value) -> Value {
        if let (true, Some(object)) = (self.play_money, value.as_object_mut()) {
            object.insert("play_money".into(), true.into());
        }
        value
    }
}

/// Prints progress until its work is done.
pub struct Reporter {
    /// For the work.
    pub progress: Progress,
    task: Option<JoinHandle<()>>,
}

impl Reporter {
    /// Lets the last lines out before the answer; does not wait for work that goes on in the background.
    pub async fn finish(self) {
        drop(self.progress);
        if let Some(task) = self.task {
            let _ = tokio::time::timeout(Duration::from_millis(100), task).await;
        }
    }
}

/// On stderr, which is the log's, too.
fn say(text: &str) -> std::io::Result<()> {
    let text = clean(text);
    if logging::said(&text) { Ok(()) } else { writeln!(std::io::stderr(), "{text}") }
}

fn print(text: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{text}").map_err(|e| Failure::internal(format!("stdout cannot be written: {e}")))
}

/// A failure as programs read it.
pub fn error_object(failure: &Failure) -> Value {
    told(failure);
    json!({ "error": {
        "code": failure.code.as_str(),
        "message": failure.message,
        "money": failure.money,
        "retry": failure.code.retry(),
        "next": failure.next,
    }})
}

/// A failure as people read it.
fn failure_text(failure: &Failure) -> String {
    told(failure);
    let Failure { code, message, money, next } = failure;
    let text =
        format!("error: {message}\n{} {}\n{next}\n({})", money.sentence(), code.retry().sentence(), code.as_str());
    as_commands(&text)
}

/// The runtime speaks to agents, by the names of their tools; people use the commands. Longer names come first.
const COMMANDS: &[(&str, &str)] = &[
    ("drain_cooperative_close", "drain-mcp close"),
    ("drain_close_channel", "drain-mcp close"),
    ("drain_channel_status", "drain-mcp channels"),
    ("drain_channels", "drain-mcp channels"),
    ("drain_provider_info", "drain-mcp providers"),
    ("drain_providers", "drain-mcp providers"),
    ("drain_open_channel", "drain-mcp open"),
    ("drain_balance", "drain-mcp balance"),
    ("drain_budget with receipt", "drain-mcp receipts"),
    ("drain_budget", "drain-mcp receipts"),
    ("drain_quote", "drain-mcp quote"),
    ("drain_chat", "drain-mcp chat"),
];

/// Our own text with commands in place of tools. Not for text from outside.
pub fn as_commands(text: &str) -> String {
    COMMANDS.iter().fold(text.to_string(), |text, (tool, command)| text.replace(tool, command))
}

/// Texts of providers and directories cannot steer the terminal (M13).
pub fn clean(text: &str) -> String {
    drain_protocol::text::untrusted(text, usize::MAX)
}

/// Words of others of several lines, each marked as theirs: nothing in them can pass for a line of ours.
pub fn theirs(title: &str, text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("| {line}")).collect();
    format!("{title} (its words, not ours):\n{}", lines.join("\n"))
}

/// Columns side by side; the last one is as wide as it is.
pub fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = head.map(|title| title.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String; N]| {
        let padded: Vec<String> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_string()
    };
    let mut lines = vec![line(&head.map(str::to_string))];
    lines.extend(rows.iter().map(line));
    lines.join("\n")
}

/// Outside text for a table: one line, bounded.
pub fn short(text: &str, most: usize) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() <= most {
        return text;
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Code, Money};

    #[test]
    fn failures_say_everything() {
        let failure = Failure::unspent(Code::TransactionPending, "Not final.", "Look again.");
        let failure = failure.with_money(Money::Pending { receipt: "tx-1".into() });
        let object = error_object(&failure);
        assert_eq!(object["error"]["code"], "transaction_pending");
        assert_eq!(object["error"]["money"]["receipt"], "tx-1");
        assert_eq!(object["error"]["retry"], "safe");
        assert_eq!(object["error"]["next"], "Look again.");
        let text = failure_text(&failure);
        for part in ["Not final.", "tx-1", "Look again.", "transaction_pending"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn people_are_told_commands() {
        let text = as_commands("Use drain_channels or drain_channel_status; drain_providers lists them.");
        assert_eq!(text, "Use drain-mcp channels or drain-mcp channels; drain-mcp providers lists them.");
        let failure = Failure::unspent(Code::UnknownChannel, "x", "List the channels with drain_channels.");
        assert!(failure_text(&failure).contains("drain-mcp channels"));
    }

    #[test]
    fn tables_line_up_and_texts_are_bounded() {
        let text = table(["ID", "NAME"], &[["a".into(), "x".into()], ["long".into(), "y".into()]]);
        assert_eq!(text, "ID    NAME\na     x\nlong  y");
        assert_eq!(short("a\n b   c", 9), "a b c");
        assert_eq!(short("abcdef", 4), "abc…");
    }

    #[test]
    fn terminals_are_not_steered() {
        assert_eq!(clean("a\u{1b}[31mb\u{9b}c\nd"), "a[31mbc\nd");
    }
}
