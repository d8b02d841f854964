//! Lines of standard input, within a limit.

use axum::body::Bytes;
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Without its end.
    Text(Bytes),
    /// A line above the limit; it was thrown away.
    TooLong,
    /// Nothing more comes.
    End,
}

/// The next line that is not empty. A last one without its end counts.
pub(super) async fn next(from: &mut (impl AsyncBufRead + Unpin), most: usize) -> std::io::Result<Line> {
    loop {
        let (mut line, mut too_long) = (Vec::new(), false);
        let ended = loop {
            let part = from.fill_buf().await?;
            if part.is_empty() {
                break true;
            }
            let end = part.iter().position(|byte| *byte == b'\n');
            let text = part.get(..end.unwrap_or(part.len())).unwrap_or_default();
            too_long |= line.len() + text.len() > most;
            if too_long {
                line = Vec::new();
            } else {
                line.extend_from_slice(text);
            }
            let read = text.len() + usize::from(end.is_some());
            from.consume(read);
            if end.is_some() {
                break false;
            }
        };
        let text = line.trim_ascii();
        match (too_long, text.is_empty()) {
            (true, _) => return Ok(Line::TooLong),
            (false, false) => return Ok(Line::Text(Bytes::copy_from_slice(text))),
            (false, true) if ended => return Ok(Line::End),
            (false, true) => {}
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::io::BufReader;

    use super::*;

    #[tokio::test]
    async fn lines_come_within_the_limit_and_what_is_longer_is_skipped() {
        let mut from = BufReader::with_capacity(3, &b"ab\r\n\n12345678\n123456789\n  c \nlast"[..]);
        let mut lines = Vec::new();
        loop {
            match next(&mut from, 8).await.unwrap() {
                Line::End => break,
                Line::Text(text) => lines.push(String::from_utf8(text.to_vec()).unwrap()),
                Line::TooLong => lines.push("too long".into()),
            }
        }
        assert_eq!(lines, ["ab", "12345678", "too long", "c", "last"]);
    }
}
