//! An instance: standing for the election, leading, and handing over.
//!
//! Owns the leadership. Requests borrow it for as long as they are worked on, so it is never given up under one.

use std::sync::Arc;
use std::time::Duration;

use tenure::{Client, Leadership, Lease};
use tokio::sync::{RwLock, watch};

use crate::on;

/// Between attempts that failed for good.
const PAUSE: Duration = Duration::from_millis(500);

pub(crate) struct Instance {
    pub(crate) client: Client,
    pub(crate) election: String,
    pub(crate) name: String,
    pub(crate) url: String,
    /// What this instance leads by. A request holds this for reading until it is answered: it ends before its
    /// leadership can be over, so nobody waits for long to write.
    pub(crate) term: RwLock<Option<Arc<Leadership>>>,
    /// Where the leader is reached, as far as this instance has heard; none while nobody leads.
    pub(crate) leader: watch::Sender<Option<String>>,
}

impl Instance {
    pub(crate) fn new(client: Client, election: String, name: String, url: String) -> Instance {
        Instance {
            client,
            election,
            name,
            url,
            term: RwLock::new(None),
            leader: watch::Sender::new(None),
        }
    }

    /// Follows who leads, for ever. While the cluster is away this stays as it is: the instance that is asked then
    /// knows better whether it leads.
    pub(crate) async fn observe(self: Arc<Instance>) {
        loop {
            let mut seats = self.client.observe(&self.election);
            while let Some(told) = seats.next().await {
                match told {
                    Ok(seat) => {
                        self.leader
                            .send_replace(seat.leader.map(|leader| leader.value));
                    }
                    Err(error) => eprintln!("leader: who leads cannot be observed: {error}"),
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Stands for the election again and again until it is told to stop; then hands over what it leads.
    pub(crate) async fn stand(self: Arc<Instance>, ttl: Duration, stop: watch::Receiver<bool>) {
        loop {
            let granting = self.client.lease(ttl).name(&self.name).grant();
            let lease = tokio::select! {
                () = on(stop.clone()) => return,
                lease = granting => lease,
            };
            let stops = match lease {
                Ok(lease) => self.stand_on(&lease, &stop).await.then_some(lease),
                Err(error) => {
                    eprintln!("leader: no lease: {error}");
                    None
                }
            };
            if let Some(lease) = stops {
                self.hand_over(lease).await;
                return;
            }
            tokio::select! {
                () = on(stop.clone()) => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// Stands and leads by one lease. Answers whether it was told to stop; else the lease or the leadership was lost.
    async fn stand_on(&self, lease: &Lease, stop: &watch::Receiver<bool>) -> bool {
        let campaign = self
            .client
            .campaign(&self.election, &self.name)
            .value(&self.url);
        let leadership = tokio::select! {
            () = on(stop.clone()) => return true,
            leadership = campaign.on(lease).lead() => leadership,
        };
        let leadership = match leadership {
            Ok(leadership) => Arc::new(leadership),
            Err(error) => {
                eprintln!("leader: not elected: {error}");
                return false;
            }
        };
        println!("{} leads, term {}", self.name, leadership.fence());
        *self.term.write().await = Some(Arc::clone(&leadership));
        tokio::select! {
            () = on(stop.clone()) => return true,
            loss = leadership.lost() => println!("{} does not lead any longer: {loss}", self.name),
        }
        *self.term.write().await = None;
        false
    }

    /// Lets the next candidate lead, at the moment at which this one stops to. Requests that are being worked on are
    /// waited for; later ones are sent away.
    async fn hand_over(&self, lease: Lease) {
        let term = self.term.write().await.take();
        if let Some(leadership) = term.and_then(Arc::into_inner) {
            let term = leadership.fence();
            match leadership.resign().await {
                Ok(()) => println!("{} has handed over, term {term}", self.name),
                Err(error) => eprintln!("leader: not handed over, it ends with its lease: {error}"),
            }
        }
        // A candidate that has gone must not be elected: its lease ends now and not by its TTL.
        if let Err(error) = lease.revoke().await {
            eprintln!("leader: the lease ends by itself: {error}");
        }
    }
}
