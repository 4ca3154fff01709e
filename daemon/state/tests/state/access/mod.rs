//! Who may do what: the one function that says so, what changes its answers, and what outlives them.

mod changing;
mod judging;
mod lasting;
mod leases;

use std::collections::BTreeSet;

use crate::support::{
    ROOT_TOKEN, acquire, furnish, grant, keyed, lease, put, release, reload, requests, rows_of,
    transaction,
};
use bytes::Bytes;
use tenure_state::*;

fn root() -> Principal {
    Principal::of("root", Some(ROOT_TOKEN))
}

fn a() -> Principal {
    Principal::of("a", Some(TokenId(101)))
}

fn b() -> Principal {
    Principal::of("b", Some(TokenId(102)))
}

/// A cluster with access control on, and nobody in it but root.
fn guarded() -> State {
    let root = RootToken {
        id: ROOT_TOKEN,
        hash: [7; 32],
    };
    State::genesis(Genesis {
        root: Some(root),
        ..Genesis::default()
    })
}

/// With an identity `a` that may do everything but administer, and `b` that may do some of it.
fn furnished() -> State {
    let mut state = guarded();
    let applied = state.apply(Clock(0), &furnish());
    assert!(applied.outcomes.iter().all(|told| told.outcome.is_ok()));
    state
}

fn ask(state: &mut State, who: &Principal, command: Command) -> Outcome {
    ask_at(state, 0, who, command)
}

fn ask_at(state: &mut State, stamp: u64, who: &Principal, command: Command) -> Outcome {
    let mut batch = requests([command]);
    batch.requests[0].principal = who.clone();
    only(state, stamp, &batch).outcome
}

fn only(state: &mut State, stamp: u64, batch: &Batch) -> Decision {
    let applied = state.apply(Clock(stamp), batch);
    state.check_invariants();
    let mut outcomes = applied.outcomes.into_iter();
    outcomes.next().expect("one request has one outcome")
}

fn change(state: &mut State, change: AccessChange) -> Outcome {
    ask(state, &root(), Command::ChangeAccess(change))
}

fn put_role(state: &mut State, name: &str, grants: Vec<RoleGrant>) -> Outcome {
    let name = name.to_owned();
    change(state, AccessChange::PutRole { name, grants })
}

fn put_identity(state: &mut State, name: &str, identity: Identity) -> Outcome {
    let name = name.to_owned();
    change(state, AccessChange::PutIdentity { name, identity })
}

fn right(verbs: &[Verb], resource: &str, exact: bool) -> RoleGrant {
    RoleGrant {
        verbs: verbs.iter().copied().collect(),
        resource: resource.to_owned(),
        exact,
    }
}

fn with_roles(roles: &[&str]) -> Identity {
    Identity {
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        ..Identity::default()
    }
}

fn is_forbidden(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Err(Refusal::Denied(
            Denied::Forbidden { .. } | Denied::Foreign { .. }
        ))
    )
}

const UNKNOWN: Outcome = Err(Refusal::Denied(Denied::Unauthenticated));

fn token(id: u64, identity: &str, expires_unix_ms: Option<u64>, now_unix_ms: u64) -> AccessChange {
    AccessChange::CreateToken {
        id: TokenId(id),
        identity: identity.to_owned(),
        hash: [7; 32],
        expires_unix_ms,
        now_unix_ms,
    }
}
