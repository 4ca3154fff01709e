//! Programs of two ages: which rules each member can follow in its present run, and how that changes under fire.
//!
//! Owns who runs what, and the promise of versions: no entry that raises the version is applied while a member of the
//! configuration cannot follow, nobody becomes a member who cannot follow what is in force by then, nothing that only newer
//! rules know is in an entry before, and a healed cluster in which all can follow is raised. Members are put forward and back
//! at restarts; as long as somebody may be put back, somebody else is behind, as it is for operators. Where members come,
//! some who can follow the first rules only are added when the version is about to be raised, or just was. Has chance of its
//! own, so that runs without are what they would be without it.

use std::time::Duration;

use tenure_raft::{Entry, Payload};
use tenure_replica::{Applier, Input};
use tenure_state::{
    AccessChange, Batch, Command, FIRST_STATE_VERSION, Origin, Principal, Request, STATE_VERSION,
    decode_batch,
};

use crate::chance::Chance;
use crate::member::Member;
use crate::oracle::{broken, demand};
use crate::world::{Event, Life, World};

/// A healed cluster in which all can follow newer rules follows them so soon.
const RAISED_WITHIN: Duration = Duration::from_secs(30);

/// A member whose program is replaced is mostly down for so long at most,
const SOON: Duration = Duration::from_millis(500);
/// or for so long.
const LATE: Duration = Duration::from_secs(4);

/// So many members are there to be added behind the others, where members come.
const BEHIND: usize = 3;

/// So long after the version is raised somebody who cannot follow may be added at a member that has not heard of it.
const NEAR: Duration = Duration::from_millis(60);

/// Who runs what.
pub(crate) struct Upgrades {
    chance: Chance,
    plan: Option<UpgradePlan>,
    /// By place, the newest rules that the member can follow in this run of it, and in those that follow.
    most: Vec<u64>,
    /// Everybody was put forward, and nobody is put back any more.
    done: bool,
    /// The version was raised.
    raised: bool,
}

/// How programs are replaced.
#[derive(Clone, Copy, Debug)]
struct UpgradePlan {
    /// The longest pause between two replacements.
    every: Duration,
    /// Whether some are put back.
    goes_back: bool,
    /// Whether members come and go.
    members_come: bool,
}

impl Upgrades {
    /// In every third run, of those in which nobody is told apart from the beginning.
    pub(crate) fn new(seed: u64, are_told_apart: bool, members_come: bool) -> Upgrades {
        let mut chance = Chance::new(seed ^ 0x7570_6772_6164_6521);
        let drawn = chance.number(0, 2) == 0 && !are_told_apart;
        let plan = drawn.then(|| UpgradePlan {
            every: chance.skewed_span(Duration::from_millis(50), Duration::from_secs(4)),
            // Whoever leaves may be the last who is behind.
            goes_back: !members_come && chance.coin(),
            members_come,
        });
        Upgrades {
            chance,
            plan,
            most: Vec::new(),
            done: plan.is_none(),
            raised: false,
        }
    }

    /// All run the newest program.
    pub(crate) fn none(seed: u64) -> Upgrades {
        Upgrades::new(seed, true, false)
    }

    /// The version with which the run begins.
    pub(crate) fn founding_version(&self) -> u64 {
        match self.plan {
            Some(_) => FIRST_STATE_VERSION,
            None => STATE_VERSION,
        }
    }

    /// Says what the members of the beginning run: at least one of them an older program.
    pub(crate) fn begin(&mut self, members: usize, newcomers: usize) {
        self.most = vec![STATE_VERSION; members + newcomers];
        if self.plan.is_none() {
            return;
        }
        for most in &mut self.most[..members] {
            *most = self.chance.number(FIRST_STATE_VERSION, STATE_VERSION);
        }
        let behind = self.chance.index(members);
        self.most[behind] = FIRST_STATE_VERSION;
    }

    /// How many members are there to be added behind the others, beside those that operators add anyway.
    pub(crate) fn newcomers(&self) -> usize {
        match self.plan {
            Some(UpgradePlan {
                members_come: true, ..
            }) => BEHIND,
            _ => 0,
        }
    }

    /// A member that has never run can follow the first rules and no others.
    pub(crate) fn begin_behind(&mut self, place: usize, members: &[Member]) {
        if members[place].life == Life::default() {
            self.most[place] = FIRST_STATE_VERSION;
        }
    }

    /// Whether one of these entries raises the version.
    pub(crate) fn are_raised_by(&self, entries: &[Entry]) -> bool {
        let raises = |entry: &Entry| match &entry.payload {
            Payload::Command(bytes) => decode_batch(bytes).is_ok_and(|it| it.raises_to().is_some()),
            Payload::Configuration(_) | Payload::Empty => false,
        };
        self.plan.is_some() && !self.raised && entries.iter().any(raises)
    }

    /// What a member can follow.
    pub(crate) fn most_of(&self, place: usize) -> u64 {
        self.most[place]
    }

    /// A member is about to apply an entry, behind everything before it. Says whether the version is raised here for the first
    /// time.
    pub(crate) fn judge(&mut self, applier: &Applier, batch: &Batch) -> bool {
        let in_force = applier.state().version();
        for request in &batch.requests {
            let needed = request.command.needs_version();
            demand!(
                needed <= in_force,
                "version-known",
                "{:?} is in an entry under rules {in_force}",
                request.command
            );
        }
        let raised = batch.raises_to().filter(|to| in_force < *to);
        let Some(to) = raised.filter(|_| !self.raised) else {
            return false;
        };
        let members = applier.applied().configuration.members();
        for member in members.into_iter().map(crate::oracle::place_of) {
            let most = self.most[member];
            demand!(
                to <= most,
                "version-followed",
                "the version is raised to {to}, and n{} can follow up to {most}",
                member + 1
            );
        }
        self.raised = true;
        true
    }

    fn behind(&self) -> Vec<usize> {
        let places = 0..self.most.len();
        places
            .filter(|place| self.most[*place] < STATE_VERSION)
            .collect()
    }
}

impl World {
    pub(crate) fn schedule_upgrade(&mut self) {
        if let Some(plan) = self.upgrades.plan {
            let pause = self
                .upgrades
                .chance
                .skewed_span(Duration::from_millis(20), plan.every);
            self.after(pause, Event::Upgrade);
        }
    }

    /// Replaces the program of some member, or asks for what only newer rules know.
    pub(crate) fn upgrade(&mut self) {
        if self.faults.over {
            return;
        }
        self.schedule_upgrade();
        let at = self.upgrades.chance.index(self.members.len());
        match self.upgrades.chance.number(0, 9) {
            0..3 => self.ask_for_newer(at),
            3..6 if self.upgrades.newcomers() > 0 => self.add_one_behind(),
            3..6 if self.upgrades.plan.is_some_and(|plan| plan.goes_back) => self.put_back(),
            _ => self.put_forward(),
        }
    }

    /// Whether a member is one of those that are there to be behind the others.
    fn is_to_be_behind(&self, place: usize) -> bool {
        self.members.len() - self.upgrades.newcomers() <= place
    }

    /// Somebody who can follow the first rules only is added, at a member whose state follows these and which knows of no such
    /// member yet.
    pub(crate) fn add_one_behind(&mut self) {
        if self.faults.over {
            return;
        }
        let is_behind = |id| {
            let place = crate::oracle::place_of(id);
            self.is_to_be_behind(place) && self.upgrades.most[place] < STATE_VERSION
        };
        let may_ask = |place: &usize| {
            let running = self.members[*place].running.as_ref();
            running.is_some_and(|it| {
                let mut known = it.core.configuration().members().into_iter();
                it.applier.state().version() == FIRST_STATE_VERSION && !known.any(is_behind)
            })
        };
        let places: Vec<usize> = (0..self.members.len()).filter(may_ask).collect();
        if !places.is_empty() {
            let at = places[self.upgrades.chance.index(places.len())];
            self.ask_for_one_behind(at);
        }
    }

    /// The version is being raised, or was just now: the worst moments for those who cannot follow to become members.
    pub(crate) fn add_near_raise(&mut self) {
        if self.upgrades.newcomers() == 0 {
            return;
        }
        for _ in 0..self.upgrades.chance.number(1, 4) {
            let after = self
                .upgrades
                .chance
                .skewed_span(Duration::from_micros(10), NEAR);
            self.after(after, Event::AddOneBehind);
        }
    }

    /// Somebody asks for a change of access, of which nobody is told apart.
    fn ask_for_newer(&mut self, at: usize) {
        if self.members[at].running.is_none() {
            return;
        }
        let origin = Origin {
            member: self.members[at].id.0,
            token: self.members[at].token(),
        };
        let name = "upgraded".to_owned();
        let grants = Vec::new();
        let request = Request {
            origin,
            principal: Principal::anonymous(),
            idempotency: None,
            command: Command::ChangeAccess(AccessChange::PutRole { name, grants }),
        };
        let floor = self.oracle.calls.floor();
        self.oracle.calls.received(origin, floor, self.now);
        self.tell(at, Input::Propose(request));
    }

    /// One that is behind gets the newer program. With the last one nobody is put back any more.
    fn put_forward(&mut self) {
        let behind = self.upgrades.behind();
        if behind.is_empty() {
            return;
        }
        let is_last = behind.len() == 1;
        if is_last && self.upgrades.plan.is_some_and(|plan| plan.goes_back) {
            // Those before it may go back and forth for a while.
            if !self.upgrades.chance.happens(150_000) {
                return;
            }
        }
        // Those who have no vote are thought of last, and late.
        let mut next = behind.clone();
        next.retain(|place| !self.is_to_be_behind(*place));
        if next.is_empty() && self.upgrades.chance.happens(200_000) {
            next = behind;
        }
        if next.is_empty() {
            return;
        }
        self.upgrades.done |= is_last;
        let place = next[self.upgrades.chance.index(next.len())];
        self.replace_program(place, STATE_VERSION, SOON);
    }

    /// One gets the older program again, while somebody else has it. Where it is down for long, all others may be put forward
    /// meanwhile: what it said before counts for nothing.
    fn put_back(&mut self) {
        let others = self.upgrades.behind();
        let ahead = (0..self.members.len()).filter(|place| !others.contains(place));
        let ahead: Vec<usize> = ahead.collect();
        if self.upgrades.done || ahead.is_empty() {
            return;
        }
        let place = ahead[self.upgrades.chance.index(ahead.len())];
        self.trace.counts.put_back += 1;
        if self.upgrades.chance.happens(300_000) {
            return self.replace_program(place, FIRST_STATE_VERSION, SOON);
        }
        self.replace_program(place, FIRST_STATE_VERSION, LATE);
        for member in others {
            let after = self
                .upgrades
                .chance
                .skewed_span(Duration::from_millis(1), SOON);
            self.after(after, Event::PutForward { member });
        }
    }

    /// A member is put forward though others come behind it, as long as somebody is.
    pub(crate) fn put_this_forward(&mut self, member: usize) {
        let behind = self.upgrades.behind();
        if !self.faults.over && behind.len() > 1 && behind.contains(&member) {
            self.replace_program(member, STATE_VERSION, SOON);
        }
    }

    /// Ends a member, if it runs, and starts it with another program `at_most` so long afterwards.
    fn replace_program(&mut self, place: usize, most: u64, at_most: Duration) {
        self.trace.say(self.now, || {
            format!(
                "n{} can follow up to {most} from its next start on",
                place + 1
            )
        });
        self.upgrades.most[place] = most;
        if self.members[place].running.is_none() {
            return;
        }
        self.crash(place);
        let down = self
            .upgrades
            .chance
            .skewed_span(Duration::from_millis(1), at_most);
        self.after(down, Event::Restart { member: place });
    }

    /// A member that was never there is about to be added through another: it is looked at, and must be able to follow
    /// what that one follows.
    pub(crate) fn draw_newcomers_program(&mut self, place: usize, asked: usize) {
        let running = self.members[asked].running.as_ref();
        let in_force = running.map_or(STATE_VERSION, |running| running.applier.state().version());
        let is_drawn = self.upgrades.most[place] < STATE_VERSION;
        if is_drawn || self.upgrades.done || STATE_VERSION <= in_force {
            return;
        }
        self.upgrades.most[place] = match self.upgrades.chance.coin() {
            true => FIRST_STATE_VERSION,
            false => STATE_VERSION,
        };
    }

    /// A member meets rules that it cannot follow, and would end: it should not have become one, or they should not be in force.
    pub(crate) fn meets_newer_rules(&self, place: usize) -> ! {
        broken(
            "version-followed",
            format!("n{} meets rules that it cannot follow", place + 1),
        )
    }

    /// Those that are healed get the newer program.
    pub(crate) fn upgrade_all(&mut self, healed: &[usize]) {
        for place in healed {
            if self.upgrades.most[*place] < STATE_VERSION {
                self.upgrades.most[*place] = STATE_VERSION;
                self.crash(*place);
            }
        }
    }

    /// Where every member runs and can, the newest rules are followed.
    pub(crate) fn demand_newest_rules(&mut self, healed: &[usize]) {
        let follows = |world: &World, place: &usize| {
            let running = world.members[*place].running.as_ref();
            running.map(|running| running.applier.state().version())
        };
        let Some(leader) = self.settled_leader(healed) else {
            return;
        };
        let Some(running) = &self.members[leader].running else {
            return;
        };
        let members = running.core.configuration().members();
        let are_healed = members
            .into_iter()
            .map(crate::oracle::place_of)
            .all(|place| healed.contains(&place));
        if !are_healed {
            return;
        }
        let raised = self.run_until(self.now + RAISED_WITHIN, |world| {
            let all = healed.iter().map(|place| follows(world, place));
            all.into_iter()
                .all(|version| version == Some(STATE_VERSION))
        });
        let versions: Vec<_> = healed.iter().map(|place| follows(self, place)).collect();
        if !raised {
            broken(
                "version-raised",
                format!(
                    "all of {healed:?} can follow {STATE_VERSION}, and they follow {versions:?}"
                ),
            );
        }
    }
}
