//! Which argument a name means.

use strsim::levenshtein;

use super::Param;

/// What became of a name.
pub(super) enum Resolved<'a> {
    /// The argument, by its name, an alias or another spelling of it.
    Known(&'a Param),
    /// Close enough to an argument that ignoring it could cost money.
    Misspelt(&'a Param),
    /// Nothing of ours.
    Unknown,
}

/// Finds the argument that `name` means.
pub(super) fn resolve<'a>(params: &'a [Param], name: &str) -> Resolved<'a> {
    let wanted = plain(name);
    if let Some(param) = params.iter().find(|param| spellings(param).any(|known| plain(known) == wanted)) {
        return Resolved::Known(param);
    }
    // Short names are close to everything.
    if wanted.len() < 4 {
        return Resolved::Unknown;
    }
    let close = params.iter().find(|param| spellings(param).any(|known| levenshtein(&plain(known), &wanted) <= 2));
    close.map_or(Resolved::Unknown, Resolved::Misspelt)
}

fn spellings(param: &Param) -> impl Iterator<Item = &'static str> {
    std::iter::once(param.name).chain(param.aliases.iter().copied())
}

/// The known name that is nearest to `name`, if any is near.
pub(in crate::mcp) fn nearest<'a>(known: impl Iterator<Item = &'a str>, name: &str) -> Option<&'a str> {
    let name = plain(name);
    let (found, distance) = known.map(|known| (known, levenshtein(&plain(known), &name))).min_by_key(|(_, d)| *d)?;
    (distance <= 4).then_some(found)
}

/// Letters and digits in lower case: `max_tokens`, `max-tokens` and `maxTokens` are one name.
fn plain(name: &str) -> String {
    name.chars().take(64).filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}
