//! The service manager that watches over this process: what it is told, and what it asks.
//!
//! Owns the conversation with systemd (`sd_notify(3)`): that the member is ready, how it is in words, that it still
//! moves, that it stops. All of it is said by one thread, which nothing else waits for, so that neither a member waits
//! for a service manager that does not listen, nor the watchdog for a member that is stuck. Without a service manager
//! nothing is said and nothing else is different.

mod control;
mod notify;
mod reload;
mod sockets;
mod standing;
mod watchdog;

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use sd_notify::NotifyState;

use crate::pulse::Threads;
use notify::Manager;
use watchdog::Watchdog;

pub use control::{Answer, Control, ControlError, ask_to_reload};
pub use reload::{Reloaded, Reloader};
pub use sockets::{Inherited, SocketError};
pub(crate) use standing::tell_standing;

/// While the files are opened, it is looked so often whether that goes on.
const RECOVERY_LOOK: Duration = Duration::from_secs(5);
/// A recovery that goes on may take so much longer.
const RECOVERY_EXTENSION: Duration = Duration::from_secs(60);
/// What a recovery that goes on takes at least of a processor between two looks. To wait for a disk takes none; to read
/// from one ten megabytes, which are checked, takes more.
const RECOVERY_WORK: Duration = Duration::from_millis(10);

/// By which the parts of a member tell the service manager of it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Supervisor(Option<Sender<Said>>);

#[derive(Debug, Eq, PartialEq)]
enum Said {
    Recovering,
    Ready,
    Status(String),
    Reloading,
    Reloaded,
    Stopping,
}

impl Supervisor {
    /// The one that started this process, where there is one; its thread begins to feed its watchdog.
    ///
    /// # Errors
    /// Where the system has no thread to give.
    pub fn of_this_process() -> std::io::Result<Supervisor> {
        let address = std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty());
        let Some(address) = address else {
            return Ok(Supervisor::default());
        };
        let mut manager = Manager::at(address);
        let tell = move |states: &[NotifyState<'_>]| {
            if let Err(error) = manager.tell(states) {
                tracing::warn!(%error, "the service manager cannot be told anything");
            }
        };
        let watchdog = sd_notify::watchdog_enabled()
            .map(|within| Watchdog::new(within, Threads::of_this_process()));
        let (said, hear) = channel();
        std::thread::Builder::new()
            .name("supervisor".to_owned())
            .spawn(move || Speaker::new(watchdog, tell).run(&hear))?;
        Ok(Supervisor(Some(said)))
    }

    /// The files are being opened, which may take long.
    pub fn recovering(&self) {
        self.say(Said::Recovering);
    }

    /// The log is recovered and the listeners are bound.
    pub fn ready(&self) {
        self.say(Said::Ready);
    }

    /// How the member is, in words.
    pub fn status(&self, words: impl Into<String>) {
        self.say(Said::Status(words.into()));
    }

    /// The settings are being read again.
    pub fn reloading(&self) {
        self.say(Said::Reloading);
    }

    /// They have been, with or without success.
    pub fn reloaded(&self) {
        self.say(Said::Reloaded);
    }

    /// The member stops.
    pub fn stopping(&self) {
        self.say(Said::Stopping);
    }

    fn say(&self, said: Said) {
        if let Some(speaker) = &self.0 {
            // It ends with the process.
            let _ = speaker.send(said);
        }
    }
}

/// What the thread knows.
struct Speaker<T> {
    watchdog: Option<Watchdog>,
    tell: T,
    /// Processor time at the last look, while files are opened.
    recovering: Option<Duration>,
    /// What was last said of the member.
    status: String,
    /// Whether something else has been said since, because a thread is stuck.
    stuck: bool,
}

impl<T: FnMut(&[NotifyState<'_>])> Speaker<T> {
    fn new(watchdog: Option<Watchdog>, tell: T) -> Speaker<T> {
        Speaker {
            watchdog,
            tell,
            recovering: None,
            status: String::new(),
            stuck: false,
        }
    }

    fn run(mut self, hear: &Receiver<Said>) {
        let mut look = LookEvery::default();
        loop {
            match look.until(self.interval(), hear) {
                Ok(said) => self.say(said),
                Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// How often there is something to look at; never where nobody wants to know.
    fn interval(&self) -> Option<Duration> {
        match self.recovering {
            Some(_) => Some(RECOVERY_LOOK),
            None => self.watchdog.as_ref().map(Watchdog::interval),
        }
    }

    fn say(&mut self, said: Said) {
        match said {
            Said::Recovering => {
                self.recovering = Some(processor_time());
                self.status = "recovering: reads its files".to_owned();
                (self.tell)(&[NotifyState::Status(&self.status)]);
            }
            Said::Ready => {
                self.recovering = None;
                (self.tell)(&[NotifyState::Ready]);
            }
            Said::Status(words) => {
                self.status = words;
                if !self.stuck {
                    (self.tell)(&[NotifyState::Status(&self.status)]);
                }
            }
            Said::Reloading => match NotifyState::monotonic_usec_now() {
                Ok(now) => (self.tell)(&[NotifyState::Reloading, now]),
                // A reload without its moment would be taken for one that has failed.
                Err(error) => tracing::warn!(%error, "the monotonic clock cannot be read"),
            },
            Said::Reloaded => (self.tell)(&[NotifyState::Ready]),
            Said::Stopping => {
                self.status = "stopping: hands over and ends what is open".to_owned();
                (self.tell)(&[NotifyState::Stopping, NotifyState::Status(&self.status)]);
            }
        }
    }

    fn look(&mut self) {
        if let Some(before) = self.recovering {
            let now = processor_time();
            self.recovering = Some(now);
            if now.saturating_sub(before) >= RECOVERY_WORK {
                (self.tell)(&[extension()]);
            }
            return;
        }
        let Some(watchdog) = &mut self.watchdog else {
            return;
        };
        match watchdog.look() {
            Ok(()) => {
                if std::mem::take(&mut self.stuck) {
                    tracing::warn!("every thread moves again");
                    (self.tell)(&[NotifyState::Watchdog, NotifyState::Status(&self.status)]);
                } else {
                    (self.tell)(&[NotifyState::Watchdog]);
                }
            }
            Err(stuck) => {
                let words = format!("STUCK: {stuck}; the watchdog is not fed");
                if !std::mem::replace(&mut self.stuck, true) {
                    tracing::error!("{words}");
                }
                (self.tell)(&[NotifyState::Status(&words)]);
            }
        }
    }
}

/// Keeps the time of the next look, which nothing that is said puts off.
#[derive(Default)]
struct LookEvery {
    next: Option<std::time::Instant>,
}

impl LookEvery {
    fn until(
        &mut self,
        interval: Option<Duration>,
        hear: &Receiver<Said>,
    ) -> Result<Said, RecvTimeoutError> {
        let Some(interval) = interval else {
            self.next = None;
            return hear.recv().map_err(|_| RecvTimeoutError::Disconnected);
        };
        let now = std::time::Instant::now();
        let next = (*self.next.get_or_insert(now + interval)).min(now + interval);
        let heard = match next.saturating_duration_since(now) {
            Duration::ZERO => Err(RecvTimeoutError::Timeout),
            left => hear.recv_timeout(left),
        };
        if heard == Err(RecvTimeoutError::Timeout) {
            self.next = None;
        }
        heard
    }
}

fn extension() -> NotifyState<'static> {
    let micros = u32::try_from(RECOVERY_EXTENSION.as_micros());
    NotifyState::ExtendTimeoutUsec(micros.expect("a minute has few microseconds"))
}

/// The time that all threads of this process have had of processors.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::pulse::Pace;

    /// What a speaker tells, message by message.
    fn told(watchdog: Option<Watchdog>, act: impl FnOnce(&mut dyn FnMut(Act))) -> Vec<String> {
        let told = RefCell::new(Vec::new());
        let mut speaker = Speaker::new(watchdog, |states: &[NotifyState<'_>]| {
            let lines: Vec<String> = states.iter().map(ToString::to_string).collect();
            told.borrow_mut().push(lines.join(" "));
        });
        act(&mut |act| match act {
            Act::Say(said) => speaker.say(said),
            Act::Look => speaker.look(),
        });
        told.into_inner()
    }

    enum Act {
        Say(Said),
        Look,
    }

    #[test]
    fn a_recovery_that_works_is_given_more_time_and_one_that_hangs_is_not() {
        let told = told(None, |act| {
            act(Act::Say(Said::Recovering));
            act(Act::Look);
            let until = processor_time() + RECOVERY_WORK * 2;
            while processor_time() < until {
                std::hint::spin_loop();
            }
            act(Act::Look);
            act(Act::Say(Said::Ready));
            act(Act::Look);
        });
        // Other tests of this process may work at the first look.
        let extensions = told
            .iter()
            .filter(|line| *line == "EXTEND_TIMEOUT_USEC=60000000");
        assert!((1..=2).contains(&extensions.count()), "{told:?}");
        assert_eq!(told.last().map(String::as_str), Some("READY=1"), "{told:?}");
    }

    #[test]
    fn what_is_stuck_is_named_until_it_moves_and_then_the_member_is_described_again() {
        static THREADS: Threads = Threads::new();
        let watchdog = Watchdog::new(Duration::from_secs(30), &THREADS);
        let pulse = THREADS.enter("tenured-log", Pace::Short);
        let told = told(Some(watchdog), |act| {
            act(Act::Say(Said::Status("follows n2".to_owned())));
            act(Act::Look);
            let at_work = pulse.work();
            for _ in 0..4 {
                act(Act::Look);
            }
            act(Act::Say(Said::Status("has no leader".to_owned())));
            drop(at_work);
            act(Act::Look);
            act(Act::Look);
        });
        let stuck = "STATUS=STUCK: tenured-log has not moved for 15 s; the watchdog is not fed";
        assert_eq!(
            told,
            [
                "STATUS=follows n2",
                "WATCHDOG=1",
                "WATCHDOG=1",
                "WATCHDOG=1",
                "WATCHDOG=1",
                stuck,
                "WATCHDOG=1 STATUS=has no leader",
                "WATCHDOG=1",
            ]
        );
    }

    #[test]
    fn a_reload_says_when_it_began_and_that_it_is_over() {
        let told = told(None, |act| {
            act(Act::Say(Said::Reloading));
            act(Act::Say(Said::Reloaded));
        });
        assert!(
            told[0].starts_with("RELOADING=1 MONOTONIC_USEC="),
            "{told:?}"
        );
        assert_eq!(told[1], "READY=1");
    }

    #[test]
    fn what_is_said_in_between_puts_off_no_look() {
        let (send, hear) = channel();
        let mut look = LookEvery::default();
        let interval = Some(Duration::from_millis(50));
        let began = std::time::Instant::now();
        let mut said = 0;
        loop {
            let _ = send.send(Said::Ready);
            match look.until(interval, &hear) {
                Ok(_) => said += 1,
                Err(error) => {
                    assert_eq!(error, RecvTimeoutError::Timeout);
                    break;
                }
            }
            assert!(began.elapsed() < Duration::from_secs(10), "it never looks");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(said > 0);
    }

    #[test]
    fn without_a_service_manager_nothing_is_said() {
        let supervisor = Supervisor::default();
        supervisor.ready();
        supervisor.status("alone");
        assert!(supervisor.0.is_none());
    }
}
