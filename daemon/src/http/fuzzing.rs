//! REST as a whole: whatever a client asks, it is told something sensible, and a read changes nothing.
//!
//! The input is up to eight requests, one after the other, each as text: `METHOD target`, lines of headers, an empty
//! line, a body; a byte 0xff ends it. They are sent as HTTP/1.1 to the service over a member that decides on the spot
//! (`node/desk.rs`), on virtual time, so that a request that waits costs nothing. Leases 1 to 3, the lock, semaphore and
//! election `a` with somebody who waits for each, and the keys `a` and `a/1` are there before.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tenure_api::{EVENT_STREAM, MAX_POLL_MS, Outcome, PROBLEM_JSON, Problem};
use tenure_state::{
    Acquire, Batch, Claim, Clock, Command, Genesis, Kind, LeaseId, NewLease, Operation, Origin,
    Put, Revision, RootToken, Share, State, TokenId, Transaction, Wanted,
};
use tokio::time::{Instant, interval};

use super::Settings;
use super::body::Arriving;
use super::connection::HEAD_BYTES;
use super::probe;
use super::service::{Ends, OwnTurn, Service};
use crate::node::Desk;

const REQUESTS: usize = 8;
const SEPARATOR: u8 = 0xff;
const ADDRESS: &str = "127.0.0.1:7379";
/// How often the time is told to the member while a request waits.
const TICK: Duration = Duration::from_millis(500);
/// The longest wait there is and a little more: a request that is not answered in this time is a stream, or hangs.
const PATIENCE: Duration = Duration::from_millis(MAX_POLL_MS + 10_000);
/// Waiting requests that the member has room for.
const WAITS: usize = 16;

/// What a client sent.
///
/// # Panics
/// Where the answer is not one that a client can understand, a read writes, something hangs, or the state of the member
/// does not hold together afterwards.
pub fn rest(bytes: &[u8]) {
    statuses(bytes);
}

/// Runs it; the statuses of the answers.
pub(crate) fn statuses(bytes: &[u8]) -> Vec<u16> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without threads and sockets");
    runtime.block_on(calls(bytes))
}

async fn calls(bytes: &[u8]) -> Vec<u16> {
    let mut statuses = Vec::new();
    let mut desk = Desk::new(furnished());
    let settings = Settings {
        waits: WAITS,
        ..Settings::default()
    };
    let service = Service::new(desk.handle(), &settings).with_probe(probe::nobody);
    let service = Arc::new(service);
    for text in bytes.split(|byte| *byte == SEPARATOR).take(REQUESTS) {
        let asked = Asked::of(text);
        let (writes, revision) = (desk.writes(), desk.handle().read(State::revision));
        let begun = Instant::now();
        let answer = Answer::of(call(&mut desk, &service, &asked.raw).await);
        let Some(answer) = answer else {
            assert!(asked.streams, "no answer to {:?}", asked.line);
            continue;
        };
        answer.check(&asked);
        statuses.push(answer.status);
        if asked.reads {
            assert_eq!(desk.writes(), writes, "a read wrote: {:?}", asked.line);
        }
        if begun.elapsed().is_zero() && answer.outcome == Some(Outcome::NotApplied) {
            let present = desk.handle().read(State::revision);
            assert_eq!(present, revision, "not applied, and yet: {:?}", asked.line);
        }
    }
    desk.handle().read(State::check_invariants);
    strangers(bytes).await;
    statuses
}

/// The same where everybody proves who asks, and this client cannot: it is told nothing and writes nothing.
async fn strangers(bytes: &[u8]) {
    let mut desk = Desk::new(State::genesis(Genesis {
        root: Some(RootToken {
            id: TokenId(1),
            hash: [1; 32],
        }),
        ..Genesis::default()
    }));
    let settings = Settings::default();
    let service = Arc::new(Service::new(desk.handle(), &settings).with_probe(probe::nobody));
    for text in bytes.split(|byte| *byte == SEPARATOR).take(REQUESTS) {
        let asked = Asked::of(text);
        let Some(answer) = Answer::of(call(&mut desk, &service, &asked.raw).await) else {
            assert!(asked.streams, "no answer to {:?}", asked.line);
            continue;
        };
        let is_ours = answer.header(tenure_api::header::REQUEST_ID).is_some();
        let is_open = asked.line.contains("livez") || asked.line.contains("readyz");
        assert!(
            matches!(answer.status, 401 | 429) || is_open || !is_ours,
            "a stranger was answered {} to {:?}",
            answer.status,
            asked.line
        );
    }
    assert_eq!(desk.writes(), 0, "a stranger wrote");
}

/// A request as it is sent, and what is to be known of it.
struct Asked {
    raw: Bytes,
    line: String,
    reads: bool,
    is_head: bool,
    streams: bool,
}

impl Asked {
    fn of(text: &[u8]) -> Asked {
        let end = text.windows(2).position(|pair| pair == b"\n\n");
        let (head, body) = match end {
            Some(end) => (&text[..end], &text[end + 2..]),
            None => (text, &b""[..]),
        };
        let mut lines = head.split(|byte| *byte == b'\n');
        let line = lines.next().unwrap_or_default();
        let mut raw = line.to_vec();
        raw.extend_from_slice(b" HTTP/1.1\r\nconnection: close\r\n");
        let mut has_host = false;
        let mut streams = false;
        for header in lines {
            let lower = header.to_ascii_lowercase();
            has_host |= lower.starts_with(b"host:");
            streams |= asks_for_events(&lower) || lower.starts_with(b"expect");
            // Lengths are ours, or the body would be taken for another request.
            if lower.starts_with(b"content-length") || lower.starts_with(b"transfer-encoding") {
                continue;
            }
            raw.extend_from_slice(header);
            raw.extend_from_slice(b"\r\n");
        }
        if !has_host {
            raw.extend_from_slice(format!("host: {ADDRESS}\r\n").as_bytes());
        }
        if !body.is_empty() {
            raw.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
        }
        raw.extend_from_slice(b"\r\n");
        raw.extend_from_slice(body);
        let line = String::from_utf8_lossy(line).into_owned();
        let is = |method: &str| line.starts_with(method);
        Asked {
            raw: raw.into(),
            reads: is("GET ") || is("HEAD ") || is("OPTIONS "),
            is_head: is("HEAD "),
            streams,
            line,
        }
    }
}

/// Whether a header, in lower case, makes a watch a stream.
fn asks_for_events(header: &[u8]) -> bool {
    let header = String::from_utf8_lossy(header);
    header.starts_with("accept:") && header.contains(EVENT_STREAM)
}

/// Sends a request and collects what is answered until the connection ends or patience does.
async fn call(desk: &mut Desk, service: &Arc<Service>, raw: &Bytes) -> Vec<u8> {
    let wire = Wire {
        input: raw.clone(),
        output: Arc::default(),
    };
    let output = Arc::clone(&wire.output);
    let local: SocketAddr = ADDRESS.parse().expect("an address");
    let ends = Ends {
        local,
        client: local,
    };
    let answer = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(OwnTurn::new());
        let (service, arriving) = (Arc::clone(service), Arriving::at_member());
        async move { Ok::<_, Infallible>(service.answer(request, arriving, ends).await.0) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .max_buf_size(HEAD_BYTES as usize)
            .serve_connection(wire, answer)
    );
    let waking = desk.handle();
    let mut waking = pin!(waking.wake_watchers());
    let mut ticks = interval(TICK);
    ticks.tick().await;
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let ended = poll_fn(|cx| {
            loop {
                if connection.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(true);
                }
                let _ = waking.as_mut().poll(cx);
                if !desk.work() {
                    return ticks.poll_tick(cx).map(|_| false);
                }
            }
        });
        if ended.await {
            break;
        }
        desk.pass(TICK);
    }
    let output = output.lock().unwrap_or_else(PoisonError::into_inner);
    output.clone()
}

/// A connection whose client has sent all that it will send, and takes everything.
struct Wire {
    input: Bytes,
    output: Arc<Mutex<Vec<u8>>>,
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.input.is_empty() {
            return Poll::Pending;
        }
        let length = buffer.remaining().min(self.input.len());
        let taken = self.input.split_to(length);
        buffer.put_slice(&taken);
        Poll::Ready(Ok(()))
    }
}

impl Write for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        output.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What came back.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
    outcome: Option<Outcome>,
}

impl Answer {
    /// `None` where nothing came, or not all of it.
    fn of(bytes: Vec<u8>) -> Option<Answer> {
        let mut bytes = &bytes[..];
        // Before the answer the client may have been asked for the body.
        while let Some(rest) = bytes.strip_prefix(b"HTTP/1.1 100 Continue\r\n\r\n") {
            bytes = rest;
        }
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).expect("a head of text");
        let head = head.to_ascii_lowercase();
        let status = head.strip_prefix("http/1.1 ").expect("HTTP/1.1");
        let status = status[..3].parse().expect("a status of three digits");
        let body = bytes[end + 4..].to_vec();
        Some(Answer {
            status,
            head,
            outcome: problem(&body).map(|problem| problem.outcome),
            body,
        })
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.split("\r\n").skip(1);
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn check(&self, asked: &Asked) {
        let line = &asked.line;
        if self.header(tenure_api::header::REQUEST_ID).is_none() {
            // hyper refused it before it came to us.
            assert!(
                matches!(self.status, 400 | 414 | 431),
                "{line}: {}",
                self.head
            );
            return;
        }
        assert!(self.status < 500, "{line}: {}", self.text());
        if let Some(length) = self.header("content-length").filter(|_| !asked.is_head) {
            assert_eq!(length, self.body.len().to_string(), "{line}");
        }
        if self.status >= 400 && !asked.is_head {
            let problem = problem(&self.body).expect("a problem says what is wrong");
            assert_eq!(self.header("content-type"), Some(PROBLEM_JSON), "{line}");
            assert_eq!(problem.status, self.status, "{line}");
            assert_eq!(problem.code.status(), self.status, "{line}");
            crate::fuzzing::assert_says_something(&problem.detail);
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn problem(body: &[u8]) -> Option<Problem> {
    serde_json::from_slice(body).ok()
}

/// The state that every input begins with.
fn furnished() -> State {
    let mut state = State::genesis(Genesis {
        first_revision: Revision(1),
        ..Genesis::default()
    });
    let lease = |number| LeaseId::new(number).expect("positive");
    let mut commands: Vec<Command> = (1..=3)
        .map(|number| {
            Command::GrantLease(NewLease {
                lease: lease(number),
                ttl_ms: 20_000 * number,
                name: format!("w{number}"),
                metadata: [("host".to_owned(), "h".to_owned())].into(),
            })
        })
        .collect();
    for (holder, wait_ms) in [(1, 0), (2, 60_000)] {
        for (kind, share) in [
            (Kind::Lock, Share::Exclusive),
            (Kind::Semaphore, SEMAPHORE),
            (Kind::Election, Share::Exclusive),
        ] {
            commands.push(acquire(kind, share, lease(holder), wait_ms));
        }
    }
    for (key, hangs_on) in [("a", None), ("a/1", Some(lease(3)))] {
        commands.push(put(key, hangs_on));
    }
    let requests = commands.into_iter().map(|command| tenure_state::Request {
        origin: Origin {
            member: 2,
            token: 0,
        },
        principal: tenure_state::Principal::anonymous(),
        idempotency: None,
        command,
    });
    let batch = Batch {
        requests: requests.collect(),
        ..Batch::default()
    };
    let applied = state.apply(Clock(1000), &batch);
    assert!(
        applied
            .outcomes
            .iter()
            .all(|decision| decision.outcome.is_ok())
    );
    state
}

/// Two permits of three.
const SEMAPHORE: Share = Share::Permits {
    permits: 2,
    limit: 3,
};

fn acquire(kind: Kind, share: Share, lease: LeaseId, wait_ms: u64) -> Command {
    Command::Acquire(Acquire {
        kind,
        wanted: vec![Wanted {
            name: "a".to_owned(),
            share,
        }],
        claim: Claim::Lease(lease),
        owner: String::new(),
        wait_ms,
        priority: 0,
        metadata: Default::default(),
        lock_delay_ms: 0,
        value: String::new(),
    })
}

fn put(key: &'static str, lease: Option<LeaseId>) -> Command {
    Command::Transaction(Transaction {
        then: vec![Operation::Put(Put {
            key: Bytes::from_static(key.as_bytes()),
            value: Bytes::from_static(b"value"),
            content_type: None,
            lease,
            refuse_other_lease: false,
        })],
        ..Transaction::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_wait_that_can_be_asked_for_is_no_hang() {
        let asked = format!("GET /v1/locks/free?after=5&wait_ms={MAX_POLL_MS}\n\n");
        assert_eq!(statuses(asked.as_bytes()), [204]);
    }
}
