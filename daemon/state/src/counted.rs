//! An ordered set that knows how many of its members come before any point.
//!
//! Owns the same idea as the keys: a sorted run of chunks, so that a count adds the lengths of some thousand chunks
//! where a tree would be walked member by member. Points are given as conditions that hold for every member before them
//! and for none after, since a name's prefix has an end that is no name.

/// How many members a chunk holds before it is split.
const CHUNK: usize = 256;

/// The set.
#[derive(Clone, Debug)]
pub(crate) struct Counted<T> {
    /// None is empty.
    chunks: Vec<Vec<T>>,
}

impl<T> Default for Counted<T> {
    fn default() -> Counted<T> {
        Counted { chunks: Vec::new() }
    }
}

impl<T: Ord> Counted<T> {
    pub(crate) fn insert(&mut self, member: T) {
        if self.chunks.is_empty() {
            self.chunks.push(Vec::new());
        }
        let index = self.chunk_of(&member);
        let chunk = &mut self.chunks[index];
        let Err(at) = chunk.binary_search(&member) else {
            return;
        };
        chunk.insert(at, member);
        if CHUNK < chunk.len() {
            self.split(index);
        }
    }

    pub(crate) fn remove(&mut self, member: &T) {
        let index = self.chunk_of(member);
        let Some(chunk) = self.chunks.get_mut(index) else {
            return;
        };
        let Ok(at) = chunk.binary_search(member) else {
            return;
        };
        chunk.remove(at);
        self.shrink(index);
    }

    /// How many members come before a point.
    pub(crate) fn count_before(&self, is_before: impl Fn(&T) -> bool) -> usize {
        let (chunk, at) = self.point(is_before);
        let whole: usize = self.chunks[..chunk].iter().map(Vec::len).sum();
        whole + at
    }

    /// The members after a point, in order.
    pub(crate) fn after_point(&self, is_before: impl Fn(&T) -> bool) -> impl Iterator<Item = &T> {
        let (chunk, at) = self.point(is_before);
        self.chunks[chunk..].iter().flatten().skip(at)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }

    /// The chunk in which a point lies, and where in it.
    fn point(&self, is_before: impl Fn(&T) -> bool) -> (usize, usize) {
        let after = self
            .chunks
            .partition_point(|chunk| chunk.first().is_some_and(&is_before));
        let Some(chunk) = after.checked_sub(1) else {
            return (0, 0);
        };
        (chunk, self.chunks[chunk].partition_point(is_before))
    }

    /// The chunk that holds a member, or would.
    fn chunk_of(&self, member: &T) -> usize {
        self.chunks
            .partition_point(|chunk| chunk.first().is_none_or(|first| first <= member))
            .saturating_sub(1)
    }

    /// Splits a chunk in halves, but the last one at its end: members that arrive in order then fill chunks whole.
    fn split(&mut self, index: usize) {
        let last = index + 1 == self.chunks.len();
        let chunk = &mut self.chunks[index];
        let at = if last {
            chunk.len() - 1
        } else {
            chunk.len() / 2
        };
        let rest = chunk.split_off(at);
        self.chunks.insert(index + 1, rest);
    }

    /// Removes an empty chunk, and joins a small one to the next.
    fn shrink(&mut self, index: usize) {
        if self.chunks[index].is_empty() {
            self.chunks.remove(index);
        } else if let [chunk, next, ..] = &mut self.chunks[index..]
            && chunk.len() + next.len() <= CHUNK / 2
        {
            chunk.append(next);
            self.chunks.remove(index + 1);
        }
    }
}

impl<T: Ord> FromIterator<T> for Counted<T> {
    fn from_iter<I: IntoIterator<Item = T>>(members: I) -> Counted<T> {
        let mut counted = Counted::default();
        for member in members {
            counted.insert(member);
        }
        counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn it_counts_and_lists_as_a_plain_set_does() {
        let mut counted = Counted::default();
        let mut plain = BTreeSet::new();
        // A fixed walk over a small field: it grows, splits, shrinks and joins chunks.
        let mut at = 1u64;
        for step in 0..40_000u64 {
            at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let member = at >> 52;
            let grows = (step / 8000) % 2 == 0;
            match grows || (at >> 20).is_multiple_of(8) {
                true => {
                    counted.insert(member);
                    plain.insert(member);
                }
                false => {
                    counted.remove(&member);
                    plain.remove(&member);
                }
            }
            if step % 97 == 0 {
                let point = (at >> 30) % 4200;
                assert_eq!(
                    counted.count_before(|member| *member < point),
                    plain.range(..point).count()
                );
                assert!(counted.after_point(|m| *m < point).eq(plain.range(point..)));
                assert_eq!(
                    (counted.iter().count(), counted.iter().next()),
                    (plain.len(), plain.first())
                );
            }
        }
        assert!(counted.iter().eq(&plain));
        for member in &plain {
            counted.remove(member);
        }
        assert!(counted.chunks.is_empty());
    }
}
