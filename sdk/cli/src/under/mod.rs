//! Commands that run while something is held: `lock`, `semaphore` and `elect`.
//!
//! Owns the life of such a command: what is asked for, the environment of the command, and that nothing of it is left when the
//! hold could be another's. Whether the hold may be believed in is the client's to say.

use std::ffi::OsString;
use std::time::Duration;

use tenure::{Acquire, Error, Guard as Hold, Holdable, Labelled, Lease, Single};

use crate::exit::{Exit, Trouble};
use crate::output::{Output, note};
use crate::settings::Session;
use crate::{duration, output};

mod asking;
mod clock;
mod ear;
mod elect;
pub(crate) mod gate;
mod group;
mod guard;
mod kin;
mod lock;
mod relief;
mod rights;
mod semaphore;
mod signals;
mod terminal;
mod voice;
pub(crate) mod warden;
mod words;

pub(crate) use elect::Elect;
pub(crate) use lock::Lock;
pub(crate) use semaphore::Semaphore;

use asking::{acquire, has_ended, not_acquired, unless_told};
use clock::Until;
use ear::Ear;
use gate::Gate;
use group::Group;
pub(crate) use group::cannot_run;
use guard::{Guard, Start};
use signals::Signals;
use warden::Warden;
pub(crate) use words::{Words, words};

/// How long giving up a lease may take when the program was told to end.
const LAST_WORDS: Duration = Duration::from_secs(3);
const LONGEST_GRACE: Duration = Duration::from_secs(5);

/// What all of them take.
#[derive(clap::Args, Debug)]
pub(crate) struct Run {
    /// How long others wait at most after this machine has died: 1s to 24h
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = duration::ttl)]
    ttl: Duration,
    /// How long to wait for it; 0s only tries [default: as long as it takes]
    #[arg(long, value_name = "TIME", value_parser = duration::wait)]
    wait: Option<Duration>,
    /// How long the command has between TERM and KILL, when it is lost or leaves processes behind [default: a quarter
    /// of the TTL, at most 5s]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    grace: Option<Duration>,
    /// Run as well when it is lost, in words split as a shell does; it has TENURE_LOSS, and is not protected by the hold
    #[arg(long, value_name = "CMD", value_parser = words)]
    on_lost: Option<Words>,
    /// Among those who wait, higher goes first: -100 to 100
    #[arg(long, value_name = "NUMBER", default_value_t = 0, allow_hyphen_values = true, value_parser = clap::value_parser!(i32).range(-100..=100))]
    pub(crate) priority: i32,
    /// The program and its arguments, after `--`; no shell is used
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// What those who look at a lock or a semaphore are told, and what becomes of it when its holder dies.
#[derive(clap::Args, Debug)]
pub(crate) struct Manner {
    /// What it is held for, shown to those who look at it or are refused
    #[arg(long, value_name = "TEXT", value_parser = note_text)]
    note: Option<String>,
    /// How much longer others wait when its lease ran out, for what the command may have left under way: 0s to 1m
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration::lock_delay)]
    lock_delay: Duration,
}

/// The name of the label that has the note.
pub(crate) const NOTE: &str = "note";

fn note_text(text: &str) -> Result<String, String> {
    let fit = !text.is_empty() && !text.contains(char::is_control);
    fit.then(|| text.to_owned())
        .ok_or_else(|| "write a line of text without control characters".into())
}

impl Manner {
    fn of<'a, W: Holdable + Labelled>(&self, asked: Acquire<'a, W>) -> Acquire<'a, W> {
        let asked = asked.lock_delay(self.lock_delay);
        match &self.note {
            Some(note) => asked.metadata(NOTE, note),
            None => asked,
        }
    }
}

/// What is to be held.
struct What {
    /// As in "lock jobs/nightly".
    word: &'static str,
    name: String,
    /// What more the command finds in its environment.
    environment: Vec<(&'static str, OsString)>,
}

impl What {
    /// What it is called among all that hangs on a lease.
    fn resource(&self) -> String {
        format!("{}s/{}", self.word, self.name)
    }
}

/// The times by which a command is stopped.
#[derive(Clone, Copy, Debug)]
struct Times {
    ttl: Duration,
    /// Between TERM and KILL.
    grace: Duration,
    /// Between KILL and the local deadline.
    reserve: Duration,
}

impl Times {
    /// How long before the local deadline a command is stopped.
    fn stop_before(self) -> Duration {
        self.grace + self.reserve
    }

    /// Whether a command that is started now would not have to be stopped at once.
    fn allow_a_start(self, remaining: Duration) -> bool {
        remaining > self.stop_before()
    }
}

impl Run {
    fn times(&self) -> Result<Times, Trouble> {
        let reserve = (self.ttl / 20).clamp(Duration::from_millis(100), Duration::from_secs(1));
        // Renewals begin at a third of the TTL: what is left of half of it is for those that fail at first.
        let most = self.ttl / 2 - reserve;
        let grace = self.grace.unwrap_or((self.ttl / 4).min(LONGEST_GRACE));
        if grace > most {
            let (grace, ttl) = (duration::shown(grace), duration::shown(self.ttl));
            let told = format!("--grace {grace} is too long for a TTL of {ttl}");
            let most = duration::shown(most);
            return Err(Trouble::usage(told).then(format!(
                "give at most {most}, or a longer --ttl: renewals need the rest"
            )));
        }
        Ok(Times {
            ttl: self.ttl,
            grace,
            reserve,
        })
    }
}

/// Asks, runs the command while it is held, and gives it up.
async fn run_under<W: Holdable + Single>(
    session: &Session,
    run: &Run,
    what: What,
    ask: impl AsyncFn(&Lease, Duration) -> Result<Hold<W>, Error>,
) -> Result<Exit, Trouble> {
    let times = run.times()?;
    let mut signals = Signals::listen().map_err(|error| {
        Trouble::new(Exit::FAILED, format!("cannot listen for signals: {error}"))
    })?;
    let grant = session.client.lease(times.ttl).name(label());
    let lease = match unless_told(&mut signals, grant.grant()).await {
        Ok(granted) => granted?,
        Err(signal) => return Ok(Exit::by_signal(signal.as_raw())),
    };
    let hold = match unless_told(&mut signals, acquire(run, &what, &lease, ask)).await {
        Ok(Ok(hold)) => hold,
        Ok(Err(error)) => {
            let id = lease.id().to_owned();
            let told = tokio::time::timeout(LAST_WORDS, lease.revoke()).await;
            let undone = told.is_ok_and(|told| has_ended(&told));
            return Err(not_acquired(&what, error, (&id, times.ttl, undone)));
        }
        Err(signal) => {
            let _ = tokio::time::timeout(LAST_WORDS, lease.revoke()).await;
            return Ok(Exit::by_signal(signal.as_raw()));
        }
    };
    let until = Until::after(hold.remaining());
    let environment = environment(session, &what, &lease, (hold.fence(), until));
    let how = (run, times, until, session.output);
    let (ended, has_heard) = match start(&what, &hold, &environment, how).await {
        Ok((group, gate, warden)) => {
            let start = Start {
                group,
                gate,
                warden,
                times,
                warned_of_deaf: warn_of_rights(&what, &run.command),
            };
            let hook = run.on_lost.as_ref().map(|words| words.0.as_slice());
            let fence = hold.fence();
            let mut ear = Ear::for_the_end(&session.client, lease.id(), what.resource(), fence);
            let mut guard = Guard::new(&what, &hold, start);
            let exit = guard.run(&mut signals, &mut ear, hook, &environment).await;
            (Ok(exit), guard.has_heard_the_end())
        }
        Err(trouble) => (Err(trouble), false),
    };
    let undone = give_up(&what, (hold, has_heard), lease, times).await;
    voice::finish();
    ended.map_err(|trouble| if undone { trouble } else { trouble.in_doubt() })
}

/// Starts the command behind its gate, and whoever ends it where this program cannot. Nothing of it runs before it is
/// watched.
async fn start<W: Holdable>(
    what: &What,
    hold: &Hold<W>,
    environment: &[(&'static str, OsString)],
    (run, times, until, output): (&Run, Times, Until, Output),
) -> Result<(Group, Gate, Warden), Trouble> {
    let failed = |error| unwatched(format!("no warden could be started: {error}"));
    let mut warden = Warden::start().map_err(failed)?;
    let started = async {
        let started = Group::start(&run.command, environment, output);
        let (group, gate) = started.map_err(|error| {
            let told = format!("no process could be started for the command: {error}");
            Trouble::new(Exit::CANNOT_RUN, told).then(AGAIN)
        })?;
        warden.watch(&group, times, until);
        if !warden.is_watching().await {
            let within = duration::shown(warden::READY_WITHIN);
            return Err(unwatched(format!(
                "its warden was not ready within {within}"
            )));
        }
        // A pause since the grant may have used up what was left.
        match times.allow_a_start(hold.remaining()) {
            true => Ok((group, gate)),
            false => Err(too_late(what)),
        }
    };
    match started.await {
        Ok((group, gate)) => Ok((group, gate, warden)),
        Err(trouble) => {
            warden.dismiss();
            Err(trouble)
        }
    }
}

const AGAIN: &str =
    "nothing was run; see what this machine lacks (processes, memory, /proc), and run it again";

/// A command that would go on without its hold if this program were killed is not begun.
fn unwatched(why: String) -> Trouble {
    Trouble::new(
        Exit::CANNOT_RUN,
        format!("the command cannot be watched: {why}"),
    )
    .then(AGAIN)
}

/// Says before the command begins that nobody could stop it; answers whether that was to be said.
fn warn_of_rights(what: &What, command: &[OsString]) -> bool {
    let Some(file) = rights::takes_others(command) else {
        return false;
    };
    let (word, name, file) = (what.word, &what.name, file.display().to_string());
    voice::say(format!(
        "{} runs as another user, whom this one may not stop: it would run on if {word} {name} were lost. \
         Run tenure itself as that user, as in `sudo tenure {word} … -- CMD`",
        output::shown(&file)
    ));
    true
}

fn too_late(what: &What) -> Trouble {
    let told = format!(
        "{} {} was lost before the command was started: nothing was run",
        what.word, what.name
    );
    Trouble::new(Exit::LOST, told).then("run it again; a longer --ttl outlasts longer pauses")
}

/// What the command finds in its environment.
fn environment(
    session: &Session,
    what: &What,
    lease: &Lease,
    (fence, until): (u64, Until),
) -> Vec<(&'static str, OsString)> {
    let mut environment = what.environment.clone();
    environment.extend([
        ("TENURE_FENCE", fence.to_string().into()),
        ("TENURE_LEASE", lease.id().into()),
        ("TENURE_DEADLINE", until.end().boot_ms.to_string().into()),
    ]);
    environment.extend(session.chosen.environment());
    environment
}

/// Tells the cluster, for a while; where it does not hear of it, the hold ends with its lease. A hold whose end was heard is
/// not released. Answers whether it is certain that nothing is held any longer.
async fn give_up<W: Holdable>(
    what: &What,
    (hold, has_heard): (Hold<W>, bool),
    lease: Lease,
    times: Times,
) -> bool {
    let mut is_free = false;
    if hold.is_held() && !has_heard {
        match hold.release().await {
            Ok(()) => is_free = true,
            Err(Error::Lost(_)) => {}
            Err(error) => {
                let ttl = duration::shown(times.ttl);
                let (word, name) = (what.word, &what.name);
                note(format!(
                    "{word} {name} could not be released: it is free for others within {ttl} ({error})"
                ));
            }
        }
    }
    let told = tokio::time::timeout(LAST_WORDS, lease.revoke()).await;
    is_free || told.is_ok_and(|told| has_ended(&told))
}

/// By what others know the lease: the host and the process.
pub(crate) fn label() -> String {
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy().into_owned();
    format!("{host}:{}", std::process::id())
}

/// What each of them says of the command in its long help.
const CONTRACT: &str = "\
The command runs without a shell, in a process group of its own, with this program's stdin, stdout and stderr; TERM, INT, \
HUP, QUIT, USR1 and USR2 are passed on to it. It finds in its environment TENURE_FENCE (refuse whatever comes with a lesser one), \
TENURE_LEASE, and TENURE_DEADLINE: until when the hold was certain when it started, in milliseconds of CLOCK_BOOTTIME \
(the first number of /proc/uptime, in seconds). Each renewal moves that on. `tenure` inside of it asks the same cluster in \
the same way, by TENURE_ENDPOINTS, TENURE_CONTEXT, TENURE_ONLY_GIVEN and TENURE_TOKEN_FILE.

When renewals do not get through, all of the command gets TERM and, after --grace, KILL: before the local deadline, which \
is before others can hold. When somebody else ends the hold (revokes its lease, breaks it, restores the cluster), others may \
hold at once: then the command is killed without grace as soon as this program hears of it, which it does at once while a member \
is reached. What a command leaves running when it ends is stopped with TERM, --grace and KILL before the hold is given up.

The command begins only when a second process, its warden, watches it, which ends it where this program is killed, and at the \
deadline where this program is stopped. Where there is no warden nothing is run, and this ends with 126.

All of the command is its group and all that descends from it, as by `timeout` or `setsid`. Not stopped is what others start for \
it (systemd-run, at, containers) and what this user may not signal (sudo and other setuid programs): the latter is named on stderr, \
before it runs where its file tells of it, and the hold is not given up before it has ended; it may run on beyond the \
deadline. `sudo tenure lock … -- CMD` can stop all of CMD. Where this program itself is killed, what had left the group and lost \
its parent within the last 50 ms is missed.";

#[cfg(test)]
mod tests {
    use super::*;

    fn run(ttl: u64, grace: Option<u64>) -> Run {
        Run {
            ttl: Duration::from_millis(ttl),
            wait: None,
            grace: grace.map(Duration::from_millis),
            on_lost: None,
            priority: 0,
            command: Vec::new(),
        }
    }

    #[test]
    fn a_command_is_stopped_in_the_second_half_of_its_ttl_at_the_latest() {
        for ttl in [1_000, 2_000, 15_000, 60_000, 86_400_000] {
            let times = run(ttl, None).times().expect("the defaults are good");
            assert!(times.grace + times.reserve <= times.ttl / 2, "{times:?}");
            assert!(times.reserve >= Duration::from_millis(100));
        }
    }

    #[test]
    fn a_command_is_started_only_where_it_need_not_be_stopped_at_once() {
        let times = run(15_000, None).times().expect("the defaults are good");
        assert!(times.allow_a_start(Duration::from_millis(14_650)));
        assert!(!times.allow_a_start(times.grace + times.reserve));
        assert!(!times.allow_a_start(Duration::ZERO));
    }

    #[test]
    fn a_grace_that_leaves_no_time_for_renewals_is_refused() {
        assert!(run(15_000, Some(6_750)).times().is_ok());
        let trouble = run(15_000, Some(6_751))
            .times()
            .expect_err("it is too long");
        assert_eq!(trouble.exit, Exit::USAGE);
        assert!(
            format!("{trouble:?}").contains("at most 6.8s"),
            "{trouble:?}"
        );
    }
}
