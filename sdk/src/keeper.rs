//! The task that renews the leases of a client, all that are due in one request, and tells of losses.
//!
//! Owns when a lease is renewed. Does not decide what may be believed: a lease is lost by its deadline also where this
//! task never runs again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use http::Method;
use tenure_api::{Code, LeasesRenewed, MAX_RENEWED_TOGETHER, RenewLeases, RenewResult};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

use crate::belief::State;
use crate::call::{Call, Effect, perform};
use crate::client::Inner;
use crate::endpoint::backoff;
use crate::error::Loss;
use crate::hold::Hold;
use crate::lease::Shared;
use crate::name;
use crate::shown::{Shown, Within, look_at};

/// Timers stand still while a machine is suspended: the clock is looked at this often.
const LONGEST_NAP: Duration = Duration::from_millis(250);
const SHORTEST_NAP: Duration = Duration::from_millis(1);
/// After a renewal on which all tries failed.
const PAUSE: Duration = Duration::from_millis(50);

/// The leases, and the task while there are some.
#[derive(Default)]
pub(crate) struct Keeper {
    kept: Mutex<Kept>,
    news: Arc<Notify>,
}

#[derive(Default)]
struct Kept {
    leases: Vec<Weak<Shared>>,
    task: Option<JoinHandle<()>>,
    /// Where the task runs.
    runtime: Option<Handle>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(task) = self.kept().task.take() {
            task.abort();
        }
    }
}

impl Keeper {
    /// Where renewals run; none before the first lease.
    pub(crate) fn runtime(&self) -> Option<Handle> {
        self.kept().runtime.clone()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Renews it from now on, until it is lost or dropped. Must be called on a runtime.
    pub(crate) fn keep(self: &Arc<Self>, lease: &Arc<Shared>) {
        let mut kept = self.keeper.kept();
        kept.leases.push(Arc::downgrade(lease));
        // A task whose runtime has ended is over, too.
        if kept.task.as_ref().is_none_or(JoinHandle::is_finished) {
            let news = Arc::clone(&self.keeper.news);
            kept.task = Some(tokio::spawn(run(Arc::downgrade(self), news)));
            kept.runtime = Some(Handle::current());
        }
        drop(kept);
        self.keeper.news.notify_one();
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

async fn run(client: Weak<Inner>, news: Arc<Notify>) {
    let mut renewals = JoinSet::new();
    loop {
        let nap = match client.upgrade() {
            Some(client) => turn(&client, &mut renewals),
            None => return,
        };
        tokio::select! {
            () = news.notified() => {}
            Some(_) = renewals.join_next() => {}
            () = tokio::time::sleep(nap) => {}
        }
    }
}

/// Begins the renewals that are due, and answers when to look again.
fn turn(client: &Arc<Inner>, renewals: &mut JoinSet<()>) -> Duration {
    let leases = client.live_leases();
    let now = client.clock.now();
    let due_in = |lease: &Arc<Shared>| lease.renewal_due_in(now);
    let next = leases.iter().filter_map(due_in).min();
    if next.is_some_and(|next| next.is_zero()) {
        // Those that will be due soon go with it, so that leases of one client come to be renewed together.
        let soon = |lease: &Arc<Shared>| due_in(lease).is_some_and(|left| left <= lease.ttl / 12);
        let due: Vec<_> = leases.iter().filter(|lease| soon(lease)).cloned().collect();
        for batch in due.chunks(MAX_RENEWED_TOGETHER) {
            batch.iter().for_each(|lease| lease.begin_renewal());
            renewals.spawn(renew(Arc::clone(client), batch.to_vec()));
        }
    }
    let next = leases.iter().filter_map(due_in).min();
    let loss = leases.iter().map(|lease| lease.belief.remaining()).min();
    let nap = next.into_iter().chain(loss).min().unwrap_or(LONGEST_NAP);
    nap.clamp(SHORTEST_NAP, LONGEST_NAP)
}

async fn renew(client: Arc<Inner>, leases: Vec<Arc<Shared>>) {
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
    let Ok((sent, renewed)) = answer else {
        let pause = backoff(PAUSE, 0, PAUSE);
        for lease in &leases {
            lease.end_renewal(&*client.clock, Some(pause));
        }
        return;
    };
    let mut doubtful = Vec::new();
    for lease in leases {
        let result = renewed
            .results
            .iter()
            .find(|result| id_of(result) == lease.id);
        lease.end_renewal(&*client.clock, result.is_none().then_some(PAUSE));
        match result {
            Some(RenewResult::Renewed {
                remaining_ms,
                attached_revision,
                ..
            }) => {
                if lease.renewed(sent, *remaining_ms, attached_revision.unwrap_or_default()) {
                    doubtful.push(lease);
                }
            }
            Some(RenewResult::Lost {
                error: Code::LeaseExpired | Code::LeaseNotFound,
                ..
            }) => lease.end(Loss::LeaseEnded),
            // Neither confirmed nor ended: what is believed runs on.
            Some(RenewResult::Lost { .. }) | None => {}
        }
    }
    for lease in doubtful {
        see(&client, &lease).await;
    }
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

/// Something on the lease has changed since its holds were seen: looks which of them are left. Where that cannot be
/// learnt, the next renewal asks again, and meanwhile the holds keep the deadlines that they had.
async fn see(client: &Inner, lease: &Shared) {
    let path = name::path("leases", &lease.id);
    let call = Call::read(path, lease.belief.remaining()).with_tries_of(try_for(lease.ttl));
    let Ok(answer) = perform(client, &call).await else {
        return;
    };
    let Ok(shown) = answer.json::<tenure_api::Lease>() else {
        return;
    };
    for hold in lease.seen(answer.sent, &shown) {
        see_parts(client, &hold).await;
    }
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
