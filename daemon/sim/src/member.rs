//! A simulated member: the production core and applier, and around them what the binary's threads do.
//!
//! Owns what a member is made of, its start from its disks, and how it is given inputs. What its threads do is told in
//! `turning` (the core), `applying`, `writing` (log and checkpoints) and `snapshot_work`; how it ends, in `crashing`.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tenure_raft::{
    Entry, LogIndex, MemberId, ReadPoint, Restored, SnapshotFile, SnapshotMeta, Stamp, Term,
    WriteId,
};
use tenure_replica::{Applier, Core, Input, Introduction};
use tenure_state::State;

use crate::calls::{CallId, Poll};
use crate::disk::{DurableLog, DurableState, LogDisk, StateDisk};
use crate::oracle::{View, demand};
use crate::snapshot_work::SnapshotStep;
use crate::time::{Moment, SimClock};
use crate::watchers::OpenWatch;
use crate::world::{Event, Life, World};

/// States are compared more often than in the binary, so that short runs see it.
const COMPARED_EVERY: u64 = 16;

/// More inputs never wait than these: in the binary the queue is bounded and drops.
const MOST_INPUTS: usize = 200_000;

pub(crate) struct Member {
    pub(crate) id: MemberId,
    pub(crate) clock: SimClock,
    pub(crate) log: LogDisk,
    pub(crate) state: StateDisk,
    /// The numbers of its starts, which it remembers before it says anything.
    pub(crate) starts: Vec<u64>,
    pub(crate) running: Option<Running>,
    pub(crate) life: Life,
    /// The number of the pause that it is in.
    pub(crate) paused: Option<u64>,
    /// What it would have done while it was paused.
    pub(crate) deferred: Vec<Event>,
    /// It is not started again.
    pub(crate) down_for_good: bool,
    /// When it ended last.
    pub(crate) down_since: Option<Moment>,
    pub(crate) next_token: u64,
    /// Its disks have no room until then.
    pub(crate) full_until: Moment,
    /// Its next sync fails.
    pub(crate) next_sync_fails: bool,
}

/// A member while it runs.
pub(crate) struct Running {
    pub(crate) core: Core,
    pub(crate) applier: Applier,
    pub(crate) inbox: VecDeque<Input>,
    /// What both clocks showed in the last turn: the one that stands still in a suspend first.
    pub(crate) last_turn: (Duration, Duration),
    pub(crate) slept: Duration,
    pub(crate) turn: Option<Moment>,
    pub(crate) turns: u64,
    pub(crate) to_apply: VecDeque<Entry>,
    pub(crate) applying: bool,
    /// Snapshot work is done one after the other: the first is under way.
    pub(crate) snapshot_work: VecDeque<SnapshotStep>,
    /// How many pieces of it are done.
    pub(crate) snapshot_work_done: u64,
    pub(crate) outgoing: Vec<(MemberId, SnapshotFile, Bytes)>,
    pub(crate) pending: BTreeMap<u64, CallId>,
    pub(crate) reads: Vec<(ReadPoint, CallId)>,
    pub(crate) polls: Vec<Poll>,
    pub(crate) watches: Vec<OpenWatch>,
    pub(crate) writing_since: Option<Duration>,
    pub(crate) handed: WriteId,
    pub(crate) term: u64,
    pub(crate) leads: bool,
    /// Members of an older term that must hear of the newer one, with that.
    pub(crate) owed_term: BTreeMap<MemberId, Term>,
}

impl Member {
    /// A member of a cluster that has just been formed.
    pub(crate) fn formed(
        place: usize,
        clock: SimClock,
        token: u64,
        meta: &SnapshotMeta,
        state: &State,
    ) -> Member {
        let mut member = Member {
            id: MemberId(place as u64 + 1),
            clock,
            log: LogDisk::default(),
            state: StateDisk::default(),
            starts: Vec::new(),
            running: None,
            life: Life(0),
            paused: None,
            deferred: Vec::new(),
            down_for_good: false,
            down_since: None,
            next_token: token,
            full_until: Moment(0),
            next_sync_fails: false,
        };
        member.begin_with(meta, state);
        member
    }

    /// Makes its disks those of a member whose log begins behind `meta`.
    pub(crate) fn begin_with(&mut self, meta: &SnapshotMeta, state: &State) {
        let rows = state
            .rows()
            .map(|row| ((row.table, row.key), row.value))
            .collect();
        self.log = LogDisk::holding(DurableLog {
            hard_state: tenure_raft::HardState {
                term: meta.position.term,
                vote: None,
            },
            base: meta.clone(),
            entries: VecDeque::new(),
        });
        self.state = StateDisk::holding(DurableState {
            meta: meta.clone(),
            digest: state.digest(),
            rows,
        });
    }

    /// A number for a request; never the same twice, across restarts too.
    pub(crate) fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }
}

impl World {
    /// Starts a member from its disks.
    pub(crate) fn restart(&mut self, place: usize) {
        let now = self.now;
        let member = &mut self.members[place];
        if member.running.is_some() || member.down_for_good {
            return;
        }
        let state = State::from_rows(member.state.durable.rows()).unwrap_or_else(|error| {
            crate::oracle::broken("restart", format!("n{}: {error}", place + 1))
        });
        let applied = member.state.durable.meta.clone();
        demand!(
            state.digest() == member.state.durable.digest,
            "checkpoint",
            "n{} reads another state than it wrote at {:?}",
            place + 1,
            applied.position
        );
        // A newcomer has the state of no entry.
        if applied.position.index != LogIndex(0) {
            self.oracle
                .history
                .compare(place, applied.position.index, state.digest());
        }
        let log = &member.log.durable;
        let restored = Restored {
            hard_state: log.hard_state,
            base: log.base.clone(),
            entries: log.entries.iter().cloned().collect(),
            applied: applied.clone(),
        };
        let seed = self.chance.seed();
        let mut core = Core::new(member.id, self.plan.core_of(place), seed, restored)
            .unwrap_or_else(|error| {
                crate::oracle::broken("restart", format!("n{}: {error}", place + 1))
            });
        let introduction = Introduction::next(
            member.id,
            core.raft().committed_configuration(),
            std::mem::take(&mut member.starts),
            seed,
            String::new(),
            None,
        );
        member.starts.clone_from(&introduction.known);
        core.introduce(introduction);
        let most = self.upgrades.most_of(place);
        demand!(
            state.version() <= most,
            "version-followed",
            "n{} has a state of rules {} and can follow up to {most}",
            place + 1,
            state.version()
        );
        core.can_follow(most, state.version());
        let applier = Applier::new(member.id, state, applied)
            .compared_every(COMPARED_EVERY)
            .follows_up_to(most);
        let status = core.status();
        self.oracle.consensus.started(
            place,
            &log.base,
            &View {
                raft: core.raft(),
                status: &status,
            },
        );
        let first = Input::Applied {
            index: applier.applied().position.index,
            due: applier.due(),
            version: applier.state().version(),
        };
        member.life.0 += 1;
        let life = member.life;
        member.running = Some(Running {
            core,
            applier,
            inbox: [first].into(),
            last_turn: (member.clock.shows(now), member.clock.shows_real(now)),
            slept: Duration::ZERO,
            turn: None,
            turns: 0,
            to_apply: VecDeque::new(),
            applying: false,
            snapshot_work: VecDeque::new(),
            snapshot_work_done: 0,
            outgoing: Vec::new(),
            pending: BTreeMap::new(),
            reads: Vec::new(),
            polls: Vec::new(),
            watches: Vec::new(),
            writing_since: None,
            handed: WriteId::default(),
            term: status.term.0,
            leads: false,
            owed_term: BTreeMap::new(),
        });
        self.trace
            .say(now, || format!("n{} starts: {status:?}", place + 1));
        self.request_turn(place, Duration::ZERO);
        let every = self.plan.disk.checkpoint_every;
        self.after(
            every,
            Event::Checkpoint {
                member: place,
                life,
            },
        );
    }

    /// Gives an input to a member that runs, and lets it turn soon.
    pub(crate) fn tell(&mut self, place: usize, input: Input) {
        let Some(running) = &mut self.members[place].running else {
            return;
        };
        running.inbox.push_back(input);
        demand!(
            running.inbox.len() < MOST_INPUTS,
            "bounded",
            "n{} has {} inputs",
            place + 1,
            running.inbox.len()
        );
        let delay = self.chance.span(Duration::ZERO, self.plan.turn_delay);
        self.request_turn(place, delay);
    }

    pub(crate) fn request_turn(&mut self, place: usize, delay: Duration) {
        let at = self.now + delay;
        let member = &mut self.members[place];
        let life = member.life;
        let Some(running) = &mut member.running else {
            return;
        };
        if running.turn.is_some_and(|planned| planned <= at) {
            return;
        }
        running.turn = Some(at);
        running.turns += 1;
        let number = running.turns;
        self.at(
            at,
            Event::Turn {
                member: place,
                life,
                number,
            },
        );
    }
}

impl Running {
    /// The stamp of what it has applied.
    pub(crate) fn stamp(&self) -> Stamp {
        self.applier.applied().stamp
    }
}
