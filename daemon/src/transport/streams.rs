//! Streams of messages from other members.
//!
//! Owns reading them: who holds which stream, how much of what was read may lie unprocessed, and what ends a stream.
//! A member has one stream a lane: a newer one takes the place of an older, which is left over from a connection that the
//! other side has given up. Handing a message on never waits; when too much is unprocessed, the stream is not read on,
//! and the sender's queue fills instead.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming as IncomingBody;
use tenure_raft::MemberId;
use tenure_replica::{Lane, PeerMessage};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::codec::{self, CodecError};
use super::directory::Directory;
use super::frame::{Frame, FrameDecoder, FrameError};
use super::handshake::{Refusal, UNVOUCHED, WRONG_CERTIFICATE, ended};
use super::hello::Form;
use super::tasks::Tasks;
use super::vouching::Vouching;
use super::{Budgets, Incoming, Received, Sink};
use crate::throttle::Throttle;
use crate::tls::Port;

/// What a message counts for beside its bytes on the wire.
const MESSAGE_OVERHEAD: usize = 256;

/// A first configuration that another member offers; it is answered once.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) form: Form,
    /// Where to say that it is on disk, or why not.
    pub(crate) reply: oneshot::Sender<Result<(), Refusal>>,
}

/// Room for a message until it is processed; free again when dropped.
#[derive(Debug)]
pub struct Budget {
    _permit: OwnedSemaphorePermit,
}

/// Everything that the incoming side knows.
pub(super) struct Receiver {
    directory: Directory,
    sink: Sink,
    urgent: Arc<Semaphore>,
    append: Arc<Semaphore>,
    snapshot: Arc<Semaphore>,
    streams: Mutex<BTreeMap<(MemberId, Lane), Open>>,
    offers: mpsc::Sender<Offer>,
    /// Called when a member opened a stream: it is alive.
    heard_of: Box<dyn Fn(MemberId) + Send + Sync>,
    /// Where connections are secured.
    tls: Option<(Arc<Port>, Vouching)>,
    /// By their codes, so that a member that was removed and dials on hides nobody else who is refused. The codes are ours.
    refusals: Mutex<BTreeMap<String, Arc<Throttle>>>,
}

/// A stream that is being read.
#[derive(Debug)]
struct Open {
    number: u64,
    tasks: Tasks,
    /// Why it is told to end, where there is more to say than that the process stops.
    reason: Arc<Mutex<Option<Refusal>>>,
}

/// A stream's place among the open ones.
#[derive(Debug)]
pub(super) struct Stream {
    from: MemberId,
    lane: Lane,
    number: u64,
    tasks: Tasks,
    reason: Arc<Mutex<Option<Refusal>>>,
}

/// Why a stream is not read on.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Codec(#[from] CodecError),
}

impl Receiver {
    pub(super) fn new(
        directory: Directory,
        sink: Sink,
        budgets: Budgets,
        offers: mpsc::Sender<Offer>,
        heard_of: Box<dyn Fn(MemberId) + Send + Sync>,
        (tls, tasks): (Option<Arc<Port>>, &Tasks),
    ) -> Receiver {
        // A frame of the greatest size must fit, or its stream would wait for ever.
        let semaphore = |bytes: usize| {
            Arc::new(Semaphore::new(
                bytes.max(super::MAX_FRAME_BYTES + MESSAGE_OVERHEAD),
            ))
        };
        Receiver {
            directory,
            sink,
            urgent: semaphore(budgets.urgent_bytes),
            append: semaphore(budgets.append_bytes),
            snapshot: semaphore(budgets.snapshot_bytes),
            streams: Mutex::default(),
            offers,
            heard_of,
            tls: tls.map(|port| (Arc::clone(&port), Vouching::new(port, tasks.child()))),
            refusals: Mutex::default(),
        }
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Says that somebody was refused, and counts those who are not who they say. A member that is refused dials every
    /// other second, so what is said is throttled.
    pub(super) fn log_refused(&self, address: SocketAddr, refusal: &Refusal) {
        if refusal.is_passing() {
            return;
        }
        let is_distrusted = [WRONG_CERTIFICATE, UNVOUCHED].contains(&refusal.code.as_str());
        if let (Some((port, _)), true) = (&self.tls, is_distrusted) {
            port.count_refusal();
        }
        let throttle = {
            let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(refusals.entry(refusal.code.clone()).or_default())
        };
        throttle.warn(|held_back| {
            tracing::warn!(%address, code = %refusal.code, held_back, "refused a stream: {}", refusal.detail);
        });
    }

    /// Asks those who are known about a stranger, for when it comes again.
    pub(super) fn ask_about(&self, stranger: MemberId, name: &str) {
        if let Some((_, vouching)) = &self.tls {
            vouching.ask(&self.directory, stranger, name);
        }
    }

    /// Registers a stream, in place of an older one of the same member and lane.
    pub(super) fn enter(&self, from: MemberId, lane: Lane, connection: &Tasks) -> Stream {
        let (tasks, reason) = (connection.child(), Arc::default());
        let mut streams = self.streams();
        let number = streams.get(&(from, lane)).map_or(0, |open| open.number + 1);
        let open = Open {
            number,
            tasks: tasks.clone(),
            reason: Arc::clone(&reason),
        };
        if let Some(older) = streams.insert((from, lane), open) {
            older.end(Refusal::new(
                "superseded",
                "a newer stream of the same member took its place",
            ));
        }
        drop(streams);
        (self.heard_of)(from);
        Stream {
            from,
            lane,
            number,
            tasks,
            reason,
        }
    }

    /// Ends the streams of members that belong to the cluster no more.
    pub(super) fn retain_members(&self) {
        let Some(membership) = self.directory.membership() else {
            return;
        };
        let mut streams = self.streams();
        streams.retain(|(from, _), open| {
            let stays = self.directory.is_admitted(*from);
            if !stays {
                open.end(ended(*from, &membership));
            }
            stays
        });
    }

    /// Reads a stream to its end and says what the other side should be told of it.
    pub(super) async fn read(&self, stream: Stream, body: IncomingBody) -> Option<Refusal> {
        let ending = tokio::select! {
            () = stream.tasks.stopped() => stream.take_reason(),
            ended = self.read_frames(&stream, body) => self.judge(&stream, ended),
        };
        let mut streams = self.streams();
        if streams
            .get(&(stream.from, stream.lane))
            .is_some_and(|open| open.number == stream.number)
        {
            streams.remove(&(stream.from, stream.lane));
        }
        ending
    }

    fn judge(&self, stream: &Stream, ended: Result<(), StreamError>) -> Option<Refusal> {
        let error = ended.err()?;
        let peer = self.directory.label(stream.from);
        tracing::warn!(%peer, member = %stream.from, lane = ?stream.lane, %error, "stream of peer closed: it cannot be read on");
        Some(Refusal::new("corrupt-frame", error.to_string()))
    }

    async fn read_frames(
        &self,
        stream: &Stream,
        mut body: IncomingBody,
    ) -> Result<(), StreamError> {
        let mut decoder = FrameDecoder::default();
        loop {
            match body.frame().await {
                Some(Ok(chunk)) => decoder.push(chunk.into_data().unwrap_or_else(|_| Bytes::new())),
                // A connection that breaks is the dialer's to log; what it had sent in part never happened.
                Some(Err(_)) => return Ok(()),
                None => return Ok(decoder.finish()?),
            }
            while let Some(frame) = decoder.next_frame()? {
                self.deliver(stream, frame).await?;
            }
        }
    }

    /// Hands one message on, once there is room for it.
    async fn deliver(&self, stream: &Stream, frame: Frame) -> Result<(), StreamError> {
        let bytes = frame.body.len() + MESSAGE_OVERHEAD;
        let mut message = codec::decode(frame, stream.from, self.directory.identity().member)?;
        if let PeerMessage::Introduce(introduction) = &mut message {
            // What it showed a certificate for, where members show any, and nothing else, becomes its address.
            let said = self.directory.said(stream.from);
            introduction
                .peer_url
                .take_if(|url| said.as_ref() != Some(url));
        }
        let budget = match stream.lane {
            Lane::Urgent => &self.urgent,
            Lane::Append => &self.append,
            Lane::Snapshot => &self.snapshot,
        };
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        if let Ok(permit) = Arc::clone(budget).acquire_many_owned(permits).await {
            let received = Received {
                from: stream.from,
                message,
                budget: Budget { _permit: permit },
            };
            (self.sink)(Incoming::Message(received));
        }
        Ok(())
    }

    /// Passes an offer of a first configuration to whoever forms, and waits for the answer.
    pub(super) async fn form(&self, form: Form) -> Result<(), Refusal> {
        let identity = self.directory.identity();
        if let Some(membership) = self.directory.membership() {
            if membership.cluster == form.cluster {
                return Ok(());
            }
            let detail = format!(
                "{} ({}) belongs to cluster {} and takes no first configuration of cluster {}",
                identity.name, identity.member, membership.cluster, form.cluster
            );
            return Err(Refusal::new("already-formed", detail));
        }
        let busy = || {
            Refusal::new(
                "not-forming",
                format!(
                    "{} is not waiting for a first configuration now",
                    identity.name
                ),
            )
        };
        let (reply, answer) = oneshot::channel();
        self.offers
            .try_send(Offer { form, reply })
            .map_err(|_| busy())?;
        answer.await.map_err(|_| busy())?
    }

    fn streams(&self) -> MutexGuard<'_, BTreeMap<(MemberId, Lane), Open>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn end(&self, reason: Refusal) {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
        self.tasks.stop();
    }
}

impl Stream {
    fn take_reason(&self) -> Option<Refusal> {
        let reason = self
            .reason
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        reason.or_else(|| {
            Some(Refusal::new(
                "stopping",
                "the member is stopping, or closed the connection",
            ))
        })
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}
