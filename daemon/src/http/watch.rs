//! Watching: what happened since a revision, or will happen within a while (`api.md` §7).
//!
//! Owns what a watch asks for, and the order of three steps on which the promise rests: the waiter is registered, then
//! the history is read, then it is waited. A watch never skips, repeats or reorders; `410` is the only way to lose
//! history.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tenure_api::{self as api, Code, JSON, MAX_POLL_MS, MAX_REVISION, header};
use tenure_replica::Interest;
use tenure_state::{ReadError, Revision, State};

use super::acquiring::in_range;
use super::failure::{Failure, Purpose};
use super::following::{Following, NotTold, Page, Room, Seat, join};
use super::manners;
use super::poll::{Poll, Woken, jittered};
use super::reading::{Reading, Settled, lagging};
use super::reply::Reply;
use super::rights::{Needed, Verbs, WATCH, WATCH_WITH_SNAPSHOT};
use super::selection::Selection;
use super::service::{Context, WaitPermit};
use super::snapshot;
use super::stream;
use super::text;
use crate::node::Unserved;

/// A reply ends after so many events, or bytes of them, at the end of a revision (`api.md` §10).
const REPLY: Room = Room {
    events: 1_000,
    bytes: 4 << 20,
};

/// `GET /v1/watch`
pub(super) async fn watch(mut cx: Context<'_>) -> Result<Reply, Failure> {
    let reading = Reading::of(&mut cx)?;
    let asked = api::Watch {
        prefixes: cx.query.take_all("prefix"),
        resources: cx.query.take_all("resource"),
        after: cx
            .query
            .take("after")?
            .map(|text| text::revision("after", &text))
            .transpose()?,
        wait_ms: None,
        snapshot: flag(&mut cx, "snapshot")?,
        previous: flag(&mut cx, "previous")?,
    };
    cx.finish_query()?;
    cx.no_body().await?;
    serve(&cx, reading, asked).await
}

/// `POST /v1/watch`
pub(super) async fn watch_many(mut cx: Context<'_>) -> Result<Reply, Failure> {
    let reading = Reading::of(&mut cx)?;
    cx.finish_query()?;
    let asked: api::Watch = cx.json().await?;
    in_range("wait_ms", asked.wait_ms.unwrap_or(0), 0, MAX_POLL_MS)?;
    in_range("after", asked.after.unwrap_or(0), 0, MAX_REVISION - 1)?;
    let reading = reading.or_wait(asked.wait_ms)?;
    serve(&cx, reading, asked).await
}

fn flag(cx: &mut Context<'_>, name: &'static str) -> Result<bool, Failure> {
    let text = cx.query.take(name)?;
    let flag = text.map(|text| text::boolean(name, &text)).transpose()?;
    Ok(flag.unwrap_or(false))
}

/// A watch, whichever way it was asked for.
pub(super) struct Asked {
    pub(super) selection: Selection,
    pub(super) after: Option<Revision>,
    pub(super) snapshot: bool,
    pub(super) previous: bool,
}

impl Asked {
    /// What whoever asks must have.
    pub(super) fn needed(&self) -> Needed<'_> {
        self.selection.needed(self.verbs())
    }

    /// The same, of each selector.
    pub(super) fn verbs(&self) -> Verbs {
        match self.snapshot {
            true => WATCH_WITH_SNAPSHOT,
            false => WATCH,
        }
    }

    /// Takes it whole: the texts of a thousand selectors are not kept beside the selection while it is waited.
    fn of(asked: api::Watch) -> Result<Asked, Failure> {
        Ok(Asked {
            selection: Selection::of(&asked.prefixes, &asked.resources)?,
            after: asked.after.map(Revision),
            snapshot: asked.snapshot,
            previous: asked.previous,
        })
    }
}

async fn serve(cx: &Context<'_>, reading: Reading, asked: api::Watch) -> Result<Reply, Failure> {
    let mut asked = Asked::of(asked)?;
    if asked.snapshot && asked.after.is_some() {
        return Err(Failure::invalid(
            "`snapshot` shows the present state, `after` goes on from a past one; give one",
        ));
    }
    // Refused where it is wrong, also by who asks for no stream and is not heard by it.
    let last_event_id = last_event_id(cx.headers)?;
    if !manners::wants_events(cx.headers) {
        return LongPoll { cx, reading, asked }.run().await;
    }
    if let Some(seen) = last_event_id {
        // Whoever comes back asks as at first; what came since then counts, and the state was shown already.
        asked.after = Some(seen);
        asked.snapshot = false;
    }
    stream::open(cx, reading, asked).await
}

/// Where a stream goes on that was cut off.
fn last_event_id(headers: &HeaderMap) -> Result<Option<Revision>, Failure> {
    let Some(value) = headers.get(header::LAST_EVENT_ID) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or("\u{fffd}").trim();
    // A browser that has no id yet may send an empty one.
    match text.is_empty() {
        true => Ok(None),
        false => text::revision(header::LAST_EVENT_ID, text).map(|id| Some(Revision(id))),
    }
}

/// A place for a watch among the requests that wait.
///
/// # Errors
///
/// `too-many-waiters`.
pub(super) fn place(cx: &Context<'_>) -> Result<(Seat, WaitPermit), Failure> {
    let most = cx.handle().read(|state| state.limits().watchers);
    Ok((cx.watchers().seat(most, cx.sharer())?, cx.wait_permit()?))
}

/// A watch that is answered once.
struct LongPoll<'a, 'c> {
    cx: &'a Context<'c>,
    reading: Reading,
    asked: Asked,
}

impl LongPoll<'_, '_> {
    async fn run(self) -> Result<Reply, Failure> {
        let LongPoll { cx, reading, asked } = self;
        if asked.snapshot {
            let needed = asked.needed();
            let settled = reading.settle(cx, &needed).await?;
            let _turn = cx.turn().await?;
            let shot = snapshot::take(cx, &asked.selection, (&settled, &needed)).await?;
            return Ok(settled.mark(reply(Some(&shot.json), &Page::default(), shot.revision)));
        }
        cx.may(&asked.needed(), reading.is_local()).await?;
        let wait = reading.wait(cx);
        let placed = match wait.is_zero() {
            true => None,
            false => Some(place(cx)?),
        };
        // Registered before anything is looked at.
        let waiting = placed.map(|(seat, permit)| {
            let waiter = cx
                .handle()
                .register(Interest::Watch(asked.selection.selectors()));
            let until = cx.arrived + jittered(wait, cx.seed);
            let poll = Poll::new(cx, until, permit).of_own_state(reading.is_local());
            (waiter, poll, seat)
        });
        let (settled, at) = match asked.after {
            // What is at hand is told without asking the leader: it has been committed.
            Some(after) if !reading.needs_more_than_history() => (None, after),
            Some(after) => (Some(reading.settle(cx, &asked.needed()).await?), after),
            None => {
                let settled = reading.settle(cx, &asked.needed()).await?;
                (Some(settled), cx.handle().read(State::revision))
            }
        };
        let following = Following::new(
            cx.handle().clone(),
            cx.watchers().clone(),
            cx.caller().clone(),
            Arc::new(asked.selection),
            asked.previous,
            at,
        );
        let mut looking = Looking {
            cx,
            reading,
            following,
            settled,
        };
        let answered = looking.answer(waiting).await;
        let settled = looking.settled;
        match settled {
            Some(settled) => answered
                .map(|reply| settled.mark(reply))
                .map_err(|failure| settled.mark_failure(failure)),
            None => answered,
        }
    }
}

/// A long-poll at work.
struct Looking<'a, 'c> {
    cx: &'a Context<'c>,
    reading: Reading,
    following: Following,
    /// What the state was brought to, once that was asked.
    settled: Option<Settled>,
}

impl Looking<'_, '_> {
    async fn answer(
        &mut self,
        mut waiting: Option<(crate::node::Waiter, Poll, Seat)>,
    ) -> Result<Reply, Failure> {
        loop {
            let lost = match self.look().await? {
                Ok(page) if !page.told.is_empty() => return Ok(self.reply(&page)),
                Ok(_) => None,
                Err(NotTold::Refused(failure)) => return Err(*failure),
                Err(NotTold::Unread(error @ ReadError::Compacted { .. })) => {
                    return Err(self.lost(error));
                }
                Err(NotTold::Unread(error @ ReadError::Ahead)) => Some(error),
            };
            // There is nothing at hand, or the caller has been where this member has not: before saying so, or waiting
            // for more, it is made sure that this member has not merely been left behind.
            if self.settled.is_none() {
                self.settled = Some(self.confirm(lost.is_some()).await?);
                continue;
            }
            if let Some(error) = lost
                && !self.reading.is_local()
            {
                return Err(self.lost(error));
            }
            let Some((waiter, poll, _)) = &mut waiting else {
                return match lost {
                    None => Ok(self.reply(&Page::default())),
                    Some(_) => Err(self.lagging()),
                };
            };
            match poll.next(waiter).await {
                Woken::Changed => {}
                // Looked at once more, without waiting: then what was seen is told.
                Woken::TimeUp => waiting = None,
                Woken::Stopping => return self.at_hand_or(Unserved::ShuttingDown).await,
                Woken::Leaderless => return self.at_hand_or(Unserved::NoLeader).await,
            }
            if self.reading.is_local() {
                // How old an answer may be is told of the state that it comes from, not of that which it was waited in.
                self.settled = Some(self.confirm(false).await?);
            }
        }
    }

    /// A page of what is at hand. A connection has one made at a time, and where it is long, a member has few: else
    /// hundreds that are asked for at once grow together.
    async fn look(&mut self) -> Result<Result<Page, NotTold>, Failure> {
        let _turn = match self.following.is_far_behind() {
            true => self.cx.turn().await?,
            false => self.cx.short_turn().await?,
        };
        Ok(self.following.look(REPLY).await)
    }

    /// Brings this member to a point at which its state is no older than the request.
    async fn confirm(&self, ahead: bool) -> Result<Settled, Failure> {
        match self.reading.confirm(self.cx).await {
            // The leader is there, and what it has is not here yet.
            Err(failure) if ahead && failure.code == Code::NoLeader && self.cx.knows_leader() => {
                Err(self.lagging())
            }
            confirmed => confirmed,
        }
    }

    fn lagging(&self) -> Failure {
        lagging(self.following.at, self.cx.handle().read(State::revision))
    }

    fn lost(&self, error: ReadError) -> Failure {
        let present = self.cx.handle().read(State::revision);
        Failure::unreadable(error, self.following.at, present)
    }

    fn reply(&self, page: &Page) -> Reply {
        reply(None, page, self.following.at)
    }

    async fn at_hand_or(&mut self, unserved: Unserved) -> Result<Reply, Failure> {
        match self.look().await? {
            Ok(page) if !page.told.is_empty() => Ok(self.reply(&page)),
            Ok(_) => Err(Failure::unserved(unserved, Purpose::Read)),
            Err(NotTold::Refused(failure)) => Err(*failure),
            Err(NotTold::Unread(error)) => Err(self.lost(error)),
        }
    }
}

/// The answer of a long-poll, put together of what was encoded already: [`api::Events`].
fn reply(snapshot: Option<&Bytes>, page: &Page, through: Revision) -> Reply {
    let events = || page.told.iter().flat_map(|told| &told.events);
    let bytes: usize = events().map(|event| event.len() + 1).sum();
    let mut body = Vec::with_capacity(bytes + snapshot.map_or(0, Bytes::len) + 64);
    body.push(b'{');
    if let Some(snapshot) = snapshot {
        body.extend_from_slice(b"\"snapshot\":");
        body.extend_from_slice(snapshot);
        body.push(b',');
    }
    body.extend_from_slice(b"\"events\":[");
    join(&mut body, events());
    let end = format!("],\"revision\":{through},\"more\":{}}}", page.more);
    body.extend_from_slice(end.as_bytes());
    Reply::new(200, JSON, Bytes::from(body)).at(through)
}

/// How long a watch may be held open, where it says so.
pub(super) fn held_open(reading: &Reading, cx: &Context<'_>) -> Option<Duration> {
    reading.asked_wait().map(|wait| jittered(wait, cx.seed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::{HeaderName, HeaderValue};

    #[test]
    fn a_reply_is_what_the_contract_shows() {
        let page = Page {
            told: vec![super::super::following::Told {
                revision: Revision(132),
                events: vec![Bytes::from_static(b"{\"a\":1}"), Bytes::from_static(b"{}")],
            }],
            more: true,
            ..Page::default()
        };
        let check = |snapshot: Option<&Bytes>, page: &Page, expected: &str| {
            let reply = reply(snapshot, page, Revision(140));
            assert_eq!(reply.body, expected);
            assert!(serde_json::from_slice::<serde_json::Value>(&reply.body).is_ok());
        };
        check(
            None,
            &Page::default(),
            r#"{"events":[],"revision":140,"more":false}"#,
        );
        check(
            None,
            &page,
            r#"{"events":[{"a":1},{}],"revision":140,"more":true}"#,
        );
        check(
            Some(&Bytes::from_static(b"[]")),
            &Page::default(),
            r#"{"snapshot":[],"events":[],"revision":140,"more":false}"#,
        );
    }

    #[test]
    fn a_stream_goes_on_from_the_last_id_that_came() {
        let check = |id: Option<&str>, expected: Option<Option<u64>>| {
            let mut headers = HeaderMap::new();
            if let Some(id) = id {
                let name = HeaderName::from_static(header::LAST_EVENT_ID);
                headers.insert(name, HeaderValue::from_str(id).expect("a value"));
            }
            let found = last_event_id(&headers);
            assert_eq!(found.ok(), expected.map(|id| id.map(Revision)), "{id:?}");
        };
        check(None, Some(None));
        check(Some(""), Some(None));
        check(Some("131"), Some(Some(131)));
        check(Some("x"), None);
        check(Some("-1"), None);
    }
}
