//! What a call says while it runs, and how it asks the person at the client.

use tokio::sync::{mpsc, oneshot};

use crate::policy::approvals::Verdict;

/// Where a long operation says what it is doing. Cheap to clone; texts are dropped when nobody reads.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    lines: Option<mpsc::Sender<String>>,
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
        Self { lines: None, person: None }
    }

    /// Texts go to `sender`; a full queue drops them.
    pub const fn to(sender: mpsc::Sender<String>) -> Self {
        Self { lines: Some(sender), person: None }
    }

    /// The same person, and other lines.
    pub fn with_lines(mut self, sender: mpsc::Sender<String>) -> Self {
        self.lines = Some(sender);
        self
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
            let _ = sender.try_send(text.into());
        }
    }
}
