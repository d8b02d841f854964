//! "Did you mean": the known name that is nearest to a misspelt one.

use strsim::levenshtein;

/// The nearest of `known`, if it is near enough to be meant.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the letters may be wrong; more is another word.
    let allowed = (name.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (levenshtein(&name.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_only_what_is_near() {
        let known = ["DRAIN_MAX_LOCKED", "DRAIN_HOME"];
        assert_eq!(nearest("DRAIN_MAX_LOKED", known), Some("DRAIN_MAX_LOCKED"));
        assert_eq!(nearest("drain_home", known), Some("DRAIN_HOME"));
        assert_eq!(nearest("SOMETHING_ELSE", known), None);
    }
}
