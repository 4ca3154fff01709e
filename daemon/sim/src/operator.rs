//! The operator: changes who belongs to the cluster while it is under fire.
//!
//! Owns the members that are not there at first, and what is asked of the cluster. An operator asks any member and may ask
//! what makes no sense; whoever is added is started at once, with empty disks, and hears of the cluster what the member
//! that was asked knows. Nobody comes back under an id that was removed. A member that learns that it was removed ends.

use std::sync::Arc;
use std::time::Duration;

use tenure_raft::{Change, Configuration, MemberId, MemberInfo, SnapshotMeta};
use tenure_replica::{AdminRequest, Input, Operated};
use tenure_state::{Genesis, State};

use crate::chance::Chance;
use crate::oracle::{broken, demand};
use crate::plan::ChangePlan;
use crate::world::{Event, Life, World};

/// A joint configuration is left, and whoever is to be promoted is a voter, so soon in a healed cluster.
const SETTLES_WITHIN: Duration = Duration::from_secs(30);

/// The operator of a run. It has a stream of chance of its own, so that runs without changes are what they would be
/// without it.
pub(crate) struct Operator {
    pub(crate) chance: Chance,
    plan: Option<ChangePlan>,
}

impl Operator {
    pub(crate) fn new(seed: u64) -> Operator {
        let mut chance = Chance::new(seed ^ 0x6d65_6d62_6572_7321);
        let plan = ChangePlan::draw(&mut chance);
        Operator { chance, plan }
    }

    /// How members come and go, if they do.
    pub(crate) fn plan(&self) -> Option<ChangePlan> {
        self.plan
    }
}

impl World {
    pub(crate) fn schedule_change(&mut self) {
        if let Some(changes) = self.operator.plan {
            let pause = self
                .operator
                .chance
                .skewed_span(Duration::from_millis(50), changes.every);
            self.after(pause, Event::Operate);
        }
    }

    /// Asks some member for some change.
    pub(crate) fn operate(&mut self) {
        if self.faults.over {
            return;
        }
        self.schedule_change();
        let at = self.operator.chance.index(self.members.len());
        let Some(running) = &self.members[at].running else {
            return;
        };
        let known = running.core.configuration().clone();
        let Some(request) = self.draw_request(&known) else {
            return;
        };
        self.trace
            .say(self.now, || format!("n{}: asked for {request:?}", at + 1));
        self.trace.counts.changes_asked += 1;
        if let AdminRequest::Change(Change::Add { id, .. } | Change::Replace { id, .. }) = &request
        {
            self.start_newcomer(*id, &known);
        }
        let token = self.members[at].token();
        let operation = request;
        self.tell(at, Input::Operate { token, operation });
    }

    fn draw_request(&mut self, known: &Configuration) -> Option<AdminRequest> {
        let everybody = self.members.len() as u64;
        let is_new = |id: &u64| {
            !known.contains(MemberId(*id))
                && !known.removed.contains(&MemberId(*id))
                && (self.plan.members as u64) < *id
        };
        let newcomer = (1..=everybody).find(is_new).map(MemberId);
        let chance = &mut self.operator.chance;
        let members: Vec<MemberId> = known.members().into_iter().collect();
        let other = chance.pick(&members);
        let info = |id: MemberId| MemberInfo {
            name: format!("n{}", id.0),
            ..MemberInfo::default()
        };
        let change = match (chance.number(0, 9), newcomer) {
            (0..4, Some(id)) => Change::Add {
                id,
                info: info(id),
                promote: chance.number(0, 3) > 0,
            },
            (4..6, Some(id)) => Change::Replace {
                old: other,
                id,
                info: info(id),
            },
            (6, _) => Change::Promote(other),
            (7, _) => return Some(AdminRequest::Transfer(chance.coin().then_some(other))),
            _ => Change::Remove(other),
        };
        Some(AdminRequest::Change(change))
    }

    /// Starts a member that has never run: its log begins before everything, and it takes itself for a learner.
    fn start_newcomer(&mut self, id: MemberId, known: &Configuration) {
        let place = crate::oracle::place_of(id);
        // An id is used once: whoever ran before is no newcomer, whatever the member that was asked knows.
        if self.members[place].life != Life::default() {
            return;
        }
        self.members[place].down_for_good = false;
        let mut configuration = Configuration {
            promoting: Default::default(),
            ..known.clone()
        };
        configuration.voters.remove(&id);
        configuration.outgoing.remove(&id);
        configuration.learners.insert(id);
        let meta = SnapshotMeta {
            configuration: Arc::new(configuration),
            ..SnapshotMeta::default()
        };
        let state = State::genesis(Genesis::default());
        self.members[place].begin_with(&meta, &state);
        self.after(Duration::from_millis(1), Event::Restart { member: place });
    }

    /// What a member is told of an operation that it passed on.
    pub(crate) fn operated(&mut self, place: usize, result: &Operated) {
        self.trace
            .say(self.now, || format!("n{}: {result:?}", place + 1));
        let counts = &mut self.trace.counts;
        match result {
            Operated::Changed | Operated::HandedTo(_) => counts.changed += 1,
            Operated::Unsafe(_) | Operated::NoSuchMember(_) => counts.changes_refused += 1,
            Operated::NoLeader | Operated::Busy(_) | Operated::Unknown => {}
        }
    }

    /// Ends a member that was removed, for good. Nobody's disk goes back in these runs.
    pub(crate) fn end_removed(&mut self, place: usize) {
        let Some(running) = &self.members[place].running else {
            return;
        };
        if let Some(logged) = running.core.disk_went_back() {
            broken(
                "old-copy",
                format!(
                    "n{} is told that its disk is an old copy, start {logged:x} is logged",
                    place + 1
                ),
            );
        }
        if running.core.raft().is_removed() {
            self.trace.counts.removed += 1;
            self.crash(place);
            self.members[place].down_for_good = true;
        }
    }

    /// Waits until what was begun is done, and says who belongs to the cluster then.
    pub(crate) fn settle_membership(&mut self, healed: &[usize]) -> Vec<usize> {
        if self.operator.plan.is_none() {
            return healed.to_vec();
        }
        let by = self.now + SETTLES_WITHIN;
        let settled = self.run_until(by, |world| world.settled_members(healed).is_some());
        demand!(
            settled,
            "membership-settles",
            "after {SETTLES_WITHIN:?} the leader has {:?}",
            self.leaders_configuration(healed)
        );
        self.settled_members(healed).unwrap_or_default()
    }

    fn leaders_configuration(&self, of: &[usize]) -> Option<Arc<Configuration>> {
        let leader = self.settled_leader(of)?;
        let running = self.members[leader].running.as_ref()?;
        Some(running.core.configuration().clone())
    }

    fn settled_members(&self, of: &[usize]) -> Option<Vec<usize>> {
        let leader = self.settled_leader(of)?;
        let raft = self.members[leader].running.as_ref()?.core.raft();
        let (now, committed) = (raft.configuration(), raft.committed_configuration());
        if now.is_joint() || !now.promoting.is_empty() || !Arc::ptr_eq(now, committed) {
            return None;
        }
        let members = now.members().into_iter();
        Some(members.map(crate::oracle::place_of).collect())
    }
}
