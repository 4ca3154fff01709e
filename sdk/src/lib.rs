//! Tenure's Rust client: locks, semaphores, elections, leases, keys and watches of a Tenure cluster, for programs on tokio.
//!
//! The half of the safety that a server cannot give is here: to know when *not* to believe any longer that something is
//! held. A [`Lease`] renews itself; a [`Lock`] or a [`Leadership`] hangs on one, tells what may be believed of it ([`State`]) by clocks that
//! count suspended time, and is lost at its local deadline at the latest, which is before the cluster may grant it to
//! anybody else.
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tenure::Error> {
//! use std::time::Duration;
//!
//! let client = tenure::Client::connect(["http://127.0.0.1:7379"])?;
//! let lock = client.lock("jobs/nightly").wait(Duration::from_secs(60)).acquire().await?;
//!
//! // Dropped before the lock could be another's, if renewals do not get through.
//! lock.run(async { /* the work */ }).await?;
//!
//! // Written only while the fence of this hold is the one that counts.
//! client.put("jobs/nightly/done", "yes").guard(&lock).await?;
//! lock.release().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is assumed, and what is not promised
//!
//! The clock rates of this machine and of the members are within 1 % of real time. Beyond that, fences and guards still
//! hold. A program that is stopped for longer than its TTL cannot know it while it is stopped: what must not suffer
//! from that checks the fence.
//!
//! # Errors
//!
//! [`Error`] says what may be concluded: *not applied*, *unknown*, or *lost*. The client has by then asked as many
//! members as often as its time allowed ([`Client::with_patience`]); it repeats nothing that could be applied twice.
//!
//! # Left out so far
//!
//! A lease with more than 100 things on it whose holds change by the hand of others: such a hold is then given up at its
//! deadline, though it may live. TLS and tokens, several locks at once, transactions, typed mirrors of configuration, a blocking
//! facade, and the command line. The types of the REST API are at [`api`], for programs that bring their own HTTP
//! client.

mod ask;
mod belief;
pub mod blocking;
mod builder;
mod call;
mod claim;
mod client;
mod clock;
mod cluster;
mod election;
mod endpoint;
mod error;
mod guard;
mod guarded;
mod held;
mod hold;
mod holders;
mod keeper;
mod keys;
mod lease;
mod list;
mod lock;
mod mirror;
mod multi;
mod name;
mod observe;
mod queue;
mod semaphore;
mod shown;
mod terms;
mod tls;
mod transport;
pub mod txn;
mod watch;

#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod testing;

pub use tenure_api as api;

pub use ask::{Acquire, Holdable, Labelled};
pub use belief::State;
pub use builder::ClientBuilder;
pub use client::Client;
pub use election::{Campaign, Leadership, Led, NotHandedOver};
pub use error::{Error, Failure, Loss};
pub use guard::{Guard, Single};
pub use guarded::Fenced;
pub use holders::{Break, Found, Listable, Listing};
pub use keys::{Delete, DeleteMany, KeyValue, Put, decoded};
pub use lease::{Grant, Lease};
pub use list::{List, Listed};
pub use lock::{Lock, Locked, SharedLock};
pub use mirror::{Bad, ConfigMirror, Mirroring, View};
pub use multi::{AcquireTogetherLocks, LockPart, LockedTogether, MultiLock};
pub use observe::{Leading, Observe, Seat};
pub use semaphore::{AcquirePermits, Permits, Permitted};
pub use watch::{Told, Watch, Watching};
