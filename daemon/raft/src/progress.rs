//! What a leader knows of another member's log, and how it sends to it.
//!
//! Owns the three states of replication (probe, replicate, snapshot) and the window of what is in flight. Decides
//! nothing about commitment, and builds no messages.

use std::collections::VecDeque;
use std::time::Duration;

use tenure_mutants::{Mutant, mutated};

use crate::ready::{PeerState, Transferred};
use crate::types::{LogIndex, SnapshotFile};

/// A leader's view of another member.
///
/// Invariant: `matched < next`.
#[derive(Debug)]
pub(crate) struct Progress {
    /// The last index known to be equal and durable there.
    pub(crate) matched: LogIndex,
    /// The index of the next entry to send.
    pub(crate) next: LogIndex,
    /// How it is sent to.
    pub(crate) state: Replication,
    /// The newest round that it has answered in this term.
    pub(crate) acked_round: u64,
    /// When that round was begun; at first when the leader was elected, which gives everybody time to answer.
    pub(crate) acked_sent: Duration,
    /// When it last answered anything in this term.
    pub(crate) heard: Option<Duration>,
    /// How long the last heartbeat that it answered in this term was under way.
    pub(crate) round_trip: Option<Duration>,
    /// The greatest commit index sent to it.
    pub(crate) told_commit: LogIndex,
    /// Before this time no snapshot is asked for on its behalf: the last attempt failed.
    pub(crate) snapshot_not_before: Duration,
}

/// How a leader sends to a member.
#[derive(Debug)]
pub(crate) enum Replication {
    /// Looking for the place where the logs agree.
    Probe(Probe),
    /// Streaming ahead of the answers.
    Replicate(Window),
    /// Sending a snapshot, since the log no longer reaches back far enough.
    Snapshot(Transfer),
}

/// A search, one message at a time.
#[derive(Debug, Default)]
pub(crate) struct Probe {
    /// When the message was sent whose answer is awaited.
    pub(crate) awaited_since: Option<Duration>,
    /// The last one got no answer, so the next carries no entries.
    pub(crate) bare: bool,
}

/// What has been sent and not yet acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Window {
    in_flight: VecDeque<InFlight>,
    bytes: usize,
    /// Something may have been lost: find out by an empty append behind all that was sent.
    pub(crate) nudge: bool,
    /// When that was last done.
    pub(crate) nudged: Option<Duration>,
}

#[derive(Debug)]
struct InFlight {
    last: LogIndex,
    bytes: usize,
}

/// A snapshot on its way.
#[derive(Debug)]
pub(crate) struct Transfer {
    /// The log must not be compacted behind this index, or the snapshot would not connect to it.
    pub(crate) connects_at: LogIndex,
    /// How far it is.
    pub(crate) stage: Stage,
}

/// How far a snapshot is.
#[derive(Debug)]
pub(crate) enum Stage {
    /// The caller has been asked for a file.
    Making,
    /// The file is being sent.
    Sending(Sending),
}

/// A file being sent in pieces, one at a time.
#[derive(Debug)]
pub(crate) struct Sending {
    /// Which file.
    pub(crate) file: SnapshotFile,
    /// Bytes that the member has said it has stored.
    pub(crate) stored: u64,
    /// What is awaited.
    pub(crate) awaited: Awaited,
    /// When it last came forward.
    pub(crate) progressed: Duration,
}

/// What a snapshot on its way waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Awaited {
    /// Nothing: ask how much the member has.
    Nothing,
    /// The answer to an empty piece.
    Extent {
        /// When it was sent.
        since: Duration,
        /// In which round.
        round: u64,
    },
    /// The caller reads the next piece from its disk.
    Read,
    /// The answer to a piece.
    Piece {
        /// When it was sent.
        since: Duration,
        /// In which round.
        round: u64,
    },
}

impl Window {
    /// Whether nothing more may be sent until something is acknowledged.
    pub(crate) fn is_full(&self, max_messages: usize, max_bytes: usize) -> bool {
        max_messages <= self.in_flight.len() || max_bytes <= self.bytes
    }

    /// Takes note of a message that was sent.
    pub(crate) fn push(&mut self, last: LogIndex, bytes: usize) {
        self.in_flight.push_back(InFlight { last, bytes });
        self.bytes += bytes;
    }

    fn free_through(&mut self, matched: LogIndex) {
        let freed = self.in_flight.partition_point(|sent| sent.last <= matched);
        self.bytes -= self
            .in_flight
            .drain(..freed)
            .map(|sent| sent.bytes)
            .sum::<usize>();
        assert!(
            !self.in_flight.is_empty() || self.bytes == 0,
            "{} bytes are in flight in no message",
            self.bytes
        );
    }
}

impl Progress {
    /// Nothing known yet: the search begins behind the last entry of the leader's log.
    pub(crate) fn new(last: LogIndex, now: Duration) -> Progress {
        Progress {
            matched: LogIndex(0),
            next: last.next(),
            state: Replication::Probe(Probe::default()),
            acked_round: 0,
            acked_sent: now,
            heard: None,
            told_commit: LogIndex(0),
            snapshot_not_before: Duration::ZERO,
            round_trip: None,
        }
    }

    /// Messages and bytes that are sent and not acknowledged.
    pub(crate) fn in_flight(&self) -> (usize, usize) {
        match &self.state {
            Replication::Replicate(window) => (window.in_flight.len(), window.bytes),
            Replication::Probe(_) | Replication::Snapshot(_) => (0, 0),
        }
    }

    /// The name of the state.
    pub(crate) fn peer_state(&self) -> PeerState {
        match self.state {
            Replication::Probe(_) => PeerState::Probe,
            Replication::Replicate(_) => PeerState::Replicate,
            Replication::Snapshot(_) => PeerState::Snapshot,
        }
    }

    /// How far the snapshot is that it is being sent.
    pub(crate) fn transferred(&self) -> Option<Transferred> {
        match &self.state {
            Replication::Snapshot(Transfer {
                stage: Stage::Sending(sending),
                ..
            }) => Some(Transferred {
                stored: sending.stored,
                size: sending.file.size,
            }),
            _ => None,
        }
    }

    /// Whether it has answered something within `window` before `now`.
    pub(crate) fn is_alive(&self, now: Duration, window: Duration) -> bool {
        self.heard
            .is_some_and(|heard| now.saturating_sub(heard) < window)
    }

    /// Raises what is known to match, and never lowers it: answers arrive late and doubled.
    pub(crate) fn match_through(&mut self, matched: LogIndex) {
        self.matched = self.matched.max(matched);
        self.next = self.next.max(self.matched.next());
        if let Replication::Replicate(window) = &mut self.state
            && !mutated(Mutant::WindowNeverFreed)
        {
            window.free_through(self.matched);
        }
    }

    /// Searches from `next` on. Gives back the file that was being sent, if any.
    pub(crate) fn become_probe(&mut self, next: LogIndex, probe: Probe) -> Option<SnapshotFile> {
        self.next = if mutated(Mutant::NextBelowMatch) {
            next
        } else {
            next.max(self.matched.next())
        };
        self.change(Replication::Probe(probe))
    }

    /// Streams from behind what matches. Gives back the file that was being sent, if any.
    pub(crate) fn become_replicate(&mut self) -> Option<SnapshotFile> {
        self.next = self.matched.next();
        self.change(Replication::Replicate(Window::default()))
    }

    /// Waits for a snapshot that connects to a log which begins behind `base`.
    pub(crate) fn become_snapshot(&mut self, base: LogIndex) {
        let transfer = Transfer {
            connects_at: base,
            stage: Stage::Making,
        };
        let released = self.change(Replication::Snapshot(transfer));
        assert!(
            released.is_none(),
            "a snapshot was asked for while one is being sent"
        );
    }

    fn change(&mut self, state: Replication) -> Option<SnapshotFile> {
        match std::mem::replace(&mut self.state, state) {
            Replication::Snapshot(Transfer {
                stage: Stage::Sending(sending),
                ..
            }) => Some(sending.file),
            _ => None,
        }
    }

    /// Gives back the file that was being sent, where one was.
    pub(crate) fn take_sending(&mut self) -> Option<SnapshotFile> {
        self.change(Replication::Probe(Probe::default()))
    }

    /// What is being sent, where a file is.
    pub(crate) fn sending(&mut self) -> Option<&mut Sending> {
        match &mut self.state {
            Replication::Snapshot(Transfer {
                stage: Stage::Sending(sending),
                ..
            }) => Some(sending),
            _ => None,
        }
    }
}
