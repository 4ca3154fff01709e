//! Holds that somebody else ends: their commands are told at once, not by the next renewal.

use rustix::process::Signal;

use crate::common::{Cluster, Process, SOON, Setup};
use crate::support::{begun, lives, ran, restored, text_of};

/// A third of it, after which renewals would tell, is far beyond the time for which tests wait.
const TTL: &str = "10m";

/// What runs a command under a hold, and what ends that hold, by its lease or its fence.
struct Case {
    holds: &'static [&'static str],
    ends: fn(&str, &str) -> Vec<String>,
    told: &'static str,
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

const REVOKED: fn(&str, &str) -> Vec<String> = |lease, _| words(&format!("lease revoke {lease}"));

fn holder(cluster: &Cluster, holds: &[&str]) -> (Process, String, String) {
    let told = cluster.dir().join("told");
    let script = format!(
        "trap '' TERM; echo $TENURE_LEASE $TENURE_FENCE > {}; while :; do sleep 0.01; done",
        told.display()
    );
    let _ = std::fs::remove_file(&told);
    let times = ["--ttl", TTL, "--grace", "1m", "--", "sh", "-c", &script];
    let holder = begun(cluster, "holder", holds.iter().copied().chain(times));
    let told = text_of(&told);
    let (lease, fence) = told.trim().split_once(' ').expect("there are two");
    (holder, lease.to_owned(), fence.to_owned())
}

#[test]
fn a_command_is_killed_at_once_and_without_grace_when_its_hold_is_ended_by_somebody_else() {
    let cluster = Setup::of(3).start();
    let cases = [
        Case {
            holds: &["lock", "a"],
            ends: REVOKED,
            told: "the cluster has ended the lease",
        },
        Case {
            holds: &["lock", "a/b", "--shared"],
            ends: REVOKED,
            told: "the cluster has ended the lease",
        },
        Case {
            holds: &["semaphore", "s", "--limit", "2"],
            ends: REVOKED,
            told: "the cluster has ended the lease",
        },
        Case {
            holds: &["lock", "jobs/ü b"],
            ends: |_, fence| {
                let mut words = words(&format!(
                    "break lock NAME --reason test --now --fence {fence}"
                ));
                words[2] = "jobs/ü b".into();
                words
            },
            told: "the hold was ended by somebody else",
        },
        Case {
            holds: &["lock", "shared", "--shared"],
            ends: |_, fence| words(&format!("break lock shared --reason test --fence {fence}")),
            told: "the hold was ended by somebody else",
        },
        Case {
            holds: &["semaphore", "permits", "--limit", "2"],
            ends: |_, fence| {
                words(&format!(
                    "break semaphore permits --reason test --fence {fence}"
                ))
            },
            told: "the hold was ended by somebody else",
        },
        Case {
            holds: &["elect", "e"],
            ends: |_, fence| words(&format!("break election e --reason test --fence {fence}")),
            told: "the hold was ended by somebody else",
        },
    ];
    for case in cases {
        let (mut holder, lease, fence) = holder(&cluster, case.holds);
        ran(&cluster, (case.ends)(&lease, &fence)).expect(0);
        let (code, said) = (holder.exit_code(SOON), holder.output());
        assert_eq!(code, 76, "{:?}: {said}", case.holds);
        assert!(said.contains(case.told), "{:?}: {said}", case.holds);
    }
}

#[test]
fn a_command_is_killed_at_once_when_its_cluster_was_restored_and_others_may_hold() {
    let cluster = Setup::of(1).start();
    let (mut holder, _, _) = holder(&cluster, &["lock", "a"]);
    restored(&cluster);
    let (code, said) = (holder.exit_code(SOON), holder.output());
    assert_eq!(code, 76, "{said}");
    assert!(said.contains("the cluster has ended the lease"), "{said}");
    assert!(!said.contains("could not be released"), "{said}");
    ran(&cluster, ["lock", "a", "--", "true"]).expect(0);
}

/// The command itself has ended while it held; only what it left behind is in the way.
#[test]
fn what_a_command_left_behind_is_killed_without_grace_when_the_hold_is_ended_meanwhile() {
    let cluster = Setup::of(1).start();
    let left = cluster.dir().join("left");
    let script = format!(
        "trap '' TERM; sh -c 'while :; do sleep 0.05; done' & echo $TENURE_LEASE $! > {}; exit 3",
        left.display()
    );
    let times = ["--ttl", TTL, "--grace", "1m", "--", "sh", "-c", &script];
    let arguments = ["lock", "a"].into_iter().chain(times);
    let mut holder = begun(&cluster, "holder", arguments);
    let told = text_of(&left);
    let (lease, process) = told.trim().split_once(' ').expect("there are two");
    holder.wait_for_output("the rest is stopped", SOON);
    assert!(lives(process), "it ignores TERM");
    ran(&cluster, ["lease", "revoke", lease]).expect(0);
    assert_eq!(holder.exit_code(SOON), 3, "{}", holder.output());
    assert!(!lives(process));
}

#[test]
fn a_command_runs_on_when_others_want_what_it_holds_and_when_its_leader_dies() {
    let cluster = Setup::of(3).start();
    let (mut holder, _, fence) = holder(&cluster, &["lock", "a"]);
    ran(&cluster, ["lock", "a", "--wait", "300ms", "--", "true"]).expect(75);
    ran(&cluster, ["lock", "b", "--", "true"]).expect(0);
    cluster.members[cluster.leader()].kill();
    let refused = ran(&cluster, ["lock", "a", "--wait", "0s", "--", "true"]).expect(75);
    assert!(
        refused.stderr.contains(&format!("(fence {fence}, ")),
        "{}",
        refused.stderr
    );
    // Also over the new leader it hears what becomes of its hold.
    assert!(holder.exit_status().is_none(), "{}", holder.output());
    let broken = format!("break lock a --reason test --fence {fence}");
    ran(&cluster, words(&broken)).expect(0);
    assert_eq!(holder.exit_code(SOON), 76, "{}", holder.output());
    holder.signal(Signal::KILL);
}
