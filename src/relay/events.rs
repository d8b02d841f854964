//! Server-sent events of an answer: what has come, cut into events, within a limit.

use axum::body::Bytes;

/// One event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    pub id: Option<String>,
    pub data: Vec<u8>,
}

/// An event is larger than the limit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

/// Events of a stream that comes in parts. The SDK's own parser has no limit; `drain_protocol::sse` reads providers' answers, which
/// have no ids and are no JSON-RPC, and ends by its limit on a whole stream.
#[derive(Debug)]
pub(super) struct Events {
    most: usize,
    line: Vec<u8>,
    event: Event,
    has_data: bool,
}

impl Events {
    pub fn new(most: usize) -> Self {
        Self { most, line: Vec::new(), event: Event::default(), has_data: false }
    }

    /// The events that a part ends.
    pub fn feed(&mut self, part: &Bytes) -> Result<Vec<Event>, TooLarge> {
        let mut done = Vec::new();
        let mut rest: &[u8] = part;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (text, after) = rest.split_at(end);
            self.grow(text)?;
            rest = after.get(1..).unwrap_or_default();
            let line = std::mem::take(&mut self.line);
            done.extend(self.take(line.strip_suffix(b"\r").unwrap_or(&line)));
        }
        self.grow(rest)?;
        Ok(done)
    }

    fn grow(&mut self, text: &[u8]) -> Result<(), TooLarge> {
        if self.line.len() + self.event.data.len() + text.len() > self.most {
            return Err(TooLarge);
        }
        self.line.extend_from_slice(text);
        Ok(())
    }

    fn take(&mut self, line: &[u8]) -> Option<Event> {
        if line.is_empty() {
            self.has_data = false;
            return Some(std::mem::take(&mut self.event));
        }
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            Some(at) => (line.get(..at)?, line.get(at + 1..)?),
            None => (line, &b""[..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push(b'\n');
                }
                self.event.data.extend_from_slice(value);
            }
            b"id" => self.event.id = String::from_utf8(value.to_vec()).ok(),
            // Comments, which keep the stream alive, and what means nothing here.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn event(id: Option<&str>, data: &str) -> Event {
        Event { id: id.map(str::to_owned), data: data.into() }
    }

    #[test]
    fn events_are_the_same_however_they_are_cut() {
        let text =
            "id: 0\nretry: 3000\ndata:\n\n: alive\n\ndata: {\"a\":\r\ndata: 1}\nid:1/2\n\nevent: x\ndata:y\n\ndata: un";
        let all = [event(Some("0"), ""), event(None, ""), event(Some("1/2"), "{\"a\":\n1}"), event(None, "y")];
        for size in [1, 2, 7, 1_000] {
            let mut events = Events::new(100);
            let found: Vec<Event> = text
                .as_bytes()
                .chunks(size)
                .flat_map(|part| events.feed(&Bytes::copy_from_slice(part)).unwrap())
                .collect();
            assert_eq!(found, all, "{size}");
        }
    }

    #[test]
    fn an_event_has_a_limit_in_one_line_and_in_many() {
        let long = Bytes::from(format!("data: {}", "x".repeat(100)));
        assert_eq!(Events::new(50).feed(&long), Err(TooLarge));
        let mut many = Events::new(50);
        let line = Bytes::from_static(b"data: 0123456789\n");
        assert!((0..10).any(|_| many.feed(&line) == Err(TooLarge)));
        let mut ended = Events::new(50);
        let event = Bytes::from_static(b"data: 0123456789\n\n");
        assert!((0..10).all(|_| ended.feed(&event).is_ok()));
    }
}
