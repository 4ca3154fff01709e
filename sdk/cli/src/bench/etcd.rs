//! etcd as a system under test, over its gRPC API, by the locks and elections that it serves itself.

use std::time::Duration;

use bytes::Bytes;
use etcd_client::{
    Client, DeleteOptions, Error, GetOptions, LeaderKey, LeaseKeepAliveStream, LeaseKeeper,
    LockOptions, ResignOptions, WatchStream,
};

use super::busy::HEAD;
use super::system::{Done, Failure, Reading, Session, System, Watching};

/// So many renewals are sent before their answers are read: all of them fit into the window of a stream.
const AHEAD: usize = 100;

/// A cluster of etcd.
pub(crate) struct Etcd {
    /// Of the leader first.
    urls: Vec<String>,
    /// Connections to be shared; without any, each client has its own.
    shared: Vec<Client>,
    pub(crate) version: String,
}

impl Etcd {
    /// Asks the members who leads. `connections` below the number of clients are shared by them.
    ///
    /// # Errors
    ///
    /// Where a member does not answer.
    pub(crate) async fn connect(
        urls: &[String],
        clients: usize,
        connections: usize,
    ) -> Result<Etcd, Failure> {
        let mut ordered = Vec::new();
        let mut version = String::new();
        for url in urls {
            let status = connect(url).await?.status().await.map_err(|error| {
                let failure = failed(error);
                Failure::new(failure.code, format!("{url}: {}", failure.detail))
            })?;
            let own = status.header().map(|header| header.member_id());
            let place = if own == Some(status.leader()) {
                0
            } else {
                ordered.len()
            };
            ordered.insert(place, url.clone());
            status.version().clone_into(&mut version);
        }
        let mut shared = Vec::new();
        if connections < clients {
            for connection in 0..connections {
                shared.push(connect(&ordered[connection % ordered.len()]).await?);
            }
        }
        Ok(Etcd {
            urls: ordered,
            shared,
            version,
        })
    }
}

async fn connect(url: &str) -> Result<Client, Failure> {
    Client::connect([url], None).await.map_err(failed)
}

impl System for Etcd {
    type Session = Asking;

    async fn open(&self, number: usize) -> Result<Asking, Failure> {
        let client = match self.shared.len() {
            0 => connect(&self.urls[number % self.urls.len()]).await?,
            shared => self.shared[number % shared].clone(),
        };
        Ok(Asking {
            client,
            renewing: None,
        })
    }
}

fn failed(error: Error) -> Failure {
    let code = match &error {
        Error::GRpcStatus(status) => format!("{:?}", status.code()).to_lowercase(),
        Error::TransportError(_) | Error::IoError(_) => "connection".into(),
        _ => "client".into(),
    };
    Failure::new(code, error.to_string())
}

/// One client of etcd.
pub(crate) struct Asking {
    client: Client,
    /// The stream on which this client renews all its leases.
    renewing: Option<(LeaseKeeper, LeaseKeepAliveStream)>,
}

/// A lock or a leadership.
pub(crate) enum Hold {
    Lock(Vec<u8>),
    Leadership(LeaderKey),
}

impl Asking {
    async fn give_back(&mut self, hold: Hold) -> Result<(), Failure> {
        match hold {
            Hold::Lock(key) => self.client.unlock(key).await.map(|_| ()),
            Hold::Leadership(key) => {
                let options = ResignOptions::new().with_leader(key);
                self.client.resign(Some(options)).await.map(|_| ())
            }
        }
        .map_err(failed)
    }
}

impl Session for Asking {
    type Lease = i64;
    type Hold = Hold;
    type Watch = Watch;

    async fn put(&mut self, key: &str, value: Bytes) -> Result<(), Failure> {
        let put = self.client.put(key, value, None).await;
        put.map(|_| ()).map_err(failed)
    }

    async fn get(&mut self, key: &str, reading: Reading) -> Result<(), Failure> {
        let options = match reading {
            Reading::Linearizable => None,
            Reading::Local => Some(GetOptions::new().with_serializable()),
        };
        let answer = self.client.get(key, options).await.map_err(failed)?;
        if answer.kvs().is_empty() {
            return Err(Failure::new("key-not-found", format!("no key {key:?}")));
        }
        Ok(())
    }

    async fn delete(&mut self, prefix: &str) -> Result<(), Failure> {
        let options = DeleteOptions::new().with_prefix();
        let deleted = self.client.delete(prefix, Some(options)).await;
        deleted.map(|_| ()).map_err(failed)
    }

    async fn grant(&mut self, ttl: Duration) -> Result<i64, Failure> {
        let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        let granted = self.client.lease_grant(seconds, None).await;
        granted.map(|granted| granted.id()).map_err(failed)
    }

    async fn renew(&mut self, leases: &[i64]) -> Result<Done, Failure> {
        let mut done = Done::default();
        // Taken out, so that a stream that failed or was left with answers on their way is not used again.
        let (mut keeper, mut answers) = match self.renewing.take() {
            Some(renewing) => renewing,
            None => {
                let Some(first) = leases.first() else {
                    return Ok(done);
                };
                self.client.lease_keep_alive(*first).await.map_err(failed)?
            }
        };
        for ahead in leases.chunks(AHEAD) {
            for lease in ahead {
                // etcd-client makes a stream for each lease; by its id, one serves many, as with etcd's own client.
                keeper.id = *lease;
                keeper.keep_alive().await.map_err(failed)?;
            }
            for _ in ahead {
                let answer = answers.message().await.map_err(failed)?;
                let answer = answer.ok_or_else(|| Failure::connection("the stream has ended"))?;
                if answer.ttl() > 0 {
                    done.operations += 1;
                } else {
                    done.refuse("lease-not-found".into());
                }
            }
        }
        self.renewing = Some((keeper, answers));
        Ok(done)
    }

    async fn revoke(&mut self, lease: &i64) -> Result<(), Failure> {
        match self.client.lease_revoke(*lease).await.map_err(failed) {
            Err(failure) if failure.code == "notfound" => Ok(()),
            revoked => revoked.map(|_| ()),
        }
    }

    async fn acquire(&mut self, lock: &str, lease: &i64) -> Result<Hold, Failure> {
        let options = LockOptions::new().with_lease(*lease);
        let locked = self.client.lock(lock, Some(options)).await;
        let locked = locked.map_err(failed)?;
        Ok(Hold::Lock(locked.key().to_vec()))
    }

    async fn release(&mut self, hold: Hold) -> Result<(), Failure> {
        self.give_back(hold).await
    }

    async fn campaign(
        &mut self,
        election: &str,
        lease: &i64,
        value: &str,
    ) -> Result<Hold, Failure> {
        let mut won = self
            .client
            .campaign(election, value, *lease)
            .await
            .map_err(failed)?;
        let key = won.take_leader();
        key.map(Hold::Leadership)
            .ok_or_else(|| Failure::answer("a leadership has no key"))
    }

    async fn resign(&mut self, hold: Hold) -> Result<(), Failure> {
        self.give_back(hold).await
    }

    async fn watch(&mut self, key: &str) -> Result<Watch, Failure> {
        let mut stream = self.client.watch(key, None).await.map_err(failed)?;
        let first = stream.message().await.map_err(failed)?;
        match first {
            Some(first) if first.created() => Ok(Watch(stream)),
            _ => Err(Failure::answer("a watch was not created")),
        }
    }
}

/// A stream of events.
pub(crate) struct Watch(WatchStream);

impl Watching for Watch {
    async fn next(&mut self, heads: &mut Vec<Bytes>) -> Result<(), Failure> {
        while heads.is_empty() {
            let told = self.0.message().await.map_err(failed)?;
            let told = told.ok_or_else(|| Failure::connection("the stream has ended"))?;
            if told.canceled() {
                return Err(Failure::new("watch-cancelled", told.cancel_reason()));
            }
            for event in told.events() {
                if let Some(entry) = event.kv() {
                    let value = entry.value();
                    let head = &value[..HEAD.min(value.len())];
                    heads.push(Bytes::copy_from_slice(head));
                }
            }
        }
        Ok(())
    }
}
