//! Following the history: what of it concerns a watch, as JSON.
//!
//! Owns the cursor of a watch, and the store in which an event is kept as JSON for all watches that show it in the same
//! form: it is encoded once, however many look. The state is held only while whole revisions are taken out of it;
//! selecting and encoding happen outside.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tenure_api::Code;
use tenure_state::{Change, Event, KeyEntry, ReadError, Revision, Span, State, resource_of};

use super::caller::Caller;
use super::events::{self, Before};
use super::failure::Failure;
use super::key_ranges::json_bytes;
use super::rights::{Needed, WATCH};
use super::selection::Selection;
use super::shares::{Share, Shares};
use crate::node::{Handle, PIECE};

/// So many bytes of what keys were before are in one page; of the rest only the version is told (`api.md` §7).
const PREVIOUS_BYTES: usize = 8 << 20;
/// So many bytes of encoded events are kept for other watchers: seconds of a busy cluster. Whoever is further behind
/// than that encodes for himself.
const KEPT_BYTES: usize = 8 << 20;

/// What the watchers of a member share.
#[derive(Default)]
pub(super) struct Watchers {
    kept: Mutex<Kept>,
    count: AtomicU64,
    shares: Arc<Shares>,
}

#[derive(Default)]
struct Kept {
    events: BTreeMap<(Revision, usize, Form), Encoded>,
    bytes: usize,
}

/// How an event is shown.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Form {
    Plain,
    WithPrevious,
}

#[derive(Clone, Debug)]
struct Encoded {
    json: Bytes,
    /// About the bytes that the entry before takes in it.
    previous_bytes: usize,
}

/// A watcher among those of this member.
pub(super) struct Seat {
    among: Arc<Watchers>,
    _share: Option<Share>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.among.count.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Watchers {
    /// A place among the watchers, of which there are at most `most`, for whoever has a share of them only.
    ///
    /// # Errors
    ///
    /// `too-many-waiters`.
    pub(super) fn seat(self: &Arc<Self>, most: u64, sharer: Option<&str>) -> Result<Seat, Failure> {
        let share = sharer.map(|identity| self.shares.take(identity, (most, "watchers")));
        let share = share.transpose()?;
        let before = self.count.fetch_add(1, Ordering::AcqRel);
        let seat = Seat {
            among: Arc::clone(self),
            _share: share,
        };
        if before < most {
            return Ok(seat);
        }
        let detail =
            format!("`watchers` is {most} and this member has as many; ask another, or later");
        Err(Failure::new(Code::TooManyWaiters, detail)
            .with("limit", "watchers")
            .with("allowed", most))
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn insert(&mut self, key: (Revision, usize, Form), encoded: Encoded) {
        self.bytes += encoded.json.len();
        if let Some(same) = self.events.insert(key, encoded) {
            self.bytes -= same.json.len();
        }
        // The oldest goes first: most watchers are near the present.
        while KEPT_BYTES < self.bytes {
            let Some((_, oldest)) = self.events.pop_first() else {
                return;
            };
            self.bytes -= oldest.json.len();
        }
    }
}

/// A watch's way through history.
pub(super) struct Following {
    handle: Handle,
    watchers: Arc<Watchers>,
    /// Who is told.
    caller: Caller,
    /// The changes of rights before it was last looked whether the caller may.
    allowed_at: Option<u64>,
    selection: Arc<Selection>,
    previous: bool,
    /// Everything up to here has been seen.
    pub(super) at: Revision,
}

/// Why nothing is told.
pub(super) enum NotTold {
    /// It cannot be read.
    Unread(ReadError),
    /// The caller may not be told.
    Refused(Box<Failure>),
}

/// The selected events of one revision.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// The revision.
    pub(super) revision: Revision,
    /// Its events, each as JSON.
    pub(super) events: Vec<Bytes>,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Page {
    /// Whole revisions in order, each with something selected.
    pub(super) told: Vec<Told>,
    /// Whether there is more at hand.
    pub(super) more: bool,
    pub(super) taken: Taken,
}

/// What of the room of a page is taken.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taken {
    events: usize,
    bytes: usize,
    previous_bytes: usize,
}

/// How much a page holds; it ends at the end of a revision.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Events.
    pub(super) events: usize,
    /// Bytes of JSON, without what keys were before.
    pub(super) bytes: usize,
}

impl Following {
    pub(super) fn new(
        handle: Handle,
        watchers: Arc<Watchers>,
        caller: Caller,
        selection: Arc<Selection>,
        previous: bool,
        at: Revision,
    ) -> Following {
        Following {
            handle,
            watchers,
            caller,
            allowed_at: None,
            selection,
            previous,
            at,
        }
    }

    /// Whether there is more to look at than one piece of history.
    pub(super) fn is_far_behind(&self) -> bool {
        let present = self.handle.read(State::revision);
        PIECE as u64 <= present.0.saturating_sub(self.at.0)
    }

    /// What was selected since [`Following::at`], which moves on to where that has been seen.
    ///
    /// # Errors
    ///
    /// Where history from there on is compacted, this member has not come so far, or the caller may not be told of it any
    /// more.
    pub(super) async fn look(&mut self, room: Room) -> Result<Page, NotTold> {
        let found = self.look_for(room).await;
        let metrics = self.handle.metrics();
        match &found {
            Ok(page) if !page.told.is_empty() => {
                let last = page.told.last().map_or(self.at, |told| told.revision);
                let present = self.handle.read(State::revision);
                metrics.watcher_told(present.0.saturating_sub(last.0));
            }
            Ok(_) | Err(NotTold::Unread(ReadError::Ahead) | NotTold::Refused(_)) => {}
            Err(NotTold::Unread(ReadError::Compacted { .. })) => metrics.watcher_lost_history(),
        }
        found
    }

    /// A piece of history, where the caller may be told of it in the state that has it.
    fn piece(&mut self) -> Result<Span, NotTold> {
        let (caller, selection, allowed_at) = (&self.caller, &self.selection, self.allowed_at);
        let (span, allowed_at) = self.handle.read(|state| {
            let present = state.access().changes();
            // Where nothing has changed since it was looked at, a thousand selectors are not judged again for every event.
            let needed = match allowed_at == Some(present) {
                true => Needed::NOTHING,
                false => selection.needed(WATCH),
            };
            let allowed = caller.may(state, &needed);
            allowed.map_err(|failure| NotTold::Refused(Box::new(failure)))?;
            let span = state.history(self.at, PIECE).map_err(NotTold::Unread)?;
            Ok((span, present))
        })?;
        self.allowed_at = Some(allowed_at);
        Ok(span)
    }

    async fn look_for(&mut self, room: Room) -> Result<Page, NotTold> {
        let mut page = Page::default();
        loop {
            let span = match self.piece() {
                Ok(span) => span,
                Err(refused @ NotTold::Refused(_)) => return Err(refused),
                // What was found before is told; the next look says what became of the rest.
                Err(_) if !page.told.is_empty() => {
                    page.more = true;
                    return Ok(page);
                }
                Err(error) => return Err(error),
            };
            let Span {
                changes,
                through,
                more,
            } = span;
            for change in &changes {
                let Some(positions) = self.selected(change) else {
                    continue;
                };
                let previous_bytes = page.taken.previous_bytes;
                let encoded = match self.encode(change, &positions, previous_bytes).await {
                    Ok(encoded) => encoded,
                    Err(_) if !page.told.is_empty() => {
                        page.more = true;
                        return Ok(page);
                    }
                    Err(error) => return Err(NotTold::Unread(error)),
                };
                if !page.take(change.revision, encoded, room) {
                    return Ok(page);
                }
                self.at = change.revision;
            }
            self.at = self.at.max(through);
            if !more {
                return Ok(page);
            }
            // Entries are applied in between, and others have their turn.
            tokio::task::yield_now().await;
        }
    }

    /// The places of the selected events of a revision, where there are any.
    fn selected(&self, change: &Change) -> Option<Vec<usize>> {
        let selected = |event: &Event| self.selection.selects(&resource_of(event));
        let positions: Vec<usize> = change
            .events
            .iter()
            .enumerate()
            .filter_map(|(position, event)| selected(event).then_some(position))
            .collect();
        (!positions.is_empty()).then_some(positions)
    }

    async fn encode(
        &self,
        change: &Change,
        positions: &[usize],
        previous_bytes: usize,
    ) -> Result<Vec<Encoded>, ReadError> {
        if !self.previous {
            return Ok(self.encode_plain(change, positions));
        }
        let mut left = PREVIOUS_BYTES.saturating_sub(previous_bytes);
        let mut encoded = Vec::with_capacity(positions.len());
        for some in positions.chunks(PIECE) {
            for one in self.encode_with_previous(change, some, &mut left)? {
                encoded.push(one);
            }
            if some.len() == PIECE {
                tokio::task::yield_now().await;
            }
        }
        Ok(encoded)
    }

    fn encode_plain(&self, change: &Change, positions: &[usize]) -> Vec<Encoded> {
        let at = |position: usize| (change.revision, position, Form::Plain);
        let found: Vec<Option<Encoded>> = {
            let kept = self.watchers.kept();
            positions
                .iter()
                .map(|position| kept.events.get(&at(*position)).cloned())
                .collect()
        };
        let encode = |(position, found): (&usize, Option<Encoded>)| {
            found.unwrap_or_else(|| {
                let json =
                    events::encode(change.revision, &change.events[*position], Before::Untold);
                let encoded = Encoded {
                    json,
                    previous_bytes: 0,
                };
                self.watchers.kept().insert(at(*position), encoded.clone());
                encoded
            })
        };
        positions.iter().zip(found).map(encode).collect()
    }

    /// A few events with what their keys were before, of which there are `left` bytes to tell.
    fn encode_with_previous(
        &self,
        change: &Change,
        positions: &[usize],
        left: &mut usize,
    ) -> Result<Vec<Encoded>, ReadError> {
        let before = self
            .handle
            .read(|state| befores(state, change, positions))?;
        let mut encoded = Vec::with_capacity(positions.len());
        for (position, before) in positions.iter().zip(before) {
            let event = &change.events[*position];
            let size = before.as_ref().map_or(0, |entry| json_bytes(entry));
            if !is_of_key(event) {
                encoded.extend(self.encode_plain(change, &[*position]));
            } else if size <= *left {
                *left -= size;
                let key = (change.revision, *position, Form::WithPrevious);
                let found = self.watchers.kept().events.get(&key).cloned();
                encoded.push(found.unwrap_or_else(|| {
                    let shown = Before::Told(before.as_ref());
                    let one = Encoded {
                        json: events::encode(change.revision, event, shown),
                        previous_bytes: size,
                    };
                    self.watchers.kept().insert(key, one.clone());
                    one
                }));
            } else {
                let version = before.map_or(Revision(0), |entry| entry.mod_revision);
                encoded.push(Encoded {
                    json: events::encode(change.revision, event, Before::Omitted(version)),
                    previous_bytes: 0,
                });
            }
        }
        Ok(encoded)
    }
}

fn is_of_key(event: &Event) -> bool {
    match event {
        Event::Put(_) | Event::Delete { .. } => true,
        Event::Granted(_)
        | Event::Queued { .. }
        | Event::Proclaimed { .. }
        | Event::Released { .. }
        | Event::Left { .. }
        | Event::LeaseGranted { .. }
        | Event::LeaseEnded { .. } => false,
    }
}

/// What the keys of these events were before them.
fn befores(
    state: &State,
    change: &Change,
    positions: &[usize],
) -> Result<Vec<Option<Arc<KeyEntry>>>, ReadError> {
    let before = Revision(change.revision.0.saturating_sub(1));
    let of = |position: &usize| match &change.events[*position] {
        Event::Put(entry) => state.key_at(before, &entry.key),
        Event::Delete { key, .. } => state.key_at(before, key),
        Event::Granted(_)
        | Event::Queued { .. }
        | Event::Proclaimed { .. }
        | Event::Released { .. }
        | Event::Left { .. }
        | Event::LeaseGranted { .. }
        | Event::LeaseEnded { .. } => Ok(None),
    };
    positions.iter().map(of).collect()
}

impl Page {
    /// Takes a revision, whole; where the page is full already, it says so and there is more.
    fn take(&mut self, revision: Revision, encoded: Vec<Encoded>, room: Room) -> bool {
        let previous: usize = encoded.iter().map(|one| one.previous_bytes).sum();
        let bytes: usize = encoded.iter().map(|one| one.json.len()).sum();
        let bytes = bytes.saturating_sub(previous);
        let over = room.events < self.taken.events + encoded.len()
            || room.bytes < self.taken.bytes + bytes;
        if over && !self.told.is_empty() {
            self.more = true;
            return false;
        }
        self.taken.events += encoded.len();
        self.taken.bytes += bytes;
        self.taken.previous_bytes += previous;
        self.told.push(Told {
            revision,
            events: encoded.into_iter().map(|one| one.json).collect(),
        });
        true
    }
}

/// Elements of an array of JSON.
pub(super) fn join<'a>(into: &mut Vec<u8>, elements: impl Iterator<Item = &'a Bytes>) {
    for (number, element) in elements.enumerate() {
        if number > 0 {
            into.push(b',');
        }
        into.extend_from_slice(element);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(bytes: usize) -> Encoded {
        Encoded {
            json: Bytes::from(vec![b'x'; bytes]),
            previous_bytes: 0,
        }
    }

    #[test]
    fn a_page_ends_at_the_end_of_a_revision_and_has_one_at_least() {
        let room = Room {
            events: 3,
            bytes: 100,
        };
        let mut page = Page::default();
        assert!(
            page.take(Revision(2), vec![encoded(1); 5], room),
            "whole, though too many"
        );
        assert!(!page.take(Revision(3), vec![encoded(1)], room) && page.more);
        let mut page = Page::default();
        assert!(page.take(Revision(2), vec![encoded(60); 1], room));
        assert!(page.take(Revision(3), vec![encoded(40); 1], room));
        assert!(!page.take(Revision(4), vec![encoded(1); 1], room));
        assert_eq!(page.told.len(), 2);
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_oldest_goes_first() {
        let mut kept = Kept::default();
        for revision in 2..20 {
            kept.insert((Revision(revision), 0, Form::Plain), encoded(1 << 20));
        }
        kept.insert((Revision(19), 0, Form::Plain), encoded(1 << 20));
        assert_eq!((kept.events.len(), kept.bytes), (8, 8 << 20));
        assert!(kept.events.keys().all(|(revision, ..)| revision.0 >= 12));
    }

    #[test]
    fn watchers_are_bounded_and_give_their_place_back() {
        let watchers = Arc::new(Watchers::default());
        let seats = (watchers.seat(2, None), watchers.seat(2, None));
        assert!(seats.0.is_ok() && seats.1.is_ok());
        let refused = watchers
            .seat(2, None)
            .map(|_| ())
            .expect_err("there are two");
        assert_eq!(refused.code, Code::TooManyWaiters);
        drop(seats);
        let seat = watchers.seat(2, Some("a"));
        assert!(seat.is_ok() && watchers.seat(2, Some("a")).is_err());
        assert!(watchers.seat(2, Some("b")).is_ok());
    }
}
