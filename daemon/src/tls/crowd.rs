//! How many handshakes may be under way at a time.
//!
//! A handshake costs its member work and memory before it is known who is there. Where there are as many as allowed, the
//! one that has been under way longest makes room, if it has had a second: in a crowd of clients that come back at once each
//! has its turn within that, while a crowd that says nothing keeps nobody out for longer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

/// Handshakes at a time.
pub(crate) const MOST: usize = 256;
/// So long each may take undisturbed.
const UNDISTURBED: Duration = Duration::from_secs(1);
/// How often it is looked who could make room.
const LOOK: Duration = Duration::from_millis(100);

/// The handshakes of a listener that are under way.
pub(crate) struct Crowd {
    permits: Arc<Semaphore>,
    open: Mutex<BTreeMap<u64, (Instant, Arc<Notify>)>>,
}

/// A place among them; free again when dropped.
pub(crate) struct Place {
    number: u64,
    crowd: Arc<Crowd>,
    leave: Arc<Notify>,
    _permit: OwnedSemaphorePermit,
}

impl Crowd {
    pub(crate) fn of(most: usize) -> Arc<Crowd> {
        Arc::new(Crowd {
            permits: Arc::new(Semaphore::new(most)),
            open: Mutex::default(),
        })
    }

    /// Waits for a place.
    pub(crate) async fn enter(self: &Arc<Crowd>) -> Place {
        loop {
            let permit = Arc::clone(&self.permits).acquire_owned();
            // The semaphore is never closed.
            if let Ok(Ok(permit)) = timeout(LOOK, permit).await {
                return self.place(permit);
            }
            self.make_room();
        }
    }

    fn place(self: &Arc<Crowd>, permit: OwnedSemaphorePermit) -> Place {
        let leave = Arc::new(Notify::new());
        let mut open = self.open();
        let number = open.last_key_value().map_or(0, |(last, _)| last + 1);
        open.insert(number, (Instant::now(), Arc::clone(&leave)));
        drop(open);
        Place {
            number,
            crowd: Arc::clone(self),
            leave,
            _permit: permit,
        }
    }

    /// Whoever has been under way longest, and long enough, is told to leave. One that was told and has not left is told
    /// again: then it is about to.
    fn make_room(&self) {
        let open = self.open();
        if let Some((_, (since, leave))) = open.first_key_value()
            && UNDISTURBED <= since.elapsed()
        {
            leave.notify_one();
        }
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, (Instant, Arc<Notify>)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Returns when another is to have this place.
    pub(crate) async fn is_needed(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.open().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_makes_room_after_a_second_and_nobody_before() {
        let crowd = Crowd::of(2);
        let first = crowd.enter().await;
        tokio::time::advance(Duration::from_millis(500)).await;
        let second = crowd.enter().await;
        let newcomer = tokio::spawn({
            let crowd = Arc::clone(&crowd);
            async move { crowd.enter().await }
        });
        let began = Instant::now();
        tokio::select! {
            () = second.is_needed() => panic!("the older one is to go"),
            () = first.is_needed() => {}
        }
        let waited = began.elapsed();
        let expected = Duration::from_millis(500)..Duration::from_millis(700);
        assert!(expected.contains(&waited), "{waited:?}");
        drop(first);
        let third = newcomer.await.expect("it does not panic");
        drop((second, third));
        assert!(crowd.open().is_empty());
        assert_eq!(crowd.permits.available_permits(), 2);
    }
}
