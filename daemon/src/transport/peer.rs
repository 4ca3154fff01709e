//! The outgoing side: one connection for each lane to each other member.
//!
//! Owns dialling, the handshake and the pause before the next attempt. Where else a member may be, which anybody may say where
//! nothing is secured, is looked at only when it has to be dialled: no word of that ends a connection that works. A lane is a TCP connection of its own, so that
//! neither flow control nor a lost packet on one holds up another. What a connection had not sent is gone with it: a
//! forwarded command that was sent twice could be applied twice.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming as IncomingBody;
use tenure_raft::MemberInfo;
use tenure_replica::{Lane, PeerMessage};
use tokio::sync::Notify;

use super::dial::{self, Connection, DialError, Line, Whom};
use super::directory::Directory;
use super::handshake::{self, Handshake, Refusal};
use super::queue::{Bounds, LaneBody, LaneQueue};
use super::status::{Contact, PeerLink};
use super::tasks::Tasks;
use super::{Incoming, Sink};
use crate::tls::Port;

/// Greatest answer of a peer that is read where it refuses a stream or closes one.
const REFUSAL_BYTES: usize = 16 << 10;

/// How long a stream must have stood for the next attempt to follow at once: one that is closed as soon as it is
/// opened must not be opened in a tight loop.
const STOOD: Duration = Duration::from_secs(1);

/// The shortest pause before dialling again, doubled with every failure.
const BACKOFF_MIN: Duration = Duration::from_millis(50);

/// The longest.
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Drops are reported to the core no oftener than this: it answers a report by sending a probe, which is dropped as well.
const REPORT_PAUSE: Duration = Duration::from_millis(50);

/// Another member, as this one sends to it.
#[derive(Debug)]
pub(super) struct Peer {
    name: String,
    peer_url: String,
    urgent: Arc<Dialer>,
    append: Arc<Dialer>,
    snapshot: Arc<Dialer>,
    contact: Arc<Contact>,
    tasks: Tasks,
}

impl Peer {
    /// Begins to dial where the member may be, as the directory has it at each attempt; goes on until stopped.
    pub(super) fn start(
        handle: &tokio::runtime::Handle,
        tasks: &Tasks,
        handshake: Handshake,
        info: &MemberInfo,
        directory: &Directory,
        tls: Option<&Arc<Port>>,
        sink: &Sink,
    ) -> Peer {
        let tasks = tasks.child();
        let contact = Arc::new(Contact::new(handshake.to, &info.name, &info.peer_url));
        let start = |lane| {
            let dialer = Arc::new(Dialer {
                lane,
                handshake: handshake.clone(),
                info: info.clone(),
                directory: directory.clone(),
                queue: LaneQueue::new(Bounds::of(lane)),
                nudge: Notify::new(),
                dropped: Notify::new(),
                contact: Arc::clone(&contact),
                tls: tls.cloned(),
                sink: Arc::clone(sink),
                tasks: tasks.clone(),
            });
            tasks.spawn_on(handle, Arc::clone(&dialer).run());
            dialer
        };
        let (urgent, append, snapshot) = (
            start(Lane::Urgent),
            start(Lane::Append),
            start(Lane::Snapshot),
        );
        Peer {
            name: info.name.clone(),
            peer_url: info.peer_url.clone(),
            urgent,
            append,
            snapshot,
            contact,
            tasks,
        }
    }

    /// Whether it is still known to be called and reached in the same way.
    pub(super) fn is_known_as(&self, info: &MemberInfo) -> bool {
        (&self.name, &self.peer_url) == (&info.name, &info.peer_url)
    }

    /// Queues a message on its lane, or drops it.
    pub(super) fn send(&self, message: PeerMessage) -> bool {
        let dialer = match message.lane() {
            Lane::Urgent => &self.urgent,
            Lane::Append => &self.append,
            Lane::Snapshot => &self.snapshot,
        };
        let queued = dialer.queue.push(message);
        if !queued {
            dialer.dropped.notify_one();
        }
        queued
    }

    /// The other member is alive after all: dial soon.
    pub(super) fn nudge(&self) {
        [&self.urgent, &self.append, &self.snapshot]
            .iter()
            .for_each(|dialer| dialer.nudge.notify_one());
    }

    pub(super) fn link(&self) -> PeerLink {
        self.contact.link()
    }

    /// Closes its connections and dials no more.
    pub(super) fn stop(&self) {
        self.tasks.stop();
    }
}

/// What keeps one lane to one member connected.
struct Dialer {
    lane: Lane,
    handshake: Handshake,
    /// How the other member is known to be called and reached.
    info: MemberInfo,
    /// Where else it may be.
    directory: Directory,
    queue: Arc<LaneQueue>,
    /// Set when the other member has been heard of by other ways.
    nudge: Notify,
    /// Set when the queue dropped a message.
    dropped: Notify,
    contact: Arc<Contact>,
    tls: Option<Arc<Port>>,
    sink: Sink,
    tasks: Tasks,
}

impl Dialer {
    async fn run(self: Arc<Dialer>) {
        tokio::select! {
            () = self.tasks.stopped() => {}
            () = self.keep_connected() => {}
        }
        self.queue.close();
    }

    async fn keep_connected(&self) {
        let mut pause = BACKOFF_MIN;
        let mut reached: Option<String> = None;
        let mut failures = 0;
        loop {
            let begun = Instant::now();
            let to = self.handshake.to;
            let url = self
                .directory
                .place(to, &self.info, reached.as_deref(), failures);
            let (was_open, error) = self.connect_and_wait(&url).await;
            failures = match was_open {
                true => 0,
                false => failures + 1,
            };
            if was_open {
                reached = Some(url);
            }
            self.queue.close();
            self.contact.failed(self.lane, &error);
            if let DialError::Refused(refusal) = &error
                && refusal.code == handshake::REMOVED
            {
                (self.sink)(Incoming::Removed);
            }
            // Whatever was on its way is lost, and so may be what was sent before: the core must look again.
            (self.sink)(Incoming::Unreachable(self.handshake.to));
            if STOOD <= begun.elapsed() && !matches!(error, DialError::TimedOut(_)) {
                pause = BACKOFF_MIN;
            }
            tokio::select! {
                () = tokio::time::sleep(jittered(pause)) => pause = (2 * pause).min(BACKOFF_MAX),
                () = self.nudged() => pause = BACKOFF_MIN,
            }
        }
    }

    /// Waits for a nudge, and then for the shortest pause.
    async fn nudged(&self) {
        self.nudge.notified().await;
        tokio::time::sleep(jittered(BACKOFF_MIN)).await;
    }

    /// Opens the stream and returns when it is over, whether it was open, and why it is not.
    async fn connect_and_wait(&self, url: &str) -> (bool, DialError) {
        let line = line(self.lane);
        let opened = tokio::time::timeout(line.connect_timeout, self.open(url, &line)).await;
        // The connection lives as long as this binding.
        let (_connection, knows, answer) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => return (false, error),
            Err(_) => return (false, DialError::TimedOut(line.connect_timeout)),
        };
        self.queue.open(knows);
        self.contact.connected(self.lane, url);
        tokio::select! {
            error = wait_for_end(answer) => (true, error),
            never = self.report_drops() => match never {},
        }
    }

    /// Dials and shakes hands; says which frames the other side knows.
    async fn open(
        &self,
        peer_url: &str,
        line: &Line,
    ) -> Result<(Connection<LaneBody>, u8, IncomingBody), DialError> {
        let name = self.contact.name();
        let whom = Whom::Member(self.tls.as_deref());
        let mut connection = dial::connect_in(&self.tasks, peer_url, whom, line).await?;
        connection.check(name, peer_url)?;
        let uri = connection.uri(handshake::lane_path(self.lane));
        let request = Request::builder()
            .method(Method::POST)
            .uri(uri)
            .body(self.queue.begin());
        let mut request = request.map_err(|error| DialError::Answer(error.to_string()))?;
        handshake::write(request.headers_mut(), &self.handshake);
        let response = connection.send(request).await?;
        if response.status() == StatusCode::OK {
            let knows = handshake::newest_kind(response.headers());
            return Ok((connection, knows, response.into_body()));
        }
        let status = response.status();
        let body = dial::read_body(response.into_body(), REFUSAL_BYTES).await?;
        Err(DialError::Refused(Refusal::from_peer(status, &body)))
    }

    /// Tells the core of dropped bulk messages: every drop is followed by a report, many drops by few. What is dropped
    /// on the urgent lane is made again by itself.
    async fn report_drops(&self) -> Infallible {
        loop {
            self.dropped.notified().await;
            if self.lane != Lane::Urgent {
                (self.sink)(Incoming::Unreachable(self.handshake.to));
            }
            tokio::time::sleep(REPORT_PAUSE).await;
        }
    }
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer")
            .field("lane", &self.lane)
            .field("to", &self.handshake.to)
            .finish_non_exhaustive()
    }
}

/// The other side keeps its answer open as long as it reads; at the end it may say why.
async fn wait_for_end(answer: IncomingBody) -> DialError {
    let mut answer = http_body_util::Limited::new(answer, REFUSAL_BYTES);
    let mut last_words = Vec::new();
    loop {
        match answer.frame().await {
            Some(Ok(frame)) => last_words.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Some(Err(error)) => {
                return match error.downcast::<hyper::Error>() {
                    Ok(error) => DialError::Http(*error),
                    Err(error) => DialError::Answer(error.to_string()),
                };
            }
            None if last_words.is_empty() => return DialError::Closed,
            None => return DialError::Refused(Refusal::from_peer(StatusCode::OK, &last_words)),
        }
    }
}

/// The times of a lane's connection.
fn line(lane: Lane) -> Line {
    let ping_timeout = match lane {
        Lane::Urgent | Lane::Append => Duration::from_secs(3),
        // A ping waits behind the pieces that are already in the buffers of the kernel: on a slow network that is
        // seconds, and no reason to begin again.
        Lane::Snapshot => Duration::from_secs(10),
    };
    Line {
        connect_timeout: Duration::from_secs(2),
        ping_interval: Duration::from_secs(1),
        ping_timeout,
    }
}

/// Between half of a pause and all of it, so that members do not dial in step.
fn jittered(pause: Duration) -> Duration {
    // Without randomness the pause is just whole.
    let part = getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX));
    pause.mul_f64(0.5 + 0.5 * part)
}
