//! The incoming side: the listener of the peer port and its connections.
//!
//! Owns who may stay connected: a bounded number of HTTP/2 connections, of which one network has half at most, and each of
//! which must soon ask for something, from the end of its handshake on, and answer pings. What a request means is decided in `requests`, what a stream brings in `streams`. Anybody can reach this port,
//! so that nothing that arrives may cost more than its bytes.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

use super::requests::{self, Caller};
use super::streams::Receiver;
use super::tasks::Tasks;
use crate::network::Network;
use crate::throttle::Throttle;
use crate::tls::{Accepted, MemberCertificate, Port, Trouble, Wire};

/// Most connections at a time: three lanes for each of many members, and some for calls.
const CONNECTION_LIMIT: usize = 256;

/// Most of them from one network: what a crowd of strangers at one address cannot take, members find free. All members on one
/// machine need less.
const NETWORK_LIMIT: usize = CONNECTION_LIMIT / 2;

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
                let Some(place) = connections.enter(address.ip(), &tasks) else {
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
    open: Mutex<BTreeMap<u64, Open>>,
    /// Numbers them. None is used again while the place of one that was told to leave still is to be dropped.
    numbers: AtomicU64,
}

#[derive(Debug)]
struct Open {
    network: Network,
    tasks: Tasks,
    activity: Arc<Activity>,
}

impl Connections {
    /// A place for one more. Where its network has all that it may have, its own oldest on which nothing is being answered
    /// makes room; where all are taken, that of the network which has most such. So a crowd of strangers cannot keep members
    /// out, nor cut them off in the middle of a handshake.
    fn enter(self: &Arc<Connections>, address: IpAddr, tasks: &Tasks) -> Option<Place> {
        let network = Network::of(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let own = open.values().filter(|open| open.network == network).count();
        let makes_room = match () {
            () if NETWORK_LIMIT <= own => Some(oldest_idle(&open, network)?),
            () if CONNECTION_LIMIT <= open.len() => Some(oldest_idle(&open, most_idle(&open)?)?),
            () => None,
        };
        if let Some(open) = makes_room.and_then(|number| open.remove(&number)) {
            open.tasks.stop();
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let (tasks, activity) = (tasks.child(), Arc::<Activity>::default());
        let one_more = Open {
            network,
            tasks: tasks.clone(),
            activity: Arc::clone(&activity),
        };
        open.insert(number, one_more);
        Some(Place {
            number,
            tasks,
            activity,
            connections: Arc::clone(self),
        })
    }
}

/// The oldest connection of a network on which nothing is being answered.
fn oldest_idle(open: &BTreeMap<u64, Open>, network: Network) -> Option<u64> {
    let of_network = |open: &Open| open.network == network && open.activity.is_idle();
    let mut idle = open.iter().filter(|(_, open)| of_network(open));
    idle.next().map(|(number, _)| *number)
}

/// The network that has most connections on which nothing is being answered; of those that have as many as others, the one
/// with the oldest.
fn most_idle(open: &BTreeMap<u64, Open>) -> Option<Network> {
    let idle = || open.values().filter(|open| open.activity.is_idle());
    let mut counts: HashMap<Network, usize> = HashMap::new();
    for open in idle() {
        *counts.entry(open.network).or_default() += 1;
    }
    let most = counts.values().max()?;
    let mut networks = idle().map(|open| open.network);
    networks.find(|network| counts.get(network) == Some(most))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_flood_from_one_address_makes_room_for_itself_and_a_member_among_it_is_left_alone() {
        let (connections, tasks) = (Arc::new(Connections::default()), Tasks::default());
        let enter = |last: u8| connections.enter([10, 0, 0, last].into(), &tasks);
        let places = || {
            let open = connections.open.lock().expect("nobody panics");
            open.len()
        };
        // A member is in the middle of its handshake, another is being answered.
        let (shaking, served) = (enter(1).expect("a place"), enter(2).expect("a place"));
        let _running = served.activity.begin();
        let mut flood: Vec<Place> = Vec::new();
        for _ in 0..2 * CONNECTION_LIMIT {
            flood.push(enter(9).expect("its own make room"));
        }
        assert_eq!(places(), NETWORK_LIMIT + 2);
        let is_told_to_leave = |place: &Place| place.tasks.is_stopped();
        assert!(!is_told_to_leave(&shaking) && !is_told_to_leave(&served));
        assert!(is_told_to_leave(&flood[0]) && !is_told_to_leave(&flood[2 * CONNECTION_LIMIT - 1]));
        // From many addresses, one each: whoever has most of what is idle makes room.
        let crowd: Vec<Place> = (10..200).filter_map(enter).collect();
        assert_eq!((crowd.len(), places()), (190, CONNECTION_LIMIT));
        assert!(!is_told_to_leave(&shaking) && !is_told_to_leave(&served));
        // A network on whose connections all is being answered gets no more.
        let busy = (0..NETWORK_LIMIT).filter_map(|_| {
            let place = enter(201)?;
            let running = place.activity.begin();
            Some((place, running))
        });
        let busy: Vec<_> = busy.collect();
        assert_eq!(busy.len(), NETWORK_LIMIT);
        assert!(enter(201).is_none());
        assert!(enter(202).is_some());
        drop((flood, crowd, busy));
    }
}
