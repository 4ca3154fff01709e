//! The tasks that renew the leases of a client, all that are due in one request, and tell of losses.
//!
//! Owns when a lease is renewed. There is one task on each runtime on which the client is used, since a runtime may end, or
//! not be run any more, while another goes on: whichever looks first when a renewal is due begins it, and where it
//! does not end it, another does. Does not decide what may be believed: a lease is lost by its deadline also where
//! no task ever runs again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use http::Method;
use tenure_api::{Code, LeasesRenewed, MAX_RENEWED_TOGETHER, RenewLeases, RenewResult};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

use crate::belief::State;
use crate::call::{Call, Effect, perform};
use crate::claim::Identities;
use crate::client::{Client, Inner};
use crate::clock::Deadline;
use crate::endpoint::backoff;
use crate::error::{Error, Failure, Loss};
use crate::hold::Hold;
use crate::lease::{LAST_WORDS, Shared};
use crate::name;
use crate::place::Place;
use crate::shown::{Shown, Within, look_at};

/// Timers stand still while a machine is suspended: the clock is looked at this often.
const LONGEST_NAP: Duration = Duration::from_millis(250);
const SHORTEST_NAP: Duration = Duration::from_millis(1);
/// After a renewal on which all tries failed.
const PAUSE: Duration = Duration::from_millis(50);
/// After one that was refused and would be again, at most: a right may be given back before the deadline, or another member
/// be reached, which is looked for a few times in each TTL, and not so often that members would take it for guessing.
const LONGEST_REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// The leases, and the tasks while there are some.
#[derive(Default)]
pub(crate) struct Keeper {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    leases: Vec<Weak<Shared>>,
    /// One on each runtime.
    posts: Vec<Posted>,
    next_post: u64,
    /// Of leases that were let go of: what of them this program has, or had, in hand.
    set_aside: Vec<SetAside>,
}

/// The task on one runtime.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Post(u64);

struct Posted {
    runtime: Handle,
    task: JoinHandle<()>,
    news: Arc<Notify>,
}

struct SetAside {
    lease: String,
    identities: Arc<Identities>,
    /// By then nothing is left of it, unless somebody else goes on with it.
    until: Deadline,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        for post in self.kept().posts.drain(..) {
            post.task.abort();
        }
    }
}

impl Keeper {
    /// Where renewals run; none before the first lease.
    pub(crate) fn runtime(&self) -> Option<Handle> {
        let kept = self.kept();
        let mut posts = kept.posts.iter();
        let runs = posts.find(|post| !post.task.is_finished());
        runs.map(|post| post.runtime.clone())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Whether a lease is believed in, and renewed.
    fn has(&self, id: &str) -> bool {
        let live = self.leases.iter().filter_map(Weak::upgrade);
        let mut found = live.filter(|lease| lease.id == id);
        found.any(|lease| !matches!(lease.belief.look(), State::Lost(_)))
    }
}

impl Inner {
    /// Renews it from now on, until it is lost or dropped. Answers no where another of the same id is kept already. Must
    /// be called on a runtime.
    pub(crate) fn keep(self: &Arc<Self>, lease: &Arc<Shared>) -> bool {
        let mut kept = self.keeper.kept();
        if kept.has(&lease.id) {
            return false;
        }
        kept.leases.push(Arc::downgrade(lease));
        drop(kept);
        self.attend();
        for post in &self.keeper.kept().posts {
            post.news.notify_one();
        }
        true
    }

    /// Whether it is in hand.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.keeper.kept().has(id)
    }

    /// Where there are leases, sees to it that they are renewed on this runtime, too.
    pub(crate) fn attend(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let mut kept = self.keeper.kept();
        if kept.leases.is_empty() {
            return;
        }
        // A task whose runtime has ended is over, too.
        kept.posts.retain(|post| !post.task.is_finished());
        if kept
            .posts
            .iter()
            .any(|post| post.runtime.id() == runtime.id())
        {
            return;
        }
        let (post, news) = (Post(kept.next_post), Arc::new(Notify::new()));
        kept.next_post += 1;
        let task = tokio::spawn(run(Arc::downgrade(self), post, Arc::clone(&news)));
        kept.posts.push(Posted {
            runtime,
            task,
            news,
        });
    }

    /// Remembers what of a lease is in hand or may still come, for when this program goes on with it.
    pub(crate) fn set_aside(&self, lease: &Shared) {
        let now = self.clock.now();
        let mut kept = self.keeper.kept();
        kept.set_aside
            .retain(|aside| !aside.until.has_passed(now) && aside.lease != lease.id);
        if !lease.identities.is_empty() {
            kept.set_aside.push(SetAside {
                lease: lease.id.clone(),
                identities: Arc::clone(&lease.identities),
                until: now.after(lease.ttl * 2),
            });
        }
    }

    /// The identities of a lease: what was set aside, else none. They stay set aside: of several who go on with the lease
    /// at a time, it is not decided yet who does.
    pub(crate) fn identities_of(&self, id: &str) -> Arc<Identities> {
        let kept = self.keeper.kept();
        let mut aside = kept.set_aside.iter();
        let found = aside.find(|aside| aside.lease == id);
        found.map_or_else(Arc::default, |aside| Arc::clone(&aside.identities))
    }

    /// Those that live, each looked at.
    fn live_leases(&self) -> Vec<Arc<Shared>> {
        let mut kept = self.keeper.kept();
        let mut live = Vec::with_capacity(kept.leases.len());
        kept.leases.retain(|lease| {
            let lease = lease.upgrade();
            let lease = lease.filter(|lease| !matches!(lease.look(), State::Lost(_)));
            live.extend(lease.clone());
            lease.is_some()
        });
        live
    }
}

async fn run(client: Weak<Inner>, by: Post, news: Arc<Notify>) {
    let mut renewals = JoinSet::new();
    loop {
        let nap = match client.upgrade() {
            Some(client) => turn(&client, by, &mut renewals),
            None => return,
        };
        // Without a lease there is nothing to be woken for but news of one.
        let sleep = async {
            match nap {
                Some(nap) => tokio::time::sleep(nap).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = news.notified() => {}
            Some(_) = renewals.join_next() => {}
            () = sleep => {}
        }
    }
}

/// Begins the renewals that are due, and answers when to look again; never where there is no lease.
fn turn(client: &Arc<Inner>, by: Post, renewals: &mut JoinSet<()>) -> Option<Duration> {
    let leases = client.live_leases();
    if leases.is_empty() {
        return None;
    }
    let now = client.clock.now();
    let due_in = |lease: &Arc<Shared>| lease.renewal_due_in(now, by);
    let next = leases.iter().filter_map(due_in).min();
    if next.is_some_and(|next| next.is_zero()) {
        // Those that will be due soon go with it, so that leases of one client come to be renewed together.
        let soon = |lease: &Arc<Shared>| due_in(lease).is_some_and(|left| left <= lease.ttl / 12);
        let begins = |lease: &&Arc<Shared>| soon(lease) && lease.begin_renewal(now, by);
        let due: Vec<_> = leases.iter().filter(begins).cloned().collect();
        for batch in due.chunks(MAX_RENEWED_TOGETHER) {
            let begun = Begun {
                leases: batch.to_vec(),
                by,
            };
            renewals.spawn(renew(Arc::clone(client), begun));
        }
    }
    let next = leases.iter().filter_map(due_in).min();
    let loss = leases.iter().map(|lease| lease.belief.remaining()).min();
    let nap = next.into_iter().chain(loss).min().unwrap_or(LONGEST_NAP);
    Some(nap.clamp(SHORTEST_NAP, LONGEST_NAP))
}

/// Leases whose renewal is under way. Where the runtime ends before it does, others may begin at once.
struct Begun {
    leases: Vec<Arc<Shared>>,
    by: Post,
}

impl Drop for Begun {
    fn drop(&mut self) {
        for lease in &self.leases {
            lease.abandon_renewal(self.by);
        }
    }
}

async fn renew(client: Arc<Inner>, begun: Begun) {
    let (leases, by) = (&begun.leases, begun.by);
    let shortest = leases.iter().map(|lease| lease.ttl).min();
    let shortest = shortest.unwrap_or_default();
    let left = leases.iter().map(|lease| lease.belief.remaining()).min();
    let ids = leases.iter().map(|lease| lease.id.clone()).collect();
    let path = "/v1/leases/renew".to_owned();
    let call = Call::new(
        Method::POST,
        path,
        Effect::Repeatable,
        left.unwrap_or_default(),
    )
    .with_json(&RenewLeases { leases: ids })
    .with_tries_of(try_for(shortest));
    let answer = perform(&client, &call).await;
    let answer = answer.and_then(|answer| Ok((answer.sent, answer.json::<LeasesRenewed>()?)));
    let (sent, renewed) = match answer {
        Ok(renewed) => renewed,
        Err(error) => {
            let pause = match error.may_pass() {
                true => backoff(PAUSE, 0, PAUSE),
                false => refused_pause(shortest),
            };
            for lease in leases {
                lease.was_not_renewed(error.clone());
                lease.end_renewal(&*client.clock, by, Some(pause));
            }
            return;
        }
    };
    let mut doubtful = Vec::new();
    for lease in leases {
        let result = renewed
            .results
            .iter()
            .find(|result| id_of(result) == lease.id);
        let failed_for = match result {
            None => Some(PAUSE),
            Some(RenewResult::Lost { .. }) => Some(refused_pause(lease.ttl)),
            Some(RenewResult::Renewed { .. }) => None,
        };
        lease.end_renewal(&*client.clock, by, failed_for);
        match result {
            Some(RenewResult::Renewed {
                remaining_ms,
                attached_revision,
                ..
            }) => {
                if lease.renewed(sent, *remaining_ms, *attached_revision) {
                    doubtful.push(lease);
                }
            }
            Some(RenewResult::Lost {
                error: Code::LeaseExpired | Code::LeaseNotFound,
                ..
            }) => lease.end(Loss::LeaseEnded),
            // Neither confirmed nor ended: what is believed runs on.
            Some(RenewResult::Lost { error, .. }) => {
                lease.was_not_renewed(not_renewed(lease, *error))
            }
            None => lease.was_not_renewed(unnamed(lease)),
        }
    }
    let mut seen = Vec::with_capacity(doubtful.len());
    for lease in doubtful {
        seen.extend(see(&client, lease).await.map(|shown| (lease, shown)));
    }
    // What is believed comes first: this may take its time.
    for (lease, shown) in seen {
        if give_up_late(&client, lease, &shown).await {
            lease.was_searched(shown.revision);
        }
    }
}

fn not_renewed(lease: &Shared, code: Code) -> Error {
    let detail = format!("the lease {} is not renewed: {}", lease.id, code.title());
    Error::NotApplied(Failure::of(code, detail))
}

fn unnamed(lease: &Shared) -> Error {
    let detail = format!(
        "a member answered a renewal without a word on the lease {}",
        lease.id
    );
    Error::Unknown(Failure::local(detail))
}

fn refused_pause(ttl: Duration) -> Duration {
    (ttl / 10).clamp(PAUSE, LONGEST_REFUSED_PAUSE)
}

fn id_of(result: &RenewResult) -> &str {
    match result {
        RenewResult::Renewed { lease, .. } | RenewResult::Lost { lease, .. } => lease,
    }
}

/// So short that two members that do not answer leave time for a third: renewals begin at a third of the TTL.
fn try_for(ttl: Duration) -> Duration {
    (ttl / 6).clamp(Duration::from_millis(150), Duration::from_secs(3))
}

/// Something on the lease has changed since its holds were seen: looks which of them are left, and answers what it saw.
/// Where that cannot be learnt, the next renewal asks again, and meanwhile the holds keep the deadlines that they had.
async fn see(client: &Inner, lease: &Shared) -> Option<tenure_api::Lease> {
    let path = name::path("leases", &lease.id);
    let call = Call::read(path, lease.belief.remaining()).with_tries_of(try_for(lease.ttl));
    let answer = perform(client, &call).await.ok()?;
    let shown = answer.json::<tenure_api::Lease>().ok()?;
    for hold in lease.seen(answer.sent, &shown) {
        see_parts(client, &hold).await;
    }
    Some(shown)
}

/// Gives up what late askings have taken. Answers whether nothing of it is left.
async fn give_up_late(client: &Arc<Inner>, lease: &Arc<Shared>, shown: &tenure_api::Lease) -> bool {
    let attached = shown.attached.as_deref().unwrap_or_default();
    let whole = u64::try_from(attached.len()) == Ok(shown.attached_count);
    let client = Client::over(Arc::clone(client), LAST_WORDS);
    let mut done = true;
    for asked in lease.identities.late(client.inner.clock.now()) {
        let may_be = !whole || attached.iter().any(|thing| asked.may_be(thing));
        // What somebody has in hand is no stray; once it is not any more, that is news by which this is done again.
        let place = may_be.then(|| Place::take(&client, asked, lease).ok());
        if let Some(place) = place.flatten() {
            done &= place.leave().await.is_ok();
        }
    }
    done
}

/// The lease has more on it than it shows: looks at what the hold is of.
async fn see_parts(client: &Inner, hold: &Hold) {
    let (mut shown, mut until, mut at) = (Vec::new(), None, u64::MAX);
    for part in hold.live_parts() {
        let within = Within {
            patience: hold.belief.remaining(),
            each: try_for(hold.lease.ttl),
        };
        let by = (hold.lease.id.as_str(), hold.owner.as_str());
        let Ok(seen) = look_at(client, (hold.kind, &part.name), by, within).await else {
            return;
        };
        // All hang on one lease, of which the first look tells the earliest deadline.
        if let Shown::Held { remaining_ms, .. } = seen.shown {
            until.get_or_insert(seen.sent.believed_until(remaining_ms));
        }
        at = at.min(seen.revision);
        shown.push((part, seen.shown));
    }
    if !shown.is_empty() {
        let until = until.unwrap_or_else(|| client.clock.now().believed_until(0));
        hold.parts_seen(until, &shown, at);
    }
}
