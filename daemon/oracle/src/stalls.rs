//! How late the end of something that was due may be seen: what `api.md` promises, the times in which nothing was
//! acknowledged, and what a watcher takes to be told on a busy machine.

use crate::record::{Call, Moment, Recording, Told};

/// How long after its deadline a lease ends in a healthy cluster, the wait of its last renewal for company included.
const PROMISED_MS: u64 = 250;
/// What a change of leader may add.
const CHANGE_MS: u64 = 500;
/// A pause in what is acknowledged that is longer than this may be a time without a leader.
const STALL_MS: u64 = 150;
/// What a watcher on a busy machine is told late.
const TELLING_MS: u64 = 1_000;

/// The times in which nothing was acknowledged.
pub(crate) struct Stalls(Vec<(Moment, Moment)>);

impl Stalls {
    pub(crate) fn of(recording: &Recording) -> Stalls {
        let acknowledged = |call: &&Call| {
            matches!(
                call.told,
                Told::Done { .. } | Told::Granted { .. } | Told::Renewed { .. }
            )
        };
        let calls = recording.calls.iter().filter(acknowledged);
        let mut moments: Vec<Moment> = calls.map(|call| call.ret).collect();
        moments.sort_unstable();
        moments.insert(0, Moment(0));
        moments.push(Moment::NEVER);
        let pairs = moments.windows(2).map(|pair| (pair[0], pair[1]));
        let long = |(from, until): &(Moment, Moment)| until.since(*from) > STALL_MS * 1_000_000;
        Stalls(pairs.filter(long).collect())
    }

    /// How much later than it was due something may be seen to end, between two moments, in nanoseconds.
    pub(crate) fn allowance(&self, from: Moment, until: Moment) -> u64 {
        (PROMISED_MS + TELLING_MS) * 1_000_000 + self.within(from, until)
    }

    /// How much longer something may take between two moments, in nanoseconds.
    fn within(&self, from: Moment, until: Moment) -> u64 {
        let overlaps = self
            .0
            .iter()
            .filter(|(begin, end)| *begin < until && from < *end);
        let added = overlaps.map(|(begin, end)| {
            (*end).min(until).since((*begin).max(from)) + CHANGE_MS * 1_000_000
        });
        added.sum()
    }
}
