//! The Rust client over many rounds of faults, on the one clock of this machine: a guard says that it is lost before
//! anybody else is granted, and a watch tells each change once and in order, or the state anew.
//!
//! Short unless told otherwise: `TENURE_SDK_ROUNDS=1000` hands over so many locks, permits and leaderships, `TENURE_SDK_LEADER_CHANGES=100` has
//! a watch live through so many leaders. Both print what they measured.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tenure::{Client, Loss, State, Told};
use tokio::runtime::{Builder, Runtime};

use crate::common::proxy::Proxy;
use crate::common::{Cluster, SOON, Setup, wait};
use crate::sdk::{LONG_TTL, client, client_of, runtime, soon};
use crate::sdk_kinds::{Believed, KINDS, Kind, Terms};

/// The shortest there is: what is looked at here is what comes after it.
const TTL: Duration = Duration::from_secs(1);
/// So many things change hands by one fault: each kind as often.
const TOGETHER: usize = 2 * KINDS.len();
/// Where a holder's own way to each member begins.
const OWN_WAY_PORT: u16 = 7382;

fn asked_for(variable: &str, usual: usize) -> usize {
    let asked = std::env::var(variable).ok();
    asked.map_or(usual, |text| {
        let number = text.parse();
        number.unwrap_or_else(|_| panic!("{variable} is {text:?}; a number is expected"))
    })
}

/// What befalls the holders.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Fault {
    /// They do nothing for longer than their TTL: neither renewals nor timers run.
    Paused,
    /// No member can be reached by them.
    Unreachable,
    /// The member that they ask leads, and is killed.
    LeaderKilled,
    /// The member that they ask is cut off from the others.
    CutOff,
}

const FAULTS: [Fault; 4] = [
    Fault::Paused,
    Fault::Unreachable,
    Fault::LeaderKilled,
    Fault::CutOff,
];

/// What is held, and the deadlines.
type Seen = Vec<(Arc<dyn Believed>, Instant)>;

/// The deadline of each belief, as it was last seen while it lasted.
struct Deadlines {
    of: Arc<Mutex<Seen>>,
    done: Arc<AtomicBool>,
    watcher: Option<std::thread::JoinHandle<()>>,
}

impl Deadlines {
    fn watch(held: &[Arc<dyn Believed>]) -> Deadlines {
        let seen = |held: &Arc<dyn Believed>| (Arc::clone(held), Instant::now() + held.remaining());
        let of = Arc::new(Mutex::new(held.iter().map(seen).collect::<Seen>()));
        let done = Arc::new(AtomicBool::new(false));
        let (seen, end) = (Arc::clone(&of), Arc::clone(&done));
        let watcher = std::thread::spawn(move || {
            while !end.load(Ordering::SeqCst) {
                for (held, deadline) in &mut *seen.lock().unwrap_or_else(PoisonError::into_inner) {
                    let left = held.remaining();
                    if !left.is_zero() {
                        *deadline = Instant::now() + left;
                    }
                }
                wait::pass(Duration::from_millis(2), || false);
            }
        });
        Deadlines {
            of,
            done,
            watcher: Some(watcher),
        }
    }

    fn of(&self, number: usize) -> Instant {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)[number].1
    }
}

impl Drop for Deadlines {
    fn drop(&mut self) {
        self.done.store(true, Ordering::SeqCst);
        if let Some(watcher) = self.watcher.take() {
            let _ = watcher.join();
        }
    }
}

/// One hand-over.
struct Round {
    kind: Kind,
    /// What the old holder's guard said when the next was granted.
    believed: State,
    /// By how much the old belief had ended before. None where the machine was so busy that it was not seen to end.
    margin: Option<Duration>,
}

/// Ways of the holders' own to each member.
fn own_ways(cluster: &Cluster) -> Vec<Proxy> {
    let way = |member: &crate::common::Member| {
        Proxy::start(
            SocketAddr::new(member.client.ip(), OWN_WAY_PORT),
            member.client,
        )
    };
    cluster.members.iter().map(way).collect()
}

/// Holders by one runtime, waiters by another; a fault; who is granted looks at the guard of who held before.
fn wave(cluster: &Cluster, ways: &[Proxy], fault: Fault, wave: usize) -> Vec<Round> {
    let waiters = runtime();
    let holders: Runtime = match fault {
        Fault::Paused => Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("there is a thread"),
        _ => runtime(),
    };
    let victim = match fault {
        Fault::LeaderKilled => cluster.leader(),
        _ => cluster.follower(),
    };
    let holder = match fault {
        Fault::Paused => client(cluster),
        Fault::Unreachable => {
            let way = |member: &crate::common::Member| {
                format!("http://{}:{OWN_WAY_PORT}", member.client.ip())
            };
            let ways = Client::connect(cluster.members.iter().map(way));
            ways.expect("they are URLs").at_given_urls_only()
        }
        Fault::LeaderKilled | Fault::CutOff => client_of(cluster, victim),
    };
    let kind = |number: usize| KINDS[number % KINDS.len()];
    let name = |number: usize| format!("rounds/{wave}/{number}");
    let held: Vec<Arc<dyn Believed>> = holders.block_on(async {
        let terms = Terms {
            ttl: TTL,
            wait: SOON,
        };
        let first = |number| soon(kind(number).first(&holder, &name(number), terms));
        let asked: Vec<_> = (0..TOGETHER)
            .map(|number| tokio::spawn(first(number)))
            .collect();
        let mut held = Vec::new();
        for asking in asked {
            let granted = asking.await.expect("it runs").expect("it is acquired");
            held.push(Arc::from(granted));
        }
        held
    });
    let deadlines = Arc::new(Deadlines::watch(&held));
    let next = match fault {
        Fault::LeaderKilled | Fault::CutOff => {
            let others = (0..3).filter(|member| *member != victim);
            let urls = others.map(|member| format!("http://{}", cluster.members[member].client));
            Client::connect(urls)
                .expect("they are URLs")
                .at_given_urls_only()
        }
        Fault::Paused | Fault::Unreachable => client(cluster),
    };
    let terms = Terms {
        ttl: LONG_TTL,
        wait: SOON * 2,
    };
    let rounds: Vec<_> = (0..TOGETHER)
        .map(|number| {
            let (held, deadlines) = (Arc::clone(&held[number]), Arc::clone(&deadlines));
            let kind = kind(number);
            let asking = kind.next(&next, &name(number), terms);
            waiters.spawn(async move {
                let granted_it = asking.await.expect("it is granted");
                let (granted, believed) = (Instant::now(), held.state());
                let margin = granted.checked_duration_since(deadlines.of(number));
                soon(granted_it.release()).await.expect("it is held");
                Round {
                    kind,
                    believed,
                    margin,
                }
            })
        })
        .collect();
    wait::until("the next holders wait", SOON, || {
        let waits = |number: usize| {
            let name = name(number);
            let waits = kind(number).is_waited_for(&next, &name);
            rounds[number].is_finished() || waiters.block_on(soon(waits)).is_ok_and(|waits| waits)
        };
        (0..TOGETHER).all(waits).then_some(())
    });
    match fault {
        Fault::Paused => {}
        Fault::Unreachable => ways.iter().for_each(Proxy::cut),
        Fault::LeaderKilled => cluster.members[victim].kill(),
        Fault::CutOff => cluster.relays[victim].cut(),
    }
    let rounds = rounds.into_iter().map(|round| {
        let round = waiters.block_on(async { tokio::time::timeout(SOON * 2, round).await });
        round.expect("all are granted in time").expect("it runs")
    });
    let rounds: Vec<Round> = rounds.collect();
    match fault {
        Fault::Paused => {}
        Fault::Unreachable => ways.iter().for_each(Proxy::heal),
        Fault::LeaderKilled => cluster.members[victim].start(),
        Fault::CutOff => cluster.relays[victim].heal(),
    }
    cluster.wait_until_ready();
    rounds
}

#[test]
fn in_round_after_round_of_faults_a_guard_is_lost_before_the_next_is_granted() {
    let asked = asked_for("TENURE_SDK_ROUNDS", FAULTS.len() * TOGETHER);
    let cluster = Setup::of(3).with_relays().start();
    let ways = own_ways(&cluster);
    let mut margins: BTreeMap<(Fault, Kind), Vec<Duration>> = BTreeMap::new();
    let mut violations = Vec::new();
    let mut done = 0;
    for number in 0.. {
        if done >= asked {
            break;
        }
        let fault = FAULTS[number % FAULTS.len()];
        for round in wave(&cluster, &ways, fault, number) {
            done += 1;
            match (round.believed, round.margin) {
                (State::Lost(Loss::Deadline | Loss::LeaseEnded), Some(margin)) => {
                    margins.entry((fault, round.kind)).or_default().push(margin);
                }
                (believed, margin) => violations.push(format!(
                    "{fault:?}, {:?}: {believed:?}, {margin:?}",
                    round.kind
                )),
            }
        }
    }
    for ((fault, kind), margins) in &mut margins {
        margins.sort_unstable();
        let at = |part: f64| margins[((margins.len() - 1) as f64 * part) as usize];
        eprintln!(
            "{fault:?}, {kind:?}: {} rounds; the old belief had ended before the next holder knew of its grant by {:?} at the least, \
             {:?} in the median, {:?} at the most",
            margins.len(),
            at(0.0),
            at(0.5),
            at(1.0)
        );
    }
    eprintln!("{done} rounds, {} violations", violations.len());
    assert_eq!(violations, Vec::<String>::new(), "of {done} rounds");
}

/// One thing that a watcher was told: the revision, and the revision and value of the key's last put, where it is there.
struct Heard {
    is_state: bool,
    revision: u64,
    shown: Option<(u64, u64)>,
}

impl Heard {
    fn of(told: Told) -> Heard {
        match told {
            Told::Resync { state, revision } => {
                let shown = state.first().map(|resource| {
                    let shown = resource.state["mod_revision"].as_u64();
                    let shown = shown.expect("it is a number");
                    (shown, number(&resource.state["value"]))
                });
                Heard {
                    is_state: true,
                    revision,
                    shown,
                }
            }
            Told::Changes { events, revision } => {
                assert_eq!(events.len(), 1, "one key is written at a time");
                let tenure::api::Change::Put { value, .. } = &events[0].change else {
                    panic!("{events:?}");
                };
                let value = value.parse().expect("numbers are written");
                Heard {
                    is_state: false,
                    revision,
                    shown: Some((revision, value)),
                }
            }
        }
    }
}

/// What was told accounts for all that was written: a change for the next put, once and in order; a state for all puts
/// up to its revision, of which it shows the last. Answers how often there was a state.
fn account(who: &str, told: &[Heard], written: &BTreeMap<u64, u64>) -> Result<usize, String> {
    let mut seen = 0;
    for heard in told {
        let at = heard.revision;
        let next = match heard.is_state {
            true if at < seen => return Err(format!("{who}: the state at {at} after {seen}")),
            true => written.range(..=at).next_back(),
            false => written.range(seen + 1..).next(),
        };
        let next = next.map(|(revision, value)| (*revision, *value));
        if heard.shown != next {
            let what = if heard.is_state { "state" } else { "change" };
            return Err(format!(
                "{who}: after {seen} a {what} at {at} showed {:?}, {next:?} was written",
                heard.shown
            ));
        }
        seen = at;
    }
    match written.range(seen + 1..).next() {
        Some((revision, _)) => Err(format!("{who} was told up to {seen}, not of {revision}")),
        None => Ok(told.iter().filter(|heard| heard.is_state).count()),
    }
}

#[test]
fn a_change_that_a_watch_left_out_is_not_excused_by_a_later_state() {
    let written = BTreeMap::from([(5, 1), (6, 2), (7, 3), (8, 4)]);
    let change = |revision, value| Heard {
        is_state: false,
        revision,
        shown: Some((revision, value)),
    };
    let state = |revision, shown| Heard {
        is_state: true,
        revision,
        shown,
    };
    let check = |told: &[Heard], states: Option<usize>| {
        assert_eq!(account("who", told, &written).ok(), states);
    };
    let all = |from: u64| (from..=8).map(move |revision| change(revision, revision - 4));
    let begun = || std::iter::once(state(2, None));
    check(&begun().chain(all(5)).collect::<Vec<_>>(), Some(1));
    check(
        &[state(2, None), change(5, 1), state(8, Some((8, 4)))],
        Some(2),
    );
    check(&begun().chain(all(6)).collect::<Vec<_>>(), None);
    let left_out = [
        state(2, None),
        change(5, 1),
        change(7, 3),
        state(8, Some((8, 4))),
    ];
    check(&left_out, None);
    check(
        &[state(2, None), change(5, 1), state(8, Some((7, 3)))],
        None,
    );
    check(&[state(2, None), change(5, 1), change(5, 1)], None);
    check(&[state(2, None), change(5, 1), change(6, 9)], None);
    check(&[state(2, None)], None);
}

fn number(value: &serde_json::Value) -> u64 {
    value
        .as_str()
        .and_then(|text| text.parse().ok())
        .expect("numbers are written")
}

/// Follows until it has seen the last that was written, and says how far it is; between two changes it does nothing for so long.
async fn listen(
    client: Client,
    pause: Duration,
    at: Arc<AtomicU64>,
    end: tokio::sync::watch::Receiver<Option<u64>>,
) -> Vec<Heard> {
    let mut watch = client.watch("keys/w/").begin();
    let mut heard = Vec::new();
    loop {
        let until = *end.borrow();
        if until.is_some_and(|last| at.load(Ordering::SeqCst) >= last) {
            return heard;
        }
        match tokio::time::timeout(Duration::from_millis(200), watch.next()).await {
            Ok(told) => {
                let told = Heard::of(told.expect("it goes on").expect("nothing fails"));
                at.store(told.revision, Ordering::SeqCst);
                heard.push(told);
            }
            Err(_) => continue,
        }
        if until.is_none() {
            tokio::time::sleep(pause).await;
        }
    }
}

#[test]
fn a_watch_over_many_leaders_and_compactions_tells_each_change_once_in_order_or_the_state_anew() {
    let changes = asked_for("TENURE_SDK_LEADER_CHANGES", 6);
    let cluster = Setup::of(3).start();
    let runtime = runtime();
    let writer = client(&cluster).with_patience(SOON);
    let (tell, end) = tokio::sync::watch::channel(None);
    // One keeps up, so that no compaction may take anything from it; one is so slow that it must be told anew.
    let at = || Arc::new(AtomicU64::new(0));
    let (attentive_at, pause) = (at(), Duration::from_secs(2));
    let attentive = listen(
        client(&cluster),
        Duration::ZERO,
        Arc::clone(&attentive_at),
        end.clone(),
    );
    let attentive = runtime.spawn(attentive);
    let slow = runtime.spawn(listen(client(&cluster), pause, at(), end));
    let stop = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicUsize::new(0));
    let writing = {
        let (writer, stop, count) = (writer.clone(), Arc::clone(&stop), Arc::clone(&count));
        runtime.spawn(async move {
            let mut written = BTreeMap::new();
            for value in 1_u64.. {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let put = writer
                    .put("w/k", value.to_string())
                    .await
                    .expect("it is put in time");
                written.insert(put.mod_revision, value);
                count.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            written
        })
    };
    let mut leader = cluster.leader();
    for round in 0..changes {
        // By turns it dies, and freezes for so long that another is elected.
        match round % 2 {
            0 => cluster.members[leader].kill(),
            _ => cluster.members[leader].pause(),
        }
        let next = cluster.new_leader(Some(leader));
        match round % 2 {
            0 => cluster.members[leader].start(),
            _ => cluster.members[leader].resume(),
        }
        cluster.wait_until_ready();
        leader = next;
        let before = count.load(Ordering::SeqCst);
        wait::until("some more is written", SOON, || {
            (count.load(Ordering::SeqCst) >= before + 20).then_some(())
        });
        let revision = runtime
            .block_on(soon(writer.cluster()))
            .expect("it is read")
            .revision;
        wait::until("who keeps up is told", SOON, || {
            (attentive_at.load(Ordering::SeqCst) >= revision).then_some(())
        });
        runtime
            .block_on(soon(writer.compact(revision)))
            .expect("it is compacted");
    }
    stop.store(true, Ordering::SeqCst);
    let written = runtime.block_on(soon(writing)).expect("it runs");
    let last = written.last_key_value().map(|(revision, _)| *revision);
    tell.send_replace(last);
    for (who, watching) in [("who keeps up", attentive), ("who is slow", slow)] {
        let heard = runtime.block_on(soon(watching)).expect("it runs");
        let states = account(who, &heard, &written).unwrap_or_else(|wrong| panic!("{wrong}"));
        eprintln!(
            "{who}: {changes} changes of leader, {} writes, {} changes told, {} times the state anew",
            written.len(),
            heard.len() - states,
            states - 1
        );
        match who {
            "who keeps up" => assert_eq!(states, 1, "nothing was taken from it"),
            _ => assert!(1 < states, "compactions passed it by"),
        }
    }
}
