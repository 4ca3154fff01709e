//! The incoming side: the listener of the peer port and its connections.
//!
//! Owns who may stay connected: a bounded number of HTTP/2 connections, each of which must soon ask for something and
//! answer pings. What a request means is decided in `requests`, what a stream brings in `streams`. Anybody can reach this port,
//! so that nothing that arrives may cost more than its bytes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

use super::requests::{self, Caller};
use super::streams::Receiver;
use super::tasks::Tasks;
use crate::throttle::Throttle;
use crate::tls::{Accepted, MemberCertificate, Port, Trouble, Wire};

/// Most connections at a time: three lanes for each of many members, and some for calls.
const CONNECTION_LIMIT: usize = 256;

/// A connection on which nothing is being answered for so long is closed; so is one that never asks anything.
const IDLE_LIMIT: Duration = Duration::from_secs(5);

/// How long a connection may take to say good-bye.
const GOODBYE: Duration = Duration::from_millis(500);

/// Pause after an accept that failed, for want of file descriptors mostly: trying on at once would only burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What may lie unread in memory for one stream, and for one connection.
const WINDOW_BYTES: u32 = 2 << 20;

/// Accepts connections until told to stop.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<Port>>,
    receiver: Arc<Receiver>,
    tasks: Tasks,
) {
    let connections = Arc::new(Connections::default());
    let trouble = Throttle::default();
    loop {
        let accepted = tokio::select! {
            () = tasks.stopped() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let Some(place) = connections.enter(&tasks) else {
                    trouble.warn(|held_back| {
                        tracing::warn!(%address, limit = CONNECTION_LIMIT, held_back, "peer connection refused: too many");
                    });
                    continue;
                };
                let (tls, receiver) = (tls.clone(), Arc::clone(&receiver));
                tasks.spawn(async move {
                    if let Some((wire, caller)) = secure(stream, address, tls, &place).await {
                        serve_connection(wire, (address, caller), receiver, place).await;
                    }
                });
            }
            Err(error) => {
                trouble.warn(
                    |held_back| tracing::warn!(%error, held_back, "cannot accept peer connections"),
                );
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Secures a connection, where that is to be; none where it is refused, or its place is needed.
async fn secure(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<Arc<Port>>,
    place: &Place,
) -> Option<(Wire, Caller)> {
    // An answer must not wait for company (Nagle). Where this fails the connection is gone already.
    let _ = stream.set_nodelay(true);
    let Some(port) = tls else {
        return Some((Wire::Plain(stream), Caller::Anybody));
    };
    let accepted = tokio::select! {
        () = place.tasks.stopped() => return None,
        accepted = port.accept(stream, address, false) => accepted,
    };
    match accepted.ok()? {
        Accepted::Secure(wire, certificate) => {
            let certificate = MemberCertificate::of(&certificate?);
            Some((wire, Caller::Certified(certificate)))
        }
        Accepted::Plain(stream) => {
            port.refused(address, &Trouble::Plain);
            Some((Wire::Plain(stream), Caller::Insecure))
        }
    }
}

async fn serve_connection(
    stream: Wire,
    (address, caller): (SocketAddr, Caller),
    receiver: Arc<Receiver>,
    place: Place,
) {
    let caller = Arc::new(caller);
    let tasks = place.tasks.clone();
    let activity = Arc::clone(&place.activity);
    let service = service_fn(|request| {
        requests::answer(
            request,
            (address, Arc::clone(&caller)),
            Arc::clone(&receiver),
            activity.begin(),
            tasks.clone(),
        )
    });
    let connection = builder(&tasks).serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = tasks.stopped() => None,
        () = place.activity.idle() => None,
    };
    match ended {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::debug!(%error, "peer connection ended"),
        None => {
            connection.as_mut().graceful_shutdown();
            // Whether or not it ends in time, it ends now.
            let _ = tokio::time::timeout(GOODBYE, connection).await;
        }
    }
    place.tasks.stop();
}

fn builder(tasks: &Tasks) -> http2::Builder<Tasks> {
    let mut builder = http2::Builder::new(tasks.clone());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(4)
        .max_header_list_size(16 << 10)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(64)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        // Fewer, larger frames: an append of a mebibyte is four of them.
        .max_frame_size(256 << 10)
        .max_send_buf_size(64 << 10)
        .keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

/// The connections that are open, so that one more can be weighed against them.
#[derive(Debug, Default)]
struct Connections {
    open: Mutex<BTreeMap<u64, (Tasks, Arc<Activity>)>>,
}

impl Connections {
    /// A place for one more. Where all are taken, the oldest on which nothing is being answered makes room, so that a
    /// crowd of strangers cannot keep members out.
    fn enter(self: &Arc<Connections>, tasks: &Tasks) -> Option<Place> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if CONNECTION_LIMIT <= open.len() {
            let idle = open
                .iter()
                .find(|(_, (_, activity))| activity.is_idle())
                .map(|(number, _)| *number)?;
            if let Some((tasks, _)) = open.remove(&idle) {
                tasks.stop();
            }
        }
        let number = open.last_key_value().map_or(0, |(last, _)| last + 1);
        let (tasks, activity) = (tasks.child(), Arc::<Activity>::default());
        open.insert(number, (tasks.clone(), Arc::clone(&activity)));
        Some(Place {
            number,
            tasks,
            activity,
            connections: Arc::clone(self),
        })
    }
}

/// One connection's place; free again when dropped.
#[derive(Debug)]
struct Place {
    number: u64,
    tasks: Tasks,
    activity: Arc<Activity>,
    connections: Arc<Connections>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.number);
    }
}

/// How many requests of a connection are being answered.
#[derive(Debug, Default)]
pub(super) struct Activity {
    running: AtomicUsize,
    begun: AtomicUsize,
}

impl Activity {
    fn begin(self: &Arc<Activity>) -> Running {
        self.running.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        Running(Arc::clone(self))
    }

    fn is_idle(&self) -> bool {
        self.running.load(Ordering::Relaxed) == 0
    }

    /// Returns when nothing was asked for a while, and nothing is being answered.
    async fn idle(&self) {
        let mut before = 0;
        loop {
            tokio::time::sleep(IDLE_LIMIT).await;
            let begun = self.begun.load(Ordering::Relaxed);
            if self.is_idle() && begun == before {
                return;
            }
            before = begun;
        }
    }
}

/// A request that is being answered; not any more when dropped.
#[derive(Debug)]
pub(super) struct Running(Arc<Activity>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}
