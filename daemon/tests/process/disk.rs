//! Disks that fail, processes that die at a sync, power that goes: `2xx` means two synced disks.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::common::machine::{can_inject, run, skip, succeeds};
use crate::common::{Cluster, Member, Process, SOON, Setup, machine, wait};

/// What is acknowledged by one writer until it is told to stop.
fn write_until(cluster: &Cluster, writer: usize, stop: &AtomicBool) -> BTreeMap<String, u64> {
    let mut acknowledged = BTreeMap::new();
    let members = cluster.members.len();
    let mut client = cluster.members[writer % members]
        .client()
        .with_patience(Duration::from_secs(6));
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let key = format!("w{writer}/{number}");
        match client.put(&format!("/v1/keys/{key}"), key.as_bytes()) {
            Ok(answer) if answer.status == 201 => {
                acknowledged.insert(key, answer.u64("mod_revision"));
            }
            _ => wait::pass(Duration::from_millis(10), || stop.load(Ordering::SeqCst)),
        }
    }
    acknowledged
}

fn all_are_there(cluster: &Cluster, acknowledged: &BTreeMap<String, u64>) {
    let mut client = cluster.members[0].client();
    for (key, revision) in acknowledged {
        let answer = client
            .get(&format!("/v1/keys/{key}"))
            .expect("the member answers")
            .expect(200);
        assert_eq!(
            (&answer.text(), answer.header("tenure-mod-revision")),
            (key, Some(revision.to_string().as_str()))
        );
    }
}

#[test]
fn a_member_whose_sync_fails_acknowledges_nothing_more_and_exits_with_1() {
    const NAME: &str = "a_member_whose_sync_fails_acknowledges_nothing_more_and_exits_with_1";
    let _machine = machine::shared();
    if !can_inject() {
        return skip(NAME, "strace cannot inject errors");
    }
    let cluster = Setup::of(1).start();
    let stop = AtomicBool::new(false);
    let acknowledged = thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                scope.spawn({
                    let stop = &stop;
                    let cluster = &cluster;
                    move || write_until(cluster, writer, stop)
                })
            })
            .collect();
        wait::pass(Duration::from_secs(1), || false);
        let id = cluster.members[0].with(|process| process.id()).to_string();
        let mut strace = Command::new("strace");
        strace.args([
            "-f",
            "-o",
            "/dev/null",
            "-e",
            "inject=fdatasync,fsync:error=EIO",
            "-p",
            &id,
        ]);
        let mut strace = Process::start(&mut strace, &cluster.dir().join("strace.log"));
        let code = cluster.members[0].with(|process| process.exit_code(SOON));
        assert_eq!(code, 1, "{}", cluster.members[0].output());
        strace.exit_code(SOON);
        stop.store(true, Ordering::SeqCst);
        let join = |writer: thread::ScopedJoinHandle<'_, BTreeMap<String, u64>>| {
            writer.join().expect("a writer ends")
        };
        writers
            .into_iter()
            .flat_map(join)
            .collect::<BTreeMap<_, _>>()
    });
    assert!(
        acknowledged.len() > 20,
        "too few writes to prove anything: {}",
        acknowledged.len()
    );
    cluster.members[0].kill();
    cluster.members[0].start();
    cluster.wait_until_ready();
    all_are_there(&cluster, &acknowledged);
}

#[test]
fn a_write_behind_a_failed_sync_is_not_acknowledged_and_the_others_go_on() {
    const NAME: &str = "a_write_behind_a_failed_sync_is_not_acknowledged_and_the_others_go_on";
    let _machine = machine::shared();
    if !can_inject() {
        return skip(NAME, "strace cannot inject errors");
    }
    let cluster = Setup::of(3).start();
    let leader = cluster.leader();
    let id = cluster.members[leader]
        .with(|process| process.id())
        .to_string();
    let mut strace = Command::new("strace");
    strace.args([
        "-f",
        "-o",
        "/dev/null",
        "-e",
        "inject=fdatasync,fsync:error=EIO",
        "-p",
        &id,
    ]);
    let mut strace = Process::start(&mut strace, &cluster.dir().join("strace.log"));
    // The leader fails at its next sync; the other two are a majority and acknowledge everything after that.
    wait::until("the leader has failed", SOON, || {
        let _ = cluster.members[leader].client().put("/v1/keys/probe", b"x");
        (!cluster.members[leader].is_running()).then_some(())
    });
    assert_eq!(cluster.members[leader].exit_code(SOON), 1);
    strace.exit_code(SOON);
    cluster.new_leader(Some(leader));
    cluster
        .persist("a write is answered", |client| {
            client.put("/v1/keys/after", b"x")
        })
        .expect(201);
    cluster.members[leader].start();
    cluster.wait_until_ready();
    cluster.wait_until_equal();
}

#[test]
fn a_kill_at_any_sync_of_the_first_boot_leaves_a_directory_that_starts() {
    const NAME: &str = "a_kill_at_any_sync_of_the_first_boot_leaves_a_directory_that_starts";
    let _machine = machine::shared();
    if !can_inject() {
        return skip(NAME, "strace cannot inject signals");
    }
    // All syncs until the member runs are those of one thread, so that a count of each thread's calls hits them. Now
    // and then two threads share them: then it is tried again.
    let forming = syncs_while_forming();
    for call in ["fdatasync", "fsync"] {
        let made = forming.iter().filter(|made| **made == call).count();
        assert!(made > 3, "{made} calls of {call} are too few to be all");
        for at in 1..=made {
            let hit = (0..TRIES).any(|_| boot_killed_at(call, at));
            assert!(hit, "call {at} of {made} of {call} was not hit");
        }
        eprintln!("first boot: killed at each of {made} calls of {call} in turn");
    }
    // Those of the threads of the running member are counted one thread at a time.
    for (thread, least) in [("tenured-log", 2), ("tenured-state", 1)] {
        let killed = (1..=MOST_SYNCS)
            .take_while(|at| boot_killed_in(thread, *at))
            .count();
        assert!(
            killed >= least,
            "{thread} was killed at {killed} syncs only"
        );
        eprintln!("first boot: killed at each of {killed} syncs of {thread} in turn");
    }
}

/// The log of a member that runs is synced again and again; so many are enough of a first boot.
const MOST_SYNCS: usize = 5;
const TRIES: usize = 5;
/// A new member does nothing but wait for so long, in which a thread can be got hold of before its first sync.
const CALM: Duration = Duration::from_secs(2);

/// The syncs of a first boot before the threads of the member make any, in a boot in which one thread makes them all.
fn syncs_while_forming() -> Vec<String> {
    (0..TRIES)
        .find_map(|_| syncs_of_one_thread())
        .expect("one thread makes them all")
}

fn syncs_of_one_thread() -> Option<Vec<String>> {
    let cluster = Setup::of(1)
        .with("election-timeout-ms", CALM.as_millis())
        .prepare();
    let member = &cluster.members[0];
    let trace = cluster.dir().join("trace");
    let mut strace = Command::new("strace");
    strace.args(["-D", "-f", "-qq", "-e", "trace=fdatasync,fsync", "-o"]);
    strace.arg(&trace).arg(crate::common::binary::tenured());
    member.start_as(strace.args(member.arguments()));
    member.with(|process| process.wait_for_output("recovered", SOON));
    member.kill();
    let text = fs::read_to_string(&trace).expect("strace has written");
    let calls: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| {
            let (thread, call) = line.split_once(' ')?;
            let (name, _) = call.trim_start().split_once('(')?;
            Some((thread, name))
        })
        .collect();
    let first = calls.first().expect("a first boot syncs").0;
    let alone = calls.iter().all(|(thread, _)| *thread == first);
    alone.then(|| calls.iter().map(|(_, name)| (*name).to_owned()).collect())
}

/// Boots a new member that is killed at the K-th sync of a thread; whether it came to that. It must start afterwards.
fn boot_killed_at(call: &str, at: usize) -> bool {
    let cluster = Setup::of(1).prepare();
    let member = &cluster.members[0];
    let inject = format!("inject={call}:signal=KILL:when={at}");
    let mut strace = Command::new("strace");
    // The tracer is a grandchild, so that our child is the member itself.
    strace.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &inject]);
    strace
        .arg(crate::common::binary::tenured())
        .args(member.arguments());
    member.start_as(&mut strace);
    let written = written_or_killed(member);
    let killed = !member.is_running();
    starts_again(&cluster, written);
    killed
}

/// The same for one thread of the running member, which is got hold of before its first sync.
fn boot_killed_in(thread: &str, at: usize) -> bool {
    let (cluster, mut strace) = wait::until("a thread is got hold of in time", SOON, || {
        let cluster = Setup::of(1)
            .with("election-timeout-ms", CALM.as_millis())
            .prepare();
        let member = &cluster.members[0];
        member.start();
        let strace = attach(&cluster, thread, at);
        // The first sync of these threads comes after the first election.
        (!member.output().contains("campaigning")).then_some((cluster, strace))
    });
    let member = &cluster.members[0];
    let written = written_or_killed(member);
    // The checkpoint of a write begins a second after the one before it.
    wait::found(Duration::from_millis(2500), || {
        (!member.is_running()).then_some(())
    });
    let killed = !member.is_running();
    starts_again(&cluster, written);
    strace.exit_code(SOON);
    killed
}

/// Lets the member be killed at the K-th sync of the thread of that name; returns when it is so.
fn attach(cluster: &Cluster, thread: &str, at: usize) -> Process {
    let member = &cluster.members[0];
    let tasks = format!("/proc/{}/task", member.with(|process| process.id()));
    let id = wait::until("the thread is there", SOON, || {
        let mut ids = fs::read_dir(&tasks).ok()?.filter_map(|task| {
            let task = task.ok()?;
            let name = fs::read_to_string(task.path().join("comm")).ok()?;
            (name.trim_end() == thread).then(|| task.file_name().display().to_string())
        });
        ids.next()
    });
    let inject = format!("inject=fdatasync,fsync:signal=KILL:when={at}");
    let mut strace = Command::new("strace");
    strace.args(["-qq", "-o", "/dev/null", "-e", &inject, "-p", &id]);
    let strace = Process::start(&mut strace, &cluster.dir().join("strace.log"));
    wait::until("the thread is traced", SOON, || {
        let status = fs::read_to_string(format!("{tasks}/{id}/status")).ok()?;
        let tracer = status
            .lines()
            .find_map(|line| line.strip_prefix("TracerPid:"))?;
        (tracer.trim() != "0").then_some(())
    });
    strace
}

/// Whether a write was acknowledged before the member was killed.
fn written_or_killed(member: &Member) -> bool {
    let mut written = false;
    wait::until("it is killed, or has booted and written", SOON, || {
        let put = member.client().put("/v1/keys/first", b"x");
        written = written || put.is_ok_and(|answer| answer.status == 201);
        (written || !member.is_running()).then_some(())
    });
    written
}

/// After whatever happened to its first boot the member starts, and has what it acknowledged.
fn starts_again(cluster: &Cluster, written: bool) {
    let member = &cluster.members[0];
    member.kill();
    member.start();
    cluster.wait_until_ready();
    let mut client = member.client();
    if written {
        client
            .get("/v1/keys/first")
            .expect("the member answers")
            .expect(200);
    }
    let put = client
        .put("/v1/keys/second", b"x")
        .expect("the member answers");
    put.expect(201);
}

/// Loop-mounted file systems whose unsynced writes can be thrown away; unmounted when dropped.
struct Disks {
    images: Vec<PathBuf>,
    mounts: Vec<PathBuf>,
}

/// Makes the file systems forget what was not synced, one right after the other: FS_IOC_GOINGDOWN without a flush.
const POWER_LOSS: &str = r#"for (@ARGV) { open my $dir, "<", $_ or die "$_: $!"; push @dirs, $dir }
for (@dirs) { my $flag = pack("L", 2); ioctl($_, 0x8004587d, $flag) or die "ioctl: $!" }"#;

impl Disks {
    fn make(dir: &Path, count: usize) -> Result<Disks, String> {
        let mut disks = Disks {
            images: Vec::new(),
            mounts: Vec::new(),
        };
        for number in 0..count {
            let (image, mount) = (
                dir.join(format!("disk-{number}.img")),
                dir.join(format!("disk-{number}")),
            );
            fs::create_dir(&mount).map_err(|error| error.to_string())?;
            let file = fs::File::create(&image).map_err(|error| error.to_string())?;
            file.set_len(512 << 20).map_err(|error| error.to_string())?;
            let text = |path: &Path| path.display().to_string();
            if !succeeds("mkfs.ext4", &["-q", "-F", &text(&image)]) {
                return Err("mkfs.ext4 does not work".to_owned());
            }
            if !succeeds("mount", &["-o", "loop", &text(&image), &text(&mount)]) {
                return Err("file systems cannot be mounted (are you root?)".to_owned());
            }
            disks.images.push(image);
            disks.mounts.push(mount);
        }
        Ok(disks)
    }

    fn lose_power(&self) {
        let mut arguments = vec!["-e".to_owned(), POWER_LOSS.to_owned()];
        arguments.extend(self.mounts.iter().map(|mount| mount.display().to_string()));
        run(
            "perl",
            &arguments.iter().map(String::as_str).collect::<Vec<_>>(),
        );
    }

    fn mount_again(&self) {
        for (image, mount) in self.images.iter().zip(&self.mounts) {
            run("umount", &[&mount.display().to_string()]);
            run(
                "mount",
                &[
                    "-o",
                    "loop",
                    &image.display().to_string(),
                    &mount.display().to_string(),
                ],
            );
        }
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for mount in &self.mounts {
            succeeds("umount", &["-l", &mount.display().to_string()]);
        }
    }
}

#[test]
fn power_loss_of_all_three_at_once_loses_nothing_acknowledged() {
    const NAME: &str = "power_loss_of_all_three_at_once_loses_nothing_acknowledged";
    let _machine = machine::shared();
    let dir = tempfile::tempdir().expect("there is room for a directory");
    let disks = match Disks::make(dir.path(), 3) {
        Ok(disks) if succeeds("perl", &["-e", "1"]) => disks,
        Ok(_) => return skip(NAME, "there is no perl"),
        Err(reason) => return skip(NAME, &reason),
    };
    let data_dirs = disks
        .mounts
        .iter()
        .map(|mount| mount.join("data"))
        .collect();
    let cluster = Setup::of(3).with_data_dirs(data_dirs).start();
    let mut acknowledged = BTreeMap::new();
    for round in 0..3_usize {
        cluster.leader();
        let stop = AtomicBool::new(false);
        let written: Vec<_> = thread::scope(|scope| {
            let writers: Vec<_> = (0..6)
                .map(|writer| {
                    let (stop, cluster) = (&stop, &cluster);
                    scope.spawn(move || write_until(cluster, 6 * round + writer, stop))
                })
                .collect();
            wait::pass(Duration::from_secs(2), || false);
            disks.lose_power();
            cluster.kill_all();
            stop.store(true, Ordering::SeqCst);
            writers
                .into_iter()
                .flat_map(|writer| writer.join().expect("a writer ends"))
                .collect()
        });
        assert!(
            written.len() > 30,
            "too few writes to prove anything: {}",
            written.len()
        );
        acknowledged.extend(written);
        disks.mount_again();
        for member in &cluster.members {
            member.start();
        }
        cluster.wait_until_ready();
        all_are_there(&cluster, &acknowledged);
        cluster.wait_until_equal();
    }
    eprintln!(
        "power loss: 3 times, {} acknowledged writes, all there",
        acknowledged.len()
    );
    cluster.kill_all();
}
