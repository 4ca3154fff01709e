//! The trace of a run: a hash over everything that happened, what happened how often, and on request the words.
//!
//! Owns the proof that two runs were the same one, and the counts by which a run in which nothing happened is seen.

use std::fmt;

use crate::plan::FaultKind;
use crate::time::Moment;

/// A small hash that is the same on every machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hash(u64);

impl Default for Hash {
    fn default() -> Hash {
        Hash(0x9e37_79b9_7f4a_7c15)
    }
}

impl Hash {
    pub(crate) fn number(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(0xff51_afd7_ed55_8ccd);
        self.0 = (mixed ^ (mixed >> 32))
            .rotate_left(17)
            .wrapping_add(0xc4ce_b9fe_1a85_ec53);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        words
            .iter()
            .for_each(|word| self.number(u64::from_le_bytes(*word)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.number(u64::from_le_bytes(last));
    }

    pub(crate) fn value(self) -> u64 {
        self.0
    }
}

/// What happened in a run, or in many.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Events of the world.
    pub events: u64,
    /// Virtual milliseconds.
    pub virtual_ms: u64,
    /// Messages handed to the network.
    pub messages: u64,
    /// Messages lost, to chance or to a cut.
    pub lost: u64,
    /// Messages delivered twice.
    pub doubled: u64,
    /// Messages delivered that no member makes.
    pub spoilt: u64,
    /// Messages delivered long after they were sent.
    pub late: u64,
    /// Messages delivered a minute or more after they were sent.
    pub minutes_late: u64,
    /// Messages delivered when their sender or their receiver had died since and started again.
    pub of_earlier_lives: u64,
    /// Crashes.
    pub crashes: u64,
    /// Pauses and suspends.
    pub pauses: u64,
    /// Cuts of the network.
    pub cuts: u64,
    /// Times that links became slow.
    pub slowed: u64,
    /// Watches after a revision that is not there yet, told so.
    pub ahead: u64,
    /// Disk stalls.
    pub stalls: u64,
    /// Members that a failed sync ended.
    pub sync_errors: u64,
    /// Members that a full disk ended.
    pub without_room: u64,
    /// Leaders that noticed that they had been paused, and stepped down.
    pub paused_leaders: u64,
    /// Runs in which clocks were further off than the product assumes.
    pub wild_clocks: u64,
    /// What clients and watchers were told of keys, judged from outside.
    pub judged: u64,
    /// What was judged besides by a search over single keys.
    pub searched: u64,
    /// Faults that came and went, by kind.
    pub faults: FaultCounts,
    /// Runs in which identities are told apart.
    pub guarded: u64,
    /// Requests and renewals that were denied.
    pub denied: u64,
    /// Changes of roles, identities and tokens.
    pub access_changes: u64,
    /// Leases of nobody that became somebody's.
    pub claims: u64,
    /// Transfers of leadership asked for.
    pub transfers: u64,
    /// Changes of the membership asked for.
    pub changes_asked: u64,
    /// Changes and transfers that were told to be done.
    pub changed: u64,
    /// Those refused because they would have cost the quorum, or made no sense.
    pub changes_refused: u64,
    /// Times that something broke when a change had just been appended.
    pub broken_changes: u64,
    /// Members that ended because their state was not that of the others.
    pub diverged: u64,
    /// Members that ended because they ran on an old copy of their disk.
    pub old_copies: u64,
    /// Times that the version of the rules was raised.
    pub raised: u64,
    /// Members that were given an older program again.
    pub put_back: u64,
    /// Members that learnt that they were removed.
    pub removed: u64,
    /// Leaders elected.
    pub elections: u64,
    /// Entries committed.
    pub commits: u64,
    /// Entries applied, on all members.
    pub applied: u64,
    /// Checkpoints that became durable.
    pub checkpoints: u64,
    /// Snapshots installed.
    pub snapshots: u64,
    /// Snapshots found damaged.
    pub damaged: u64,
    /// Calls of clients.
    pub calls: u64,
    /// Calls whose outcome was learnt.
    pub answered: u64,
    /// Calls that were refused, so not applied.
    pub refused: u64,
    /// Calls whose outcome was not learnt.
    pub unknown: u64,
    /// Writes whose outcome was not learnt, and that were applied.
    pub unknown_applied: u64,
    /// Writes whose outcome was not learnt, and that were not applied.
    pub unknown_not_applied: u64,
    /// Leaders killed between the proposal of a client's request and its answer.
    pub killed_in_doubt: u64,
    /// Leaders cut off there.
    pub cut_in_doubt: u64,
    /// Requests that were caught so, and were applied.
    pub in_doubt_applied: u64,
    /// Requests that were caught so, and were not applied.
    pub in_doubt_not_applied: u64,
    /// Requests asked again with the same idempotency key.
    pub retried: u64,
    /// Repeats answered with the first decision.
    pub replays: u64,
    /// Keys used for another request, and told so.
    pub mismatches: u64,
    /// Requests with a key refused because all records were in use.
    pub records_full: u64,
    /// Linearizable reads answered.
    pub reads: u64,
    /// Locks granted.
    pub grants: u64,
    /// Grants of something that others hold too.
    pub shared: u64,
    /// Holds that were broken.
    pub broken: u64,
    /// Leaderships handed over.
    pub handed_over: u64,
    /// Values proclaimed.
    pub proclaimed: u64,
    /// Leases that ran out.
    pub expired: u64,
    /// Events that watchers were given.
    pub watched: u64,
    /// Watches answered that their history is compacted.
    pub compacted: u64,
}

impl Counts {
    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Counts) {
        for ((_, mine), (_, theirs)) in self.fields_mut().into_iter().zip(other.fields()) {
            *mine += theirs;
        }
        for (mine, theirs) in self.faults.0.iter_mut().zip(other.faults.0) {
            *mine += theirs;
        }
    }

    /// Every count with its name, faults by kind excepted.
    pub fn fields(&self) -> Vec<(&'static str, u64)> {
        let mut copy = *self;
        copy.fields_mut()
            .into_iter()
            .map(|(name, count)| (name, *count))
            .collect()
    }

    fn fields_mut(&mut self) -> Vec<(&'static str, &mut u64)> {
        vec![
            ("events", &mut self.events),
            ("virtual ms", &mut self.virtual_ms),
            ("messages", &mut self.messages),
            ("lost", &mut self.lost),
            ("doubled", &mut self.doubled),
            ("spoilt", &mut self.spoilt),
            ("late", &mut self.late),
            ("minutes late", &mut self.minutes_late),
            ("of earlier lives", &mut self.of_earlier_lives),
            ("crashes", &mut self.crashes),
            ("member pauses", &mut self.pauses),
            ("cuts", &mut self.cuts),
            ("links slowed", &mut self.slowed),
            ("disk stalls", &mut self.stalls),
            ("sync errors", &mut self.sync_errors),
            ("without room", &mut self.without_room),
            ("paused leaders stepped down", &mut self.paused_leaders),
            ("runs with wild clocks", &mut self.wild_clocks),
            ("transfers", &mut self.transfers),
            ("changes asked", &mut self.changes_asked),
            ("changes done", &mut self.changed),
            ("changes refused", &mut self.changes_refused),
            ("changes broken", &mut self.broken_changes),
            ("diverged", &mut self.diverged),
            ("old copies", &mut self.old_copies),
            ("removed", &mut self.removed),
            ("versions raised", &mut self.raised),
            ("programs put back", &mut self.put_back),
            ("elections", &mut self.elections),
            ("commits", &mut self.commits),
            ("applied", &mut self.applied),
            ("checkpoints", &mut self.checkpoints),
            ("snapshots", &mut self.snapshots),
            ("damaged", &mut self.damaged),
            ("calls", &mut self.calls),
            ("answered", &mut self.answered),
            ("refused", &mut self.refused),
            ("unknown", &mut self.unknown),
            ("unknown applied", &mut self.unknown_applied),
            ("unknown not applied", &mut self.unknown_not_applied),
            ("leaders killed in doubt", &mut self.killed_in_doubt),
            ("leaders cut off in doubt", &mut self.cut_in_doubt),
            ("in doubt applied", &mut self.in_doubt_applied),
            ("in doubt not applied", &mut self.in_doubt_not_applied),
            ("retried", &mut self.retried),
            ("replays", &mut self.replays),
            ("mismatches", &mut self.mismatches),
            ("records full", &mut self.records_full),
            ("reads", &mut self.reads),
            ("grants", &mut self.grants),
            ("shared", &mut self.shared),
            ("broken", &mut self.broken),
            ("handed over", &mut self.handed_over),
            ("proclaimed", &mut self.proclaimed),
            ("expired", &mut self.expired),
            ("watched", &mut self.watched),
            ("judged from outside", &mut self.judged),
            ("judged by search", &mut self.searched),
            ("compacted", &mut self.compacted),
            ("revision ahead", &mut self.ahead),
            ("runs with access control", &mut self.guarded),
            ("denied", &mut self.denied),
            ("access changes", &mut self.access_changes),
            ("leases claimed", &mut self.claims),
        ]
    }
}

/// How often each kind of fault was brought about.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FaultCounts([u64; FaultKind::ALL.len()]);

impl FaultCounts {
    pub(crate) fn add(&mut self, kind: FaultKind) {
        let place = FaultKind::ALL.iter().position(|other| *other == kind);
        self.0[place.expect("every kind is listed")] += 1;
    }

    /// Every kind with how often it was brought about.
    pub fn by_name(&self) -> impl Iterator<Item = (&'static str, u64)> {
        FaultKind::ALL.into_iter().map(FaultKind::name).zip(self.0)
    }
}

/// The trace of one run.
pub(crate) struct Trace {
    hash: Hash,
    spoken: bool,
    pub(crate) counts: Counts,
}

impl Trace {
    /// `spoken`: whether the words are printed too.
    pub(crate) fn new(spoken: bool) -> Trace {
        Trace {
            hash: Hash::default(),
            spoken,
            counts: Counts::default(),
        }
    }

    /// Takes note of a number that two runs of a seed must share.
    pub(crate) fn number(&mut self, number: u64) {
        self.hash.number(number);
    }

    /// Says what happened, to whom runs this one by hand.
    #[expect(
        clippy::print_stdout,
        reason = "the trace is what was asked for on the command line"
    )]
    pub(crate) fn say(&self, now: Moment, words: impl FnOnce() -> String) {
        if self.spoken {
            println!("{now} {}", words());
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.value()
    }
}

/// A list of members as people read it.
pub(crate) struct Names<'a>(pub(crate) &'a [usize]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, member) in self.0.iter().enumerate() {
            let comma = if position > 0 { " " } else { "" };
            write!(f, "{comma}n{}", member + 1)?;
        }
        Ok(())
    }
}
