//! The probe: who is reached at the peer URL of somebody who is to be a member.
//!
//! Owns the one way in which what a client writes makes this member dial, so that what holds REST to its promises with
//! inputs at random can put nobody in its place.

use std::pin::Pin;
use std::sync::Arc;

use crate::tls::Port;
use crate::transport::{DialError, Hello, ask_hello};

/// An answer, or why there is none.
pub(super) type Probing = Pin<Box<dyn Future<Output = Result<Hello, DialError>> + Send>>;

/// Asks whoever is reached at a peer URL who it is, by what secures connections with members.
pub(super) type Probe = fn(String, Option<Arc<Port>>) -> Probing;

/// Dials it.
pub(super) fn ask(peer_url: String, tls: Option<Arc<Port>>) -> Probing {
    Box::pin(async move { ask_hello(tls.as_deref(), &peer_url).await })
}

/// Reaches nobody.
#[cfg(any(test, fuzzing))]
pub(super) fn nobody(_: String, _: Option<Arc<Port>>) -> Probing {
    let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    Box::pin(std::future::ready(Err(DialError::Connect(refused))))
}
