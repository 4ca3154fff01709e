//! Whose doing it was: nothing is released, left or revoked but by who asked for it.
//!
//! Judged only where such calls were recorded at all: some recordings tell of acquiring alone.

use std::collections::BTreeMap;

use crate::history::History;
use crate::record::{Ask, Call, Event, Recording, Told};

/// What calls can bring about that no time does.
#[derive(Clone, Copy)]
pub(crate) enum Doing {
    Release,
    Leave,
    Revoke,
}

impl Doing {
    /// Whether an event tells of it.
    fn is_told_by(self, event: &Event) -> bool {
        let reason = event.text("reason");
        match self {
            Doing::Release => match event.kind.as_str() {
                "released" => reason == "released",
                "resigned" => reason == "resigned",
                _ => false,
            },
            Doing::Leave => event.kind == "left" && reason == "withdrawn",
            Doing::Revoke => event.kind == "ended" && reason == "revoked",
        }
    }

    /// The lease that a call of this kind is about.
    fn lease(self, ask: &Ask) -> Option<&str> {
        match (self, ask) {
            (Doing::Release, Ask::Release { lease, .. })
            | (Doing::Leave, Ask::Leave { lease, .. })
            | (Doing::Revoke, Ask::Revoke { lease }) => Some(lease),
            _ => None,
        }
    }
}

/// Whether a call asked for just this.
fn asked_for(ask: &Ask, event: &Event) -> bool {
    match ask {
        Ask::Release {
            resource,
            lease,
            owner,
            fence,
        } => {
            *resource == event.resource
                && event.who() == (lease, owner)
                && event.number("fence") == Some(*fence)
        }
        // Of several queues that are left at once, one is named.
        Ask::Leave { lease, owner, .. } => event.who() == (lease, owner),
        Ask::Revoke { lease } => event.text("lease") == lease,
        _ => false,
    }
}

/// Each such event was asked for by a call that was told so, or of which nobody knows what came.
pub(crate) fn check(recording: &Recording, history: &History, doing: Doing) -> Result<(), String> {
    let mut calls: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
    for call in &recording.calls {
        if let Some(lease) = doing.lease(&call.ask) {
            calls.entry(lease).or_default().push(call);
        }
    }
    if calls.is_empty() {
        return Ok(());
    }
    let told = history.events().iter();
    for event in told.filter(|event| doing.is_told_by(event)) {
        let mut calls = calls.get(event.text("lease")).into_iter().flatten();
        let owns = |call: &&Call| match &call.told {
            Told::Done { revision, .. } => *revision == event.revision,
            told => *told == Told::Unknown,
        };
        if !calls.any(|call| owns(call) && asked_for(&call.ask, event)) {
            return Err(format!("nobody did this who was told so: {event:?}"));
        }
    }
    Ok(())
}
