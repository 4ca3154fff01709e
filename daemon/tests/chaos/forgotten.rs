//! A member that comes back with its files of an earlier day, as it is after a restore of a machine or on a disk whose
//! syncs are lies: the leader knows better, and the member says so and ends in place of waiting in silence.

use std::path::Path;

use crate::common::{Cluster, SOON, Setup, machine, wait};

fn write(cluster: &Cluster, leader: usize, what: &str) {
    let mut client = cluster.members[leader].client();
    for number in 0..10 {
        let put = client.put(&format!("/v1/keys/{what}/{number}"), what.as_bytes());
        put.expect("the leader answers").expect(201);
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("a directory can be made");
    for entry in std::fs::read_dir(from).expect("the directory is there") {
        let entry = entry.expect("it can be read");
        let target = to.join(entry.file_name());
        let kind = entry.file_type().expect("it has a type");
        if kind.is_dir() {
            copy(&entry.path(), &target);
        } else if kind.is_file() {
            // The socket of a member is no file of its data.
            std::fs::copy(entry.path(), target).expect("there is room");
        }
    }
}

/// Puts the files of an earlier day in place of a follower's: how it ended and what it said. It is none where the
/// follower was taken in, by a leader that came to power meanwhile on a busy machine and was never told anything.
fn goes_back(cluster: &Cluster, turn: usize) -> Option<(i32, String)> {
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let member = &cluster.members[follower];
    let kept = cluster.dir().join(format!("kept-{turn}"));
    let newer = cluster.dir().join(format!("newer-{turn}"));
    member.kill();
    copy(&member.data_dir, &kept);
    member.start();
    cluster.wait_until_ready();
    write(cluster, leader, &format!("since-{turn}"));
    cluster.wait_until_equal();
    member.kill();
    std::fs::rename(&member.data_dir, newer).expect("it can be moved");
    copy(&kept, &member.data_dir);
    member.start();
    let ended = wait::until("it ends, or serves", SOON, || {
        let ended = !member.is_running();
        (ended || member.is_ready()).then_some(ended)
    });
    ended.then(|| {
        let output = member.output();
        (member.exit_code(SOON), output)
    })
}

#[test]
fn member_with_files_of_an_earlier_day_is_told_so_and_ends_with_3() {
    let _machine = machine::shared();
    // Long, so that the leader stays: only it remembers.
    let cluster = Setup::of(3).with("election-timeout-ms", 3_000).start();
    let told = (0..3).find_map(|turn| goes_back(&cluster, turn));
    let (code, output) = told.expect("no leader stayed for one turn of three");
    assert_eq!(code, 3, "{output}");
    assert!(
        output.contains("had acknowledged entry") && output.contains("replace this member"),
        "{output}"
    );
}
