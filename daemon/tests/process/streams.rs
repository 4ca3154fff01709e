//! Watches as streams, and many of them.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;

use crate::common::events::{EventStream, Message};
use crate::common::{Cluster, SOON, Setup, machine, wait};

/// A message that is not there after this long is not on its way.
const QUIET: Duration = Duration::from_millis(300);

fn next(stream: &mut EventStream) -> Message {
    stream
        .next(SOON)
        .expect("the stream is read")
        .expect("the stream goes on")
}

fn put(cluster: &Cluster, key: &str, value: &str) -> u64 {
    let path = format!("/v1/keys/{key}");
    let answer = cluster.persist("a key is put", |client| client.put(&path, value.as_bytes()));
    assert!(answer.status < 300, "{}", answer.text());
    answer.u64("revision")
}

#[test]
fn a_stream_tells_each_revision_once_and_goes_on_at_another_member() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let first = put(&cluster, "a", "0");
    let path = "/v1/watch?prefix=keys/";
    let mut stream =
        EventStream::open(cluster.members[0].client, path, None).expect("a stream is opened");
    assert_eq!(stream.status, 200);
    let head = stream.head.to_ascii_lowercase();
    for line in [
        "content-type: text/event-stream",
        "x-accel-buffering: no",
        "cache-control: no-store",
    ] {
        assert!(head.contains(line), "{line} is in {head}");
    }
    let start = next(&mut stream);
    assert_eq!((start.event.as_str(), start.id), ("start", Some(first)));
    assert_eq!(start.json(), json!({ "revision": first }));

    let transaction = json!({"if": [], "then": [
        {"put": {"key": "b", "value": "1"}}, {"put": {"key": "c", "value": "2"}}], "else": []});
    let both = cluster.persist("a transaction is made", |client| {
        client.post("/v1/txn", &transaction)
    });
    let both = both.expect(200).u64("revision");
    let change = next(&mut stream);
    assert_eq!((change.event.as_str(), change.id), ("change", Some(both)));
    let keys: Vec<Value> = change.json()["events"]
        .as_array()
        .expect("a change has events")
        .iter()
        .map(|event| event["key"].clone())
        .collect();
    assert_eq!(keys, ["b", "c"], "one message for the whole revision");
    drop(stream);

    let last = put(&cluster, "a", "3");
    let mut resumed =
        EventStream::open(cluster.members[1].client, path, Some(both)).expect("a stream is opened");
    assert_eq!(next(&mut resumed).id, Some(both));
    let change = next(&mut resumed);
    assert_eq!(change.id, Some(last));
    assert_eq!(change.json()["events"][0]["value"], "3");
    assert!(resumed.next(QUIET).is_err(), "nothing comes twice");
}

#[test]
fn lost_history_and_revisions_that_never_were_are_told_on_the_stream_and_end_it() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let member = &cluster.members[0];
    let last = put(&cluster, "a", "1");
    put(&cluster, "a", "2");
    let compact = member
        .client()
        .post("/v1/compact", &json!({ "revision": last }))
        .expect("the member answers")
        .expect(200);
    assert_eq!(compact.u64("compact_revision"), last);
    let check = |from: u64, code: &str| {
        let path = format!("/v1/watch?prefix=keys/&after={from}");
        let mut stream = EventStream::open(member.client, &path, None).expect("it is opened");
        let message = next(&mut stream);
        assert_eq!(message.event, "error", "{message:?}");
        assert_eq!(message.json()["code"], code);
        assert_eq!(message.json()["status"], 410);
        assert_eq!(stream.next(SOON).expect("it is read"), None, "that ends it");
    };
    check(last - 1, "compacted");
    check(last + 1000, "revision-ahead");
    let mut served = EventStream::open(
        member.client,
        &format!("/v1/watch?prefix=keys/&after={last}"),
        None,
    )
    .expect("it is opened");
    assert_eq!(next(&mut served).event, "start");
    assert_eq!(next(&mut served).id, Some(last + 1));
}

#[test]
fn a_quiet_stream_says_where_it_is_and_outlives_the_patience_for_idle_connections() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let path = "/v1/watch?prefix=keys/watched/";
    let mut stream =
        EventStream::open(cluster.members[0].client, path, None).expect("a stream is opened");
    next(&mut stream);
    let unrelated = put(&cluster, "other", "x");
    let began = Instant::now();
    let alive = stream
        .next(Duration::from_secs(17))
        .expect("something comes within 15 s, and what a busy machine adds")
        .expect("the stream goes on");
    assert!(
        began.elapsed() > Duration::from_secs(5),
        "it is not sent all the time"
    );
    assert_eq!(
        (alive.event.as_str(), alive.id, alive.data.as_str()),
        ("", Some(unrelated), "")
    );
}

#[test]
fn a_stream_ends_within_a_second_where_the_leader_is_lost_and_at_a_stop() {
    let _machine = machine::alone();
    let cluster = Setup::of(3).start();
    let leader = cluster.leader();
    let kept = (leader + 1) % 3;
    let path = "/v1/watch?prefix=keys/";
    let open = || {
        let mut stream = EventStream::open(cluster.members[kept].client, path, None)
            .expect("a stream is opened");
        assert_eq!(next(&mut stream).event, "start");
        stream
    };
    let mut stream = open();
    let local = format!("{path}&consistency=local");
    let mut of_own_state =
        EventStream::open(cluster.members[kept].client, &local, None).expect("a stream is opened");
    assert_eq!(next(&mut of_own_state).event, "start");
    let others: Vec<_> = (0..3).filter(|member| *member != kept).collect();
    for other in &others {
        cluster.members[*other].pause();
    }
    // Contact is lost when an election timeout has passed in silence.
    let lost = wait::until("contact with the leader is lost", SOON, || {
        let status = cluster.members[kept].status()?;
        status["leader"].is_null().then(Instant::now)
    });
    let message = next(&mut stream);
    let took = lost.elapsed();
    assert_eq!(
        (message.event.as_str(), message.json()["code"].as_str()),
        ("error", Some("no-leader"))
    );
    assert!(took < Duration::from_secs(1), "it took {took:?}");
    assert_eq!(stream.next(SOON).expect("it is read"), None);
    assert!(
        of_own_state.next(Duration::from_secs(1)).is_err(),
        "a local stream goes on"
    );
    for other in &others {
        cluster.members[*other].resume();
    }
    cluster.leader();
    let mut stream = open();
    let written = put(&cluster, "a", "1");
    assert_eq!(next(&mut stream).id, Some(written));
    cluster.members[kept].signal(rustix::process::Signal::TERM);
    let message = next(&mut stream);
    assert_eq!(message.json()["code"], "shutting-down", "{message:?}");
    assert_eq!(cluster.members[kept].exit_code(SOON), 0);
}

#[test]
fn a_snapshot_and_the_changes_behind_it_leave_no_gap() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    cluster.leader();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        // More keys than are read at a time, so that writes fall between.
        let writers: Vec<_> = (0..3_usize)
            .map(|writer| {
                let (cluster, stop) = (&cluster, &stop);
                scope.spawn(move || {
                    let mut client = cluster.members[writer].client();
                    for number in (writer..).step_by(3) {
                        if stop.load(Ordering::SeqCst) {
                            return;
                        }
                        let path = format!("/v1/keys/k/{:04}", number * 7 % 900);
                        let done = match number % 5 {
                            4 => client.delete(&path),
                            _ => client.put(&path, number.to_string().as_bytes()),
                        };
                        done.expect("the member answers");
                    }
                })
            })
            .collect();
        wait::pass(Duration::from_millis(500), || false);
        for round in 0..6 {
            let member = cluster.members[round % 3].client;
            let body = json!({"prefixes": ["keys/k/"], "snapshot": true, "wait_ms": 600});
            let mut stream = EventStream::post(member, "/v1/watch", &body).expect("it is opened");
            let start = next(&mut stream);
            let mut through = start.json()["revision"].as_u64().expect("a revision");
            let mut keys: BTreeMap<String, u64> = BTreeMap::new();
            for element in start.json()["snapshot"].as_array().expect("a snapshot") {
                let resource = element["resource"].as_str().expect("a resource");
                let revision = element["state"]["mod_revision"].as_u64();
                assert!(element["state"]["revision"].is_null(), "{element}");
                let before = keys.insert(resource.to_owned(), revision.expect("a revision"));
                assert_eq!(before, None, "{resource} is there once");
            }
            assert!(keys.values().all(|revision| *revision <= through));
            assert_eq!(keys, listed(&cluster, through), "as of one revision");
            while let Ok(Some(message)) = stream.next(SOON) {
                if let Some(id) = message.id {
                    assert!(through <= id, "{id} after {through}");
                    through = id;
                }
                for event in message.json()["events"].as_array().into_iter().flatten() {
                    let resource = event["resource"].as_str().expect("a resource").to_owned();
                    match event["type"].as_str() {
                        Some("put") => keys.insert(resource, through),
                        _ => keys.remove(&resource),
                    };
                }
            }
            assert_eq!(keys, listed(&cluster, through), "nothing was missed");
        }
        stop.store(true, Ordering::SeqCst);
        for writer in writers {
            writer.join().expect("a writer ends");
        }
    });
}

/// The keys as they were at a revision, by resource, with their mod revisions.
fn listed(cluster: &Cluster, revision: u64) -> BTreeMap<String, u64> {
    let path = format!("/v1/keys?prefix=k/&limit=10000&keys_only=true&revision={revision}");
    let answer = cluster.persist("keys are listed", |client| client.get(&path));
    let keys = answer.expect(200).json()["keys"].clone();
    let keys = keys.as_array().expect("a list of keys").iter();
    keys.map(|entry| {
        let key = entry["key"].as_str().expect("a key");
        let revision = entry["mod_revision"].as_u64().expect("a revision");
        (format!("keys/{key}"), revision)
    })
    .collect()
}

#[test]
fn a_snapshot_that_is_too_long_says_how_to_get_it_in_pages() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    for number in 0..9 {
        put(&cluster, &format!("big/{number}"), &"x".repeat(1 << 20));
    }
    let last = put(&cluster, "small", "x");
    let mut client = cluster.members[0].client();
    let mut get = |path: &str| client.get(path).expect("the member answers");
    let refused = get("/v1/watch?prefix=keys/&snapshot=true").expect(413);
    let detail = refused.str("detail");
    assert!(
        detail.contains(&format!("GET /v1/keys?revision={last}")),
        "{detail}"
    );
    assert!(detail.contains(&format!("after={last}")), "{detail}");
    let some = get("/v1/watch?prefix=keys/big/1&resource=keys/small&snapshot=true").expect(200);
    assert_eq!(some.json()["snapshot"].as_array().map(Vec::len), Some(2));
    let both = get("/v1/watch?prefix=keys/&snapshot=true&after=1").expect(400);
    assert!(both.str("detail").contains("give one"));
    // What is before each of nine changes of 1 MiB is more than 8 MiB.
    for number in 0..9 {
        put(&cluster, &format!("big/{number}"), "y");
    }
    let told = get(&format!(
        "/v1/watch?prefix=keys/big/&after={last}&previous=true"
    ))
    .expect(200);
    let events = told.json()["events"].clone();
    let events = events.as_array().expect("events");
    assert_eq!(events.len(), 9);
    let whole = |event: &&Value| event["previous"]["value"].is_string();
    let omitted = events
        .iter()
        .filter(|event| event["previous"]["omitted"] == true);
    assert_eq!(
        events.iter().filter(whole).count(),
        7,
        "with what frames them"
    );
    for event in omitted {
        let revision = event["previous"]["mod_revision"].as_u64();
        assert!(revision.is_some_and(|revision| revision < last), "{event}");
    }
}

/// A history of more than the buffers of a connection hold, and its last revision.
fn long_history(cluster: &Cluster) -> (u64, u64) {
    let first = put(cluster, "long", "-");
    let value = "x".repeat(512 << 10);
    let last = (0..64).fold(first, |_, _| put(cluster, "long", &value));
    (first, last)
}

/// The id of the last change that came before the end of a stream, and the error at its end, where there is one.
fn read_to_the_end(stream: &mut EventStream) -> (u64, Option<Value>) {
    let (mut last, mut error) = (0, None);
    while let Some(message) = stream.next(SOON).expect("the stream is read") {
        last = message.id.unwrap_or(last);
        if message.event == "error" {
            error = Some(message.json());
        }
    }
    (last, error)
}

/// `api.md` §2: a request is held open for `wait_ms`, never longer.
#[test]
fn a_stream_ends_in_time_though_there_is_always_more_to_tell() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let (first, last) = long_history(&cluster);
    let path = format!("/v1/watch?prefix=keys/&after={first}&wait_ms=300");
    let mut stream =
        EventStream::open(cluster.members[0].client, &path, None).expect("the stream opens");
    // A reader that takes nothing until the time is over; what lies in buffers by then is all that comes.
    wait::pass(Duration::from_millis(600), || false);
    let (seen, error) = read_to_the_end(&mut stream);
    assert!(
        first < seen && seen < last,
        "it ended within history: {first} < {seen} < {last}"
    );
    assert_eq!(error, None, "its end was asked for");
}

#[test]
fn a_stream_that_always_has_more_to_tell_is_told_that_the_member_stops() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let member = &cluster.members[0];
    let (first, last) = long_history(&cluster);
    let path = format!("/v1/watch?prefix=keys/&after={first}");
    let mut stream = EventStream::open(member.client, &path, None).expect("the stream opens");
    member.signal(rustix::process::Signal::TERM);
    wait::until("the member has heard of it", SOON, || {
        (!member.is_ready()).then_some(())
    });
    let (seen, error) = read_to_the_end(&mut stream);
    assert!(
        first < seen && seen < last,
        "what comes is resumable: {seen}"
    );
    let error = error.expect("the end is told");
    assert_eq!(error["code"], "shutting-down", "{error}");
}

/// What many watchers saw together. They are tasks of one thread: a thousand threads would take the processors from
/// the members that they watch.
struct Watched {
    members: Vec<SocketAddr>,
    /// The last revision of the writers, once that is known.
    end: watch::Sender<Option<u64>>,
    first: u64,
    deliveries: AtomicUsize,
    lags: Mutex<Vec<Duration>>,
    began: Instant,
}

type Connection = tokio::io::BufReader<tokio::net::TcpStream>;
/// The last revision that a watcher has seen.
type Seen = watch::Sender<u64>;

/// What a watcher does after a connection broke.
const BREATHER: Duration = Duration::from_millis(50);

impl Watched {
    /// Takes what came: each revision is the next one.
    fn take(&self, seen: &Seen, revision: u64, value: Option<&str>, who: usize) {
        let before = seen.send_replace(revision);
        assert_eq!(
            revision,
            before + 1,
            "watcher {who} missed or repeated something"
        );
        self.deliveries.fetch_add(1, Ordering::Relaxed);
        let sent = value.and_then(|value| value.parse().ok());
        if let Some(sent) = sent.map(Duration::from_micros) {
            let lag = self.began.elapsed().saturating_sub(sent);
            self.lags.lock().expect("no watcher failed").push(lag);
        }
    }

    /// Lets the watchers end, whatever became of the test.
    fn release(&self) {
        self.end.send_if_modified(|end| {
            let open = end.is_none();
            end.get_or_insert(0);
            open
        });
    }

    /// Returns once everything up to the end has been seen.
    async fn all_seen(&self, seen: &Seen) {
        let mut end = self.end.subscribe();
        let end = end.wait_for(Option::is_some).await.map(|end| *end);
        let end = end.expect("the sender is ours").unwrap_or_default();
        let reached = seen.subscribe().wait_for(|seen| end <= *seen).await.is_ok();
        assert!(reached, "the sender is the watcher's");
    }

    /// Watches until everything has been seen, at one member after the other.
    async fn watch(&self, who: usize) {
        let seen = watch::Sender::new(self.first);
        for turn in who.. {
            let address = self.members[turn % self.members.len()];
            let watching = async {
                // Whatever breaks the connection: another member is asked to go on.
                let _ = match who % 2 {
                    0 => self.stream(address, &seen, who).await,
                    _ => self.poll(address, &seen, who).await,
                };
            };
            tokio::select! {
                () = watching => {}
                () = self.all_seen(&seen) => return,
            }
            // A thousand that ask a dead member again at once would take the processors from those that live.
            let breather = tokio::time::timeout(BREATHER, self.all_seen(&seen));
            if breather.await.is_ok() {
                return;
            }
        }
    }

    async fn stream(&self, address: SocketAddr, seen: &Seen, who: usize) -> io::Result<()> {
        let from = *seen.borrow();
        let headers = format!("accept: text/event-stream\r\nlast-event-id: {from}\r\n");
        let mut connection = connect(address).await?;
        send(
            &mut connection,
            address,
            "/v1/watch?prefix=keys/busy",
            &headers,
        )
        .await?;
        let (status, _) = read_head(&mut connection).await?;
        if status != 200 {
            assert_eq!(status, 503, "a watch may only be refused for now");
            return Ok(());
        }
        let (mut line, mut event, mut id) = (String::new(), String::new(), 0);
        while read_line(&mut connection, &mut line).await? {
            match line.split_once(": ") {
                Some(("event", value)) => event = value.to_owned(),
                Some(("id", value)) => id = value.parse().expect("an id is a revision"),
                Some(("data", data)) if event == "change" => {
                    let value = between(data, "\"value\":\"", "\"");
                    self.take(seen, id, value, who);
                }
                Some(("data", data)) if event == "error" => {
                    assert!(data.contains("\"status\":503"), "{data}");
                    return Ok(());
                }
                // The length of a chunk, the end of a message, a start.
                _ => {}
            }
        }
        Ok(())
    }

    async fn poll(&self, address: SocketAddr, seen: &Seen, who: usize) -> io::Result<()> {
        let mut connection = connect(address).await?;
        loop {
            let after = *seen.borrow();
            let path = format!("/v1/watch?resource=keys/busy&after={after}&wait_ms=10000");
            send(&mut connection, address, &path, "").await?;
            let (status, length) = read_head(&mut connection).await?;
            let mut body = vec![0; length];
            connection.read_exact(&mut body).await?;
            if status != 200 {
                assert_eq!(status, 503, "a watch may only be refused for now");
                return Ok(());
            }
            let text = String::from_utf8(body).map_err(io::Error::other)?;
            for event in text.split("{\"revision\":").skip(1) {
                let revision = event.split(',').next().and_then(|text| text.parse().ok());
                let value = between(event, "\"value\":\"", "\"");
                self.take(seen, revision.expect("a revision"), value, who);
            }
        }
    }
}

async fn connect(address: SocketAddr) -> io::Result<Connection> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(tokio::io::BufReader::new(stream))
}

async fn send(
    connection: &mut Connection,
    address: SocketAddr,
    path: &str,
    headers: &str,
) -> io::Result<()> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n{headers}\r\n");
    connection.write_all(request.as_bytes()).await
}

/// A line without its end; `false` at the end of the connection.
async fn read_line(connection: &mut Connection, line: &mut String) -> io::Result<bool> {
    line.clear();
    let read = connection.read_line(line).await?;
    line.truncate(line.trim_end().len());
    Ok(read > 0)
}

/// The status and the length of the body.
async fn read_head(connection: &mut Connection) -> io::Result<(u16, usize)> {
    let (mut line, mut status, mut length) = (String::new(), 0, 0);
    while read_line(connection, &mut line).await? {
        if line.is_empty() {
            return Ok((status, length));
        }
        if let Some(text) = line.strip_prefix("HTTP/1.1 ") {
            status = text[..3].parse().map_err(io::Error::other)?;
        }
        if let Some(text) = line.strip_prefix("content-length: ") {
            length = text.parse().map_err(io::Error::other)?;
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// Runs so many watchers until all of them have seen everything.
fn run_watchers(watched: &Arc<Watched>, watchers: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime is built");
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for who in 0..watchers {
            let watched = Arc::clone(watched);
            tasks.spawn(async move { watched.watch(who).await });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.expect("no watcher missed or repeated anything");
        }
    });
}

/// Releases the watchers when it is dropped.
struct Release<'a>(&'a Watched);

impl Drop for Release<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> Option<&'a str> {
    text.split_once(from)?.1.split_once(to).map(|found| found.0)
}

/// `TENURE_WATCHERS=1000 TENURE_WATCHED_EVENTS=5000` is the size at which figures mean something.
#[test]
fn many_watchers_of_a_busy_key_see_every_revision_once_across_the_death_of_a_leader() {
    let _machine = machine::half();
    let size = |name: &str, default: usize| {
        let text = std::env::var(name).unwrap_or_default();
        text.parse().unwrap_or(default)
    };
    let watchers = size("TENURE_WATCHERS", 200);
    let events = size("TENURE_WATCHED_EVENTS", 600);
    let cluster = Setup::of(3).start();
    cluster.leader();
    let first = put(&cluster, "busy", "-");
    let watched = Arc::new(Watched {
        members: cluster.members.iter().map(|member| member.client).collect(),
        end: watch::Sender::new(None),
        first,
        deliveries: AtomicUsize::new(0),
        lags: Mutex::default(),
        began: Instant::now(),
    });
    let written = AtomicUsize::new(0);
    thread::scope(|scope| {
        let watching = scope.spawn(|| run_watchers(&watched, watchers));
        let _release = Release(&watched);
        wait::pass(Duration::from_secs(1), || false);
        // A thousand a second, whoever is how far: each of ten writers has its hundredth.
        let writers: Vec<_> = (0..10)
            .map(|writer| {
                let (watched, cluster, written) = (&watched, &cluster, &written);
                scope.spawn(move || {
                    let mut member = writer % 3;
                    let mut client = cluster.members[member].client();
                    let began = Instant::now();
                    for number in 0..events / 10 {
                        let due = Duration::from_millis(10 * number as u64);
                        wait::pass(due.saturating_sub(began.elapsed()), || false);
                        let sent = watched.began.elapsed().as_micros().to_string();
                        let done = client.put("/v1/keys/busy", sent.as_bytes());
                        if done.is_ok_and(|answer| answer.status < 300) {
                            written.fetch_add(1, Ordering::Relaxed);
                        } else {
                            member = (member + 1) % 3;
                            client = cluster.members[member].client();
                        }
                    }
                })
            })
            .collect();
        let began = Instant::now();
        let half = wait::found(SOON * 4, || {
            (written.load(Ordering::Relaxed) >= events / 2).then_some(())
        });
        assert!(half.is_some(), "half of the events are written");
        let before_kill = (began.elapsed(), watched.deliveries.load(Ordering::Relaxed));
        let leader = cluster.leader();
        cluster.members[leader].kill();
        for writer in writers {
            writer.join().expect("a writer ends");
        }
        let last = put(&cluster, "busy", "-");
        watched.end.send_replace(Some(last));
        let all = watchers * usize::try_from(last - first).expect("a few");
        let all_seen = wait::found(SOON * 4, || {
            (watched.deliveries.load(Ordering::Relaxed) >= all).then_some(())
        });
        assert!(
            all_seen.is_some(),
            "all is delivered: {} of {all}",
            watched.deliveries.load(Ordering::Relaxed)
        );
        let took = began.elapsed();
        watching.join().expect("the watchers end");
        println!(
            "{watchers} watchers, {} revisions in {took:?} with a leader killed; until then {} deliveries in {:?}",
            last - first,
            before_kill.1,
            before_kill.0
        );
    });
    let mut lags = std::mem::take(&mut *watched.lags.lock().expect("no watcher failed"));
    lags.sort_unstable();
    println!(
        "from before the put to a watcher: median {:?}, p99 {:?}, most {:?} of {}",
        lags[lags.len() / 2],
        lags[lags.len() * 99 / 100],
        lags[lags.len() - 1],
        lags.len()
    );
    assert!(written.load(Ordering::Relaxed) > events / 2);
}

#[test]
fn a_watcher_beside_clients_that_read_long_pages_is_not_starved() {
    let _machine = machine::half();
    let cluster = Setup::of(3).start();
    let leader = cluster.leader();
    for number in 0..40 {
        put(
            &cluster,
            &format!("big/{number:02}"),
            &"x".repeat(256 << 10),
        );
    }
    let stop = AtomicBool::new(false);
    let pages = AtomicUsize::new(0);
    let mut lags = Vec::new();
    thread::scope(|scope| {
        for _ in 0..10 {
            let (cluster, stop, pages) = (&cluster, &stop, &pages);
            scope.spawn(move || {
                let mut client = cluster.members[leader].client().with_patience(SOON);
                let mut after = String::new();
                while !stop.load(Ordering::SeqCst) {
                    let path = format!("/v1/keys?prefix=big/&start_after={after}");
                    let answer = client.get(&path).expect("the member answers");
                    // A build without optimisation takes so long for a page that not everybody has a turn in time.
                    if answer.status == 503 {
                        assert_eq!(answer.json()["code"], "overloaded");
                        continue;
                    }
                    let answer = answer.expect(200);
                    // Ten megabytes are three pages; parsing them here would only slow the readers down.
                    let next = between(&answer.text()[..], "\"next\":\"", "\"").map(str::to_owned);
                    after = next.unwrap_or_default();
                    pages.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let path = "/v1/watch?resource=keys/small";
        let mut stream = EventStream::open(cluster.members[leader].client, path, None)
            .expect("a stream is opened");
        next(&mut stream);
        for number in 0..50 {
            let began = Instant::now();
            let revision = put(&cluster, "small", &number.to_string());
            assert_eq!(next(&mut stream).id, Some(revision));
            lags.push(began.elapsed());
        }
        stop.store(true, Ordering::SeqCst);
    });
    lags.sort_unstable();
    println!(
        "beside {} pages: a put and its delivery took {:?} in the middle, {:?} at most",
        pages.into_inner(),
        lags[lags.len() / 2],
        lags[lags.len() - 1]
    );
    assert!(lags[lags.len() / 2] < Duration::from_secs(1), "{lags:?}");
}

#[test]
fn a_reader_slower_than_history_is_told_so_and_skips_nothing_before() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let member = &cluster.members[0];
    let first = put(&cluster, "a", "-");
    let mut stream = EventStream::open(member.client, "/v1/watch?prefix=keys/", Some(first))
        .expect("a stream is opened");
    // Far more than sockets and buffers hold between the member and a reader that does not read.
    let value = "x".repeat(256 << 10);
    let mut last = first;
    for _ in 0..100 {
        last = put(&cluster, "a", &value);
    }
    let resident = member.resident_kib();
    member
        .client()
        .post("/v1/compact", &json!({ "revision": last }))
        .expect("the member answers")
        .expect(200);
    assert_eq!(next(&mut stream).event, "start");
    let mut seen = first;
    let refused = loop {
        let message = next(&mut stream);
        if message.event == "error" {
            break message.json();
        }
        seen += 1;
        assert_eq!(message.id, Some(seen), "each revision once and in order");
    };
    assert_eq!(refused["code"], "compacted");
    assert_eq!(refused["compact_revision"].as_u64(), Some(last));
    assert!(first < seen && seen < last, "{first} < {seen} < {last}");
    assert_eq!(stream.next(SOON).expect("it is read"), None);
    println!("resident while nobody read: {resident} KiB");
}

#[test]
fn the_watchers_of_a_member_are_bounded_and_the_refusal_names_the_limit() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let member = &cluster.members[0];
    let limits = member
        .client()
        .call(
            "PATCH",
            "/v1/limits",
            &[("content-type", "application/json")],
            json!({ "watchers": 2 }).to_string().as_bytes(),
        )
        .expect("the member answers");
    limits.expect(200);
    let path = "/v1/watch?prefix=keys/";
    let mut streams: Vec<_> = (0..2)
        .map(|_| EventStream::open(member.client, path, None).expect("it is opened"))
        .collect();
    streams.iter_mut().for_each(|stream| {
        next(stream);
    });
    let refused = EventStream::open(member.client, path, None).expect("it is answered");
    assert_eq!(refused.status, 429);
    let mut client = member.client();
    let mut get = |path: &str| client.get(path).expect("the member answers");
    let refused = get(&format!("{path}&wait_ms=1000")).expect(429);
    assert_eq!(refused.code(), "too-many-waiters");
    assert!(refused.str("detail").contains("`watchers` is 2"));
    get(path).expect(200);
    let head = member
        .client()
        .call("HEAD", path, &[("accept", "text/event-stream")], b"")
        .expect("the member answers");
    assert_eq!(head.status, 429);
    drop(streams);
    wait::until("a place is free again", SOON, || {
        let stream = EventStream::open(member.client, path, None).ok()?;
        (stream.status == 200).then_some(())
    });
}
