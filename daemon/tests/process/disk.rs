//! Disks that fail, processes that die at a sync, power that goes: `2xx` means two synced disks.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::common::machine::{run, skip, succeeds};
use crate::common::{Cluster, Process, SOON, Setup, machine, wait};

/// Whether `strace` can tamper with the calls of a process here.
fn can_inject() -> bool {
    succeeds(
        "strace",
        &[
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "inject=fdatasync:error=EIO",
            "true",
        ],
    )
}

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
    for call in ["fdatasync", "fsync"] {
        let killed = (1..).take_while(|at| boot_killed_at(call, *at)).count();
        eprintln!("first boot: killed at each of {killed} calls of {call} in turn");
        assert!(
            call == "fsync" || killed > 3,
            "{killed} calls of {call} are too few to be all"
        );
    }
}

/// Boots a new member that is killed at the K-th sync of a thread; whether it came to that. It must start afterwards.
fn boot_killed_at(call: &str, at: u32) -> bool {
    let cluster = Setup::of(1).prepare();
    let member = &cluster.members[0];
    let inject = format!("inject={call}:signal=KILL:when={at}");
    let mut strace = Command::new("strace");
    // The tracer is a grandchild, so that our child is the member itself.
    strace.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &inject]);
    strace
        .arg(crate::common::process::TENURED)
        .args(member.arguments());
    member.start_as(&mut strace);
    let mut written = false;
    wait::until("it is killed, or has booted and written", SOON, || {
        written = written
            || member
                .client()
                .put("/v1/keys/first", b"x")
                .is_ok_and(|answer| answer.status == 201);
        (written || !member.is_running()).then_some(())
    });
    let killed = !member.is_running();
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
    killed
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
