//! How much of what a core keeps is taken, for assertions.

/// What waits in a core, each bounded by a setting ([`crate::CoreSettings`]).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sizes {
    /// Requests that wait for an entry.
    pub requests: usize,
    /// Their bytes.
    pub request_bytes: usize,
    /// Renewals that wait for an entry.
    pub renewals: usize,
    /// Requests that wait to be forwarded.
    pub forwards: usize,
    /// The most messages on their way to one member and not acknowledged.
    pub window_messages: usize,
    /// The most bytes on their way to one member and not acknowledged.
    pub window_bytes: usize,
}
