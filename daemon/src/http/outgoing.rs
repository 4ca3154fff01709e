//! Answers on their way to a client: cut into pieces, counted, and watched.
//!
//! Owns the bound on bytes of answers that clients asked for and do not take. A client of HTTP/2 can ask for hundreds of
//! pages at once and give no room to send any of them (CVE-2019-9517), and its socket never looks blocked. A stream of
//! events is held to the same while a piece of it waits to be taken, and is free to be quiet while none does.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::budget::{Budget, Held, Sizes};

/// Answers no larger than this have room of their own, so that whoever waits for pages still hears of its leases.
const SMALL: u64 = 64 << 10;
/// Bytes of small answers on their way: 4 KiB for each request that a connection may have at a time. More of them take
/// room as larger ones do.
const ROOM_OF_SMALL: Sizes = Sizes {
    of_one: 1 << 20,
    of_all: 64 << 20,
    reserve: 16 << 20,
};
/// Bytes of larger answers on their way: 8 pages of 4 MiB on a connection.
const ROOM_OF_LARGE: Sizes = Sizes {
    of_one: 32 << 20,
    of_all: 256 << 20,
    reserve: 64 << 20,
};
/// An answer is handed to the connection in pieces of this size, so that no more of it lies in buffers there.
const PIECE: usize = 64 << 10;

/// Whoever is handed the last piece of an answer may keep it, out of sight, until its client gives room for it. What is
/// longer than this counts as on its way until that has happened.
const UNSEEN: usize = 4 << 10;

/// Room for answers on their way.
#[derive(Clone)]
pub(super) struct Room {
    small: Budget,
    large: Budget,
}

impl Room {
    /// The room of a member.
    pub(super) fn of_member() -> Room {
        Room {
            small: Budget::of_member(ROOM_OF_SMALL),
            large: Budget::of_member(ROOM_OF_LARGE),
        }
    }

    /// The room of one connection of the same member.
    pub(super) fn of_connection(&self) -> Room {
        Room {
            small: self.small.of_connection(),
            large: self.large.of_connection(),
        }
    }

    /// Takes as much as an answer needs, if it is there. A single answer that is larger than all the room of a
    /// connection is given alone.
    pub(super) fn take(&self, bytes: u64) -> Option<Taken> {
        if bytes == 0 {
            return Some(Taken::default());
        }
        let small = || self.small.take(bytes);
        let of_small = (bytes <= SMALL).then(small).flatten();
        let held = of_small.or_else(|| self.large.take(bytes))?;
        Some(Taken(Some(held)))
    }
}

/// Room that is taken until this is dropped.
#[derive(Default)]
pub(super) struct Taken(#[expect(dead_code, reason = "it is held to be dropped")] Option<Held>);

/// What is told of one answer.
pub(super) trait Progress {
    /// It is on its way.
    fn begun(&self);
    /// A piece of it was taken.
    fn moved(&self);
    /// It is on its way no more.
    fn ended(&self);
}

/// What an answer's body is beside bytes.
pub(super) trait Answer: Body<Data = Bytes> {
    /// Ends it where there is no room for the piece that it gave; what is sent in place of that piece.
    fn without_room(&mut self) -> Option<Bytes>;

    /// Whether what is left of the last piece may still be sent: it may have waited for long. Where it may not, the answer
    /// ends there.
    fn may_go_on(&mut self) -> bool;
}

/// The body of an answer. One whose length is known has its room until it ends; one whose length is not (a stream of
/// events) takes room for each piece, and is waited for only while a piece of it is at hand.
pub(super) struct Outgoing<B, P: Progress> {
    body: B,
    piece: Bytes,
    room: Room,
    /// The room of the piece, or of the whole.
    taken: Option<Taken>,
    is_whole: bool,
    /// Nothing of it was asked for yet.
    is_first: bool,
    /// The last piece was long, and whether it is sent shows only when more is asked for.
    may_be_kept: bool,
    progress: P,
    is_waited_for: bool,
}

impl<B: Body<Data = Bytes>, P: Progress> Outgoing<B, P> {
    /// An answer with the room `taken` for what of it is at hand.
    pub(super) fn new(body: B, room: Room, taken: Taken, progress: P) -> Outgoing<B, P> {
        let hint = body.size_hint();
        let mut outgoing = Outgoing {
            is_whole: hint.exact().is_some(),
            is_first: true,
            may_be_kept: false,
            body,
            piece: Bytes::new(),
            room,
            taken: Some(taken),
            progress,
            is_waited_for: false,
        };
        outgoing.wait(hint.lower() > 0);
        outgoing
    }
}

impl<B, P: Progress> Outgoing<B, P> {
    fn wait(&mut self, waited_for: bool) {
        match (self.is_waited_for, waited_for) {
            (false, true) => self.progress.begun(),
            (true, false) => self.progress.ended(),
            (true, true) | (false, false) => {}
        }
        self.is_waited_for = waited_for;
    }
}

impl<B, P: Progress> Drop for Outgoing<B, P> {
    fn drop(&mut self) {
        self.wait(false);
    }
}

impl<B, P> Body for Outgoing<B, P>
where
    B: Answer + Unpin,
    P: Progress + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if self.is_waited_for {
            self.progress.moved();
        }
        self.may_be_kept = false;
        if !self.piece.is_empty() && !self.body.may_go_on() {
            self.piece = Bytes::new();
            return Poll::Ready(None);
        }
        if self.piece.is_empty() {
            // Who asks for the next piece has sent the one before, and until then keeps it.
            if !self.is_whole && !self.is_first {
                self.wait(false);
                self.taken = None;
            }
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                other => return Poll::Ready(other),
            };
            let data = match frame.into_data() {
                Ok(data) => data,
                Err(frame) => return Poll::Ready(Some(Ok(frame))),
            };
            self.is_first = false;
            if self.taken.is_none() {
                self.taken = self.room.take(data.len() as u64);
            }
            self.piece = match self.taken {
                Some(_) => data,
                None => self.body.without_room().unwrap_or_default(),
            };
        }
        let length = PIECE.min(self.piece.len());
        let piece = self.piece.split_to(length);
        self.may_be_kept = UNSEEN < length;
        self.wait(true);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.piece.is_empty() && self.body.is_end_stream() && !self.may_be_kept
    }

    fn size_hint(&self) -> SizeHint {
        let (held, rest) = (self.piece.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + held);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + held);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use http_body_util::{BodyExt, Full};

    use super::*;

    #[derive(Clone, Default)]
    struct Noted(Arc<(AtomicI64, AtomicI64)>);

    impl Progress for Noted {
        fn begun(&self) {
            self.0.0.fetch_add(1, Ordering::Relaxed);
        }

        fn moved(&self) {
            self.0.1.fetch_add(1, Ordering::Relaxed);
        }

        fn ended(&self) {
            self.0.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    impl Answer for Full<Bytes> {
        fn without_room(&mut self) -> Option<Bytes> {
            None
        }

        fn may_go_on(&mut self) -> bool {
            true
        }
    }

    /// Pieces of a stream, the first of which is at hand, and how often it may go on within one.
    struct Pieces(VecDeque<Bytes>, usize);

    impl Pieces {
        fn of(lengths: &[usize]) -> Pieces {
            let pieces = lengths.iter().map(|n| Bytes::from(vec![0; *n]));
            Pieces(pieces.collect(), usize::MAX)
        }
    }

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
        }

        fn size_hint(&self) -> SizeHint {
            let mut hint = SizeHint::new();
            hint.set_lower(self.0.front().map_or(0, |piece| piece.len() as u64));
            hint
        }
    }

    impl Answer for Pieces {
        fn without_room(&mut self) -> Option<Bytes> {
            self.0.clear();
            Some(Bytes::from_static(b"no room"))
        }

        fn may_go_on(&mut self) -> bool {
            self.1 = self.1.saturating_sub(1);
            0 < self.1
        }
    }

    fn outgoing<B: Answer>(body: B, noted: &Noted) -> Outgoing<B, Noted> {
        let room = Room::of_member().of_connection();
        Outgoing::new(body, room, Taken::default(), noted.clone())
    }

    async fn length<B: Answer<Error = Infallible> + Unpin>(body: &mut Outgoing<B, Noted>) -> usize {
        let frame = body.frame().await.expect("a frame").expect("no error");
        frame.data_ref().map_or(0, Bytes::len)
    }

    #[tokio::test]
    async fn a_stream_is_waited_for_while_a_piece_of_it_is_left_and_may_be_quiet_otherwise() {
        let noted = Noted::default();
        let waited_for = || noted.0.0.load(Ordering::Relaxed);
        let mut body = outgoing(Pieces::of(&[10, PIECE + 1, 10]), &noted);
        assert_eq!(waited_for(), 1, "its first piece is at hand");
        assert_eq!((length(&mut body).await, waited_for()), (10, 1));
        assert_eq!((length(&mut body).await, waited_for()), (PIECE, 1));
        assert_eq!((length(&mut body).await, waited_for()), (1, 1));
        assert_eq!((length(&mut body).await, waited_for()), (10, 1));
        assert!(body.frame().await.is_none());
        assert_eq!(waited_for(), 0, "all was sent, and there is no more yet");
    }

    #[tokio::test]
    async fn what_waits_for_its_reader_is_sent_only_as_long_as_it_may_be() {
        let noted = Noted::default();
        let mut pieces = Pieces::of(&[4 * PIECE, 10]);
        pieces.1 = 3;
        let mut body = outgoing(pieces, &noted);
        for _ in 0..3 {
            assert_eq!(length(&mut body).await, PIECE);
        }
        assert!(body.frame().await.is_none(), "the rest is not sent");
    }

    #[tokio::test]
    async fn a_stream_takes_room_for_each_long_piece_and_says_so_where_there_is_none() {
        let noted = Noted::default();
        let room = Room::of_member().of_connection();
        let page = 4 << 20;
        let first = room.take(page as u64).expect("there is room");
        let stream = Pieces::of(&[page, 10, page, 10]);
        let mut body = Outgoing::new(stream, room.clone(), first, noted.clone());
        let held = |room: &Room| room.large.held();
        assert_eq!(held(&room), page);
        for _ in 0..page / PIECE {
            assert_eq!(length(&mut body).await, PIECE);
        }
        assert_eq!(held(&room), page, "the last of it may not be sent yet");
        assert_eq!(length(&mut body).await, 10);
        assert_eq!(held(&room), 0, "what was sent is no longer held");
        assert_eq!(length(&mut body).await, PIECE);
        assert_eq!(held(&room), page);
        drop(body);
        assert_eq!(held(&room), 0);

        let all: Vec<_> = (0..8).filter_map(|_| room.take(page as u64)).collect();
        assert_eq!(all.len(), 8);
        let stream = Pieces::of(&[10, page, 10]);
        let mut body = Outgoing::new(stream, room, Taken::default(), noted.clone());
        assert_eq!(length(&mut body).await, 10);
        let last = body.frame().await.expect("a frame").expect("no error");
        assert_eq!(last.into_data().expect("data"), "no room");
        assert!(body.frame().await.is_none(), "that ends it");
    }

    #[test]
    fn small_answers_have_room_of_their_own_and_take_that_of_large_ones_after_it() {
        let member = Room::of_member();
        let connection = member.of_connection();
        let page = 4 << 20;
        let mut taken: Vec<Taken> = (0..8).filter_map(|_| connection.take(page)).collect();
        assert_eq!(taken.len(), 8);
        assert!(connection.take(page).is_none());
        let small: Vec<Taken> = (0..100).filter_map(|_| connection.take(SMALL)).collect();
        assert_eq!(small.len(), ROOM_OF_SMALL.of_one as usize / SMALL as usize);
        assert!(connection.take(0).is_some());
        taken.pop();
        assert!(
            connection.take(SMALL).is_some(),
            "many small answers take room as large ones do"
        );
        drop((taken, small));
        let most = (ROOM_OF_SMALL.of_all + ROOM_OF_LARGE.of_all) / SMALL as usize;
        let all: Vec<Taken> = std::iter::repeat_with(|| member.of_connection().take(SMALL))
            .map_while(|taken| taken)
            .take(2 * most)
            .collect();
        assert!(
            most / 2 < all.len() && all.len() <= most,
            "small answers of all connections: {}",
            all.len()
        );
    }

    #[tokio::test]
    async fn a_long_last_piece_is_on_its_way_until_more_is_asked_for() {
        let noted = Noted::default();
        for (length, ends_with_it) in [(UNSEEN, true), (UNSEEN + 1, false)] {
            let mut body = outgoing(Full::new(Bytes::from(vec![0; length])), &noted);
            let frame = body.frame().await.expect("a frame").expect("no error");
            assert_eq!(frame.data_ref().map(Bytes::len), Some(length));
            assert_eq!(body.is_end_stream(), ends_with_it, "{length}");
            assert_eq!(noted.0.0.load(Ordering::Relaxed), 1);
            assert!(body.frame().await.is_none());
            drop(body);
            assert_eq!(noted.0.0.load(Ordering::Relaxed), 0);
        }
    }

    #[tokio::test]
    async fn an_answer_comes_in_pieces_and_whole() {
        let whole = Bytes::from((0..PIECE * 5 / 2).map(|n| n as u8).collect::<Vec<_>>());
        let noted = Noted::default();
        let mut body = outgoing(Full::new(whole.clone()), &noted);
        assert_eq!(body.size_hint().exact(), Some(whole.len() as u64));
        let first = body.frame().await.expect("a frame").expect("no error");
        assert_eq!(first.data_ref().map(Bytes::len), Some(PIECE));
        assert_eq!(body.size_hint().exact(), Some((whole.len() - PIECE) as u64));
        assert!(!body.is_end_stream());
        assert_eq!(noted.0.0.load(Ordering::Relaxed), 1);
        let rest = body.collect().await.expect("no error").to_bytes();
        assert_eq!(rest, whole.slice(PIECE..));
        assert_eq!(noted.0.0.load(Ordering::Relaxed), 0, "it has ended");
        assert!(noted.0.1.load(Ordering::Relaxed) >= 3, "it moved");
    }

    #[test]
    fn an_empty_answer_is_not_waited_for() {
        let noted = Noted::default();
        let body = outgoing(Full::new(Bytes::new()), &noted);
        assert!(body.is_end_stream());
        assert_eq!(noted.0.0.load(Ordering::Relaxed), 0);
    }
}
