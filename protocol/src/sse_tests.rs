#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::usdc::Usdc;
use proptest::prelude::*;

/// As an LLM template sends it: comments after the end, with single newlines and no blank line.
const STREAM: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"Grüße \"}}]}\n\n\
    data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"🦀\"},\"finish_reason\":null}]}\n\n\
    data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n\
    data: [DONE]\n\n\
    : X-DRAIN-Cost: 8250\n: X-DRAIN-Total: 158250\n: X-DRAIN-Remaining: 4841750\n";

fn read(pieces: &[&[u8]]) -> (Vec<SseItem>, SseEnd) {
    let mut reader = SseReader::new(100_000);
    let items = pieces.iter().flat_map(|piece| reader.push(piece).unwrap()).collect();
    (items, reader.finish())
}

fn text(text: &str) -> SseItem {
    SseItem::Text(text.into())
}

fn units(costs: &CostHeaders) -> [Option<u64>; 3] {
    [costs.cost, costs.total, costs.remaining].map(|amount| amount.map(Usdc::units))
}

#[test]
fn reads_a_stream_and_its_trailer() {
    let (items, end) = read(&[STREAM.as_bytes()]);
    assert_eq!(items, [text("Grüße "), text("🦀"), SseItem::Done]);
    assert_eq!((end.text.as_str(), end.done, end.unterminated), ("Grüße 🦀", true, false));
    assert_eq!((end.finish_reason.as_deref(), end.usage), (Some("stop"), None));
    assert_eq!(units(&end.costs), [Some(8_250), Some(158_250), Some(4_841_750)]);
    assert!(!end.costs.garbage);
}

#[test]
fn every_cut_and_every_line_end_reads_the_same() {
    let expected = read(&[STREAM.as_bytes()]);
    for stream in
        [STREAM.to_owned(), STREAM.replace('\n', "\r\n"), STREAM.replace('\n', "\r"), format!("\u{FEFF}{STREAM}")]
    {
        let bytes = stream.as_bytes();
        for at in 0..bytes.len() {
            assert_eq!(read(&[&bytes[..at], &bytes[at..]]), expected, "cut at {at}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(&single), expected);
    }
}

#[test]
fn the_last_line_may_lack_its_end() {
    let (_, end) = read(&[STREAM.trim_end().as_bytes()]);
    assert!(end.unterminated);
    assert_eq!(units(&end.costs), [Some(8_250), Some(158_250), Some(4_841_750)]);
    let (items, end) = read(&[b"data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\ndata: [DONE]"]);
    assert_eq!(items, [text("x")]);
    assert!(end.done && end.unterminated);
    let (_, end) = read(&[b"data: [DONE]\n: X-DRAIN-Cost: 5\n"]);
    assert!(end.done && !end.unterminated);
    assert_eq!(end.costs.cost, Some(Usdc::new(5)));
}

#[test]
fn a_torn_chunk_is_no_text() {
    let (items, end) = read(&[b"data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\ndata: {\"choices\":[{\"del"]);
    assert_eq!(items, [text("x")]);
    assert_eq!((end.text.as_str(), end.done, end.unterminated), ("x", false, true));
    let (items, end) = read(&[b"data: half a sen"]);
    assert_eq!((items, end.text.as_str()), (vec![], ""));
}

#[test]
fn dialects() {
    // The Claude template's error, one with an object, and an upstream's keep-alive comment.
    let (items, end) = read(&[b": OPENROUTER PROCESSING\n\ndata: {\"error\": \"overloaded\\u001b\"}\n\n"]);
    assert_eq!((items, end.done), (vec![SseItem::Error("overloaded".into())], false));
    let (items, _) = read(&[b"data: {\"error\": {\"message\": \"boom\"}}\n\ndata: {\"error\": {\"code\": 5}}\n\n"]);
    assert_eq!(items, [SseItem::Error("boom".into()), SseItem::Error("{\"code\":5}".into())]);
    // Single newlines between events, no blank after the colon, other fields, a whole message, plain text.
    let (items, _) = read(&[
        b"data:{\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\ndata:{\"choices\":[{\"text\":\"b\"}]}\ndata:[DONE]\n\n",
    ]);
    assert_eq!(items, [text("a"), text("b"), SseItem::Done]);
    let (items, end) = read(&[b"event: x\nid: 1\nretry\ndata: {\"choices\":[{\"message\":{\"content\":[{\"text\":\"c\"}]}}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\ndata: plain words\n\n"]);
    assert_eq!(items, [text("c"), text("plain words")]);
    assert_eq!(end.usage, Some(Usage { prompt_tokens: 1, completion_tokens: 2 }));
    assert_eq!(end.text, "cplain words");
    let (items, _) = read(&[b"data: {\"choices\":\ndata: [{\"text\":\"two lines\"}]}\n\n"]);
    assert_eq!(items, [text("two lines")]);
}

#[test]
fn costs_of_any_spelling_and_the_last_counts() {
    let (_, end) = read(&[b":x-drain-cost:1\n: X-DRAIN-COST : 2\n: X-DRAIN-Total: lots\n: Cost: 9\n"]);
    assert_eq!(units(&end.costs), [Some(2), None, None]);
    assert!(end.costs.garbage);
    // Within an answer they are only text.
    let (_, end) = read(&[b"data: {\"choices\":[{\"delta\":{\"content\":\"\\n: X-DRAIN-Cost: 1\\n\"}}]}\n\n"]);
    assert_eq!(end.costs, CostHeaders::default());
}

#[test]
fn broken_utf8_does_not_stop_the_stream() {
    let (items, end) = read(&[b"data: {\"choices\":[{\"text\":\"a\xff\"}]}\n\n: X-DRAIN-Cost: 3\n"]);
    assert_eq!((items, units(&end.costs)[0]), (vec![text("a\u{FFFD}")], Some(3)));
}

#[test]
fn the_limit_stops_and_keeps() {
    let chunk = b"data: {\"choices\":[{\"text\":\"abc\"}]}\n\n";
    let mut reader = SseReader::new(chunk.len());
    assert_eq!(reader.push(chunk), Ok(vec![text("abc")]));
    assert_eq!(reader.push(b""), Ok(vec![]));
    assert_eq!(reader.push(b"d"), Err(SseError::TooLarge { limit_bytes: chunk.len() }));
    assert_eq!(reader.push(b"d"), Err(SseError::TooLarge { limit_bytes: chunk.len() }));
    assert_eq!(reader.finish().text, "abc");
}

proptest! {
    #[test]
    fn nothing_panics_and_cuts_do_not_matter(bytes in prop::collection::vec(any::<u8>(), 0..300), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5)) {
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        let pieces: Vec<&[u8]> = at.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect();
        prop_assert_eq!(read(&pieces), read(&[&bytes]));
    }

    #[test]
    fn no_mutated_stream_panics(bytes in crate::shape::tests::mutated(STREAM)) {
        let (items, end) = read(&[&bytes]);
        let told: String = items.iter().filter_map(|item| match item { SseItem::Text(text) => Some(text.as_str()), _ => None }).collect();
        prop_assert!(end.text.starts_with(&told));
    }

    #[test]
    fn no_chunk_panics(value in crate::shape::tests::any_json()) {
        let _ = read(&[format!("data: {value}\n\ndata: {{\"choices\":[{value}],\"usage\":{value}}}\n\n").as_bytes()]);
    }
}
