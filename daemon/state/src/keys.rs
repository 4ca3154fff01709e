//! Keys with their versions, ordered, with a cheap count of any range.
//!
//! Owns the versions of every key from the compact revision on. A sorted run of chunks, each of which knows how many
//! of its keys are live: a million keys are a few thousand chunks, so a range is counted by adding a few thousand
//! numbers, and an insert moves a few kilobytes. Never knows of rows, leases or events.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::answer::KeyEntry;
use crate::ids::{Clock, Revision};
use crate::pages::{KeyRange, Order};

/// How many keys a chunk holds before it is split: moving so many is about as dear as finding the chunk.
const CHUNK: usize = 256;

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
struct Older(Vec<Version>);

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

    /// The entry as it was at a revision.
    fn at(&self, revision: Revision) -> Option<&Arc<KeyEntry>> {
        self.iter()
            .rev()
            .find(|version| version.revision() <= revision)?
            .entry()
    }

    fn is_live(&self) -> bool {
        self.last.entry().is_some()
    }

    /// Takes out the versions that no read from `compact` on can see.
    fn forget(&mut self, compact: Revision) -> (Vec<Version>, bool) {
        let mut all = self.older.take().map(|older| older.0).unwrap_or_default();
        all.push(self.last.clone());
        let seen = all
            .iter()
            .rposition(|version| version.revision() <= compact);
        let keep_from = match seen {
            None => 0,
            Some(at) if all[at].entry().is_none() => at + 1,
            Some(at) => at,
        };
        let kept = all.split_off(keep_from);
        let gone = kept.is_empty();
        let mut kept = kept;
        if let Some(last) = kept.pop() {
            self.last = last;
            self.older = (!kept.is_empty()).then(|| Box::new(Older(kept)));
        }
        (all, gone)
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

    /// Every version of a key, oldest first.
    pub(crate) fn versions_of(&self, key: &[u8]) -> impl Iterator<Item = &Version> {
        self.versions(key).into_iter().flat_map(Versions::iter)
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
                versions.older.get_or_insert_default().0.push(before);
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
