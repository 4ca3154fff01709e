//! A round: a cluster, clients and watchers, one nemesis after another; then everything heals, is read, restarts, is
//! read again, and is judged.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use tenure_oracle::{
    Ask, Call, Fault, How, Line, Moment, Recording, Revision, Told, judge, unfenced_overtakings,
};

use crate::asking::Caller;
use crate::common::{SOON, wait};
use crate::disks::Kind;
use crate::member::ELECTION_TIMEOUT;
use crate::nemesis::{Nemesis, faketime};
use crate::recorder::Recorder;
use crate::rig::Rig;
use crate::starvation::Starvation;
use crate::work::{self, Desks, Outside};

/// What all clients of a round share.
pub(crate) struct Run<'a> {
    pub(crate) rig: &'a Rig,
    pub(crate) recorder: Recorder,
    pub(crate) outside: Outside,
    pub(crate) desks: Desks,
    /// How often deadlines were watched to their end.
    pub(crate) deadlines: AtomicU64,
    pub(crate) seed: u64,
    /// How many calls were made to keys for the second opinion.
    pub(crate) solo_calls: AtomicU64,
    /// How many calls have succeeded.
    pub(crate) done: AtomicU64,
    stop: AtomicBool,
    given_up: AtomicBool,
    end: AtomicU64,
    /// When the present nemesis took its hands off; 0 while it has not.
    healed: AtomicU64,
    starvation: Starvation,
    surprises: Mutex<Vec<String>>,
}

impl Run<'_> {
    /// Nothing is broken any more, though the nemesis goes on to look for its trace.
    pub(crate) fn heals(&self) {
        self.healed.store(self.recorder.now().0, Ordering::SeqCst);
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Nothing more will be known: whoever waits for something must not.
    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::SeqCst)
    }

    /// Waits until all members serve. What the machine takes from everybody meanwhile does not count.
    fn wait_until_ready(&self) -> Duration {
        let from = self.recorder.now();
        let passed = || Duration::from_nanos(self.recorder.now().since(from));
        let starved = || self.starvation.between(from, self.recorder.now());
        for member in &self.rig.members {
            while !member.is_ready() {
                let (passed, starved) = (passed(), starved());
                assert!(
                    passed < SOON + starved && passed < SOON * MOST_PATIENCE,
                    "{} is not ready after {passed:?}, of which the machine took {starved:?}",
                    member.name
                );
                wait::pass(Duration::from_millis(20), || false);
            }
        }
        passed()
    }

    /// The revision up to which watchers of everything go on; none while it is not known.
    pub(crate) fn end(&self) -> Option<Revision> {
        Some(Revision(self.end.load(Ordering::SeqCst))).filter(|end| *end > Revision(0))
    }

    /// Something that nobody expected; it fails the round.
    pub(crate) fn surprise(&self, what: String) {
        let mut surprises = self
            .surprises
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        surprises.push(what);
    }
}

/// Lets all clients and watchers end where their round fails, which waits for them.
struct GivesUp<'a>(&'a Run<'a>);

impl Drop for GivesUp<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.given_up.store(true, Ordering::SeqCst);
            self.0.stop.store(true, Ordering::SeqCst);
        }
    }
}

/// What a round is made of.
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) members: usize,
    pub(crate) kind: Kind,
    pub(crate) nemeses: Vec<Nemesis>,
}

/// Traffic before the first nemesis and after each.
const CALM: Duration = Duration::from_millis(350);
/// How many calls succeed at least for each nemesis; a busy machine takes longer for them.
const LEAST_DONE: u64 = 250;
/// How long a round goes on at most for that.
const OVERTIME: Duration = Duration::from_secs(90);
/// Within how many election timeouts after a fault there is a leader.
const LEADER_WITHIN: u32 = 10;
/// How many times as long as usual is waited for members on a machine that gives them no time.
const MOST_PATIENCE: u32 = 4;
/// A pause of successful writes that is longer is told as a time without a leader.
const STALL: Duration = Duration::from_millis(300);

/// Runs a round to its end; panics with what is wrong. Answers why it cannot run here.
pub(crate) fn run(plan: &Plan) -> Result<(), String> {
    let rig = Rig::start(plan.members, plan.kind, faketime())?;
    let run = Run {
        rig: &rig,
        recorder: Recorder::new(&rig.dir().join("recording.jsonl")),
        outside: Outside::new(rig.dir()),
        desks: Desks::default(),
        deadlines: AtomicU64::new(0),
        seed: plan.seed,
        solo_calls: AtomicU64::new(0),
        done: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        given_up: AtomicBool::new(false),
        end: AtomicU64::new(0),
        healed: AtomicU64::new(0),
        starvation: Starvation::default(),
        surprises: Mutex::new(Vec::new()),
    };
    let (names, mut failures, mut stopped) = (names(plan), Vec::new(), Moment::NEVER);
    eprintln!(
        "chaos: seed {}, {} members on {:?}: {names}",
        plan.seed, plan.members, plan.kind
    );
    thread::scope(|scope| {
        let _gives_up = GivesUp(&run);
        scope.spawn(|| run.starvation.measure(&run));
        let watchers = work::start_watchers(scope, &run);
        let workers = work::start_workers(scope, &run);
        torment(&run, plan, &mut failures);
        let least = LEAST_DONE * plan.nemeses.len() as u64;
        let enough = || {
            least <= run.done.load(Ordering::SeqCst)
                && run.outside.was_overtaken()
                && run.desks.were_delayed()
                && 0 < run.deadlines.load(Ordering::SeqCst)
        };
        wait::pass(OVERTIME, enough);
        stopped = run.recorder.now();
        run.stop.store(true, Ordering::SeqCst);
        for worker in workers {
            worker.join().expect("a worker ends");
        }
        run.wait_until_ready();
        read_everything(&run);
        rig.kill_all();
        rig.start_all();
        run.wait_until_ready();
        let end = read_everything(&run);
        for member in 0..plan.members {
            work::watch_all(&run, member, end);
        }
        run.end.store(last_write(&run).0, Ordering::SeqCst);
        for watcher in watchers {
            watcher.join().expect("a watcher ends");
        }
    });
    rig.check_equal();
    rig.check_logs();
    let recording = run.recorder.recording();
    let surprises = run.surprises.lock().unwrap_or_else(PoisonError::into_inner);
    failures.extend(surprises.iter().take(5).cloned());
    failures.extend(judgement(&recording, plan, stopped));
    failures.extend(late_leaders(&recording, &run.starvation));
    assert!(
        failures.is_empty(),
        "seed {}: {}",
        plan.seed,
        failures.join("\n")
    );
    Ok(())
}

fn names(plan: &Plan) -> String {
    let names: Vec<&str> = plan.nemeses.iter().map(|nemesis| nemesis.name).collect();
    names.join(", ")
}

/// One nemesis after another, each of which must leave a trace and let the cluster come back.
fn torment(run: &Run<'_>, plan: &Plan, failures: &mut Vec<String>) {
    let mut rng = Rng::with_seed(plan.seed);
    wait::pass(CALM, || false);
    for nemesis in &plan.nemeses {
        let from = run.recorder.now();
        run.healed.store(0, Ordering::SeqCst);
        let evidence = (nemesis.strike)(run, &mut rng);
        let until = match run.healed.load(Ordering::SeqCst) {
            0 => run.recorder.now(),
            healed => Moment(healed),
        };
        let ready = run.wait_until_ready();
        let took = Duration::from_nanos(until.since(from));
        let text = match &evidence {
            Ok(trace) => trace.clone(),
            Err(reason) => {
                failures.push(format!("{} left no trace: {reason}", nemesis.name));
                format!("NO TRACE: {reason}")
            }
        };
        eprintln!(
            "chaos: {} for {took:.1?}: {text}; all ready after {ready:.1?}",
            nemesis.name
        );
        run.recorder.record(Line::Fault(Fault {
            from,
            until,
            name: nemesis.name.to_owned(),
            evidence: text,
            drift_ppm: nemesis.drift_ppm,
        }));
        wait::pass(CALM, || false);
    }
}

/// Reads all keys at every member, in both ways; answers the newest revision seen.
fn read_everything(run: &Run<'_>) -> Revision {
    let mut newest = Revision(0);
    for member in 0..run.rig.members.len() {
        let mut caller = Caller::new(run, member, SOON);
        for how in [How::Linearizable, How::Local] {
            let ask = Ask::List {
                prefix: String::new(),
                how,
            };
            let revision = wait::until("a member shows all keys", SOON, || {
                match caller.ask(ask.clone()).told {
                    Told::Read { revision, .. } => Some(revision),
                    _ => None,
                }
            });
            newest = newest.max(revision);
        }
    }
    newest
}

/// A write after everything else: the history is known up to it.
fn last_write(run: &Run<'_>) -> Revision {
    let mut caller = Caller::new(run, 0, SOON);
    wait::until("a last write is done", SOON, || {
        let ask = Ask::put("last", format!("last:{}", run.recorder.now().0));
        match caller.ask(ask).told {
            Told::Done { revision, .. } => Some(revision),
            _ => None,
        }
    })
}

/// What the oracle says, and whether there was enough to say something of.
fn judgement(recording: &Recording, plan: &Plan, stopped: Moment) -> Vec<String> {
    let verdict = judge(recording);
    let overtakings = unfenced_overtakings(recording);
    let lost = recording
        .replies
        .iter()
        .filter(|reply| reply.compacted.is_some())
        .count();
    let (stalls, longest) = quiet_times(recording, stopped);
    let done = recording
        .calls
        .iter()
        .filter(|call| is_success(&call.told))
        .count() as u64;
    let unknown = recording
        .calls
        .iter()
        .filter(|call| call.told == Told::Unknown)
        .count();
    eprintln!(
        "chaos: {} calls, {done} done, {unknown} unknown; judged: {verdict}; {overtakings} writes without fence let in too \
         late; {lost} watchers \
         told that history is gone; {stalls:.1?} without an acknowledged write, {longest:.1?} at a time",
        recording.calls.len()
    );
    let mut failures: Vec<String> = verdict
        .wrong
        .iter()
        .map(|(checker, what)| format!("{checker}: {what}"))
        .collect();
    if done < LEAST_DONE * plan.nemeses.len() as u64 {
        failures.push(format!("{done} calls done are too few to prove anything"));
    }
    for checker in [
        "order",
        "reads",
        "once",
        "exclusion",
        "permits",
        "together",
        "beliefs",
        "outside",
        "queues",
        "guards",
        "delays",
        "leases",
        "deadlines",
        "elections",
        "watches",
        "second",
    ] {
        if verdict.wrong.is_empty() && verdict.count(checker) == 0 {
            failures.push(format!("there was nothing to judge for {checker}"));
        }
    }
    if overtakings == 0 {
        failures.push("the control without fences shows nothing: nobody overslept".to_owned());
    }
    assert!(
        !plan.nemeses.is_empty(),
        "a round without a fault proves nothing"
    );
    failures
}

/// After each fault a write is acknowledged that was asked for since, which takes a leader; what is wrong where it
/// took longer than that may take. What the machine took from everybody meanwhile does not count.
fn late_leaders(recording: &Recording, starvation: &Starvation) -> Vec<String> {
    let most = ELECTION_TIMEOUT * LEADER_WITHIN;
    let (mut late, mut waits) = (Vec::new(), Vec::new());
    for fault in &recording.faults {
        let since = |call: &&Call| fault.until <= call.call && is_write(&call.told);
        let answered = recording.calls.iter().filter(since).map(|call| call.ret);
        let Some(first) = answered.min() else {
            late.push(format!("no write was acknowledged after {}", fault.name));
            continue;
        };
        let took = Duration::from_nanos(first.since(fault.until));
        let starved = starvation.between(fault.until, first);
        waits.push(format!("{took:.1?} (starved {starved:.1?})"));
        if most < took.saturating_sub(starved) {
            late.push(format!(
                "after {} no write was acknowledged for {took:?}, of which the machine took {starved:?}",
                fault.name
            ));
        }
    }
    eprintln!(
        "chaos: a write acknowledged after each fault within: {}",
        waits.join(", ")
    );
    late
}

/// Whether it says that an entry was committed.
fn is_write(told: &Told) -> bool {
    matches!(
        told,
        Told::Done { .. } | Told::Granted { .. } | Told::Transacted { .. }
    )
}

/// Whether a call was answered with what it asked for.
pub(crate) fn is_success(told: &Told) -> bool {
    !matches!(
        told,
        Told::Unknown
            | Told::Failed
            | Told::Mismatch
            | Told::Lost { .. }
            | Told::Refused { .. }
            | Told::Stale { .. }
    )
}

/// For how long nothing was acknowledged while clients worked: in all, and at most at a time.
fn quiet_times(recording: &Recording, stopped: Moment) -> (Duration, Duration) {
    let calls = recording.calls.iter();
    let writes = calls.filter(|call| is_write(&call.told));
    let working = writes.map(|call| call.ret).filter(|ret| *ret < stopped);
    let mut moments: Vec<Moment> = working.collect();
    moments.sort_unstable();
    let gaps = moments
        .windows(2)
        .map(|pair| Duration::from_nanos(pair[1].since(pair[0])));
    let stalls: Vec<Duration> = gaps.filter(|gap| STALL < *gap).collect();
    let longest = stalls.iter().max().copied().unwrap_or_default();
    (stalls.iter().sum(), longest)
}
