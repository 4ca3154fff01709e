//! Elections: only who leads proclaims, by its fence, and what observers are shown is what was proclaimed last.

use std::collections::BTreeMap;

use crate::Judged;
use crate::history::History;
use crate::record::{Ask, Call, Recording, Revision, Told};

/// Who leads: the fence and the value; none in a vacancy.
type Leader<'a> = Option<(u64, &'a str)>;

/// The leader of each election from each revision at which it changed.
type Leaders<'a> = BTreeMap<&'a str, BTreeMap<Revision, Leader<'a>>>;

pub(crate) fn check(recording: &Recording, history: &History) -> Judged {
    let mut leaders = Leaders::new();
    for event in history.events() {
        if !event.resource.starts_with("elections/") {
            continue;
        }
        let by_revision = leaders.entry(&event.resource).or_default();
        let present = by_revision.last_key_value().and_then(|(_, leader)| *leader);
        let fence = event.number("fence").unwrap_or_default();
        match event.kind.as_str() {
            "elected" => {
                if let Some(leader) = present {
                    return Err(format!("elected while {leader:?} leads: {event:?}"));
                }
                by_revision.insert(event.revision, Some((fence, event.text("value"))));
            }
            "proclaimed" | "resigned" if present.map(|(fence, _)| fence) != Some(fence) => {
                return Err(format!("{present:?} leads: {event:?}"));
            }
            "proclaimed" => {
                by_revision.insert(event.revision, Some((fence, event.text("value"))));
            }
            "resigned" => {
                by_revision.insert(event.revision, None);
            }
            _ => {}
        }
    }
    let mut judged = 0;
    for call in &recording.calls {
        judged += u64::from(check_told(call, history, &leaders)?);
    }
    Ok(judged)
}

fn at<'a>(leaders: &Leaders<'a>, resource: &str, revision: Revision) -> Leader<'a> {
    let by_revision = leaders.get(resource)?;
    by_revision
        .range(..=revision)
        .next_back()
        .and_then(|(_, leader)| *leader)
}

fn check_told(call: &Call, history: &History, leaders: &Leaders<'_>) -> Result<bool, String> {
    match (&call.ask, &call.told) {
        (
            Ask::Proclaim {
                resource,
                fence,
                value,
                ..
            },
            Told::Done { revision, .. },
        ) => {
            let proclaimed = history.at(*revision).iter().any(|event| {
                event.kind == "proclaimed"
                    && event.resource == *resource
                    && event.number("fence") == Some(*fence)
                    && event.text("value") == value
            });
            match proclaimed {
                true => Ok(true),
                false => Err(format!("the history has no such proclamation: {call:?}")),
            }
        }
        (
            Ask::Proclaim {
                resource, fence, ..
            },
            Told::Refused { revision, .. },
        ) => match at(leaders, resource, *revision) {
            Some((leads, _)) if leads == *fence => {
                Err(format!("its fence was the one that leads: {call:?}"))
            }
            _ => Ok(true),
        },
        (
            Ask::Holder { resource },
            Told::Holder {
                revision,
                fence,
                value,
            },
        ) if resource.starts_with("elections/") => {
            let leader = at(leaders, resource, *revision);
            match leader == fence.zip(value.as_deref()) {
                true => Ok(true),
                false => Err(format!("{leader:?} led: {call:?}")),
            }
        }
        _ => Ok(false),
    }
}
