//! Connections of clients: accepted within a bound, watched, and ended.
//!
//! Owns the limits that protect the member from a connection: how many there are, how slowly a head may come, how long
//! nothing may happen, how long an answer may go unread, and what HTTP/2 may ask for. Where there are as many as
//! allowed, the one that has been idle longest makes room, of the network that has most such: a crowd that asks for nothing
//! keeps nobody out, and from one address it ends nobody else's connections. The
//! timers of one connection are one task's, and cost one wake-up in [`TICK`].

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Settings;
use super::body::Arriving;
use super::outgoing::{Outgoing, Progress, Room, Taken};
use super::reply::Sent;
use super::secured::Securing;
use super::service::{Ends, OwnTurn, Service};
use crate::network::Network;
use crate::tls::Wire;

/// How often a connection is looked at.
const TICK: Duration = Duration::from_secs(5);
/// A new connection must have brought a request by then, counted from the end of its handshake: one that waited long for
/// its turn at that has as much time as all others.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// The head of a request must be whole within this time.
const HEAD: Duration = Duration::from_secs(5);
/// A connection on which nothing is asked is ended after this time.
const IDLE: Duration = Duration::from_secs(120);
/// An answer must be taken within this time, piece by piece.
const UNREAD: Duration = Duration::from_secs(30);
/// What is being ended gracefully is cut after this time.
const GRACE: Duration = Duration::from_secs(60);
/// How long to wait where the machine has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection that makes room for another has this long to say good-bye.
const GOODBYE: Duration = Duration::from_millis(100);
/// How long to wait before another one is asked to make room.
const ROOM_PAUSE: Duration = Duration::from_millis(200);
/// Files that are kept for everything but clients: the data, 256 connections of members and those made to them.
const RESERVED_FILES: u64 = 512;
/// Even where the process may open few files, so many clients are served.
const FEWEST_CONNECTIONS: usize = 64;

/// The head of a request has at most this many bytes (HTTP/1: of the buffer it is read into; HTTP/2: of the list).
pub(super) const HEAD_BYTES: u32 = 16 << 10;
/// Requests at a time on one HTTP/2 connection.
const STREAMS: u32 = 256;
/// A client may give up all its long-polls at once: with h2's default of 20 that would end its connection.
const PENDING_RESETS: usize = STREAMS as usize;
/// Resets caused by a client's errors on one connection, before it is ended.
const ERROR_RESETS: usize = 1_024;
/// Bytes of bodies in flight on one HTTP/2 connection.
const WINDOW: u32 = 1 << 20;
/// Bytes of answers buffered for one HTTP/2 stream.
const SEND_BUFFER: usize = 256 << 10;
/// A silent HTTP/2 client is asked whether it is there,
const PING: Duration = Duration::from_secs(20);
/// and given up where it does not answer.
const PONG: Duration = Duration::from_secs(10);

/// Accepts connections until `shutdown`, then ends them: what is being answered is answered, within `settings.drain`.
pub(super) async fn serve(
    listener: TcpListener,
    service: Arc<Service>,
    settings: &Settings,
    shutdown: CancellationToken,
) {
    let tasks = Tasks {
        tracker: TaskTracker::new(),
        kill: CancellationToken::new(),
    };
    let builder = Arc::new(builder(tasks.clone()));
    let crowd = Arc::new(Crowd::of(settings.connections));
    let (room, arriving) = (Room::of_member(), Arriving::at_member());
    let securing = Securing::by(&settings.tls);
    while let Some((accepted, place)) = shutdown
        .run_until_cancelled(async {
            let accepted = accept(&listener).await;
            let place = Crowd::enter(&crowd, accepted.1.ip()).await;
            (accepted, place)
        })
        .await
    {
        let (builder, service, shutdown) =
            (Arc::clone(&builder), Arc::clone(&service), shutdown.clone());
        let client = Client {
            room: room.of_connection(),
            arriving: arriving.of_connection(),
            own_turn: OwnTurn::new(),
            securing: securing.clone(),
        };
        let connected = service.metrics().connected();
        tasks.spawn(async move {
            serve_one(
                accepted,
                &builder,
                service,
                client,
                &place.activity,
                shutdown,
            )
            .await;
            drop((place, connected));
        });
    }
    drop(listener);
    tasks.tracker.close();
    if timeout(settings.drain, tasks.tracker.wait()).await.is_err() {
        tracing::warn!(
            left = tasks.tracker.len(),
            "connections did not end in time and are cut"
        );
        tasks.kill.cancel();
        tasks.tracker.wait().await;
    }
}

/// The next connection.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether an error of `accept` is the end of that one connection only.
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

fn builder(tasks: Tasks) -> auto::Builder<Tasks> {
    let mut builder = auto::Builder::new(tasks);
    builder
        .http1()
        .timer(TokioTimer::new())
        // hyper's own timer also runs while a connection idles between two requests; ours does not.
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD_BYTES)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(ERROR_RESETS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG);
    builder
}

/// What one connection has of what its member shares out.
struct Client {
    room: Room,
    arriving: Arriving,
    own_turn: OwnTurn,
    securing: Securing,
}

async fn serve_one(
    (stream, address): (TcpStream, SocketAddr),
    builder: &auto::Builder<Tasks>,
    service: Arc<Service>,
    client: Client,
    activity: &Arc<Activity>,
    shutdown: CancellationToken,
) {
    let (Ok(local), Ok(())) = (stream.local_addr(), stream.set_nodelay(true)) else {
        return;
    };
    let ends = Ends {
        local,
        client: address,
    };
    let secured = tokio::select! {
        secured = client.securing.secure(stream, address) => secured,
        () = activity.room_is_needed.notified() => None,
        () = shutdown.cancelled() => None,
    };
    let Some((stream, certificate)) = secured else {
        return;
    };
    activity.is_secured();
    let io = TokioIo::new(Watched {
        stream,
        activity: Arc::clone(activity),
    });
    let of_requests = Arc::clone(activity);
    let answer = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(client.own_turn.clone());
        if let Some(certificate) = &certificate {
            request.extensions_mut().insert(certificate.clone());
        }
        let (service, room) = (Arc::clone(&service), client.room.clone());
        let arriving = client.arriving.clone();
        let (serving, on_its_way) = (Serving::begin(&of_requests), OnItsWay::of(&of_requests));
        async move {
            let (mut response, mut answered) = service.answer(request, arriving, ends).await;
            let needed = |body: &_| hyper::body::Body::size_hint(body).lower();
            let taken = room.take(needed(response.body())).unwrap_or_else(|| {
                response = service.without_room(&response, &mut answered);
                Taken::default()
            });
            answered.note(response.status(), service.metrics());
            // A stream is being served for as long as it goes on, however quiet it is.
            let sent =
                |body: Sent<()>| Outgoing::new(body.holding(serving), room, taken, on_its_way);
            Ok::<_, Infallible>(response.map(sent))
        }
    });
    let mut connection = pin!(builder.serve_connection(io, answer));
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ending = None;
    loop {
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a connection ended with an error");
                }
                return;
            }
            () = activity.room_is_needed.notified() => {
                ending = ending.or_else(|| Some(Instant::now()));
                connection.as_mut().graceful_shutdown();
                // Whether or not it ends in time, it ends now; but what was asked in the same moment is answered.
                let ended = timeout(GOODBYE, connection.as_mut()).await.is_ok();
                if ended || activity.serves_nothing() {
                    return;
                }
            }
            () = shutdown.cancelled(), if ending.is_none() => {
                ending = Some(Instant::now());
                connection.as_mut().graceful_shutdown();
            }
            _ = ticks.tick() => match activity.verdict(activity.now()) {
                Verdict::Fine | Verdict::Idle
                    if ending.is_some_and(|since| since.elapsed() > GRACE) =>
                {
                    return;
                }
                Verdict::Fine => {}
                Verdict::Idle if ending.is_none() => {
                    ending = Some(Instant::now());
                    connection.as_mut().graceful_shutdown();
                }
                Verdict::Idle => {}
                Verdict::Abused(why) => {
                    tracing::debug!(why, "a connection is cut");
                    activity.is_cut.store(true, Ordering::Relaxed);
                    return;
                }
            }
        }
    }
}

/// The connections that are open, and how many there may be.
struct Crowd {
    permits: Arc<Semaphore>,
    open: Mutex<BTreeMap<u64, (Network, Arc<Activity>)>>,
}

impl Crowd {
    /// A crowd of at most so many, and of no more than the files that this process may open allow.
    fn of(most: usize) -> Crowd {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let files = usize::try_from(files.saturating_sub(RESERVED_FILES)).unwrap_or(usize::MAX);
        let most = most.min(files.max(FEWEST_CONNECTIONS));
        tracing::debug!(connections = most, "clients may connect");
        Crowd {
            permits: Arc::new(Semaphore::new(most)),
            open: Mutex::default(),
        }
    }

    /// A place for one more. Where all are taken, the connection on which nothing has been asked for longest gives up
    /// its own; where on each something is being answered, it is waited.
    async fn enter(crowd: &Arc<Crowd>, address: IpAddr) -> Place {
        let network = Network::of(address);
        loop {
            if let Ok(permit) = Arc::clone(&crowd.permits).try_acquire_owned() {
                return Crowd::place(crowd, network, permit);
            }
            if let Some(idlest) = crowd.idlest() {
                idlest.leave();
            }
            let permit = Arc::clone(&crowd.permits).acquire_owned();
            if let Ok(Ok(permit)) = timeout(ROOM_PAUSE, permit).await {
                return Crowd::place(crowd, network, permit);
            }
        }
    }

    fn place(crowd: &Arc<Crowd>, network: Network, permit: OwnedSemaphorePermit) -> Place {
        let activity = Arc::new(Activity::new());
        let mut open = crowd.open();
        let number = open.last_key_value().map_or(0, |(last, _)| last + 1);
        open.insert(number, (network, Arc::clone(&activity)));
        drop(open);
        Place {
            number,
            activity,
            crowd: Arc::clone(crowd),
            _permit: permit,
        }
    }

    /// The connection on which nothing has been asked for longest, of the network that has most such, and of those that were
    /// not asked to leave before.
    fn idlest(&self) -> Option<Arc<Activity>> {
        let open = self.open();
        let idle = || {
            let all = open.values();
            all.filter_map(|(network, activity)| Some((*network, activity.idle_ms()?, activity)))
        };
        let mut counts: HashMap<Network, usize> = HashMap::new();
        for (network, ..) in idle() {
            *counts.entry(network).or_default() += 1;
        }
        let of_most = |(network, idle_ms, _): &(Network, u64, &Arc<Activity>)| {
            (counts.get(network).copied(), *idle_ms)
        };
        let (_, _, idlest) = idle().max_by_key(of_most)?;
        Some(Arc::clone(idlest))
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, (Network, Arc<Activity>)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's place; free again when dropped.
struct Place {
    number: u64,
    activity: Arc<Activity>,
    crowd: Arc<Crowd>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.open().remove(&self.number);
    }
}

/// The tasks of all connections, so that each has an owner who waits for it.
#[derive(Clone)]
struct Tasks {
    tracker: TaskTracker,
    kill: CancellationToken,
}

impl Tasks {
    fn spawn(&self, task: impl Future + Send + 'static) {
        let kill = self.kill.clone();
        self.tracker.spawn(async move {
            kill.run_until_cancelled(task).await;
        });
    }
}

impl<F: Future + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        self.spawn(task);
    }
}

/// What happened on a connection lately. Times are milliseconds since it was accepted, and 0 is never.
struct Activity {
    accepted: Instant,
    /// When its handshake had ended.
    secured: AtomicU64,
    /// It speaks HTTP/2, or may.
    http2: AtomicBool,
    requests: AtomicU64,
    serving: AtomicUsize,
    /// Since when nothing is being served.
    idle_since: AtomicU64,
    /// Since when the head of a request has been coming (HTTP/1).
    head_since: AtomicU64,
    /// Since when the client has taken nothing of what is written.
    unread_since: AtomicU64,
    /// Answers on their way, by their numbers: when something of each was last taken.
    outgoing: Mutex<BTreeMap<u64, u64>>,
    /// Numbers them.
    answers: AtomicU64,
    /// Its client is owed nothing any more.
    is_cut: AtomicBool,
    /// It was asked to make room for another.
    leaves: AtomicBool,
    room_is_needed: Notify,
}

/// What to do with a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    /// Nothing.
    Fine,
    /// End it, politely.
    Idle,
    /// Cut it.
    Abused(&'static str),
}

impl Activity {
    fn new() -> Activity {
        Activity {
            accepted: Instant::now(),
            secured: AtomicU64::new(0),
            http2: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            serving: AtomicUsize::new(0),
            idle_since: AtomicU64::new(1),
            head_since: AtomicU64::new(0),
            unread_since: AtomicU64::new(0),
            outgoing: Mutex::default(),
            answers: AtomicU64::new(0),
            is_cut: AtomicBool::new(false),
            leaves: AtomicBool::new(false),
            room_is_needed: Notify::new(),
        }
    }

    /// For how long nothing has been asked and nothing is on its way; none while something is, or once it leaves.
    fn idle_ms(&self) -> Option<u64> {
        let busy = self.serving.load(Ordering::Relaxed) > 0
            || !self.outgoing().is_empty()
            || self.leaves.load(Ordering::Relaxed);
        let since = self.idle_since.load(Ordering::Relaxed);
        (!busy && since > 0).then(|| self.now().saturating_sub(since))
    }

    /// From now on a request is waited for.
    fn is_secured(&self) {
        self.secured.store(self.now(), Ordering::Relaxed);
    }

    fn serves_nothing(&self) -> bool {
        self.serving.load(Ordering::Relaxed) == 0
    }

    /// Asks the connection to make room for another.
    fn leave(&self) {
        self.leaves.store(true, Ordering::Relaxed);
        self.room_is_needed.notify_one();
    }

    fn now(&self) -> u64 {
        u64::try_from(self.accepted.elapsed().as_millis())
            .unwrap_or(u64::MAX)
            .max(1)
    }

    /// Bytes have come.
    fn has_read(&self, bytes: &[u8]) {
        if self.requests.load(Ordering::Relaxed) == 0
            && self.head_since.load(Ordering::Relaxed) == 0
        {
            let preface = b"PRI * HTTP/2.0";
            let same = bytes.len().min(preface.len());
            self.http2
                .store(bytes[..same] == preface[..same], Ordering::Relaxed);
        }
        if self.serving.load(Ordering::Relaxed) == 0 {
            let _ = self.head_since.compare_exchange(
                0,
                self.now(),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
    }

    fn outgoing(&self) -> MutexGuard<'_, BTreeMap<u64, u64>> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_written(&self) {
        self.unread_since.store(0, Ordering::Relaxed);
    }

    fn cannot_write(&self) {
        let _ =
            self.unread_since
                .compare_exchange(0, self.now(), Ordering::Relaxed, Ordering::Relaxed);
    }

    fn verdict(&self, now: u64) -> Verdict {
        let passed = |since: &AtomicU64, allowed: Duration| {
            let since = since.load(Ordering::Relaxed);
            since > 0 && u128::from(now.saturating_sub(since)) > allowed.as_millis()
        };
        if passed(&self.unread_since, UNREAD) {
            return Verdict::Abused("its answer is not read");
        }
        // One that moves excuses none that does not.
        let stalest = self.outgoing().values().copied().min().unwrap_or(now);
        if u128::from(now.saturating_sub(stalest)) > UNREAD.as_millis() {
            return Verdict::Abused("it gives no room for its answers");
        }
        if self.serving.load(Ordering::Relaxed) > 0 {
            return Verdict::Fine;
        }
        let secured = self.secured.load(Ordering::Relaxed);
        let waited = u128::from(now.saturating_sub(secured));
        if self.requests.load(Ordering::Relaxed) == 0 && waited > FIRST_REQUEST.as_millis() {
            return Verdict::Abused("it brought no request");
        }
        if !self.http2.load(Ordering::Relaxed) && passed(&self.head_since, HEAD) {
            return Verdict::Abused("the head of its request came too slowly");
        }
        if passed(&self.idle_since, IDLE) {
            Verdict::Idle
        } else {
            Verdict::Fine
        }
    }
}

/// One answer of a connection.
struct OnItsWay {
    activity: Arc<Activity>,
    number: u64,
}

impl OnItsWay {
    fn of(activity: &Arc<Activity>) -> OnItsWay {
        OnItsWay {
            activity: Arc::clone(activity),
            number: activity.answers.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl Progress for OnItsWay {
    fn begun(&self) {
        self.moved();
    }

    fn moved(&self) {
        let now = self.activity.now();
        self.activity.outgoing().insert(self.number, now);
    }

    fn ended(&self) {
        self.activity.outgoing().remove(&self.number);
    }
}

/// A request being served.
struct Serving(Arc<Activity>);

impl Serving {
    fn begin(activity: &Arc<Activity>) -> Serving {
        activity.requests.fetch_add(1, Ordering::Relaxed);
        activity.serving.fetch_add(1, Ordering::Relaxed);
        activity.head_since.store(0, Ordering::Relaxed);
        activity.idle_since.store(0, Ordering::Relaxed);
        Serving(Arc::clone(activity))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if self.0.serving.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.idle_since.store(self.0.now(), Ordering::Relaxed);
        }
    }
}

/// A stream that tells what happens on it.
struct Watched {
    stream: Wire,
    activity: Arc<Activity>,
}

impl Watched {
    fn note<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match &written {
            Poll::Ready(_) => self.activity.has_written(),
            Poll::Pending => self.activity.cannot_write(),
        }
        written
    }
}

impl Drop for Watched {
    /// What was written to a client that does not read lies in the kernel, megabytes of it, and would lie there for
    /// minutes behind a polite end.
    fn drop(&mut self) {
        if self.activity.is_cut.load(Ordering::Relaxed) {
            let _ = self.stream.tcp().set_zero_linger();
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.activity.has_read(&buf.filled()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        // What is written into TLS may stay there: only flushing it says whether the client takes it.
        match self.stream.is_secure() {
            true => self.note(flushed),
            false => flushed,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000;

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_request_is_cut() {
        let activity = Activity::new();
        assert_eq!(activity.verdict(9 * SECOND), Verdict::Fine);
        assert!(matches!(activity.verdict(11 * SECOND), Verdict::Abused(_)));
        // What it waited for its turn at the handshake does not count.
        tokio::time::advance(Duration::from_secs(8)).await;
        activity.is_secured();
        assert_eq!(activity.verdict(17 * SECOND), Verdict::Fine);
        assert!(matches!(activity.verdict(19 * SECOND), Verdict::Abused(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_drips_is_cut_and_an_idle_connection_is_not() {
        let activity = Arc::new(Activity::new());
        activity.has_read(b"GET / HTTP/1.1\r\n");
        assert!(matches!(activity.verdict(6 * SECOND), Verdict::Abused(_)));
        let serving = Serving::begin(&activity);
        assert_eq!(activity.verdict(500 * SECOND), Verdict::Fine);
        tokio::time::advance(Duration::from_secs(10)).await;
        drop(serving);
        assert_eq!(activity.verdict(100 * SECOND), Verdict::Fine);
        assert_eq!(activity.verdict(131 * SECOND), Verdict::Idle);
        tokio::time::advance(Duration::from_secs(10)).await;
        activity.has_read(b"G");
        assert_eq!(activity.verdict(24 * SECOND), Verdict::Fine);
        assert!(matches!(activity.verdict(26 * SECOND), Verdict::Abused(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn http_2_says_many_things_that_are_no_head() {
        let activity = Arc::new(Activity::new());
        activity.has_read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        drop(Serving::begin(&activity));
        activity.has_read(b"\0\0\x08\x06");
        assert_eq!(activity.verdict(60 * SECOND), Verdict::Fine);
        assert_eq!(activity.verdict(130 * SECOND), Verdict::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_reads_is_cut() {
        let activity = Arc::new(Activity::new());
        let _serving = Serving::begin(&activity);
        activity.cannot_write();
        tokio::time::advance(Duration::from_secs(20)).await;
        activity.cannot_write();
        assert_eq!(activity.verdict(30 * SECOND), Verdict::Fine);
        assert!(matches!(activity.verdict(31 * SECOND), Verdict::Abused(_)));
        activity.has_written();
        assert_eq!(activity.verdict(31 * SECOND), Verdict::Fine);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_without_room_to_be_sent_is_cut_though_another_moves() {
        let activity = Arc::new(Activity::new());
        drop(Serving::begin(&activity));
        let (stalled, moving) = (OnItsWay::of(&activity), OnItsWay::of(&activity));
        stalled.begun();
        moving.begun();
        tokio::time::advance(Duration::from_secs(20)).await;
        moving.moved();
        assert_eq!(activity.verdict(30 * SECOND), Verdict::Fine);
        assert!(matches!(activity.verdict(31 * SECOND), Verdict::Abused(_)));
        assert!(activity.idle_ms().is_none());
        stalled.ended();
        assert_eq!(activity.verdict(50 * SECOND), Verdict::Fine);
        assert!(matches!(activity.verdict(51 * SECOND), Verdict::Abused(_)));
        moving.ended();
        assert_eq!(activity.verdict(51 * SECOND), Verdict::Fine);
        assert!(activity.idle_ms().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_that_was_idle_longest_makes_room_and_one_that_is_served_never() {
        let crowd = Arc::new(Crowd::of(3));
        let enter = |crowd| Crowd::enter(crowd, [10, 0, 0, 1].into());
        let first = enter(&crowd).await;
        let serving = Serving::begin(&first.activity);
        tokio::time::advance(Duration::from_secs(1)).await;
        let second = enter(&crowd).await;
        tokio::time::advance(Duration::from_secs(1)).await;
        let third = enter(&crowd).await;
        tokio::time::advance(Duration::from_secs(1)).await;
        let newcomer = tokio::spawn({
            let crowd = Arc::clone(&crowd);
            async move { Crowd::enter(&crowd, [10, 0, 0, 1].into()).await }
        });
        second.activity.room_is_needed.notified().await;
        drop(second);
        let fourth = newcomer.await.expect("it enters");
        tokio::time::advance(Duration::from_secs(1)).await;
        drop(serving);
        // The first was served just now: the third has been idle longer.
        let idlest = crowd.idlest().expect("one is idle");
        assert!(Arc::ptr_eq(&idlest, &third.activity));
        third.activity.leave();
        let idlest = crowd.idlest().expect("another is idle");
        assert!(
            !Arc::ptr_eq(&idlest, &third.activity),
            "it was asked already"
        );
        drop((first, third, fourth));
        assert!(crowd.idlest().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_from_one_address_makes_room_before_others_though_they_have_been_idle_longer() {
        let crowd = Arc::new(Crowd::of(8));
        let mut places = Vec::new();
        for last in [1, 2, 9, 9, 9] {
            places.push(Crowd::enter(&crowd, [10, 0, 0, last].into()).await);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        for expected in [2, 3, 0] {
            let idlest = crowd.idlest().expect("one is idle");
            assert!(Arc::ptr_eq(&idlest, &places[expected].activity));
            idlest.leave();
        }
    }
}
