//! Frames: how messages are cut out of a stream of bytes.
//!
//! A frame is `length: u32 | crc32c: u32 | version: u8 | kind: u8 | body`, numbers big-endian; `length` counts version,
//! kind and body, and the checksum covers the same bytes. Owns the cutting only: what a body says is the codec's
//! business. Must never panic on what arrives, nor allocate for bytes that have not arrived.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The version of the frames and of every body in them. A handshake settles it, a frame repeats it.
pub const WIRE_VERSION: u8 = 1;

/// The greatest frame, as its `length` field counts. An entry holds one batch of commands, which the proposer keeps far
/// below this; a decoder that is told of more is reading garbage.
pub const MAX_FRAME_BYTES: usize = 16 << 20;

/// Bytes before the counted part: length and checksum.
const PREFIX_BYTES: usize = 8;

/// Bytes of version and kind, the least that a frame can count.
const TAG_BYTES: usize = 2;

/// A frame whose checksum and version are right.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    /// Which message the body is.
    pub kind: u8,
    /// The encoded message; shares the memory that it was received in.
    pub body: Bytes,
}

/// Why a stream cannot be read on. Nothing after such a place can be trusted, so the stream is closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FrameError {
    /// The length is one that no sender writes.
    #[error("frame of {length} bytes, where {TAG_BYTES} to {MAX_FRAME_BYTES} are possible")]
    Length {
        /// What the frame claims.
        length: usize,
    },
    /// The bytes are not those that were sent.
    #[error("frame checksum is {found:08x}, its bytes have {computed:08x}")]
    Checksum {
        /// As received.
        found: u32,
        /// As computed from what was received.
        computed: u32,
    },
    /// A version that this build does not speak.
    #[error("frame of version {found}, this member speaks {WIRE_VERSION}")]
    Version {
        /// As received.
        found: u8,
    },
    /// The stream ended inside a frame.
    #[error("stream ended {missing} bytes before the end of a frame")]
    Truncated {
        /// Bytes that were still to come, as far as known.
        missing: usize,
    },
}

/// A message that would make a greater frame than any receiver takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("message of {bytes} bytes is greater than the greatest frame, {MAX_FRAME_BYTES}")]
pub struct FrameTooLarge {
    /// What it would take.
    pub bytes: usize,
}

/// Appends a frame to `out`; `body` is called once to write the body behind the tag. On error `out` is as before.
///
/// # Errors
/// Where the frame would be greater than [`MAX_FRAME_BYTES`].
pub(super) fn append_frame(
    out: &mut BytesMut,
    kind: u8,
    body: impl FnOnce(&mut BytesMut),
) -> Result<(), FrameTooLarge> {
    let start = out.len();
    out.put_u64(0);
    out.put_u8(WIRE_VERSION);
    out.put_u8(kind);
    body(out);
    let counted = start + PREFIX_BYTES;
    let bytes = out.len() - counted;
    if bytes > MAX_FRAME_BYTES {
        out.truncate(start);
        return Err(FrameTooLarge { bytes });
    }
    let checksum = crc32c::crc32c(&out[counted..]);
    let mut prefix = &mut out[start..counted];
    prefix.put_u32(bytes as u32);
    prefix.put_u32(checksum);
    Ok(())
}

/// Cuts frames out of chunks as they arrive.
///
/// A frame that lies in one chunk is a slice of it; only one that straddles chunks is copied, by as many bytes as have
/// arrived, so that memory is bounded by what was received and by [`MAX_FRAME_BYTES`], whatever a frame claims.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    /// The beginning of a frame whose end has not arrived; empty otherwise.
    partial: BytesMut,
    /// What arrived behind it.
    chunk: Bytes,
}

impl FrameDecoder {
    /// Gives it the next bytes of the stream. Every frame that was complete must have been taken out before.
    pub fn push(&mut self, chunk: Bytes) {
        if !self.chunk.is_empty() {
            self.partial.extend_from_slice(&self.chunk);
        }
        self.chunk = chunk;
    }

    /// The next complete frame, if it has arrived.
    ///
    /// # Errors
    /// Where the bytes are not frames of ours. The decoder must not be used after that.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let frame = if self.partial.is_empty() {
            self.cut_chunk()?
        } else {
            self.cut_partial()?
        };
        frame.map(open).transpose()
    }

    /// Says whether the stream may end here.
    ///
    /// # Errors
    /// Where it ends inside a frame.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.partial.is_empty() && self.chunk.is_empty() {
            return Ok(());
        }
        let held = self.partial.len() + self.chunk.len();
        let whole = claimed(&self.partial)?.map_or(PREFIX_BYTES, |length| PREFIX_BYTES + length);
        Err(FrameError::Truncated {
            missing: whole.saturating_sub(held).max(1),
        })
    }

    fn cut_chunk(&mut self) -> Result<Option<Bytes>, FrameError> {
        let whole = claimed(&self.chunk)?.map(|length| PREFIX_BYTES + length);
        match whole {
            Some(whole) if whole <= self.chunk.len() => Ok(Some(self.chunk.split_to(whole))),
            Some(_) | None => {
                self.partial.extend_from_slice(&self.chunk);
                self.chunk.clear();
                Ok(None)
            }
        }
    }

    fn cut_partial(&mut self) -> Result<Option<Bytes>, FrameError> {
        self.fill_partial(PREFIX_BYTES);
        let Some(length) = claimed(&self.partial)? else {
            return Ok(None);
        };
        let whole = PREFIX_BYTES + length;
        self.fill_partial(whole);
        if self.partial.len() < whole {
            return Ok(None);
        }
        Ok(Some(self.partial.split_to(whole).freeze()))
    }

    /// Moves bytes from the chunk until `partial` holds `target`, or the chunk is used up.
    fn fill_partial(&mut self, target: usize) {
        let wanted = target
            .saturating_sub(self.partial.len())
            .min(self.chunk.len());
        self.partial.extend_from_slice(&self.chunk[..wanted]);
        self.chunk.advance(wanted);
    }
}

/// The length that the frame at the beginning of `bytes` claims, once it can be read.
fn claimed(bytes: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some(mut field) = bytes.get(..4) else {
        return Ok(None);
    };
    let length = field.get_u32() as usize;
    if !(TAG_BYTES..=MAX_FRAME_BYTES).contains(&length) {
        return Err(FrameError::Length { length });
    }
    Ok(Some(length))
}

/// Checks a whole frame, prefix included, and takes its body out.
fn open(mut frame: Bytes) -> Result<Frame, FrameError> {
    frame.advance(4);
    let found = frame.get_u32();
    let computed = crc32c::crc32c(&frame);
    if found != computed {
        return Err(FrameError::Checksum { found, computed });
    }
    let version = frame.get_u8();
    if version != WIRE_VERSION {
        return Err(FrameError::Version { found: version });
    }
    let kind = frame.get_u8();
    Ok(Frame { kind, body: frame })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(frames: &[(u8, Vec<u8>)]) -> BytesMut {
        let mut out = BytesMut::new();
        for (kind, body) in frames {
            append_frame(&mut out, *kind, |out| out.extend_from_slice(body)).expect("small frames");
        }
        out
    }

    /// Feeds `bytes` in pieces of the given sizes (the last one repeats) and returns what came out until the first
    /// error, if any.
    fn decode(bytes: &[u8], pieces: &[usize]) -> (Vec<Frame>, Result<(), FrameError>) {
        let mut decoder = FrameDecoder::default();
        let mut frames = Vec::new();
        let mut rest = Bytes::copy_from_slice(bytes);
        let mut sizes = pieces
            .iter()
            .copied()
            .chain(std::iter::repeat(pieces.last().copied().unwrap_or(7)));
        while !rest.is_empty() {
            let size = sizes.next().unwrap_or(1).clamp(1, rest.len());
            decoder.push(rest.split_to(size));
            loop {
                match decoder.next_frame() {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(error) => return (frames, Err(error)),
                }
            }
        }
        let end = decoder.finish();
        (frames, end)
    }

    #[test]
    fn a_frame_has_the_documented_layout() {
        let out = encode(&[(5, b"abc".to_vec())]);
        assert_eq!(out[..4], [0, 0, 0, 5]);
        assert_eq!(out[4..8], crc32c::crc32c(b"\x01\x05abc").to_be_bytes());
        assert_eq!(&out[8..], b"\x01\x05abc");
    }

    #[test]
    fn a_frame_inside_one_chunk_is_not_copied() {
        let chunk = encode(&[(1, vec![7; 1000]), (2, vec![8; 10])]).freeze();
        let range = chunk.as_ptr_range();
        let mut decoder = FrameDecoder::default();
        decoder.push(chunk.clone());
        for _ in 0..2 {
            let frame = decoder.next_frame().expect("valid").expect("complete");
            assert!(range.contains(&frame.body.as_ptr()));
        }
    }

    #[test]
    fn a_claimed_length_beyond_the_limit_is_refused_at_once() {
        let mut bytes = encode(&[(1, Vec::new())]);
        bytes[..4].copy_from_slice(&(MAX_FRAME_BYTES as u32 + 1).to_be_bytes());
        let (frames, end) = decode(&bytes[..4], &[4]);
        assert_eq!(
            (frames.len(), end),
            (
                0,
                Err(FrameError::Length {
                    length: MAX_FRAME_BYTES + 1
                })
            )
        );
    }

    #[test]
    fn a_lying_length_allocates_only_for_what_arrived() {
        let mut decoder = FrameDecoder::default();
        decoder.push(Bytes::copy_from_slice(
            &(MAX_FRAME_BYTES as u32).to_be_bytes(),
        ));
        assert_eq!(decoder.next_frame(), Ok(None));
        decoder.push(Bytes::from_static(&[0; 100]));
        assert_eq!(decoder.next_frame(), Ok(None));
        assert!(
            decoder.partial.capacity() < 4096,
            "holds {}",
            decoder.partial.capacity()
        );
    }

    #[test]
    fn another_version_is_named() {
        let mut out = encode(&[(5, b"abc".to_vec())]);
        out[8] = 9;
        let checksum = crc32c::crc32c(&out[8..]);
        out[4..8].copy_from_slice(&checksum.to_be_bytes());
        assert_eq!(
            decode(&out, &[100]).1,
            Err(FrameError::Version { found: 9 })
        );
    }

    #[test]
    fn a_stream_that_ends_inside_a_frame_is_an_error() {
        let out = encode(&[(5, b"abc".to_vec())]);
        for end in 1..out.len() {
            let (frames, result) = decode(&out[..end], &[3]);
            assert_eq!(frames.len(), 0);
            assert!(
                matches!(result, Err(FrameError::Truncated { .. })),
                "{result:?}"
            );
        }
    }

    #[test]
    fn a_message_greater_than_a_frame_leaves_the_buffer_as_it_was() {
        let mut out = encode(&[(1, b"before".to_vec())]);
        let before = out.clone();
        let result = append_frame(&mut out, 2, |out| out.put_bytes(0, MAX_FRAME_BYTES));
        assert_eq!(
            result,
            Err(FrameTooLarge {
                bytes: MAX_FRAME_BYTES + TAG_BYTES
            })
        );
        assert_eq!(out, before);
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_the_stream_is_cut(
            frames in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..300)), 0..20),
            pieces in prop::collection::vec(1usize..200, 1..30),
        ) {
            let (decoded, end) = decode(&encode(&frames), &pieces);
            prop_assert_eq!(end, Ok(()));
            let decoded: Vec<_> = decoded.into_iter().map(|f| (f.kind, f.body.to_vec())).collect();
            prop_assert_eq!(decoded, frames);
        }

        #[test]
        fn a_flipped_bit_is_never_taken_for_a_frame(
            body in prop::collection::vec(any::<u8>(), 0..300), place in any::<prop::sample::Index>(), bit in 0u8..8,
        ) {
            let mut bytes = encode(&[(3, body)]);
            let place = place.index(bytes.len());
            bytes[place] ^= 1 << bit;
            let (frames, end) = decode(&bytes, &[11]);
            prop_assert!(frames.is_empty());
            prop_assert!(end.is_err());
        }

        #[test]
        fn random_bytes_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..600), pieces in prop::collection::vec(1usize..50, 1..10),
        ) {
            let _ = decode(&bytes, &pieces);
        }
    }
}
