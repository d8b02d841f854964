//! From text to values. Where a text may be private, no error repeats it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use drain_protocol::duration::ChannelDuration;
use drain_protocol::text::may_be_key;
use drain_protocol::{Address, Generation, Usdc};
use reqwest::Url;

use super::error::{Bad, quoted};
use super::tools::Toolset;
use crate::http_client::host_and_port;
pub use crate::http_client::is_loopback;
use crate::policy::Pol;
use crate::policy::approvals::Via;

pub(super) fn amount(text: &str) -> Result<Usdc, Bad> {
    text.parse()
        .map_err(|e| Bad::new(format!("{} is not an amount: {e}", quoted(text)), "Write USDC, for example 2.50"))
}

/// Gas money.
pub(super) fn pol(text: &str) -> Result<Pol, Bad> {
    text.parse().map_err(|e| Bad::new(format!("{}: {e}", quoted(text)), "Write POL, for example 0.5"))
}

/// A name of ours, in records and budgets: letters, digits, dots, dashes, underscores; at most 64.
pub(super) fn name(text: &str) -> Result<String, Bad> {
    let text = text.trim();
    not_a_key(text, "Write a name")?;
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if text.is_empty() || text.len() > 64 || !text.chars().all(good) {
        return Err(Bad::new(
            format!("{} is not a name", quoted(text)),
            "Write letters, digits, dots, dashes and underscores, 64 at most",
        ));
    }
    Ok(text.to_owned())
}

/// An amount above which something happens, or `off`.
pub(super) fn threshold(text: &str) -> Result<Option<Usdc>, Bad> {
    if text.trim().eq_ignore_ascii_case("off") { Ok(None) } else { amount(text).map(Some) }
}

/// A set of tools.
pub(super) fn tools(text: &str) -> Result<Toolset, Bad> {
    text.trim().parse().map_err(|_| Bad::new(format!("{} is no set of tools", quoted(text)), "Write read, pay or all"))
}

/// The ways by which a person may answer.
pub(super) fn ways(text: &str) -> Result<Vec<Via>, Bad> {
    let fix = "Write terminal, elicitation, or both";
    let ways: Vec<Via> = words(text)
        .map(|word| match word.to_ascii_lowercase().as_str() {
            "terminal" => Ok(Via::Terminal),
            "elicitation" => Ok(Via::Elicitation),
            _ => Err(Bad::new(format!("{} is no way to ask a person", quoted(word)), fix)),
        })
        .collect::<Result<_, _>>()?;
    if ways.is_empty() { Err(Bad::new("it names no way", fix)) } else { Ok(ways) }
}

/// Where events are posted to: https, or http on this machine.
pub(super) fn webhook(text: &str) -> Result<Url, Bad> {
    let url = plain_url(text)?;
    if url.scheme() == "https" || is_loopback(&url) {
        return Ok(url);
    }
    Err(Bad::new("it is not encrypted", "Write an https URL"))
}

/// Where to listen: a port alone is one of this machine only.
pub(super) fn listen(text: &str) -> Result<Option<SocketAddr>, Bad> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    let port = || text.parse().ok().map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let local = || {
        text.strip_prefix("localhost:")
            .and_then(|port| port.parse().ok())
            .map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    };
    let found = text.parse().ok().or_else(port).or_else(local);
    found.map(Some).ok_or_else(|| {
        Bad::new(format!("{} is no address to listen on", quoted(text)), "Write for example 127.0.0.1:9464, or off")
    })
}

pub(super) fn switch(text: &str) -> Result<bool, Bad> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err(Bad::new(format!("{} is neither on nor off", quoted(text)), "Write on or off")),
    }
}

/// A whole number between two bounds, both included.
pub(super) fn number<T>(text: &str, least: T, most: T) -> Result<T, Bad>
where
    T: FromStr + PartialOrd + std::fmt::Display,
{
    match text.trim().parse::<T>() {
        Ok(n) if n >= least && n <= most => Ok(n),
        _ => Err(Bad::new(
            format!("{} is not a whole number between {least} and {most}", quoted(text)),
            format!("Write a whole number between {least} and {most}"),
        )),
    }
}

/// A waiting time: `500ms`, `120s`, `2m`, or whole seconds. Between 50 milliseconds and a day.
pub(super) fn wait(text: &str) -> Result<Duration, Bad> {
    let fix = "Write for example 500ms, 120s or 2m";
    let bad = |problem: String| Bad::new(format!("{} {problem}", quoted(text)), fix);
    let trimmed = text.trim().to_ascii_lowercase();
    let time = match trimmed.strip_suffix("ms") {
        Some(digits) => Duration::from_millis(digits.trim().parse().map_err(|_| bad("is not a time".into()))?),
        None => {
            let parsed: ChannelDuration = trimmed.parse().map_err(|_| bad("is not a time".into()))?;
            Duration::from_secs(parsed.seconds())
        }
    };
    if time < Duration::from_millis(50) || time > Duration::from_secs(86_400) {
        return Err(bad("is not between 50ms and 24h".into()));
    }
    Ok(time)
}

/// How old something may be: a waiting time, or `0` for always anew.
pub(super) fn age(text: &str) -> Result<Duration, Bad> {
    match text.trim() {
        "0" | "0s" | "0ms" => Ok(Duration::ZERO),
        other => wait(other),
    }
}

/// How long something counts: from a second to 365 days.
pub(super) fn days(text: &str) -> Result<Duration, Bad> {
    let bad = || Bad::new(format!("{} is not a time of up to 365 days", quoted(text)), "Write for example 24h or 7d");
    let time: ChannelDuration = text.trim().to_ascii_lowercase().parse().map_err(|_| bad())?;
    if (1..=365 * 86_400).contains(&time.seconds()) { Ok(Duration::from_secs(time.seconds())) } else { Err(bad()) }
}

/// How long something is kept, or `0` for not at all.
pub(super) fn kept(text: &str) -> Result<Duration, Bad> {
    if matches!(text.trim(), "0" | "0s" | "0d") { Ok(Duration::ZERO) } else { days(text) }
}

/// How long something may be unused: from a minute to 365 days, or `off`.
pub(super) fn idle(text: &str) -> Result<Option<Duration>, Bad> {
    if text.trim().eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    let bad = || Bad::new(format!("{} is no idle time", quoted(text)), "Write for example 6h or 1h30m, or off");
    let parsed: ChannelDuration = text.trim().parse().map_err(|_| bad())?;
    let seconds = parsed.seconds();
    if (60..=365 * 86_400).contains(&seconds) { Ok(Some(Duration::from_secs(seconds))) } else { Err(bad()) }
}

pub(super) fn channel_duration(text: &str) -> Result<ChannelDuration, Bad> {
    text.parse().map_err(|e| Bad::new(format!("{}: {e}", quoted(text)), "Write for example 24h, 7d or 1h30m"))
}

pub(super) fn generation(text: &str) -> Result<Generation, Bad> {
    text.parse().map_err(|_| Bad::new(format!("{} is not a contract generation", quoted(text)), "Write v1 or v2"))
}

/// An address and, where its mixed case is not its checksum, a warning.
pub(super) fn address(text: &str) -> Result<(Address, Option<String>), Bad> {
    let text = text.trim();
    let bad = |problem: &str| {
        Bad::new(format!("{} is not an address: {problem}", quoted(text)), "Write 0x and 40 hexadecimal digits")
    };
    let digits =
        text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).ok_or_else(|| bad("it does not start with 0x"))?;
    if digits.len() == 64 {
        // A private key in the wrong place is not repeated.
        return Err(Bad::new("this is no address but as long as a private key", "Write 0x and 40 hexadecimal digits"));
    }
    if digits.len() != 40 {
        return Err(bad("it has another length"));
    }
    let address: Address = digits.parse().map_err(|_| bad("it holds other characters"))?;
    if address.is_zero() {
        return Err(bad("it is the zero address"));
    }
    let one_case = !digits.bytes().any(|b| b.is_ascii_lowercase()) || !digits.bytes().any(|b| b.is_ascii_uppercase());
    let checksummed = address.to_checksum(None);
    let warning = (!one_case && checksummed.get(2..) != Some(digits))
        .then(|| format!("{text} fails its checksum (it would be {checksummed}): make sure that no digit is wrong"));
    Ok((address, warning))
}

/// An http or https URL; without a scheme it means https. Never repeats the text.
pub(super) fn url(text: &str) -> Result<Url, Bad> {
    let fix = "Write for example https://rpc.example.com";
    let text = text.trim();
    let full = if text.contains("://") { text.to_string() } else { format!("https://{text}") };
    let url = Url::parse(&full).map_err(|e| Bad::new(format!("this is not a URL ({e})"), fix))?;
    match url.scheme() {
        "http" | "https" => {}
        "ws" | "wss" => return Err(Bad::new("websocket URLs are not supported", "Write the endpoint's https URL")),
        _ => return Err(Bad::new("this is neither an http nor an https URL", fix)),
    }
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| Bad::new("this URL has no host", fix))?;
    not_a_key(host, fix)?;
    Ok(url)
}

/// The same for what is asked over [`crate::http_client`], which sends no user name and refuses each call to such a URL.
pub(super) fn plain_url(text: &str) -> Result<Url, Bad> {
    let url = url(text)?;
    if url.username().is_empty() && url.password().is_none() {
        return Ok(url);
    }
    Err(Bad::new(
        "the URL carries a user name or password, which is never sent",
        "Write it without; a token may stand in its path or query",
    ))
}

/// Several names, at least one, in lower case.
pub(super) fn names(items: &[&str]) -> Result<Vec<String>, Bad> {
    if items.is_empty() {
        return Err(Bad::new("it holds no name", "Write one or more, separated by commas or blanks, or unset it"));
    }
    Ok(items.iter().map(|name| name.to_ascii_lowercase()).collect())
}

/// Several hosts, at least one, each as [`host_and_port`] spells it.
pub(super) fn hosts(items: &[&str]) -> Result<Vec<String>, Bad> {
    let host = |item: &&str| {
        let url = plain_url(item)?;
        if url.path() != "/" || url.query().is_some() || url.host_str().is_some_and(|host| host.ends_with('.')) {
            return Err(Bad::new(
                "it is not a host alone",
                "Write for example api.example.com, or data.example.org:8443",
            ));
        }
        Ok(host_and_port(&url))
    };
    names(items)?.iter().map(|item| host(&item.as_str())).collect()
}

/// Several texts, separated by commas or blanks.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty())
}

/// A private key in the wrong place is refused before it becomes a name that is shown.
fn not_a_key(text: &str, fix: &str) -> Result<(), Bad> {
    if may_be_key(text) { Err(Bad::new("this is as long as a private key", fix)) } else { Ok(()) }
}

/// A path; `~/` is the person's home folder, as configuration files of MCP clients do not expand it.
pub(super) fn path(text: &str, person: Option<&Path>) -> Result<PathBuf, Bad> {
    let text = text.trim();
    not_a_key(text, "Write a path")?;
    match text.strip_prefix("~/").or((text == "~").then_some("")) {
        Some(rest) => Ok(person
            .ok_or_else(|| Bad::new("~ means your home folder, but HOME is not set", "Write the whole path"))?
            .join(rest)),
        None => Ok(PathBuf::from(text)),
    }
}

/// A URL as it may be shown: scheme, host and port. User, path and query can be credentials (M12).
pub fn shown_url(url: &Url) -> String {
    let more = if url.path().len() > 1 || url.query().is_some() { "/…" } else { "" };
    format!("{}://{}{more}", url.scheme(), host_and_port(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_without_scheme_mean_https() {
        assert_eq!(url("handshake58.com/api").unwrap().as_str(), "https://handshake58.com/api");
        assert_eq!(url("localhost:8545").unwrap().as_str(), "https://localhost:8545/");
        for bad in ["", "https://", "ftp://host/", "wss://host/", "http://[::1", "://x"] {
            assert!(url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn shown_urls_hold_no_credentials() {
        for (text, shown) in [
            ("https://user:secret@host.example/v2/KEY?token=abc", "https://host.example/…"),
            ("http://127.0.0.1:8545", "http://127.0.0.1:8545"),
            ("https://host.example/?k=SECRET", "https://host.example/…"),
        ] {
            assert_eq!(shown_url(&url(text).unwrap()), shown);
        }
    }

    #[test]
    fn loopback_is_recognised() {
        for (text, yes) in [
            ("http://127.0.0.1:1", true),
            ("http://localhost", true),
            ("http://[::1]:2", true),
            ("http://10.0.0.1", false),
            ("https://localhost.example", false),
        ] {
            assert_eq!(is_loopback(&url(text).unwrap()), yes, "{text}");
        }
    }

    #[test]
    fn addresses_in_any_case() {
        let good = "0x0C2B3aA1e80629D572b1f200e6DF3586B3946A8A";
        assert_eq!(address(good).unwrap().1, None);
        assert_eq!(address(&good.to_lowercase()).unwrap().1, None);
        assert!(address("0x0c2B3aA1e80629D572b1f200e6DF3586B3946A8A").unwrap().1.unwrap().contains("checksum"));
        for bad in [
            "",
            "0x",
            "0C2B3aA1e80629D572b1f200e6DF3586B3946A8A",
            "0x0C2B3aA1e80629D572b1f200e6DF3586B3946A8",
            "0xZC2B3aA1e80629D572b1f200e6DF3586B3946A8A",
            "0x0000000000000000000000000000000000000000",
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
        let key = format!("0x{}", "ab".repeat(32));
        assert!(!address(&key).unwrap_err().problem.contains("abab"));
    }

    #[test]
    fn waits() {
        for (text, ms) in [("500ms", 500), ("120s", 120_000), ("2m", 120_000), ("10", 10_000), ("1.5h", 5_400_000)] {
            assert_eq!(wait(text).unwrap().as_millis(), ms, "{text}");
        }
        for bad in ["", "0", "0ms", "-1s", "ms", "1w", "soon", "99999999999999999999"] {
            assert!(wait(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ages() {
        assert_eq!((age("0").unwrap(), age("0s").unwrap()), (Duration::ZERO, Duration::ZERO));
        assert_eq!(age("1m").unwrap().as_secs(), 60);
        assert!(age("-1s").is_err() && age("old").is_err());
    }

    #[test]
    fn paths_of_a_person() {
        let home = Path::new("/home/ann");
        assert_eq!(path("~/x", Some(home)).unwrap(), Path::new("/home/ann/x"));
        assert_eq!(path("/x", None).unwrap(), Path::new("/x"));
        assert!(path("~/x", None).is_err());
    }
}
