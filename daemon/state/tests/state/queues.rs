//! What must hold of every queue, seen from outside: by its events and what it shows.

use std::collections::BTreeMap;

use crate::support::{aim, commands, everything, lease, request, requests};
use proptest::collection::vec;
use proptest::prelude::*;
use tenure_state::*;

const NAMES: [&str; 3] = ["x", "y", "z"];
const KINDS: [Kind; 3] = [Kind::Lock, Kind::Semaphore, Kind::Election];

type Name = (Kind, String);

/// What somebody who only listens knows of the queues.
#[derive(Default)]
struct Listener {
    holds: BTreeMap<Name, Vec<Grant>>,
    places: BTreeMap<Name, Vec<(LeaseId, String)>>,
    fences: BTreeMap<Name, Fence>,
}

impl Listener {
    fn hear(&mut self, change: &Change) -> Result<(), TestCaseError> {
        for event in change.events.iter() {
            self.hear_event(event)?;
        }
        for (name, holds) in &self.holds {
            check_holders(name, holds)?;
        }
        Ok(())
    }

    fn hear_event(&mut self, event: &Event) -> Result<(), TestCaseError> {
        match event {
            Event::Granted(grant) => {
                let name = (grant.kind, grant.name.clone());
                let last = self.fences.insert(name.clone(), grant.fence);
                let together = grant.share != Share::Exclusive;
                let rises =
                    last.is_none_or(|last| last < grant.fence || (together && last == grant.fence));
                prop_assert!(rises, "{:?} after fence {:?}", grant, last);
                let places = self.places.entry(name.clone()).or_default();
                places.retain(|place| *place != (grant.lease, grant.owner.clone()));
                self.holds.entry(name).or_default().push((**grant).clone());
            }
            Event::Released {
                kind,
                name,
                owner,
                lease,
                fence,
                ..
            } => {
                let holds = self.holds.entry((*kind, name.clone())).or_default();
                let at = holds.iter().position(|hold| {
                    (hold.lease, &hold.owner, hold.fence) == (*lease, owner, *fence)
                });
                prop_assert!(at.is_some(), "{:?} of {:?}", event, holds);
                holds.remove(at.expect("it was found"));
            }
            Event::Queued { place } => {
                let places = self.places.entry((place.kind, place.name.clone()));
                places.or_default().push((place.lease, place.owner.clone()));
            }
            Event::Left {
                kind,
                name,
                owner,
                lease,
                ..
            } => {
                let places = self.places.entry((*kind, name.clone())).or_default();
                let at = places
                    .iter()
                    .position(|place| *place == (*lease, owner.clone()));
                prop_assert!(at.is_some(), "{:?} of {:?}", event, places);
                places.remove(at.expect("it was found"));
            }
            _ => {}
        }
        Ok(())
    }

    /// Whoever was heard to take a place has it, holds, or was heard to leave.
    fn check(&self, state: &State) -> Result<(), TestCaseError> {
        for kind in KINDS {
            for name in NAMES {
                let view = state.queue(kind, name);
                let key = (kind, name.to_owned());
                let mut places: Vec<_> = self.places.get(&key).cloned().unwrap_or_default();
                let mut shown: Vec<_> = view
                    .queue
                    .iter()
                    .map(|place| (place.lease, place.owner.clone()))
                    .collect();
                places.sort();
                shown.sort();
                prop_assert_eq!(places, shown, "places of {:?}", key);
                let heard = self.holds.get(&key).into_iter().flatten();
                let mut holds: Vec<_> = heard.map(|hold| (hold.lease, hold.fence)).collect();
                let mut shown: Vec<_> = view
                    .holders
                    .iter()
                    .map(|hold| (hold.lease, hold.fence))
                    .collect();
                holds.sort();
                shown.sort();
                prop_assert_eq!(holds, shown, "holders of {:?}", key);
            }
        }
        Ok(())
    }
}

fn check_holders(name: &Name, holds: &[Grant]) -> Result<(), TestCaseError> {
    let exclusive = holds.iter().any(|hold| hold.share == Share::Exclusive);
    prop_assert!(!exclusive || holds.len() == 1, "{:?}: {:?}", name, holds);
    let (mut held, mut least) = (0, u64::MAX);
    for hold in holds {
        if let Share::Permits { permits, limit } = hold.share {
            held += permits;
            least = least.min(limit);
        }
    }
    prop_assert!(held <= least, "{} permits of {}: {:?}", held, least, name);
    Ok(())
}

/// A place and in which queues it stood, for who may pass it.
#[derive(Clone, Debug, PartialEq)]
struct Stood {
    name: Name,
    lease: LeaseId,
    owner: String,
    priority: i32,
    queued: Revision,
}

/// The places that can be granted something at a clock.
fn awake(state: &State, clock: Clock) -> Vec<Stood> {
    let mut all = Vec::new();
    for kind in KINDS {
        for name in NAMES {
            for place in state.queue(kind, name).queue {
                let lease = state
                    .lease(place.lease, clock)
                    .expect("a place has a lease");
                if clock <= place.wait_deadline && clock <= lease.deadline {
                    all.push(Stood {
                        name: (kind, name.to_owned()),
                        lease: place.lease,
                        owner: place.owner,
                        priority: place.priority,
                        queued: place.queued_revision,
                    });
                }
            }
        }
    }
    all
}

/// Nobody who is granted something passes a place of his priority or a higher one that was there before him.
fn check_turns(
    before: &[Stood],
    after: &State,
    command: &Command,
    grants: &[Grant],
) -> Result<(), TestCaseError> {
    for grant in grants {
        let name = (grant.kind, grant.name.clone());
        let had = before.iter().find(|place| {
            (&place.name, place.lease, &place.owner) == (&name, grant.lease, &grant.owner)
        });
        let turn = match (had, command) {
            (Some(place), _) => (-place.priority, place.queued),
            (None, Command::Acquire(acquire)) => (-acquire.priority, Revision(u64::MAX)),
            (None, other) => panic!("{other:?} granted {grant:?} out of nothing"),
        };
        let still = after.queue(grant.kind, &grant.name).queue;
        let passed = before.iter().find(|place| {
            place.name == name
                && (-place.priority, place.queued) < turn
                && still
                    .iter()
                    .any(|waiting| waiting.queued_revision == place.queued)
        });
        prop_assert!(passed.is_none(), "{:?} passed {:?}", grant, passed);
    }
    Ok(())
}

fn grants_of(change: &Change) -> impl Iterator<Item = Grant> {
    change.events.iter().filter_map(|event| match event {
        Event::Granted(grant) => Some((**grant).clone()),
        _ => None,
    })
}

fn start() -> State {
    let mut state = State::genesis(Genesis::default());
    let grants = (1..6).map(|id| crate::support::grant(id, 20_000));
    state.apply(Clock(0), &requests(grants));
    state
}

/// Without delays, whoever is next is granted; delays are the model's.
fn without_delays(command: &mut Command) {
    match command {
        Command::Acquire(acquire) => acquire.lock_delay_ms = 0,
        Command::Break(broken) => broken.now = true,
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fences_rise_holders_agree_and_no_place_is_lost(
        steps in vec((prop_oneof![3 => Just(0u64), 2 => 1u64..2500], commands(3)), 1..80),
    ) {
        let mut state = start();
        let (mut listener, mut clock) = (Listener::default(), 0);
        for (advance, mut command) in steps {
            if matches!(command, Command::Compact { .. } | Command::ChangeLimits(_)) {
                continue;
            }
            clock += advance;
            aim(&state, &mut command);
            let before = state.revision();
            state.apply(Clock(clock), &requests([command]));
            let page = state.changes(before, &everything(), 1 << 20, 1 << 30, 1 << 20).expect("it is kept");
            for change in &page.changes {
                listener.hear(change)?;
            }
            listener.check(&state)?;
        }
    }

    #[test]
    fn nobody_passes_an_earlier_place_of_his_priority(
        steps in vec((prop_oneof![3 => Just(0u64), 2 => 1u64..2500], commands(3)), 1..80),
    ) {
        let mut state = start();
        let mut clock = 0;
        for (advance, mut command) in steps {
            clock += advance;
            without_delays(&mut command);
            if matches!(command, Command::HandOver(_) | Command::Compact { .. } | Command::ChangeLimits(_)) {
                continue;
            }
            aim(&state, &mut command);
            let (stood, before) = (awake(&state, Clock(clock)), state.revision());
            state.apply(Clock(clock), &Batch { requests: vec![request(command.clone())], ..Batch::default() });
            let page = state.changes(before, &everything(), 1 << 20, 1 << 30, 1 << 20).expect("it is kept");
            let grants: Vec<Grant> = page.changes.iter().flat_map(grants_of).collect();
            check_turns(&stood, &state, &command, &grants)?;
        }
    }

    /// Waits for several names form no ring: as holds are released, everybody who waits and lives gets his turn.
    #[test]
    fn everybody_who_waits_is_granted_as_holds_are_released(steps in vec(commands(3), 1..80)) {
        let mut state = start();
        for mut command in steps {
            if matches!(command, Command::ChangeLimits(_)) {
                continue;
            }
            without_delays(&mut command);
            aim(&state, &mut command);
            state.apply(Clock(0), &requests([command]));
        }
        loop {
            let held: Vec<Command> = KINDS.into_iter().flat_map(|kind| NAMES.map(|name| (kind, name))).flat_map(|(kind, name)| {
                let release = move |holder: HolderView| Command::Release(Release {
                    kind, name: name.to_owned(), lease: holder.lease, owner: holder.owner, fence: Some(holder.fence),
                });
                state.queue(kind, name).holders.into_iter().map(release)
            }).collect();
            if held.is_empty() {
                break;
            }
            let applied = state.apply(Clock(0), &requests(held));
            prop_assert!(applied.outcomes.iter().all(|decision| decision.outcome.is_ok()));
            state.check_invariants();
        }
        prop_assert_eq!(awake(&state, Clock(0)), Vec::new());
    }
}

fn both(id: u64, names: [&str; 2]) -> Command {
    let share = Share::Exclusive;
    let wanted = names.map(|name| Wanted {
        name: name.to_owned(),
        share,
    });
    Command::Acquire(Acquire {
        wanted: wanted.to_vec(),
        ..crate::support::acquire("", id, 60_000)
    })
}

#[test]
fn a_place_in_several_queues_is_passed_in_none_of_them() {
    let mut state = start();
    let x = crate::support::hold(&mut state, 0, crate::support::acquire("x", 1, 0));
    let z = crate::support::hold(&mut state, 0, crate::support::acquire("z", 2, 0));
    for (id, names) in [(3, ["x", "y"]), (4, ["y", "z"])] {
        assert!(crate::support::apply_one(&mut state, 0, both(id, names)).is_ok());
    }
    let free = |state: &mut State, name, id, fence: Fence| {
        let release = crate::support::release(name, id, Some(fence.0));
        assert!(crate::support::apply_one(state, 0, release).is_ok());
    };
    free(&mut state, "z", 2, z.fence);
    for name in ["y", "z"] {
        let none = crate::support::holders(&state, Kind::Lock, name);
        assert_eq!(none, [0u64; 0], "the fourth is first for z, but not for y");
    }
    free(&mut state, "x", 1, x.fence);
    assert_eq!(crate::support::holders(&state, Kind::Lock, "y"), [3]);
    let revoke = Command::RevokeLease { lease: lease(3) };
    assert!(crate::support::apply_one(&mut state, 0, revoke).is_ok());
    assert_eq!(crate::support::holders(&state, Kind::Lock, "z"), [4]);
}

#[test]
fn two_that_want_the_same_two_names_in_either_order_both_get_them() {
    let mut state = start();
    for (id, names) in [(1, ["x", "y"]), (2, ["y", "x"]), (3, ["x", "y"])] {
        assert!(crate::support::apply_one(&mut state, 0, both(id, names)).is_ok());
    }
    for id in 1..=3 {
        let held: Vec<_> = ["x", "y"]
            .iter()
            .flat_map(|name| state.queue(Kind::Lock, name).holders)
            .map(|holder| holder.lease)
            .collect();
        assert_eq!(held, [lease(id), lease(id)]);
        let revoke = Command::RevokeLease { lease: lease(id) };
        assert!(crate::support::apply_one(&mut state, 0, revoke).is_ok());
    }
}

/// While so many places are due and not yet gone, whoever looks for the next to be granted passes over them all: done at
/// each end this took minutes, in which nothing else was applied.
#[test]
#[allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "it is the test that looks at the time, not the state"
)]
fn ten_thousand_places_of_one_queue_that_are_due_together_end_without_holding_up_the_log() {
    const WAITERS: u64 = 10_000;
    let mut state = State::genesis(Genesis::default());
    crate::support::apply_one(&mut state, 0, crate::support::grant(1, 3_600_000))
        .expect("it is granted");
    crate::support::hold(&mut state, 0, crate::support::acquire("x", 1, 0));
    let waiting = (2..2 + WAITERS).flat_map(|id| {
        let wait = Command::Acquire(crate::support::acquire("x", id, 60_000));
        [crate::support::grant(id, 3_600_000), wait]
    });
    state.apply(Clock(0), &requests(waiting));
    let began = std::time::Instant::now();
    for _ in 0..WAITERS / MAX_ENDS_PER_ENTRY {
        state.apply(Clock(60_001), &requests([]));
    }
    assert_eq!(state.queue(Kind::Lock, "x").queue_length, 0);
    assert!(
        began.elapsed() < std::time::Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
}
