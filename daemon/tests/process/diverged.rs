//! A member whose state became another than that of the others, though its files are whole: it is found by the digests that
//! members compare, ends and says so, and keeps nobody else from working.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::process::Signal;
use tenure_replica::Checkpoint;
use tenure_state::{Row, RowChange, State};
use tenured::storage::{CheckpointOutcome, DataDir, StateFile, open};

use crate::common::{Cluster, Member, SOON, Setup, machine, wait};

/// What all members apply, and what one of them has in its place: of one length, so that nothing else differs.
const RIGHT: &[u8] = b"the value that was asked for";
const WRONG: &[u8] = b"a value nobody has asked for";

/// So long so many writes may take, one after the other, that states are compared.
const COMPARED: Duration = Duration::from_secs(240);

/// Puts another value into the state of a member that does not run. Its file is whole: each row has its checksum, and the
/// digest is that of its rows.
fn falsify(member: &Member) {
    let dir = DataDir::open(&member.data_dir, &member.name).expect("it is a member's");
    let (identity, loaded) = {
        let opened = open(&dir).expect("its files are whole");
        let opened = opened.expect("it belongs to a cluster");
        (opened.identity, opened.loaded)
    };
    let falsified = |row: &Row| {
        let at = row.value.windows(RIGHT.len()).position(|it| it == RIGHT)?;
        let (before, after) = (&row.value[..at], &row.value[at + RIGHT.len()..]);
        Some(Bytes::from([before, WRONG, after].concat()))
    };
    let mut rows = loaded.rows;
    let mut changes = Vec::new();
    for row in &mut rows {
        if let Some(value) = falsified(row) {
            row.value = value;
            changes.push(RowChange {
                table: row.table,
                key: row.key.clone(),
                value: Some(row.value.clone()),
            });
        }
    }
    assert!(!changes.is_empty(), "the last checkpoint has the value");
    let state = State::from_rows(rows.into_iter()).expect("they are a state still");
    let checkpoint = Checkpoint {
        meta: loaded.meta,
        digest: state.digest(),
        rows: changes,
    };
    let path = member.data_dir.join("state.redb");
    let (mut file, _) = StateFile::open(&path, identity).expect("it opens");
    let written = file.checkpoint(&checkpoint).expect("there is room");
    assert_eq!(written, CheckpointOutcome::Written);
    file.close().expect("it closes");
}

fn put(cluster: &Cluster, key: &str, value: &[u8]) {
    let path = format!("/v1/keys/{key}");
    let answer = cluster.persist("a key is put", |client| client.put(&path, value));
    // A leader that is lost leaves it in doubt, which is as good here.
    assert!(
        answer.status < 300 || answer.status == 504,
        "{}",
        answer.text()
    );
}

#[test]
fn a_member_whose_state_is_not_that_of_the_others_says_so_and_ends_with_3_and_the_others_go_on() {
    let _machine = machine::half();
    let cluster = Setup::of(3).start();
    put(&cluster, "falsified", RIGHT);
    cluster.wait_until_equal();
    let victim = &cluster.members[cluster.follower()];
    victim.signal(Signal::TERM);
    assert_eq!(victim.exit_code(SOON), 0);
    falsify(victim);
    victim.start();
    victim.wait_until_ready();
    let read = wait::until("it serves", SOON, || {
        let answer = victim.client().get("/v1/keys/falsified").ok()?;
        (answer.status == 200).then_some(answer)
    });
    assert_eq!(read.body, WRONG, "nothing gives it away by itself");

    let begun = Instant::now();
    while victim.is_running() {
        assert!(begun.elapsed() < COMPARED, "nobody minds");
        for number in 0..64 {
            put(&cluster, &format!("others/{number}"), b"x");
        }
    }
    for part in [
        "differs from that of a majority at entry",
        "replace this member",
    ] {
        wait::until("it has said why", SOON, || {
            victim.output().contains(part).then_some(())
        });
    }
    assert_eq!(victim.exit_code(SOON), 3);
    put(&cluster, "afterwards", b"x");
    cluster.wait_until_equal();
    let read = cluster.persist("the value is read", |client| {
        client.get("/v1/keys/falsified")
    });
    assert_eq!(read.expect(200).body, RIGHT);
}
