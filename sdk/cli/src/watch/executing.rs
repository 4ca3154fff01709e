//! Running a command for what has changed: once it is quiet, never twice at a time, and again where it failed.
//!
//! Owns what is due. Nothing of it is dropped before the command has succeeded with it, or the watch is over: then a cursor
//! has it told again.

use std::ffi::OsString;
use std::fs::File;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, getpgrp, kill_process};
use rustix::termios::tcgetpgrp;
use tenure::Told;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::signal::unix::{self, SignalKind};
use tokio::time::{Instant, sleep_until};

use super::cursor::Cursor;
use super::listening::Listening;
use super::{resync, wire};
use crate::duration;
use crate::exit::{Exit, Trouble};
use crate::output::note;
use crate::under::cannot_run;

/// After a command that failed, and how far the pause grows.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// With more than this due, nothing more is taken: it stays in the history of the cluster, and where it is gone from there
/// by the time, what there is is told anew.
const MOST_DUE: usize = 16 << 20;
/// What changes again and again is told after this many times of `--settle`, though it is not quiet.
const LONGEST_SETTLE: u32 = 25;

/// How a command is run.
pub(super) struct Way<'a> {
    pub(super) command: &'a [OsString],
    /// What it finds in its environment beside what this program has.
    pub(super) environment: &'a [(&'static str, OsString)],
    pub(super) settle: Duration,
}

/// A watch for which a command is run.
pub(super) struct Executing<'a> {
    watch: Listening,
    way: Way<'a>,
    cursor: Option<Cursor<'a>>,
    due: Due,
    failed: Option<Failed>,
    asked: Asked,
}

/// The signals that ask this program to end.
struct Asked {
    term: unix::Signal,
    int: unix::Signal,
}

impl Asked {
    fn listen() -> Result<Asked, Trouble> {
        Ok(Asked {
            term: unix::signal(SignalKind::terminate())?,
            int: unix::signal(SignalKind::interrupt())?,
        })
    }

    /// The next of them. Dropping the future loses nothing.
    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.term.recv() => Signal::TERM,
            _ = self.int.recv() => Signal::INT,
        }
    }
}

/// The command has failed the last time.
struct Failed {
    pause: Duration,
    /// A moment, and not a time from the last change on: on a prefix that is never quiet that would not pass.
    again_at: Instant,
}

/// What has changed since the command was last run with success.
#[derive(Default)]
struct Due {
    lines: String,
    /// Whether it begins with all there is, so that it stands for whatever was due before.
    is_anew: bool,
    revision: Option<u64>,
    /// When the first of it came, and the last.
    since: Option<(Instant, Instant)>,
}

impl Due {
    fn add(&mut self, told: Told, now: Instant) {
        let first = self.since.map_or(now, |(first, _)| first);
        self.since = Some((first, now));
        match told {
            Told::Resync { state, revision } => {
                // What was before is gone with its history.
                self.lines = resync(&state, revision);
                self.is_anew = true;
                self.revision = Some(revision);
            }
            Told::Changes { events, revision } => {
                self.lines.extend(events.iter().map(wire));
                self.revision = Some(revision);
            }
        }
    }

    fn has_room(&self, beside: usize) -> bool {
        self.lines.len() + beside < MOST_DUE
    }

    /// When it is quiet, unless more comes; what never comes to rest is not waited for without end.
    fn quiet_at(&self, settle: Duration) -> Option<Instant> {
        let (first, last) = self.since?;
        Some((last + settle).min(first + settle * LONGEST_SETTLE))
    }

    /// It once more, with what has come meanwhile.
    fn again_with(self, news: Due) -> Due {
        Due {
            is_anew: self.is_anew || news.is_anew,
            lines: match news.is_anew {
                true => news.lines,
                false => self.lines + &news.lines,
            },
            revision: news.revision.or(self.revision),
            since: match (self.since, news.since) {
                (Some((first, _)), Some((_, last))) => Some((first, last)),
                (before, news) => before.or(news),
            },
        }
    }
}

impl<'a> Executing<'a> {
    pub(super) fn of(
        watch: Listening,
        way: Way<'a>,
        cursor: Option<Cursor<'a>>,
    ) -> Result<Self, Trouble> {
        Ok(Executing {
            watch,
            way,
            cursor,
            due: Due::default(),
            failed: None,
            asked: Asked::listen()?,
        })
    }

    pub(super) async fn run(mut self) -> Result<Exit, Trouble> {
        loop {
            let run_at = match &self.failed {
                Some(failed) => Some(failed.again_at),
                None => self.due.quiet_at(self.way.settle),
            };
            if run_at.is_some_and(|at| at <= Instant::now()) {
                if let Some(exit) = self.run_once().await? {
                    return Ok(exit);
                }
                continue;
            }
            let quiet = async {
                match run_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                told = self.watch.next(), if self.due.has_room(0) => match told? {
                    Some(told) => self.due.add(told, Instant::now()),
                    None => return Ok(Exit::DONE),
                },
                () = quiet => {}
                signal = self.asked.next() => return Ok(Exit::by_signal(signal.as_raw())),
                () = Cursor::is_to_follow(&self.cursor) => self.follow()?,
            }
        }
    }

    /// What is due is not done with, also where it has come to nothing so far.
    fn follow(&mut self) -> Result<(), Trouble> {
        let is_done = self.due.since.is_none() && self.failed.is_none();
        let revision = self.watch.revision().filter(|_| is_done);
        self.cursor
            .as_mut()
            .map_or(Ok(()), |cursor| cursor.follow(revision))
    }

    /// Runs the command for what is due. What happens while it runs is for the next time. Answers with how this program ends
    /// where the watch has ended or a signal asked for it: also then, and where the watch ended with an error, the command is
    /// waited for, so that it is neither left behind nor without the rest of its stdin, and what it has done is not done
    /// again. A signal is passed on to it.
    async fn run_once(&mut self) -> Result<Option<Exit>, Trouble> {
        let doing = std::mem::take(&mut self.due);
        let mut over: Option<Result<Option<Exit>, Trouble>> = None;
        let mut child = start(&self.way, &doing)?;
        let status = {
            let stdin = child.stdin.take();
            let mut feeding = pin!(async {
                if let Some(mut stdin) = stdin {
                    // A command may end without reading it.
                    let _ = stdin.write_all(doing.lines.as_bytes()).await;
                }
            });
            let (mut is_fed, mut was_interrupted) = (false, false);
            loop {
                tokio::select! {
                    // Also where something that the command has left behind holds its stdin and does not read it.
                    status = child.wait() => break status?,
                    () = &mut feeding, if !is_fed => is_fed = true,
                    told = self.watch.next(), if over.is_none() && self.due.has_room(doing.lines.len()) => match told {
                        Ok(Some(told)) => self.due.add(told, Instant::now()),
                        Ok(None) => over = Some(Ok(Some(Exit::DONE))),
                        Err(trouble) => over = Some(Err(trouble)),
                    },
                    signal = self.asked.next() => {
                        // Ctrl-C is told to the command as well; twice would be another thing. One that came from elsewhere
                        // was not, so whoever asks again is heard.
                        let is_first = signal == Signal::INT && !was_interrupted;
                        was_interrupted |= is_first;
                        if !(is_first && is_in_front()) {
                            pass_on(&child, signal);
                        }
                        over = Some(Ok(Some(Exit::by_signal(signal.as_raw()))));
                    }
                }
            }
        };
        let Some(why) = failure(status) else {
            self.failed = None;
            if let (Some(cursor), Some(revision)) = (&mut self.cursor, doing.revision) {
                cursor.write(revision)?;
            }
            return over.unwrap_or(Ok(None));
        };
        if let Some(over) = over {
            note(format!("the command {why}, and the watch has ended"));
            return over;
        }
        let longer = |failed: &Failed| (failed.pause * 2).min(LONGEST_PAUSE);
        let pause = self.failed.as_ref().map_or(FIRST_PAUSE, longer);
        let shown = duration::shown(pause);
        note(format!("the command {why}: it is run again in {shown}"));
        self.failed = Some(Failed {
            pause,
            again_at: Instant::now() + pause,
        });
        self.due = doing.again_with(std::mem::take(&mut self.due));
        Ok(None)
    }
}

fn start(way: &Way<'_>, due: &Due) -> Result<Child, Trouble> {
    let command = way.command;
    let program = command.first().map(OsString::as_os_str).unwrap_or_default();
    let revision = due.revision.unwrap_or_default().to_string();
    let child = Command::new(program)
        .args(command.iter().skip(1))
        .envs(way.environment.iter().map(|(name, value)| (name, value)))
        .env("TENURE_REVISION", revision)
        .stdin(Stdio::piped())
        .spawn();
    child.map_err(|error| cannot_run(command, &error))
}

/// What was wrong where it did not succeed.
fn failure(status: ExitStatus) -> Option<String> {
    (!status.success()).then(|| format!("ended with {status}"))
}

/// Whether the terminal, wherever stdin comes from, tells the group of this program, of which the command is one, of Ctrl-C.
fn is_in_front() -> bool {
    let terminal = File::open("/dev/tty");
    terminal.is_ok_and(|terminal| tcgetpgrp(terminal) == Ok(getpgrp()))
}

/// A command that has ended meanwhile, or may not be signalled, is waited for all the same.
fn pass_on(child: &Child, signal: Signal) {
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    if let Some(id) = id.and_then(Pid::from_raw) {
        let _ = kill_process(id, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anew(revision: u64) -> Told {
        Told::Resync {
            state: Vec::new(),
            revision,
        }
    }

    fn changed(revision: u64) -> Told {
        let event = serde_json::json!({"revision": revision, "type": "delete", "resource": "keys/a", "key": "a",
            "mod_revision": revision, "lease": null, "reason": "deleted"});
        Told::Changes {
            events: vec![serde_json::from_value(event).expect("it is an event")],
            revision,
        }
    }

    fn due(all: impl IntoIterator<Item = Told>) -> Due {
        let mut due = Due::default();
        let now = Instant::now();
        all.into_iter().for_each(|told| due.add(told, now));
        due
    }

    #[test]
    fn a_resync_stands_for_all_that_was_due_before_also_where_that_was_run_in_vain() {
        let check = |due: Due, lines: usize, revision: u64| {
            assert_eq!(due.lines.lines().count(), lines, "{}", due.lines);
            assert_eq!(due.revision, Some(revision));
        };
        check(due([anew(7), changed(8), anew(9)]), 1, 9);
        check(due([changed(7)]).again_with(due([changed(8)])), 2, 8);
        check(
            due([changed(7)]).again_with(due([anew(9), changed(10)])),
            2,
            10,
        );
        check(due([changed(7)]).again_with(Due::default()), 1, 7);
        let twice = due([anew(7)]).again_with(due([changed(8)]));
        check(due([changed(3)]).again_with(twice), 2, 8);
    }

    #[test]
    fn what_waits_for_a_command_that_fails_again_and_again_does_not_grow_without_end() {
        let large = || Due {
            lines: "x".repeat(MOST_DUE / 2),
            ..Due::default()
        };
        assert!(Due::default().has_room(0) && large().has_room(0));
        assert!(!large().again_with(large()).has_room(0));
        // What is being run counts, since it comes back where the command fails.
        assert!(!large().has_room(large().lines.len()));
    }

    #[test]
    fn what_never_comes_to_rest_is_quiet_after_so_many_times_to_settle() {
        let (start, settle) = (Instant::now(), Duration::from_secs(2));
        let mut due = Due::default();
        assert_eq!(due.quiet_at(settle), None);
        due.add(changed(7), start);
        assert_eq!(due.quiet_at(settle), Some(start + settle));
        due.add(changed(8), start + Duration::from_secs(49));
        assert_eq!(due.quiet_at(settle), Some(start + settle * LONGEST_SETTLE));
    }
}
