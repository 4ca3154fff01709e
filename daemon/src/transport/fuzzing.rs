//! What arrives on the peer port, held to what the types promise: frames and messages, handshakes, `hello` and `form`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tenure_raft::{MemberId, MemberInfo};

use super::codec::{decode, encode};
use super::directory::{ClusterId, Directory, Identity, Membership};
use super::frame::{Frame, FrameDecoder, MAX_FRAME_BYTES};
use super::handshake::{Refusal, admit, printable};
use super::hello::{Form, Hello};
use crate::fuzzing::{Input, assert_says_something};

const FROM: MemberId = MemberId(0xa1);
const TO: MemberId = MemberId(0xb2);
const CLUSTER: ClusterId = ClusterId(9);

/// A stream of a peer. The first byte is how large the chunks are in which the rest arrives; where it is zero, the rest
/// is one frame that was checked already, its kind first.
///
/// What decodes is a message that can be sent, comes back as it was, and is not much larger than what arrived.
///
/// # Panics
/// Where that is not so.
pub fn peer(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.number::<1>() {
        0 => {
            let kind = input.number::<1>() as u8;
            take(Frame {
                kind,
                body: Bytes::copy_from_slice(input.rest()),
            });
        }
        size => stream(input.rest(), size as usize),
    }
}

fn stream(bytes: &[u8], size: usize) {
    let mut decoder = FrameDecoder::default();
    let mut taken = 0;
    for chunk in bytes.chunks(size) {
        decoder.push(Bytes::copy_from_slice(chunk));
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => {
                    taken += 10 + frame.body.len();
                    take(frame);
                }
                Ok(None) => break,
                Err(error) => return assert_says_something(&error),
            }
        }
    }
    assert!(taken <= bytes.len(), "more came out than went in");
    match decoder.finish() {
        Ok(()) => assert_eq!(taken, bytes.len(), "bytes were left out"),
        Err(error) => assert_says_something(&error),
    }
}

fn take(frame: Frame) {
    let length = frame.body.len();
    let message = match decode(frame, FROM, TO) {
        Ok(message) => message,
        Err(error) => return assert_says_something(&error),
    };
    let mut out = BytesMut::new();
    if let Err(error) = encode(&message, &mut out) {
        // Numbers may be written shorter than we write them, so that only what is near the limit may pass it.
        assert!(length > MAX_FRAME_BYTES / 4, "{error}");
        return;
    }
    assert!(
        out.len() <= 64 + 16 * length,
        "{length} bytes became {}",
        out.len()
    );
    let mut decoder = FrameDecoder::default();
    decoder.push(out.freeze());
    let frame = decoder
        .next_frame()
        .expect("a frame of ours")
        .expect("a whole one");
    decoder.finish().expect("one frame and no more");
    assert_eq!(
        decode(frame, FROM, TO).as_ref(),
        Ok(&message),
        "a message does not survive its encoding"
    );
}

/// A caller of the peer port: lines `name: value` of a handshake, an empty line, and a body that is taken for each of
/// the three JSON bodies that members send one another.
///
/// # Panics
/// Where a stranger is let in, or what is accepted does not hold together.
pub fn hello(bytes: &[u8]) {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = match end {
        Some(end) => (&bytes[..end], &bytes[end + 2..]),
        None => (bytes, &b""[..]),
    };
    handshake(head);
    said(body);
    offered(body);
    let refusal = Refusal::from_peer(StatusCode::MISDIRECTED_REQUEST, body);
    for text in [&refusal.code, &refusal.detail] {
        assert!(!text.contains(char::is_control) && text.chars().count() <= 512);
    }
}

fn handshake(head: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n').take(16) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = HeaderName::from_bytes(parts.next().unwrap_or_default());
        let value = HeaderValue::from_bytes(parts.next().unwrap_or_default().trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    match admit(&headers, None, &directory()) {
        Ok(member) => {
            assert_eq!(member, FROM, "a member that is not known was let in");
            let says = |name: &str, text: String| headers.get(name).is_some_and(|v| *v == *text);
            assert!(says("tenure-cluster", CLUSTER.to_string()), "{headers:?}");
            assert!(says("tenure-to", TO.to_string()), "{headers:?}");
        }
        Err((status, refusal)) => {
            assert!(status.is_client_error());
            assert_says_something(&refusal);
        }
    }
}

fn directory() -> Directory {
    let directory = Directory::new(Identity {
        member: TO,
        name: "n2".to_owned(),
        client_url: String::new(),
        peer_url: String::new(),
        initial_members: None,
        state_version_at_most: 2,
    });
    let members: BTreeMap<_, _> = [FROM, TO].map(|id| (id, MemberInfo::default())).into();
    directory.set_membership(Arc::new(Membership {
        cluster: CLUSTER,
        members,
        learners: [].into(),
        removed: [].into(),
    }));
    directory
}

fn said(body: &[u8]) {
    let Ok(hello) = serde_json::from_slice::<Hello>(body) else {
        return;
    };
    match hello.clone().check() {
        Ok(checked) => {
            let json = serde_json::to_vec(&checked).expect("texts and numbers have a JSON form");
            let again: Hello = serde_json::from_slice(&json).expect("what we write we read");
            assert_eq!(again, hello);
        }
        Err(error) => assert_says_something(&error),
    }
}

fn offered(body: &[u8]) {
    let Ok(form) = serde_json::from_slice::<Form>(body) else {
        return;
    };
    if let Err(error) = form.check() {
        assert!(
            !printable(&error).trim().is_empty(),
            "an error without words"
        );
        return;
    }
    let configuration = form.configuration();
    assert!(!configuration.voters.is_empty());
    assert!(configuration.members().iter().eq(configuration.info.keys()));
    let limits = form
        .limits()
        .expect("an offer that was accepted has limits");
    limits.check().expect("they are accepted ones");
    let root = form.root().expect("a token, or none");
    let again = Form::new(
        form.cluster,
        &configuration,
        &limits,
        (root.as_ref(), form.state_version),
    );
    let sorted = |form: &Form| {
        let mut members = form.members.clone();
        members.sort_by_key(|member| member.id);
        members
    };
    assert_eq!(sorted(&again), sorted(&form));
    assert_eq!(again.limits, form.limits);
    assert_eq!(again.root, form.root);
}
