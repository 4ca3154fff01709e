//! What the service manager shows of a member: who leads it, and that nobody does.

use std::convert::Infallible;

use tenure_raft::MemberId;

use super::Supervisor;
use crate::node::{Handle, LeaderView, NodeStatus};

/// Tells it whenever it changes, until it is dropped.
pub(crate) async fn tell_standing(handle: Handle, supervisor: Supervisor) -> Infallible {
    let mut leader = handle.leader_watch();
    loop {
        let view = leader.borrow_and_update().clone();
        supervisor.status(words(&view, handle.member().id, &handle.status()));
        if leader.changed().await.is_err() {
            // The member has ended; its owner drops this.
            std::future::pending::<Infallible>().await;
        }
    }
}

fn words(view: &LeaderView, own: MemberId, status: &NodeStatus) -> String {
    let (term, members) = (view.term, &status.configuration.info);
    let voters = status.configuration.voters.len();
    match view.leader {
        Some(leader) if leader == own => {
            format!("leads in term {}, with {voters} voters", term.0)
        }
        Some(leader) => {
            let name = members.get(&leader).map_or("?", |info| info.name.as_str());
            format!("follows {name} in term {}", term.0)
        }
        None => format!(
            "NO LEADER in term {}: too few of {voters} voters reach one another, or an election is under way",
            term.0
        ),
    }
}
