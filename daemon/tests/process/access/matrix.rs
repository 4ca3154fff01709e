//! Every operation of the published contract, asked by callers of every kind: what is allowed is what the document says in
//! `x-tenure-verbs`, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Guarded, VERBS, done, under};
use crate::common::{Answer, Client, Setup, machine};

/// Whoever asks.
struct Asker {
    name: String,
    client: Client,
    /// What it may do to names that begin with `in/`, and to leases.
    verbs: BTreeSet<String>,
    is_admin: bool,
    /// A lease that it was granted.
    lease: String,
    /// Another, which may be ended.
    spare: String,
}

/// A request of an operation.
#[derive(Clone, Default)]
struct Asked {
    method: &'static str,
    path: String,
    body: Value,
    header: Option<(&'static str, String)>,
    /// The cases of the document that apply, by their `when`.
    whens: Vec<&'static str>,
    /// The lease that it names is somebody else's.
    foreign: bool,
    /// With what it is answered where it is allowed, if that is one thing.
    answered: Option<u16>,
}

impl Asked {
    fn when(mut self, when: &'static str) -> Asked {
        self.whens.push(when);
        self
    }

    fn body(mut self, body: Value) -> Asked {
        self.body = body;
        self
    }

    fn header(mut self, name: &'static str, value: &str) -> Asked {
        self.header = Some((name, value.to_owned()));
        self
    }

    fn foreign(mut self) -> Asked {
        self.foreign = true;
        self
    }

    fn answered(mut self, status: u16) -> Asked {
        self.answered = Some(status);
        self
    }

    fn send(&self, client: &mut Client) -> Answer {
        let mut headers = Vec::new();
        let body = match &self.body {
            Value::Null => String::new(),
            body => {
                headers.push(("content-type", "application/json"));
                body.to_string()
            }
        };
        if let Some((name, value)) = &self.header {
            headers.push((*name, value.as_str()));
        }
        client
            .call(self.method, &self.path, &headers, body.as_bytes())
            .unwrap_or_else(|error| panic!("{} {}: {error}", self.method, self.path))
    }
}

fn ask(method: &'static str, path: impl Into<String>) -> Asked {
    Asked {
        method,
        path: path.into(),
        ..Asked::default()
    }
}

const RELEASES: &str = "without `break`";
const BREAKS: &str = "with `break=true`";
const ON_LEASE: &str = "with `lease`";
const WITH_TTL: &str = "with `ttl_ms`";
const GUARDED: &str = "with `Tenure-Guard` of a lock or semaphore";
const GUARDED_BY_ELECTION: &str = "with `Tenure-Guard` of an election";
const CONDITIONAL: &str = "with `If-Match` or `If-None-Match`";

/// The leases that requests name: the caller's, one more that may be ended, and one of somebody else.
#[derive(Clone, Copy)]
struct Leases<'a> {
    lease: &'a str,
    spare: &'a str,
    other: &'a str,
}

/// The requests that stand for an operation: of each case at least one, for a caller with these leases.
fn requests(operation: &str, leases: Leases<'_>) -> Vec<Asked> {
    let Leases {
        lease,
        spare,
        other,
    } = leases;
    let by_name = |path: &str, id: &str| match id.ends_with("ByName") {
        true => format!("{path}?name=in/a"),
        false => format!("{path}/in/a"),
    };
    let claims = |path: String, more: Value| {
        let with = |claim: Value| {
            let mut body = more.clone();
            let fields = body.as_object_mut().expect("an object");
            fields.extend(claim.as_object().expect("an object").clone());
            ask("POST", path.clone()).body(body)
        };
        vec![
            with(json!({"lease": lease})).when(ON_LEASE),
            with(json!({"lease": other})).when(ON_LEASE).foreign(),
            with(json!({"ttl_ms": 60_000})).when(WITH_TTL),
        ]
    };
    let ends = |path: String| {
        let mark = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{mark}");
        vec![
            ask("DELETE", format!("{path}lease={lease}&fence=1")).when(RELEASES),
            ask("DELETE", format!("{path}lease={other}&fence=1"))
                .when(RELEASES)
                .foreign(),
            ask("DELETE", format!("{path}break=true&fence=1&reason=test")).when(BREAKS),
        ]
    };
    let leads = |method: &'static str, path: String, more: Value| {
        let with = |lease: &str| {
            let mut body = more.clone();
            body["lease"] = lease.into();
            body["fence"] = 1.into();
            ask(method, path.clone()).body(body)
        };
        vec![with(lease), with(other).foreign()]
    };
    let txn = |body: Value| ask("POST", "/v1/txn").body(body);
    match operation {
        "livez" => vec![ask("GET", "/livez")],
        "readyz" => vec![ask("GET", "/readyz")],
        "metrics" => vec![ask("GET", "/metrics"), ask("HEAD", "/metrics")],
        "readOpenApi" => vec![ask("GET", "/v1/openapi.json")],
        "whoAmI" => vec![ask("GET", "/v1/whoami"), ask("OPTIONS", "/v1/whoami")],
        "readStatus" => vec![ask("GET", "/v1/status")],
        "readCluster" => vec![ask("GET", "/v1/cluster")],
        "readLimits" => vec![ask("GET", "/v1/limits")],
        "readAccess" => vec![ask("GET", "/v1/access"), ask("GET", "/v1/access?consistency=local")],
        "changeAccess" => vec![ask("PATCH", "/v1/access").body(json!({"enabled": true}))],
        "takeBackup" => vec![ask("GET", "/v1/backup"), ask("GET", "/v1/backup?consistency=local")],
        "transferLeadership" => vec![ask("POST", "/v1/cluster/leader").body(json!({}))],
        "addMember" => vec![ask("POST", "/v1/cluster/members").body(json!({
            "name": "n9", "peer_url": "http://127.0.0.1:9", "client_url": "http://127.0.0.1:9",
        }))],
        "removeMember" => vec![ask("DELETE", "/v1/cluster/members/n9")],
        "promoteMember" => vec![ask("POST", "/v1/cluster/members/n9/promote")],
        "replaceMember" => vec![ask("POST", "/v1/cluster/members/n9/replace").body(json!({
            "name": "n9", "peer_url": "http://127.0.0.1:9", "client_url": "http://127.0.0.1:9",
        }))],
        "compact" => vec![ask("POST", "/v1/compact").body(json!({"revision": 0}))],
        "changeLimits" => vec![ask("PATCH", "/v1/limits").body(json!({"keys": 1_000_000}))],
        "changeStatus" => vec![ask("PATCH", "/v1/status").body(json!({"log_filter": "info"}))],
        "listRoles" => vec![ask("GET", "/v1/roles")],
        "readRole" => vec![ask("GET", "/v1/roles/admin"), ask("GET", "/v1/roles/none")],
        "putRole" => vec![ask("PUT", "/v1/roles/in-passing").body(json!({"grants": []}))],
        "deleteRole" => vec![ask("DELETE", "/v1/roles/nobodys")],
        "listIdentities" => vec![ask("GET", "/v1/identities")],
        "readIdentity" => vec![ask("GET", "/v1/identities/root")],
        "putIdentity" => vec![ask("PUT", "/v1/identities/passerby").body(json!({"roles": []}))],
        "deleteIdentity" => vec![ask("DELETE", "/v1/identities/nobody")],
        "listTokens" => vec![ask("GET", "/v1/tokens")],
        "createToken" => vec![ask("POST", "/v1/tokens").body(json!({"identity": "nobody"}))],
        "deleteToken" => vec![ask("DELETE", "/v1/tokens/0000000000000001")],
        "grantLease" => vec![ask("POST", "/v1/leases").body(json!({"ttl_ms": 60_000}))],
        "listLeases" => vec![ask("GET", "/v1/leases"), ask("GET", "/v1/leases?limit=1")],
        "readLease" => vec![
            ask("GET", format!("/v1/leases/{lease}")),
            ask("GET", format!("/v1/leases/{other}")).foreign(),
        ],
        "renewLease" => vec![
            ask("POST", format!("/v1/leases/{lease}/renew")),
            ask("POST", format!("/v1/leases/{other}/renew")).foreign(),
        ],
        "changeLease" => [lease, other]
            .iter()
            .map(|id| ask("PATCH", format!("/v1/leases/{id}")).body(json!({"ttl_ms": 3_600_000})))
            .zip([false, true])
            .map(|(asked, foreign)| Asked { foreign, ..asked })
            .collect(),
        "renewLeases" => vec![
            ask("POST", "/v1/leases/renew").body(json!({"leases": [lease]})),
            ask("POST", "/v1/leases/renew").body(json!({"leases": [other]})).foreign(),
        ],
        "revokeLease" => vec![
            ask("DELETE", format!("/v1/leases/{other}")).foreign(),
            ask("DELETE", format!("/v1/leases/{spare}")).answered(200),
        ],
        "acquireLock" => claims("/v1/locks/in/a".into(), json!({"wait_ms": 0})),
        "acquireLocks" => claims("/v1/locks".into(), json!({"locks": [{"name": "in/b"}, {"name": "in/c"}]})),
        "acquireSemaphore" | "acquireSemaphoreByName" => {
            claims(by_name("/v1/semaphores", operation), json!({"permits": 1, "limit": 2}))
        }
        "campaign" | "campaignByName" => {
            claims(by_name("/v1/elections", operation), json!({"candidate": "c", "value": "v"}))
        }
        "readLock" => vec![ask("GET", "/v1/locks/in/a"), ask("GET", "/v1/locks?name=in/a")],
        "readSemaphore" => vec![ask("GET", "/v1/semaphores/in/a")],
        "readElection" => vec![ask("GET", "/v1/elections/in/a?after=0&wait_ms=1")],
        "listLocks" => vec![ask("GET", "/v1/locks?prefix=in/")],
        "listSemaphores" => vec![ask("GET", "/v1/semaphores?prefix=in/")],
        "listElections" => vec![ask("GET", "/v1/elections?prefix=in/")],
        "releaseLock" | "releaseLockByName" => ends(by_name("/v1/locks", operation)),
        "releaseSemaphore" | "releaseSemaphoreByName" => ends(by_name("/v1/semaphores", operation)),
        "resign" | "resignByName" => ends(by_name("/v1/elections", operation)),
        "proclaim" | "proclaimByName" => {
            leads("PUT", by_name("/v1/elections", operation), json!({"candidate": "c", "value": "w"}))
        }
        "handOver" | "handOverByName" => {
            leads("PATCH", by_name("/v1/elections", operation), json!({"candidate": "c", "handover_to": "d"}))
        }
        "putKey" | "putKeyByName" => {
            let path = by_name("/v1/keys", operation);
            let mark = if path.contains('?') { '&' } else { '?' };
            vec![
                ask("PUT", path.clone()),
                ask("PUT", path.clone()).header("if-none-match", "*").when(CONDITIONAL),
                ask("PUT", path.clone()).header("if-match", "\"1\"").when(CONDITIONAL),
                ask("PUT", path.clone()).header("tenure-guard", "lock=in/a; fence=1").when(GUARDED),
                ask("PUT", path.clone())
                    .header("tenure-guard", "election=in/a; fence=1")
                    .when(GUARDED_BY_ELECTION),
                ask("PUT", format!("{path}{mark}lease={lease}")).when(ON_LEASE),
                ask("PUT", format!("{path}{mark}lease={other}")).when(ON_LEASE).foreign(),
            ]
        }
        "readKey" => vec![
            ask("GET", "/v1/keys/in/a"),
            ask("GET", "/v1/keys?name=in/a&entry=true"),
            ask("GET", "/v1/keys/in/a?revision=1"),
            ask("GET", "/v1/keys/in/a?consistency=local"),
            ask("HEAD", "/v1/keys/in/a"),
        ],
        "listKeys" => vec![
            ask("GET", "/v1/keys?prefix=in/").when("without it"),
            ask("GET", "/v1/keys?start=in/a&end=in/b").when("without it"),
            ask("GET", "/v1/keys?prefix=in/&keys_only=true").when("with `keys_only=true`"),
        ],
        "deleteKey" => vec![
            ask("DELETE", "/v1/keys/in/d"),
            ask("DELETE", "/v1/keys/in/d").header("if-match", "\"1\"").when(CONDITIONAL),
            ask("DELETE", "/v1/keys/in/d")
                .header("tenure-guard", "semaphore=in/a; fence=1")
                .when(GUARDED),
            ask("DELETE", "/v1/keys/in/d")
                .header("tenure-guard", "election=in/a; fence=1")
                .when(GUARDED_BY_ELECTION),
        ],
        "deleteKeys" => vec![
            ask("DELETE", "/v1/keys?prefix=in/d/"),
            ask("DELETE", "/v1/keys?prefix=in/d/")
                .header("tenure-guard", "lock=in/a; fence=1")
                .when(GUARDED),
            ask("DELETE", "/v1/keys?prefix=in/d/")
                .header("tenure-guard", "election=in/a; fence=1")
                .when(GUARDED_BY_ELECTION),
        ],
        "transact" => vec![
            txn(json!({"then": [{"put": {"key": "in/t", "value": "x"}}]})).when("with a `put`"),
            txn(json!({"else": [{"put": {"key": "in/t", "value": "x"}}]})).when("with a `put`"),
            txn(json!({"then": [{"put": {"key": "in/t", "value": "x", "lease": lease}}]}))
                .when("with a `put`")
                .when("with a `put` on a lease"),
            txn(json!({"then": [{"put": {"key": "in/t", "value": "x", "lease": other}}]}))
                .when("with a `put`")
                .when("with a `put` on a lease")
                .foreign(),
            txn(json!({"then": [{"delete": {"key": "in/t"}}]})).when("with a `delete`"),
            txn(json!({"else": [{"delete": {"prefix": "in/t"}}]})).when("with a `delete`"),
            txn(json!({"then": [{"get": {"key": "in/t"}}]}))
                .when("with a `get`, or a condition on a key"),
            txn(json!({"if": [{"key": "in/t", "field": "version", "op": "=", "value": 0}]}))
                .when("with a `get`, or a condition on a key"),
            txn(json!({"if": [{"lock": "in/a", "fence": 1}]}))
                .when("with a condition on the fence of a lock or semaphore"),
            txn(json!({"if": [{"semaphore": "in/a", "fence": 1}]}))
                .when("with a condition on the fence of a lock or semaphore"),
            txn(json!({"if": [{"election": "in/a", "fence": 1}]}))
                .when("with a condition on the fence of an election"),
            txn(json!({"if": [{"lease": lease}]})).when("with a condition on a lease"),
            txn(json!({"if": [{"lease": other}]})).when("with a condition on a lease").foreign(),
            txn(json!({})).header("tenure-guard", "lock=in/a; fence=1").when(GUARDED),
            txn(json!({}))
                .header("tenure-guard", "election=in/a; fence=1")
                .when(GUARDED_BY_ELECTION),
        ],
        "watch" => vec![
            ask("GET", "/v1/watch?prefix=keys/in/&resource=locks/in/a&after=0&previous=true")
                .when("without `snapshot`"),
            ask("GET", "/v1/watch?prefix=elections/in/&snapshot=true").when("with `snapshot=true`"),
            ask("GET", "/v1/watch?prefix=locks/in/&wait_ms=1")
                .header("accept", "text/event-stream")
                .answered(200)
                .when("without `snapshot`"),
            ask("GET", "/v1/watch?prefix=semaphores/in/&snapshot=true&wait_ms=1")
                .header("accept", "text/event-stream")
                .answered(200)
                .when("with `snapshot=true`"),
        ],
        "watchMany" => vec![
            ask("POST", "/v1/watch")
                .body(json!({"prefixes": ["semaphores/in/", "leases/"], "resources": ["keys/in/a"], "after": 0}))
                .when("without `snapshot`"),
            ask("POST", "/v1/watch")
                .body(json!({"prefixes": ["keys/in/"], "snapshot": true, "previous": true}))
                .when("with `snapshot=true`"),
            ask("POST", "/v1/watch")
                .body(json!({"prefixes": ["elections/in/"], "wait_ms": 1}))
                .header("accept", "text/event-stream")
                .answered(200)
                .when("without `snapshot`"),
            ask("POST", "/v1/watch")
                .body(json!({"prefixes": ["locks/in/"], "snapshot": true, "wait_ms": 1}))
                .header("accept", "text/event-stream")
                .answered(200)
                .when("with `snapshot=true`"),
        ],
        other => panic!("the operation {other} has no request here: write what stands for it, with a case of each right"),
    }
}

/// What the document says that a request needs: of each case that applies, a list of choices. `None` is nothing at all.
fn needed(cases: &[Value], asked: &Asked) -> Option<Vec<BTreeSet<String>>> {
    if cases.is_empty() {
        return None;
    }
    let applies = |case: &&Value| match case["when"].as_str() {
        None => true,
        Some(when) => asked.whens.contains(&when),
    };
    let is_met_by_the_lease = |case: &&Value| case.get("or").is_some() && !asked.foreign;
    let choices = |verb: &Value| -> BTreeSet<String> {
        let one = |verb: &Value| verb.as_str().expect("a verb").to_owned();
        match verb.as_array() {
            Some(some) => some.iter().map(one).collect(),
            None => [one(verb)].into(),
        }
    };
    let met = cases
        .iter()
        .filter(applies)
        .filter(|case| !is_met_by_the_lease(case));
    let verbs = met.flat_map(|case| case["verbs"].as_array().expect("verbs"));
    Some(verbs.map(choices).collect())
}

fn askers(guarded: &Guarded<'_>) -> Vec<Asker> {
    guarded.put_role(
        "leaser",
        &json!([{"verbs": ["lease"], "resource": "leases/"}]),
    );
    let mut kinds: Vec<(String, Vec<&str>, &str)> = vec![("nothing".into(), vec![], "in/")];
    for verb in VERBS {
        kinds.push((format!("{verb}-in"), vec![verb], "in/"));
        kinds.push((format!("{verb}-out"), vec![verb], "out/"));
        // A name that only begins like those that are asked for.
        kinds.push((format!("{verb}-near"), vec![verb], "in/a/"));
    }
    kinds.push(("list-and-read".into(), vec!["list", "read"], "in/"));
    kinds.push(("watcher".into(), vec!["watch", "read", "list"], "in/"));
    kinds.push(("writer".into(), vec!["write", "read"], "in/"));
    kinds.push(("deleter".into(), vec!["delete", "lock"], "in/"));
    kinds.push(("locker".into(), vec!["lock", "lease", "write"], "in/"));
    kinds.push(("leader".into(), vec!["campaign", "lease", "delete"], "in/"));
    kinds.push(("everything".into(), VERBS.to_vec(), "in/"));
    kinds.push(("everything-out".into(), VERBS.to_vec(), "out/"));
    let mut askers = Vec::new();
    for (name, verbs, prefix) in kinds {
        let within = prefix == "in/";
        let grants = match verbs.is_empty() {
            true => json!([]),
            false => under(&verbs, prefix, within),
        };
        let token = guarded.identity(&name, &grants);
        // A lease of its own, also where it may not be granted another.
        guarded.put_identity(&name, &["leaser"]);
        let mut client = guarded.client(&token);
        let (lease, spare) = (granted(&mut client), granted(&mut client));
        guarded.put_identity(&name, &[&name]);
        askers.push(Asker {
            client,
            verbs: verbs
                .iter()
                .filter(|_| within)
                .map(|verb| (*verb).to_owned())
                .collect(),
            is_admin: false,
            lease,
            spare,
            name,
        });
    }
    let mut root = guarded.root();
    let (lease, spare) = (granted(&mut root), granted(&mut root));
    askers.push(Asker {
        name: "root".into(),
        client: root,
        verbs: BTreeSet::new(),
        is_admin: true,
        lease,
        spare,
    });
    askers
}

fn granted(client: &mut Client) -> String {
    done(
        client.post("/v1/leases", &json!({"ttl_ms": 3_600_000})),
        201,
    )
    .str("lease")
}

#[test]
fn each_operation_is_allowed_to_whom_the_document_says_and_to_nobody_else() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let guarded = Guarded::of(&cluster);
    let mut root = guarded.root();
    let document = done(root.get("/v1/openapi.json"), 200).json();
    let mut operations = BTreeMap::new();
    for item in document["paths"].as_object().expect("paths").values() {
        for operation in item.as_object().expect("operations").values() {
            let id = operation["operationId"].as_str().expect("an id").to_owned();
            let cases = operation["x-tenure-verbs"]
                .as_array()
                .expect("what it needs")
                .clone();
            operations.insert(id, cases);
        }
    }
    let mut askers = askers(&guarded);
    let mut nobody = cluster.members[0].client();
    let mut other = granted(&mut root);
    let mut judged = 0;
    for (id, cases) in &operations {
        let whens: BTreeSet<&str> = cases
            .iter()
            .filter_map(|case| case["when"].as_str())
            .collect();
        let absent = Leases {
            lease: "0000000000000001",
            spare: "0000000000000002",
            other: "0000000000000003",
        };
        let all = requests(id, absent);
        let tried: BTreeSet<&str> = all.iter().flat_map(|asked| asked.whens.clone()).collect();
        assert_eq!(
            tried, whens,
            "{id}: each case is tried, and there are no others"
        );
        for asker in &mut askers {
            if id == "revokeLease" {
                // Ended by whoever may.
                other = granted(&mut root);
            }
            let leases = Leases {
                lease: &asker.lease,
                spare: &asker.spare,
                other: &other,
            };
            for asked in requests(id, leases) {
                // Each waits a while for company: these show what all others would.
                let renews = asked.path.ends_with("/renew") && !asked.foreign;
                if renews && !["nothing", "everything-out", "root"].contains(&&*asker.name) {
                    continue;
                }
                let needed = needed(cases, &asked);
                let what = format!(
                    "{id} of {}: {} {} {}",
                    asker.name, asked.method, asked.path, asked.body
                );
                let allowed = asker.is_admin
                    || needed.as_ref().is_none_or(|needed| {
                        needed
                            .iter()
                            .all(|choices| !choices.is_disjoint(&asker.verbs))
                    });
                let answer = asked.send(&mut asker.client);
                check(
                    &answer,
                    allowed,
                    needed.as_deref().unwrap_or_default(),
                    &what,
                    &asked,
                );
                judged += 1;
            }
        }
        if id == "revokeLease" {
            other = granted(&mut root);
        }
        for asked in all {
            let answer = asked.send(&mut nobody);
            match cases.is_empty() {
                true => assert_eq!(answer.status, 200, "{id} is open"),
                false => {
                    assert_eq!(
                        answer.status,
                        401,
                        "{id} without a proof: {}",
                        answer.text()
                    );
                    assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{id}");
                    tells_nothing_of_the_cluster(&answer, id);
                }
            }
        }
    }
    assert!(1_000 < judged, "{judged}");
    for path in [
        "/",
        "/v1/nothing",
        "/console",
        "/v1/keys/in/a/../../locks/x",
    ] {
        assert_eq!(
            done(nobody.get(path), 401).code(),
            "unauthenticated",
            "{path}"
        );
    }
    for path in ["/livez", "/readyz"] {
        tells_nothing_of_the_cluster(&done(nobody.get(path), 200), path);
    }
    let known = done(root.get("/v1/whoami"), 200);
    assert!(known.header("tenure-cluster").is_some());
}

/// Whoever has proven nothing learns neither which cluster this is nor who leads it or how much is going on.
fn tells_nothing_of_the_cluster(answer: &Answer, what: &str) {
    for name in ["cluster", "member", "leader", "term", "revision"] {
        let header = answer.header(&format!("tenure-{name}"));
        assert_eq!(header, None, "{what} tells {name}");
    }
    assert!(answer.header("tenure-request-id").is_some(), "{what}");
}

fn check(answer: &Answer, allowed: bool, needed: &[BTreeSet<String>], what: &str, asked: &Asked) {
    if allowed {
        // Whatever else is in its way is the caller's affair, and no fault of the member.
        let is_served = answer.status < 500 && !matches!(answer.status, 401 | 403);
        assert!(is_served, "{what}: {} {}", answer.status, answer.text());
        let expected = asked.answered.unwrap_or(answer.status);
        assert_eq!(answer.status, expected, "{what}: {}", answer.text());
        return;
    }
    assert_eq!(answer.status, 403, "{what}: {}", answer.text());
    if asked.method == "HEAD" {
        return;
    }
    assert_eq!(answer.code(), "forbidden", "{what}");
    assert!(answer.not_applied(), "{what}: {}", answer.text());
    let detail = answer.str("detail");
    // Another's lease is named, and no right that would help: there is none to grant.
    let is_of_another = asked.foreign && detail.contains("was granted to another identity");
    let more: &[&str] = match is_of_another {
        true => &[],
        false => {
            let verb = answer.str("verb");
            let named = needed.iter().any(|choices| choices.contains(&verb));
            assert!(named, "{what}: {detail}");
            assert!(
                detail.starts_with(&format!("needs `{verb}` on ")),
                "{what}: {detail}"
            );
            &["verb", "resource"]
        }
    };
    // What a problem always has, and which right is missing.
    let fields: BTreeSet<String> = answer
        .json()
        .as_object()
        .expect("a problem")
        .keys()
        .cloned()
        .collect();
    let always = [
        "type", "title", "status", "detail", "code", "outcome", "retry",
    ];
    let expected = always.iter().chain(more).map(|field| (*field).to_owned());
    assert_eq!(fields, expected.collect(), "{what}");
}
