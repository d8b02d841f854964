//! Short ids: how a listing is named where many are shown, and which one such a name means.
//!
//! A provider's id is long and says nothing, so a list shows `@` and its end. Money follows such a name, so it is never a
//! guess: it means the one id that ends so, among all that are listed, those that several entries contest, and those that
//! were used before. A newcomer with the same end makes the name ambiguous, and so refused; it cannot take it over, also
//! not when the one that was used has left the directory. A listing's name is its provider's choice and names nothing.

use std::collections::{BTreeSet, HashMap};

use drain_protocol::directory::Catalogue;
use drain_protocol::text::quoted;

use crate::error::{Code, Failure};

/// What a short id begins with. An id itself never needs it: [`crate::actors::opening::find`] takes that as it is.
const MARK: char = '@';
/// Characters of an id's end that a short id has at least.
const LEAST: usize = 6;
/// Ids up to this length are shown whole.
const SHORT: usize = 12;
/// Ids that a refusal names.
const MAX_NAMED: usize = 10;

/// The end of an id that a short id stands for; `None` where it is none.
pub fn end_of(named: &str) -> Option<&str> {
    named.trim().strip_prefix(MARK)
}

/// Each listed id by what stands for it in a list: itself, or a short id that means it alone.
pub fn short_ids(catalogue: &Catalogue) -> HashMap<&str, String> {
    let listed = catalogue.listings.iter().map(|listing| listing.id.as_str());
    let mut ids: Vec<&str> = listed.chain(catalogue.ambiguous.iter().map(String::as_str)).collect();
    ids.sort_unstable_by(|a, b| a.chars().rev().cmp(b.chars().rev()));
    let shared = |a: Option<&&str>, b: &str| a.map_or(0, |a| same_end(a, b));
    let short = |(at, id): (usize, &&str)| {
        let before = at.checked_sub(1).and_then(|before| ids.get(before));
        let unique = shared(before, id).max(shared(ids.get(at + 1), id)) + 1;
        shortened(id, unique.max(LEAST))
    };
    let named: Vec<String> = ids.iter().enumerate().map(|(at, id)| short((at, id))).collect();
    ids.into_iter().zip(named).collect()
}

/// Characters that both end with.
fn same_end(a: &str, b: &str) -> usize {
    a.chars().rev().zip(b.chars().rev()).take_while(|(a, b)| a == b).count()
}

fn shortened(id: &str, length: usize) -> String {
    let count = id.chars().count();
    let end: String = id.chars().skip(count.saturating_sub(length)).collect();
    let plain = end.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if count <= SHORT || length + 2 > count || !plain { id.to_owned() } else { format!("{MARK}{end}") }
}

/// The id that ends so. `used` are ids with this end that were paid before.
pub fn spelled_out(catalogue: &Catalogue, used: &[String], end: &str) -> Result<String, Failure> {
    if end.chars().count() < LEAST {
        return Err(Failure::argument("provider", format!("a short id is {MARK} and at least {LEAST} characters")));
    }
    let listed = catalogue.listings.iter().map(|listing| listing.id.as_str());
    let all = listed.chain(catalogue.ambiguous.iter().map(String::as_str));
    let fits: BTreeSet<&str> = all.filter(|id| id.ends_with(end)).collect();
    let known: BTreeSet<&str> = fits.iter().copied().chain(used.iter().map(String::as_str)).collect();
    let mut known = known.into_iter();
    match (known.next(), known.next()) {
        (Some(only), None) => Ok(only.to_owned()),
        (None, _) => Err(Failure::unspent(
            Code::UnknownProvider,
            format!("no provider's id ends with {}", quoted(end, 80)),
            "List the ids with drain_providers.",
        )),
        (Some(_), Some(_)) => {
            // What others of the wallet used is not told.
            let ids: Vec<String> = fits.into_iter().take(MAX_NAMED).map(|id| quoted(id, 200)).collect();
            Err(Failure::unspent(
                Code::AmbiguousProvider,
                format!("{MARK}{} may mean several providers, and which one is not guessed", quoted(end, 80)),
                format!("Give the whole id: {}.", ids.join(", ")),
            ))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use drain_protocol::directory::Listing;

    fn catalogue(ids: &[&str]) -> Catalogue {
        let listing = |id: &&str| Listing { id: (*id).to_owned(), ..Listing::default() };
        Catalogue { listings: ids.iter().map(listing).collect(), ..Catalogue::default() }
    }

    fn meant(ids: &[&str], used: &[&str], named: &str) -> Result<String, Code> {
        let used: Vec<String> = used.iter().map(|id| (*id).to_owned()).collect();
        spelled_out(&catalogue(ids), &used, end_of(named).unwrap()).map_err(|failure| failure.code)
    }

    const A: &str = "prov_1772323200000_ab12cd";
    const B: &str = "prov_1772323200111_ef34gh";

    #[test]
    fn a_short_id_means_the_one_that_it_was_made_of() {
        let long_same = ["prov_1_x9ab12cd", "prov_2_y9ab12cd", "sim-llm", "a provider of blanks", "ünïcödé-provider"];
        let ids: Vec<&str> = [A, B].into_iter().chain(long_same).collect();
        let all = catalogue(&ids);
        let short = short_ids(&all);
        assert_eq!(short[B], "@ef34gh");
        assert_eq!((short["sim-llm"].as_str(), short["a provider of blanks"].as_str()), ("sim-llm", "@blanks"));
        assert_eq!(short["prov_1_x9ab12cd"], "@x9ab12cd");
        for (id, short) in short {
            if end_of(&short).is_some() {
                assert_eq!(meant(&ids, &[], &short).unwrap(), id);
            }
        }
    }

    /// M14: who can choose an id cannot take over another one's short id.
    #[test]
    fn m14_a_look_alike_makes_a_short_id_ambiguous_and_never_takes_it() {
        assert_eq!(meant(&[A, B], &[], "@ab12cd").unwrap(), A);
        // The very letters as an id, or the same end.
        for twin in ["ab12cd", "evil_ab12cd", "@ab12cd"] {
            assert_eq!(meant(&[A, B, twin], &[], "@ab12cd"), Err(Code::AmbiguousProvider), "{twin}");
            // The one that was used is gone from the directory.
            assert_eq!(meant(&[B, twin], &[A], "@ab12cd"), Err(Code::AmbiguousProvider), "{twin}");
        }
        let contested = Catalogue { ambiguous: ["x_ab12cd".to_owned()].into(), ..catalogue(&[A]) };
        assert_eq!(spelled_out(&contested, &[], "ab12cd").unwrap_err().code, Code::AmbiguousProvider);
    }

    #[test]
    fn what_is_too_short_or_unknown_is_refused() {
        assert_eq!(meant(&[A], &[], "@b12cd"), Err(Code::InvalidArgument));
        assert_eq!(meant(&[A], &[], "@zzzzzz"), Err(Code::UnknownProvider));
        assert_eq!(end_of("ab12cd"), None, "an id as it is");
    }
}
