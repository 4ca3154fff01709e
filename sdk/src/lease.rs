//! Leases that renew themselves.
//!
//! Owns what this program knows of a lease of its own. Renewing is done by the client's one keeper for all leases.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use http::Method;
use tenure_api::{Code, GrantLease, Lease as Granted, LeaseEnded};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::belief::{Belief, State};
use crate::call::{Call, Effect, TRY};
use crate::claim::{Identities, already_held};
use crate::client::Client;
use crate::clock::{Clock, Deadline, Moment};
use crate::endpoint::backoff;
use crate::error::{Error, Loss};
use crate::hold::Hold;
use crate::keeper::Post;
use crate::name;

/// The TTL of a lease that is granted for one lock or leadership, unless told otherwise.
pub(crate) const TTL: Duration = Duration::from_secs(15);
/// How long giving something up in the background may take: a lease that was not revoked by then ends by itself.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(5);
/// The least that members grant.
pub(crate) const SHORTEST_TTL: Duration = Duration::from_secs(1);
/// Before a lease is asked for anew, because one that was granted had ended before its answer came.
const ANEW_AFTER: Duration = Duration::from_millis(100);

/// A lease of this program, renewed every third of its TTL until it is dropped, revoked or lost.
///
/// Dropping it revokes it in the background, as far as that succeeds within 5 s: what hangs on it ends, and whoever
/// holds by it has lost. Where the runtime has ended, it just is not renewed any longer.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// use std::time::Duration;
/// let lease = client.lease(Duration::from_secs(15)).name("worker-7").grant().await?;
/// client.put("workers/7", "here").lease(&lease).await?;
/// tokio::select! {
///     loss = lease.lost() => eprintln!("stopping: {loss}"),
///     () = work() => lease.revoke().await?,
/// }
/// # async fn work() {}
/// # assert!(client.get("workers/7").await?.is_none());
/// # Ok(()) });
/// ```
pub struct Lease {
    pub(crate) shared: Arc<Shared>,
    client: Client,
    revoked: bool,
}

/// What the lease, its holds and the keeper share.
pub(crate) struct Shared {
    pub(crate) id: String,
    pub(crate) ttl: Duration,
    pub(crate) belief: Belief,
    holds: Mutex<Vec<Weak<Hold>>>,
    renewal: Mutex<Renewal>,
    /// Why the last renewal was none.
    trouble: Mutex<Option<Error>>,
    pub(crate) identities: Arc<Identities>,
    /// As of this revision nothing hung on it that a late asking had taken.
    searched: AtomicU64,
    /// It was let go of for somebody else to go on with, and so were the holds on it.
    detached: AtomicBool,
}

struct Renewal {
    due: Deadline,
    /// By whom, and from when on another may begin: the runtime of who began may not be run any more.
    under_way: Option<(Post, Deadline)>,
}

/// How it came that this program has a lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Had {
    Granted,
    Resumed,
}

/// A lease to be granted.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// use std::time::Duration;
/// let lease = client.lease(Duration::from_secs(15)).name("worker-7").metadata("rack", "b").grant().await?;
/// let shown = client.inspect_lease(lease.id()).await?;
/// assert_eq!((shown.name.as_str(), shown.metadata["rack"].as_str()), ("worker-7", "b"));
/// # lease.revoke().await?;
/// # Ok(()) });
/// ```
#[must_use = "nothing is granted before `grant` is awaited"]
pub struct Grant {
    client: Client,
    wanted: GrantLease,
}

impl Client {
    /// A lease with this TTL: 1 s to 24 h.
    pub fn lease(&self, ttl: Duration) -> Grant {
        let wanted = GrantLease {
            ttl_ms: millis(ttl),
            name: String::new(),
            metadata: BTreeMap::new(),
        };
        Grant {
            client: self.clone(),
            wanted,
        }
    }
}

impl Client {
    /// Goes on with a lease that was granted before, as after a restart. What hangs on it is taken up by asking for it
    /// again with the same lease and owner: the answer is the same hold, with the same fence.
    ///
    /// One program at a time may do so: two that both go on with a lease both believe in what hangs on it. One that this
    /// client, or a clone of it, has in hand already is refused. Dropped before it is done, this may have renewed it once.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// # let lease = client.lease(std::time::Duration::from_secs(15)).grant().await?;
    /// # let written_down = lease.detach();
    /// match client.resume_lease(&written_down).await {
    ///     Ok(lease) => println!("{:?} left of it; it is renewed from now on", lease.remaining()),
    ///     Err(tenure::Error::Lost(loss)) => println!("{loss}: begin anew"),
    ///     Err(error) => return Err(error.into()),
    /// }
    /// # Ok(()) });
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Lost`] where it has ended, or the answer came too late to be believed; [`Error::NotApplied`], with
    /// [`Code::AlreadyHeld`](tenure_api::Code::AlreadyHeld) where it is in hand; [`Error::Unknown`].
    pub async fn resume_lease(&self, id: &str) -> Result<Lease, Error> {
        if self.inner.has(id) {
            return Err(in_hand(id));
        }
        let path = format!("/v1/leases/{}/renew", name::encoded(id, false));
        let call = Call::new(Method::POST, path, Effect::Repeatable, self.patience);
        match self.perform(&call).await {
            Ok(answer) => {
                let renewed: Granted = answer.json()?;
                let ttl = Duration::from_millis(renewed.ttl_ms);
                let by = (Had::Resumed, answer.sent, renewed.remaining_ms);
                Lease::kept(self, renewed.lease, ttl, by)
            }
            Err(error) if has_ended(error.code()) => Err(Error::Lost(Loss::LeaseEnded)),
            Err(error) => Err(error),
        }
    }
}

fn in_hand(id: &str) -> Error {
    already_held(format!(
        "the lease {id:?} is in hand in this program already; it can be gone on with once it was let go of there"
    ))
}

/// Whether a lease is no more.
pub(crate) fn has_ended(code: Option<Code>) -> bool {
    matches!(code, Some(Code::LeaseExpired | Code::LeaseNotFound))
}

/// How long one try may take of a request by which a lease is granted. A repeat is answered with the same lease, which ages
/// meanwhile: so short that it lives when another member is asked, where the first does not answer.
pub(crate) fn try_for(ttl: Duration) -> Duration {
    (ttl.max(SHORTEST_TTL) / 2).min(TRY)
}

/// A lease that an earlier try was granted has ended before that was answered: nothing is left of it, and another may be
/// asked for under another key, after a pause.
///
/// # Errors
///
/// Where there is no time for that.
pub(crate) async fn before_anew(until: Instant) -> Result<(), Error> {
    let pause = backoff(ANEW_AFTER, 0, ANEW_AFTER);
    if until <= Instant::now() + pause {
        return Err(Error::Lost(Loss::LeaseEnded));
    }
    tokio::time::sleep(pause).await;
    Ok(())
}

impl Grant {
    /// A label for people, shown wherever the lease is.
    pub fn name(mut self, name: impl Into<String>) -> Grant {
        self.wanted.name = name.into();
        self
    }

    /// More labels.
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Grant {
        self.wanted.metadata.insert(name.into(), value.into());
        self
    }

    /// Grants it, exactly once however often it is asked. Where no answer came before what was granted had ended, another
    /// is asked for.
    ///
    /// Dropped before it is done, this may leave a lease that nobody renews; it ends after its TTL.
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`], [`Error::Unknown`]; [`Error::Lost`] where the answer came too late to be believed.
    pub async fn grant(self) -> Result<Lease, Error> {
        let until = Instant::now() + self.client.patience;
        let ttl = Duration::from_millis(self.wanted.ttl_ms);
        let answer = loop {
            let left = until.saturating_duration_since(Instant::now());
            let path = "/v1/leases".to_owned();
            let call = Call::new(Method::POST, path, Effect::Granting, left);
            let call = call.with_json(&self.wanted).with_tries_of(try_for(ttl));
            match self.client.perform(&call).await {
                Err(error) if has_ended(error.code()) => before_anew(until).await?,
                told => break told?,
            }
        };
        let granted: Granted = answer.json()?;
        let ttl = Duration::from_millis(granted.ttl_ms);
        let by = (Had::Granted, answer.sent, granted.remaining_ms);
        Lease::kept(&self.client, granted.lease, ttl, by)
    }
}

impl Lease {
    /// A lease that was answered to a request sent at a moment; renewed from now on.
    ///
    /// # Errors
    ///
    /// Where the answer came too late, or the lease is in hand already.
    pub(crate) fn kept(
        client: &Client,
        id: String,
        ttl: Duration,
        (had, sent, remaining_ms): (Had, Moment, u64),
    ) -> Result<Lease, Error> {
        let clock = Arc::clone(&client.inner.clock);
        let until = sent.believed_until(remaining_ms);
        let shared = Arc::new(Shared {
            ttl,
            belief: Belief::new(clock, ttl, until),
            holds: Mutex::default(),
            renewal: Mutex::new(Renewal {
                due: sent.after(ttl / 3),
                under_way: None,
            }),
            trouble: Mutex::default(),
            identities: client.inner.identities_of(&id),
            id,
            searched: AtomicU64::new(0),
            detached: AtomicBool::new(false),
        });
        let lease = Lease {
            shared,
            client: client.clone(),
            revoked: false,
        };
        let refused = match lease.shared.belief.look() {
            State::Lost(loss) => Error::Lost(loss),
            _ if lease.client.inner.keep(&lease.shared) => return Ok(lease),
            _ => in_hand(lease.id()),
        };
        if had == Had::Resumed {
            // It was not granted here, so it is not ended either.
            lease.detach();
        }
        Err(refused)
    }

    /// Lets go of it without ending it: nothing of it is believed in any longer and nobody renews it, but it lives until
    /// its TTL has passed, for [`Client::resume_lease`] in this program or in another. Answers its id.
    ///
    /// So it is with what is held or waited for by it: dropping a guard on it, or releasing it, does not end the hold in
    /// the cluster any more. In this program a hold can be taken up again once its old guard is dropped.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// use std::time::Duration;
    /// let lease = client.lease(Duration::from_secs(60)).grant().await?;
    /// let lock = client.lock("jobs/nightly").on(&lease).acquire().await?;
    /// let fence = lock.fence();
    /// let id = lease.detach();
    /// assert!(!lock.is_held(), "nothing of it is believed in here any longer");
    /// drop(lock);
    /// // In another program, perhaps: within the TTL nobody else is granted the lock.
    /// let lease = client.resume_lease(&id).await?;
    /// let lock = client.lock("jobs/nightly").on(&lease).acquire().await?;
    /// assert_eq!(lock.fence(), fence, "it is the same hold");
    /// # lock.release().await?;
    /// # lease.revoke().await?;
    /// # Ok(()) });
    /// ```
    pub fn detach(mut self) -> String {
        self.revoked = true;
        self.shared.detached.store(true, Ordering::SeqCst);
        self.client.inner.set_aside(&self.shared);
        self.shared.id.clone()
    }

    /// Its id: 16 hex digits.
    pub fn id(&self) -> &str {
        &self.shared.id
    }

    /// Its TTL.
    pub fn ttl(&self) -> Duration {
        self.shared.ttl
    }

    /// For how long it may still be believed in, if no renewal gets through any more; zero once it is lost.
    pub fn remaining(&self) -> Duration {
        self.shared.belief.remaining()
    }

    /// What may be believed of it, by the clock.
    pub fn state(&self) -> State {
        self.shared.belief.look()
    }

    /// What kept the last renewal from being one, also after it is lost: none, where it was renewed. It is believed in until
    /// its deadline, and where this is [`Code::Unauthenticated`](tenure_api::Code::Unauthenticated) or
    /// [`Code::Forbidden`](tenure_api::Code::Forbidden), because this program has lost its rights, no longer than that unless
    /// they are given back.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// use std::time::Duration;
    /// let lease = client.lease(Duration::from_secs(15)).grant().await?;
    /// match lease.trouble() {
    ///     None => println!("renewed, and certain for {:?}", lease.remaining()),
    ///     Some(error) => eprintln!("{:?} left, and not renewed: {error}", lease.remaining()),
    /// }
    /// # assert!(lease.trouble().is_none());
    /// # lease.revoke().await?;
    /// # Ok(()) });
    /// ```
    pub fn trouble(&self) -> Option<Error> {
        self.shared.trouble()
    }

    /// Its changes of state. They are told by a task of this client: whoever must be sure *now* asks [`Lease::state`].
    pub fn watch(&self) -> watch::Receiver<State> {
        self.shared.belief.watch()
    }

    /// A token that is cancelled once it is lost, by a task of the client. Whoever must be sure *now* asks
    /// [`Lease::state`].
    pub fn token(&self) -> CancellationToken {
        self.shared.belief.token()
    }

    /// Waits until it is lost. Dropping the future does nothing.
    pub async fn lost(&self) -> Loss {
        self.shared.belief.lost().await
    }

    /// Ends it, and all that hangs on it, at one revision. From this call on nothing of it is believed in any longer.
    ///
    /// Dropped before it is done, or where it fails, this goes on in the background as a drop of the lease does.
    ///
    /// # Errors
    ///
    /// [`Error::Lost`] where it was lost before. [`Error::NotApplied`] where no member was reached or this was refused,
    /// and [`Error::Unknown`] where it may have been applied: it then ends after its TTL at the latest.
    pub async fn revoke(mut self) -> Result<(), Error> {
        let before = self.shared.belief.look();
        self.shared.end(Loss::GivenUp);
        revoke(&self.client, &self.shared.id).await?;
        self.revoked = true;
        match before {
            State::Lost(loss) => Err(Error::Lost(loss)),
            State::Held | State::InJeopardy => Ok(()),
        }
    }
}

pub(crate) async fn revoke(client: &Client, id: &str) -> Result<(), Error> {
    let path = name::path("leases", id);
    let call = Call::new(Method::DELETE, path, Effect::Repeatable, client.patience);
    match client.perform(&call).await {
        Ok(answer) => answer.json::<LeaseEnded>().map(drop),
        // It is over, which is all that was wanted.
        Err(error) if has_ended(error.code()) => Ok(()),
        Err(error) => Err(error),
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shared.end(Loss::GivenUp);
        if self.revoked {
            return;
        }
        let client = self.client.clone().with_patience(LAST_WORDS);
        let id = self.shared.id.clone();
        self.client.in_background(async move {
            let _ = revoke(&client, &id).await;
        });
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease")
            .field("id", &self.shared.id)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn attach(&self, hold: &Arc<Hold>) {
        let mut holds = self.holds();
        holds.retain(|hold| hold.strong_count() > 0);
        holds.push(Arc::downgrade(hold));
    }

    /// The lease is over, and so is everything by it.
    pub(crate) fn end(&self, loss: Loss) {
        self.belief.end(loss);
        for hold in self.live_holds() {
            hold.belief.end(loss);
        }
    }

    /// Looks at all that is believed of it.
    pub(crate) fn look(&self) -> State {
        for hold in self.live_holds() {
            hold.belief.look();
        }
        let state = self.belief.look();
        if let State::Lost(loss) = state {
            self.end(loss);
        }
        state
    }

    /// An answer that renews it, beside what hangs on it.
    pub(crate) fn confirmed(&self, sent: Moment, remaining_ms: u64) {
        *self.last_trouble() = None;
        self.belief.extend(sent.believed_until(remaining_ms));
        let mut renewal = self.renewal();
        let due = sent.after(self.ttl / 3);
        renewal.due = renewal.due.later(due, sent);
    }

    /// Nothing more is believed of it, and nothing less.
    pub(crate) fn was_not_renewed(&self, error: Error) {
        let mut last = self.last_trouble();
        let is_of_rights =
            |error: &Error| matches!(error.code(), Some(Code::Unauthenticated | Code::Forbidden));
        // Who asks on though he is not known is slowed down for that: it is why he is, and no other reason.
        let is_why = last.as_ref().is_some_and(is_of_rights);
        if !(is_why && error.code() == Some(Code::TooManyRequests)) {
            *last = Some(error);
        }
    }

    pub(crate) fn trouble(&self) -> Option<Error> {
        self.last_trouble().clone()
    }

    fn last_trouble(&self) -> MutexGuard<'_, Option<Error>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer of the keeper's. Answers whether what hangs on it must be seen: before more is believed of some hold, or
    /// because a late asking may have taken something.
    pub(crate) fn renewed(
        &self,
        sent: Moment,
        remaining_ms: u64,
        attached_revision: Option<u64>,
    ) -> bool {
        self.confirmed(sent, remaining_ms);
        let until = sent.believed_until(remaining_ms);
        let doubtful = |hold: &Arc<Hold>| hold.lease_renewed(until, attached_revision);
        let doubtful = self
            .live_holds()
            .iter()
            .filter(|hold| doubtful(hold))
            .count()
            > 0;
        let searched = self.searched.load(Ordering::SeqCst);
        let is_news = attached_revision.is_some_and(|attached| attached > searched);
        doubtful || is_news && !self.identities.late(sent).is_empty()
    }

    /// What late askings had taken as of this revision is given up.
    pub(crate) fn was_searched(&self, at: u64) {
        self.searched.fetch_max(at, Ordering::SeqCst);
    }

    /// Something is left on it that nobody has in hand: the next renewal looks for it, whatever was searched before.
    pub(crate) fn is_to_be_searched(&self) {
        self.searched.store(0, Ordering::SeqCst);
    }

    /// Whether it was let go of for somebody else to go on with.
    pub(crate) fn is_detached(&self) -> bool {
        self.detached.load(Ordering::SeqCst)
    }

    /// The cluster showed it and what hangs on it. Answers the holds of which that says nothing.
    pub(crate) fn seen(&self, sent: Moment, lease: &Granted) -> Vec<Arc<Hold>> {
        let until = sent.believed_until(lease.remaining_ms);
        self.belief.extend(until);
        let attached = lease.attached.as_deref().unwrap_or_default();
        let whole = u64::try_from(attached.len()) == Ok(lease.attached_count);
        let mut unclear = self.live_holds();
        unclear.retain(|hold| hold.lease_seen(until, attached, whole, lease.revision));
        unclear
    }

    /// How long until its next renewal by this one; none while it has one under way.
    pub(crate) fn renewal_due_in(&self, now: Moment, by: Post) -> Option<Duration> {
        self.renewal().due_in(now, by)
    }

    /// Begins a renewal, unless somebody else has meanwhile.
    pub(crate) fn begin_renewal(&self, now: Moment, by: Post) -> bool {
        let mut renewal = self.renewal();
        let begins = renewal.free_in(now, by).is_some_and(|left| left.is_zero());
        if begins {
            renewal.under_way = Some((by, now.after(self.ttl / 3)));
        }
        begins
    }

    /// The renewal under way has ended; where it failed, the next one is due after a pause.
    pub(crate) fn end_renewal(&self, clock: &dyn Clock, by: Post, failed_for: Option<Duration>) {
        let mut renewal = self.renewal();
        renewal.end(by);
        if let Some(pause) = failed_for {
            renewal.due = clock.now().after(pause);
        }
    }

    /// Nobody goes on with what this one had under way.
    pub(crate) fn abandon_renewal(&self, by: Post) {
        self.renewal().end(by);
    }

    fn live_holds(&self) -> Vec<Arc<Hold>> {
        self.holds().iter().filter_map(Weak::upgrade).collect()
    }

    fn holds(&self) -> MutexGuard<'_, Vec<Weak<Hold>>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn renewal(&self) -> MutexGuard<'_, Renewal> {
        self.renewal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Renewal {
    fn due_in(&self, now: Moment, by: Post) -> Option<Duration> {
        let free = self.free_in(now, by)?;
        Some(self.due.remaining(now).max(free))
    }

    /// How long until this one may begin; none while it has one under way.
    fn free_in(&self, now: Moment, by: Post) -> Option<Duration> {
        match self.under_way {
            None => Some(Duration::ZERO),
            Some((post, _)) if post == by => None,
            Some((_, until)) => Some(until.remaining(now)),
        }
    }

    fn end(&mut self, by: Post) {
        self.under_way = self.under_way.filter(|(post, _)| *post != by);
    }
}

/// Milliseconds, as many as fit.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
