//! Something in files that others may replace at any time, as it was read last.
//!
//! Owns when files are looked at. A call waits for them only where what they held was refused; all others use what was known
//! last, so that a disk which hangs keeps no renewal from being sent. What cannot be read changes nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};

/// While calls are made, files are read this often.
pub(crate) const READ_EVERY: Duration = Duration::from_secs(1);
/// Somebody who has been reading for so long is not waited for: the disk hangs, or his runtime has ended.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(60);
/// How long a call that was refused waits for the files.
const READ_WITHIN: Duration = Duration::from_secs(1);

/// How it is read; what is wrong is told in words.
type Read<T> = dyn Fn() -> Result<T, String> + Send + Sync;

pub(crate) struct Reread<T> {
    read: Box<Read<T>>,
    known: Mutex<Known<T>>,
}

struct Known<T> {
    what: T,
    /// When it was read last, or somebody began to.
    read: Instant,
    is_being_read: bool,
}

impl<T: Clone + Send + 'static> Reread<T> {
    /// Reads it for the first time.
    ///
    /// # Errors
    ///
    /// Where it cannot be read.
    pub(crate) fn new(
        read: impl Fn() -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Arc<Reread<T>>, String> {
        let known = Known {
            what: read()?,
            read: Instant::now(),
            is_being_read: false,
        };
        Ok(Arc::new(Reread {
            read: Box::new(read),
            known: Mutex::new(known),
        }))
    }

    /// As it was read last.
    pub(crate) fn known(&self) -> T {
        self.locked().what.clone()
    }

    /// The same. Where it is time to, somebody reads it again, for whom nobody waits: what is wrong is told where it is
    /// refused. Must be called on a runtime.
    pub(crate) fn current(self: &Arc<Self>) -> T {
        if self.is_to_be_read() {
            let again = Arc::clone(self);
            drop(tokio::task::spawn_blocking(move || again.read_again()));
        }
        self.known()
    }

    /// Reads it again and waits for that; none where it takes too long.
    pub(crate) async fn again(self: &Arc<Self>) -> Option<Result<(), String>> {
        let again = Arc::clone(self);
        let reading = tokio::task::spawn_blocking(move || again.read_again());
        timeout(READ_WITHIN, reading).await.ok()?.ok()
    }

    /// Whether it is time to. Whoever is told so reads it.
    fn is_to_be_read(&self) -> bool {
        let mut known = self.locked();
        let every = match known.is_being_read {
            true => GIVEN_UP_AFTER,
            false => READ_EVERY,
        };
        let due = known.read.elapsed() >= every;
        if due {
            known.is_being_read = true;
            known.read = Instant::now();
        }
        due
    }

    fn read_again(&self) -> Result<(), String> {
        let told = (self.read)();
        let mut known = self.locked();
        known.is_being_read = false;
        known.read = Instant::now();
        known.what = told?;
        Ok(())
    }

    fn locked(&self) -> MutexGuard<'_, Known<T>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
