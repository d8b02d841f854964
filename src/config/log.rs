//! How the log is written: by the environment alone, before anything else is read.

use super::error::{Bad, ConfigError, quoted};
use super::keys::Key;
use super::sources::{Raw, Sources};
use super::values;

/// One way to write a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For a person.
    Text,
    /// For a machine: one object a line.
    Json,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// A filter as tracing-subscriber reads it; `None` where nobody chose one.
    pub filter: Option<String>,
    /// The form of a line.
    pub format: LogFormat,
    /// Whether what is asked and answered is logged too.
    pub content: bool,
}

impl LogConfig {
    /// As the environment says.
    ///
    /// # Errors
    /// A value that is none, by the name of its variable. The filter is read where it is used.
    pub fn read(sources: &Sources) -> Result<Self, ConfigError> {
        let of = |key: Key| sources.variable(key.spec().env);
        let or_table = |key: Key| Ok(of(key)?.unwrap_or_else(|| Raw::new(key.spec().default, key.spec().env)));
        Ok(Self {
            filter: of(Key::Log)?.map(|raw| raw.text.to_string()),
            format: or_table(Key::LogFormat)?.parse(format)?,
            content: or_table(Key::LogContent)?.parse(values::switch)?,
        })
    }
}

fn format(text: &str) -> Result<LogFormat, Bad> {
    match text.to_ascii_lowercase().as_str() {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(Bad::new(format!("{} is neither text nor json", quoted(text)), "Write text or json")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<LogConfig, ConfigError> {
        LogConfig::read(&Sources::from_pairs(vars.iter().copied()))
    }

    #[test]
    fn the_environment_says_how_it_is_written() {
        let unset = LogConfig { filter: None, format: LogFormat::Text, content: false };
        assert_eq!(read(&[]).unwrap(), unset);
        let set = [("DRAIN_LOG", " info "), ("DRAIN_LOG_FORMAT", "JSON"), ("DRAIN_LOG_CONTENT", "on")];
        let chosen = LogConfig { filter: Some("info".into()), format: LogFormat::Json, content: true };
        assert_eq!(read(&set).unwrap(), chosen);
    }

    #[test]
    fn what_is_none_is_said() {
        for (name, value) in [("DRAIN_LOG_FORMAT", "xml"), ("DRAIN_LOG_CONTENT", "perhaps")] {
            assert_eq!(read(&[(name, value)]).unwrap_err().name, name);
        }
    }
}
