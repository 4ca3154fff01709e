//! The reference: what happened, by revision, as the watchers of everything saw it.
//!
//! Owns the one history against which all is judged. Watchers of everything at different members must have seen the
//! same; the longest is taken.

use std::collections::BTreeMap;

use crate::record::{Event, Moment, Recording, Reply, Revision, Seen};
use crate::standing::Standing;

/// The values of a key by revision; none where it was deleted.
type Versions = BTreeMap<Revision, Option<String>>;

/// The one history.
#[derive(Debug, Default)]
pub struct History {
    events: Vec<Event>,
    keys: BTreeMap<String, Versions>,
    /// When the first watcher was told of a revision.
    observed: BTreeMap<Revision, Moment>,
    /// Who holds what, and which leases live.
    pub(crate) standing: Standing,
    /// Everything up to there was seen.
    pub(crate) end: Revision,
}

impl History {
    /// The history that the archive watchers of a recording saw.
    ///
    /// # Errors
    ///
    /// When they do not agree, one did not see everything in order, or there is none.
    pub fn of(recording: &Recording) -> Result<History, String> {
        let mut archives: BTreeMap<u64, Vec<&Reply>> = BTreeMap::new();
        for reply in recording.replies.iter().filter(|reply| reply.archive) {
            archives.entry(reply.watcher).or_default().push(reply);
        }
        let mut histories = Vec::new();
        for (watcher, replies) in archives {
            histories.push((watcher, archive(watcher, &replies)?));
        }
        histories.sort_by_key(|(_, (end, _))| *end);
        let (longest, (end, events)) = histories.pop().ok_or("nobody watched everything")?;
        for (watcher, (end, other)) in &histories {
            let shared = events.partition_point(|event| event.revision <= *end);
            if let Some((ours, theirs)) = differ(&events[..shared], other) {
                return Err(format!(
                    "watcher {watcher} saw another history than watcher {longest}: {theirs} instead of {ours}"
                ));
            }
        }
        Ok(History::from_events(events, end).with_observations(recording))
    }

    /// A history of events alone, which nobody observed.
    pub(crate) fn from_events(events: Vec<Event>, end: Revision) -> History {
        let mut keys: BTreeMap<String, Versions> = BTreeMap::new();
        for event in &events {
            let Some(key) = event.key() else { continue };
            let value = (event.kind == "put").then(|| event.text("value").to_owned());
            keys.entry(key.to_owned())
                .or_default()
                .insert(event.revision, value);
        }
        History {
            standing: Standing::of(&events),
            events,
            keys,
            observed: BTreeMap::new(),
            end,
        }
    }

    fn with_observations(mut self, recording: &Recording) -> History {
        for reply in &recording.replies {
            for event in &reply.events {
                let observed = self.observed.entry(event.revision).or_insert(reply.ret);
                *observed = (*observed).min(reply.ret);
            }
        }
        self
    }

    /// All events, in order.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The events of one revision.
    #[must_use]
    pub fn at(&self, revision: Revision) -> &[Event] {
        let from = self
            .events
            .partition_point(|event| event.revision < revision);
        let to = self
            .events
            .partition_point(|event| event.revision <= revision);
        &self.events[from..to]
    }

    /// The events after one revision and up to another.
    #[must_use]
    pub fn between(&self, after: Revision, upto: Revision) -> &[Event] {
        let from = self.events.partition_point(|event| event.revision <= after);
        let to = self.events.partition_point(|event| event.revision <= upto);
        &self.events[from..to.max(from)]
    }

    /// What a key held as of a revision.
    #[must_use]
    pub fn get(&self, key: &str, revision: Revision) -> Option<Seen> {
        let (revision, value) = self.keys.get(key)?.range(..=revision).next_back()?;
        let value = value.clone()?;
        Some(Seen {
            value,
            revision: *revision,
        })
    }

    /// What all keys with a prefix held as of a revision.
    #[must_use]
    pub fn list(&self, prefix: &str, revision: Revision) -> BTreeMap<String, Seen> {
        let names = self.keys.range(prefix.to_owned()..).map(|(key, _)| key);
        names
            .take_while(|key| key.starts_with(prefix))
            .filter_map(|key| Some((key.clone(), self.get(key, revision)?)))
            .collect()
    }

    /// When the first watcher was told of this revision.
    pub(crate) fn observed(&self, revision: Revision) -> Moment {
        self.observed
            .get(&revision)
            .copied()
            .unwrap_or(Moment::NEVER)
    }
}

/// What a watcher of everything saw, and up to where.
fn archive(watcher: u64, replies: &[&Reply]) -> Result<(Revision, Vec<Event>), String> {
    let (mut seen, mut events) = (Revision(0), Vec::new());
    for reply in replies {
        if reply.compacted.is_some() || reply.after != seen {
            return Err(format!(
                "the watcher of everything {watcher} did not go on from {seen}: it asked from {} ({:?})",
                reply.after, reply.compacted
            ));
        }
        events.extend(reply.events.iter().cloned());
        seen = reply.revision;
    }
    match events
        .windows(2)
        .find(|pair| pair[1].revision < pair[0].revision)
    {
        Some(pair) => Err(format!(
            "watcher {watcher} saw revision {} after {}",
            pair[1].revision, pair[0].revision
        )),
        None => Ok((seen, events)),
    }
}

/// The first difference of two histories, as text.
fn differ(ours: &[Event], theirs: &[Event]) -> Option<(String, String)> {
    let at = (0..ours.len().max(theirs.len())).find(|at| ours.get(*at) != theirs.get(*at))?;
    let shown = |events: &[Event]| {
        events
            .get(at)
            .map_or("nothing".to_owned(), |event| format!("{event:?}"))
    };
    Some((shown(ours), shown(theirs)))
}
