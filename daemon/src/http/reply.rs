//! Replies: what a handler answers, before the headers that every answer has, and the body that is sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use hyper::body::{Body, Frame, SizeHint};
use serde::Serialize;
use tenure_api::{Code, JSON, Outcome, Retry};
use tenure_state::Revision;

use super::backup::Sending;
use super::failure::Failure;
use super::outgoing::Answer;
use super::stream::Stream;

/// What a handler answers.
pub(super) struct Reply {
    /// The number of the status.
    pub(super) status: u16,
    /// The type of the body, if it has one.
    pub(super) content_type: Option<HeaderValue>,
    /// The body.
    pub(super) body: Bytes,
    /// Or a body that is made while it is sent.
    pub(super) stream: Option<Made>,
    /// The revision that it reflects; where it is absent, the present one is told.
    pub(super) revision: Option<Revision>,
    /// Headers of its own.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// The code of a problem, for the log.
    pub(super) code: Option<Code>,
    /// What the caller may not, and why, for the audit: also where only a part of what was asked is refused.
    pub(super) refused: Option<(Code, String)>,
    /// What is told of it where there is no room for it, as far as that is known.
    pub(super) unsent: Option<Unsent>,
}

/// A body that is made while it is sent.
pub(super) enum Made {
    /// Events.
    Stream(Stream),
    /// A file.
    File(Sending),
}

/// What a caller is told in place of an answer that is lost to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Unsent {
    /// Whether anything was done.
    pub(super) outcome: Outcome,
    /// Whether the same may be asked again.
    pub(super) retry: Retry,
}

impl Unsent {
    /// Of what did nothing: it may be asked again when there is room.
    pub(super) const NOT_APPLIED: Unsent = Unsent {
        outcome: Outcome::NotApplied,
        retry: Retry::After,
    };
}

impl Reply {
    /// An answer with a body.
    pub(super) fn new(status: u16, content_type: &'static str, body: Bytes) -> Reply {
        let content_type = Some(HeaderValue::from_static(content_type));
        Reply {
            status,
            content_type,
            body,
            stream: None,
            revision: None,
            headers: Vec::new(),
            code: None,
            refused: None,
            unsent: None,
        }
    }

    /// An answer whose body is made while it is sent.
    pub(super) fn stream(content_type: &'static str, stream: Stream) -> Reply {
        Reply {
            stream: Some(Made::Stream(stream)),
            ..Reply::new(200, content_type, Bytes::new())
        }
    }

    /// A file, which is read while it is sent.
    pub(super) fn file(content_type: &'static str, file: Sending) -> Reply {
        Reply {
            stream: Some(Made::File(file)),
            ..Reply::new(200, content_type, Bytes::new())
        }
    }

    /// An answer without one.
    pub(super) fn empty(status: u16) -> Reply {
        Reply {
            content_type: None,
            ..Reply::new(status, JSON, Bytes::new())
        }
    }

    /// An answer in JSON that reflects `revision`.
    ///
    /// # Errors
    ///
    /// None that our types can cause; a value that JSON cannot hold would be told as `overloaded` rather than panic.
    pub(super) fn json(
        status: u16,
        revision: Revision,
        value: &impl Serialize,
    ) -> Result<Reply, Failure> {
        let body = serde_json::to_vec(value).map_err(|error| {
            Failure::new(
                Code::Overloaded,
                format!("the answer cannot be written: {error}"),
            )
        })?;
        Ok(Reply::new(status, JSON, Bytes::from(body)).at(revision))
    }

    /// Says which revision it reflects.
    pub(super) fn at(mut self, revision: Revision) -> Reply {
        self.revision = Some(revision);
        self
    }

    /// Has the audit told that a part of what was asked was forbidden, and why, where it was.
    pub(super) fn refusing(mut self, why: Option<String>) -> Reply {
        self.refused = why.map(|why| (Code::Forbidden, why));
        self
    }

    /// Adds a header.
    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Reply {
        self.headers.push((name, value));
        self
    }
}

/// The body of a response: at hand, or made while it is sent. It holds `T` until it has been sent or given up.
pub(super) struct Sent<T> {
    what: What,
    _until_sent: T,
}

enum What {
    Whole(Bytes),
    Made(Made),
}

impl Sent<()> {
    /// A body that is at hand.
    pub(super) fn whole(bytes: Bytes) -> Sent<()> {
        Sent {
            what: What::Whole(bytes),
            _until_sent: (),
        }
    }

    /// A body that is made while it is sent.
    pub(super) fn made(made: Made) -> Sent<()> {
        Sent {
            what: What::Made(made),
            _until_sent: (),
        }
    }

    /// The same, which holds something.
    pub(super) fn holding<T>(self, until_sent: T) -> Sent<T> {
        Sent {
            what: self.what,
            _until_sent: until_sent,
        }
    }
}

impl<T: Unpin> Body for Sent<T> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match &mut self.what {
            What::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            What::Whole(bytes) => Poll::Ready(Some(std::mem::take(bytes))),
            What::Made(Made::Stream(stream)) => stream.poll_next(cx),
            What::Made(Made::File(file)) => file.poll_next(cx),
        };
        next.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.what {
            What::Whole(bytes) => bytes.is_empty(),
            What::Made(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.what {
            What::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            What::Made(Made::Stream(stream)) => {
                let mut hint = SizeHint::new();
                hint.set_lower(stream.at_hand() as u64);
                hint
            }
            // Its length is in a header of its own. Told here, it would take room for all of it at once.
            What::Made(Made::File(_)) => SizeHint::new(),
        }
    }
}

impl<T: Unpin> Answer for Sent<T> {
    fn without_room(&mut self) -> Option<Bytes> {
        match &mut self.what {
            What::Whole(_) => None,
            What::Made(Made::Stream(stream)) => Some(stream.without_room()),
            What::Made(Made::File(file)) => {
                file.cut_off();
                Some(Bytes::new())
            }
        }
    }

    fn may_go_on(&mut self) -> bool {
        match &mut self.what {
            What::Made(Made::Stream(stream)) => stream.may_go_on(),
            // A file is judged where it is read. What is at hand was judged when it was made, and is not long.
            What::Made(Made::File(_)) | What::Whole(_) => true,
        }
    }
}
