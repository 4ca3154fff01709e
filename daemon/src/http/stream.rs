//! Watches as streams of server-sent events (`api.md` §7; WHATWG HTML, Server-sent events).
//!
//! Owns what is on such a stream and how it ends. A stream holds one encoded piece at most: the next is read out of the
//! history when the connection has room for it. A piece that is long, a snapshot or one large revision, counts among the
//! answers that wait to be taken (`outgoing`). Whoever reads more slowly than history goes is told `410`, and never skips
//! anything. What waits to be taken is judged again before each part of it is sent: a snapshot may wait for long, and is cut
//! off where its reader lost the rights to it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll as TaskPoll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use tenure_api::{Code, EVENT_STREAM};
use tenure_replica::Interest;
use tenure_state::{ReadError, Revision, State};
use tokio::time::{Instant, timeout_at};

use super::audit::Refused;
use super::caller::{Caller, Gate};
use super::failure::{Failure, Purpose};
use super::following::{Following, NotTold, Room, Seat, Told, join};
use super::poll::{Poll, Woken, jittered};
use super::reading::{Reading, lagging};
use super::reply::Reply;
use super::rights::{Needed, Verbs, WATCH};
use super::selection::Selection;
use super::service::Context;
use super::snapshot;
use super::watch::{self, Asked};
use crate::node::{Handle, Unserved, Waiter};

/// On a quiet stream an id comes this often at least; the contract says 15 s, and some of that is lost on the way.
const KEEP_ALIVE: Duration = Duration::from_secs(12);
/// What is encoded at a time, unless one revision has more: enough that a connection is filled, and little enough
/// that thousands of them hold little. What has more takes room among the answers on their way.
const PIECE: Room = Room {
    events: 1_000,
    bytes: 64 << 10,
};
/// A stream without an end of its own ends after a year, which timers can hold; it is resumed like any other.
const ENDLESS: Duration = Duration::from_secs(365 * 24 * 3600);

/// Opens a stream.
///
/// # Errors
///
/// What is wrong before anything is sent. A loss of history is told on the stream, where a browser can read it.
pub(super) async fn open(
    cx: &Context<'_>,
    reading: Reading,
    asked: Asked,
) -> Result<Reply, Failure> {
    cx.may(&asked.needed(), reading.is_local()).await?;
    let (seat, permit) = watch::place(cx)?;
    // Registered before anything is looked at.
    let handle = cx.handle().clone();
    let waiter = handle.register(Interest::Watch(asked.selection.selectors()));
    let settled = reading.settle(cx, &asked.needed()).await?;
    let (at, first) = match (asked.after, asked.snapshot) {
        (Some(after), _) => (after, start(after, None)),
        (None, false) => {
            let at = handle.read(State::revision);
            (at, start(at, None))
        }
        (None, true) => {
            // The message is made within the turn, for it is the snapshot once more.
            let _turn = cx.turn().await?;
            let needed = asked.needed();
            let shot = snapshot::take(cx, &asked.selection, (&settled, &needed)).await?;
            (shot.revision, start(shot.revision, Some(shot.json)))
        }
    };
    let present = handle.read(State::revision);
    if present < at && reading.is_local() {
        return Err(settled.mark_failure(lagging(at, present)));
    }
    let until = cx.arrived + watch::held_open(&reading, cx).unwrap_or(ENDLESS);
    let poll = Poll::new(cx, until, permit).of_own_state(reading.is_local());
    let verbs = asked.verbs();
    let reader = Arc::new(Reader {
        handle: handle.clone(),
        gate: cx.gate(),
        caller: cx.caller().clone(),
        selection: Arc::new(asked.selection),
        request: cx.id.to_owned(),
        method: cx.method,
    });
    let mut watching = Watching {
        following: Following::new(
            handle.clone(),
            cx.watchers().clone(),
            cx.caller().clone(),
            Arc::clone(&reader.selection),
            asked.previous,
            at,
        ),
        handle,
        waiter,
        poll,
        _seat: seat,
        keep_alive: jittered(KEEP_ALIVE, cx.seed),
        last_sent: Instant::now(),
        stage: Stage::Going,
        reader: Arc::clone(&reader),
    };
    let first = match watching.check() {
        Ok(()) => first,
        Err(failure) => watching.end(failure),
    };
    let reply = Reply::stream(EVENT_STREAM, Stream::of(first, watching, (reader, verbs)))
        .at(at)
        .with(
            HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        );
    Ok(settled.mark(reply))
}

/// Who reads a stream.
struct Reader {
    handle: Handle,
    gate: Arc<Gate>,
    caller: Caller,
    selection: Arc<Selection>,
    /// The id and the method of the request: where the stream ends for want of rights, the audit is told.
    request: String,
    method: &'static str,
}

impl Reader {
    /// Whether it may still be told what takes these verbs; the changes of rights before that was looked at. `allowed_at` are
    /// those at which it was allowed.
    fn may(&self, verbs: Verbs, allowed_at: Option<u64>) -> Result<u64, Failure> {
        self.handle.read(|state| {
            let present = state.access().changes();
            let needed = match allowed_at == Some(present) {
                true => Needed::NOTHING,
                false => self.selection.needed(verbs),
            };
            self.caller.may(state, &needed).map(|()| present)
        })
    }

    /// Tells the audit that it may not: the answer has long begun.
    fn refused(&self, failure: &Failure) {
        let refused = Refused {
            caller: Some(&self.caller),
            address: self.caller.address(),
            request: &self.request,
            call: (self.method, "/v1/watch"),
        };
        let denials = &self.gate.denials;
        denials.tell(&refused, failure.code, &failure.detail);
    }
}

/// A stream of bytes that are made as they are taken; dropping it ends the watch.
pub(super) struct Stream {
    /// The first message, until it is taken.
    first: Option<Bytes>,
    next: Option<Next>,
    reader: Arc<Reader>,
    /// What the piece that was taken last needs, and the changes of rights at which it was allowed.
    verbs: Verbs,
    allowed_at: Option<u64>,
}

type Next = Pin<Box<dyn Future<Output = Option<(Bytes, Watching)>> + Send>>;

impl Stream {
    fn of(first: Bytes, watching: Watching, (reader, verbs): (Arc<Reader>, Verbs)) -> Stream {
        Stream {
            first: Some(first),
            next: Some(Box::pin(watching.next())),
            reader,
            verbs,
            allowed_at: None,
        }
    }

    fn judge(&mut self) -> Result<(), Failure> {
        let judged = self.reader.may(self.verbs, self.allowed_at);
        let judged = judged.inspect_err(|failure| {
            self.reader.refused(failure);
            self.next = None;
        });
        self.allowed_at = Some(judged?);
        Ok(())
    }

    /// Whether what is left of the last piece may still be sent. Where it may not, the stream ends.
    pub(super) fn may_go_on(&mut self) -> bool {
        self.judge().is_ok()
    }

    /// How many bytes it holds that wait to be taken.
    pub(super) fn at_hand(&self) -> usize {
        self.first.as_ref().map_or(0, Bytes::len)
    }

    /// Ends it, where there is no room for a piece that it made: the last message, in place of that piece. Who resumes
    /// it is told what this would have told.
    pub(super) fn without_room(&mut self) -> Bytes {
        self.next = None;
        let detail = "the answers that are not read take all the room there is for the next change; read them, and resume";
        error(Failure::new(Code::Overloaded, detail))
    }

    /// The next piece; `None` at the end.
    pub(super) fn poll_next(&mut self, cx: &mut TaskContext<'_>) -> TaskPoll<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            let first = self.judge().map_or_else(error, |()| first);
            return TaskPoll::Ready(Some(first));
        }
        self.verbs = WATCH;
        let Some(next) = &mut self.next else {
            return TaskPoll::Ready(None);
        };
        let made = ready!(next.as_mut().poll(cx));
        let (bytes, rest) = made.unzip();
        self.next = rest.map(|watching| -> Next { Box::pin(watching.next()) });
        TaskPoll::Ready(bytes)
    }
}

enum Stage {
    /// What happens is sent.
    Going,
    /// Why it ends is sent, and no more.
    Ending(Unserved),
    /// No more is sent.
    Over,
}

/// A watch whose events are sent as they happen.
struct Watching {
    handle: Handle,
    following: Following,
    waiter: Waiter,
    poll: Poll,
    _seat: Seat,
    keep_alive: Duration,
    last_sent: Instant,
    stage: Stage,
    reader: Arc<Reader>,
}

impl Watching {
    /// The next piece of the stream, and what comes after it.
    async fn next(mut self) -> Option<(Bytes, Watching)> {
        let piece = match self.stage {
            Stage::Going => self.happening().await?,
            Stage::Ending(unserved) => self.end(Failure::unserved(unserved, Purpose::Read)),
            Stage::Over => return None,
        };
        self.last_sent = Instant::now();
        Some((piece, self))
    }

    /// Whether history is there from where the stream begins.
    fn check(&self) -> Result<(), Failure> {
        let at = self.following.at;
        match self.handle.read(|state| state.history(at, 1)) {
            Ok(_) => Ok(()),
            Err(error) => Err(self.lost(error)),
        }
    }

    /// Waits for something to send. Neither its time nor the member's stop is forgotten while there is always more.
    async fn happening(&mut self) -> Option<Bytes> {
        let mut ending = self.poll.is_over();
        loop {
            if ending == Some(Woken::TimeUp) {
                return None;
            }
            match self.following.look(PIECE).await {
                Ok(page) if !page.told.is_empty() => {
                    if ending == Some(Woken::Stopping) {
                        self.stage = Stage::Ending(Unserved::ShuttingDown);
                    }
                    return Some(changes(&page.told));
                }
                Ok(_) => {}
                Err(NotTold::Refused(failure)) => return Some(self.refuse(*failure)),
                Err(NotTold::Unread(error)) => {
                    let failure = self.lost(error);
                    return Some(self.end(failure));
                }
            }
            let quiet_until = self.last_sent + self.keep_alive;
            // All that was at hand has been sent.
            let unserved = match ending {
                Some(Woken::Stopping) => Some(Unserved::ShuttingDown),
                Some(Woken::Leaderless) => Some(Unserved::NoLeader),
                Some(Woken::Changed | Woken::TimeUp) | None => None,
            };
            if let Some(unserved) = unserved {
                return Some(self.end(Failure::unserved(unserved, Purpose::Read)));
            }
            if quiet_until <= Instant::now() {
                return Some(Bytes::from(format!("id: {}\n\n", self.following.at)));
            }
            let waiter = &self.waiter;
            let changed = async {
                // Woken or not: it is looked.
                let _ = timeout_at(quiet_until, waiter.woken()).await;
            };
            ending = Some(self.poll.next_of(changed).await);
        }
    }

    fn lost(&self, error: ReadError) -> Failure {
        let present = self.handle.read(State::revision);
        Failure::unreadable(error, self.following.at, present)
    }

    /// Ends it for whoever may not go on, and tells the audit.
    fn refuse(&mut self, failure: Failure) -> Bytes {
        self.reader.refused(&failure);
        self.end(failure)
    }

    fn end(&mut self, failure: Failure) -> Bytes {
        self.stage = Stage::Over;
        error(failure)
    }
}

/// The last message of a stream that fails.
fn error(failure: Failure) -> Bytes {
    let mut message = Vec::from(b"event: error\ndata: ");
    message.extend_from_slice(&failure.into_reply().body);
    message.extend_from_slice(b"\n\n");
    Bytes::from(message)
}

/// The first message.
fn start(at: Revision, snapshot: Option<Bytes>) -> Bytes {
    let mut message = format!("event: start\nid: {at}\ndata: {{\"revision\":{at}").into_bytes();
    if let Some(snapshot) = snapshot {
        const FRAME: usize = 32;
        message.reserve_exact(snapshot.len() + FRAME);
        message.extend_from_slice(b",\"snapshot\":");
        message.extend_from_slice(&snapshot);
    }
    message.extend_from_slice(b"}\n\n");
    Bytes::from(message)
}

/// A message for each revision. JSON as we write it has no line breaks, so it is one line of data.
fn changes(told: &[Told]) -> Bytes {
    let events = told.iter().flat_map(|told| &told.events);
    let frames = 80 * told.len();
    let mut messages =
        Vec::with_capacity(events.map(|event| event.len() + 1).sum::<usize>() + frames);
    for Told { revision, events } in told {
        let head =
            format!("event: change\nid: {revision}\ndata: {{\"revision\":{revision},\"events\":[");
        messages.extend_from_slice(head.as_bytes());
        join(&mut messages, events.iter());
        messages.extend_from_slice(b"]}\n\n");
    }
    Bytes::from(messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_what_the_contract_shows() {
        assert_eq!(
            start(Revision(131), None),
            "event: start\nid: 131\ndata: {\"revision\":131}\n\n"
        );
        assert_eq!(
            start(Revision(131), Some(Bytes::from_static(b"[]"))),
            "event: start\nid: 131\ndata: {\"revision\":131,\"snapshot\":[]}\n\n"
        );
        let told = |revision| Told {
            revision: Revision(revision),
            events: vec![Bytes::from_static(b"{}"); 2],
        };
        assert_eq!(
            changes(&[told(132), told(134)]),
            "event: change\nid: 132\ndata: {\"revision\":132,\"events\":[{},{}]}\n\n\
             event: change\nid: 134\ndata: {\"revision\":134,\"events\":[{},{}]}\n\n"
        );
    }
}
