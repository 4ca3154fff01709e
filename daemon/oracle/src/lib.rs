//! Judges recorded runs of a cluster: one history must explain everything that anybody was told.
//!
//! Owns the format of recordings and the checkers, one file each. The system tells its own order by its revisions, so
//! nothing is searched for: each answer is judged by the history at the revision that it names, and revisions by real
//! time. A search over short histories of single keys is the second opinion, which knows nothing of revisions. Never
//! runs anything, reads no clock, and never decides how much is enough: that is for whoever made the recording.

mod record;

mod askings;
mod history;
mod made;
mod stalls;
mod standing;
mod ttls;

mod beliefs;
mod breaks;
mod deadlines;
mod delays;
mod elections;
mod exclusion;
mod guards;
mod leases;
mod once;
mod order;
mod outside;
mod owners;
mod permits;
mod queues;
mod reads;
mod search;
mod second;
mod together;
mod watches;

pub use history::History;
pub use record::{
    Ask, Belief, Call, Condition, Effect, Event, Fault, Guard, How, Left, Line, Moment, Operation,
    ReadError, Recording, Reply, Revision, Seen, Share, Times, Told,
};
pub use second::{MOST_OPERATIONS, MOST_UNKNOWN};

/// What a checker says: how many things it judged, or what is wrong.
pub type Judged = Result<u64, String>;

/// A checker and its name.
pub type Checker = (&'static str, fn(&Recording, &History) -> Judged);

/// All checkers.
pub const CHECKERS: [Checker; 16] = [
    ("order", order::check),
    ("reads", reads::check),
    ("once", once::check),
    ("exclusion", exclusion::check),
    ("permits", permits::check),
    ("together", together::check),
    ("beliefs", beliefs::check),
    ("outside", outside::check),
    ("queues", queues::check),
    ("guards", guards::check),
    ("delays", delays::check),
    ("leases", leases::check),
    ("deadlines", deadlines::check),
    ("elections", elections::check),
    ("watches", watches::check),
    ("second", second::check),
];

/// What all checkers say of a run.
#[derive(Debug, Default)]
pub struct Verdict {
    /// How many things each checker judged that found nothing wrong.
    pub judged: Vec<(&'static str, u64)>,
    /// What each of the others found first.
    pub wrong: Vec<(&'static str, String)>,
}

impl Verdict {
    /// How many things a checker judged; 0 where it found something wrong.
    #[must_use]
    pub fn count(&self, checker: &str) -> u64 {
        let found = self.judged.iter().find(|(name, _)| *name == checker);
        found.map_or(0, |(_, count)| *count)
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (name, count) in &self.judged {
            write!(f, "{name} {count}, ")?;
        }
        write!(f, "{} wrong", self.wrong.len())?;
        self.wrong
            .iter()
            .try_for_each(|(name, what)| write!(f, "\n{name}: {what}"))
    }
}

/// Judges a run by all checkers.
#[must_use]
pub fn judge(recording: &Recording) -> Verdict {
    let mut verdict = Verdict::default();
    let history = match History::of(recording) {
        Ok(history) => history,
        Err(what) => {
            verdict.wrong.push(("history", what));
            return verdict;
        }
    };
    for (name, check) in CHECKERS {
        match check(recording, &history) {
            Ok(count) => verdict.judged.push((name, count)),
            Err(what) => verdict.wrong.push((name, what)),
        }
    }
    verdict
}

/// How many writes let in by an outside that looks at no fences came after one with a greater fence: what fences are
/// for. A run in which holders overslept their leases and that has none of these proves nothing about fences.
#[must_use]
pub fn unfenced_overtakings(recording: &Recording) -> u64 {
    outside::unfenced_overtakings(recording)
}
