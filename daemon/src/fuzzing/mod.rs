//! What the fuzzers run: for everything that reads bytes of others, one function that is given bytes and panics where a
//! promise is broken.
//!
//! Built only for the tests of this crate, which replay the inputs in `daemon/fuzz`, and for the fuzzers there; no
//! member contains it. Each target stands beside the code that it holds to its promises, because it uses its private
//! parts; this page has the list, and the one target that belongs to no module here. A target never looks at a clock or
//! a random number where that could decide its verdict: an input that failed once fails again.

mod machine;
#[cfg(test)]
mod replay;
#[cfg(test)]
pub(crate) mod seeds;

pub use crate::config::fuzzing::config;
pub use crate::http::fuzzing::rest;
pub use crate::storage::fuzzing::{backup, record, snapshot};
pub use crate::transport::fuzzing::{hello, peer};
pub use machine::machine;

/// A target.
pub type Target = fn(&[u8]);

/// Every target by the name of its folder.
pub const TARGETS: [(&str, Target); 8] = [
    ("backup", backup),
    ("config", config),
    ("hello", hello),
    ("machine", machine),
    ("peer", peer),
    ("record", record),
    ("rest", rest),
    ("snapshot", snapshot),
];

/// Takes values off the front of an input; what is not there is zero.
#[derive(Debug)]
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Input<'a> {
        Input(bytes)
    }

    /// A number of `N` bytes, little-endian.
    pub(crate) fn number<const N: usize>(&mut self) -> u64 {
        let taken = self.bytes(N);
        let digits = taken.iter().rev();
        digits.fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// The next bytes, or as many as there are.
    pub(crate) fn bytes(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Bytes behind their length of two bytes.
    pub(crate) fn sized(&mut self) -> &'a [u8] {
        let length = self.number::<2>();
        self.bytes(length as usize)
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What every error says: something, in one line, that nobody can use to forge another.
pub(crate) fn assert_says_something(error: &impl std::fmt::Display) {
    let text = error.to_string();
    assert!(!text.trim().is_empty(), "an error without words");
    assert!(
        !text.contains(|c: char| c.is_control()),
        "an error with control characters: {text:?}"
    );
}
