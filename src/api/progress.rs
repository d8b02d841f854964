//! What a call says while it runs, and how it asks the person at the client.

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use crate::policy::approvals::Verdict;

/// One piece of progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// A line of ours: what is being done.
    Line(String),
    /// A part of the provider's answer while it comes (untrusted; cleaned, where that was wished for).
    Part(String),
}

/// How parts of an answer are wanted while it comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Parts {
    /// Not at all.
    #[default]
    None,
    /// For a reader: few, cleaned, and none where the reader is behind.
    Shown,
    /// For a program: every character as it came, and soon.
    Exact,
}

/// Where a long operation says what it is doing. Cheap to clone; texts are dropped when nobody reads.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    lines: Option<mpsc::Sender<Said>>,
    parts: Parts,
    person: Option<mpsc::Sender<Question>>,
}

/// A question to the person at the client. Dropping `reply` answers nothing.
#[derive(Debug)]
pub struct Question {
    /// Its name.
    pub id: String,
    /// What will be signed, to whom, and what it may cost at most.
    pub text: String,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Verdict>,
}

impl Progress {
    /// Nobody listens.
    pub const fn none() -> Self {
        Self { lines: None, parts: Parts::None, person: None }
    }

    /// Texts go to `sender`; a full queue drops them.
    pub const fn to(sender: mpsc::Sender<Said>) -> Self {
        Self { lines: Some(sender), parts: Parts::None, person: None }
    }

    /// The same person, and other lines.
    pub fn with_lines(mut self, sender: mpsc::Sender<Said>) -> Self {
        self.lines = Some(sender);
        self
    }

    /// Parts of an answer are wanted while it comes.
    pub fn with_parts(mut self, wanted: Parts) -> Self {
        self.parts = wanted;
        self
    }

    /// How parts of an answer are wanted; not at all where nobody listens.
    pub fn wanted_parts(&self) -> Parts {
        let listens = self.lines.as_ref().is_some_and(|lines| !lines.is_closed());
        if listens { self.parts } else { Parts::None }
    }

    /// With a person who can be asked.
    pub fn with_person(mut self, person: mpsc::Sender<Question>) -> Self {
        self.person = Some(person);
        self
    }

    /// Without one.
    pub fn without_person(mut self) -> Self {
        self.person = None;
        self
    }

    /// Whether a person can be asked.
    pub const fn has_person(&self) -> bool {
        self.person.is_some()
    }

    /// Asks the person at the client. `None` where nobody is there, or nobody answers.
    pub async fn ask(&self, id: String, text: String) -> Option<Verdict> {
        let (reply, answer) = oneshot::channel();
        self.person.as_ref()?.send(Question { id, text, reply }).await.ok()?;
        answer.await.ok()
    }

    /// Says one line.
    pub fn say(&self, text: impl Into<String>) {
        if let Some(sender) = &self.lines {
            // Progress is a courtesy: a slow reader loses lines, never the work.
            let _ = sender.try_send(Said::Line(text.into()));
        }
    }

    /// Says a part of an answer. Gives it back where the reader is behind.
    pub fn part(&self, text: String) -> Option<String> {
        match self.lines.as_ref()?.try_send(Said::Part(text)) {
            Err(TrySendError::Full(Said::Part(text))) => Some(text),
            _ => None,
        }
    }
}
