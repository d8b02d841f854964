//! What the providers that are not language models do: forecasts, images, work priced per item.
//! Everything is made from the request, so that the same request always gives the same answer.

use alloy::primitives::keccak256;
use serde_json::{Value, json};

use crate::provider::config::Kind;

/// Work to be done, checked before payment.
#[derive(Clone, Debug)]
pub(crate) enum Job {
    Forecast { city: String, days: u64 },
    Image { prompt: String, size: u32 },
    Items(Vec<String>),
}

impl Job {
    /// Understands the last user message: plain text, or JSON where the documents say so. The error is for people.
    pub(crate) fn parse(kind: Kind, message: &str) -> Result<Self, &'static str> {
        let message = message.trim();
        let fields = serde_json::from_str::<Value>(message).ok().filter(Value::is_object);
        let text = |name: &str| match &fields {
            Some(fields) => fields.get(name).and_then(Value::as_str).unwrap_or_default().trim().to_owned(),
            None => message.to_owned(),
        };
        let number = |name: &str, default: u64| {
            fields.as_ref().map_or(Some(default), |f| f.get(name).map_or(Some(default), Value::as_u64))
        };
        match kind {
            Kind::Llm => Err("not a service"),
            Kind::Forecast => {
                let (city, days) = (text("city"), number("days", 3));
                match days {
                    Some(days @ 1..=7) if !city.is_empty() => Ok(Self::Forecast { city, days }),
                    _ => Err("Send a city name, or JSON {\"city\": \"..\", \"days\": 1..7}."),
                }
            }
            Kind::Image => {
                let (prompt, size) = (text("prompt"), number("size", 64));
                match size.and_then(|size| u32::try_from(size).ok()) {
                    Some(size @ 16..=512) if !prompt.is_empty() => Ok(Self::Image { prompt, size }),
                    _ => Err("Send a prompt, or JSON {\"prompt\": \"..\", \"size\": 16..512}."),
                }
            }
            Kind::PerItem => {
                let items = fields.as_ref().and_then(|fields| fields.get("items")).and_then(Value::as_array);
                let items: Option<Vec<String>> =
                    items.and_then(|items| items.iter().map(|item| item.as_str().map(str::to_owned)).collect());
                match items {
                    Some(items) if (1..=100).contains(&items.len()) => Ok(Self::Items(items)),
                    _ => Err("Send JSON {\"items\": [\"text\", ..]} with 1 to 100 texts."),
                }
            }
        }
    }

    /// How many times the price this job costs.
    pub(crate) fn units(&self) -> u64 {
        match self {
            Self::Items(items) => items.len() as u64,
            Self::Forecast { .. } | Self::Image { .. } => 1,
        }
    }

    /// Does it. JSON text, as such providers put it into the message's content.
    pub(crate) fn run(&self) -> String {
        match self {
            Self::Forecast { city, days } => forecast(city, *days).to_string(),
            Self::Image { prompt, size } => {
                let image = format!("data:image/png;base64,{}", base64(&png(prompt, *size)));
                json!({"prompt": prompt, "images": [image]}).to_string()
            }
            Self::Items(items) => {
                let results: Vec<_> = items
                    .iter()
                    .map(|item| json!({"words": item.split_whitespace().count(), "characters": item.chars().count()}))
                    .collect();
                json!({"results": results}).to_string()
            }
        }
    }
}

fn forecast(city: &str, days: u64) -> Value {
    const SKIES: [&str; 5] = ["clear", "cloudy", "rain", "showers", "fog"];
    let days: Vec<_> = (1..=days)
        .map(|day| {
            let hash = keccak256(format!("{}/{day}", city.to_lowercase()));
            let low = i64::from(hash[0] % 25) - 5;
            let high = low + 3 + i64::from(hash[1] % 10);
            json!({"day": day, "low_c": low, "high_c": high, "sky": SKIES[usize::from(hash[2]) % SKIES.len()]})
        })
        .collect();
    json!({"city": city, "note": "invented by the DRAIN sandbox", "days": days})
}

/// A square picture of 8 x 8 tiles in colours from the prompt.
fn png(prompt: &str, size: u32) -> Vec<u8> {
    let hash = keccak256(prompt);
    let mut rows = Vec::with_capacity((size as usize * 3 + 1) * size as usize);
    for y in 0..size {
        rows.push(0); // no filter
        for x in 0..size {
            let tile = (y * 8 / size * 8 + x * 8 / size) as usize;
            rows.extend([hash[tile % 32], hash[(tile + 11) % 32], hash[(tile + 23) % 32]]);
        }
    }
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = Vec::with_capacity(13);
    header.extend(size.to_be_bytes());
    header.extend(size.to_be_bytes());
    header.extend([8, 2, 0, 0, 0]); // 8 bits, RGB
    chunk(&mut file, b"IHDR", &header);
    chunk(&mut file, b"IDAT", &zlib_stored(&rows));
    chunk(&mut file, b"IEND", &[]);
    file
}

fn chunk(file: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    file.extend((data.len() as u32).to_be_bytes());
    let start = file.len();
    file.extend(kind);
    file.extend(data);
    let sum = crc32(&file[start..]);
    file.extend(sum.to_be_bytes());
}

/// zlib without compression: the format asks for the frame, not for the work.
fn zlib_stored(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    let mut blocks = data.chunks(0xffff).peekable();
    while let Some(block) = blocks.next() {
        out.push(u8::from(blocks.peek().is_none()));
        let length = block.len() as u16;
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(block);
    }
    let (mut a, mut b) = (1u32, 0u32);
    for &byte in data {
        a = (a + u32::from(byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    out.extend(((b << 16) | a).to_be_bytes());
    out
}

fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

fn base64(data: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(data.len().div_ceil(3) * 4);
    for part in data.chunks(3) {
        let at = |index: usize| u32::from(part.get(index).copied().unwrap_or_default());
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for index in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * index)) as usize & 63];
            text.push(if index <= part.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_checksums_and_encodings() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(zlib_stored(b"Wikipedia")[16..], 0x11e6_0398u32.to_be_bytes());
        for (plain, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(base64(plain.as_bytes()), text);
        }
    }

    #[test]
    fn jobs_are_checked_before_payment() {
        assert!(matches!(Job::parse(Kind::Forecast, " Lisbon "), Ok(Job::Forecast { days: 3, .. })));
        assert!(matches!(Job::parse(Kind::Forecast, r#"{"city":"Oslo","days":7}"#), Ok(Job::Forecast { days: 7, .. })));
        assert!(Job::parse(Kind::Forecast, r#"{"city":"Oslo","days":8}"#).is_err());
        assert!(Job::parse(Kind::Forecast, "").is_err());
        assert!(Job::parse(Kind::PerItem, "one").is_err());
        assert_eq!(Job::parse(Kind::PerItem, r#"{"items":["a","b"]}"#).map(|job| job.units()), Ok(2));
        assert!(Job::parse(Kind::Image, r#"{"prompt":"x","size":4096}"#).is_err());
    }
}
