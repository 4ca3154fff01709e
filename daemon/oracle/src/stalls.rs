//! How late the end of something that was due may be seen: what `api.md` promises, the times in which nothing was
//! acknowledged, and what a watcher takes to be told on a busy machine.

use crate::record::{Call, Moment, Recording, Told};

/// How long after its deadline a lease ends in a healthy cluster, the wait of its last renewal for company included.
const PROMISED_MS: u64 = 250;
/// What a change of leader may add.
const CHANGE_MS: u64 = 500;
/// A pause in what is acknowledged that is longer than this may be a time in which the cluster's clock stood still: it
/// advances by one heartbeat interval at most in a turn of the leader, however long a busy machine makes that turn.
const PAUSE_MS: u64 = 50;
/// One that is longer than this may be a time without a leader.
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
                // What is told again needs no entry of which the clock would know.
                Told::Done {
                    replayed: false,
                    ..
                } | Told::Granted {
                    replayed: false,
                    ..
                } | Told::Renewed { .. }
            )
        };
        let calls = recording.calls.iter().filter(acknowledged);
        let mut moments: Vec<Moment> = calls.map(|call| call.ret).collect();
        moments.sort_unstable();
        moments.insert(0, Moment(0));
        moments.push(Moment::NEVER);
        let pairs = moments.windows(2).map(|pair| (pair[0], pair[1]));
        Stalls(pairs.filter(|pair| is_longer(*pair, PAUSE_MS)).collect())
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
            let change_ms = match is_longer((*begin, *end), STALL_MS) {
                true => CHANGE_MS,
                false => 0,
            };
            (*end).min(until).since((*begin).max(from)) + change_ms * 1_000_000
        });
        added.sum()
    }
}

fn is_longer((from, until): (Moment, Moment), ms: u64) -> bool {
    until.since(from) > ms * 1_000_000
}
