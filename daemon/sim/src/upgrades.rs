//! Programs of two ages: which rules each member can follow in its present run, and how that changes under fire.
//!
//! Owns who runs what, and the promise of versions: no entry that raises the version is applied while a member of the
//! configuration cannot follow, nothing that only newer rules know is in an entry before, and a healed cluster in which
//! all can follow is raised. Members are put forward and back at restarts; as long as somebody may be put back, somebody
//! else is behind, as it is for operators. Has chance of its own, so that runs without are what they would be without it.

use std::collections::BTreeSet;
use std::time::Duration;

use tenure_replica::{Applier, Input};
use tenure_state::{
    AccessChange, Batch, Command, FIRST_STATE_VERSION, Origin, Principal, Request, STATE_VERSION,
};

use crate::chance::Chance;
use crate::oracle::{broken, demand};
use crate::world::{Event, World};

/// A healed cluster in which all can follow newer rules follows them so soon.
const RAISED_WITHIN: Duration = Duration::from_secs(30);

/// Who runs what.
pub(crate) struct Upgrades {
    chance: Chance,
    plan: Option<UpgradePlan>,
    /// By place, the newest rules that the member can follow in this run of it, and in those that follow.
    most: Vec<u64>,
    /// Everybody was put forward, and nobody is put back any more.
    done: bool,
    /// Who belonged to the cluster when the version was raised.
    raised_with: Option<BTreeSet<usize>>,
}

/// How programs are replaced.
#[derive(Clone, Copy, Debug)]
struct UpgradePlan {
    /// The longest pause between two replacements.
    every: Duration,
    /// Whether some are put back.
    goes_back: bool,
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
        });
        Upgrades {
            chance,
            plan,
            most: Vec::new(),
            done: plan.is_none(),
            raised_with: None,
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
        let Some(to) = raised.filter(|_| self.raised_with.is_none()) else {
            return false;
        };
        let members = applier.applied().configuration.members();
        let members: BTreeSet<usize> = members.into_iter().map(crate::oracle::place_of).collect();
        for member in &members {
            let most = self.most[*member];
            demand!(
                to <= most,
                "version-followed",
                "the version is raised to {to}, and n{} can follow up to {most}",
                member + 1
            );
        }
        self.raised_with = Some(members);
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
            0..4 => self.ask_for_newer(at),
            4..6 if self.upgrades.plan.is_some_and(|plan| plan.goes_back) => self.put_back(at),
            _ => self.put_forward(),
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
            if !self.upgrades.chance.happens(300_000) {
                return;
            }
        }
        self.upgrades.done |= is_last;
        let place = behind[self.upgrades.chance.index(behind.len())];
        self.replace_program(place, STATE_VERSION);
    }

    /// One gets the older program again, while somebody else has it.
    fn put_back(&mut self, place: usize) {
        if self.upgrades.done || self.upgrades.most[place] < STATE_VERSION {
            return;
        }
        self.trace.counts.put_back += 1;
        self.replace_program(place, FIRST_STATE_VERSION);
    }

    fn replace_program(&mut self, place: usize, most: u64) {
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
            .skewed_span(Duration::from_millis(1), Duration::from_millis(500));
        self.after(down, Event::Restart { member: place });
    }

    /// A member that was never there is about to be added through another: it is looked at, and must be able to follow
    /// what that one follows.
    pub(crate) fn draw_newcomers_program(&mut self, place: usize, asked: usize) {
        let running = self.members[asked].running.as_ref();
        let in_force = running.map_or(STATE_VERSION, |running| running.applier.state().version());
        if self.upgrades.done || STATE_VERSION <= in_force {
            return;
        }
        self.upgrades.most[place] = match self.upgrades.chance.coin() {
            true => FIRST_STATE_VERSION,
            false => STATE_VERSION,
        };
    }

    /// A member meets rules that it cannot follow, and ends: rightly only where it came after they were in force.
    pub(crate) fn meets_newer_rules(&mut self, place: usize) {
        let raised_with = self.upgrades.raised_with.as_ref();
        demand!(
            raised_with.is_some_and(|members| !members.contains(&place)),
            "version-followed",
            "n{} meets rules that it cannot follow; they were raised with {raised_with:?}",
            place + 1
        );
        self.replace_program(place, STATE_VERSION);
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
