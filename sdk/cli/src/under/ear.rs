//! An ear for what others do to a hold: a revoked lease, a hold that an operator ended.
//!
//! Owns nothing that is believed: renewals decide that, and tell of the same, after a third of the TTL or so. What is heard
//! here is what the cluster has committed, and ends a command sooner; that nothing is heard means nothing. It listens to
//! the lease, which tells of all that hangs on it and of nothing else: of a lock that is shared, each holder hears only
//! what becomes of its own hold.

use std::pin::Pin;
use std::time::Duration;

use tenure::api::{Attached, AttachedState, Code, Lease};
use tenure::{Client, Error, Loss};
use tokio::task::JoinSet;

use super::asking::{is_of_rights, tells_of_its_end};

/// Between askings that no member answered.
const PAUSE: Duration = Duration::from_millis(200);
/// Between askings of who is refused.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// Who listens for the end of one hold.
pub(super) struct Ear {
    listening: Pin<Box<dyn Future<Output = Loss> + Send>>,
    heard: Option<Loss>,
}

/// A hold as the cluster shows it.
struct Hold {
    lease: String,
    /// As it is called among what hangs on the lease: `locks/jobs/nightly`.
    thing: String,
    fence: u64,
}

impl Ear {
    /// Listens for the end of a lease, and of the hold with a fence on a thing.
    pub(super) fn for_the_end(client: &Client, lease: &str, thing: String, fence: u64) -> Ear {
        let hold = Hold {
            lease: lease.to_owned(),
            thing,
            fence,
        };
        Ear {
            listening: Box::pin(listen(client.clone(), hold)),
            heard: None,
        }
    }

    /// Waits until the cluster tells that the hold has ended; for ever, where it does not. Dropping the future loses
    /// nothing.
    pub(super) async fn hears(&mut self) -> Loss {
        match self.heard {
            Some(loss) => loss,
            None => *self.heard.insert(self.listening.as_mut().await),
        }
    }
}

async fn listen(client: Client, hold: Hold) -> Loss {
    let mut seen = hold.fence;
    loop {
        match client.lease_after(&hold.lease, seen).await {
            Ok(None) => {}
            Ok(Some(lease)) => {
                if !hold.is_held(&client, &lease).await {
                    return Loss::Broken;
                }
                seen = lease.revision;
            }
            Err(error) if tells_of_its_end(&error) => return Loss::LeaseEnded,
            // It was restored from a backup, and is another one: in that one others may hold at once.
            Err(error) if error.code() == Some(Code::WrongCluster) => {
                if is_another(&client).await {
                    return Loss::LeaseEnded;
                }
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) if error.may_pass() => tokio::time::sleep(PAUSE).await,
            Err(error) if is_of_rights(&error) => tokio::time::sleep(REFUSED_PAUSE).await,
            // From now on nothing is heard.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Whether all that are known answer as members of another cluster than the one that granted the hold. One that is silent may
/// be of that one, and renew it again before the deadline: strangers beside it say nothing.
async fn is_another(client: &Client) -> bool {
    let mut asking = JoinSet::new();
    for url in client.urls() {
        let client = client.clone();
        asking.spawn(async move {
            let told = client.status_of(&url).await;
            told.is_err_and(|error| error.code() == Some(Code::WrongCluster))
        });
    }
    !asking.join_all().await.contains(&false)
}

impl Hold {
    /// Whether it is there, as far as that is told.
    async fn is_held(&self, client: &Client, lease: &Lease) -> bool {
        let attached = lease.attached.as_deref().unwrap_or_default();
        let whole = u64::try_from(attached.len()) == Ok(lease.attached_count);
        attached.iter().any(|thing| self.is(thing)) || !whole && self.is_shown(client).await
    }

    fn is(&self, thing: &Attached) -> bool {
        thing.resource == self.thing
            && thing.state == Some(AttachedState::Held)
            && thing.fence == Some(self.fence)
    }

    /// Whether it is among the holders of its thing, where its lease has more on it than it shows.
    async fn is_shown(&self, client: &Client) -> bool {
        let (collection, name) = self.thing.split_once('/').unwrap_or_default();
        let shown: Result<(Vec<(String, u64)>, u64), Error> = match collection {
            "locks" => client.inspect_lock(name).await.map(|lock| {
                let holders = lock.holders.into_iter();
                (
                    holders.map(|it| (it.lease, it.fence)).collect(),
                    lock.holder_count,
                )
            }),
            "semaphores" => client.inspect_semaphore(name).await.map(|semaphore| {
                let holders = semaphore.holders.into_iter();
                (
                    holders.map(|it| (it.lease, it.fence)).collect(),
                    semaphore.holder_count,
                )
            }),
            _ => client.election(name).await.map(|election| {
                let leader = election.leader.into_iter();
                let leader: Vec<_> = leader.map(|it| (it.lease, it.fence)).collect();
                let count = u64::from(!leader.is_empty());
                (leader, count)
            }),
        };
        // What is not told is not concluded.
        let Ok((holders, count)) = shown else {
            return true;
        };
        let whole = u64::try_from(holders.len()) == Ok(count);
        let is = |(lease, fence): &(String, u64)| *lease == self.lease && *fence == self.fence;
        holders.iter().any(is) || !whole
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Whether the hold of a lock is told to be there by a lease with this on it, of so many things.
    async fn is_held(attached: Value, count: usize) -> bool {
        let lease = json!({"lease": "3f9c2a7b5d1e8046", "name": "", "metadata": {}, "ttl_ms": 15_000,
            "remaining_ms": 14_000, "granted_revision": 118, "attached_count": count, "attached_revision": 140,
            "mod_revision": 140, "attached": attached, "revision": 141});
        let lease: Lease = serde_json::from_value(lease).expect("it is a lease");
        let hold = Hold {
            lease: lease.lease.clone(),
            thing: "locks/a/b".into(),
            fence: 121,
        };
        let client = Client::connect(["http://127.0.0.1:1"]).expect("it is a URL");
        let client = client.with_patience(Duration::from_millis(50));
        hold.is_held(&client, &lease).await
    }

    #[tokio::test]
    async fn the_end_of_this_very_hold_is_heard_and_nothing_else() {
        let hold = |name: &str, state: &str, fence: u64| json!({"resource": format!("locks/{name}"), "owner": "", "state": state, "fence": fence});
        let key = json!({"resource": "keys/k"});
        assert!(is_held(json!([key, hold("a/b", "held", 121)]), 2).await);
        assert!(!is_held(json!([key]), 1).await);
        assert!(!is_held(json!([hold("a", "held", 121)]), 1).await);
        assert!(!is_held(json!([hold("a/b", "held", 122)]), 1).await);
        assert!(!is_held(json!([hold("a/b", "queued", 121)]), 1).await);
        // There is more on the lease, and nobody who could be asked: nothing is concluded.
        assert!(is_held(json!([key]), 200).await);
    }
}
