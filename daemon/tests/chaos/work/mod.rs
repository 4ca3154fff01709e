//! The clients of a round: each does one kind of thing, records it, and goes on until it is told to stop.

mod breaking;
mod deadlines;
mod elections;
mod guarded;
mod leases;
mod locks;
mod once;
mod readers;
mod registers;
mod shares;
mod solo;
mod watches;

use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use fastrand::Rng;
use tenure_oracle::{Ask, Belief, Guard, Line, Moment, Told};

pub(crate) use guarded::Desks;
pub(crate) use locks::Outside;
pub(crate) use watches::watch_all;

use crate::asking::Caller;
use crate::common::wait;
use crate::round::Run;

/// Some give up early, so that there are answers that never come; others wait for all that a write may take.
const PATIENCES: [Duration; 3] = [
    Duration::from_millis(400),
    Duration::from_secs(1),
    Duration::from_secs(7),
];
/// What a client does between two calls.
const BREATHER: Duration = Duration::from_millis(8);
/// What it does after it got nothing.
const SETBACK: Duration = Duration::from_millis(60);

type Job = fn(&mut Worker<'_>);

/// How many do what.
const JOBS: [(&str, Job, usize); 10] = [
    ("registers", registers::work, 6),
    ("once", once::work, 2),
    ("solo", solo::work, 3),
    ("locks", locks::work, 6),
    ("shares", shares::work, 6),
    ("elections", elections::work, 4),
    ("leases", leases::work, 4),
    ("guarded", guarded::work, 4),
    ("deadlines", deadlines::work, 2),
    ("readers", readers::work, 3),
];

/// Something that a client was granted.
struct Held<'a> {
    resource: &'a str,
    lease: &'a str,
    owner: &'a str,
    fence: u64,
}

impl Held<'_> {
    fn guard(&self) -> Guard {
        Guard {
            resource: self.resource.to_owned(),
            fence: self.fence,
        }
    }
}

/// One client: what it shares with the others, its luck, and whom it asks.
pub(crate) struct Worker<'a> {
    run: &'a Run<'a>,
    id: usize,
    rng: Rng,
    caller: Caller<'a>,
    /// It stays with one member.
    pinned: bool,
    turn: u64,
}

impl<'a> Worker<'a> {
    fn new(run: &'a Run<'a>, id: usize) -> Worker<'a> {
        let mut rng = Rng::with_seed(run.seed ^ (id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let patience = PATIENCES[id % PATIENCES.len()];
        let member = rng.usize(..run.rig.members.len());
        Worker {
            run,
            id,
            rng,
            caller: Caller::new(run, member, patience),
            pinned: id.is_multiple_of(2),
            turn: 0,
        }
    }

    /// A value that nobody else writes.
    fn value(&mut self) -> String {
        self.turn += 1;
        format!("{}:{}", self.id, self.turn)
    }

    /// Goes to another member, now and then, unless it stays with one.
    fn roam(&mut self) {
        if !self.pinned && self.rng.u8(..4) == 0 {
            self.caller
                .go_to(self.rng.usize(..self.run.rig.members.len()));
        }
    }

    /// Lets some time pass: more after nothing came of a call.
    fn breathe(&mut self, told: &Told) {
        let nothing = matches!(told, Told::Unknown | Told::Failed);
        if nothing && !self.pinned {
            self.caller
                .go_to(self.rng.usize(..self.run.rig.members.len()));
        }
        self.pass(if nothing { SETBACK } else { BREATHER });
    }

    /// Notes that it believed to hold something, from when to when.
    fn believed(&self, hold: &Held<'_>, from: Moment, until: Moment) {
        self.run.recorder.record(Line::Belief(Belief {
            client: self.id as u64,
            resource: hold.resource.to_owned(),
            lease: hold.lease.to_owned(),
            fence: hold.fence,
            from,
            until,
        }));
    }

    fn release(&mut self, hold: &Held<'_>) {
        self.caller.ask(Ask::Release {
            resource: hold.resource.to_owned(),
            lease: hold.lease.to_owned(),
            owner: hold.owner.to_owned(),
            fence: hold.fence,
        });
    }

    fn pass(&self, time: Duration) {
        wait::pass(time, || self.run.stopped());
    }

    fn stopped(&self) -> bool {
        self.run.stopped()
    }
}

/// Starts all workers.
pub(crate) fn start_workers<'scope>(
    scope: &'scope Scope<'scope, '_>,
    run: &'scope Run<'scope>,
) -> Vec<ScopedJoinHandle<'scope, ()>> {
    let jobs = JOBS
        .iter()
        .flat_map(|(_, job, count)| (0..*count).map(move |_| *job));
    jobs.enumerate()
        .map(|(id, job)| scope.spawn(move || job(&mut Worker::new(run, id))))
        .collect()
}

/// Starts the watchers: of everything, one for each member; of some things, by polls and by streams.
pub(crate) fn start_watchers<'scope>(
    scope: &'scope Scope<'scope, '_>,
    run: &'scope Run<'scope>,
) -> Vec<ScopedJoinHandle<'scope, ()>> {
    let members = run.rig.members.len();
    let archives = (0..members).map(|member| scope.spawn(move || watches::archive(run, member)));
    let mut watchers: Vec<_> = archives.collect();
    for id in 0..3 {
        watchers.push(scope.spawn(move || watches::poll(run, id)));
        watchers.push(scope.spawn(move || watches::stream(run, id)));
    }
    watchers
}
