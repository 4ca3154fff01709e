//! HTTP/2 by hand: frames as nobody's library would send them (RFC 9113 §4, RFC 7541).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::wire::Wire;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const ACK: u8 = 1;

/// A frame whose length is true.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(payload.len(), kind, flags, stream);
    bytes.extend_from_slice(payload);
    bytes
}

/// The head of a frame, whatever comes behind it.
pub(super) fn head(length: usize, kind: u8, flags: u8, stream: u32) -> Vec<u8> {
    let length = u32::try_from(length)
        .expect("a frame is short")
        .to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes
}

/// A string without Huffman coding.
fn string(text: &str, out: &mut Vec<u8>) {
    match u8::try_from(text.len()) {
        Ok(short @ 0..127) => out.push(short),
        _ => {
            out.push(127);
            let mut rest = text.len() - 127;
            while rest >= 128 {
                out.push(u8::try_from(rest % 128).unwrap_or_default() | 128);
                rest /= 128;
            }
            out.push(u8::try_from(rest).unwrap_or_default());
        }
    }
    out.extend_from_slice(text.as_bytes());
}

/// The pseudo-headers of a request. Static table: 2 is `:method GET`, 3 `POST`, 6 `:scheme http`; names 1 `:authority`,
/// 2 `:method`, 4 `:path`.
pub(super) fn block(method: &str, path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    match method {
        "GET" => out.push(0x82),
        "POST" => out.push(0x83),
        _ => {
            out.push(0x02);
            string(method, &mut out);
        }
    }
    out.push(0x86);
    out.push(0x04);
    string(path, &mut out);
    out.push(0x01);
    string("localhost", &mut out);
    for (name, value) in headers {
        out.push(0);
        string(name, &mut out);
        string(value, &mut out);
    }
    out
}

/// A request without a body.
pub(super) fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(
        HEADERS,
        END_HEADERS | END_STREAM,
        stream,
        &block("GET", path, &[]),
    )
}

/// A request with a body in JSON.
pub(super) fn post(stream: u32, path: &str, body: &str) -> Vec<u8> {
    let block = block("POST", path, &[("content-type", "application/json")]);
    let mut bytes = frame(HEADERS, END_HEADERS, stream, &block);
    bytes.extend(frame(DATA, END_STREAM, stream, body.as_bytes()));
    bytes
}

pub(super) fn reset(stream: u32) -> Vec<u8> {
    // CANCEL
    frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

/// A connection that has begun to speak HTTP/2, with these settings (identifier and value).
pub(super) fn open(address: SocketAddr, settings: &[(u16, u32)]) -> Wire {
    let mut wire = Wire::open(address);
    wire.send(&greeting(settings));
    wire
}

/// What a client of HTTP/2 says first.
pub(super) fn greeting(settings: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> = settings
        .iter()
        .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()[..]].concat())
        .collect();
    [PREFACE, &frame(SETTINGS, 0, 0, &payload)].concat()
}

/// A frame that came.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Came {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

/// The whole frames at the beginning of what came.
pub(super) fn parse(mut bytes: &[u8]) -> Vec<Came> {
    let mut frames = Vec::new();
    while let [a, b, c, kind, flags, s0, s1, s2, s3, rest @ ..] = bytes {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let Some(payload) = rest.get(..length) else {
            break;
        };
        frames.push(Came {
            kind: *kind,
            flags: *flags,
            stream: u32::from_be_bytes([*s0, *s1, *s2, *s3]),
            payload: payload.to_vec(),
        });
        bytes = &rest[length..];
    }
    frames
}

/// How many heads of answers came.
pub(super) fn heads(bytes: &[u8]) -> u32 {
    let came = parse(bytes);
    came.iter().filter(|came| came.kind == HEADERS).count() as u32
}

/// Waits until the member has answered a ping: it has read and judged everything before it. `false` where it has ended
/// the connection instead.
pub(super) fn settled(wire: &mut Wire, within: Duration) -> bool {
    wire.send(&frame(PING, 0, 0, b"settled?"));
    let began = Instant::now();
    let mut bytes = Vec::new();
    while began.elapsed() < within {
        let heard = wire.listen_until(Duration::from_millis(20), |_| false);
        bytes.extend(heard.bytes);
        let answered = |came: &Came| came.kind == PING && came.flags & ACK != 0;
        if parse(&bytes).iter().any(answered) {
            return true;
        }
        if heard.closed {
            return false;
        }
    }
    panic!("the member neither answered a ping nor hung up within {within:?}");
}
