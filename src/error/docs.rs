//! `docs/errors.md`, written from the table of codes.

use std::fmt::Write;

use super::{Code, Fate, Retry};

const HEAD: &str = "# Errors

<!-- Written from src/error/codes.rs: UPDATE_DOCS=1 cargo test --lib error -->

Every refusal and failure has a stable code and says three things: what happened to the money, whether calling again is
safe, and what to do next. As data it is `code`, `message`, `money`, `retry` and `next`: in the structured content of a tool's
answer, and under `error` with `--json` on the command line. The message and the next step of a failure are more exact than
what stands here.

## What happened to the money

| `money.state` | what it means |
|---|---|
";

const RETRY: &str = "
## Whether to call again

| `retry` | what it means |
|---|---|
";

const CODES: &str = "
## The codes

| code | what it means | the money | retry | what to do |
|---|---|---|---|---|
";

const fn state(fate: Fate) -> (&'static str, &'static str) {
    match fate {
        Fate::NotSpent => ("not_spent", "Nothing was signed and nothing was sent."),
        Fate::Reserved => (
            "reserved",
            "A voucher or a payment left. At most `at_most` is reserved until the provider's next answer tells, or for a payment without a channel the chain.",
        ),
        Fate::Credit => ("credit", "A voucher left and nothing was charged: it pays the next request on this channel."),
        Fate::Spent => ("spent", "`amount` was paid."),
        Fate::Unknown => ("unknown", "The call broke off where money may have moved: the records tell."),
        Fate::GasOnly => ("gas_only", "Only gas was used; no USDC moved."),
        Fate::Pending => ("pending", "A transaction is signed and may land at any time; it is never sent twice."),
    }
}

const FATES: [Fate; 7] =
    [Fate::NotSpent, Fate::Reserved, Fate::Credit, Fate::Spent, Fate::Unknown, Fate::GasOnly, Fate::Pending];

const fn word(retry: Retry) -> &'static str {
    match retry {
        Retry::Safe => "safe",
        Retry::AfterFix => "after_fix",
        Retry::No => "no",
    }
}

fn markdown() -> String {
    let mut page = String::from(HEAD);
    for fate in FATES {
        let (name, about) = state(fate);
        let _ = writeln!(page, "| `{name}` | {about} |");
    }
    page.push_str(RETRY);
    for retry in [Retry::Safe, Retry::AfterFix, Retry::No] {
        let _ = writeln!(page, "| `{}` | {} |", word(retry), retry.sentence());
    }
    page.push_str(CODES);
    for code in Code::ALL {
        let money: Vec<&str> = code.fates().iter().map(|fate| state(*fate).0).collect();
        let (name, about, retry) = (code.as_str(), code.about().trim(), word(code.retry()));
        let _ = writeln!(page, "| `{name}` | {about} | {} | {retry} | {} |", money.join(", "), code.step());
    }
    page
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashSet;
    use std::path::Path;

    use drain_protocol::Usdc;

    use super::super::Money;
    use super::*;

    #[test]
    fn the_page_is_written_from_the_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, markdown()).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == markdown(), "the page is old: run UPDATE_DOCS=1 cargo test --lib error");
    }

    /// M15: a code that may leave money in doubt is never one that may be repeated as it is, but where the repeat joins it.
    #[test]
    fn m15_each_row_is_whole_and_what_may_cost_twice_is_not_repeated() {
        let mut names = HashSet::new();
        for code in Code::ALL {
            let name = code.as_str();
            assert!(names.insert(name) && name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
            for text in [code.about().trim(), code.step()] {
                assert!(text.ends_with('.') && text.len() < 160 && !text.contains('|'), "{name}: {text}");
            }
            assert!(!code.fates().is_empty(), "{name}");
            let in_doubt = code.fates().iter().any(|fate| matches!(fate, Fate::Reserved | Fate::Unknown));
            let joins = matches!(code, Code::TransactionPending | Code::ChainUnavailable | Code::JournalFailed);
            assert!(!in_doubt || joins || code.retry() == Retry::No, "{name} may be paid twice");
        }
    }

    /// The names of the page are those of the data.
    #[test]
    fn states_are_spelled_as_data_spells_them() {
        let receipt = || "r".to_owned();
        for money in [
            Money::NotSpent,
            Money::Reserved { receipt: receipt(), at_most: Usdc::ZERO },
            Money::Credit { receipt: receipt() },
            Money::Spent { receipt: receipt(), amount: Usdc::ZERO },
            Money::Unknown,
            Money::GasOnly,
            Money::Pending { receipt: receipt() },
        ] {
            assert_eq!(serde_json::to_value(&money).unwrap()["state"], state(money.fate()).0);
        }
        for retry in [Retry::Safe, Retry::AfterFix, Retry::No] {
            assert_eq!(serde_json::to_value(retry).unwrap(), word(retry));
        }
    }
}
