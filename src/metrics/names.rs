//! Names of others as values of labels (M13): clean, short, and never more than so many.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use drain_protocol::Address;
use drain_protocol::text::one_line;

/// How many names of one kind have series of their own.
pub const MOST: usize = 50;
/// What all others are counted under.
pub const OTHER: &str = "other";
/// Longest value.
const LONGEST: usize = 60;

/// A text of whoever, as a label's value.
pub fn clean(text: &str) -> String {
    one_line(text, LONGEST)
}

/// A wallet's name: the beginning of its address.
pub fn wallet(address: Address) -> String {
    let mut text = format!("{address:#x}");
    text.truncate(10);
    text
}

/// A provider's name, from the key that its record and budget are kept by (wallet and host): the host, and the beginning
/// of the wallet, so that two who share a host are two.
pub fn provider(key: &str) -> String {
    let (wallet, host) = key.split_once(' ').unwrap_or((key, ""));
    let wallet: String = wallet.chars().take(10).collect();
    if host.is_empty() { clean(&wallet) } else { format!("{} {wallet}", one_line(host, LONGEST - 11)) }
}

/// Who of a kind has a series in what only counts up: the first [`MOST`], for as long as the process runs. A new name
/// costs whoever brings it an open channel, or is the operator's own.
#[derive(Debug, Default)]
pub(super) struct Named(Mutex<BTreeSet<String>>);

impl Named {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(BTreeSet::new()))
    }

    /// The name itself, or [`OTHER`].
    pub(super) fn admit(&self, name: String) -> String {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(&name) {
            return name;
        }
        if known.len() >= MOST {
            return OTHER.into();
        }
        known.insert(name.clone());
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m13_names_of_others_are_clean_and_short() {
        let hostile = format!("0xabcdefabcdefabcdef evil\u{202E}\n\"}} 1\n{}", "x".repeat(500));
        let label = provider(&hostile);
        assert!(label.starts_with("evil \"} 1 xx") && label.ends_with(" 0xabcdefab"), "{label}");
        assert!(label.chars().count() <= LONGEST);
        assert!(clean(&"agent\u{200B}\r\n".repeat(100)).chars().count() <= LONGEST);
        assert_eq!(provider("0xabcdefabcdef "), "0xabcdefab");
    }

    #[test]
    fn only_so_many_have_a_name() {
        let named = Named::new();
        let labels: BTreeSet<String> = (0..1_000).map(|n| named.admit(format!("name {n}"))).collect();
        assert_eq!(labels.len(), MOST + 1);
        assert!(labels.contains(OTHER) && labels.contains("name 0"));
        assert_eq!(named.admit("name 1".into()), "name 1");
    }
}
