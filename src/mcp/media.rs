//! Answers that are no text to read: images and sounds inside of them, and texts that are too long.

use rmcp::model::ContentBlock;
use serde_json::Value;

use super::render::fence;

/// Answers up to this many characters are shown whole.
pub const MAX_SHOWN: usize = 20_000;
/// How much of a longer one is shown.
const FIRST_PART: usize = 2_000;
/// Media taken out of one answer; what is beyond stays text.
const MAX_MEDIA: usize = 8;
/// Base64 shorter than this is left where it is.
const MIN_BASE64: usize = 64;
/// Longer than any MIME type of an image or a sound.
const MAX_MIME: usize = 40;

/// An answer in the pieces in which a client can show it.
#[derive(Debug, Default)]
pub struct Pieces {
    /// The text that is left, as long as it is to be read.
    pub text: String,
    /// True when `text` is the first part only.
    pub truncated: bool,
    /// Images and sounds, and the whole text when it is long.
    pub blocks: Vec<ContentBlock>,
}

/// Takes an answer apart. `receipt` names the resource of a long one.
pub fn pieces(content: &str, receipt: &str) -> Pieces {
    let mut blocks = Vec::new();
    let text = match from_json(content, &mut blocks) {
        Some(text) => text,
        None => data_urls(content, &mut blocks),
    };
    let length = text.chars().count();
    if length <= MAX_SHOWN {
        return Pieces { text, truncated: false, blocks };
    }
    let first: String = text.chars().take(FIRST_PART).collect();
    blocks.push(ContentBlock::embedded_text(uri(receipt), fence("provider answer", &text, usize::MAX)));
    Pieces { text: first, truncated: true, blocks }
}

/// The address of a long answer.
pub fn uri(receipt: &str) -> String {
    format!("drain://answers/{receipt}")
}

/// Replaces media in the strings of a JSON answer; none when it is no JSON or has none.
fn from_json(content: &str, blocks: &mut Vec<ContentBlock>) -> Option<String> {
    if !content.trim_start().starts_with(['{', '[']) {
        return None;
    }
    let mut value: Value = serde_json::from_str(content).ok()?;
    replace(&mut value, blocks);
    (!blocks.is_empty()).then(|| value.to_string())
}

fn replace(value: &mut Value, blocks: &mut Vec<ContentBlock>) {
    match value {
        Value::String(text) => {
            if let Some(mime) = sniff(text) {
                *text = take(mime, text.clone(), blocks);
            } else if text.contains("data:") {
                *text = data_urls(text, blocks);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, blocks)),
        Value::Object(map) => map.values_mut().for_each(|item| replace(item, blocks)),
        _ => {}
    }
}

/// Replaces each `data:image/...;base64,` and `data:audio/...;base64,` of a text.
fn data_urls(text: &str, blocks: &mut Vec<ContentBlock>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("data:") {
        let (before, url) = rest.split_at(at);
        out.push_str(before);
        match data_url(url) {
            Some((mime, data, after)) if blocks.len() < MAX_MEDIA => {
                out.push_str(&take(mime, data.to_owned(), blocks));
                rest = after;
            }
            _ => {
                let (skipped, after) = url.split_at("data:".len());
                out.push_str(skipped);
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// MIME type, base64 and what follows, of a data URL at the front of `url`.
fn data_url(url: &str) -> Option<(&str, &str, &str)> {
    let url = url.strip_prefix("data:")?;
    // The type's own bytes end it: looking for the mark behind it would go through a whole answer for each `data:`.
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"/+-.".contains(b);
    let (mime, rest) = url.split_at(url.bytes().take(MAX_MIME + 1).take_while(plain).count());
    let rest = rest.strip_prefix(";base64,")?;
    if mime.len() > MAX_MIME || !(mime.starts_with("image/") || mime.starts_with("audio/")) {
        return None;
    }
    let end = rest.bytes().position(|b| !is_base64(b)).unwrap_or(rest.len());
    let (data, after) = rest.split_at(end);
    (data.len() >= MIN_BASE64).then_some((mime, data, after))
}

fn take(mime: &str, data: String, blocks: &mut Vec<ContentBlock>) -> String {
    if blocks.len() >= MAX_MEDIA {
        return data;
    }
    let mark = format!("[{mime}, {} kB, attached]", (data.len() / 4 * 3).div_ceil(1024));
    blocks.push(if mime.starts_with("audio/") {
        ContentBlock::audio(data, mime.to_owned())
    } else {
        ContentBlock::image(data, mime.to_owned())
    });
    mark
}

const fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

/// The MIME type of plain base64 by the bytes that it starts with.
fn sniff(text: &str) -> Option<&'static str> {
    if text.len() < MIN_BASE64 || !text.bytes().all(is_base64) {
        return None;
    }
    let head = decode_head(text.as_bytes())?;
    match head {
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [0xFF, 0xD8, 0xFF, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P'] => Some("image/webp"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E'] => Some("audio/wav"),
        [b'I', b'D', b'3', ..] => Some("audio/mpeg"),
        [b'O', b'g', b'g', b'S', ..] => Some("audio/ogg"),
        _ => None,
    }
}

/// The first twelve bytes of base64.
fn decode_head(text: &[u8]) -> Option<[u8; 12]> {
    let mut head = [0u8; 12];
    for (bytes, chars) in head.chunks_exact_mut(3).zip(text.chunks_exact(4)) {
        let mut word: u32 = 0;
        for c in chars {
            let six = match c {
                b'A'..=b'Z' => c - b'A',
                b'a'..=b'z' => c - b'a' + 26,
                b'0'..=b'9' => c - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            word = word << 6 | u32::from(six);
        }
        let [_, a, b, c] = word.to_be_bytes();
        bytes.copy_from_slice(&[a, b, c]);
    }
    Some(head)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PNG: &str =
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

    fn image(block: &ContentBlock) -> (&str, &str) {
        let image = block.as_image().unwrap();
        (&image.mime_type, &image.data)
    }

    #[test]
    fn a_data_url_becomes_an_image() {
        for content in [format!("data:image/png;base64,{PNG}"), format!("![x](data:image/png;base64,{PNG})")] {
            let pieces = pieces(&content, "r1");
            assert_eq!(image(&pieces.blocks[0]), ("image/png", PNG));
            assert!(pieces.text.contains("[image/png, 1 kB, attached]") && !pieces.text.contains("iVBOR"));
        }
    }

    #[test]
    fn json_with_an_image() {
        for content in [
            serde_json::json!({ "data": [{ "b64_json": PNG }], "model": "m" }),
            serde_json::json!({ "url": format!("data:image/png;base64,{PNG}"), "model": "m" }),
        ] {
            let pieces = pieces(&content.to_string(), "r1");
            assert_eq!(image(&pieces.blocks[0]).1, PNG);
            assert!(pieces.text.contains("\"model\":\"m\"") && !pieces.text.contains("iVBOR"), "{}", pieces.text);
        }
    }

    #[test]
    fn text_stays_as_it_is() {
        for content in ["hello", "{ \"a\":  1 }", "[not json", "data:image/png;base64,short", "data:text/html;base64,"]
        {
            let pieces = pieces(content, "r1");
            assert_eq!(pieces.text, content);
            assert!(pieces.blocks.is_empty() && !pieces.truncated);
        }
    }

    #[test]
    fn a_long_answer_becomes_a_resource() {
        let long = "é".repeat(MAX_SHOWN + 1);
        let pieces = pieces(&long, "r7");
        assert!(pieces.truncated);
        assert_eq!(pieces.text.chars().count(), FIRST_PART);
        let resource = pieces.blocks[0].as_resource().unwrap();
        assert!(resource.get_text().contains(&long));
        assert!(serde_json::to_string(resource).unwrap().contains("drain://answers/r7"));
    }

    /// Each mark is looked at, the rest of the answer is not looked through for each.
    #[test]
    fn an_answer_of_many_marks_is_read_once() {
        let content = "data:".repeat((16 << 20) / 5);
        assert!(pieces(&content, "r").truncated);
    }

    #[test]
    fn many_images_are_bounded() {
        let content = serde_json::json!(vec![PNG; 20]).to_string();
        assert_eq!(pieces(&content, "r").blocks.len(), MAX_MEDIA);
    }
}
