//! Times as people read them.

/// The end of the year 9999.
const LAST_DATE: u64 = 253_402_300_799;

/// Unix seconds as `2026-07-28 09:30 UTC`; zero is a time that is not known yet.
pub fn utc(seconds: u64) -> String {
    if seconds == 0 {
        return "an unknown time".into();
    }
    // Beyond the year 9999 nobody reads a date.
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds.min(LAST_DATE));
    let text = humantime::format_rfc3339_seconds(at).to_string();
    // 2026-01-31T12:00:00Z
    format!("{} {} UTC", text.get(..10).unwrap_or_default(), text.get(11..16).unwrap_or_default())
}

/// Unix seconds as RFC 3339; beyond the year 9999 nobody reads a date.
pub fn rfc3339(seconds: u64) -> String {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds.min(LAST_DATE));
    humantime::format_rfc3339_seconds(at).to_string()
}

/// Seconds as their two largest units: `1d 2h`, `59s`.
pub fn span(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (size, name) in units {
        if rest >= size && parts.len() < 2 {
            parts.push(format!("{}{name}", rest / size));
            rest %= size;
        }
    }
    if parts.is_empty() { "0s".into() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (seconds, text) in [
            (1, "1970-01-01 00:00 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (1_772_323_200, "2026-03-01 00:00 UTC"),
            (1_785_231_000, "2026-07-28 09:30 UTC"),
            (4_107_542_399, "2100-02-28 23:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
            (1_767_225_599, "2025-12-31 23:59 UTC"),
            (u64::MAX, "9999-12-31 23:59 UTC"),
        ] {
            assert_eq!(utc(seconds), text);
        }
        assert_eq!(utc(0), "an unknown time");
    }

    #[test]
    fn spans() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (3_661, "1h 1m"),
            (61, "1m 1s"),
            (5_400, "1h 30m"),
            (90_000, "1d 1h"),
            (200_000, "2d 7h"),
            (86_401, "1d 1s"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }
}
