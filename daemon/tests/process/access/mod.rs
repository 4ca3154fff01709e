//! Access control as clients meet it: who is let in, what each may do, and that nobody learns of what is not his.

pub(crate) mod certificates;
mod joining;
mod leaks;
mod matrix;
mod open;
mod partition;
mod proofs;
mod restored;

use serde_json::{Value, json};

use crate::common::{Answer, Client, Cluster, Member};

/// Every verb but `admin`.
const VERBS: [&str; 9] = [
    "read", "list", "write", "delete", "lock", "break", "campaign", "lease", "watch",
];

/// A cluster with access control on, seen by its administrator.
struct Guarded<'a> {
    member: &'a Member,
    root: String,
}

impl<'a> Guarded<'a> {
    /// Makes an administrator and turns access control on.
    fn of(cluster: &'a Cluster) -> Guarded<'a> {
        let member = &cluster.members[0];
        let mut client = member.client().persistent();
        let everything = json!({"grants": [{"verbs": ["admin"], "resource": ""}]});
        done(client.json("PUT", "/v1/roles/admin", &everything), 200);
        done(
            client.json("PUT", "/v1/identities/root", &json!({"roles": ["admin"]})),
            200,
        );
        let refused = done(
            client.json("PATCH", "/v1/access", &json!({"enabled": true})),
            409,
        );
        assert_eq!(
            refused.code(),
            "access-conflict",
            "nobody could turn it off"
        );
        let root = done(client.post("/v1/tokens", &json!({"identity": "root"})), 201).str("token");
        done(
            client.json("PATCH", "/v1/access", &json!({"enabled": true})),
            200,
        );
        Guarded { member, root }
    }

    /// The administrator at the first member.
    fn root(&self) -> Client {
        self.member.client().with_token(&self.root)
    }

    /// Whoever has a token.
    fn client(&self, token: &str) -> Client {
        self.member.client().with_token(token)
    }

    fn put_role(&self, role: &str, grants: &Value) {
        let path = format!("/v1/roles/{role}");
        done(
            self.root().json("PUT", &path, &json!({"grants": grants})),
            200,
        );
    }

    fn put_identity(&self, identity: &str, roles: &[&str]) {
        let path = format!("/v1/identities/{identity}");
        done(
            self.root().json("PUT", &path, &json!({"roles": roles})),
            200,
        );
    }

    fn token(&self, identity: &str) -> String {
        let asked = json!({"identity": identity});
        done(self.root().post("/v1/tokens", &asked), 201).str("token")
    }

    /// An identity with a role of its own name, and its token.
    fn identity(&self, name: &str, grants: &Value) -> String {
        self.put_role(name, grants);
        self.put_identity(name, &[name]);
        self.token(name)
    }
}

fn done(answer: std::io::Result<Answer>, status: u16) -> Answer {
    answer.expect("the member answers").expect(status)
}

/// The same verbs under a beginning of names in every collection that takes one of them. Of leases, which have no names,
/// on all or on none.
fn under(verbs: &[&str], prefix: &str, leases: bool) -> Value {
    let grant = |resource: String| json!({"verbs": verbs, "resource": resource});
    let takes = |of_collection: &[&str]| {
        let of_all = ["read", "list", "watch"];
        verbs
            .iter()
            .any(|verb| of_all.contains(verb) || of_collection.contains(verb))
    };
    let collections: [(&str, &[&str]); 4] = [
        ("keys", &["write", "delete"]),
        ("locks", &["lock", "break"]),
        ("semaphores", &["lock", "break"]),
        ("elections", &["campaign", "break"]),
    ];
    let mut grants: Vec<Value> = collections
        .iter()
        .filter(|(_, of_collection)| takes(of_collection))
        .map(|(collection, _)| grant(format!("{collection}/{prefix}")))
        .collect();
    if leases && takes(&["lease"]) {
        grants.push(grant("leases/".to_owned()));
    }
    grants.into()
}
