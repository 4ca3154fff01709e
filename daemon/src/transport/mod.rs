//! How members talk to each other: HTTP/2 with prior knowledge, on the peer port.
//!
//! To each other member there are three outgoing connections, one for each [`Lane`](tenure_replica::Lane), each with one long request whose
//! body is a stream of frames; the other side's messages arrive on its own three. `GET /hello` and `POST /form` on the same port are for
//! members that have no cluster yet. Owns queues, connections, handshakes and the encoding; knows nothing of what messages
//! mean. Nothing in here makes the sender of a message wait, delivers anything twice or delivers it to another cluster;
//! messages may be lost, and a message is delivered behind those sent before it on the same lane, or never.

mod codec;
mod dial;
mod directory;
mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod handshake;
mod hello;
mod membership;
mod peer;
mod queue;
mod requests;
mod runtime;
mod server;
mod status;
mod streams;
mod tasks;
mod vouching;
mod wire;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use tenure_raft::{Configuration, MemberId};
use tenure_replica::PeerMessage;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

pub use codec::{CodecError, decode, encode};
pub use dial::{DialError, check_peer_url};
pub use directory::{ClusterId, Directory, IdError, Identity, Membership, parse_member_id};
pub use frame::{Frame, FrameDecoder, FrameError, FrameTooLarge, MAX_FRAME_BYTES, WIRE_VERSION};
pub use handshake::Refusal;
pub use hello::{Form, FormMember, Hello, KnownMember, ask_hello, call_client, offer_form};
pub use status::PeerLink;
pub use streams::Budget;
pub(crate) use streams::Offer;

use handshake::Handshake;
use peer::Peer;
use runtime::Runtime;
use streams::Receiver;
use tasks::Tasks;

use crate::tls::Port;

/// Offers that wait for whoever forms: there is one cluster to be offered, by few members.
const OFFERS: usize = 4;

/// What the transport reports. Called on its tasks: it must not block.
pub type Sink = Arc<dyn Fn(Incoming) + Send + Sync>;

/// What arrives from the transport.
#[derive(Debug)]
pub enum Incoming {
    /// A message of another member.
    Message(Received),
    /// Messages to this member were lost, or may have been: a connection broke or a queue was full.
    Unreachable(MemberId),
    /// Another member says that this one was removed from the cluster.
    Removed,
    /// The thread of the transport panicked: this member says and hears nothing more.
    Panicked,
}

/// A message of another member of the same cluster.
#[derive(Debug)]
pub struct Received {
    /// Who sent it.
    pub from: MemberId,
    /// What it says. A Raft message in it is from `from` and to this member.
    pub message: PeerMessage,
    /// Keep it until the message is processed: as long as much is unprocessed, no more is read.
    pub budget: Budget,
}

/// How many bytes of messages may lie unprocessed, for each lane and all members together; never less than one frame
/// of the greatest size.
#[derive(Clone, Copy, Debug)]
pub struct Budgets {
    /// Heartbeats, votes, acknowledgements.
    pub urgent_bytes: usize,
    /// Entries and forwarded commands.
    pub append_bytes: usize,
    /// Pieces of snapshots.
    pub snapshot_bytes: usize,
}

impl Default for Budgets {
    fn default() -> Budgets {
        Budgets {
            urgent_bytes: MAX_FRAME_BYTES,
            append_bytes: 64 << 20,
            snapshot_bytes: 32 << 20,
        }
    }
}

/// The connections of this member to the others. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Transport {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    directory: Directory,
    receiver: Arc<Receiver>,
    runtime: Runtime,
    tasks: Tasks,
    tls: Option<Arc<Port>>,
    peers: RwLock<BTreeMap<MemberId, Peer>>,
    offers: Mutex<Option<mpsc::Receiver<Offer>>>,
    sink: SinkHolder,
}

/// A sink that can be looked at.
#[derive(Clone)]
struct SinkHolder(Sink);

impl std::fmt::Debug for SinkHolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sink")
    }
}

impl Transport {
    /// Begins to listen, for TLS and nothing else where `tls` is given. Nobody is dialled, and no stream taken, before [`Transport::update`] has said which cluster
    /// this member belongs to. All of it runs on a thread of its own, whatever runtime the listener comes from.
    ///
    /// # Errors
    /// Where the system has no thread to give, or does not let go of the listener.
    pub fn start(
        identity: Identity,
        listener: TcpListener,
        tls: Option<Arc<Port>>,
        budgets: Budgets,
        sink: Sink,
    ) -> io::Result<Transport> {
        let panicked = Arc::clone(&sink);
        let runtime = Runtime::start(move || panicked(Incoming::Panicked))?;
        let listener = {
            let listener = listener.into_std()?;
            let _inside = runtime.handle().enter();
            TcpListener::from_std(listener)?
        };
        let handle = runtime.handle().clone();
        let directory = Directory::new(identity);
        let tasks = Tasks::default();
        let (offers, waiting) = mpsc::channel(OFFERS);
        let shared = Arc::new_cyclic(|shared: &Weak<Shared>| {
            let shared = shared.clone();
            let heard_of = Box::new(move |member| {
                if let Some(shared) = shared.upgrade() {
                    shared.nudge(member);
                }
            });
            let receiver = Receiver::new(
                directory.clone(),
                Arc::clone(&sink),
                budgets,
                offers,
                heard_of,
                (tls.clone(), &tasks),
            );
            Shared {
                directory,
                receiver: Arc::new(receiver),
                runtime,
                tasks: tasks.clone(),
                tls: tls.clone(),
                peers: RwLock::default(),
                offers: Mutex::new(Some(waiting)),
                sink: SinkHolder(sink),
            }
        });
        let serving = server::serve(listener, tls, Arc::clone(&shared.receiver), tasks.child());
        tasks.spawn_on(&handle, serving);
        Ok(Transport { shared })
    }

    /// Says which cluster this member belongs to and who else does, and as of which configuration that is committed: dials who is new or moved, and cuts off who is not a
    /// member any more. Never waits; may be called from any thread.
    pub fn update(
        &self,
        cluster: ClusterId,
        configuration: &Configuration,
        committed: &Configuration,
    ) {
        let membership = Arc::new(Membership::new(cluster, configuration, committed));
        self.shared
            .directory
            .set_membership(Arc::clone(&membership));
        self.shared.receiver.retain_members();
        self.shared.dial(&membership);
    }

    /// Queues a message for `to`, or drops it where it cannot be sent soon. Never waits; may be called from any thread.
    /// Returns whether it was queued: one that was not has certainly not been sent, one that was may still be lost.
    pub fn send(&self, to: MemberId, message: PeerMessage) -> bool {
        let peers = self
            .shared
            .peers
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        peers.get(&to).is_some_and(|peer| peer.send(message))
    }

    /// How this member stands with each other one.
    pub fn links(&self) -> Vec<PeerLink> {
        let peers = self
            .shared
            .peers
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        peers.values().map(Peer::link).collect()
    }

    /// What secures connections with other members.
    pub fn tls(&self) -> Option<&Arc<Port>> {
        self.shared.tls.as_ref()
    }

    /// Who this member is and what it belongs to.
    pub fn directory(&self) -> &Directory {
        &self.shared.directory
    }

    /// Closes everything and returns when no task is left, nor the thread. Messages still queued are dropped.
    pub async fn stop(&self) {
        self.shared.tasks.stop();
        self.shared.tasks.ended().await;
        self.shared.runtime.stop().await;
    }

    /// Where offers of a first configuration arrive; there is one taker.
    pub(crate) fn take_offers(&self) -> Option<mpsc::Receiver<Offer>> {
        self.shared
            .offers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Returns when [`Transport::stop`] was called.
    pub(crate) async fn stopped(&self) {
        self.shared.tasks.stopped().await;
    }
}

impl Shared {
    /// Makes the peers those of `membership`.
    fn dial(&self, membership: &Membership) {
        let from = self.directory.identity().member;
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        let mut all = self.directory.guests();
        all.extend(membership.members.clone());
        peers.retain(|id, peer| {
            let stays = all.get(id).is_some_and(|info| peer.is_known_as(info));
            if !stays {
                peer.stop();
            }
            stays
        });
        let identity = self.directory.identity();
        for (id, info) in all.iter().filter(|(id, _)| **id != from) {
            let handshake = Handshake {
                cluster: membership.cluster,
                from,
                to: *id,
                name: identity.name.clone(),
                peer_url: identity.peer_url.clone(),
            };
            peers.entry(*id).or_insert_with(|| {
                Peer::start(
                    self.runtime.handle(),
                    &self.tasks,
                    handshake,
                    info,
                    &self.directory,
                    self.tls.as_ref(),
                    &self.sink.0,
                )
            });
        }
    }

    /// A member was heard of: it is dialled soon where it is not connected, also where it is one that was not known.
    fn nudge(&self, member: MemberId) {
        let is_dialled = {
            let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
            peers.get(&member).map(Peer::nudge).is_some()
        };
        if !is_dialled && let Some(membership) = self.directory.membership() {
            self.dial(&membership);
        }
    }
}
