//! Backups (`api.md` §8): the whole state of this member as a file.
//!
//! Owns the sending. The file lies on the disk whole before the first byte of it is sent, so its length is told first and
//! whoever gets less knows that it was cut off: its caller is when he administers the cluster no longer. Must never hold more
//! of it in memory than a piece, nor keep the member from stopping.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, HeaderValue};
use tenure_state::{Revision, State};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::audit::{Act, Audit, Refused};
use super::caller::{Caller, Changes, Gate};
use super::failure::Failure;
use super::reading::Reading;
use super::reply::Reply;
use super::rights;
use super::service::Context;
use crate::node::Handle;
use crate::storage::{BackupError, MadeBackup};
use crate::telemetry::{Backups, Metrics};

/// A backup is read and sent in pieces of this size, which count among the small answers on their way.
const PIECE: u64 = 64 << 10;

/// The type of a backup: bytes for our own programs.
const BACKUP: &str = "application/octet-stream";

/// `GET /v1/backup`
pub(super) async fn take(mut cx: Context<'_>) -> Result<Reply, Failure> {
    let reading = Reading::of(&mut cx)?;
    cx.finish_query()?;
    cx.no_body().await?;
    if cx.head {
        // It never waits, so nothing is made, and its length is not known.
        return Ok(Reply::new(200, BACKUP, Bytes::new()));
    }
    let leave = Leave::of(&cx);
    let settled = reading.settle(&cx, &rights::admin()).await?;
    let audit = Audit::of(&cx, Act::Backup);
    let made = cx.handle().backup().await;
    let made = made.map_err(|error| {
        note(&error, cx.handle().metrics());
        Failure::backup(&error)
    });
    audit.tell(&made, &[]);
    let made = made?;
    let (size, revision) = (made.size, Revision(made.revision));
    let sending = Sending::of(made, cx.handle().clone(), leave);
    // It may have taken minutes.
    cx.read(&rights::admin(), |_| ())?;
    let name = format!("attachment; filename=\"tenure-{revision}.backup\"");
    let name = HeaderValue::try_from(name).unwrap_or(HeaderValue::from_static("attachment"));
    let reply = Reply::file(BACKUP, sending)
        .at(revision)
        .with(CONTENT_LENGTH, HeaderValue::from(size))
        .with(CONTENT_DISPOSITION, name);
    Ok(settled.mark(reply))
}

/// What went wrong with the member's own files is the operator's to know.
fn note(error: &BackupError, metrics: &Metrics) {
    match error {
        BackupError::Busy | BackupError::Stopped => metrics.backup(Backups::Refused),
        BackupError::NoCheckpoint { .. }
        | BackupError::NoRoom { .. }
        | BackupError::Storage(_)
        | BackupError::Thread(_) => {
            metrics.backup(Backups::Failed);
            tracing::warn!(%error, "no backup could be made");
        }
    }
}

/// What whoever takes a backup needs until he has all of it.
struct Leave {
    handle: Handle,
    gate: Arc<Gate>,
    caller: Caller,
    /// Since before he was judged first.
    changes: Changes,
    /// The id of the request.
    request: String,
}

impl Leave {
    fn of(cx: &Context<'_>) -> Leave {
        Leave {
            handle: cx.handle().clone(),
            gate: cx.gate(),
            caller: cx.caller().clone(),
            changes: cx.changes(),
            request: cx.id.to_owned(),
        }
    }

    /// Returns when it is taken from him, or his token or certificate has expired, and tells the audit: the answer has long
    /// begun.
    async fn taken(mut self) {
        let failure = loop {
            self.changes.next().await;
            let may = |state: &State| self.caller.may(state, &rights::admin());
            if let Err(failure) = self.handle.read(may) {
                break failure;
            }
        };
        let refused = Refused {
            caller: Some(&self.caller),
            address: self.caller.address(),
            request: &self.request,
            call: ("GET", "/v1/backup"),
        };
        let denials = &self.gate.denials;
        denials.tell(&refused, failure.code, &failure.detail);
    }
}

/// A backup on its way to a caller. Dropping it removes it from the disk, and counts it as sent or cut off.
pub(super) struct Sending {
    made: Arc<MadeBackup>,
    handle: Handle,
    stopping: CancellationToken,
    /// Ends when its caller may not have it any more.
    leave_is_taken: Pin<Box<dyn Future<Output = ()> + Send>>,
    sent: u64,
    /// The piece that is being read.
    next: Option<JoinHandle<io::Result<Bytes>>>,
    is_cut_off: bool,
}

impl Sending {
    fn of(made: MadeBackup, handle: Handle, leave: Leave) -> Sending {
        Sending {
            made: Arc::new(made),
            stopping: handle.stopping(),
            handle,
            leave_is_taken: Box::pin(leave.taken()),
            sent: 0,
            next: None,
            is_cut_off: false,
        }
    }

    /// Sends no more of it. Whoever was told its length knows that this is not all.
    pub(super) fn cut_off(&mut self) {
        self.is_cut_off = true;
    }

    /// The next piece; `None` at the end, and where it is cut off.
    pub(super) fn poll_next(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<Bytes>> {
        if self.is_cut_off || self.sent == self.made.size || self.stopping.is_cancelled() {
            return Poll::Ready(None);
        }
        // Asked each time, so that whoever waits for the next piece is woken by it, too.
        if self.leave_is_taken.as_mut().poll(cx).is_ready() {
            self.is_cut_off = true;
            return Poll::Ready(None);
        }
        let (made, sent) = (&self.made, self.sent);
        let next = self.next.get_or_insert_with(|| {
            let made = Arc::clone(made);
            tokio::task::spawn_blocking(move || made.piece(sent, PIECE))
        });
        let read = ready!(Pin::new(next).poll(cx));
        self.next = None;
        match read.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(piece) => {
                self.sent += piece.len() as u64;
                Poll::Ready(Some(piece))
            }
            Err(error) => {
                tracing::warn!(%error, "a backup could not be read while it was sent; it is cut off");
                self.is_cut_off = true;
                Poll::Ready(None)
            }
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let is_whole = self.sent == self.made.size && !self.is_cut_off;
        self.handle.metrics().backup(match is_whole {
            true => Backups::Sent,
            false => Backups::CutOff,
        });
    }
}
