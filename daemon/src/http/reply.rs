//! Replies: what a handler answers, before the headers that every answer has.

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use serde::Serialize;
use tenure_api::{Code, JSON};
use tenure_state::Revision;

use super::failure::Failure;

/// What a handler answers.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    /// The number of the status.
    pub(super) status: u16,
    /// The type of the body, if it has one.
    pub(super) content_type: Option<HeaderValue>,
    /// The body.
    pub(super) body: Bytes,
    /// The revision that it reflects; where it is absent, the present one is told.
    pub(super) revision: Option<Revision>,
    /// Headers of its own.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// The code of a problem, for the log.
    pub(super) code: Option<Code>,
}

impl Reply {
    /// An answer with a body.
    pub(super) fn new(status: u16, content_type: &'static str, body: Bytes) -> Reply {
        let content_type = Some(HeaderValue::from_static(content_type));
        Reply {
            status,
            content_type,
            body,
            revision: None,
            headers: Vec::new(),
            code: None,
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

    /// Adds a header.
    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Reply {
        self.headers.push((name, value));
        self
    }
}
