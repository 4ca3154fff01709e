//! Tenure's Rust client: locks, semaphores, elections, leases, keys, watches and mirrors of configuration of a Tenure
//! cluster, for programs on tokio, and by [`blocking`] for those without a runtime.
//!
//! The half of the safety that a server cannot give is here: to know when *not* to believe any longer that something is
//! held.
//!
//! # A first lock
//!
//! ```
//! # tenure_doctest::run(async |url| {
//! use std::time::Duration;
//!
//! let client = tenure::Client::connect(["http://127.0.0.1:7379"])?;
//! # let client = tenure::Client::connect([url])?;
//! let lock = client.lock("jobs/nightly").wait(Duration::from_secs(60)).acquire().await?;
//!
//! // Dropped before the lock could be another's, if renewals do not get through.
//! lock.run(async { /* the work */ }).await?;
//!
//! // Written only while the fence of this hold is the one that counts.
//! client.put("jobs/nightly/done", "yes").guard(&lock).await?;
//! lock.release().await?;
//! # Ok(()) });
//! ```
//!
//! # The parts
//!
//! - [`Client`] finds the members that answer and the one that leads, and tries again what may be tried again.
//!   [`Client::builder`] takes certificates and a token, which may be in a file that gets another one meanwhile.
//! - What is held is a [`Guard`]: a [`Lock`] ([`Client::lock`]), several at once or none, a [`MultiLock`]
//!   ([`Client::locks_together`]), [`Permits`] ([`Client::semaphore`]), a [`Leadership`] ([`Client::campaign`]). All are
//!   asked for by one builder, [`Acquire`], and believed in by the same rules.
//! - A [`Lease`] renews itself; holds and keys can hang on one. A hold without one has a lease of its own.
//! - Keys: [`get`](Client::get), [`put`](Client::put), [`delete`](Client::delete), [`list`](Client::list), and
//!   transactions, whose shape is checked by the compiler: [`txn`].
//! - [`Client::watch`] is a stream of changes, [`Client::observe`] one of who leads, [`Client::mirror`] a typed view of
//!   configuration that is always current.
//! - [`Client::backup`] writes a copy of everything, of which `tenured restore` makes a new cluster.
//! - Who may do what: [`Client::whoami`], [`Client::put_role`], [`Client::put_identity`], [`Client::create_token`] and their
//!   like, and [`Client::set_access`].
//! - Who holds what: [`Client::locks`], [`Client::inspect_lock`] and their like; an operator's word: [`Client::break_lock`].
//!
//! # What a guard believes
//!
//! `sent + 0.98 × remaining − 50 ms`: from the moment *before* the request was sent that was answered, on clocks that count
//! the time in which a machine was suspended. [`State`] tells what that comes to now. It is looked up by the clock whenever
//! it is asked for, so that the answer is right also where no task has run; what is lost is lost for ever.
//!
//! Assumed is that the clock rates of this machine and of the members are within 1 % of real time. Beyond that, fences and
//! guards still hold. Not promised is that a program knows what it lost while it is stopped, for longer than its TTL: what
//! must not suffer from that checks the fence.
//!
//! A copy of a process (of a cloned machine, or a restored checkpoint) may not go on with what was held before: both copies
//! would renew one lease, and both believe in its holds. It has to end, or to drop its client and ask anew; only a fence
//! tells the work of the two apart where they ask under leases of their own. What a copy asks for anew has idempotency keys
//! of its own.
//!
//! # One cluster
//!
//! A client keeps to the cluster that answered it first. After a restore there is another one, whose members refuse it with
//! [`Code::WrongCluster`](api::Code::WrongCluster): make a client anew, and take up nothing of what was held.
//!
//! # Errors
//!
//! [`Error`] says what may be concluded: *not applied*, *unknown*, or *lost*. The client has by then asked as many
//! members as often as its time allowed ([`Client::with_patience`]); it repeats nothing that could be applied twice.
//!
//! While access control is on, three [codes](api::Code) are of who asks. None of them is waited for in vain:
//!
//! | code | what it says | what the client does |
//! | --- | --- | --- |
//! | [`Unauthenticated`](api::Code::Unauthenticated) (401) | the token or certificate proves nobody: missing, revoked, expired | it reads a [token file](ClientBuilder::token_file) again and goes on where there is another token; else it says so at once |
//! | [`Forbidden`](api::Code::Forbidden) (403) | who asks may not: the detail names the verb and the resource that no role of the identity grants | it says so at once |
//! | [`TooManyRequests`](api::Code::TooManyRequests) (429) | the identity asks more often than its quota allows, or tokens were refused too often | it asks again after as long as it was told, within its patience |
//!
//! A [`Lease`] whose renewals are refused so, and what is held on it, is believed in until its deadline and no longer:
//! [`Lease::trouble`] and [`Guard::trouble`] say why.
//!
//! # Cancellation
//!
//! Every future may be dropped at any moment; none leaves the client in disorder. What it leaves in the cluster:
//!
//! | dropped | leaves |
//! | --- | --- |
//! | reads, lists, [`Client::lease_after`], [`Guard::lost`], [`Lease::lost`], [`ConfigMirror::ready`] | nothing |
//! | [`Watch::next`], [`Observe::next`] | nothing, and nothing is lost: the next one goes on |
//! | puts, deletes, transactions, [`Guard::proclaim`], breaks, [`Client::revoke_lease`], [`Client::change_limits`], [`Client::compact`], [`Client::set_access`] and changes of roles, identities and tokens | it may have been applied or may yet be |
//! | [`Client::create_token`] | a live token may be left whose secret nobody knows |
//! | [`Client::add_member`], [`Client::replace_member`], [`Client::promote_member`], [`Client::remove_member`], [`Client::transfer_leadership`] | it may have been done, or may yet be: [`Client::cluster`] shows who is a member and who leads |
//! | [`Client::set_log_filter_of`] | the member may have taken it, or may yet |
//! | [`Client::backup`], [`Client::local_backup`] | what had come until then is written, which is no backup; nothing in the cluster |
//! | [`Acquire::acquire`], [`Acquire::acquire_unless`] | the queue is left in the background within 5 s, else at the end of the lease; what comes late is given up by a renewal |
//! | [`Guard::run`] | what ran is dropped; it stays held |
//! | [`Guard::release`], [`Guard::resign`], [`Lease::revoke`] | it goes on in the background, else it ends with the lease; it is not believed in any longer |
//! | [`Guard::hand_over`] | the leadership was passed on, or is resigned in the background |
//! | [`Guard::release_one`] | it may have been released or may yet be; it is not believed in any longer |
//! | [`Grant::grant`] | a lease that nobody renews may be left until its TTL has passed |
//! | [`Client::resume_lease`] | it may have been renewed once |
//!
//! # Traces
//!
//! With the feature `otel`, each call is a span of the tracer provider that the program has set
//! (`opentelemetry::global`), within the span that is current where it is awaited, and each try a span within it, which
//! the members of the cluster go on with. No span says the name of a key, a lock or an owner. Renewals in the background
//! are calls like all others, within no span of the program. The members must be told where to send theirs.
//!
//! # Left out so far
//!
//! HTTP/2: a long-poll has a connection of its own. A state of more than 8 MiB at the beginning of a watch of other things
//! than keys, which a member refuses to show at once. The types of the REST API are at [`api`], for programs that bring their own HTTP client.

mod access;
mod ask;
mod backup;
mod belief;
pub mod blocking;
mod builder;
mod call;
mod certificate;
mod claim;
mod client;
mod clock;
mod cluster;
mod credential;
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
mod members;
mod mirror;
mod multi;
mod name;
mod observe;
mod place;
mod queue;
mod reread;
mod semaphore;
mod shown;
mod terms;
mod tls;
#[cfg_attr(not(feature = "otel"), path = "untraced.rs")]
mod traced;
mod transport;
pub mod txn;
mod watch;

#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod testing;

/// The examples of the README are run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use tenure_api as api;

pub use access::NewToken;
pub use ask::{Acquire, Holdable, Labelled};
pub use backup::{BackedUp, BackupError, BackupProgress};
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
