//! Asking for what others hold: the calls that tests of locks, semaphores and elections share.

use serde_json::Value;

use super::cluster::{Cluster, SOON};
use super::http::{Answer, Client, Pending};
use super::wait;

/// Sends JSON and expects a status.
pub(crate) fn ask(
    client: &mut Client,
    method: &str,
    path: &str,
    body: &Value,
    status: u16,
) -> Answer {
    client
        .json(method, path, body)
        .expect("the member answers")
        .expect(status)
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

/// Begins an acquire that waits, and answers when its place is known to be the last of `length`.
pub(crate) fn begin(
    cluster: &Cluster,
    member: usize,
    path: &str,
    body: &Value,
    length: u64,
) -> Pending {
    let client = cluster.members[member].client();
    let pending = client.begin("POST", path, body).expect("it is sent");
    let mut client = cluster.members[member].client();
    wait::until("the waiter has its place", SOON, || {
        let shown = client.get(path).ok()?.json();
        let counts = [&shown["queue_length"], &shown["candidate_count"]];
        counts
            .iter()
            .any(|count| count.as_u64() == Some(length))
            .then_some(())
    });
    pending
}

/// The answer of an acquire that waited, with the status that is expected of it.
pub(crate) fn answered(pending: Pending, status: u16) -> Answer {
    pending
        .answer(SOON)
        .expect("the answer arrives")
        .expect(status)
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
