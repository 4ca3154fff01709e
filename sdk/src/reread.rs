//! Something in files that others may replace at any time, as it was read last.
//!
//! Owns when files are looked at. A call waits for them only where what they held was refused; all others use what was known
//! last, so that a disk which hangs keeps no renewal from being sent. It keeps no program from ending either: whoever reads is
//! a thread of its own, for which no runtime waits, and there is one at a time. What cannot be read changes nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot::{self, Receiver, Sender};
use tokio::time::{Instant, timeout};

/// While calls are made, files are read this often.
pub(crate) const READ_EVERY: Duration = Duration::from_secs(1);
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
    /// How often somebody has begun to read it.
    begun: u64,
    /// Whoever waits for the one who reads; none where nobody does.
    waiting: Option<Vec<Sender<Result<(), String>>>>,
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
            begun: 0,
            waiting: None,
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
        let mut known = self.locked();
        if known.waiting.is_none() && known.read.elapsed() >= READ_EVERY {
            self.begin(&mut known);
        }
        known.what.clone()
    }

    /// Reads it again and waits for that; none where it takes too long or cannot be done. Must be called on a runtime.
    pub(crate) async fn again(self: &Arc<Self>) -> Option<Result<(), String>> {
        timeout(READ_WITHIN, self.read_from_now_on()).await.ok()?
    }

    /// What is told by somebody who has not begun before this: one who has may have read what was replaced since.
    async fn read_from_now_on(self: &Arc<Self>) -> Option<Result<(), String>> {
        let before = self.locked().begun;
        loop {
            let (told, by) = self.join();
            let told = told.await.ok()?;
            if by > before {
                return Some(told);
            }
        }
    }

    /// Waits for whoever reads it, and begins where nobody does. Answers with who that is.
    fn join(self: &Arc<Self>) -> (Receiver<Result<(), String>>, u64) {
        let mut known = self.locked();
        if known.waiting.is_none() {
            self.begin(&mut known);
        }
        let (sender, told) = oneshot::channel();
        if let Some(waiting) = &mut known.waiting {
            waiting.push(sender);
        }
        (told, known.begun)
    }

    fn begin(self: &Arc<Self>, known: &mut Known<T>) {
        known.read = Instant::now();
        known.begun += 1;
        let this = Arc::clone(self);
        // Whoever waits while the system has no thread to give is told so.
        known.waiting = spawn(move || this.read_again()).then(Vec::new);
    }

    fn read_again(&self) {
        // Nobody would ever read it again who waited for one that panicked.
        let told = catch_unwind(AssertUnwindSafe(|| (self.read)()));
        let told = told.unwrap_or_else(|_| Err("whoever read it panicked".to_owned()));
        let mut known = self.locked();
        known.read = Instant::now();
        let told = told.map(|what| known.what = what);
        for waiting in known.waiting.take().into_iter().flatten() {
            // Whoever waited may have gone.
            let _ = waiting.send(told.clone());
        }
    }

    fn locked(&self) -> MutexGuard<'_, Known<T>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Works on a thread that nobody waits for, where the system has one to give.
#[cfg(not(test))]
fn spawn(work: impl FnOnce() + Send + 'static) -> bool {
    let thread = std::thread::Builder::new().name("tenure-files".to_owned());
    thread.spawn(work).is_ok()
}

/// The paused clock of a test goes on only when what its runtime has begun has ended.
#[cfg(test)]
fn spawn(work: impl FnOnce() + Send + 'static) -> bool {
    drop(tokio::task::spawn_blocking(work));
    true
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_disk_that_hangs_has_one_reader_however_many_calls_are_refused() {
        let (release, hangs) = mpsc::channel::<()>();
        let (hangs, readers) = (Mutex::new(hangs), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&readers);
        let files = Reread::new(move || {
            // The first reading is that of the beginning.
            if count.fetch_add(1, Ordering::SeqCst) > 0 {
                let hangs = hangs.lock().expect("nobody panics");
                let _ = hangs.recv();
            }
            Ok(count.load(Ordering::SeqCst))
        });
        let files = files.expect("it is read");
        let (one, other) = tokio::join!(files.again(), files.again());
        assert_eq!((one, other), (None, None), "it takes too long");
        assert_eq!(files.again().await, None);
        assert_eq!(readers.load(Ordering::SeqCst), 2);
        // From now on nothing hangs: what was under way ends, and what is told is from a later reading.
        drop(release);
        assert_eq!(files.again().await, Some(Ok(())));
        assert_eq!(files.known(), 3);
    }
}
