//! The operator: changes who belongs to the cluster while it is under fire.
//!
//! Owns the members that are not there at first, and what is asked of the cluster. An operator asks any member and may ask
//! what makes no sense; whoever is added is started at once, with empty disks, and hears of the cluster what the member
//! that was asked knows. Nobody comes back under an id that was removed. A member that learns that it was removed ends.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tenure_raft::{Change, Configuration, MemberId, MemberInfo, SnapshotMeta};
use tenure_replica::{AdminRequest, Input, Operated};
use tenure_state::{FIRST_STATE_VERSION, Genesis, State};

use crate::chance::Chance;
use crate::oracle::{broken, demand};
use crate::plan::ChangePlan;
use crate::time::Moment;
use crate::world::{Event, Life, World};

/// A joint configuration is left, and whoever is to be promoted is a voter, so soon in a healed cluster.
const SETTLES_WITHIN: Duration = Duration::from_secs(30);

/// A member that has been down for so many election timeouts is not taken for alive, whatever clocks and pauses there are.
const LONG_DOWN: u32 = 4;

/// The operator of a run. It has a stream of chance of its own, so that runs without changes are what they would be
/// without it.
pub(crate) struct Operator {
    pub(crate) chance: Chance,
    plan: Option<ChangePlan>,
    /// Who runs on an old copy of its disk.
    old_copy: Option<usize>,
    /// Whose state is not that of the others, though it does not know.
    pub(crate) rotten: Option<usize>,
}

impl Operator {
    pub(crate) fn new(seed: u64) -> Operator {
        let mut chance = Chance::new(seed ^ 0x6d65_6d62_6572_7321);
        let plan = ChangePlan::draw(&mut chance);
        Operator {
            chance,
            plan,
            old_copy: None,
            rotten: None,
        }
    }

    /// One that asks for nothing.
    pub(crate) fn idle(seed: u64) -> Operator {
        Operator {
            plan: None,
            ..Operator::new(seed)
        }
    }

    /// How members come and go, if they do.
    pub(crate) fn plan(&self) -> Option<ChangePlan> {
        self.plan
    }
}

fn called(name: String) -> MemberInfo {
    MemberInfo {
        name,
        ..MemberInfo::default()
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
        self.ask_for_change(at);
    }

    /// Asks this member for some change.
    pub(crate) fn ask_for_change(&mut self, at: usize) {
        if self.faults.over {
            return;
        }
        let Some(running) = &self.members[at].running else {
            return;
        };
        let known = running.core.configuration().clone();
        let Some(request) = self.draw_request(&known) else {
            return;
        };
        let request = match request {
            AdminRequest::Change(change) => self.looked_at(change, at, &known),
            other => other,
        };
        self.request_operation(at, request);
    }

    /// Asks this member for somebody who can follow the first rules and no others, and who stays without a vote.
    pub(crate) fn ask_for_one_behind(&mut self, at: usize) {
        let Some(running) = &self.members[at].running else {
            return;
        };
        let known = running.core.configuration().clone();
        let kept = self.members.len() - self.upgrades.newcomers()..self.members.len();
        let Some(id) = self.newcomer(&known, kept) else {
            return;
        };
        self.upgrades
            .begin_behind(crate::oracle::place_of(id), &self.members);
        let change = Change::Add {
            id,
            info: called(format!("n{}", id.0)),
            promote: false,
        };
        let request = self.looked_at(change, at, &known);
        self.request_operation(at, request);
    }

    /// Whoever is to become a member is started, and is looked at before the leader is asked: what it can follow goes with the
    /// change, and may be too little when that arrives.
    fn looked_at(&mut self, change: Change, at: usize, known: &Configuration) -> AdminRequest {
        let (Change::Add { id, .. } | Change::Replace { id, .. }) = change else {
            return AdminRequest::Change(change);
        };
        self.start_newcomer((id, at), known);
        let follows = self.upgrades.most_of(crate::oracle::place_of(id));
        AdminRequest::Admit { change, follows }
    }

    fn request_operation(&mut self, at: usize, operation: AdminRequest) {
        self.trace
            .say(self.now, || format!("n{}: asked for {operation:?}", at + 1));
        self.trace.counts.changes_asked += 1;
        let token = self.members[at].token();
        self.tell(at, Input::Operate { token, operation });
    }

    /// The first member at these places that is none yet, as far as this configuration tells.
    fn newcomer(&self, known: &Configuration, mut places: Range<usize>) -> Option<MemberId> {
        let is_new = |place: &usize| {
            let id = self.members[*place].id;
            !known.contains(id) && !known.removed.contains(&id)
        };
        let place = places.find(is_new)?;
        Some(self.members[place].id)
    }

    /// No leader begins to change the voters where most of those to be have been down for long: whoever had them vote would
    /// have lost the quorum by asking.
    pub(crate) fn judge_change(&self, place: usize, configuration: &Configuration) {
        let leads = self.members[place]
            .running
            .as_ref()
            .is_some_and(|running| running.core.is_leader());
        if !leads || !configuration.is_joint() {
            return;
        }
        let long = LONG_DOWN * self.plan.core.raft.election_timeout;
        let is_down = |id: &&MemberId| {
            let member = &self.members[crate::oracle::place_of(**id)];
            let since = member.down_since.unwrap_or(Moment(0));
            member.running.is_none() && long < self.now - since
        };
        let voters = &configuration.voters;
        let down = voters.iter().filter(is_down).count();
        demand!(
            2 * down < voters.len(),
            "quorum-kept",
            "n{} makes {voters:?} the voters, of whom {down} have been down for more than {long:?}",
            place + 1
        );
    }

    /// Where a leader has appended a configuration, decides whether something breaks, and after how many of the messages
    /// that tell of it.
    pub(crate) fn break_at_change(
        &mut self,
        place: usize,
        changes_members: bool,
        messages: usize,
    ) -> Option<usize> {
        let leads = self.members[place]
            .running
            .as_ref()
            .is_some_and(|running| running.core.is_leader());
        let changes = self.operator.plan?;
        let chance = &mut self.operator.chance;
        let breaks =
            changes_members && leads && !self.faults.over && chance.happens(changes.breaks);
        breaks.then(|| chance.index(messages + 1))
    }

    /// The worst moment for a change of the membership: some have heard of it.
    pub(crate) fn lose_at_change(&mut self, leader: usize) {
        self.trace.counts.broken_changes += 1;
        // An operator who sees nothing happen asks for more.
        for _ in 0..self.operator.chance.number(0, 3) {
            let after = self
                .operator
                .chance
                .span(Duration::from_millis(1), Duration::from_millis(80));
            self.after(after, Event::OperateAt { member: leader });
        }
        match self.operator.chance.number(0, 4) {
            0 => self.crash_for_a_while(leader),
            1 => self.isolate(leader),
            2 => {
                let other = self.operator.chance.index(self.members.len());
                self.isolate(other);
            }
            _ => self.split(),
        }
    }

    fn draw_request(&mut self, known: &Configuration) -> Option<AdminRequest> {
        let everybody = self.members.len() - self.upgrades.newcomers();
        let newcomer = self.newcomer(known, self.plan.members..everybody);
        let everybody = everybody as u64;
        let chance = &mut self.operator.chance;
        let members: Vec<MemberId> = known.members().into_iter().collect();
        let other = chance.pick(&members);
        // It may call somebody otherwise than the cluster does.
        let again = if chance.coin() { "" } else { "again" };
        let info = |id: MemberId| called(format!("n{}{again}", id.0));
        // One who does not look asks for what must be refused: an id that is a member's, or was.
        let any = MemberId(chance.number(1, everybody));
        let newcomer = match chance.number(0, 5) {
            0 => Some(any),
            _ => newcomer,
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
    fn start_newcomer(&mut self, (id, asked): (MemberId, usize), known: &Configuration) {
        let place = crate::oracle::place_of(id);
        // An id is used once: whoever ran before is no newcomer, whatever the member that was asked knows.
        if self.members[place].life != Life::default() {
            return;
        }
        self.members[place].down_for_good = false;
        self.draw_newcomers_program(place, asked);
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
        let state = State::genesis(Genesis {
            version: FIRST_STATE_VERSION,
            ..Genesis::default()
        });
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
            if self.operator.old_copy == Some(place) {
                self.trace.counts.old_copies += 1;
                self.crash(place);
                self.members[place].down_for_good = true;
                return;
            }
            broken(
                "old-copy",
                format!(
                    "n{} is told that its disk is an old copy, start {logged:x} is logged",
                    place + 1
                ),
            );
        }
        if let Some(diverged) = running.core.diverged() {
            demand!(
                self.operator.rotten == Some(place),
                "diverged",
                "n{} is told that its state is not that of the others: {diverged:?}",
                place + 1
            );
            self.trace.counts.diverged += 1;
            self.crash(place);
            self.members[place].down_for_good = true;
            return;
        }
        if running.core.raft().is_removed() {
            self.trace.counts.removed += 1;
            self.crash(place);
            self.members[place].down_for_good = true;
        }
    }

    /// Who may stay down when the rest is healed: a voter without whom every configuration that may be in force still has
    /// its majorities.
    pub(crate) fn dispensable(&mut self) -> Option<usize> {
        self.operator.plan?;
        if self.operator.chance.coin() {
            return None;
        }
        let configurations = self.possible_configurations();
        let mut places: Vec<usize> = (0..self.members.len()).collect();
        self.operator.chance.shuffle(&mut places);
        let is_up = |id: &MemberId, without: usize| {
            let place = crate::oracle::place_of(*id);
            place != without && !self.members[place].down_for_good
        };
        let suffices = |configuration: &Configuration, without: usize| {
            let mut halves = [&configuration.voters, &configuration.outgoing].into_iter();
            halves.all(|half| {
                let left = half.iter().filter(|id| is_up(id, without)).count();
                half.is_empty() || half.len() < 2 * left
            })
        };
        places.into_iter().find(|place| {
            let id = self.members[*place].id;
            let votes = configurations.iter().any(|it| it.is_voter(id));
            let learns = configurations.iter().any(|it| it.learners.contains(&id));
            votes && !learns && configurations.iter().all(|it| suffices(it, *place))
        })
    }

    /// Every configuration that somebody has in its log or state.
    fn possible_configurations(&self) -> Vec<Arc<Configuration>> {
        let mut configurations = Vec::new();
        for member in self.members.iter().filter(|member| !member.down_for_good) {
            let log = &member.log.durable;
            configurations.push(Arc::clone(&log.base.configuration));
            configurations.push(Arc::clone(&member.state.durable.meta.configuration));
            configurations.extend(log.entries.iter().filter_map(|entry| match &entry.payload {
                tenure_raft::Payload::Configuration(configuration) => {
                    Some(Arc::clone(configuration))
                }
                _ => None,
            }));
            if let Some(running) = &member.running {
                configurations.push(Arc::clone(running.core.configuration()));
            }
        }
        configurations
    }

    /// A member whose state is another one than that of the majority is found by the digests that they compare, and ends;
    /// whether it leads or not.
    pub(crate) fn rot_one(&mut self, healed: &mut Vec<usize>) {
        let Some(leader) = self.settled_leader(healed) else {
            return;
        };
        let Some(running) = &self.members[leader].running else {
            return;
        };
        let voters = running.core.configuration().voters.clone();
        let votes = |place: &usize| voters.contains(&self.members[*place].id);
        let able: Vec<usize> = healed.iter().copied().filter(votes).collect();
        // The rest must be a majority that agrees.
        if able.len() <= voters.len() / 2 + 1 {
            return;
        }
        let victim = able[self.operator.chance.index(able.len())];
        self.operator.rotten = Some(victim);
        let asked = able.iter().copied().find(|place| *place != victim);
        for _ in 0..60 {
            if self.members[victim].running.is_none() {
                break;
            }
            if let Some(asked) = asked {
                self.demand_write(asked, healed);
            }
        }
        demand!(
            self.members[victim].running.is_none(),
            "divergence-found",
            "n{} has another state than the majority, and nobody minds",
            victim + 1
        );
        healed.retain(|place| *place != victim);
    }

    /// A member that knows an older start of its own than the one that is logged runs on an old copy of its disk: it must
    /// hear so, and end.
    pub(crate) fn put_back_old_copy(&mut self, healed: &[usize]) {
        let Some(leader) = self
            .settled_leader(healed)
            .filter(|_| self.operator.plan.is_some())
        else {
            return;
        };
        let followers: Vec<usize> = healed.iter().copied().filter(|m| *m != leader).collect();
        if followers.is_empty() {
            return;
        }
        let victim = followers[self.operator.chance.index(followers.len())];
        let copied = self.members[victim].starts.clone();
        self.crash(victim);
        self.restart(victim);
        let (id, start) = (
            self.members[victim].id,
            self.members[victim].starts.last().copied(),
        );
        let logged = self.run_until(self.now + SETTLES_WITHIN, |world| {
            let configuration = world.leaders_configuration(healed);
            configuration.is_some_and(|it| it.info.get(&id).and_then(|info| info.start) == start)
        });
        demand!(
            logged,
            "start-logged",
            "nobody has logged start {start:x?} of n{}",
            victim + 1
        );
        self.crash(victim);
        self.members[victim].starts = copied;
        self.operator.old_copy = Some(victim);
        self.restart(victim);
        let refused = self.run_until(self.now + SETTLES_WITHIN, |world| {
            world.members[victim].running.is_none()
        });
        demand!(
            refused,
            "old-copy-refused",
            "n{} runs on an old copy of its disk, and nobody minds",
            victim + 1
        );
    }

    /// Waits until what was begun is done, and says who belongs to the cluster then.
    pub(crate) fn settle_membership(&mut self, healed: &[usize]) -> Vec<usize> {
        if self.operator.plan.is_none() {
            return healed.to_vec();
        }
        // What was asked before is taken up, or lost.
        self.run_until(self.now + Duration::from_secs(1), |_| false);
        let mut settled = self.settles(healed);
        if !settled && let Some(missed) = self.missed(healed) {
            // What was asked before may have made the one that stays down indispensable: whoever operates it starts it.
            self.members[missed].down_for_good = false;
            self.upgrade_all(&[missed]);
            self.restart(missed);
            settled = self.settles(healed);
        }
        demand!(
            settled,
            "membership-settles",
            "after {SETTLES_WITHIN:?} the leader has {:?}",
            self.leaders_configuration(healed)
        );
        self.settled_members(healed).unwrap_or_default()
    }

    fn settles(&mut self, healed: &[usize]) -> bool {
        let by = self.now + SETTLES_WITHIN;
        self.run_until(by, |world| world.settled_members(healed).is_some())
    }

    /// Who stays down, and is missed for a majority of the newest voters that any of the healed knows of.
    fn missed(&self, healed: &[usize]) -> Option<usize> {
        let running = healed
            .iter()
            .filter_map(|place| self.members[*place].running.as_ref());
        let mut configurations = running.map(|running| running.core.configuration());
        let lacks = |half: &BTreeSet<MemberId>| {
            let up = half
                .iter()
                .filter(|id| healed.contains(&crate::oracle::place_of(**id)));
            !half.is_empty() && 2 * up.count() <= half.len()
        };
        let stuck = configurations.find(|it| lacks(&it.voters) || lacks(&it.outgoing))?;
        let voters = stuck.voters.iter().chain(&stuck.outgoing);
        voters
            .map(|id| crate::oracle::place_of(*id))
            .find(|place| self.members[*place].down_for_good)
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
        let members = now.members().into_iter().map(crate::oracle::place_of);
        Some(members.filter(|place| of.contains(place)).collect())
    }
}
