//! Asking for what others hold: the calls that tests of locks, semaphores and elections share.

use serde_json::Value;

use super::cluster::{Cluster, SOON};
use super::http::{Answer, Client, Pending};
use super::wait;

/// Sends JSON and expects a status. On a busy machine a leader may be lost for a moment: what was not applied for that
/// reason is asked again, and so is an acquire that was answered with its place when it was to be answered with more.
pub(crate) fn ask(
    client: &mut Client,
    method: &str,
    path: &str,
    body: &Value,
    status: u16,
) -> Answer {
    let mut answer = client.json(method, path, body).expect("the member answers");
    wait::found(SOON, || {
        if !is_cut_short(&answer, status) {
            return Some(());
        }
        answer = client.json(method, path, body).expect("the member answers");
        None
    });
    answer.expect(status)
}

fn is_cut_short(answer: &Answer, expected: u16) -> bool {
    answer.status != expected
        && (answer.status == 202 || (answer.status == 503 && answer.not_applied()))
}

/// `GET`, which must succeed.
pub(crate) fn read(client: &mut Client, path: &str) -> Value {
    client
        .get(path)
        .expect("the member answers")
        .expect(200)
        .json()
}

/// `DELETE`, with the status that is expected of it.
pub(crate) fn delete(client: &mut Client, path: &str, status: u16) -> Answer {
    client
        .delete(path)
        .expect("the member answers")
        .expect(status)
}

/// A request that waits, and whom to ask again.
pub(crate) struct Waiting {
    client: Client,
    path: String,
    body: Value,
    pending: Pending,
}

/// Begins an acquire that waits, and answers when its place is known to be the last of `length`.
pub(crate) fn begin(
    cluster: &Cluster,
    member: usize,
    path: &str,
    body: &Value,
    length: u64,
) -> Waiting {
    begin_seen_at(cluster, member, path, body, &[path], length)
}

/// The same, where the places are seen at other paths.
pub(crate) fn begin_seen_at(
    cluster: &Cluster,
    member: usize,
    path: &str,
    body: &Value,
    seen_at: &[&str],
    length: u64,
) -> Waiting {
    let mut client = cluster.members[member].client().with_patience(SOON);
    let pending = client.begin("POST", path, body).expect("it is sent");
    for path in seen_at {
        wait::until("the waiter has its place", SOON, || {
            let shown = client.get(path).ok()?.json();
            let mut counts = [&shown["queue_length"], &shown["candidate_count"]].into_iter();
            counts
                .find(|count| count.as_u64() == Some(length))
                .map(drop)
        });
    }
    Waiting {
        client,
        path: path.to_owned(),
        body: body.clone(),
        pending,
    }
}

/// The answer of an acquire that waited, with the status that is expected of it.
pub(crate) fn answered(mut waiting: Waiting, status: u16) -> Answer {
    let answer = waiting.pending.answer(SOON).expect("the answer arrives");
    if is_cut_short(&answer, status) {
        return ask(
            &mut waiting.client,
            "POST",
            &waiting.path,
            &waiting.body,
            status,
        );
    }
    answer.expect(status)
}

/// Begins a read that waits for a change.
pub(crate) fn begin_read(cluster: &Cluster, member: usize, path: &str) -> Pending {
    let client = cluster.members[member].client();
    client.begin("GET", path, &Value::Null).expect("it is sent")
}

/// What it saw.
pub(crate) fn seen(pending: Pending) -> Answer {
    pending
        .answer(SOON)
        .expect("the answer arrives")
        .expect(200)
}

/// Checks that wrong requests are refused with a status and a code, and that the detail says what is wrong.
pub(crate) fn check_refused(client: &mut Client, cases: &[(&str, &str, Value, u16, &str, &str)]) {
    for (method, path, body, status, code, said) in cases {
        let answer = match *method {
            "DELETE" => client.delete(path),
            "GET" => client.get(path),
            _ => client.json(method, path, body),
        };
        let answer = answer.expect("the member answers");
        let case = format!("{method} {path} {body}: {}", answer.text());
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (*status, *code),
            "{case}"
        );
        assert!(
            answer.str("detail").contains(said),
            "{said:?} is not in {case}"
        );
        assert!(answer.not_applied(), "{case}");
    }
}
