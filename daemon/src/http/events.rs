//! Events as JSON shows them (`api.md` §10, Events).

use std::sync::Arc;

use bytes::Bytes;
use tenure_api::{self as api, Change, Previous};
use tenure_state::{
    self as state, DeleteReason, EndReason, Event, Grant, KeyEntry, Kind, LeaseId, LeaveReason,
    Place, ReleaseReason, Revision, Share,
};

use super::keys::{self, key_of, text_of};
use super::leases::{collection, labels};
use super::locks::mode;

/// What is told of a key before an event of it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Before<'a> {
    /// Nothing: it was not asked for.
    Untold,
    /// This, or that it was absent.
    Told(Option<&'a Arc<KeyEntry>>),
    /// Only its version, because there is no room for more.
    Omitted(Revision),
}

/// An event of a revision, as JSON.
pub(super) fn encode(revision: Revision, event: &Event, before: Before<'_>) -> Bytes {
    let previous = match before {
        Before::Untold => None,
        Before::Told(entry) => Some(entry.map(|entry| Previous::Entry(keys::shown(entry)))),
        Before::Omitted(revision) => Some(Some(Previous::Omitted {
            mod_revision: revision.0,
            omitted: true,
        })),
    };
    let event = api::Event {
        revision: revision.0,
        resource: resource(event),
        change: shown(event, revision),
        previous,
    };
    let json = serde_json::to_vec(&event);
    Bytes::from(json.expect("an event has only strings for the names of its fields"))
}

fn resource(event: &Event) -> String {
    match event {
        Event::Put(entry) => format!("keys/{}", text_of(&entry.key).0),
        Event::Delete { key, .. } => format!("keys/{}", text_of(key).0),
        Event::Granted(grant) => format!("{}/{}", collection(grant.kind), grant.name),
        Event::Queued { place } => format!("{}/{}", collection(place.kind), place.name),
        Event::Proclaimed { name, .. } => format!("elections/{name}"),
        Event::Released { kind, name, .. } | Event::Left { kind, name, .. } => {
            format!("{}/{name}", collection(*kind))
        }
        Event::LeaseGranted { lease, .. } | Event::LeaseEnded { lease, .. } => {
            format!("leases/{lease}")
        }
    }
}

fn shown(event: &Event, revision: Revision) -> Change {
    match event {
        Event::Put(entry) => put(entry),
        Event::Delete { key, lease, reason } => {
            let (key, key_encoding) = key_of(key);
            let reason = match reason {
                DeleteReason::Deleted => api::DeleteReason::Deleted,
                DeleteReason::LeaseEnded => api::DeleteReason::LeaseEnded,
            };
            let lease = lease.map(|lease| lease.to_string());
            Change::Delete {
                key,
                key_encoding,
                mod_revision: revision.0,
                lease,
                reason,
            }
        }
        Event::Granted(grant) => granted(grant),
        Event::Queued { place } => queued(place),
        Event::Proclaimed {
            name,
            candidate,
            fence,
            value,
        } => Change::Proclaimed {
            election: name.clone(),
            candidate: candidate.clone(),
            fence: fence.0,
            value: value.clone(),
        },
        Event::Released {
            kind,
            name,
            owner,
            lease,
            fence,
            reason,
        } => released(*kind, name, owner, *lease, fence.0, *reason),
        Event::Left {
            kind,
            name,
            owner,
            lease,
            reason,
        } => left(*kind, name, owner, *lease, *reason),
        Event::LeaseGranted {
            lease,
            name,
            metadata,
            ttl_ms,
        } => Change::Granted {
            lease: lease.to_string(),
            name: name.clone(),
            metadata: labels(metadata),
            ttl_ms: *ttl_ms,
        },
        Event::LeaseEnded {
            lease,
            name,
            reason,
        } => {
            let reason = match reason {
                EndReason::Expired => api::EndReason::Expired,
                EndReason::Revoked => api::EndReason::Revoked,
                EndReason::Restored => api::EndReason::Restored,
            };
            Change::Ended {
                lease: lease.to_string(),
                name: name.clone(),
                reason,
            }
        }
    }
}

fn put(entry: &state::KeyEntry) -> Change {
    let (key, key_encoding) = key_of(&entry.key);
    let (value, encoding) = text_of(&entry.value);
    Change::Put {
        key,
        key_encoding,
        value,
        encoding,
        content_type: entry.content_type.clone(),
        create_revision: entry.create_revision.0,
        mod_revision: entry.mod_revision.0,
        version: entry.version,
        lease: entry.lease.map(|lease| lease.to_string()),
    }
}

/// The name under the word for its kind.
struct Named {
    lock: Option<String>,
    semaphore: Option<String>,
    election: Option<String>,
    owner: Option<String>,
    candidate: Option<String>,
}

fn named(kind: Kind, name: &str, who: &str) -> Named {
    let (name, who) = (Some(name.to_owned()), Some(who.to_owned()));
    let none = Named {
        lock: None,
        semaphore: None,
        election: None,
        owner: None,
        candidate: None,
    };
    match kind {
        Kind::Lock => Named {
            lock: name,
            owner: who,
            ..none
        },
        Kind::Semaphore => Named {
            semaphore: name,
            owner: who,
            ..none
        },
        Kind::Election => Named {
            election: name,
            candidate: who,
            ..none
        },
    }
}

/// The mode of a lock, or the permits of a semaphore; an election has neither.
fn amount(kind: Kind, share: Share) -> (Option<api::Mode>, Option<u64>) {
    match (kind, share) {
        (Kind::Election, _) => (None, None),
        (_, Share::Permits { permits, .. }) => (None, Some(permits)),
        (_, share) => (Some(mode(share)), None),
    }
}

fn granted(grant: &Grant) -> Change {
    let fence = grant.fence.0;
    let lease = grant.lease.to_string();
    let (lock, semaphore) = match grant.kind {
        Kind::Election => {
            let (election, candidate) = (grant.name.clone(), grant.owner.clone());
            return Change::Elected {
                election,
                candidate,
                lease,
                fence,
                value: grant.value.clone(),
            };
        }
        Kind::Lock => (Some(grant.name.clone()), None),
        Kind::Semaphore => (None, Some(grant.name.clone())),
    };
    let (mode, permits) = amount(grant.kind, grant.share);
    Change::Acquired {
        lock,
        semaphore,
        owner: grant.owner.clone(),
        lease,
        lease_name: grant.lease_name.clone(),
        metadata: labels(&grant.metadata),
        mode,
        permits,
        fence,
    }
}

fn queued(place: &Place) -> Change {
    let Named {
        lock,
        semaphore,
        election,
        owner,
        candidate,
    } = named(place.kind, &place.name, &place.owner);
    let (mode, permits) = amount(place.kind, place.share);
    Change::Queued {
        lock,
        semaphore,
        election,
        owner,
        candidate,
        lease: place.lease.to_string(),
        lease_name: place.lease_name.clone(),
        metadata: labels(&place.metadata),
        mode,
        permits,
        priority: place.priority,
    }
}

fn released(
    kind: Kind,
    name: &str,
    owner: &str,
    lease: LeaseId,
    fence: u64,
    reason: ReleaseReason,
) -> Change {
    let lease = lease.to_string();
    let (lock, semaphore) = match kind {
        Kind::Election => {
            let reason = match reason {
                ReleaseReason::Released => api::ResignReason::Resigned,
                ReleaseReason::LeaseEnded => api::ResignReason::LeaseEnded,
                ReleaseReason::Broken => api::ResignReason::Broken,
                ReleaseReason::HandedOver => api::ResignReason::HandedOver,
            };
            let (election, candidate) = (name.to_owned(), owner.to_owned());
            return Change::Resigned {
                election,
                candidate,
                lease,
                fence,
                reason,
            };
        }
        Kind::Lock => (Some(name.to_owned()), None),
        Kind::Semaphore => (None, Some(name.to_owned())),
    };
    let reason = match reason {
        // Only leaderships are handed over; of anything else it would be a release.
        ReleaseReason::Released | ReleaseReason::HandedOver => api::ReleaseReason::Released,
        ReleaseReason::LeaseEnded => api::ReleaseReason::LeaseEnded,
        ReleaseReason::Broken => api::ReleaseReason::Broken,
    };
    Change::Released {
        lock,
        semaphore,
        owner: owner.to_owned(),
        lease,
        fence,
        reason,
    }
}

fn left(kind: Kind, name: &str, owner: &str, lease: LeaseId, reason: LeaveReason) -> Change {
    let Named {
        lock,
        semaphore,
        election,
        owner,
        candidate,
    } = named(kind, name, owner);
    let reason = match reason {
        LeaveReason::Withdrawn => api::LeaveReason::Withdrawn,
        LeaveReason::WaitExpired => api::LeaveReason::WaitExpired,
        LeaveReason::LeaseEnded => api::LeaveReason::LeaseEnded,
    };
    Change::Left {
        lock,
        semaphore,
        election,
        owner,
        candidate,
        lease: lease.to_string(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use tenure_state::Fence;

    fn lease() -> LeaseId {
        LeaseId::new(0x3f9c_2a7b_5d1e_8046).expect("positive")
    }

    fn check(event: Event, expected: Value) {
        let json = encode(Revision(132), &event, Before::Untold);
        let shown: Value = serde_json::from_slice(&json).expect("an event is JSON");
        assert_eq!(shown, expected);
    }

    #[test]
    fn what_a_key_was_before_is_told_as_an_entry_or_its_version() {
        let deleted = Event::Delete {
            key: "a".into(),
            lease: None,
            reason: DeleteReason::Deleted,
        };
        let entry = Arc::new(KeyEntry {
            key: "a".into(),
            value: "x".into(),
            content_type: None,
            create_revision: Revision(5),
            mod_revision: Revision(7),
            version: 2,
            lease: None,
        });
        let check = |before: Before<'_>, expected: Value| {
            let json = encode(Revision(132), &deleted, before);
            let shown: Value = serde_json::from_slice(&json).expect("an event is JSON");
            assert_eq!(shown["previous"], expected);
        };
        check(Before::Told(None), Value::Null);
        check(
            Before::Omitted(Revision(7)),
            json!({"mod_revision": 7, "omitted": true}),
        );
        check(
            Before::Told(Some(&entry)),
            json!({"key": "a", "value": "x", "encoding": "utf-8", "content_type": null, "create_revision": 5,
                "mod_revision": 7, "version": 2, "lease": null}),
        );
    }

    #[test]
    fn events_have_the_fields_of_the_contract() {
        check(
            Event::Delete {
                key: "config/a".into(),
                lease: Some(lease()),
                reason: DeleteReason::LeaseEnded,
            },
            json!({"revision": 132, "type": "delete", "resource": "keys/config/a", "key": "config/a",
                "mod_revision": 132, "lease": "3f9c2a7b5d1e8046", "reason": "lease-ended"}),
        );
        check(
            Event::Released {
                kind: Kind::Lock,
                name: "jobs/a".into(),
                owner: String::new(),
                lease: lease(),
                fence: Fence(121),
                reason: ReleaseReason::Released,
            },
            json!({"revision": 132, "type": "released", "resource": "locks/jobs/a", "lock": "jobs/a", "owner": "",
                "lease": "3f9c2a7b5d1e8046", "fence": 121, "reason": "released"}),
        );
        check(
            Event::Left {
                kind: Kind::Election,
                name: "e".into(),
                owner: "host-a".into(),
                lease: lease(),
                reason: LeaveReason::WaitExpired,
            },
            json!({"revision": 132, "type": "left", "resource": "elections/e", "election": "e",
                "candidate": "host-a", "lease": "3f9c2a7b5d1e8046", "reason": "wait-expired"}),
        );
        check(
            Event::LeaseGranted {
                lease: lease(),
                name: "w".into(),
                metadata: Arc::default(),
                ttl_ms: 15_000,
            },
            json!({"revision": 132, "type": "granted", "resource": "leases/3f9c2a7b5d1e8046",
                "lease": "3f9c2a7b5d1e8046", "name": "w", "metadata": {}, "ttl_ms": 15000}),
        );
    }
}
