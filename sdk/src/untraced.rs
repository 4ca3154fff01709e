//! What [`crate::traced`] is without the feature `otel`: nothing.

use bytes::Bytes;
use http::{Method, Request, Response};

use crate::call::Answer;
use crate::error::Error;
use crate::transport::SendError;

pub(crate) struct Call;

pub(crate) struct Try;

impl Call {
    pub(crate) fn begin(_: &Method, _: &str) -> Call {
        Call
    }

    pub(crate) fn attempt(&self, _: &mut Request<Bytes>, _: u32) -> Try {
        Try
    }

    pub(crate) fn end(self, _: &Result<Answer, Error>) {}
}

impl Try {
    pub(crate) fn end(self, _: Option<&Result<Response<Bytes>, SendError>>) {}
}
