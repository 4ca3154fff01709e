//! A minute (`TENURE_CHAOS_SECONDS` makes it ten) of writers, lock takers and watchers at all members, while leaders
//! are killed and members stopped; then one history must explain everything that anybody was told.

mod clients;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tenure_oracle::{Ask, Call, History, Line, Recording, Revision, Told, judge};

use crate::common::{Cluster, Member, SOON, Setup, machine, wait};

const WRITERS: usize = 16;
const TAKERS: usize = 16;
const WATCHERS: usize = 4;
/// A leader is killed once in this time, and in the midst of it a minority is stopped.
const ROUND: Duration = Duration::from_secs(15);
const STOPPED_FOR: Duration = Duration::from_secs(3);

/// What all clients of a run share.
struct Run<'a> {
    cluster: &'a Cluster,
    began: Instant,
    stop: AtomicBool,
    /// Writes that were answered, and locks that were held.
    writes: AtomicU64,
    holds: AtomicU64,
    /// The last revision of the run, once it is known.
    end: AtomicU64,
    recording: Mutex<Recording>,
}

impl Run<'_> {
    /// The time that stamps all calls and answers.
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Whether enough was done to prove anything.
    fn has_done(&self, least: Least) -> bool {
        least.writes <= self.writes.load(Ordering::SeqCst)
            && least.holds <= self.holds.load(Ordering::SeqCst)
    }

    /// The revision up to which watchers read; none while the run goes on.
    fn end(&self) -> Option<Revision> {
        Some(Revision(self.end.load(Ordering::SeqCst))).filter(|end| *end > Revision(0))
    }

    fn record(&self, line: Line) {
        let mut recording = self
            .recording
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        recording.push(line);
    }
}

/// What a run does at least; a machine with other work takes more time for it.
#[derive(Clone, Copy, Debug)]
struct Least {
    writes: u64,
    holds: u64,
}

impl Least {
    fn of(time: Duration) -> Least {
        Least {
            writes: 20 * time.as_secs(),
            holds: time.as_secs() / 2,
        }
    }
}

/// Less history than a run makes, so that it can be seen whether memory levels off when it is full; more than a run
/// makes in the longest time for which a watcher is away.
const HISTORY_BYTES: u64 = 8 << 20;
/// From a run of this length on, half of it lies behind the moment at which history was full.
const LONG: Duration = Duration::from_secs(300);

/// The sizes of a member at a moment; nothing of a member that does not run.
#[derive(Clone, Copy, Debug, Default)]
struct Sizes {
    log_kib: u64,
    state_kib: u64,
    resident_kib: u64,
}

/// The sizes of all members, and when they were so.
#[derive(Debug)]
struct Sample {
    at: Duration,
    members: Vec<Sizes>,
}

fn sample(run: &Run<'_>) -> Sample {
    let sizes = |member: &Member| Sizes {
        log_kib: member.file_size("log.redb") >> 10,
        state_kib: member.file_size("state.redb") >> 10,
        resident_kib: member.resident_kib(),
    };
    Sample {
        at: run.now(),
        members: run.cluster.members.iter().map(sizes).collect(),
    }
}

/// Kills and stops until the time is over and enough was done, or far more time has passed; everything runs again
/// afterwards. Answers what it did and saw.
fn torment(run: &Run<'_>, time: Duration) -> (usize, usize, Vec<Sample>) {
    let (cluster, mut samples, mut kills, mut pauses) = (run.cluster, Vec::new(), 0, 0);
    let sampled_pass = |samples: &mut Vec<Sample>, until: Duration| {
        while run.now() < until {
            samples.push(sample(run));
            wait::pass(
                Duration::from_millis(500).min(until.saturating_sub(run.now())),
                || false,
            );
        }
    };
    let least = Least::of(time);
    while run.now() + ROUND <= time || (!run.has_done(least) && run.now() < 5 * time) {
        let start = run.now();
        sampled_pass(&mut samples, start + ROUND / 2 - STOPPED_FOR);
        let stopped = pauses % cluster.members.len();
        cluster.members[stopped].pause();
        sampled_pass(&mut samples, start + ROUND / 2);
        cluster.members[stopped].resume();
        pauses += 1;
        sampled_pass(&mut samples, start + ROUND - Duration::from_secs(1));
        let leader = cluster.leader();
        cluster.members[leader].kill();
        kills += 1;
        sampled_pass(&mut samples, run.now() + Duration::from_secs(1));
        cluster.members[leader].start();
    }
    (kills, pauses, samples)
}

/// What clients did and were told, and the sizes of the members meanwhile.
fn drive(cluster: &Cluster, time: Duration) -> (Recording, Vec<Sample>) {
    let run = Run {
        cluster,
        began: Instant::now(),
        stop: AtomicBool::new(false),
        writes: AtomicU64::new(0),
        holds: AtomicU64::new(0),
        end: AtomicU64::new(0),
        recording: Mutex::new(Recording::default()),
    };
    let samples = thread::scope(|scope| {
        let run = &run;
        let writers = (0..WRITERS).map(|id| scope.spawn(move || clients::write(run, id)));
        let mut askers: Vec<_> = writers.collect();
        askers.extend(
            (WRITERS..WRITERS + TAKERS).map(|id| scope.spawn(move || clients::take(run, id))),
        );
        let watchers: Vec<_> = (0..WATCHERS)
            .map(|id| scope.spawn(move || clients::watch(run, id)))
            .collect();
        let (kills, pauses, samples) = torment(run, time);
        eprintln!(
            "chaos: {kills} leaders killed, {pauses} members stopped in {:?}",
            run.now()
        );
        assert!(
            kills > 0 && pauses > 0,
            "the time is too short for a single fault"
        );
        cluster.wait_until_ready();
        run.stop.store(true, Ordering::SeqCst);
        for asker in askers {
            asker.join().expect("an asker ends");
        }
        run.end.store(last_write(run).0, Ordering::SeqCst);
        for watcher in watchers {
            watcher.join().expect("a watcher ends");
        }
        samples
    });
    let recording = run.recording.into_inner();
    (recording.unwrap_or_else(PoisonError::into_inner), samples)
}

/// A write after all others, up to which everything is watched. Each try has a value of its own.
fn last_write(run: &Run<'_>) -> Revision {
    let mut tries = 0;
    let last = run.cluster.persist("the last write is answered", |client| {
        tries += 1;
        let value = format!("last-{tries}");
        let call = run.now();
        let answer = client.put("/v1/keys/last", value.as_bytes());
        let told = match &answer {
            Ok(answer) if answer.status == 200 || answer.status == 201 => Told::Done {
                revision: Revision(answer.u64("mod_revision")),
                replayed: false,
            },
            _ => Told::Unknown,
        };
        run.record(Line::Call(Call {
            client: u64::MAX,
            member: 0,
            connection: 0,
            call: clients::moment(call),
            ret: clients::moment(run.now()),
            ask: Ask::Put {
                key: "last".to_owned(),
                value,
                only_if: None,
                absent: false,
                lease: None,
                guard: None,
                once: None,
            },
            told,
        }));
        answer
    });
    Revision(last.u64("mod_revision"))
}

#[test]
fn one_history_explains_everything_that_was_told_while_leaders_die() {
    let _machine = machine::half();
    let seconds = std::env::var("TENURE_CHAOS_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(60);
    let time = Duration::from_secs(seconds);
    let cluster = Setup::of(3)
        .with("limit", format!("history_bytes={HISTORY_BYTES}"))
        .start();
    cluster.leader();
    let (recording, samples) = drive(&cluster, time);
    let verdict = judge(&recording);
    eprintln!("chaos: judged: {verdict}");
    assert!(verdict.wrong.is_empty(), "{verdict}");
    let (least, holds) = (Least::of(time), recording.beliefs.len() as u64);
    let done = |call: &&Call| matches!(call.told, Told::Done { .. });
    let writes = recording.calls.iter().filter(done).count() as u64;
    assert!(
        least.writes <= writes && least.holds <= holds,
        "too little was done to prove anything: {writes} writes, {holds} holds, {least:?}"
    );
    let history = History::of(&recording).expect("it was judged");

    cluster.wait_until_equal();
    cluster.kill_all();
    for member in &cluster.members {
        member.start();
    }
    cluster.wait_until_ready();
    let present = history.list("", Revision(u64::MAX));
    for (number, member) in cluster.members.iter().enumerate() {
        for (key, value) in &present {
            // On a busy machine leadership may change once more: then it is asked again.
            let answer = wait::until("the member answers a read", SOON, || {
                let answer = member.client().get(&format!("/v1/keys/{key}")).ok()?;
                (answer.status != 503).then_some(answer)
            });
            let answer = answer.expect(200);
            assert_eq!(
                answer.text(),
                value.value,
                "{key} at member {number} after the restart of all"
            );
        }
    }
    cluster.wait_until_equal();
    report_sizes(&cluster, time, &samples);
}

/// Prints the sizes of each member over time, and checks that its log's file, and in a long run its memory, have
/// levelled off.
fn report_sizes(cluster: &Cluster, time: Duration, samples: &[Sample]) {
    for (number, member) in cluster.members.iter().enumerate() {
        let minutes =
            samples.chunk_by(|left, right| left.at.as_secs() / 60 == right.at.as_secs() / 60);
        for (minute, part) in minutes.enumerate() {
            let resident = sorted(part, number, |sizes| sizes.resident_kib);
            let log = sorted(part, number, |sizes| sizes.log_kib);
            let state = sorted(part, number, |sizes| sizes.state_kib);
            eprintln!(
                "chaos: {} in minute {}: resident {} KiB in the median and {} at most, log at most {} KiB, state {} KiB",
                member.name,
                minute + 1,
                median(&resident),
                most(&resident),
                most(&log),
                most(&state),
            );
        }
        check_log(&member.name, number, samples);
    }
    if LONG <= time {
        check_memory(samples);
    }
}

/// A run in four parts.
fn quarters(samples: &[Sample]) -> [&[Sample]; 4] {
    let quarters: Vec<&[Sample]> = samples.chunks(samples.len().div_ceil(4)).collect();
    quarters.try_into().expect("there are enough samples")
}

fn check_log(name: &str, number: usize, samples: &[Sample]) {
    let [first, second, _, last] = quarters(samples);
    let log = |part: &[Sample]| most(&sorted(part, number, |sizes| sizes.log_kib));
    let (half, end) = (log(first).max(log(second)), log(last));
    assert!(
        end <= 2 * half + (32 << 10),
        "the log's file of {name} grows: {half} KiB by half time, {end} KiB at the end"
    );
}

/// A member that has just been started takes less than one that has run for long, and a busy moment takes more: the
/// median over all members knows neither.
fn check_memory(samples: &[Sample]) {
    let [first, second, third, last] = quarters(samples).map(|part| {
        let members = 0..part[0].members.len();
        let mut all: Vec<u64> = members
            .flat_map(|number| sorted(part, number, |sizes| sizes.resident_kib))
            .collect();
        all.sort_unstable();
        median(&all)
    });
    eprintln!(
        "chaos: resident in the median of all members by quarter: {first}, {second}, {third}, {last} KiB"
    );
    assert!(
        last <= third + third / 10 + (4 << 10),
        "memory grows: {third} KiB in the third quarter, {last} KiB in the last"
    );
}

/// A size of one member while it ran, in order of size.
fn sorted(part: &[Sample], number: usize, size: fn(&Sizes) -> u64) -> Vec<u64> {
    let sizes = part.iter().map(|sample| size(&sample.members[number]));
    let mut sizes: Vec<u64> = sizes.filter(|size| *size > 0).collect();
    sizes.sort_unstable();
    sizes
}

fn median(sorted: &[u64]) -> u64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn most(sorted: &[u64]) -> u64 {
    sorted.last().copied().unwrap_or_default()
}
