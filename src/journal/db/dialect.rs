//! The few words in which PostgreSQL differs: everything else is written so that both databases know it.

/// A statement as PostgreSQL reads it: places are `$1`, and it chooses its indexes itself.
pub(super) fn postgres(sql: &str) -> String {
    let mut text = String::with_capacity(sql.len());
    let mut parts = sql.split(" INDEXED BY ");
    text.extend(parts.next());
    for part in parts {
        // Without the index's name.
        text.push_str(part.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_'));
    }
    text.replace('?', "$")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_hints() {
        assert_eq!(
            postgres("SELECT 1 FROM vouchers v INDEXED BY vouchers_in_flight WHERE v.intent = ?1 AND nonce = ?12"),
            "SELECT 1 FROM vouchers v WHERE v.intent = $1 AND nonce = $12"
        );
        assert_eq!(postgres("UPDATE vouchers INDEXED BY by_key SET a = ?1"), "UPDATE vouchers SET a = $1");
    }
}
