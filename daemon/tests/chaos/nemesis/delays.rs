//! Packets that arrive late and in another order: a program between the network and each member holds them back.
//!
//! For kernels without netem. Held packets wait in a queue of the kernel; whoever reads it lets each go after a time of
//! its own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use nfq::{Message, Queue, Verdict};

use super::Evidence;
use crate::common::wait;
use crate::member::PEER_PORT;
use crate::round::Run;

/// How long a packet is held back; far from each other, so that many are overtaken.
const DELAY_MS: std::ops::Range<u64> = 5..60;
/// How long nothing is done where there is nothing to do.
const IDLE: Duration = Duration::from_millis(1);

/// Whether the kernel has such queues.
pub(super) fn is_possible() -> bool {
    Queue::open().is_ok_and(|mut queue| queue.bind(0).is_ok())
}

/// What was held back at a member.
#[derive(Default)]
struct Held {
    packets: u64,
    overtaken: u64,
}

/// All that members send to one another is late by a few to many milliseconds, each packet by its own.
pub(super) fn delay(run: &Run<'_>, rng: &mut Rng) -> Evidence {
    let network = &run.rig.network;
    let stop = AtomicBool::new(false);
    let held: Vec<Held> = thread::scope(|scope| {
        let holders: Vec<_> = (0..run.rig.members.len())
            .map(|member| {
                let (stop, mut rng) = (&stop, rng.fork());
                let hold = move || network.within(member, || hold_back(stop, &mut rng));
                scope.spawn(hold)
            })
            .collect();
        for member in 0..run.rig.members.len() {
            for port in ["--dport", "--sport"] {
                let what = format!("-p tcp {port} {PEER_PORT}");
                network.rule(
                    member,
                    &format!("{what} -j NFQUEUE --queue-num 0 --queue-bypass"),
                );
            }
        }
        wait::pass(Duration::from_millis(rng.u64(2_000..3_000)), || false);
        network.heal();
        stop.store(true, Ordering::SeqCst);
        let join = |holder: thread::ScopedJoinHandle<'_, Held>| holder.join().expect("it ends");
        holders.into_iter().map(join).collect()
    });
    let packets: u64 = held.iter().map(|held| held.packets).sum();
    let overtaken: u64 = held.iter().map(|held| held.overtaken).sum();
    match overtaken {
        0 => Err(format!("{packets} packets held back and none overtaken")),
        _ => Ok(format!(
            "{packets} packets held back, {overtaken} of them overtaken"
        )),
    }
}

/// Holds packets back until it is told to stop, then lets all go.
fn hold_back(stop: &AtomicBool, rng: &mut Rng) -> Held {
    let mut queue = Queue::open().expect("it was possible before");
    queue.bind(0).expect("nobody else reads the queue");
    queue.set_nonblocking(true);
    let mut held = Held::default();
    let mut waiting: BTreeMap<(Instant, u64), Message> = BTreeMap::new();
    while !stop.load(Ordering::SeqCst) || !waiting.is_empty() {
        while let Ok(message) = queue.recv() {
            held.packets += 1;
            let due = Instant::now() + Duration::from_millis(rng.u64(DELAY_MS));
            waiting.insert((due, held.packets), message);
        }
        let now = Instant::now();
        while let Some(first) = waiting.first_entry().filter(|first| first.key().0 <= now) {
            let ((_, number), mut message) = first.remove_entry();
            held.overtaken += u64::from(waiting.keys().any(|(_, other)| *other < number));
            message.set_verdict(Verdict::Accept);
            queue.verdict(message).expect("the kernel waits for it");
        }
        wait::pass(IDLE, || false);
    }
    let _ = queue.unbind(0);
    held
}
