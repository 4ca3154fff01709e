//! `tenure backup`: a file that is whole, or none.

use std::fs;
use std::io::{self, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::Signal;

use crate::common::offline::{backup, tenured, verified};
use crate::common::{Cluster, Process, SOON, Setup, wait};
use crate::support::{Ran, at, ran, run, tenure};

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("it can be listed");
    let mut names: Vec<String> = entries
        .map(|entry| {
            entry
                .expect("it can be listed")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

/// A cluster with some megabytes in it, and a folder for backups.
fn filled() -> (Cluster, std::path::PathBuf) {
    let cluster = Setup::of(1).start();
    let mut client = cluster.members[0].client().persistent();
    for number in 0..6 {
        let key = format!("/v1/keys/large/{number}");
        let value = vec![b'0' + number; 1 << 20];
        client.put(&key, &value).expect("an answer").expect(201);
    }
    let folder = cluster.dir().join("backups");
    fs::create_dir(&folder).expect("there is room");
    (cluster, folder)
}

/// What becomes of an answer that is longer than a relay lets through.
#[derive(Clone, Copy)]
enum Then {
    CutOff,
    Stalled,
}

/// A relay between clients and the member that lets so many bytes of a connection come back; its URL. Its threads end
/// with their connections, and the last one with the test.
fn relay(cluster: &Cluster, most: u64, then: Then) -> String {
    let member = cluster.members[0].client;
    let listener = TcpListener::bind((member.ip(), 0)).expect("an address is free");
    let url = format!(
        "http://{}",
        listener.local_addr().expect("it has an address")
    );
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(member).expect("the member listens");
            let both = |stream: &TcpStream| stream.try_clone().expect("it has another handle");
            let (mut up, mut down) = (both(&client), both(&client));
            let (mut asked, answered) = (both(&server), both(&server));
            std::thread::spawn(move || io::copy(&mut up, &mut asked));
            std::thread::spawn(move || {
                let carried = io::copy(&mut answered.take(most), &mut down);
                match (then, carried) {
                    // Whoever hangs up ends it.
                    (Then::Stalled, Ok(carried)) if carried == most => {
                        let _ = down.read(&mut [0]);
                    }
                    _ => {
                        let _ = down.shutdown(Shutdown::Both);
                    }
                }
            });
        }
    });
    url
}

fn backed_up(cluster: &Cluster, file: &Path, more: &[&str]) -> Ran {
    let file = file.to_str().expect("paths of tests are UTF-8");
    ran(cluster, [&["backup", file][..], more].concat())
}

#[test]
fn a_backup_is_written_whole_for_its_owner_alone_and_replaces_nothing_unless_told_to() {
    let (cluster, folder) = filled();
    let file = folder.join("monday");
    let made = backed_up(&cluster, &file, &["-o", "json"]).expect(0).json();
    let report = verified(&file);
    for (field, expected) in [
        ("cluster", &report["cluster"]),
        ("revision", &report["state"]["revision"]),
        ("member", &report["member"]),
    ] {
        assert_eq!(&made[field], expected, "{made} {report}");
    }
    let metadata = fs::metadata(&file).expect("it is there");
    assert_eq!(made["bytes"].as_u64(), Some(metadata.len()));
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let before = fs::read(&file).expect("it is there");

    ran(&cluster, ["put", "one-more", "1"]).expect(0);
    let refused = backed_up(&cluster, &file, &[]).expect(64);
    for part in ["monday is there already", "--force"] {
        assert!(refused.stderr.contains(part), "{refused:?}");
    }
    assert_eq!(fs::read(&file).expect("it is there"), before);
    let told = backed_up(&cluster, &file, &["--force"]).expect(0);
    assert!(told.stdout.contains("at revision 8"), "{told:?}");
    assert_eq!(verified(&file)["state"]["keys"], 7);

    backed_up(&cluster, &folder, &[]).expect(64);
    let nowhere = backed_up(&cluster, &folder.join("no/such/folder"), &[]).expect(1);
    assert!(nowhere.stderr.contains("no/such"), "{nowhere:?}");
    assert_eq!(names(&folder), ["monday"]);
}

#[test]
fn a_backup_goes_to_stdout_byte_for_byte_and_a_local_one_needs_no_leader() {
    let (cluster, folder) = filled();
    let output = at(&cluster, ["backup", "-"]).output().expect("it runs");
    let file = folder.join("piped");
    fs::write(&file, &output.stdout).expect("there is room");
    assert_eq!(verified(&file)["state"]["keys"], 6);
    assert!(String::from_utf8_lossy(&output.stderr).contains("revision 7"));

    let three = Setup::of(3).start();
    three.members[1].kill();
    three.members[2].kill();
    let member = &three.members[0];
    wait::until("it has lost its leader", SOON, || {
        (!member.is_ready()).then_some(())
    });
    let url = format!("http://{}", member.client);
    let alone = |more: &[&str]| {
        let file = folder.join("alone");
        let file = file.to_str().expect("paths of tests are UTF-8");
        run(&mut tenure(
            [&["--endpoints", &url, "backup", file][..], more].concat(),
        ))
    };
    let refused = alone(&[]).expect(69);
    assert!(refused.stderr.contains("no-leader"), "{refused:?}");
    alone(&["--local"]).expect(0);
    verified(&folder.join("alone"));
}

#[test]
fn of_a_backup_that_is_cut_off_or_stopped_nothing_is_left() {
    let (cluster, folder) = filled();
    let url = relay(&cluster, 2 << 20, Then::CutOff);
    let file = folder.join("cut");
    let file = file.to_str().expect("paths of tests are UTF-8");
    let cut = run(&mut tenure(["--endpoints", &url, "backup", file])).expect(1);
    for part in ["was cut off after", "try again"] {
        assert!(cut.stderr.contains(part), "{cut:?}");
    }
    assert_eq!(names(&folder), [""; 0]);

    let url = relay(&cluster, 2 << 20, Then::Stalled);
    let log = cluster.dir().join("stopped.log");
    let mut command = tenure(["--endpoints", &url, "backup", file]);
    let mut stopped = Process::start(&mut command, &log);
    wait::until("a part of it has come", SOON, || {
        let part = names(&folder).pop()?;
        let length = fs::metadata(folder.join(part)).ok()?.len();
        (1 << 20 < length).then_some(())
    });
    stopped.signal(Signal::TERM);
    assert_eq!(stopped.exit_code(SOON), 143);
    assert!(
        stopped.output().contains("no file was made"),
        "{}",
        stopped.output()
    );
    assert_eq!(names(&folder), [""; 0]);
    // A part that was written to stdout is known to be one.
    let whole = fs::read(backup(&cluster, 0, "whole")).expect("it is there");
    let half = cluster.dir().join("half");
    fs::write(&half, &whole[..whole.len() / 2]).expect("there is room");
    let half = half.to_str().expect("paths of tests are UTF-8");
    tenured(&["verify", half]).expect(3).telling(&["cut short"]);
}
