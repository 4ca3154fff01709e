//! Keys with their versions, ordered, with a cheap count of any range.
//!
//! Owns the versions of every key from the compact revision on. A sorted run of chunks, each of which knows how many
//! of its keys are live: a million keys are a few thousand chunks, so a range is counted by adding a few thousand
//! numbers, and an insert moves a few kilobytes. Never knows of rows, leases or events.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::answer::KeyEntry;
use crate::ids::{Clock, Revision};
use crate::pages::{KeyRange, Order};

/// How many keys a chunk holds before it is split: moving so many is about as dear as finding the chunk.
const CHUNK: usize = 256;
/// How many versions a key may keep room for that it does not have any more.
const MOST_SPARE_VERSIONS: usize = 64;

/// What a key became at a revision.
#[derive(Clone, Debug)]
pub(crate) enum Became {
    Put(Arc<KeyEntry>),
    Deleted(Revision),
}

/// A version of a key, and where its row of history is.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub became: Became,
    /// Its position within its revision.
    pub position: u32,
    /// The clock of its entry.
    pub clock: Clock,
}

impl Version {
    pub(crate) fn revision(&self) -> Revision {
        match &self.became {
            Became::Put(entry) => entry.mod_revision,
            Became::Deleted(revision) => *revision,
        }
    }

    fn entry(&self) -> Option<&Arc<KeyEntry>> {
        match &self.became {
            Became::Put(entry) => Some(entry),
            Became::Deleted(_) => None,
        }
    }
}

/// Versions before the last, oldest first. Most keys have none, so it is a pointer.
#[derive(Clone, Debug, Default)]
struct Older(VecDeque<Version>);

impl Older {
    /// How many of them are of this revision or before.
    fn through(&self, revision: Revision) -> usize {
        self.0
            .partition_point(|version| version.revision() <= revision)
    }

    /// Takes out the first ones. What they took is given back once it is most of what there is, so that a key that was
    /// written often once does not keep it, and none is moved twice for nothing.
    fn forget(&mut self, first: usize) -> Vec<Version> {
        let forgotten = self.0.drain(..first).collect();
        if MOST_SPARE_VERSIONS < self.0.capacity() && self.0.len() < self.0.capacity() / 4 {
            self.0.shrink_to(self.0.len() * 2);
        }
        forgotten
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Versions {
    last: Version,
    older: Option<Box<Older>>,
}

impl Versions {
    fn iter(&self) -> impl DoubleEndedIterator<Item = &Version> {
        self.older
            .iter()
            .flat_map(|older| &older.0)
            .chain([&self.last])
    }

    /// The version that a read at a revision sees.
    fn seen_at(&self, revision: Revision) -> Option<&Version> {
        if self.last.revision() <= revision {
            return Some(&self.last);
        }
        let older = self.older.as_ref()?;
        older.0.get(older.through(revision).checked_sub(1)?)
    }

    /// The entry as it was at a revision.
    fn at(&self, revision: Revision) -> Option<&Arc<KeyEntry>> {
        self.seen_at(revision)?.entry()
    }

    fn is_live(&self) -> bool {
        self.last.entry().is_some()
    }

    /// Takes out the versions that no read from `compact` on can see, and says whether that is all of them. What it
    /// costs goes by how many it takes out, not by how many there are: a busy key has hundreds of thousands.
    fn forget(&mut self, compact: Revision) -> (Vec<Version>, bool) {
        let gone = self.last.revision() <= compact && !self.is_live();
        let mut forgotten = Vec::new();
        if let Some(older) = &mut self.older {
            // What was there at the compact revision is still seen, unless it was a deletion, or all after it is gone.
            let through = older.through(compact);
            let first = if self.last.revision() <= compact {
                older.0.len()
            } else {
                let seen = through.checked_sub(1).and_then(|at| older.0.get(at));
                through - usize::from(seen.is_some_and(|seen| seen.entry().is_some()))
            };
            forgotten = older.forget(first);
        }
        if self.older.as_ref().is_some_and(|older| older.0.is_empty()) {
            self.older = None;
        }
        if gone {
            forgotten.push(self.last.clone());
        }
        (forgotten, gone)
    }
}

#[derive(Clone, Debug, Default)]
struct Chunk {
    entries: Vec<(Box<[u8]>, Versions)>,
    live: usize,
    /// No version in it is newer: what is counted at this revision or a later one is what is live.
    newest: Revision,
}

/// All keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys {
    /// None is empty.
    chunks: Vec<Chunk>,
    /// How many keys are live.
    pub live: u64,
    /// Bytes of live keys and values.
    pub live_bytes: u64,
}

impl Keys {
    /// The keys of versions that are in the order of keys, and of revisions within a key.
    pub(crate) fn from_sorted(versions: impl Iterator<Item = (Box<[u8]>, Version)>) -> Keys {
        let mut keys = Keys::default();
        for (key, version) in versions {
            keys.add(&key, version);
        }
        keys
    }

    /// The live entry of a key.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Arc<KeyEntry>> {
        self.versions(key)?.last.entry()
    }

    /// The entry of a key as it was at a revision.
    pub(crate) fn at(&self, key: &[u8], revision: Revision) -> Option<&Arc<KeyEntry>> {
        self.versions(key)?.at(revision)
    }

    /// The version of a key that was made at a revision, or the last one before it.
    pub(crate) fn version_at(&self, key: &[u8], revision: Revision) -> Option<&Version> {
        self.versions(key)?.seen_at(revision)
    }

    fn versions(&self, key: &[u8]) -> Option<&Versions> {
        let chunk = self.chunk_of(key);
        let entries = &self.chunks.get(chunk)?.entries;
        let at = entries
            .binary_search_by(|(present, _)| present[..].cmp(key))
            .ok()?;
        Some(&entries[at].1)
    }

    /// The chunk that holds a key, or would.
    fn chunk_of(&self, key: &[u8]) -> usize {
        self.chunks
            .partition_point(|chunk| {
                chunk
                    .entries
                    .first()
                    .is_none_or(|(first, _)| &first[..] <= key)
            })
            .saturating_sub(1)
    }

    /// Adds a version, newer than those there.
    pub(crate) fn add(&mut self, key: &[u8], version: Version) {
        if self.chunks.is_empty() {
            self.chunks.push(Chunk::default());
        }
        let index = self.chunk_of(key);
        let chunk = &mut self.chunks[index];
        chunk.newest = chunk.newest.max(version.revision());
        let is_live = version.entry().map(|entry| bytes_of(entry));
        let was_live = match chunk
            .entries
            .binary_search_by(|(present, _)| present[..].cmp(key))
        {
            Ok(at) => {
                let versions = &mut chunk.entries[at].1;
                let was = versions.last.entry().map(|entry| bytes_of(entry));
                let before = std::mem::replace(&mut versions.last, version);
                versions.older.get_or_insert_default().0.push_back(before);
                was
            }
            Err(at) => {
                chunk.entries.insert(
                    at,
                    (
                        key.into(),
                        Versions {
                            last: version,
                            older: None,
                        },
                    ),
                );
                None
            }
        };
        chunk.live = chunk.live + usize::from(is_live.is_some()) - usize::from(was_live.is_some());
        self.live = self.live + u64::from(is_live.is_some()) - u64::from(was_live.is_some());
        self.live_bytes = self.live_bytes + is_live.unwrap_or(0) - was_live.unwrap_or(0);
        if CHUNK < self.chunks[index].entries.len() {
            self.split(index);
        }
    }

    /// Splits a chunk in halves, but the last one at its end: keys that arrive in order then fill chunks whole.
    fn split(&mut self, index: usize) {
        let last = index + 1 == self.chunks.len();
        let chunk = &mut self.chunks[index];
        let at = if last {
            chunk.entries.len() - 1
        } else {
            chunk.entries.len() / 2
        };
        let entries = chunk.entries.split_off(at);
        let live = entries
            .iter()
            .filter(|(_, versions)| versions.is_live())
            .count();
        chunk.live -= live;
        let newest = chunk.newest;
        let rest = Chunk {
            entries,
            live,
            newest,
        };
        self.chunks.insert(index + 1, rest);
    }

    /// Forgets the versions of a key that no read from `compact` on can see, and returns them.
    pub(crate) fn forget(&mut self, key: &[u8], compact: Revision) -> Vec<Version> {
        let index = self.chunk_of(key);
        let Some(chunk) = self.chunks.get_mut(index) else {
            return Vec::new();
        };
        let Ok(at) = chunk
            .entries
            .binary_search_by(|(present, _)| present[..].cmp(key))
        else {
            return Vec::new();
        };
        let (forgotten, gone) = chunk.entries[at].1.forget(compact);
        if gone {
            chunk.entries.remove(at);
            self.shrink(index);
        }
        forgotten
    }

    /// Removes an empty chunk, and joins a small one to the next.
    fn shrink(&mut self, index: usize) {
        if self.chunks[index].entries.is_empty() {
            self.chunks.remove(index);
        } else if let [chunk, next, ..] = &mut self.chunks[index..]
            && chunk.entries.len() + next.entries.len() <= CHUNK / 2
        {
            chunk.entries.append(&mut next.entries);
            chunk.live += next.live;
            chunk.newest = chunk.newest.max(next.newest);
            self.chunks.remove(index + 1);
        }
    }

    /// Live entries, in order. Chunks without one are passed over whole.
    pub(crate) fn live_range<'a>(
        &'a self,
        start: Bound<&'a [u8]>,
        end: Option<&'a [u8]>,
    ) -> impl Iterator<Item = &'a Arc<KeyEntry>> {
        let first = self.first_chunk(start);
        let chunks = self.chunks[first..].iter();
        chunks
            .take_while(move |chunk| end.is_none_or(|end| &chunk.entries[0].0[..] < end))
            .filter(|chunk| 0 < chunk.live)
            .flat_map(move |chunk| chunk.within(start, end))
            .filter_map(|(_, versions)| versions.last.entry())
    }

    /// How many keys of a half-open range are live.
    pub(crate) fn count(&self, start: Bound<&[u8]>, end: Option<&[u8]>) -> u64 {
        let first = self.first_chunk(start);
        let last = self.chunks_before(end);
        let live = |entries: &[(Box<[u8]>, Versions)]| {
            entries.iter().filter(|entry| entry.1.is_live()).count()
        };
        let mut count = 0;
        for (index, chunk) in self.chunks.iter().enumerate().take(last).skip(first) {
            let whole = first < index && index + 1 < last;
            count += if whole {
                chunk.live
            } else {
                live(chunk.within(start, end))
            };
        }
        count as u64
    }

    /// Every key of a range that has a version, with its entry as it was at a revision.
    pub(crate) fn walk<'a>(
        &'a self,
        revision: Revision,
        range: &'a KeyRange,
        order: Order,
    ) -> impl Iterator<Item = (&'a [u8], Option<&'a Arc<KeyEntry>>)> {
        let (start, end) = bounds(range);
        let mut ascending = None;
        let mut descending = None;
        match order {
            Order::Ascending => ascending = Some(self.range(start, end)),
            Order::Descending => {
                let first = self.first_chunk(start).min(self.chunks.len());
                let last = self.chunks_before(end).max(first);
                let chunks = self.chunks[first..last].iter().rev();
                descending =
                    Some(chunks.flat_map(move |chunk| chunk.within(start, end).iter().rev()));
            }
        }
        let both = ascending
            .into_iter()
            .flatten()
            .chain(descending.into_iter().flatten());
        both.map(move |(key, versions)| (&key[..], versions.at(revision)))
    }

    /// How many keys of a range there were at a revision, and where to go on once about `max_rows` were looked at. A
    /// chunk that has not changed since is one row.
    pub(crate) fn count_at(
        &self,
        revision: Revision,
        range: &KeyRange,
        max_rows: usize,
    ) -> (u64, Option<Bytes>) {
        let (start, end) = bounds(range);
        let first = self.first_chunk(start);
        let last = self.chunks_before(end);
        let (mut count, mut rows) = (0, 0);
        for chunk in self.chunks.iter().take(last).skip(first) {
            let entries = chunk.within(start, end);
            let whole = entries.len() == chunk.entries.len() && chunk.newest <= revision;
            let cost = if whole { 1 } else { entries.len() };
            if max_rows < rows + cost && 0 < rows {
                return (count, Some(Bytes::copy_from_slice(&chunk.entries[0].0)));
            }
            rows += cost;
            count += match whole {
                true => chunk.live as u64,
                false => entries
                    .iter()
                    .filter(|(_, versions)| versions.at(revision).is_some())
                    .count() as u64,
            };
        }
        (count, None)
    }

    /// How many chunks begin before the end of a range.
    fn chunks_before(&self, end: Option<&[u8]>) -> usize {
        end.map_or(self.chunks.len(), |end| {
            self.chunks
                .partition_point(|chunk| &chunk.entries[0].0[..] < end)
        })
    }

    /// Every version of every key, in the order of keys.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Version> {
        self.chunks
            .iter()
            .flat_map(|chunk| &chunk.entries)
            .flat_map(|(_, versions)| versions.iter())
    }

    fn range<'a>(
        &'a self,
        start: Bound<&'a [u8]>,
        end: Option<&'a [u8]>,
    ) -> impl Iterator<Item = &'a (Box<[u8]>, Versions)> {
        let first = self.first_chunk(start);
        self.chunks[first..]
            .iter()
            .take_while(move |chunk| end.is_none_or(|end| &chunk.entries[0].0[..] < end))
            .flat_map(move |chunk| chunk.within(start, end))
    }

    fn first_chunk(&self, start: Bound<&[u8]>) -> usize {
        match start {
            Bound::Unbounded => 0,
            Bound::Included(key) | Bound::Excluded(key) => self.chunk_of(key),
        }
    }

    pub(crate) fn check_invariants(&self) {
        let mut before: Option<&[u8]> = None;
        let (mut count, mut bytes) = (0, 0);
        for chunk in &self.chunks {
            assert!(
                !chunk.entries.is_empty() && chunk.entries.len() <= CHUNK,
                "a chunk of {}",
                chunk.entries.len()
            );
            let live = chunk
                .entries
                .iter()
                .filter_map(|(_, versions)| versions.last.entry());
            assert_eq!(chunk.live, live.clone().count(), "live keys of a chunk");
            count += chunk.live as u64;
            bytes += live.map(|entry| bytes_of(entry)).sum::<u64>();
            for (key, versions) in &chunk.entries {
                assert!(
                    versions.last.revision() <= chunk.newest,
                    "the newest of a chunk"
                );
                assert!(
                    before.is_none_or(|before| before < &key[..]),
                    "keys out of order at {key:?}"
                );
                before = Some(key);
                assert!(
                    versions
                        .iter()
                        .next()
                        .is_some_and(|first| first.entry().is_some()),
                    "begins with a deletion"
                );
                assert!(
                    versions
                        .iter()
                        .is_sorted_by(|a, b| a.revision() < b.revision()),
                    "versions of {key:?}"
                );
            }
        }
        assert_eq!(
            (count, bytes),
            (self.live, self.live_bytes),
            "live keys and their bytes"
        );
    }
}

impl Chunk {
    fn within(&self, start: Bound<&[u8]>, end: Option<&[u8]>) -> &[(Box<[u8]>, Versions)] {
        let from = self.entries.partition_point(|(key, _)| match start {
            Bound::Unbounded => false,
            Bound::Included(start) => &key[..] < start,
            Bound::Excluded(start) => &key[..] <= start,
        });
        let to = end.map_or(self.entries.len(), |end| {
            self.entries.partition_point(|(key, _)| &key[..] < end)
        });
        &self.entries[from..to.max(from)]
    }
}

fn bounds(range: &KeyRange) -> (Bound<&[u8]>, Option<&[u8]>) {
    let end = range.end.as_ref().map(|end| &end[..]);
    (Bound::Included(&range.start), end)
}

/// Bytes of a key and its value.
pub(crate) fn bytes_of(entry: &KeyEntry) -> u64 {
    (entry.key.len() + entry.value.len()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(revision: u64, live: bool) -> Version {
        let revision = Revision(revision);
        let entry = || {
            Arc::new(KeyEntry {
                key: "k".into(),
                value: Bytes::new(),
                content_type: None,
                create_revision: Revision(1),
                mod_revision: revision,
                version: 1,
                lease: None,
            })
        };
        Version {
            became: if live {
                Became::Put(entry())
            } else {
                Became::Deleted(revision)
            },
            position: 0,
            clock: Clock(0),
        }
    }

    fn keys_of(versions: &[(u64, bool)]) -> Keys {
        let mut keys = Keys::default();
        for (revision, live) in versions {
            keys.add(b"k", version(*revision, *live));
        }
        keys
    }

    fn forgotten(keys: &mut Keys, compact: u64) -> Vec<u64> {
        let gone = keys.forget(b"k", Revision(compact));
        gone.iter().map(|version| version.revision().0).collect()
    }

    fn left(keys: &Keys) -> Vec<u64> {
        keys.all().map(|version| version.revision().0).collect()
    }

    #[test]
    fn what_a_read_at_the_compact_revision_sees_is_kept() {
        let mut keys = keys_of(&[(2, true), (4, true), (6, true)]);
        assert_eq!(forgotten(&mut keys, 1), [0; 0]);
        assert_eq!(forgotten(&mut keys, 3), [0; 0]);
        assert_eq!(forgotten(&mut keys, 5), [2]);
        assert_eq!(left(&keys), [4, 6]);
        assert_eq!(forgotten(&mut keys, 6), [4]);
        assert_eq!(forgotten(&mut keys, 9), [0; 0]);
        assert_eq!(left(&keys), [6]);
    }

    #[test]
    fn a_deletion_goes_with_what_it_deleted() {
        let mut keys = keys_of(&[(2, true), (4, false), (6, true), (8, false)]);
        assert_eq!(forgotten(&mut keys, 4), [2, 4]);
        assert_eq!(left(&keys), [6, 8]);
        assert_eq!(forgotten(&mut keys, 8), [6, 8]);
        assert_eq!(left(&keys), [0; 0]);
    }

    #[test]
    fn a_read_finds_the_version_of_its_revision_among_many() {
        let keys = keys_of(&[(2, true), (4, false), (6, true), (8, true)]);
        let seen = |revision| {
            let entry = keys.at(b"k", Revision(revision));
            entry.map(|entry| entry.mod_revision.0)
        };
        let all: Vec<_> = (1..=9).map(seen).collect();
        let expected = [
            None,
            Some(2),
            Some(2),
            None,
            None,
            Some(6),
            Some(6),
            Some(8),
            Some(8),
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn a_key_that_was_busy_gives_back_what_its_versions_took() {
        let many: Vec<_> = (2..100_000).map(|revision| (revision, true)).collect();
        let mut keys = keys_of(&many);
        for compact in 2..99_990 {
            keys.forget(b"k", Revision(compact));
        }
        let older = keys.chunks[0].entries[0].1.older.as_ref();
        let older = older.expect("ten versions are left");
        assert_eq!(older.0.len(), 10);
        assert!(older.0.capacity() <= MOST_SPARE_VERSIONS);
    }
}
