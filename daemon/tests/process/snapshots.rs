//! Members whose place in the log is gone.

use std::fs::File;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::common::{Cluster, SOON, Setup, machine, wait};

const MIB: usize = 1 << 20;

/// Writes values of 1 MiB under different keys, so that they all stay in the state. A busy machine may lose its leader
/// meanwhile: what was not written, or is not known to be, is written again.
fn fill(cluster: &Cluster, member: usize, mebibytes: usize) {
    let mut client = cluster.members[member].client();
    let mut value = vec![b'x'; MIB];
    for number in 0..mebibytes {
        value[..8].copy_from_slice(format!("{number:08}").as_bytes());
        wait::until("a large value is written", SOON, || {
            let put = client.put(&format!("/v1/keys/large/{number}"), &value);
            (put.ok()?.status < 300).then_some(())
        });
    }
}

/// Waits until everything of so many bytes is in checkpoints, so that the log is compacted behind them: the state file
/// is large enough, and has been committed to several times since (each commit writes its header).
fn wait_for_checkpoints(cluster: &Cluster, member: usize, bytes: u64) {
    const COMMITS: usize = 8;
    let path = cluster.members[member].data_dir.join("state.redb");
    let header = || {
        let mut header = [0; 512];
        File::open(&path)
            .and_then(|mut file| file.read_exact(&mut header))
            .ok()?;
        Some(header)
    };
    let mut seen = Vec::new();
    wait::until("the leader has checkpoints of everything", SOON * 2, || {
        cluster.members[member]
            .client()
            .put("/v1/keys/turn", b"x")
            .ok()?;
        let large = std::fs::metadata(&path).ok()?.len() >= bytes;
        let header = header()?;
        if large && seen.last() != Some(&header) {
            seen.push(header);
        }
        (seen.len() > COMMITS).then_some(())
    });
}

#[test]
fn a_member_stopped_for_longer_than_the_kept_log_comes_back_by_snapshot() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let (leader, away) = (cluster.leader(), cluster.follower());
    cluster.members[away].kill();
    fill(&cluster, leader, 40);
    wait_for_checkpoints(&cluster, leader, 40 << 20);
    cluster.members[away].start();
    wait::until("it has installed a snapshot", SOON * 2, || {
        cluster.members[away]
            .output()
            .contains("installed")
            .then_some(())
    });
    cluster.wait_until_ready();
    cluster.wait_until_equal();
    let read = cluster.members[away]
        .client()
        .get("/v1/keys/large/39")
        .expect("the member answers")
        .expect(200);
    assert_eq!((read.body.len(), &read.body[..8]), (MIB, &b"00000039"[..]));
    // It holds on its own disk what it got.
    cluster.members[away].kill();
    cluster.members[away].start();
    cluster.wait_until_ready();
    cluster.wait_until_equal();
}

#[test]
fn a_snapshot_of_more_than_64_mib_arrives_although_cut_off_twice_while_writes_go_on() {
    const SIZE: u64 = 72;
    let _machine = machine::half();
    let cluster = Setup::of(3).with_relays().start();
    let (leader, away) = (cluster.leader(), cluster.follower());
    cluster.members[away].kill();
    fill(
        &cluster,
        leader,
        usize::try_from(SIZE).expect("it is small"),
    );
    let carried_before = cluster.relays[away].carried();
    cluster.relays[away].cut_after(20 << 20, 2);
    let stop = AtomicBool::new(false);
    let written = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut client = cluster.members[leader].client();
            let mut written = 0_u64;
            while !stop.load(Ordering::SeqCst) {
                let answer = client.put(
                    &format!("/v1/keys/small/{}", written % 100),
                    written.to_string().as_bytes(),
                );
                written += u64::from(answer.is_ok_and(|answer| answer.status < 300));
                wait::pass(Duration::from_millis(5), || stop.load(Ordering::SeqCst));
            }
            written
        });
        cluster.members[away].start();
        let arrived = wait::found(Duration::from_secs(90), || {
            let installed = cluster.members[away].output().contains("installed");
            (installed && cluster.members[away].is_ready()).then_some(())
        });
        stop.store(true, Ordering::SeqCst);
        assert!(
            arrived.is_some(),
            "no snapshot was installed:\n{}",
            cluster.members[away].output()
        );
        writer.join().expect("the writer ends")
    });
    assert_eq!(cluster.relays[away].cuts_left(), 0, "both cuts happened");
    let carried = (cluster.relays[away].carried() - carried_before) >> 20;
    eprintln!(
        "snapshot: {SIZE} MiB of values, {carried} MiB carried with two cuts, {written} writes meanwhile"
    );
    assert!(
        carried >= SIZE,
        "only {carried} MiB went to the member: it did not come by snapshot"
    );
    assert!(
        carried < 2 * SIZE,
        "{carried} MiB went to the member: the transfer began anew instead of going on"
    );
    assert!(written > 20, "writes stood still: {written}");
    cluster.wait_until_equal();
}
