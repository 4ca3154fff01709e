//! The first forming of a cluster, wrong usage, and data that is damaged or not ours.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::common::{Cluster, Process, SOON, Setup, machine, wait};

#[test]
fn members_form_one_cluster_in_whatever_order_they_start_and_however_late() {
    let _machine = machine::shared();
    for order in [[2, 0, 1], [1, 2, 0]] {
        let cluster = Setup::of(3).prepare();
        cluster.members[order[0]].start();
        cluster.members[order[1]].start();
        let missing = cluster.members[order[2]].name.clone();
        wait::until("the others say who is missing", SOON, || {
            let named = |number: usize| cluster.members[number].output().contains(&missing);
            (named(order[0]) && named(order[1])).then_some(())
        });
        assert!(
            !cluster.members[order[0]].is_ready(),
            "two of three must not form a cluster"
        );
        cluster.members[order[2]].start();
        cluster.wait_until_ready();
        let ids: Vec<_> = cluster
            .members
            .iter()
            .filter_map(|member| Some(member.status()?["cluster"].clone()))
            .collect();
        assert!(
            ids.len() == 3 && ids.iter().all(|id| *id == ids[0]),
            "{ids:?}"
        );
    }
}

#[test]
fn a_member_with_another_list_of_members_is_told_and_nothing_is_formed() {
    let _machine = machine::shared();
    let mut cluster = Setup::of(3).prepare();
    cluster.members[2].initial_members.remove(0);
    for member in &cluster.members {
        member.start();
    }
    wait::until("a member says that the lists differ", SOON, || {
        cluster
            .members
            .iter()
            .any(|member| member.output().contains("other initial members"))
            .then_some(())
    });
    assert!(cluster.members.iter().all(|member| !member.is_ready()));
}

#[test]
fn a_new_cluster_has_the_limits_of_the_one_that_forms_it_and_keeps_them() {
    const BYTES: [usize; 3] = [2048, 4096, 8192];
    let _machine = machine::shared();
    let mut cluster = Setup::of(3).prepare();
    for (member, bytes) in cluster.members.iter_mut().zip(BYTES) {
        member.settings = vec![("limit", format!("value_bytes={bytes}"))];
    }
    let start_and_check = |cluster: &Cluster, told: &str| {
        for member in &cluster.members {
            member.start();
        }
        cluster.wait_until_ready();
        for member in &cluster.members {
            let put = |bytes| {
                let answer = member.client().put("/v1/keys/key", &vec![b'x'; bytes]);
                answer.expect("the member answers")
            };
            let refused = put(BYTES[0] + 1).expect(413);
            assert!(
                refused.text().contains("value_bytes is 2048"),
                "{}",
                refused.text()
            );
            assert!([200, 201].contains(&put(BYTES[0]).status));
        }
        let output = cluster.members[1].output();
        assert!(output.contains(told), "{told:?} is in: {output}");
        cluster.wait_until_equal();
    };
    start_and_check(&cluster, "value_bytes 2048, as n1 was told");
    cluster.kill_all();
    start_and_check(
        &cluster,
        "value_bytes is 2048 in this cluster; the setting 4096",
    );
}

#[test]
fn a_wiped_member_takes_no_part_and_says_that_it_must_be_replaced() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let wiped = cluster.follower();
    let id = cluster.members[wiped].status().expect("it answers")["member"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    cluster.members[wiped].kill();
    fs::remove_dir_all(&cluster.members[wiped].data_dir).expect("the data can be removed");
    cluster.members[wiped].start_as(&mut Process::tenured(cluster.members[wiped].arguments()));
    wait::until("it says by which id it is known", SOON, || {
        let output = cluster.members[wiped].output();
        (output.contains(&id) && output.contains("replace")).then_some(())
    });
    assert!(!cluster.members[wiped].is_ready());
    // It must not vote: with one of the other two gone there is no quorum.
    let other = (0..3)
        .find(|number| *number != wiped)
        .expect("there are three");
    cluster.members[other].kill();
    let last = (0..3)
        .find(|number| ![wiped, other].contains(number))
        .expect("there are three");
    wait::until("the last member has lost its quorum", SOON, || {
        (!cluster.members[last].is_ready()).then_some(())
    });
    let served = wait::found(Duration::from_secs(3), || {
        cluster.members[last].is_ready().then_some(())
    });
    assert!(served.is_none(), "the wiped member voted");
}

/// Runs the program, which must end by itself, and answers its exit code and what it wrote.
fn run(arguments: &[&str], log: &Path) -> (i32, String) {
    let mut process = Process::start(&mut Process::tenured(arguments), log);
    (process.exit_code(SOON), process.output())
}

#[test]
fn wrong_usage_and_configuration_exit_with_2_and_name_what_is_wrong() {
    let _machine = machine::shared();
    let dir = tempfile::tempdir().expect("there is room for a directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(path("unknown.toml"), "data_dri = \"/x\"\n").expect("a file can be written");
    fs::write(path("broken.toml"), "name = \n").expect("a file can be written");
    let (data, unknown, broken, absent) = (
        path("data"),
        path("unknown.toml"),
        path("broken.toml"),
        path("absent.toml"),
    );
    let table: &[(&[&str], &str)] = &[
        (&[], "Usage"),
        (&["nonsense"], "nonsense"),
        (&["serve", "--nonsense"], "--nonsense"),
        (&["serve"], "data_dir"),
        (&["serve", "--config", &unknown], "data_dri"),
        (&["serve", "--config", &broken], "broken.toml"),
        (&["serve", "--config", &absent], "absent.toml"),
        (
            &["serve", "--data-dir", &data, "--election-timeout-ms", "10"],
            "election_timeout_ms",
        ),
        (
            &["serve", "--data-dir", &data, "--client-listen", "nonsense"],
            "client_listen",
        ),
        (&["serve", "--data-dir", &data], "initial"),
        (
            &["serve", "--data-dir", &data, "--limit", "keys=0"],
            "1 to 1000000000",
        ),
        (
            &["serve", "--data-dir", &data, "--max-waits", "0"],
            "max_waits",
        ),
        (&["dev", "--nodes", "0"], "nodes"),
        (&["dev", "--limit", "moons=1"], "moons"),
    ];
    for (arguments, named) in table {
        let (code, output) = run(arguments, &dir.path().join("log"));
        assert_eq!(code, 2, "{arguments:?}: {output}");
        assert!(
            output.contains(named),
            "{arguments:?} names {named}: {output}"
        );
    }
}

#[test]
fn a_token_that_others_may_read_is_warned_of_and_what_is_no_file_ends_the_start() {
    let _machine = machine::shared();
    let dir = tempfile::tempdir().expect("there is room for a directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let token = path("token");
    machine::run("mkfifo", &[&path("pipe")]);
    let (code, output) = run(&["token", "--out", &token], &dir.path().join("log"));
    assert_eq!(code, 0, "{output}");
    let secret = fs::read_to_string(&token).expect("it was made");
    let secret = secret
        .trim_end()
        .rsplit('.')
        .next()
        .expect("it has a secret");
    let mut cluster = Setup::of(1).prepare();
    // A pipe into which nobody writes, and a directory.
    for given in [path("pipe"), path("")] {
        cluster.members[0].settings = vec![("root-token-file", given.clone())];
        let member = &cluster.members[0];
        member.start_as(&mut Process::tenured(member.arguments()));
        let named = format!("root_token_file is {given}, which cannot be read: it is no file");
        member.with(|process| process.wait_for_output(&named, SOON));
        assert_eq!(member.exit_code(SOON), 2);
    }
    cluster.members[0].settings = vec![("root-token-file", token.clone())];
    let warned = format!("token readable by everybody: root_token_file {token}");
    // At each start, also once the cluster is formed.
    for (mode, is_open) in [(0o600, false), (0o644, true), (0o640, false)] {
        fs::set_permissions(&token, fs::Permissions::from_mode(mode)).expect("it is ours");
        let member = &cluster.members[0];
        member.start_as(&mut Process::tenured(member.arguments()));
        member.with(|process| process.wait_for_output("ready: http://", SOON));
        let output = member.output();
        assert_eq!(output.contains(&warned), is_open, "{mode:o}: {output}");
        assert!(!output.contains(secret), "{output}");
        member.kill();
    }
    fs::set_permissions(&token, fs::Permissions::from_mode(0o604)).expect("it is ours");
    let arguments = [
        "serve",
        "--data-dir",
        &path("data"),
        "--join",
        "http://127.0.0.1:9",
    ];
    let arguments = [
        &arguments[..],
        &["--name", "n9", "--join-token-file", &token],
    ]
    .concat();
    let addresses = [
        "--client-listen",
        "127.0.0.1:0",
        "--peer-listen",
        "127.0.0.1:0",
    ];
    let arguments = [&arguments[..], &addresses].concat();
    let mut joining = Process::start(&mut Process::tenured(&arguments), &dir.path().join("log"));
    let warned = format!("token readable by everybody: join_token_file {token}");
    joining.wait_for_output(&warned, SOON);
}

/// The files of a single member that has been used and killed.
fn used_data() -> Cluster {
    let cluster = Setup::of(1).start();
    let mut client = cluster.members[0].client();
    for number in 0..200 {
        client
            .put(&format!("/v1/keys/k{number}"), &[b'v'; 300])
            .expect("the member answers")
            .expect(201);
    }
    // A clean end writes all of it to both files.
    cluster.members[0].signal(Signal::TERM);
    assert_eq!(cluster.members[0].exit_code(SOON), 0);
    cluster
}

/// Starts the member, which must refuse its data with 3 and a sentence that names the file.
fn refuses(cluster: &Cluster, file: &str) {
    let member = &cluster.members[0];
    member.start_as(&mut Process::tenured(member.arguments()));
    wait::until("it refuses its data", SOON, || {
        (!member.is_running()).then_some(())
    });
    let output = member.output();
    assert_eq!(member.exit_code(SOON), 3, "{output}");
    assert!(output.contains(file), "the output names {file}: {output}");
    assert!(
        !output.contains("RUST_BACKTRACE"),
        "a sentence, not a panic: {output}"
    );
}

#[test]
fn flipped_bytes_in_either_file_exit_with_3() {
    let _machine = machine::shared();
    for name in ["log.redb", "state.redb"] {
        let cluster = used_data();
        let path = cluster.members[0].data_dir.join(name);
        let bytes = fs::read(&path).expect("the file can be read");
        let spots: Vec<usize> = bytes
            .windows(100)
            .enumerate()
            .filter(|(_, w)| *w == [b'v'; 100])
            .map(|(at, _)| at)
            .collect();
        assert!(
            !spots.is_empty(),
            "{name} holds the values that were written"
        );
        let file = fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .expect("the file can be opened");
        for spot in spots {
            file.write_all_at(b"w", spot as u64)
                .expect("the file can be written");
        }
        refuses(&cluster, name);
    }
}

#[test]
fn a_file_of_another_cluster_or_of_nobody_exits_with_3() {
    let _machine = machine::shared();
    let (ours, theirs) = (used_data(), used_data());
    let file = |cluster: &Cluster, name: &str| cluster.members[0].data_dir.join(name);
    for name in ["log.redb", "state.redb"] {
        let kept = ours.dir().join(name);
        fs::copy(file(&ours, name), &kept).expect("the file can be copied");
        fs::copy(file(&theirs, name), file(&ours, name)).expect("the file can be copied");
        refuses(&ours, name);
        fs::write(file(&ours, name), b"not a database").expect("the file can be written");
        refuses(&ours, name);
        fs::write(file(&ours, name), b"").expect("the file can be written");
        refuses(&ours, name);
        fs::copy(&kept, file(&ours, name)).expect("the file can be copied");
    }
    ours.members[0].start();
    ours.wait_until_ready();
}

#[test]
fn a_data_directory_serves_one_process_at_a_time() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let data_dir = cluster.members[0].data_dir.clone();
    let other = Setup::of(1).with_data_dirs(vec![data_dir]).prepare();
    let mut second = Process::start(
        &mut Process::tenured(other.members[0].arguments()),
        &cluster.dir().join("second"),
    );
    let code = second.exit_code(SOON);
    let output = second.output();
    assert!([1, 3].contains(&code), "{code}: {output}");
    assert!(
        output.contains(&cluster.members[0].data_dir.display().to_string()),
        "{output}"
    );
    assert!(cluster.members[0].is_ready(), "the first goes on");
}
