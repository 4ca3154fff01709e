//! Server-sent events, as far as Tenure sends them.
//!
//! Owns the bytes between two messages. Knows of no connection.

use std::borrow::Cow;

use bytes::{Buf, Bytes, BytesMut};
use serde::Deserialize;

use crate::bench::system::Failure;

/// A message is not longer than this: a page of events ends at 4 MiB, and JSON may double it.
const MAX_MESSAGE: usize = 16 << 20;

/// What has come and is not a whole message yet.
#[derive(Default)]
pub(crate) struct Events {
    buffer: BytesMut,
    /// How far the buffer has no end of a message in it.
    searched: usize,
}

/// A message, as far as a watcher needs it.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Message {
    /// The watch has begun.
    Start,
    /// Something changed.
    Change(Bytes),
    /// It was ended by the member.
    Error(Bytes),
    /// Only a sign of life.
    Alive,
}

impl Events {
    /// Takes what came.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<(), Failure> {
        if self.buffer.len() + piece.len() > MAX_MESSAGE {
            let detail = format!("a message of a stream is longer than {MAX_MESSAGE} bytes");
            return Err(Failure::answer(detail));
        }
        self.buffer.extend_from_slice(piece);
        Ok(())
    }

    /// The next whole message.
    pub(crate) fn message(&mut self) -> Option<Message> {
        let from = self.searched.saturating_sub(1);
        let end = self.buffer[from..]
            .windows(2)
            .position(|pair| pair == b"\n\n");
        let Some(end) = end.map(|end| from + end) else {
            self.searched = self.buffer.len();
            return None;
        };
        self.searched = 0;
        let message = self.buffer.split_to(end).freeze();
        self.buffer.advance(2);
        Some(read(&message))
    }
}

fn read(message: &Bytes) -> Message {
    let mut kind: &[u8] = b"";
    let mut data = Bytes::new();
    for line in message.split(|byte| *byte == b'\n') {
        if let Some(name) = line.strip_prefix(b"event: ") {
            kind = name;
        } else if let Some(json) = line.strip_prefix(b"data: ") {
            data = message.slice_ref(json);
        }
    }
    match kind {
        b"start" => Message::Start,
        b"change" => Message::Change(data),
        b"error" => Message::Error(data),
        _ => Message::Alive,
    }
}

#[derive(Deserialize)]
struct Change<'a> {
    #[serde(borrow)]
    events: Vec<Event<'a>>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    value: Option<Cow<'a, str>>,
}

/// The first bytes of the values that were put by a change.
pub(crate) fn heads(change: &Bytes, bytes: usize, heads: &mut Vec<Bytes>) -> Result<(), Failure> {
    let change: Change = serde_json::from_slice(change)
        .map_err(|error| Failure::answer(format!("a change cannot be read: {error}")))?;
    for event in change.events {
        if let Some(value) = event.value {
            let head = value.as_bytes();
            heads.push(Bytes::copy_from_slice(&head[..bytes.min(head.len())]));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "event: start\nid: 131\ndata: {\"revision\":131}\n\n\
        id: 140\n\n\
        event: change\nid: 141\ndata: {\"revision\":141,\"events\":[{\"type\":\"put\",\"value\":\"abcdef\"},{\"type\":\"delete\"}]}\n\n\
        event: error\ndata: {\"code\":\"compacted\"}\n\n";

    fn read_in_pieces_of(bytes: usize) -> Vec<Message> {
        let mut events = Events::default();
        let mut messages = Vec::new();
        for piece in STREAM.as_bytes().chunks(bytes) {
            events.push(piece).expect("it is short");
            while let Some(message) = events.message() {
                messages.push(message);
            }
        }
        messages
    }

    #[test]
    fn messages_are_the_same_however_they_are_cut() {
        let whole = read_in_pieces_of(STREAM.len());
        assert_eq!(whole.len(), 4, "{whole:?}");
        assert_eq!(whole[0], Message::Start);
        assert_eq!(whole[1], Message::Alive);
        assert_eq!(whole[3], Message::Error("{\"code\":\"compacted\"}".into()));
        for bytes in 1..40 {
            assert_eq!(read_in_pieces_of(bytes), whole, "in pieces of {bytes}");
        }
    }

    #[test]
    fn a_change_shows_the_heads_of_its_puts() {
        let whole = read_in_pieces_of(STREAM.len());
        let Message::Change(change) = &whole[2] else {
            panic!("{whole:?}")
        };
        let mut found = Vec::new();
        heads(change, 4, &mut found).expect("it can be read");
        assert_eq!(found, [Bytes::from("abcd")]);
        assert!(heads(&Bytes::from("{}"), 4, &mut found).is_err());
    }
}
