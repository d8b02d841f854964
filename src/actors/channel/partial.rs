//! A provider's answer while it comes: told in parts, few and large enough to be worth a message.

use std::time::Duration;

use drain_protocol::text::{quoted, untrusted};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::api::{Parts, Progress};

/// What comes within so long is told together: to a reader, and to a program.
const PAUSE: Duration = Duration::from_millis(150);
const PAUSE_EXACT: Duration = Duration::from_millis(20);
/// A part of so many bytes is told at once.
const ENOUGH: usize = 400;
/// Beyond this a part that a slow reader did not take is dropped: the whole answer comes at the end.
const MOST: usize = 16 << 10;
/// So many parts of one answer are told at most.
const MOST_PARTS: usize = 1_000;
/// Of an answer that broke off so many characters are shown.
const SHOWN: usize = 1_000;

/// Tells parts until it is ended.
pub(super) struct Partial {
    pieces: mpsc::UnboundedSender<String>,
    task: JoinHandle<()>,
}

impl Partial {
    /// Tells them by `progress`.
    pub(super) fn to(progress: Progress) -> Self {
        let (pieces, received) = mpsc::unbounded_channel();
        Self { pieces, task: tokio::spawn(tell(received, progress)) }
    }

    /// More of the answer. Its size is bounded by that of the answer, which is read whole anyway.
    pub(super) fn add(&self, piece: String) {
        // Nobody listens any more.
        let _ = self.pieces.send(piece);
    }

    /// Everything was told: the answer may follow.
    pub(super) async fn end(self) {
        drop(self.pieces);
        let _ = self.task.await;
    }
}

/// The beginning of what came, within a sentence of ours (M13): it may be worth reading, and was perhaps paid for.
pub(super) fn began(came: Option<&str>) -> String {
    match came.filter(|came| !came.trim().is_empty()) {
        Some(came) => format!(". The answer began {}", quoted(came, SHOWN)),
        None => String::new(),
    }
}

async fn tell(mut pieces: mpsc::UnboundedReceiver<String>, progress: Progress) {
    let exact = progress.wanted_parts() == Parts::Exact;
    let together = if exact { PAUSE_EXACT } else { PAUSE };
    let (mut part, mut told) = (String::new(), 0);
    while let Some(piece) = pieces.recv().await {
        part.push_str(&piece);
        let pause = tokio::time::sleep(together);
        tokio::pin!(pause);
        while part.len() < ENOUGH {
            tokio::select! {
                biased;
                next = pieces.recv() => match next {
                    Some(piece) => part.push_str(&piece),
                    None => break,
                },
                () = &mut pause => break,
            }
        }
        if exact {
            // What is not taken now goes with the next: its size is bounded by that of the answer.
            part = progress.part(part).unwrap_or_default();
            continue;
        }
        if told == MOST_PARTS {
            return;
        }
        told += 1;
        let text = untrusted(&part, MOST);
        part = match progress.part(text) {
            Some(left) if left.len() < MOST => left,
            _ => String::new(),
        };
    }
    if !part.is_empty() {
        let _ = progress.part(part);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::api::Said;

    fn text(said: &[Said]) -> String {
        let parts = said.iter().map(|said| match said {
            Said::Part(text) | Said::Line(text) => text.as_str(),
        });
        parts.collect()
    }

    async fn told(pieces: &[&str], room: usize) -> Vec<Said> {
        let (sender, mut receiver) = mpsc::channel(room);
        let partial = Partial::to(Progress::to(sender).with_parts(Parts::Shown));
        for piece in pieces {
            partial.add((*piece).to_owned());
        }
        partial.end().await;
        let mut said = Vec::new();
        while let Some(one) = receiver.recv().await {
            said.push(one);
        }
        said
    }

    #[tokio::test]
    async fn small_pieces_are_told_together_and_all_of_them() {
        let said = told(&["Hel", "lo ", "world"], 8).await;
        assert_eq!((said.len(), text(&said).as_str()), (1, "Hello world"));
        let long = "x".repeat(ENOUGH);
        let said = told(&[&long, &long, "end"], 8).await;
        assert!(said.len() >= 2 && text(&said).len() == 2 * ENOUGH + 3, "{}", said.len());
        assert!(said.iter().all(|said| matches!(said, Said::Part(_))));
    }

    /// M13: no control character of a provider reaches a terminal by this way.
    #[tokio::test]
    async fn m13_what_is_told_is_clean() {
        assert_eq!(text(&told(&["a\u{1b}[31m", "b\u{202e}\n"], 8).await), "a[31mb\n");
    }

    #[tokio::test]
    async fn a_program_is_told_every_character() {
        let (sender, mut receiver) = mpsc::channel(1);
        let partial = Partial::to(Progress::to(sender).with_parts(Parts::Exact));
        let pieces = vec!["a\u{1b}[31m ".repeat(90); 40];
        for piece in &pieces {
            partial.add(piece.clone());
        }
        let read = async {
            let mut whole = String::new();
            while let Some(Said::Part(text)) = receiver.recv().await {
                whole.push_str(&text);
            }
            whole
        };
        let ((), whole) = futures::join!(partial.end(), read);
        // The last ones may come with the whole answer only.
        assert!(!whole.is_empty() && pieces.concat().starts_with(&whole));
    }

    #[tokio::test]
    async fn an_answer_without_end_is_told_in_so_many_parts() {
        let long = "z".repeat(ENOUGH);
        let said = told(&vec![long.as_str(); MOST_PARTS + 20], 2 * MOST_PARTS).await;
        assert_eq!(said.len(), MOST_PARTS);
    }

    #[tokio::test]
    async fn a_reader_who_is_behind_loses_parts_and_nothing_waits() {
        let long = "y".repeat(ENOUGH);
        let said = told(&[long.as_str(); 200], 1).await;
        assert_eq!(said.len(), 1);
    }
}
