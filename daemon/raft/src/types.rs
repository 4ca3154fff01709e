//! The nouns of the Raft paper as types that cannot be swapped: terms, log indexes, members, entries, configurations.
//!
//! Owns no behaviour beyond construction and comparison. Must never know what a command means, where it is stored
//! or how it travels: commands are opaque bytes, and codecs live at the edges.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// A term of Raft (Raft §5.1): at most one leader each. Zero is before the first election.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Term(pub u64);

/// The position of an entry in the log. The first entry has index 1; zero stands for "before the log".
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LogIndex(pub u64);

/// The identity of a member, drawn at random when its data directory is made and never used again.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MemberId(pub u64);

/// The cluster clock in milliseconds, as stamped on entries by leaders. Along a log it never falls.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Stamp(pub u64);

impl LogIndex {
    /// The index after this one.
    pub fn next(self) -> LogIndex {
        LogIndex(self.0 + 1)
    }

    /// The index before this one; zero stays zero.
    pub fn previous(self) -> LogIndex {
        LogIndex(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for LogIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A place in a log: which entry, and of which term. Ordered as Raft §5.4.1 compares logs: by term, then by index.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LogPosition {
    /// The term of the entry.
    pub term: Term,
    /// Its index.
    pub index: LogIndex,
}

/// One entry of the replicated log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Where it stands.
    pub index: LogIndex,
    /// The term of the leader that appended it.
    pub term: Term,
    /// The cluster clock when it was appended.
    pub stamp: Stamp,
    /// What it says.
    pub payload: Payload,
}

impl Entry {
    /// Its index and term.
    pub fn position(&self) -> LogPosition {
        LogPosition {
            term: self.term,
            index: self.index,
        }
    }

    /// Bytes that this entry counts for in windows and bounds: its payload and a flat share for the rest.
    pub fn size(&self) -> usize {
        const OVERHEAD: usize = 32;
        OVERHEAD
            + match &self.payload {
                Payload::Empty => 0,
                Payload::Command(bytes) => bytes.len(),
                Payload::Configuration(configuration) => configuration.size(),
            }
    }
}

/// What an entry says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Payload {
    /// Nothing but its stamp: the entry at the start of a term (Raft §8).
    Empty,
    /// Bytes for the state machine; Raft does not look inside.
    Command(Bytes),
    /// A new configuration, in force from the moment it is appended (thesis §4.1).
    Configuration(Arc<Configuration>),
}

/// How a member is called and reached. Raft carries it, so that membership has exactly one home, and never reads it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct MemberInfo {
    /// A label for people.
    pub name: String,
    /// Where other members reach it.
    pub peer_url: String,
    /// Where clients reach it.
    pub client_url: String,
    /// The number that the member drew when it started last, as far as the group knows. A disk that does not know it is
    /// an old copy.
    pub start: Option<u64>,
}

/// Who belongs to the group. With `outgoing` non-empty it is joint (thesis §4.3): every decision needs a majority of
/// `voters` and one of `outgoing`.
///
/// Invariants: `voters` is not empty; no member is both voter (incoming or outgoing) and learner; every member named
/// has its info; only learners are `promoting`; nobody who was removed is a member.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Configuration {
    /// Members whose votes and acknowledgements count.
    pub voters: BTreeSet<MemberId>,
    /// The voters being replaced while a joint configuration is in force; empty otherwise.
    pub outgoing: BTreeSet<MemberId>,
    /// Members that receive the log and have no vote.
    pub learners: BTreeSet<MemberId>,
    /// The learners that become voters by themselves once they have caught up, and whom each replaces.
    pub promoting: BTreeMap<MemberId, Option<MemberId>>,
    /// Who was a member and was removed: such an id is never a member's again.
    pub removed: BTreeSet<MemberId>,
    /// How each member is called and reached.
    pub info: BTreeMap<MemberId, MemberInfo>,
}

impl Configuration {
    /// Every member, of whatever kind, in the order of ids.
    pub fn members(&self) -> BTreeSet<MemberId> {
        self.voters
            .iter()
            .chain(&self.outgoing)
            .chain(&self.learners)
            .copied()
            .collect()
    }

    /// Whether `member` has a vote, in the incoming or the outgoing half.
    pub fn is_voter(&self, member: MemberId) -> bool {
        self.voters.contains(&member) || self.outgoing.contains(&member)
    }

    /// Whether `member` belongs to the group at all.
    pub fn contains(&self, member: MemberId) -> bool {
        self.is_voter(member) || self.learners.contains(&member)
    }

    /// Bytes that it counts for in windows and bounds.
    pub fn size(&self) -> usize {
        let texts: usize = self
            .info
            .values()
            .map(|i| i.name.len() + i.peer_url.len() + i.client_url.len())
            .sum();
        let ids = self.voters.len()
            + self.outgoing.len()
            + self.learners.len()
            + self.promoting.len()
            + self.removed.len();
        texts + 16 * ids
    }
}

/// What a member must remember across restarts beside its log (Raft figure 2).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HardState {
    /// The latest term it has seen.
    pub term: Term,
    /// Whom it voted for in that term. Written once a term.
    pub vote: Option<MemberId>,
}

/// What the log begins behind: the last entry that a snapshot or checkpoint covers, and the configuration there.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SnapshotMeta {
    /// The last entry covered.
    pub position: LogPosition,
    /// The stamp of that entry.
    pub stamp: Stamp,
    /// The configuration in force at it.
    pub configuration: Arc<Configuration>,
}

impl SnapshotMeta {
    /// What the log of every member of a new cluster begins behind: the first entry, which is the first configuration
    /// itself.
    #[must_use]
    pub fn genesis(configuration: Configuration) -> SnapshotMeta {
        SnapshotMeta {
            position: LogPosition {
                index: LogIndex(1),
                term: Term(1),
            },
            stamp: Stamp(0),
            configuration: Arc::new(configuration),
        }
    }
}

/// A snapshot as a file that can be sent in pieces.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SnapshotFile {
    /// What it covers.
    pub meta: SnapshotMeta,
    /// Its length in bytes.
    pub size: u64,
    /// A digest of all its bytes. Two files with equal position, size and digest are the same file, so that a
    /// transfer may go on where it was cut off.
    pub digest: u128,
}
