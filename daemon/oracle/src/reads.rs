//! Reads: each shows what the history says of the revision that it names.
//!
//! A local read may be old, but on one connection to one member never older than the one before it.

use std::collections::BTreeMap;

use crate::Judged;
use crate::history::History;
use crate::record::{Ask, How, Recording, Revision, Seen, Told};

pub(crate) fn check(recording: &Recording, history: &History) -> Judged {
    let mut judged = 0;
    let mut newest: BTreeMap<(u64, usize, u64), Revision> = BTreeMap::new();
    for call in &recording.calls {
        let (Ask::Get { how, .. } | Ask::List { how, .. }) = &call.ask else {
            continue;
        };
        let (revision, keys) = match &call.told {
            Told::Read { revision, keys } => (revision, keys),
            Told::Failed | Told::Unknown => continue,
            // To say that there is nothing is to show nothing: a refusal would be judged by nobody.
            _ => return Err(format!("no answer to a read: {call:?}")),
        };
        judged += 1;
        let of = match how {
            How::At(at) => *at,
            _ => *revision,
        };
        if of > history.end {
            return Err(format!(
                "a read of {of}, and the history ends at {}: {call:?}",
                history.end
            ));
        }
        let there = match &call.ask {
            Ask::Get { key, .. } => {
                let seen = history.get(key, of);
                BTreeMap::from_iter(seen.map(|seen| (key.clone(), seen)))
            }
            Ask::List { prefix, .. } => history.list(prefix, of),
            _ => continue,
        };
        if there != *keys {
            return Err(format!("{}: {call:?}", differ(&there, keys)));
        }
        if let How::AtLeast(least) = how
            && revision < least
        {
            return Err(format!(
                "a read of {revision} that was to wait for {least}: {call:?}"
            ));
        }
        if *how == How::Local {
            let newest = newest
                .entry((call.client, call.member, call.connection))
                .or_default();
            if revision < newest {
                return Err(format!("a local read went back from {newest}: {call:?}"));
            }
            *newest = *revision;
        }
    }
    Ok(judged)
}

/// The first key of which two states differ, in words.
fn differ(there: &BTreeMap<String, Seen>, told: &BTreeMap<String, Seen>) -> String {
    let keys = there.keys().chain(told.keys());
    let mut differing = keys.filter(|key| there.get(*key) != told.get(*key));
    differing.next().map_or_else(String::new, |key| {
        format!(
            "{key} was {:?} and a read says {:?}",
            there.get(key),
            told.get(key)
        )
    })
}
