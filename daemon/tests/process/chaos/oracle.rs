//! Decides whether one history explains everything that clients were told.
//!
//! The system tells its own order by its revisions, so nothing is searched for: each answer is checked against the
//! history at the revision it names, and the revisions against real time.

use std::collections::BTreeMap;
use std::time::Duration;

/// An event of the history.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Event {
    pub(super) revision: u64,
    pub(super) kind: String,
    pub(super) resource: String,
    pub(super) value: String,
    pub(super) lease: String,
    pub(super) fence: Option<u64>,
}

/// What a writer asked.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Get,
    Put { value: String, only_if: Option<u64> },
}

/// What it was told.
#[derive(Clone, Debug)]
pub(super) enum Told {
    /// The write was applied at this revision.
    Done { revision: u64 },
    /// The value, as of this revision.
    Read {
        revision: u64,
        value: Option<String>,
    },
    /// The condition does not hold, as of this revision.
    Refused { revision: u64, actual: Option<u64> },
    /// Not applied, and never will be.
    Failed,
    /// Nothing that can be relied on.
    Unknown,
}

/// A call of a writer.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "who called whom is printed with what is wrong")]
pub(super) struct Record {
    pub(super) client: usize,
    pub(super) member: usize,
    pub(super) call: Duration,
    pub(super) ret: Duration,
    pub(super) key: String,
    pub(super) kind: Kind,
    pub(super) told: Told,
}

/// A time in which a client believed that it held a lock.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    pub(super) lock: String,
    pub(super) lease: String,
    pub(super) fence: u64,
    pub(super) from: Duration,
    pub(super) until: Duration,
}

impl Hold {
    /// Whether its client ever believed it: an answer may come so late that the hold is over by then.
    fn was_believed(&self) -> bool {
        self.from < self.until
    }
}

/// How much was checked.
#[derive(Debug)]
#[expect(dead_code, reason = "all of it is printed")]
pub(super) struct Tally {
    pub(super) writes: usize,
    pub(super) reads: usize,
    pub(super) refused: usize,
    pub(super) unknown: usize,
    pub(super) unknown_but_applied: usize,
    pub(super) holds: usize,
    /// Holds of which the client learnt when they were over for it: it never believed them.
    pub(super) learnt_late: usize,
    pub(super) events: usize,
}

/// The puts of each key by revision.
type Puts<'a> = BTreeMap<&'a str, BTreeMap<u64, &'a str>>;

/// Checks everything; says what is wrong first.
pub(super) fn check(
    history: &[Event],
    records: &[Record],
    holds: &[Hold],
) -> Result<Tally, String> {
    check_order(history)?;
    let puts = puts(history);
    let unknown_but_applied = check_owners(history, records)?;
    for record in records {
        check_told(&puts, record)?;
    }
    check_real_time(records)?;
    check_fences(history)?;
    check_holds(history, holds)?;
    let count = |wanted: &dyn Fn(&Told) -> bool| {
        records.iter().filter(|record| wanted(&record.told)).count()
    };
    Ok(Tally {
        writes: count(&|told| matches!(told, Told::Done { .. })),
        reads: count(&|told| matches!(told, Told::Read { .. })),
        refused: count(&|told| matches!(told, Told::Refused { .. })),
        unknown: count(&|told| matches!(told, Told::Unknown)),
        unknown_but_applied,
        holds: holds.len(),
        learnt_late: holds.iter().filter(|hold| !hold.was_believed()).count(),
        events: history.len(),
    })
}

/// What every key holds at the end of the history.
pub(super) fn present(history: &[Event]) -> BTreeMap<String, String> {
    let puts = puts(history);
    let last = |(key, puts): (&&str, &BTreeMap<u64, &str>)| {
        puts.last_key_value()
            .map(|(_, value)| ((*key).to_owned(), (*value).to_owned()))
    };
    puts.iter().filter_map(last).collect()
}

fn puts(history: &[Event]) -> Puts<'_> {
    let mut puts = Puts::new();
    for event in history.iter().filter(|event| event.kind == "put") {
        let key = event
            .resource
            .strip_prefix("keys/")
            .unwrap_or(&event.resource);
        puts.entry(key)
            .or_default()
            .insert(event.revision, &event.value);
    }
    puts
}

fn check_order(history: &[Event]) -> Result<(), String> {
    match history
        .windows(2)
        .find(|pair| pair[0].revision > pair[1].revision || pair[0] == pair[1])
    {
        Some(pair) => Err(format!("the history is out of order or repeats: {pair:?}")),
        None => Ok(()),
    }
}

/// Every put of the history belongs to exactly one record that may own it, and what failed is nowhere.
fn check_owners(history: &[Event], records: &[Record]) -> Result<usize, String> {
    let mut owners: BTreeMap<&str, &Record> = BTreeMap::new();
    for record in records {
        if let Kind::Put { value, .. } = &record.kind {
            owners.insert(value, record);
        }
    }
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    let mut unknown_but_applied = 0;
    for event in history
        .iter()
        .filter(|event| event.kind == "put" && event.resource != "keys/last")
    {
        if let Some(before) = seen.insert(&event.value, event.revision) {
            return Err(format!(
                "applied twice, at {before} and at {}: {event:?}",
                event.revision
            ));
        }
        let owner = owners.get(event.value.as_str());
        let owner = owner.ok_or_else(|| format!("a write that nobody sent: {event:?}"))?;
        match &owner.told {
            Told::Done { revision } if *revision == event.revision => {}
            Told::Unknown => unknown_but_applied += 1,
            told => return Err(format!("{event:?} was told {told:?}: {owner:?}")),
        }
    }
    let lost = records
        .iter()
        .find(|record| match (&record.kind, &record.told) {
            (Kind::Put { value, .. }, Told::Done { .. }) => !seen.contains_key(value.as_str()),
            _ => false,
        });
    match lost {
        Some(record) => Err(format!("an acknowledged write is lost: {record:?}")),
        None => Ok(unknown_but_applied),
    }
}

/// The last put of a key up to a revision.
fn at<'a>(puts: &Puts<'a>, key: &str, revision: u64) -> Option<(u64, &'a str)> {
    let (at, value) = puts.get(key)?.range(..=revision).next_back()?;
    Some((*at, value))
}

fn check_told(puts: &Puts<'_>, record: &Record) -> Result<(), String> {
    let wrong =
        |actual: &dyn std::fmt::Debug| Err(format!("{record:?}, but the history says {actual:?}"));
    match (&record.kind, &record.told) {
        (Kind::Get, Told::Read { revision, value }) => {
            let actual = at(puts, &record.key, *revision).map(|(_, value)| value);
            if actual != value.as_deref() {
                wrong(&actual)
            } else {
                Ok(())
            }
        }
        (
            Kind::Put {
                only_if: Some(expected),
                ..
            },
            Told::Done { revision },
        ) => {
            let before = at(puts, &record.key, revision - 1).map(|(revision, _)| revision);
            if before != Some(*expected) {
                wrong(&before)
            } else {
                Ok(())
            }
        }
        (
            Kind::Put {
                only_if: Some(expected),
                ..
            },
            Told::Refused { revision, actual },
        ) => {
            let present = at(puts, &record.key, *revision).map(|(revision, _)| revision);
            if present == Some(*expected) || present != *actual {
                wrong(&present)
            } else {
                Ok(())
            }
        }
        _ => Ok(()),
    }
}

/// No answer is older than one that had been given before its call.
fn check_real_time(records: &[Record]) -> Result<(), String> {
    let revision = |record: &Record| match record.told {
        Told::Done { revision } | Told::Read { revision, .. } | Told::Refused { revision, .. } => {
            Some(revision)
        }
        Told::Failed | Told::Unknown => None,
    };
    let told: Vec<(&Record, u64)> = records
        .iter()
        .filter_map(|record| Some((record, revision(record)?)))
        .collect();
    let (mut by_call, mut by_ret) = (told.clone(), told);
    by_call.sort_by_key(|(record, _)| record.call);
    by_ret.sort_by_key(|(record, _)| record.ret);
    let mut returned = by_ret.into_iter().peekable();
    let mut newest: Option<(&Record, u64)> = None;
    for (record, revision) in by_call {
        while let Some(before) = returned.next_if(|(before, _)| before.ret < record.call) {
            if newest.is_none_or(|(_, most)| most < before.1) {
                newest = Some(before);
            }
        }
        let write = matches!(record.told, Told::Done { .. });
        if let Some((before, most)) = newest
            && (revision < most || (write && revision == most))
        {
            return Err(format!(
                "{record:?} began after {before:?} had been answered, and is older"
            ));
        }
    }
    Ok(())
}

/// In the history each lock has one holder at a time, and fences that rise.
fn check_fences(history: &[Event]) -> Result<(), String> {
    let mut locks: BTreeMap<&str, (Option<&str>, u64)> = BTreeMap::new();
    for event in history
        .iter()
        .filter(|event| event.resource.starts_with("locks/"))
    {
        let (holder, last) = locks.entry(&event.resource).or_default();
        match (event.kind.as_str(), event.fence) {
            ("acquired", Some(fence)) => {
                if holder.is_some() || fence <= *last || fence != event.revision {
                    return Err(format!("{event:?} while held by {holder:?} with {last}"));
                }
                *holder = Some(event.lease.as_str());
                *last = fence;
            }
            ("released", Some(fence)) => {
                if *holder != Some(event.lease.as_str()) || fence != *last {
                    return Err(format!("{event:?} while held by {holder:?} with {last}"));
                }
                *holder = None;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Every hold is a grant of the history, and no two clients believed to hold one lock at a time.
fn check_holds(history: &[Event], holds: &[Hold]) -> Result<(), String> {
    let grants: BTreeMap<u64, &Event> = history
        .iter()
        .filter(|event| event.kind == "acquired")
        .map(|event| (event.revision, event))
        .collect();
    for hold in holds {
        let granted = grants.get(&hold.fence);
        if !granted.is_some_and(|event| {
            event.lease == hold.lease && event.resource == format!("locks/{}", hold.lock)
        }) {
            return Err(format!(
                "a hold that was never granted: {hold:?}, {granted:?}"
            ));
        }
    }
    let mut sorted: Vec<&Hold> = holds.iter().filter(|hold| hold.was_believed()).collect();
    sorted.sort_by(|a, b| (&a.lock, a.from).cmp(&(&b.lock, b.from)));
    let overlap = sorted.windows(2).find(|pair| {
        pair[0].lock == pair[1].lock
            && pair[0].lease != pair[1].lease
            && pair[1].from < pair[0].until
    });
    match overlap {
        Some(pair) => Err(format!("two holders at a time: {pair:?}")),
        None => Ok(()),
    }
}

mod tests {
    use super::*;

    type Change<'a> = &'a dyn Fn(&mut Vec<Event>, &mut Vec<Record>, &mut Vec<Hold>);

    fn put(revision: u64, key: &str, value: &str) -> Event {
        event("put", revision, &format!("keys/{key}"), value, "", None)
    }

    fn event(
        kind: &str,
        revision: u64,
        resource: &str,
        value: &str,
        lease: &str,
        fence: Option<u64>,
    ) -> Event {
        let (kind, resource, value, lease) =
            (kind.into(), resource.into(), value.into(), lease.into());
        Event {
            revision,
            kind,
            resource,
            value,
            lease,
            fence,
        }
    }

    fn record(times: (u64, u64), key: &str, kind: Kind, told: Told) -> Record {
        let (call, ret) = (
            Duration::from_millis(times.0),
            Duration::from_millis(times.1),
        );
        Record {
            client: 0,
            member: 0,
            call,
            ret,
            key: key.into(),
            kind,
            told,
        }
    }

    fn wrote(times: (u64, u64), value: &str, revision: u64) -> Record {
        record(
            times,
            "k",
            Kind::Put {
                value: value.into(),
                only_if: None,
            },
            Told::Done { revision },
        )
    }

    fn read(times: (u64, u64), revision: u64, value: Option<&str>) -> Record {
        record(
            times,
            "k",
            Kind::Get,
            Told::Read {
                revision,
                value: value.map(str::to_owned),
            },
        )
    }

    fn hold(lease: &str, fence: u64, from: u64, until: u64) -> Hold {
        let (from, until) = (Duration::from_millis(from), Duration::from_millis(until));
        Hold {
            lock: "a".into(),
            lease: lease.into(),
            fence,
            from,
            until,
        }
    }

    fn history() -> Vec<Event> {
        vec![
            put(2, "k", "one"),
            event("acquired", 3, "locks/a", "", "x", Some(3)),
            put(4, "k", "two"),
            event("released", 5, "locks/a", "", "x", Some(3)),
            event("acquired", 5, "locks/a", "", "y", Some(5)),
        ]
    }

    fn records() -> Vec<Record> {
        vec![
            wrote((0, 10), "one", 2),
            read((5, 12), 1, None),
            wrote((20, 30), "two", 4),
            read((40, 50), 5, Some("two")),
        ]
    }

    #[test]
    fn a_history_that_explains_everything_is_accepted() {
        let holds = [hold("x", 3, 10, 20), hold("y", 5, 30, 40)];
        assert!(check(&history(), &records(), &holds).is_ok());
        let late = [hold("x", 3, 35, 20), hold("y", 5, 30, 40)];
        assert!(check(&history(), &records(), &late).is_ok());
        let unknown = record(
            (0, 90),
            "k",
            Kind::Put {
                value: "two".into(),
                only_if: None,
            },
            Told::Unknown,
        );
        assert!(check(&history(), &[wrote((0, 10), "one", 2), unknown], &[]).is_ok());
    }

    #[test]
    fn every_lie_is_found() {
        let only_if = |expected| Kind::Put {
            value: "two".into(),
            only_if: Some(expected),
        };
        let failed = record(
            (20, 30),
            "k",
            Kind::Put {
                value: "two".into(),
                only_if: None,
            },
            Told::Failed,
        );
        let with = |change: Change<'_>| {
            let (mut events, mut records, mut holds) =
                (history(), records(), vec![hold("x", 3, 10, 20)]);
            change(&mut events, &mut records, &mut holds);
            check(&events, &records, &holds)
        };
        assert!(with(&|_, _, _| {}).is_ok());
        let lies: [(&str, Result<Tally, String>); 14] = [
            (
                "a lost write",
                with(&|_, records, _| records.push(wrote((60, 70), "three", 6))),
            ),
            (
                "a write at another revision",
                with(&|_, records, _| records[0] = wrote((0, 10), "one", 3)),
            ),
            (
                "a write applied twice",
                with(&|events, _, _| events.push(put(6, "k", "one"))),
            ),
            (
                "a failed write that happened",
                with(&|_, records, _| records[2] = failed.clone()),
            ),
            (
                "a write of nobody",
                with(&|events, _, _| events.push(put(6, "k", "ghost"))),
            ),
            (
                "a stale read",
                with(&|_, records, _| records[3] = read((40, 50), 3, Some("one"))),
            ),
            (
                "a wrong read",
                with(&|_, records, _| records[3] = read((40, 50), 5, Some("one"))),
            ),
            (
                "a repeated event",
                with(&|events, _, _| events.insert(1, put(2, "k", "one"))),
            ),
            (
                "an event out of order",
                with(&|events, _, _| events.swap(0, 2)),
            ),
            (
                "a second holder",
                with(&|events, _, _| drop(events.remove(3))),
            ),
            (
                "equal fences",
                with(&|events, _, _| events[4].fence = Some(3)),
            ),
            (
                "a hold without grant",
                with(&|_, _, holds| holds.push(hold("z", 4, 0, 1))),
            ),
            (
                "two believers",
                with(&|_, _, holds| holds.push(hold("y", 5, 15, 40))),
            ),
            (
                "a condition that did not hold",
                with(&|_, records, _| {
                    records[2] = record((20, 30), "k", only_if(3), Told::Done { revision: 4 });
                }),
            ),
        ];
        for (lie, result) in lies {
            assert!(result.is_err(), "{lie} was not found");
        }
    }
}
