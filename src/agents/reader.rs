//! The agents as a running `serve` knows them: the file is looked at before each request, and read when it changed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::book::Book;
use super::file::{self, Stamp};
use crate::error::Failure;

/// Reads the file again when it is another one.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    last: Mutex<Option<Read>>,
}

#[derive(Clone, Debug)]
struct Read {
    stamp: Option<Stamp>,
    /// What came of it. A file that cannot be used holds nobody: an agent that was revoked in it must not go on.
    book: Result<Arc<Book>, Failure>,
}

impl Reader {
    /// Of this home.
    pub fn new(home: &Path) -> Self {
        Self { path: file::path(home), last: Mutex::new(None) }
    }

    /// The agents of now. The same `Arc` as before means that nothing changed.
    ///
    /// # Errors
    /// While the file cannot be used.
    pub fn book(&self) -> Result<Arc<Book>, Failure> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = Stamp::now(&self.path).map_err(|error| {
            file::unusable(&self.path, error, "Let this user read it: it must belong to it, with mode 0600.")
        })?;
        if let Some(read) = last.as_ref().filter(|read| read.stamp == stamp) {
            return read.book.clone();
        }
        let read = match Book::stamped(&self.path) {
            // The stamp of what was read: where the file was replaced in between, the next look reads it.
            Ok((book, stamp)) => Read { stamp, book: Ok(Arc::new(book)) },
            Err(failure) => {
                tracing::error!("{}. No agent is served. {}", failure.message, failure.next);
                Read { stamp, book: Err(failure) }
            }
        };
        last.insert(read).book.clone()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::testing::agent;
    use super::super::token::Token;
    use super::super::{Agent, book};
    use super::*;

    #[test]
    fn what_changed_is_read_and_what_did_not_is_not() {
        let home = tempfile::tempdir().unwrap();
        let reader = Reader::new(home.path());
        let none = reader.book().unwrap();
        assert_eq!(none.agents().count(), 0);
        assert!(Arc::ptr_eq(&none, &reader.book().unwrap()));
        let add = |name: &str| {
            book::add(home.path(), name, |token_sha256, created_at| Agent {
                token_sha256,
                created_at,
                ..agent(&Token::new())
            })
            .unwrap()
        };
        let ann = add("ann");
        let first = reader.book().unwrap();
        assert!(first.whose(&ann.hash()).is_some() && Arc::ptr_eq(&first, &reader.book().unwrap()));
        // As long as before, and within the same moment.
        book::revoke(home.path(), "ann").unwrap();
        let bob = add("bob");
        let second = reader.book().unwrap();
        assert!(second.whose(&ann.hash()).is_none() && second.whose(&bob.hash()).is_some());
    }

    /// A typo in it must not bring back who was revoked by hand with it.
    #[test]
    fn a_file_that_cannot_be_used_holds_nobody_until_it_can() {
        let home = tempfile::tempdir().unwrap();
        let reader = Reader::new(home.path());
        let ann = book::add(home.path(), "ann", |token_sha256, created_at| Agent {
            token_sha256,
            created_at,
            ..agent(&Token::new())
        })
        .unwrap();
        assert!(reader.book().unwrap().whose(&ann.hash()).is_some());
        let path = home.path().join("agents.toml");
        let good = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{good}oops")).unwrap();
        assert!(reader.book().is_err() && reader.book().is_err());
        std::fs::write(&path, good).unwrap();
        assert!(reader.book().unwrap().whose(&ann.hash()).is_some());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(reader.book().unwrap().agents().count(), 0);
    }
}
