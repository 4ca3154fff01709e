//! State versions: members are replaced by newer programs and by older ones while clients go on, and who meets what is too
//! new for it says so.
//!
//! The older program is this one, held at version 1 by its settings; where `TENURE_PREVIOUS_DAEMON` names one of before there
//! was access control, also that one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::process::Signal;
use serde_json::{Value, json};
use tenure_raft::{
    Configuration, Entry, LogIndex, MemberInfo, Payload, SnapshotMeta, Stamp, Term, Write,
};
use tenure_state::{Batch, Genesis, Origin, Principal, Request, Row, State, Table, encode_batch};
use tenured::storage::{Backups, ClusterId, DataDir, form, open};
use tokio::runtime::Builder;

use crate::common::offline::{backup, restore, shown, tenured, verified};
use crate::common::{
    Client, Cluster, ELECTION_TIMEOUT, Process, SOON, Setup, acquire, grant, machine, wait,
};

/// While a member that may lead is replaced, no write waits longer than this.
const LEADER_CHANGE: Duration = Duration::from_secs(8);
const AT_MOST: &str = "state-version-at-most";

/// What a member is started with.
#[derive(Clone, Debug)]
enum Program {
    /// This one.
    Newest,
    /// This one, held back.
    Held,
    /// Another one.
    Previous(PathBuf),
}

impl Program {
    fn start(&self, cluster: &mut Cluster, member: usize) {
        let member = &mut cluster.members[member];
        member.settings.retain(|(flag, _)| *flag != AT_MOST);
        match self {
            Program::Newest => member.start(),
            Program::Held => {
                member.settings.push((AT_MOST, "1".to_owned()));
                member.start();
            }
            Program::Previous(path) => {
                member.start_as(Command::new(path).args(member.arguments()));
                member.with(|process| process.wait_for_output("ready: http", SOON));
            }
        }
    }

    fn cluster(&self) -> Cluster {
        let mut cluster = Setup::of(3).prepare();
        for member in 0..3 {
            self.start(&mut cluster, member);
        }
        cluster.wait_until_ready();
        cluster
    }

    /// Ends a member as a service manager does, and starts it with this program over its data.
    fn replace(&self, cluster: &mut Cluster, member: usize) {
        cluster.members[member].signal(Signal::TERM);
        assert_eq!(cluster.members[member].exit_code(SOON), 0);
        self.start(cluster, member);
        cluster.members[member].wait_until_ready();
        // As an operator waits: the next one must not be needed for what this one lacks.
        let leader = cluster.leader();
        let behind = |status: &Value| Some(status["applied_index"].as_u64()? + 50);
        wait::until("the member has caught up", SOON, || {
            let target = cluster.members[leader].status()?["commit_index"].as_u64()?;
            let here = behind(&cluster.members[member].status()?)?;
            (target <= here).then_some(())
        });
    }
}

/// Clients that write and hold locks until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<Written>>,
    holders: Vec<JoinHandle<u64>>,
}

/// What a writer met.
#[derive(Debug, Default)]
struct Written {
    writes: u64,
    /// Tries that say of themselves that nothing was done, or that reached nobody.
    tries_again: u64,
    longest: Duration,
    last: Option<(String, String)>,
}

impl Load {
    fn begin(cluster: &Cluster) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let addresses: Vec<SocketAddr> = cluster.members.iter().map(|m| m.client).collect();
        let writer = |who: usize| {
            let (stop, addresses) = (Arc::clone(&stop), addresses.clone());
            std::thread::spawn(move || write_until(&stop, &addresses, who))
        };
        let holder = |who: usize| {
            let (stop, addresses) = (Arc::clone(&stop), addresses.clone());
            std::thread::spawn(move || hold_until(&stop, &addresses, who))
        };
        Load {
            writers: (0..4).map(writer).collect(),
            holders: (0..2).map(holder).collect(),
            stop,
        }
    }

    /// Every write was done, in no longer than a leader change takes, and no lock was lost.
    fn end(self, cluster: &Cluster) {
        self.stop.store(true, Ordering::SeqCst);
        let ended = |writer: JoinHandle<Written>| writer.join().expect("every write is done");
        let written: Vec<Written> = self.writers.into_iter().map(ended).collect();
        let renewals: u64 = self
            .holders
            .into_iter()
            .map(|holder| holder.join().expect("no lock is lost"))
            .sum();
        println!("{written:?}, {renewals} renewals");
        assert!(written.iter().all(|of| 20 < of.writes), "{written:?}");
        assert!(
            written.iter().all(|of| of.longest < LEADER_CHANGE),
            "{written:?}"
        );
        for (key, value) in written.into_iter().filter_map(|of| of.last) {
            let path = format!("/v1/keys/{key}");
            let answer = cluster.persist("it is read", |client| client.get(&path));
            assert_eq!(answer.expect(200).text(), value);
        }
    }
}

/// Calls members in turn until one does what is asked, or says something that is not passing.
fn persist(
    addresses: &[SocketAddr],
    turn: &mut usize,
    tries_again: &mut u64,
    mut call: impl FnMut(&mut Client) -> std::io::Result<crate::common::Answer>,
) -> crate::common::Answer {
    loop {
        let mut client = Client::new(addresses[*turn % addresses.len()])
            .with_patience(ELECTION_TIMEOUT * 12)
            .persistent();
        match call(&mut client) {
            // It says that nothing was done: there is no leader just now, or the member stops.
            Ok(answer) if answer.status == 503 && answer.not_applied() => {}
            Ok(answer) => return answer,
            // The member is down, or has just ended.
            Err(_) => {}
        }
        *tries_again += 1;
        *turn += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn write_until(stop: &AtomicBool, addresses: &[SocketAddr], who: usize) -> Written {
    let mut written = Written::default();
    let mut turn = who;
    while !stop.load(Ordering::SeqCst) {
        let number = written.writes;
        let (key, value) = (
            format!("load/{who}/{}", number % 100),
            format!("{who}-{number}"),
        );
        let (path, began) = (format!("/v1/keys/{key}"), Instant::now());
        let answer = persist(addresses, &mut turn, &mut written.tries_again, |client| {
            client.put(&path, value.as_bytes())
        });
        // Nothing else may come of a put: neither a failure nor doubt.
        assert!([200, 201].contains(&answer.status), "{}", answer.text());
        written.longest = written.longest.max(began.elapsed());
        written.writes += 1;
        written.last = Some((key, value));
        std::thread::sleep(Duration::from_millis(5));
    }
    written
}

/// Holds a lock whose lease would end within a leader change or two, and answers how often it was renewed.
fn hold_until(stop: &AtomicBool, addresses: &[SocketAddr], who: usize) -> u64 {
    let (mut turn, mut again, mut renewals) = (who, 0, 0);
    let mut ask = |path: &str, body: Value| {
        persist(addresses, &mut turn, &mut again, |client| {
            client.post(path, &body)
        })
    };
    let lease = ask("/v1/leases", json!({"ttl_ms": 15_000}))
        .expect(201)
        .str("lease");
    let lock = format!("/v1/locks/held-{who}");
    let fence = ask(&lock, json!({"lease": lease})).expect(200).u64("fence");
    while !stop.load(Ordering::SeqCst) {
        ask(&format!("/v1/leases/{lease}/renew"), Value::Null).expect(200);
        renewals += 1;
        std::thread::sleep(Duration::from_millis(300));
    }
    let held = ask(&lock, json!({"lease": lease})).expect(200);
    assert_eq!(held.u64("fence"), fence, "it was held all the time");
    renewals
}

fn version(cluster: &Cluster, member: usize) -> Option<(u64, u64)> {
    let status = cluster.members[member].status()?;
    let number = |field: &str| status[field].as_u64();
    Some((number("state_version")?, number("state_version_at_most")?))
}

/// Asks for a change of access at a member of this program.
fn put_role(cluster: &Cluster, member: usize) -> crate::common::Answer {
    let mut client = cluster.members[member].client();
    let role = json!({"grants": [{"verbs": ["read"], "resource": "keys/"}]});
    client
        .json("PUT", "/v1/roles/readers", &role)
        .expect("the member answers")
}

/// It is refused, by a sentence that names those that hold the cluster back and no others; where one of them leads and knows
/// nothing of versions, that one.
fn check_refused(cluster: &Cluster, member: usize, holding_back: &[usize]) {
    wait::until("who holds back is known", SOON, || {
        let refused = put_role(cluster, member);
        if refused.status == 503 {
            return None;
        }
        assert_eq!(
            (refused.status, refused.code()),
            (409, "access-conflict".to_owned())
        );
        let detail = refused.str("detail");
        let parts = ["state version 2", "nothing was changed"];
        assert!(parts.iter().all(|part| detail.contains(part)), "{detail}");
        let is_named = |number: &usize| {
            let name = format!("{} (", cluster.members[*number].name);
            detail.contains(&name)
        };
        let named: Vec<usize> = (0..3).filter(is_named).collect();
        let of_leader = detail.contains("the leader, ");
        // A member that has just been started is asked within half a second.
        let fits = match of_leader {
            true => named.iter().all(|number| holding_back.contains(number)),
            false => named == holding_back,
        };
        (fits && !named.is_empty()).then_some(())
    });
}

fn wait_for_version(cluster: &Cluster, wanted: u64) {
    wait::until("all follow the version", SOON, || {
        let all = (0..cluster.members.len()).map(|member| version(cluster, member));
        all.into_iter()
            .all(|version| version.is_some_and(|(in_force, _)| in_force == wanted))
            .then_some(())
    });
}

/// Replaces all members one after the other, under load.
fn roll_forward(from: &Program) {
    let mut cluster = from.cluster();
    let mut client = cluster.members[0].client();
    let lease = grant(&mut client, 600_000);
    let fence = acquire(&mut client, "before", &lease);
    let load = Load::begin(&cluster);
    for member in 0..3 {
        Program::Newest.replace(&mut cluster, member);
        if member < 2 {
            assert_eq!(version(&cluster, member), Some((1, 2)));
            let behind: Vec<usize> = (member + 1..3).collect();
            check_refused(&cluster, member, &behind);
            // Longer than the leader takes to raise the version of a cluster in which all can.
            wait::pass(Duration::from_secs(3), || false);
            assert_eq!(version(&cluster, member), Some((1, 2)), "one says 1");
        }
    }
    wait_for_version(&cluster, 2);
    put_role(&cluster, 1).expect(200);
    load.end(&cluster);
    cluster.wait_until_equal();
    let mut client = cluster.members[2].client();
    let lock = |client: &mut Client, name: &str| {
        let answer = client.get(&format!("/v1/locks/{name}")).expect("an answer");
        answer.expect(200).json()["holders"][0].clone()
    };
    let before = lock(&mut client, "before");
    assert_eq!(before["fence"], fence);
    assert!(before["held_ms"].is_null(), "{before}");
    acquire(&mut client, "after", &lease);
    assert!(
        lock(&mut client, "after")["held_ms"].is_u64(),
        "it is known now"
    );
    // All of it comes back from the disks.
    cluster.kill_all();
    for member in &cluster.members {
        member.start();
    }
    cluster.wait_until_ready();
    cluster.wait_until_equal();
    assert_eq!(version(&cluster, 0), Some((2, 2)));
    let kept = cluster.members[0].client().get("/v1/roles/readers");
    kept.expect("an answer").expect(200);
}

/// Two members forward, and back again, under load.
fn roll_back(from: &Program) {
    let mut cluster = from.cluster();
    let load = Load::begin(&cluster);
    for member in [0, 1] {
        Program::Newest.replace(&mut cluster, member);
        assert_eq!(version(&cluster, member), Some((1, 2)));
    }
    check_refused(&cluster, 0, &[2]);
    let forward = backup(&cluster, 1, "forward.backup");
    for member in [1, 0] {
        from.replace(&mut cluster, member);
    }
    load.end(&cluster);
    cluster.wait_until_equal();
    cluster.kill_all();
    for member in &cluster.members {
        let report = verified(&member.data_dir);
        let versions = (
            &report["state"]["state_version"],
            &report["log"]["state_version"],
        );
        assert_eq!(versions, (&json!(1), &json!(1)), "{report}");
    }
    // What the older program wrote is restored by this one, and raised where it may be.
    assert_eq!(verified(&forward)["state"]["state_version"], 1);
    let new = Setup::of(1).prepare();
    restore(&forward, &new.members[0]).expect(0);
    new.members[0].start();
    new.members[0].wait_until_ready();
    wait_for_version(&new, 2);
}

#[test]
fn members_that_are_replaced_one_by_one_fail_no_write_and_lose_no_lock_and_the_last_one_raises_the_version()
 {
    let _machine = machine::half();
    roll_forward(&Program::Held);
}

#[test]
fn two_members_that_went_forward_go_back_while_the_third_holds_the_cluster_back() {
    let _machine = machine::half();
    roll_back(&Program::Held);
}

/// The program of before there was access control, where there is one.
fn previous(test: &str) -> Option<Program> {
    match std::env::var_os("TENURE_PREVIOUS_DAEMON") {
        Some(path) => Some(Program::Previous(path.into())),
        None => {
            eprintln!(
                "skipped: {test}: TENURE_PREVIOUS_DAEMON names no program of the previous state version"
            );
            None
        }
    }
}

#[test]
fn members_of_the_previous_program_are_replaced_one_by_one() {
    let Some(previous) = previous("members_of_the_previous_program_are_replaced_one_by_one") else {
        return;
    };
    let _machine = machine::half();
    roll_forward(&previous);
}

#[test]
fn members_go_back_to_the_previous_program() {
    let Some(previous) = previous("members_go_back_to_the_previous_program") else {
        return;
    };
    let _machine = machine::half();
    roll_back(&previous);
}

#[test]
fn a_new_cluster_begins_with_what_all_its_members_can_follow_and_one_that_is_held_back_cannot_come_later()
 {
    let _machine = machine::shared();
    let mut cluster = Setup::of(3).prepare();
    for (member, program) in [Program::Newest, Program::Held, Program::Newest]
        .iter()
        .enumerate()
    {
        program.start(&mut cluster, member);
    }
    cluster.wait_until_ready();
    check_refused(&cluster, 0, &[1]);
    let leader = cluster.leader();
    if leader != 1 {
        wait::until("the leader warns", SOON, || {
            let warnings = cluster.members[leader].status()?["warnings"].to_string();
            (warnings.contains("state version") && warnings.contains("n2 (")).then_some(())
        });
    }
    let metrics = cluster.members[0]
        .client()
        .get("/metrics")
        .expect("an answer")
        .text();
    assert!(metrics.contains("tenure_state_version 1"), "{metrics}");
    assert!(
        metrics.contains("tenure_state_version_at_most 2"),
        "{metrics}"
    );
    Program::Newest.replace(&mut cluster, 1);
    wait_for_version(&cluster, 2);

    // One that was there is not started with less, and says what to do.
    cluster.members[2].kill();
    cluster.members[2].settings.push((AT_MOST, "1".to_owned()));
    let command = &mut Process::tenured(cluster.members[2].arguments());
    cluster.members[2].start_as(command);
    let output = || cluster.members[2].output();
    wait::until("it has said why", SOON, || {
        output().contains("state version 2").then_some(())
    });
    let told = output();
    assert!(told.contains("state_version_at_most"), "{told}");
    assert_eq!(cluster.members[2].exit_code(SOON), 3);

    // Nor is one added that cannot follow.
    let newcomer = cluster.newcomer();
    cluster.members[newcomer]
        .settings
        .retain(|(flag, _)| *flag != AT_MOST);
    cluster.members[newcomer]
        .settings
        .push((AT_MOST, "1".to_owned()));
    cluster.members[newcomer].start();
    let asked = json!({
        "name": cluster.members[newcomer].name,
        "peer_url": format!("http://{}", cluster.members[newcomer].peer),
        "client_url": format!("http://{}", cluster.members[newcomer].client),
    });
    let refused = wait::until("it is refused", SOON, || {
        let mut client = cluster.members[0].client();
        let answer = client.post("/v1/cluster/members", &asked).ok()?;
        (answer.status == 409 && answer.code() == "membership-unsafe").then_some(answer)
    });
    let detail = refused.str("detail");
    let parts = [
        "up to state version 1",
        "follows 2",
        "state_version_at_most",
    ];
    assert!(parts.iter().all(|part| detail.contains(part)), "{detail}");
}

/// The files of a member that is alone in its cluster, with these rows and entries.
fn founded(path: &Path, rows: &[Row], digest: u128, entries: Vec<Entry>) {
    let dir = DataDir::open(path, "n1").expect("a directory");
    let info = MemberInfo {
        name: "n1".to_owned(),
        ..MemberInfo::default()
    };
    let configuration = Configuration {
        voters: [dir.member()].into(),
        info: [(dir.member(), info)].into(),
        ..Configuration::default()
    };
    let base = SnapshotMeta::genesis(configuration);
    form(&dir, ClusterId(7), &base, digest, rows, &[]).expect("a member");
    if !entries.is_empty() {
        let mut opened = open(&dir).expect("it opens").expect("formed");
        let write = Write {
            append: entries,
            ..Write::default()
        };
        opened.log.write(&[write]).expect("it is written");
    }
}

/// The rows of an empty state, with these rules.
fn rows_of_rules(version: u64) -> (Vec<Row>, u128) {
    let state = State::genesis(Genesis::default());
    let rows = state.rows().map(|mut row| {
        if (row.table, &row.key[..]) == (Table::Meta, b"rules") {
            row.value = Bytes::copy_from_slice(&version.to_be_bytes());
        }
        row
    });
    (rows.collect(), state.digest())
}

/// Both a start and `tenured verify` end with 3 and say what was found, what is known and what to do.
fn check_too_new(cluster: &Cluster) {
    let member = &cluster.members[0];
    let parts = ["version 3", "2", "newer program"];
    let ran = tenured(&["verify", shown(&member.data_dir)]);
    ran.expect(3).telling(&parts);
    member.start_as(&mut Process::tenured(member.arguments()));
    wait::until("it has said why", SOON, || {
        member.output().contains("version 3").then_some(())
    });
    let told = member.output();
    assert!(parts.iter().all(|part| told.contains(part)), "{told}");
    assert_eq!(member.exit_code(SOON), 3);
}

#[test]
fn a_state_of_newer_rules_is_left_to_a_newer_program() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).prepare();
    let (rows, digest) = rows_of_rules(3);
    founded(&cluster.members[0].data_dir, &rows, digest, Vec::new());
    check_too_new(&cluster);
}

/// A backup of a member alone whose state has these rows, as its own program would make it.
fn backup_of(cluster: &Cluster, rows: &[Row], digest: u128) -> PathBuf {
    let path = &cluster.members[0].data_dir;
    founded(path, rows, digest, Vec::new());
    let dir = DataDir::open(path, "n1").expect("a directory");
    let opened = open(&dir).expect("it opens").expect("it was formed");
    let origin = tenured::storage::Origin {
        member: dir.member(),
        name: "n1".to_owned(),
        program: "a later one".to_owned(),
        unix_ms: 0,
    };
    let (state, snapshots) = (path.join("state.redb"), path.join("snapshots"));
    let backups = Backups::new(&opened.state, &state, &snapshots, ClusterId(7), origin);
    let runtime = Builder::new_current_thread().build();
    let making = backups.make(LogIndex(1), || false);
    let made = runtime.expect("a runtime").block_on(making);
    let made = made.expect("it can be made");
    let bytes = made.piece(0, made.size).expect("it can be read");
    let file = cluster.dir().join("newer.backup");
    std::fs::write(&file, bytes).expect("there is room for it");
    file
}

#[test]
fn a_backup_of_newer_rules_is_left_to_a_newer_program() {
    let _machine = machine::shared();
    let (cluster, new) = (Setup::of(1).prepare(), Setup::of(1).prepare());
    let (rows, digest) = rows_of_rules(3);
    let file = backup_of(&cluster, &rows, digest);
    let parts = ["state version 3", "up to 2", "newer program"];
    let ran = tenured(&["verify", shown(&file)]);
    ran.expect(3).telling(&parts);
    restore(&file, &new.members[0]).expect(3).telling(&parts);
    let made = new.members[0].data_dir.exists();
    assert!(!made, "nothing was made of it");
    // The same of the rules that are known is taken.
    let (known, (rows, digest)) = (Setup::of(1).prepare(), rows_of_rules(2));
    let file = backup_of(&known, &rows, digest);
    assert_eq!(verified(&file)["state"]["state_version"], 2);
}

#[test]
fn an_entry_of_newer_rules_is_left_to_a_newer_program() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).prepare();
    let state = State::genesis(Genesis::default());
    let rows: Vec<Row> = state.rows().collect();
    let raise = Request {
        origin: Origin {
            member: 1,
            token: 0,
        },
        principal: Principal::anonymous(),
        idempotency: None,
        command: tenure_state::Command::RaiseVersion { to: 3 },
    };
    let batch = Batch {
        requests: vec![raise],
        ..Batch::default()
    };
    let entry = Entry {
        index: LogIndex(2),
        term: Term(1),
        stamp: Stamp(1),
        payload: Payload::Command(encode_batch(&batch)),
    };
    founded(
        &cluster.members[0].data_dir,
        &rows,
        state.digest(),
        vec![entry],
    );
    check_too_new(&cluster);
}
