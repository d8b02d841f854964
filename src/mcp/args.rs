//! Reading a tool's arguments strictly: what is wrong is said with the argument's name, before any money moves.
//!
//! Names are forgiven where the meaning is certain (`max_tokens` for `maxTokens`), refused where it is likely
//! (`maxCosts`: ignoring it would drop a limit), and else ignored with a note, as upstream ignores them.

mod names;
mod param;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use drain_protocol::chat::{Message, parse_messages};
use drain_protocol::duration::ChannelDuration;
use drain_protocol::text::one_line;
use drain_protocol::{ChannelId, Usdc};
use serde_json::{Map, Number, Value};

use crate::api::{PayFrom, ProviderWish};
use crate::error::Failure;
use crate::policy::repeat::IdempotencyKey;

pub(super) use names::nearest;
pub use param::{Kind, Param, input_schema};

/// Longest text of an id, a name or a filter.
const MAX_TEXT: usize = 256;
/// A conversation beyond this is refused here; the operator's own limit is lower and holds in the runtime.
pub(crate) const MAX_MESSAGES_BYTES: usize = 8 << 20;
/// No model writes more; a larger wish is a slip.
const MAX_TOKENS: u64 = 10_000_000;
/// Beyond this many digits a JSON number may not be the text that was sent.
const EXACT_DIGITS: usize = 15;

/// The arguments of one call, by the names of their [`Param`]s.
#[derive(Debug, Default)]
pub struct Args {
    values: Map<String, Value>,
    notes: Vec<String>,
}

impl Args {
    /// Sorts what came by the names that the tool knows. `null` counts as absent.
    pub fn new(params: &[Param], given: Map<String, Value>) -> Result<Self, Failure> {
        let mut args = Self::default();
        for (name, value) in given {
            if value.is_null() {
                continue;
            }
            match names::resolve(params, &name) {
                names::Resolved::Known(param) => {
                    if args.values.insert(param.name.to_owned(), value).is_some() {
                        return Err(Failure::argument(param.name, "it is given twice, under two names"));
                    }
                }
                names::Resolved::Misspelt(param) => {
                    let name = one_line(&name, 40);
                    return Err(Failure::argument(
                        &name,
                        format!("there is no such argument; {} is meant?", param.name),
                    ));
                }
                names::Resolved::Unknown => {
                    args.notes.push(format!("the unknown argument \"{}\" was ignored.", one_line(&name, 40)));
                }
            }
        }
        Ok(args)
    }

    /// What the caller should know about its arguments.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// A text, without blanks around it; none when absent or empty.
    pub fn text(&self, name: &str) -> Result<Option<String>, Failure> {
        let Some(value) = self.values.get(name) else { return Ok(None) };
        let text = value.as_str().ok_or_else(|| wrong(name, "it must be a string", value))?.trim();
        if text.chars().count() > MAX_TEXT {
            return Err(wrong(name, format!("it is longer than {MAX_TEXT} characters"), value));
        }
        if text.chars().any(char::is_control) {
            return Err(wrong(name, "it contains control characters", value));
        }
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }

    /// A text that must be there.
    pub fn required_text(&self, name: &str) -> Result<String, Failure> {
        self.text(name)?.ok_or_else(|| missing(name))
    }

    /// A URL that must be there. What it must be like is said where it is used.
    pub fn url(&self, name: &str) -> Result<String, Failure> {
        let Some(value) = self.values.get(name) else { return Err(missing(name)) };
        let text = value.as_str().ok_or_else(|| wrong(name, "it must be a string", value))?.trim();
        if text.is_empty() { Err(missing(name)) } else { Ok(text.to_owned()) }
    }

    /// Another tool's arguments in one.
    pub fn nested(&self, name: &str, params: &[Param]) -> Result<Option<Self>, Failure> {
        let Some(value) = self.values.get(name) else { return Ok(None) };
        let object = value.as_object().ok_or_else(|| wrong(name, "it must be an object", value))?;
        Self::new(params, object.clone()).map(Some)
    }

    /// What is sent: a text as it is, other JSON as its text.
    pub fn body(&self, name: &str) -> Result<Option<String>, Failure> {
        Ok(match self.values.get(name) {
            None => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(other) => Some(other.to_string()),
        })
    }

    /// Texts by their names.
    pub fn map(&self, name: &str) -> Result<BTreeMap<String, String>, Failure> {
        let Some(value) = self.values.get(name) else { return Ok(BTreeMap::new()) };
        let object = value.as_object().ok_or_else(|| wrong(name, "it must be an object of texts", value))?;
        let mut map = BTreeMap::new();
        for (key, value) in object {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                other => return Err(wrong(name, format!("{} must be a text", one_line(key, 40)), other)),
            };
            map.insert(key.clone(), text);
        }
        Ok(map)
    }

    /// One of a few words, compared without case.
    pub fn one_of(&self, name: &str, words: &[&'static str]) -> Result<Option<&'static str>, Failure> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match words.iter().find(|word| word.eq_ignore_ascii_case(&text)) {
            Some(word) => Ok(Some(word)),
            None => Err(Failure::argument(
                name,
                format!("it must be one of {} (got \"{}\")", words.join(", "), one_line(&text, 40)),
            )),
        }
    }

    /// True or false, also as the words; absent is false.
    pub fn flag(&self, name: &str) -> Result<bool, Failure> {
        match self.values.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(Value::String(text)) if text.trim().eq_ignore_ascii_case("true") => Ok(true),
            Some(Value::String(text)) if text.trim().eq_ignore_ascii_case("false") => Ok(false),
            Some(value) => Err(wrong(name, "it must be true or false", value)),
        }
    }

    /// A whole number from 1 to `max`.
    pub fn count(&self, name: &str, max: u64) -> Result<Option<u64>, Failure> {
        let Some(value) = self.values.get(name) else { return Ok(None) };
        let number = match value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => digits(text.trim()),
            _ => None,
        };
        match number {
            Some(number) if (1..=max).contains(&number) => Ok(Some(number)),
            _ => Err(wrong(name, format!("it must be a whole number from 1 to {max}"), value)),
        }
    }

    /// The caller's own name for a request.
    pub fn request_id(&self, name: &str) -> Result<Option<IdempotencyKey>, Failure> {
        self.text(name)?.map(|text| text.parse().map_err(|e| Failure::argument(name, e))).transpose()
    }

    /// The longest answer, in tokens.
    pub fn max_tokens(&self, name: &str) -> Result<Option<u32>, Failure> {
        Ok(self.count(name, MAX_TOKENS)?.and_then(|tokens| u32::try_from(tokens).ok()))
    }

    /// A temperature from 0 to 2, as it was written.
    pub fn temperature(&self, name: &str) -> Result<Option<Number>, Failure> {
        match self.values.get(name) {
            None => Ok(None),
            Some(Value::Number(number)) if number.as_f64().is_some_and(|t| (0.0..=2.0).contains(&t)) => {
                Ok(Some(number.clone()))
            }
            Some(value) => Err(wrong(name, "it must be a number from 0 to 2", value)),
        }
    }

    /// An amount of USDC: a string, or a JSON number whose decimal text is certain.
    pub fn amount(&self, name: &str) -> Result<Option<Usdc>, Failure> {
        let Some(value) = self.values.get(name) else { return Ok(None) };
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return Err(wrong(name, "it must be a string with an amount of USDC, for example \"1.50\"", value)),
        };
        if value.is_number() && text.bytes().filter(u8::is_ascii_digit).count() > EXACT_DIGITS {
            return Err(wrong(name, "a number of this length may not be exact; write the amount as a string", value));
        }
        text.parse().map(Some).map_err(|reason| wrong(name, reason, value))
    }

    /// An amount above zero.
    pub fn positive_amount(&self, name: &str) -> Result<Option<Usdc>, Failure> {
        match self.amount(name)? {
            Some(amount) if amount.is_zero() => Err(Failure::argument(name, "it must be above zero")),
            amount => Ok(amount),
        }
    }

    /// An amount above zero that must be there.
    pub fn required_amount(&self, name: &str) -> Result<Usdc, Failure> {
        self.positive_amount(name)?.ok_or_else(|| missing(name))
    }

    /// A channel's duration: a string, or a JSON number of whole seconds.
    pub fn duration(&self, name: &str) -> Result<Option<ChannelDuration>, Failure> {
        let Some(value) = self.values.get(name) else { return Ok(None) };
        let duration = match value {
            Value::String(text) => ChannelDuration::from_str(text),
            Value::Number(number) if number.as_u64().is_some() => {
                ChannelDuration::from_seconds(number.as_u64().unwrap_or_default())
            }
            _ => return Err(wrong(name, "it must be a string such as \"24h\" or whole seconds", value)),
        };
        duration.map(Some).map_err(|reason| wrong(name, reason, value))
    }

    /// A channel id that must be there.
    pub fn channel(&self, name: &str) -> Result<ChannelId, Failure> {
        self.optional_channel(name)?.ok_or_else(|| missing(name))
    }

    /// A channel id.
    pub fn optional_channel(&self, name: &str) -> Result<Option<ChannelId>, Failure> {
        let Some(value) = self.values.get(name) else { return Ok(None) };
        let text = value.as_str().ok_or_else(|| wrong(name, "it must be a string", value))?;
        text.parse().map(Some).map_err(|reason: drain_protocol::voucher::ChannelIdError| {
            let mut failure = wrong(name, reason, value);
            failure.next = "Take the id from drain_channels or drain_open_channel.".into();
            failure
        })
    }

    /// What pays: a channel, or a provider with what may be locked for it.
    pub fn pay_from(&self) -> Result<PayFrom, Failure> {
        let channel = self.optional_channel("channelId")?;
        let provider = self.text("provider")?;
        let (max_deposit, duration) = (self.positive_amount("maxDeposit")?, self.duration("duration")?);
        match (channel, provider) {
            (Some(_), Some(_)) => Err(Failure::argument("provider", "give a channelId or a provider, not both")),
            (None, None) => Err(Failure::argument("provider", "give a provider's id, or a channelId")),
            (Some(_), None) if max_deposit.is_some() || duration.is_some() => {
                Err(Failure::argument("maxDeposit", "it goes with a provider: a channel has its deposit"))
            }
            (Some(channel), None) => Ok(PayFrom::Channel(channel)),
            (None, Some(provider)) => Ok(PayFrom::Provider(ProviderWish { provider, max_deposit, duration })),
        }
    }

    /// The conversation, which must be there.
    pub fn messages(&self, name: &str) -> Result<Vec<Message>, Failure> {
        self.optional_messages(name)?.ok_or_else(|| missing(name))
    }

    /// The conversation.
    pub fn optional_messages(&self, name: &str) -> Result<Option<Vec<Message>>, Failure> {
        let Some(value) = self.values.get(name) else { return Ok(None) };
        let messages = parse_messages(value, MAX_MESSAGES_BYTES);
        messages.map(Some).map_err(|reason| {
            let mut failure = Failure::argument(name, reason);
            failure.next = "Send messages as [{\"role\":\"user\",\"content\":\"text\"}]; where a provider takes JSON, \
                            put it into content as a string."
                .into();
            failure
        })
    }
}

fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

fn missing(name: &str) -> Failure {
    Failure::argument(name, "it is required")
}

/// The argument's value is not what `reason` asks for.
fn wrong(name: &str, reason: impl Display, value: &Value) -> Failure {
    Failure::argument(name, format!("{reason} (got {})", one_line(&value.to_string(), 60)))
}
