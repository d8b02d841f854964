//! All agents by name: read, changed and written as a whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::file::{self, Stamp, unusable};
use super::token::{Token, TokenHash};
use super::{Agent, MOST};
use crate::error::{Code, Failure};

const HEAD: &str = "# Written by drain-mcp agents add and revoke. Tokens are not in it, only their hashes.\n\n";

/// The agents' file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Book {
    #[serde(default)]
    agents: BTreeMap<String, Agent>,
}

impl Book {
    /// Reads it; without a file there are no agents.
    pub fn read(home: &Path) -> Result<Self, Failure> {
        Ok(Self::stamped(&file::path(home))?.0)
    }

    pub(super) fn stamped(path: &Path) -> Result<(Self, Option<Stamp>), Failure> {
        let Some((text, stamp)) = file::read(path)? else { return Ok((Self::default(), None)) };
        Ok((Self::parse(&text, path)?, Some(stamp)))
    }

    fn parse(text: &str, path: &Path) -> Result<Self, Failure> {
        let repair = "Correct it, or put a copy back; to begin anew move it away, which revokes every agent.";
        let book: Self = toml::from_str(text).map_err(|error| {
            // The error's own Display repeats the line.
            let line = error.span().map_or(1, |span| text.bytes().take(span.start).filter(|b| *b == b'\n').count() + 1);
            unusable(path, format!("line {line}: {}", error.message()), repair)
        })?;
        if let Some(name) = book.agents.keys().find(|name| check_name(name).is_err()) {
            return Err(unusable(path, format!("{name:?} is no name of an agent"), repair));
        }
        let mut hashes: Vec<String> = book.agents.values().map(|agent| agent.token_sha256.to_string()).collect();
        hashes.sort_unstable();
        if hashes.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(unusable(path, "two agents have the same token", repair));
        }
        if book.agents.len() > MOST {
            return Err(unusable(path, format!("it holds more than {MOST} agents"), repair));
        }
        Ok(book)
    }

    /// By name.
    pub fn agents(&self) -> impl Iterator<Item = (&str, &Agent)> {
        self.agents.iter().map(|(name, agent)| (name.as_str(), agent))
    }

    /// One agent.
    pub fn get(&self, name: &str) -> Option<&Agent> {
        self.agents.get(name)
    }

    /// Whose token somebody shows. All agents are compared, each in constant time.
    pub fn whose(&self, shown: &TokenHash) -> Option<(&str, &Agent)> {
        self.agents().fold(None, |found, (name, agent)| {
            let equal = agent.token_sha256 == *shown;
            if equal { Some((name, agent)) } else { found }
        })
    }
}

/// Adds an agent and gives its token, which nothing keeps. `settings` becomes the agent with that token and the time of now.
pub fn add(home: &Path, name: &str, settings: impl FnOnce(TokenHash, String) -> Agent) -> Result<Token, Failure> {
    check_name(name)?;
    let token = Token::new();
    change(home, |book| {
        if book.agents.contains_key(name) {
            return Err(Failure::unspent(
                Code::InvalidArgument,
                format!("there is an agent {name} already"),
                format!("Choose another name. For a new token: drain-mcp agents revoke {name}, then add it again."),
            ));
        }
        if book.agents.len() >= MOST {
            return Err(Failure::argument("NAME", format!("there are {MOST} agents already; revoke some")));
        }
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        book.agents.insert(name.to_owned(), settings(token.hash(), now));
        Ok(())
    })?;
    Ok(token)
}

/// Takes an agent's token away for good.
pub fn revoke(home: &Path, name: &str) -> Result<(), Failure> {
    change(home, |book| match book.agents.remove(name) {
        Some(_) => Ok(()),
        None => Err(Failure::argument("NAME", "there is no such agent; drain-mcp agents list shows all")),
    })
}

fn change(home: &Path, change: impl FnOnce(&mut Book) -> Result<(), Failure>) -> Result<(), Failure> {
    let path: PathBuf = file::path(home);
    let _lock = file::lock(home)?;
    let (mut book, _) = Book::stamped(&path)?;
    change(&mut book)?;
    let text = toml::to_string(&book).map_err(|error| Failure::internal(format!("agents.toml: {error}")))?;
    file::write(&path, &format!("{HEAD}{text}"))
}

/// A name goes into records, metrics and file: letters, digits, dots, dashes, underscores; at most 64.
fn check_name(name: &str) -> Result<(), Failure> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if name.is_empty() || name.len() > 64 || !name.chars().all(good) || drain_protocol::text::may_be_key(name) {
        return Err(Failure::argument("NAME", "write letters, digits, dots, dashes and underscores, 64 at most"));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::testing::agent;
    use super::*;

    fn added(home: &Path, name: &str) -> Result<Token, Failure> {
        add(home, name, |token_sha256, created_at| Agent { token_sha256, created_at, ..agent(&Token::new()) })
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn agents_are_added_known_by_token_and_revoked() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("new");
        assert_eq!(Book::read(&home).unwrap(), Book::default());
        let (ann, bob) = (added(&home, "ann").unwrap(), added(&home, "bob.2_x-y").unwrap());
        assert_eq!((mode(&home), mode(&file::path(&home))), (0o700, 0o600));
        let book = Book::read(&home).unwrap();
        assert_eq!(book.whose(&ann.hash()).unwrap().0, "ann");
        assert_eq!(book.whose(&bob.hash()).unwrap().0, "bob.2_x-y");
        assert!(book.whose(&TokenHash::of("")).is_none() && book.whose(&Token::new().hash()).is_none());
        let text = std::fs::read_to_string(file::path(&home)).unwrap();
        assert!(!text.contains(ann.expose()) && text.contains("budget = \"5.00\""), "{text}");

        revoke(&home, "ann").unwrap();
        let book = Book::read(&home).unwrap();
        assert!(book.whose(&ann.hash()).is_none() && book.get("bob.2_x-y").is_some());
        assert_eq!(revoke(&home, "ann").unwrap_err().code, Code::InvalidArgument);
    }

    #[test]
    fn bad_names_and_names_that_are_taken_change_nothing() {
        let home = tempfile::tempdir().unwrap();
        added(home.path(), "ann").unwrap();
        let before = std::fs::read(file::path(home.path())).unwrap();
        let key = "ab".repeat(32);
        for name in ["", "a b", "ann\n", "é", "a/b", &"x".repeat(65), &key, "ann"] {
            assert_eq!(added(home.path(), name).unwrap_err().code, Code::InvalidArgument, "{name}");
        }
        assert_eq!(std::fs::read(file::path(home.path())).unwrap(), before);
    }

    #[test]
    fn a_damaged_or_open_file_is_said_and_left_as_it_is() {
        let home = tempfile::tempdir().unwrap();
        let token = added(home.path(), "ann").unwrap();
        let path = file::path(home.path());
        let good = std::fs::read_to_string(&path).unwrap();
        let hash = token.hash().to_string();
        for (what, text) in [
            ("no TOML", good.replace("[agents", "[agents[")),
            ("another version's key", format!("{good}later = 1\n")),
            ("another version's table", format!("{good}[other]\nx = 1\n")),
            ("no amount", good.replace("\"5.00\"", "\"five\"")),
            ("no hash", good.replace(&hash, "abc")),
            ("no name", good.replace("agents.ann", "agents.\"a b\"")),
            ("a token twice", format!("{good}\n{}", good.replace("agents.ann", "agents.bob").replace(HEAD, ""))),
        ] {
            assert_ne!(text, good, "{what}");
            std::fs::write(&path, &text).unwrap();
            for failure in [
                Book::read(home.path()).unwrap_err(),
                added(home.path(), "bob").unwrap_err(),
                revoke(home.path(), "ann").unwrap_err(),
            ] {
                assert_eq!(failure.code, Code::InvalidConfig, "{what}");
                assert!(failure.message.contains("agents.toml"), "{what}: {failure:?}");
                assert!(!failure.message.contains(&hash), "{what}: {failure:?}");
            }
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "{what}");
        }
        std::fs::write(&path, &good).unwrap();
        for open in [0o640, 0o604, 0o602] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(open)).unwrap();
            assert!(added(home.path(), "bob").unwrap_err().next.contains("chmod 600"), "{open:o}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(Book::read(home.path()).unwrap().get("ann").is_some());
    }

    /// Commands at the same time do not lose each other's agents.
    #[test]
    fn agents_that_are_added_at_once_are_all_kept() {
        let home = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let home = home.path();
                scope.spawn(move || (0..5).for_each(|n| drop(added(home, &format!("a{thread}-{n}")).unwrap())));
            }
        });
        assert_eq!(Book::read(home.path()).unwrap().agents().count(), 20);
    }
}
