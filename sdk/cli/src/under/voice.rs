//! What is said while a command is watched: by a thread of its own, so that nobody who has to stop a command waits for
//! whoever reads stderr.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::output::note;

/// What is not yet written. More than this is not kept for a reader who does not read.
const MOST_UNSAID: usize = 64;
/// How long the end of the program is put off for what is not yet written.
const LAST_WORDS: Duration = Duration::from_secs(1);

static UNSAID: AtomicUsize = AtomicUsize::new(0);

/// Says something on stderr, soon; never waits.
pub(super) fn say(what: impl Into<String>) {
    static VOICE: OnceLock<SyncSender<String>> = OnceLock::new();
    let voice = VOICE.get_or_init(|| {
        let (sender, lines) = sync_channel(MOST_UNSAID);
        thread::spawn(move || speak(&lines));
        sender
    });
    UNSAID.fetch_add(1, Ordering::AcqRel);
    if voice.try_send(what.into()).is_err() {
        UNSAID.fetch_sub(1, Ordering::AcqRel);
    }
}

fn speak(lines: &Receiver<String>) {
    for line in lines {
        note(line);
        UNSAID.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Waits until all is said, but not for long.
pub(super) fn finish() {
    let begin = Instant::now();
    while UNSAID.load(Ordering::Acquire) > 0 && begin.elapsed() < LAST_WORDS {
        thread::sleep(Duration::from_millis(2));
    }
}
