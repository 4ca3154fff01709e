//! The key that many watch: what its writer and its watchers have in common.
//!
//! Each value says its number and when it was sent, so that a watcher knows how old a delivery is and whether one is
//! missing. Unless a rate is asked for, a value is written when the one before was acknowledged and has reached all
//! watchers: a system that takes writes faster than it delivers them is not punished for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::system::Failure;

/// So many bytes at the front of a value are its number and its time, in hex digits.
pub(crate) const HEAD: usize = 32;
/// A value that has not reached everybody by then is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Shared by the writer and all watchers of one run.
pub(crate) struct Busy {
    epoch: Instant,
    watchers: u64,
    /// The number of the newest value, from 1.
    newest: AtomicU64,
    /// How many watchers do not have it yet.
    missing: AtomicU64,
    complete: Notify,
}

impl Busy {
    pub(crate) fn new(watchers: usize) -> Busy {
        Busy {
            epoch: Instant::now(),
            watchers: watchers as u64,
            newest: AtomicU64::new(0),
            missing: AtomicU64::new(0),
            complete: Notify::new(),
        }
    }

    /// The next value, sent now. Only one writer asks.
    pub(crate) fn value(&self, size: usize) -> Bytes {
        self.missing.store(self.watchers, Ordering::SeqCst);
        let number = self.newest.fetch_add(1, Ordering::SeqCst) + 1;
        let sent = u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut value = format!("{number:016x}{sent:016x}").into_bytes();
        value.resize(size.max(HEAD), b'x');
        value.into()
    }

    /// A watcher was told a value: its number, and how long ago it was sent.
    ///
    /// # Errors
    ///
    /// Where it is not a value of this run.
    pub(crate) fn delivered(&self, head: &[u8]) -> Result<(u64, Duration), Failure> {
        let now = self.epoch.elapsed();
        let (number, sent) = read(head)
            .filter(|(number, _)| *number <= self.newest.load(Ordering::SeqCst))
            .ok_or_else(|| {
                let shown = String::from_utf8_lossy(head);
                Failure::answer(format!("a watcher was told {shown:?}, which nobody wrote"))
            })?;
        if number == self.newest.load(Ordering::SeqCst)
            && self.missing.fetch_sub(1, Ordering::SeqCst) == 1
        {
            self.complete.notify_one();
        }
        Ok((number, now.saturating_sub(sent)))
    }

    /// Waits until the newest value has reached all watchers.
    ///
    /// # Errors
    ///
    /// Where that takes too long.
    pub(crate) async fn complete(&self) -> Result<(), Failure> {
        let complete = async {
            while self.missing.load(Ordering::SeqCst) > 0 {
                self.complete.notified().await;
            }
        };
        timeout(PATIENCE, complete).await.map_err(|_| {
            let missing = self.missing.load(Ordering::SeqCst);
            let detail = format!("{missing} watchers were not told a value within {PATIENCE:?}");
            Failure::new("not-delivered", detail)
        })
    }
}

fn read(head: &[u8]) -> Option<(u64, Duration)> {
    let text = std::str::from_utf8(head.get(..HEAD)?).ok()?;
    let (number, sent) = text.split_at(HEAD / 2);
    let sent = u64::from_str_radix(sent, 16).ok()?;
    Some((
        u64::from_str_radix(number, 16).ok()?,
        Duration::from_nanos(sent),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_value_is_complete_when_everybody_was_told_it() {
        let busy = Busy::new(2);
        let value = busy.value(256);
        assert_eq!(value.len(), 256);
        for _ in 0..2 {
            let failure = busy.complete().await.expect_err("somebody is missing");
            assert_eq!(failure.code, "not-delivered");
            let (number, age) = busy.delivered(&value[..HEAD]).expect("it is ours");
            assert_eq!(number, 1);
            assert!(age < Duration::from_secs(5), "{age:?}");
        }
        busy.complete().await.expect("both were told");
        let second = busy.value(0);
        assert_eq!(second.len(), HEAD, "the head is never cut off");
        busy.delivered(&value[..HEAD]).expect("an old one is ours");
        assert!(busy.complete().await.is_err(), "an old one completes none");
        assert_eq!(busy.delivered(&second).map(|told| told.0), Ok(2));
    }

    #[test]
    fn what_nobody_wrote_is_a_failure() {
        let busy = Busy::new(1);
        let ahead = format!("{:016x}{:016x}", 7, 0);
        for head in ["", "short", "not hex digits but thirty-two !!", &ahead] {
            let failure = busy
                .delivered(head.as_bytes())
                .expect_err("nobody wrote it");
            assert!(failure.detail.contains("nobody wrote"), "{failure}");
        }
    }
}
