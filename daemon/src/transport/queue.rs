//! What waits to be sent on one lane to one member.
//!
//! Owns a queue that is bounded by count and bytes and that never makes its caller wait: what does not fit is dropped,
//! and what was queued for a connection dies with it, so that nothing is ever sent twice. The sending end is the body
//! of a request: hyper takes a chunk of frames when the connection has room for one.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame};
use tenure_raft::Body as RaftBody;
use tenure_replica::{Lane, PeerMessage};

use super::codec;

/// A chunk is closed once it holds so much: large enough that many small frames cost one write, small enough that
/// little is copied ahead of what the connection can take.
const CHUNK_BYTES: usize = 128 << 10;

/// What a message counts for beside its payload.
const MESSAGE_OVERHEAD: usize = 64;

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl Bounds {
    /// The bounds of a lane: a few times what a healthy leader has in flight, so that only a connection that does not
    /// move drops anything.
    pub(super) fn of(lane: Lane) -> Bounds {
        match lane {
            Lane::Urgent => Bounds {
                messages: 4096,
                bytes: 4 << 20,
            },
            Lane::Append => Bounds {
                messages: 4096,
                bytes: 32 << 20,
            },
            Lane::Snapshot => Bounds {
                messages: 64,
                bytes: 16 << 20,
            },
        }
    }
}

/// The queue; shared by whoever sends and by the connection of the day.
#[derive(Debug)]
pub(super) struct LaneQueue {
    bounds: Bounds,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    messages: VecDeque<(usize, PeerMessage)>,
    bytes: usize,
    /// Counts connections: only the body of the present one takes messages.
    session: u64,
    /// Whether the other side has agreed to take messages on this session.
    open: bool,
    /// The newest kind of frame that the other side knows on this session.
    knows: u8,
    waker: Option<Waker>,
}

impl LaneQueue {
    pub(super) fn new(bounds: Bounds) -> Arc<LaneQueue> {
        Arc::new(LaneQueue {
            bounds,
            inner: Mutex::default(),
        })
    }

    /// Queues a message, or drops it where no connection is open or too much waits already. Never waits.
    pub(super) fn push(&self, message: PeerMessage) -> bool {
        let weight = weight(&message);
        let kind = codec::newest_kind(&message);
        let mut inner = self.lock();
        if inner.open && inner.knows < kind {
            // A member of an older program would end the stream, and with it what it does know: lost on the way.
            return true;
        }
        // A message greater than the whole bound may still go alone: refusing it would stop replication for good.
        let fits = inner.messages.is_empty()
            || (inner.messages.len() < self.bounds.messages
                && inner.bytes + weight <= self.bounds.bytes);
        if !inner.open || !fits {
            return false;
        }
        inner.bytes += weight;
        inner.messages.push_back((weight, message));
        let waker = inner.waker.take();
        drop(inner);
        waker.into_iter().for_each(Waker::wake);
        true
    }

    /// Begins a session: its body sends nothing until [`LaneQueue::open`].
    pub(super) fn begin(self: &Arc<LaneQueue>) -> LaneBody {
        self.close();
        LaneBody {
            queue: Arc::clone(self),
            session: self.lock().session,
        }
    }

    /// The other side takes messages now, up to this kind of frame.
    pub(super) fn open(&self, knows: u8) {
        let mut inner = self.lock();
        (inner.open, inner.knows) = (true, knows);
    }

    /// Ends the session and forgets everything that it had not sent.
    pub(super) fn close(&self) {
        let mut inner = self.lock();
        inner.session += 1;
        inner.open = false;
        inner.bytes = 0;
        let forgotten = std::mem::take(&mut inner.messages);
        let waker = inner.waker.take();
        drop(inner);
        drop(forgotten);
        waker.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Takes messages for about one chunk, at least one.
    fn take_batch(&mut self) -> (usize, Vec<PeerMessage>) {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while bytes < CHUNK_BYTES
            && let Some((weight, message)) = self.messages.pop_front()
        {
            bytes += weight;
            batch.push(message);
        }
        self.bytes -= bytes;
        (bytes, batch)
    }
}

/// The body of a lane's request: frames, as long as the session lasts.
#[derive(Debug)]
pub(super) struct LaneBody {
    queue: Arc<LaneQueue>,
    session: u64,
}

impl LaneBody {
    /// The next messages of this session; `None` when it is over.
    fn poll_batch(&self, cx: &mut Context<'_>) -> Poll<Option<(usize, Vec<PeerMessage>)>> {
        let mut inner = self.queue.lock();
        if inner.session != self.session {
            return Poll::Ready(None);
        }
        if !inner.open || inner.messages.is_empty() {
            inner.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Some(inner.take_batch()))
    }
}

impl Body for LaneBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            let Some((bytes, batch)) = std::task::ready!(self.poll_batch(cx)) else {
                return Poll::Ready(None);
            };
            let chunk = encode_batch(bytes, &batch);
            if !chunk.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(chunk))));
            }
        }
    }
}

fn encode_batch(bytes: usize, batch: &[PeerMessage]) -> Bytes {
    let mut chunk = BytesMut::with_capacity(bytes);
    for message in batch {
        if let Err(error) = codec::encode(message, &mut chunk) {
            tracing::error!(%error, "message to a peer not sent");
        }
    }
    chunk.freeze()
}

/// About how many bytes a message takes in memory and on the wire.
pub(super) fn weight(message: &PeerMessage) -> usize {
    let payload = match message {
        PeerMessage::Raft(message) => match &message.body {
            RaftBody::Append { entries, .. } => entries.iter().map(tenure_raft::Entry::size).sum(),
            RaftBody::Snapshot { file, data, .. } => data.len() + file.meta.configuration.size(),
            _ => 0,
        },
        PeerMessage::Forward(requests) => requests
            .iter()
            .map(|r| r.request.len() + MESSAGE_OVERHEAD)
            .sum(),
        PeerMessage::Refused { tokens, .. } => 8 * tokens.len(),
        PeerMessage::Progress { report, .. } => MESSAGE_OVERHEAD * report.peers.len(),
        PeerMessage::Introduce(introduction) => 8 * introduction.known.len(),
        PeerMessage::Operate { .. } | PeerMessage::Operated { .. } => 4 * MESSAGE_OVERHEAD,
        PeerMessage::AskProgress { .. } | PeerMessage::WentBack { .. } => 0,
        PeerMessage::Digest { .. } | PeerMessage::Agreed { .. } => 0,
        PeerMessage::AskVersion { .. } | PeerMessage::CanFollow(_) => 0,
    };
    payload + MESSAGE_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::frame::FrameDecoder;

    const SMALL: PeerMessage = PeerMessage::AskProgress { token: 1 };

    fn take(body: &mut LaneBody) -> Poll<Option<Bytes>> {
        let mut context = Context::from_waker(Waker::noop());
        let chunk = Pin::new(body).poll_frame(&mut context);
        chunk.map(|chunk| chunk.map(|Ok(frame)| frame.into_data().expect("data")))
    }

    fn queue(messages: usize, bytes: usize) -> (Arc<LaneQueue>, LaneBody) {
        let queue = LaneQueue::new(Bounds { messages, bytes });
        let body = queue.begin();
        queue.open(codec::NEWEST_KIND);
        (queue, body)
    }

    #[test]
    fn a_queue_is_bounded_by_count() {
        let (queue, mut body) = queue(3, 1 << 20);
        let accepted = (0..5).filter(|_| queue.push(SMALL)).count();
        assert_eq!(accepted, 3);
        assert!(take(&mut body).is_ready());
        assert!(queue.push(SMALL));
    }

    #[test]
    fn a_queue_is_bounded_by_bytes_but_takes_one_message_of_any_size() {
        let (queue, mut body) = queue(100, 10);
        let large = PeerMessage::Refused {
            tokens: vec![7; 1000],
            reason: tenure_replica::Refused::NoLeader,
        };
        assert!(queue.push(large));
        assert!(!queue.push(SMALL));
        assert!(take(&mut body).is_ready());
        assert!(queue.push(SMALL));
    }

    #[test]
    fn what_is_queued_together_leaves_in_one_chunk_in_order() {
        let (queue, mut body) = queue(100, 1 << 20);
        for token in 0..50 {
            assert!(queue.push(PeerMessage::AskProgress { token }));
        }
        let Poll::Ready(Some(chunk)) = take(&mut body) else {
            panic!("a chunk")
        };
        assert!(take(&mut body).is_pending());
        let mut decoder = FrameDecoder::default();
        decoder.push(chunk);
        let (from, to) = (tenure_raft::MemberId(1), tenure_raft::MemberId(2));
        for token in 0..50 {
            let frame = decoder.next_frame().expect("valid").expect("complete");
            assert_eq!(
                codec::decode(frame, from, to),
                Ok(PeerMessage::AskProgress { token })
            );
        }
    }

    #[test]
    fn nothing_is_taken_before_the_other_side_agrees_nor_after_the_connection_is_gone() {
        let queue = LaneQueue::new(Bounds {
            messages: 9,
            bytes: 1 << 20,
        });
        let mut body = queue.begin();
        assert!(!queue.push(SMALL));
        assert!(take(&mut body).is_pending());
        queue.open(codec::NEWEST_KIND);
        assert!(queue.push(SMALL));
        queue.close();
        assert!(!queue.push(SMALL));
        assert_eq!(take(&mut body), Poll::Ready(None));
    }

    #[test]
    fn what_one_connection_had_not_sent_never_leaves_on_the_next() {
        let (queue, mut old) = queue(9, 1 << 20);
        assert!(queue.push(SMALL));
        let mut new = queue.begin();
        queue.open(codec::NEWEST_KIND);
        assert_eq!(take(&mut old), Poll::Ready(None));
        assert!(take(&mut new).is_pending());
    }
}
