//! Client certificates as proofs: that they are counted on only where they are looked at, and no longer than they are valid.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::done;
use crate::authority::{Issued, Wanted, write};
use crate::common::{Client, Cluster, Member, PATIENCE, Setup, machine, wait};
use crate::tls::{Trust, dir_of, form_by_tls};

/// A cluster of one that looks at the certificates of clients.
pub(crate) fn looking(trust: &Trust) -> Cluster {
    let mut cluster = Setup::of(1).prepare();
    trust.secure_clients(&mut cluster, 0);
    let dir = dir_of(&cluster, 0);
    let authority = write(&dir, "ca.pem", &trust.clients.pem);
    let setting = ("client-ca-file", authority.display().to_string());
    cluster.members[0].settings.push(setting);
    form_by_tls(&mut cluster);
    cluster
}

/// Makes an administrator who is known by the name in his certificate alone.
pub(crate) fn administer_by(client: &mut Client, certificate: &str) {
    let everything = json!({"grants": [{"verbs": ["admin"], "resource": ""}]});
    done(client.json("PUT", "/v1/roles/admin", &everything), 200);
    let root = json!({"roles": ["admin"], "certificate": certificate});
    done(client.json("PUT", "/v1/identities/root", &root), 200);
}

/// Turns access control on, or is refused so; what is told.
pub(crate) fn turn_on(client: &mut Client, status: u16) -> String {
    let on = json!({"enabled": true});
    done(client.json("PATCH", "/v1/access", &on), status).text()
}

#[test]
fn a_member_that_takes_no_certificates_refuses_what_would_leave_nothing_else_to_administer_by() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let mut client = cluster.members[0].client().persistent();
    administer_by(&mut client, "admin.example");
    let told = turn_on(&mut client, 409);
    assert!(
        told.contains("access-conflict") && told.contains("client_ca_file is missing"),
        "{told}"
    );
    let who = done(client.get("/v1/whoami"), 200);
    assert_eq!(who.str("access"), "off", "nobody is locked out");
    let asked = json!({"identity": "root", "expires_in_ms": 3_600_000});
    done(client.post("/v1/tokens", &asked), 201);
    turn_on(&mut client, 409);
    let token = done(client.post("/v1/tokens", &json!({"identity": "root"})), 201);
    turn_on(&mut client, 200);
    let mut root = cluster.members[0].client().with_token(&token.str("token"));
    // The same of every way in which the last of them goes.
    let gone = format!("/v1/tokens/{}", token.str("id"));
    let refused = done(root.delete(&gone), 409);
    assert!(
        refused.text().contains("client_ca_file is missing"),
        "{}",
        refused.text()
    );
    let other = json!({"roles": ["admin"], "certificate": "second.example"});
    done(root.json("PUT", "/v1/identities/second", &other), 200);
    done(root.delete("/v1/identities/root"), 409);
    let none = json!({"roles": []});
    done(root.json("PUT", "/v1/identities/root", &none), 409);
    done(root.post("/v1/tokens", &json!({"identity": "second"})), 201);
    done(root.delete(&gone), 200);
}

#[test]
fn a_member_that_takes_certificates_is_administered_by_them_alone() {
    let _machine = machine::shared();
    let trust = Trust::new();
    let cluster = looking(&trust);
    let member = &cluster.members[0];
    administer_by(&mut member.client().persistent(), "admin.example");
    turn_on(&mut member.client().persistent(), 200);
    done(member.client().get("/v1/whoami"), 401);
    let admin = trust
        .clients
        .issue(Wanted::named(&["admin.example"]).for_clients());
    let mut root = Client::new(member.client).over(trust.client(Some(&admin)));
    assert_eq!(done(root.get("/v1/whoami"), 200).str("identity"), "root");
    done(root.get("/v1/access"), 200);
}

fn by(member: &Member, trust: &Trust, shows: &Issued) -> Client {
    Client::new(member.client).over(trust.client(Some(shows)))
}

#[test]
fn a_certificate_that_expires_ends_what_it_opened_and_proves_nothing_more_on_its_connection() {
    const LASTS: u32 = 6;
    let _machine = machine::shared();
    let trust = Trust::new();
    let cluster = looking(&trust);
    let member = &cluster.members[0];
    let mut client = member.client().persistent();
    administer_by(&mut client, "admin.example");
    let grants = json!({"grants": [{"verbs": ["read", "watch"], "resource": "keys/"}]});
    done(client.json("PUT", "/v1/roles/ci", &grants), 200);
    let identity = json!({"roles": ["ci"], "certificate": "ci.example"});
    done(client.json("PUT", "/v1/identities/ci", &identity), 200);
    turn_on(&mut client, 200);
    let issue = |seconds: u32| {
        let wanted = Wanted::named(&["ci.example"]).for_clients();
        trust.clients.issue(wanted.between(-3_600, seconds.into()))
    };
    let short = issue(LASTS);
    let issued = Instant::now();
    let mut standing = by(member, &trust, &short);
    let who = done(standing.get("/v1/whoami"), 200);
    assert_eq!(who.str("identity"), "ci");
    assert!(who.u64("expires_in_ms") <= u64::from(LASTS) * 1_000);
    let watch = "/v1/watch?prefix=keys/&after=1&wait_ms=60000";
    let open = by(member, &trust, &short);
    let open = open.begin("GET", watch, &Value::Null);
    // What is open ends with the certificate, and not before.
    let ended = open.expect("it is sent").answer(PATIENCE);
    let ended = done(ended, 401);
    let after = issued.elapsed();
    let least = Duration::from_secs(u64::from(LASTS) - 2);
    assert!(
        (least..least + Duration::from_secs(5)).contains(&after),
        "{after:?}"
    );
    assert!(
        ended.str("detail").contains("certificate has expired"),
        "{}",
        ended.text()
    );
    // Its connection stands, and whoever asks over it is told why that is of no use.
    let told = done(standing.get("/v1/keys/a"), 401);
    assert!(
        told.str("detail").contains("connect with a new one"),
        "{}",
        told.text()
    );
    // A certificate is valid to the end of its last second, for whoever makes a handshake.
    wait::until("no handshake is made with it", PATIENCE, || {
        by(member, &trust, &short).get("/v1/whoami").err()
    });
    let next = issue(3_600);
    done(by(member, &trust, &next).get("/v1/whoami"), 200);
}
