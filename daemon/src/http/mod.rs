//! REST: the calls of clients over HTTP/1.1 and HTTP/2.
//!
//! Owns the way from bytes of a client to commands and reads of this member, and back; alone in knowing status codes.
//! Must never decide anything about leases, locks or keys, nor who may do what: what the state machine answers is only
//! told. `caller` finds out who asks, `rights` has what each call needs.

mod access;
mod acquiring;
mod administration;
mod audit;
mod backup;
mod body;
mod budget;
mod caller;
mod cluster;
mod condition;
mod connection;
mod elections;
mod events;
mod failure;
mod following;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod guard;
mod health;
mod idempotency;
mod key_ranges;
mod keys;
mod leases;
mod locks;
mod manners;
mod members;
mod membership;
mod metrics;
mod openapi;
mod outgoing;
mod poll;
mod probe;
mod query;
mod queues;
mod reading;
mod releasing;
mod reply;
mod rights;
mod route;
mod secured;
mod selection;
mod semaphores;
mod service;
mod shares;
mod snapshot;
mod stream;
mod text;
mod throttle;
mod together;
mod transactions;
mod versions;
mod waiting;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub(crate) use waiting::serve as serve_waiting;

use crate::logging::LogFilter;
use crate::node::Handle;
use crate::tls::Tls;

/// What the client address is served with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Names under which clients may call this member, beside its own (`client_hosts`).
    pub client_hosts: Vec<String>,
    /// Connections at a time; beyond it they queue in the kernel.
    pub connections: usize,
    /// Requests that wait at a time (acquires and watches); beyond it they are `429`.
    pub waits: usize,
    /// How long open requests may take to end at a stop.
    pub drain: Duration,
    /// Which log lines are written, which a call may change.
    pub log_filter: LogFilter,
    /// What secures connections.
    pub tls: Tls,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            client_hosts: Vec::new(),
            connections: 10_000,
            waits: 20_000,
            drain: Duration::from_secs(5),
            log_filter: LogFilter::default(),
            tls: Tls::default(),
        }
    }
}

/// Serves clients on `listener` until `shutdown`. Ends when every connection has ended: requests that wait are ended by
/// the stop of the member ([`Handle::stopping`]), all others are answered, what takes longer than `settings.drain` is
/// cut.
pub async fn serve(
    listener: TcpListener,
    handle: Handle,
    settings: Settings,
    shutdown: CancellationToken,
) {
    let address = listener.local_addr().ok();
    let address = address.filter(|address| !address.ip().to_canonical().is_loopback());
    if let Some(address) = address
        && !handle.read(|state| state.access().enabled())
    {
        tracing::warn!(%address, "clients are served without access control: whoever reaches this address may do everything; give identities their roles and turn it on by PATCH /v1/access");
    }
    let service =
        service::Service::new(handle.clone(), &settings).reached_by_others(address.is_some());
    let service = Arc::new(service);
    tokio::select! {
        () = connection::serve(listener, Arc::clone(&service), &settings, shutdown) => {}
        () = service.follow_rights() => {}
        () = handle.wake_watchers() => {}
    }
}
