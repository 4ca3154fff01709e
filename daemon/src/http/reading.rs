//! Reads: what state an answer may come from, and reads that wait for it (`api.md` §2 and §7).
//!
//! Owns the parameters `consistency`, `min_revision`, `after` and `wait_ms`, the header that tells how old a local answer
//! may be, and the order of steps on which waiting for one resource rests: the waiter is registered, then the
//! state is read, then it is waited. Must never answer from a state older than was asked for.

use std::time::Duration;

use http::header::{ETAG, HeaderName, HeaderValue};
use tenure_api::{Code, MAX_POLL_MS, header};
use tenure_replica::Interest;
use tenure_state::{Clock, Collection, ReadError, Resource, Revision, Selector, State};

use super::condition::{Conditions, etag};
use super::failure::{Failure, Purpose};
use super::poll::{Poll, Woken, jittered};
use super::reply::Reply;
use super::rights::Needed;
use super::service::Context;
use super::text;
use crate::node::{FreshAt, Unserved, Waiter};

/// How long a read waits for its `min_revision` unless it says so (`api.md` §2).
const MIN_REVISION_WAIT: Duration = Duration::from_secs(5);

/// Which state a read may be answered from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Reading {
    local: bool,
    min_revision: Option<Revision>,
    wait: Option<Duration>,
    waits_for: Option<WaitsFor>,
}

/// What a read of one resource waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum WaitsFor {
    /// `after=N`: that its mod revision passes N.
    After(Revision),
    /// `If-None-Match: "N"` with `wait_ms`: that its mod revision is another.
    Other(Revision),
}

/// A state that may be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settled {
    /// The leader's clock, read after the request arrived; 0 in a local read, which knows no clock but the state's.
    leader: Clock,
    local: bool,
    fresh_at: Option<FreshAt>,
}

/// What a look at one resource shows.
pub(super) enum Looked {
    /// It is there, or it is one that is always there, with a mod revision of 0 while unused.
    There {
        /// The revision of its last change.
        mod_revision: Revision,
        /// How it is shown.
        reply: Reply,
    },
    /// It is not there, or a condition refuses it: there is nothing to wait for.
    Gone(Failure),
}

impl Looked {
    /// It is there, and shown so.
    pub(super) fn there(mod_revision: Revision, reply: Result<Reply, Failure>) -> Looked {
        match reply {
            Ok(reply) => Looked::There {
                mod_revision,
                reply,
            },
            Err(failure) => Looked::Gone(failure),
        }
    }
}

impl Reading {
    /// That of a list, or of anything else that cannot be waited for: takes `consistency`, `min_revision` and the
    /// `wait_ms` that goes with it from the query.
    ///
    /// # Errors
    ///
    /// `invalid-request`, naming the parameter.
    pub(super) fn of(cx: &mut Context<'_>) -> Result<Reading, Failure> {
        let local = match cx.query.take("consistency")?.as_deref() {
            None | Some("linearizable") => false,
            Some("local") => true,
            Some(other) => {
                let other = text::shown(other);
                return Err(Failure::invalid(format!(
                    "consistency is {other}; accepted are `linearizable` and `local`"
                )));
            }
        };
        Ok(Reading {
            local,
            min_revision: revision(cx, "min_revision")?,
            wait: cx
                .query
                .take("wait_ms")?
                .map(|text| text::number("wait_ms", &text, 0, MAX_POLL_MS))
                .transpose()?
                .map(Duration::from_millis),
            waits_for: None,
        })
    }

    /// That of one resource: also takes `after`, and looks at `If-None-Match`.
    ///
    /// # Errors
    ///
    /// `invalid-request`, naming the parameter or header.
    pub(super) fn of_resource(cx: &mut Context<'_>) -> Result<Reading, Failure> {
        let reading = Reading::of(cx)?;
        let after = revision(cx, "after")?;
        let known = Conditions::of_read(cx.headers)?.known_version();
        let waits_for = match (after, known) {
            (Some(_), Some(_)) => {
                return Err(Failure::invalid(
                    "`after` and `If-None-Match` exclude each other; give one",
                ));
            }
            (Some(after), None) => Some(WaitsFor::After(after)),
            (None, Some(known)) => Some(WaitsFor::Other(known)),
            (None, None) => None,
        };
        Ok(Reading {
            waits_for,
            ..reading
        })
    }

    /// Why a revision that the caller names cannot be read. Only a linearizable read knows that the cluster has never been
    /// there; otherwise this member may merely be behind.
    pub(super) fn unreadable(
        &self,
        error: ReadError,
        asked: Revision,
        present: Revision,
    ) -> Failure {
        match error {
            ReadError::Ahead if self.local => lagging(asked, present),
            ReadError::Ahead | ReadError::Compacted { .. } => {
                Failure::unreadable(error, asked, present)
            }
        }
    }

    /// Whether this member answers from its own state, without asking the leader.
    pub(super) fn is_local(&self) -> bool {
        self.local
    }

    /// Whether a watch of it asks more of this member than what its history tells.
    pub(super) fn needs_more_than_history(&self) -> bool {
        self.local || self.min_revision.is_some()
    }

    /// How long it may be held open, where it says so.
    pub(super) fn asked_wait(&self) -> Option<Duration> {
        self.wait
    }

    /// The same, held open for as long as the body says.
    ///
    /// # Errors
    ///
    /// `invalid-request` where the query says something as well.
    pub(super) fn or_wait(self, wait_ms: Option<u64>) -> Result<Reading, Failure> {
        match (self.wait, wait_ms) {
            (_, None) => Ok(self),
            (None, Some(wait_ms)) => Ok(Reading {
                wait: Some(Duration::from_millis(wait_ms)),
                ..self
            }),
            (Some(_), Some(_)) => Err(Failure::invalid(
                "`wait_ms` is in the query and in the body; give one",
            )),
        }
    }

    /// How long it may be held open; `HEAD` never waits.
    pub(super) fn wait(&self, cx: &Context<'_>) -> Duration {
        match cx.head {
            true => Duration::ZERO,
            false => self.wait.unwrap_or_default(),
        }
    }

    /// Brings this member to a state that may be read by whoever has what is needed for it. What is answered is to be looked
    /// at with the same needs ([`Context::read`]): rights may be taken away meanwhile.
    ///
    /// # Errors
    ///
    /// `unauthenticated` and `forbidden`; `lagging` where it does not reach `min_revision` in time, `no-leader` where no leader confirms what it has.
    pub(super) async fn settle(
        &self,
        cx: &Context<'_>,
        needed: &Needed<'_>,
    ) -> Result<Settled, Failure> {
        cx.may(needed, self.local).await?;
        if let Some(wanted) = self.min_revision {
            self.reach(cx, wanted, needed).await?;
        }
        self.confirm(cx).await
    }

    /// As [`Reading::settle`], where the revision was reached before.
    pub(super) async fn confirm(&self, cx: &Context<'_>) -> Result<Settled, Failure> {
        if self.local {
            return Ok(Settled {
                leader: Clock(0),
                local: true,
                fresh_at: cx.handle().fresh_at(),
            });
        }
        Ok(Settled {
            leader: cx.barrier().await?,
            local: false,
            fresh_at: None,
        })
    }

    /// Waits until this member has applied `wanted`.
    async fn reach(
        &self,
        cx: &Context<'_>,
        wanted: Revision,
        needed: &Needed<'_>,
    ) -> Result<(), Failure> {
        let handle = cx.handle();
        let present = || handle.read(State::revision);
        if present() >= wanted {
            return Ok(());
        }
        let wait = match cx.head {
            true => Duration::ZERO,
            false => self.wait.unwrap_or(MIN_REVISION_WAIT),
        };
        if wait.is_zero() {
            return Err(lagging(wanted, present()));
        }
        // Listened to before the state is looked at, so that no change falls in between.
        let mut revisions = handle.revision_watch();
        let mut poll = Poll::new(cx, cx.arrived + wait, cx.wait_permit()?);
        while present() < wanted {
            let changed = async {
                let _ = revisions.changed().await;
            };
            match poll.next_of(changed).await {
                Woken::Changed => cx.read(needed, |_| ())?,
                Woken::Stopping => {
                    return Err(Failure::unserved(Unserved::ShuttingDown, Purpose::Read));
                }
                Woken::Leaderless if !self.local => {
                    return Err(Failure::unserved(Unserved::NoLeader, Purpose::Read));
                }
                // Without a leader it cannot be reached either.
                Woken::TimeUp | Woken::Leaderless if present() < wanted => {
                    return Err(lagging(wanted, present()));
                }
                Woken::TimeUp | Woken::Leaderless => {}
            }
        }
        Ok(())
    }

    /// Answers a read of one resource, waiting for it to change where the request says so. `look` reads the state, which
    /// takes what is needed, and shows the resource; it is asked again whenever that may have changed, or the rights of
    /// whoever asks.
    ///
    /// # Errors
    ///
    /// As [`Reading::settle`], what `look` says of a resource that is gone, and `too-many-waiters`.
    pub(super) async fn answer(
        &self,
        cx: &Context<'_>,
        (resource, needed): (Resource, &Needed<'_>),
        look: impl Fn(&Settled) -> Result<Looked, Failure>,
    ) -> Result<Reply, Failure> {
        cx.may(needed, self.local).await?;
        let wait = self.wait(cx);
        let mut waiting = None;
        if self.waits_for.is_some() && !wait.is_zero() {
            let permit = cx.wait_permit()?;
            let interest = interest_in(resource);
            let waiter: Waiter = cx.handle().register(interest);
            let until = cx.arrived + jittered(wait, cx.seed);
            let poll = Poll::new(cx, until, permit).of_own_state(self.local);
            waiting = Some((waiter, poll));
        }
        let mut settled = self.settle(cx, needed).await?;
        self.check_reached(cx)?;
        loop {
            let (mod_revision, reply) = match look(&settled)? {
                Looked::There {
                    mod_revision,
                    reply,
                } => (mod_revision, reply),
                Looked::Gone(failure) => return Err(settled.mark_failure(failure)),
            };
            if !self.is_quiet(cx, mod_revision) {
                return Ok(settled.mark(tagged(reply, mod_revision)));
            }
            let Some((waiter, poll)) = &mut waiting else {
                return Ok(settled.mark(self.quiet_end(mod_revision, &reply)));
            };
            match poll.next(waiter).await {
                // What is shown then must be no older than the wake-up, and its clock neither.
                Woken::Changed => settled = self.confirm(cx).await?,
                // Looked at once more, without waiting.
                Woken::TimeUp => {
                    waiting = None;
                    if self.local {
                        settled = self.confirm(cx).await?;
                    }
                }
                Woken::Stopping => {
                    return Err(Failure::unserved(Unserved::ShuttingDown, Purpose::Read));
                }
                Woken::Leaderless => {
                    return Err(Failure::unserved(Unserved::NoLeader, Purpose::Read));
                }
            }
        }
    }

    /// Refuses to wait after a revision at which the cluster has never been; only a linearizable read can tell.
    fn check_reached(&self, cx: &Context<'_>) -> Result<(), Failure> {
        let present = cx.handle().read(State::revision);
        match self.waits_for {
            Some(WaitsFor::After(after)) if !self.local && present < after => {
                Err(Failure::unreadable(ReadError::Ahead, after, present))
            }
            Some(WaitsFor::After(_) | WaitsFor::Other(_)) | None => Ok(()),
        }
    }

    /// Whether the caller has seen all there is to see.
    fn is_quiet(&self, cx: &Context<'_>, mod_revision: Revision) -> bool {
        match self.waits_for {
            None => false,
            Some(WaitsFor::Other(known)) => mod_revision == known,
            // What was forgotten with the history is not missed: below the compact revision nobody waits.
            Some(WaitsFor::After(after)) => {
                mod_revision <= after && cx.handle().read(State::compact_revision) <= after
            }
        }
    }

    fn quiet_end(&self, mod_revision: Revision, shown: &Reply) -> Reply {
        let reply = match self.waits_for {
            Some(WaitsFor::Other(_)) => tagged(Reply::empty(304), mod_revision),
            Some(WaitsFor::After(_)) | None => Reply::empty(204),
        };
        Reply {
            revision: shown.revision,
            ..reply
        }
    }
}

impl Settled {
    /// The clock by which what remains of a time is told: the leader's in a linearizable answer. In a local one it is
    /// that of the last entry applied, and what remains is an upper bound.
    pub(super) fn clock(&self, state: &State) -> Clock {
        self.leader.max(state.clock())
    }

    /// Tells how old a local answer may be. While it is not known (no barrier has succeeded since the start), nothing
    /// is told.
    pub(super) fn mark(&self, reply: Reply) -> Reply {
        match self.staleness() {
            Some((name, value)) => reply.with(name, value),
            None => reply,
        }
    }

    /// As [`Settled::mark`], for an answer that is a failure.
    pub(super) fn mark_failure(&self, failure: Failure) -> Failure {
        match self.staleness() {
            Some((name, value)) => failure.with_header(name, value),
            None => failure,
        }
    }

    fn staleness(&self) -> Option<(HeaderName, HeaderValue)> {
        let fresh_at = self.fresh_at.filter(|_| self.local)?;
        // Rounded up: what is told is never less than the age.
        let age_ms = u64::try_from(fresh_at.age().as_millis()).unwrap_or(u64::MAX - 1) + 1;
        let name = HeaderName::from_static(header::STALENESS_MS);
        Some((name, HeaderValue::from(age_ms)))
    }
}

/// A lease changes with what hangs on it, everything else by itself.
fn interest_in(resource: Resource) -> Interest {
    let lease = match resource.collection {
        Collection::Leases => std::str::from_utf8(&resource.name)
            .ok()
            .and_then(|name| text::lease(name).ok()),
        Collection::Elections | Collection::Keys | Collection::Locks | Collection::Semaphores => {
            None
        }
    };
    match lease {
        Some(lease) => Interest::Lease(lease),
        None => Interest::Watch(vec![Selector::Exact(resource)]),
    }
}

/// With the tag of its version, where it has none yet.
fn tagged(reply: Reply, mod_revision: Revision) -> Reply {
    match reply.headers.iter().any(|(name, _)| name == ETAG) {
        true => reply,
        false => reply.with(ETAG, etag(mod_revision)),
    }
}

fn revision(cx: &mut Context<'_>, name: &'static str) -> Result<Option<Revision>, Failure> {
    cx.query
        .take(name)?
        .map(|text| text::revision(name, &text).map(Revision))
        .transpose()
}

/// A revision that this member has not reached in time.
pub(super) fn lagging(wanted: Revision, present: Revision) -> Failure {
    let detail =
        format!("this member is at revision {present} and has not reached {wanted} in time");
    Failure::new(Code::Lagging, detail)
        .with("revision", present.0)
        .at(present)
}
