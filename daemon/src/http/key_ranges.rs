//! Ranges of keys: listing and deleting them (`api.md` §6).
//!
//! Owns the pages of a list. A page is read in pieces at one revision while entries are applied in between, so what it
//! shows never mixes two states, and no list holds up a write.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::HeaderMap;
use http::header::{IF_MATCH, IF_NONE_MATCH};
use tenure_api::{self as api, Code};
use tenure_state::{
    Collection, KeyEntry, KeyRange, Operation, OperationResult, Order, ReadError, Revision, Scope,
    State, Transaction,
};

use super::failure::Failure;
use super::guard;
use super::keys::{self, Done};
use super::reading::Reading;
use super::reply::Reply;
use super::rights::{LIST, LIST_WITH_VALUES, Needed};
use super::service::Context;
use super::text;
use crate::node::PIECE;

/// A page has so many entries unless it is asked for fewer or more.
const PAGE_DEFAULT: u64 = 1_000;
/// And never more than this.
const PAGE_MOST: u64 = 10_000;
/// A page ends before this many bytes of JSON, unless its first entry alone has more.
const PAGE_BYTES: usize = 4 << 20;
/// So many counts are remembered, each with the names that bound its range: more lists than are read in pages at a time.
const COUNTS: usize = 256;
/// How often a page is begun anew where its revision was compacted under it.
const PAGE_TRIES: usize = 3;

/// `DELETE /v1/keys?prefix=…`
pub(super) async fn delete(mut cx: Context<'_>) -> Result<Reply, Failure> {
    let range = doomed(&mut cx)?;
    cx.finish_query()?;
    cx.no_body().await?;
    refuse_conditions(cx.headers)?;
    let transaction = Transaction {
        conditions: Vec::new(),
        then: vec![Operation::DeleteRange {
            start: range.start,
            end: range.end,
        }],
        otherwise: Vec::new(),
        guard: guard::of(cx.headers)?,
    };
    match keys::carry_out(&cx, transaction).await? {
        (revision, Done::Then(OperationResult::Deleted(deleted))) => Reply::json(
            200,
            revision,
            &api::Deleted {
                deleted,
                revision: revision.0,
            },
        ),
        (_, Done::Then(_) | Done::Otherwise(_)) => Err(Failure::unexpected()),
    }
}

/// The range that a delete names. Every key there is takes two words, so that an unset variable deletes nothing.
fn doomed(cx: &mut Context<'_>) -> Result<KeyRange, Failure> {
    let prefix = cx.query.take("prefix")?;
    let all = cx
        .query
        .take("all")?
        .map(|text| text::boolean("all", &text))
        .transpose()?
        .unwrap_or(false);
    let prefix = prefix.ok_or_else(|| {
        Failure::invalid(
            "query parameter `prefix` is missing; `prefix=` with `all=true` is every key",
        )
    })?;
    match (prefix.is_empty(), all) {
        (true, false) => Err(Failure::invalid(
            "the prefix is empty, which is every key; add `all=true` where that is meant",
        )),
        (false, true) => Err(Failure::invalid(
            "`all=true` belongs to an empty prefix, and this one is not; give one of both",
        )),
        (true, true) | (false, false) => {
            let prefix = text::prefix("prefix", prefix)?;
            Ok(KeyRange::prefix(prefix.as_bytes()))
        }
    }
}

fn refuse_conditions(headers: &HeaderMap) -> Result<(), Failure> {
    match headers.contains_key(IF_MATCH) || headers.contains_key(IF_NONE_MATCH) {
        false => Ok(()),
        true => Err(Failure::invalid(
            "If-Match and If-None-Match speak of one key; a prefix has none of its own",
        )),
    }
}

/// `GET /v1/keys?prefix=…`
pub(super) async fn list(mut cx: Context<'_>) -> Result<Reply, Failure> {
    let listing = Listing::of(&mut cx)?;
    let reading = Reading::of(&mut cx)?;
    cx.finish_query()?;
    cx.no_body().await?;
    let needed = listing.needed();
    let settled = reading.settle(&cx, &needed).await?;
    let _turn = cx.turn().await?;
    for _ in 0..PAGE_TRIES {
        match (listing.page(&cx, &needed).await?, listing.revision) {
            (Ok(page), _) => {
                return Ok(settled.mark(Reply::json(200, Revision(page.revision), &page)?));
            }
            (Err(error), Some(asked)) => {
                let present = cx.handle().read(State::revision);
                return Err(settled.mark_failure(reading.unreadable(error, asked, present)));
            }
            // Writes that fill the whole history while one page is read: begin again at the present revision.
            (Err(ReadError::Compacted { .. } | ReadError::Ahead), None) => {}
        }
    }
    Err(Failure::new(
        Code::Overloaded,
        "the history was compacted under this page again and again",
    ))
}

/// What a listing asks for.
#[derive(Debug, Eq, PartialEq)]
struct Listing {
    /// All that matches.
    range: KeyRange,
    /// What of it comes after `start_after`.
    rest: KeyRange,
    order: Order,
    limit: usize,
    keys_only: bool,
    /// As of when; `None` is now.
    revision: Option<Revision>,
}

/// The parameters that say which keys.
#[derive(Debug, Default)]
struct Bounds {
    prefix: Option<String>,
    start: Option<String>,
    end: Option<String>,
}

impl Bounds {
    fn range(self) -> Result<KeyRange, Failure> {
        if self.prefix.is_some() && (self.start.is_some() || self.end.is_some()) {
            return Err(Failure::invalid(
                "`prefix` and `start` or `end` contradict each other; give a prefix or a range",
            ));
        }
        if let Some(prefix) = self.prefix {
            return Ok(KeyRange::prefix(text::prefix("prefix", prefix)?.as_bytes()));
        }
        let start = text::prefix("start", self.start.unwrap_or_default())?;
        let end = self.end.map(|end| text::prefix("end", end)).transpose()?;
        if let Some(end) = &end
            && (*end < start || end.is_empty())
        {
            return Err(Failure::invalid(format!(
                "`end` is {} and comes before `start`, which is {}; the range goes from `start` to before `end`, or \
                 without `end` to the last key",
                text::shown(end),
                text::shown(&start)
            )));
        }
        Ok(KeyRange {
            start: Bytes::from(start),
            end: end.map(Bytes::from),
        })
    }
}

impl Listing {
    fn of(cx: &mut Context<'_>) -> Result<Listing, Failure> {
        let query = &mut cx.query;
        let range = Bounds {
            prefix: query.take("prefix")?,
            start: query.take("start")?,
            end: query.take("end")?,
        }
        .range()?;
        let limit = query.take("limit")?;
        let limit = limit.map(|text| text::number("limit", &text, 1, PAGE_MOST));
        let limit = limit.transpose()?.unwrap_or(PAGE_DEFAULT);
        let order = match query.take("order")?.as_deref() {
            None | Some("asc") => Order::Ascending,
            Some("desc") => Order::Descending,
            Some(other) => {
                let other = text::shown(other);
                let detail = format!("order is {other}; accepted are `asc` and `desc`");
                return Err(Failure::invalid(detail));
            }
        };
        let after = query.take("start_after")?;
        let after = after.map(|text| text::prefix("start_after", text));
        let rest = match after.transpose()? {
            Some(after) => range.after(after.as_bytes(), order),
            None => range.clone(),
        };
        let keys_only = query.take("keys_only")?;
        let keys_only = keys_only.map(|text| text::boolean("keys_only", &text));
        let revision = query.take("revision")?;
        let revision = revision.map(|text| text::revision("revision", &text));
        Ok(Listing {
            range,
            rest,
            order,
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            keys_only: keys_only.transpose()?.unwrap_or(false),
            revision: revision.transpose()?.map(Revision),
        })
    }

    /// What whoever asks must have.
    fn needed(&self) -> Needed<'_> {
        let verbs = match self.keys_only {
            true => LIST,
            false => LIST_WITH_VALUES,
        };
        let range = Scope::Range {
            collection: Collection::Keys,
            start: &self.range.start,
            end: self.range.end.as_deref(),
        };
        Needed::on(verbs, range)
    }

    /// A page, read in pieces at one revision; entries are applied in between. Whoever asks has the rights when the last of
    /// them is read.
    async fn page(
        &self,
        cx: &Context<'_>,
        needed: &Needed<'_>,
    ) -> Result<Result<api::KeyPage, ReadError>, Failure> {
        let page = self.read(cx).await;
        cx.read(needed, |_| page)
    }

    async fn read(&self, cx: &Context<'_>) -> Result<api::KeyPage, ReadError> {
        // One more than the page has shows whether there is more.
        let most = self.limit.saturating_add(1);
        let (revision, count, mut piece) = cx.handle().read(|state| {
            let present = state.revision();
            let revision = self.revision.unwrap_or(present);
            // At the present revision a count costs little; at an older one it is read in pieces too.
            let count = match revision == present {
                true => Some(state.count_piece(revision, &self.range, PIECE)?.count),
                false => None,
            };
            let piece = state.keys_piece(revision, &self.rest, self.order, most, PIECE)?;
            Ok((revision, count, piece))
        })?;
        let count = match (count, cx.counts().get(&self.range, revision)) {
            (Some(count), _) | (None, Some(count)) => count,
            (None, None) => self.count_at(cx, revision).await?,
        };
        let mut page = api::KeyPage {
            keys: Vec::new(),
            more: false,
            next: None,
            count,
            revision: revision.0,
        };
        let mut bytes = 0;
        loop {
            for entry in &piece.keys {
                bytes += self.json_bytes(entry);
                let is_full = bytes > PAGE_BYTES && !page.keys.is_empty();
                if page.keys.len() == self.limit || is_full {
                    page.more = true;
                    // The next page may ask for this revision, and for the same count.
                    cx.counts().put(&self.range, revision, count);
                    page.next = page.keys.last().map(|entry| entry.key.clone());
                    return Ok(page);
                }
                page.keys.push(self.shown(entry));
            }
            let Some(rest) = piece.rest else {
                return Ok(page);
            };
            // Encoding a piece takes a while: others have their turn before the next.
            tokio::task::yield_now().await;
            let most = most - page.keys.len();
            piece = cx
                .handle()
                .read(|state| state.keys_piece(revision, &rest, self.order, most, PIECE))?;
        }
    }

    /// How many keys matched at an older revision.
    async fn count_at(&self, cx: &Context<'_>, revision: Revision) -> Result<u64, ReadError> {
        let (mut count, mut rest) = (0, Some(self.range.clone()));
        while let Some(range) = rest {
            let piece = cx
                .handle()
                .read(|state| state.count_piece(revision, &range, PIECE))?;
            count += piece.count;
            rest = piece.rest;
            tokio::task::yield_now().await;
        }
        Ok(count)
    }

    fn shown(&self, entry: &Arc<KeyEntry>) -> api::Entry {
        match self.keys_only {
            true => keys::shown_without_value(entry),
            false => keys::shown(entry),
        }
    }

    fn json_bytes(&self, entry: &KeyEntry) -> usize {
        let value = match self.keys_only {
            true => text_bytes(&entry.value),
            false => 0,
        };
        json_bytes(entry) - value
    }
}

/// How many keys matched at a revision, of the lists that were asked for lately. To count them anew takes a look at each
/// of them, and whoever reads a list in pages would have all of them counted for every page. What was counted stays true,
/// for no revision ever changes.
#[derive(Debug, Default)]
pub(super) struct Counts(Mutex<VecDeque<Counted>>);

#[derive(Debug)]
struct Counted {
    range: KeyRange,
    revision: Revision,
    count: u64,
}

impl Counts {
    fn get(&self, range: &KeyRange, revision: Revision) -> Option<u64> {
        let mut counted = self.counted();
        let at = counted
            .iter()
            .position(|counted| counted.is_of(range, revision))?;
        // The one that was asked for last is forgotten last.
        let found = counted.remove(at)?;
        let count = found.count;
        counted.push_back(found);
        Some(count)
    }

    fn put(&self, range: &KeyRange, revision: Revision, count: u64) {
        let mut counted = self.counted();
        counted.retain(|counted| !counted.is_of(range, revision));
        if counted.len() == COUNTS {
            counted.pop_front();
        }
        counted.push_back(Counted {
            range: range.clone(),
            revision,
            count,
        });
    }

    fn counted(&self) -> MutexGuard<'_, VecDeque<Counted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    fn is_of(&self, range: &KeyRange, revision: Revision) -> bool {
        self.revision == revision && self.range == *range
    }
}

/// An upper bound of what an entry takes in JSON, near enough to end a page by.
pub(super) fn json_bytes(entry: &KeyEntry) -> usize {
    const FRAME: usize = 200;
    let content_type = entry.content_type.as_ref().map_or(0, |t| 2 * t.len());
    FRAME + text_bytes(&entry.key) + text_bytes(&entry.value) + content_type
}

fn text_bytes(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.bytes().map(escaped_bytes).sum(),
        Err(_) => bytes.len().div_ceil(3) * 4,
    }
}

fn escaped_bytes(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' => 2,
        0..=0x1f => 6,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(keys_only: bool) -> Listing {
        Listing {
            range: KeyRange::default(),
            rest: KeyRange::default(),
            order: Order::Ascending,
            limit: 1,
            keys_only,
            revision: None,
        }
    }

    #[test]
    fn an_entry_is_never_longer_in_json_than_a_page_counts_for_it() {
        for (key, value) in [
            (&b"a"[..], &b""[..]),
            (b"a", b"plain \"quoted\" \\ \n \x00 \x1f caf\xc3\xa9"),
            (b"\xff\xfe", b"\xff\x00\x01"),
            (b"k", &[0; 4096]),
        ] {
            let entry = Arc::new(KeyEntry {
                key: Bytes::from_static(key),
                value: Bytes::from_static(value),
                content_type: Some("text/plain".into()),
                create_revision: Revision(1 << 52),
                mod_revision: Revision(1 << 52),
                version: u64::MAX,
                lease: tenure_state::LeaseId::new(1),
            });
            for keys_only in [false, true] {
                let listing = listing(keys_only);
                let json = serde_json::to_vec(&listing.shown(&entry)).expect("it has a form");
                let counted = listing.json_bytes(&entry);
                assert!(json.len() <= counted, "{} > {counted}", json.len());
            }
        }
    }

    #[test]
    fn the_count_of_a_list_is_remembered_while_its_pages_are_read_and_forgotten_among_many() {
        let counts = Counts::default();
        let list = |n: usize| KeyRange::prefix(format!("list/{n}/").as_bytes());
        counts.put(&list(0), Revision(7), 70);
        counts.put(&list(0), Revision(8), 80);
        assert_eq!(counts.get(&list(0), Revision(7)), Some(70));
        assert_eq!(counts.get(&list(0), Revision(8)), Some(80));
        assert_eq!(counts.get(&list(0), Revision(9)), None);
        assert_eq!(counts.get(&list(1), Revision(7)), None);
        for n in 1..10 * COUNTS {
            counts.put(&list(n), Revision(7), 1);
            assert!(counts.counted().len() <= COUNTS);
            assert_eq!(counts.get(&list(0), Revision(7)), Some(70), "in use");
        }
        assert_eq!(counts.get(&list(0), Revision(8)), None, "forgotten");
    }

    #[test]
    fn a_prefix_and_a_range_are_two_ways_of_naming_keys() {
        let bounds = |prefix: Option<&str>, start: Option<&str>, end: Option<&str>| {
            Bounds {
                prefix: prefix.map(str::to_owned),
                start: start.map(str::to_owned),
                end: end.map(str::to_owned),
            }
            .range()
        };
        let range = |start: &'static str, end: Option<&'static str>| KeyRange {
            start: Bytes::from_static(start.as_bytes()),
            end: end.map(|end| Bytes::from_static(end.as_bytes())),
        };
        let check = |bounds: Result<KeyRange, Failure>, expected: KeyRange| {
            assert_eq!(bounds.expect("accepted"), expected);
        };
        check(bounds(None, None, None), range("", None));
        check(bounds(Some(""), None, None), range("", None));
        check(bounds(Some("a/"), None, None), range("a/", Some("a0")));
        check(bounds(None, Some("b"), None), range("b", None));
        check(bounds(None, None, Some("c")), range("", Some("c")));
        check(bounds(None, Some("b"), Some("b")), range("b", Some("b")));
        for (refused, named) in [
            (bounds(Some("a"), Some("b"), None), "contradict"),
            (bounds(Some(""), None, Some("b")), "contradict"),
            (
                bounds(None, Some("b"), Some("a")),
                "`end` is `a` and comes before",
            ),
            (bounds(None, None, Some("")), "`end` is `` and comes before"),
            (bounds(None, Some("a\n"), None), "start has the control"),
        ] {
            let failure = refused.expect_err(named);
            assert!(failure.detail.contains(named), "{}", failure.detail);
        }
    }
}
