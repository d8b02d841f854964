//! How long a channel stays open, as people and agents write it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest channel that we open: ten years. Longer is a slip of the pen, and the contract would take it.
const MAX_SECONDS: u64 = 10 * 365 * 86_400;

/// A channel's duration in whole seconds, between one second and ten years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChannelDuration(u64);

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not of the accepted form.
    #[error(
        "the duration is not of the form \"90m\", \"24h\", \"7d\", \"1h30m\", \"1.5h\" or a whole number of seconds"
    )]
    Malformed,
    /// Zero seconds.
    #[error("the duration is zero")]
    Zero,
    /// Above ten years.
    #[error("the duration is longer than ten years")]
    TooLong,
}

impl ChannelDuration {
    /// From seconds.
    pub fn from_seconds(seconds: u64) -> Result<Self, DurationError> {
        match seconds {
            0 => Err(DurationError::Zero),
            s if s > MAX_SECONDS => Err(DurationError::TooLong),
            s => Ok(Self(s)),
        }
    }

    /// Whole seconds, at least one.
    pub const fn seconds(self) -> u64 {
        self.0
    }
}

/// Reads digits with an optional fraction from the front; gives milliseconds-free rational `(whole, numerator, denominator)`.
fn number(text: &str) -> Result<(u64, u64, u64, &str), DurationError> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || number.ends_with('.') || fraction.len() > 6 || fraction.contains('.') {
        return Err(DurationError::Malformed);
    }
    let whole = whole.parse().map_err(|_| DurationError::TooLong)?;
    let numerator = if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| DurationError::Malformed)? };
    let denominator = 10u64.pow(u32::try_from(fraction.len()).map_err(|_| DurationError::Malformed)?);
    Ok((whole, numerator, denominator, rest))
}

fn unit_seconds(name: &str) -> Option<u64> {
    Some(match name {
        "s" | "sec" | "secs" | "second" | "seconds" => 1,
        "m" | "min" | "mins" | "minute" | "minutes" => 60,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3_600,
        "d" | "day" | "days" => 86_400,
        "w" | "week" | "weeks" => 604_800,
        _ => return None,
    })
}

impl FromStr for ChannelDuration {
    type Err = DurationError;

    /// `"24h"`, `"1h30m"`, `"1.5h"` (5,400 s), `"90 minutes"`, `"1w"`, or whole seconds (`"3600"`). Parts that do not
    /// come to whole seconds are refused.
    fn from_str(text: &str) -> Result<Self, DurationError> {
        let text = text.trim().to_ascii_lowercase();
        if text.is_empty() {
            return Err(DurationError::Malformed);
        }
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return Self::from_seconds(text.parse().map_err(|_| DurationError::TooLong)?);
        }
        let mut rest = text.as_str();
        let mut total: u64 = 0;
        let mut previous_unit = u64::MAX;
        while !rest.is_empty() {
            let (whole, numerator, denominator, after) = number(rest)?;
            let after = after.trim_start();
            let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
            let unit = unit_seconds(&after[..end]).ok_or(DurationError::Malformed)?;
            // "1m1h" and "1h1h" are more likely slips than wishes.
            if unit >= previous_unit || numerator * unit % denominator != 0 {
                return Err(DurationError::Malformed);
            }
            previous_unit = unit;
            let part = whole
                .checked_mul(unit)
                .and_then(|s| s.checked_add(numerator * unit / denominator))
                .ok_or(DurationError::TooLong)?;
            total = total.checked_add(part).ok_or(DurationError::TooLong)?;
            rest = after[end..].trim_start();
        }
        Self::from_seconds(total)
    }
}

impl fmt::Display for ChannelDuration {
    /// The largest units that fit: `1d`, `1h 30m`, `59s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        let mut parts = Vec::new();
        for (seconds, name) in [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")] {
            if rest >= seconds {
                parts.push(format!("{}{name}", rest / seconds));
                rest %= seconds;
            }
        }
        f.pad(&parts.join(" "))
    }
}

impl Serialize for ChannelDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for ChannelDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_seconds(u64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_people_write() {
        for (text, seconds) in [
            ("1h", 3_600),
            ("24h", 86_400),
            ("1.5h", 5_400),
            ("1h30m", 5_400),
            ("1h 30m", 5_400),
            ("90 minutes", 5_400),
            ("1w", 604_800),
            ("3600", 3_600),
            ("7D", 604_800),
            ("0.5m", 30),
            (" 2d ", 172_800),
        ] {
            assert_eq!(text.parse::<ChannelDuration>().map(ChannelDuration::seconds), Ok(seconds), "{text}");
        }
    }

    #[test]
    fn refuses_what_it_cannot_mean() {
        use DurationError::*;
        for (text, error) in [
            ("", Malformed),
            ("0", Zero),
            ("0h", Zero),
            ("-1h", Malformed),
            ("h", Malformed),
            ("1x", Malformed),
            ("1h1h", Malformed),
            ("1m1h", Malformed),
            ("1.h", Malformed),
            ("1..5h", Malformed),
            ("1.0001s", Malformed),
            ("1e3", Malformed),
            ("99999999999999999999", TooLong),
            ("99999999999999999999h", TooLong),
            ("11y", Malformed),
            ("4000d", TooLong),
            ("1h30", Malformed),
        ] {
            assert_eq!(text.parse::<ChannelDuration>(), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn display_reads_back(seconds in 1..=MAX_SECONDS) {
            let duration = ChannelDuration(seconds);
            prop_assert_eq!(duration.to_string().parse::<ChannelDuration>(), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = text.parse::<ChannelDuration>();
        }
    }
}
