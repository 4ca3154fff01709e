//! What a caller may add to any write: a guard, and an idempotency key of its own.

use http::HeaderName;
use tenure_api::header;

use crate::call::Call;
use crate::error::{Error, Failure};
use crate::guarded::Fencing;
use crate::lease::try_for;

/// The longest idempotency key.
const MAX_KEY_BYTES: usize = 128;

/// On what terms a write is sent.
#[derive(Clone, Default)]
pub(crate) struct Terms<'a> {
    pub(crate) guard: Option<Fencing<'a>>,
    pub(crate) idempotency_key: Option<String>,
}

impl Terms<'_> {
    /// Puts them on a call.
    ///
    /// # Errors
    ///
    /// Where the guard is not believed in any longer, or the key is none.
    pub(crate) fn on(&self, mut call: Call) -> Result<Call, Error> {
        if let Some(key) = &self.idempotency_key {
            call = call.with_idempotency_key(checked(key)?);
        }
        let Some(guard) = self.guard else {
            return Ok(call);
        };
        if let crate::State::Lost(loss) = guard.state() {
            return Err(Error::Lost(loss));
        }
        // A member that does not answer is left while the hold may still be believed in.
        let call = call.with_tries_of(try_for(guard.hold.lease.ttl));
        let name = HeaderName::from_static(header::GUARD);
        Ok(call.with_header(name, &guard.header()))
    }
}

fn checked(key: &str) -> Result<&str, Error> {
    let printable = key.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if printable && !key.is_empty() && key.len() <= MAX_KEY_BYTES && key.trim() == key {
        return Ok(key);
    }
    let detail = format!(
        "the idempotency key {key:?} is none: 1 to {MAX_KEY_BYTES} printable ASCII characters are accepted, \
         without blanks at its ends"
    );
    Err(Error::NotApplied(Failure::local(detail)))
}

/// The methods that every write has, forwarded to its `terms`.
macro_rules! write_terms {
    ($life:lifetime) => {
        /// Only while this is held: the cluster checks the fence when it applies the write.
        pub fn guard(mut self, held: &$life impl $crate::Fenced) -> Self {
            self.terms.guard = Some($crate::guarded::Sealed::fencing(held));
            self
        }

        /// The key under which the decision is recorded, in place of one that is drawn: a program that repeats the
        /// write with the same key, also after a restart, is told what was decided first, for 60 s.
        pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
            self.terms.idempotency_key = Some(key.into());
            self
        }
    };
}
pub(crate) use write_terms;
