//! The Rust client against a real member: certificates that are replaced while a program runs.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;
use tenure::Client;
use tenure::api::Code;

use crate::access::certificates::{administer_by, looking, turn_on};
use crate::authority::{Issued, Wanted};
use crate::common::{Cluster, SOON, machine, wait};
use crate::sdk::{runtime, soon};
use crate::tls::Trust;

/// A member with access control on, and a worker who is known by his certificate.
struct Workplace {
    trust: Trust,
    cluster: Cluster,
}

impl Workplace {
    fn new() -> Workplace {
        let trust = Trust::new();
        let cluster = looking(&trust);
        let mut client = cluster.members[0].client().persistent();
        administer_by(&mut client, "admin.example");
        let all = json!({"grants": [
            {"verbs": ["read", "write"], "resource": "keys/"},
            {"verbs": ["lock"], "resource": "locks/"},
            {"verbs": ["lease"], "resource": "leases/"},
        ]});
        let worker = json!({"roles": ["worker"], "certificate": "worker.example"});
        for (path, body) in [("/v1/roles/worker", all), ("/v1/identities/worker", worker)] {
            let put = client.json("PUT", path, &body).expect("an answer");
            put.expect(200);
        }
        turn_on(&mut client, 200);
        Workplace { trust, cluster }
    }

    fn issue(&self, seconds: u32) -> Issued {
        let wanted = Wanted::named(&["worker.example"]).for_clients();
        self.trust
            .clients
            .issue(wanted.between(-3_600, seconds.into()))
    }

    /// Puts a certificate and its key in place of those that were there.
    fn write(&self, issued: &Issued) -> (PathBuf, PathBuf) {
        issued.write(self.cluster.dir(), "worker")
    }

    fn client(&self, (chain, key): (PathBuf, PathBuf)) -> Client {
        let url = format!("https://{}", self.cluster.members[0].client);
        let client = Client::builder([url])
            .authority(self.trust.clients.pem.clone())
            .identity_files(chain, key)
            .patience(Duration::from_secs(5))
            .build();
        client.expect("the files fit")
    }
}

#[test]
fn a_certificate_that_is_replaced_in_time_is_shown_from_then_on_and_nothing_is_lost() {
    const LASTS: u32 = 7;
    let _machine = machine::shared();
    let place = Workplace::new();
    let short = place.issue(LASTS);
    let issued = Instant::now();
    let client = place.client(place.write(&short));
    let runtime = runtime();
    runtime.block_on(async {
        let lock = client.lock("jobs/a").ttl(Duration::from_secs(3)).acquire();
        let lock = soon(lock).await.expect("it is acquired");
        let mut replaced = false;
        let end = Duration::from_secs(u64::from(LASTS) + 3);
        while issued.elapsed() < end {
            if !replaced && issued.elapsed() > Duration::from_secs(2) {
                place.write(&place.issue(3_600));
                replaced = true;
            }
            let put = soon(client.put("load", "x").into_future()).await;
            put.unwrap_or_else(|error| panic!("after {:?}: {error}", issued.elapsed()));
            assert!(lock.is_held(), "after {:?}", issued.elapsed());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        soon(lock.release()).await.expect("it is released");
    });
    // The first one is of no use any more.
    let old = place.trust.client(Some(&short));
    let member = &place.cluster.members[0];
    let told = crate::common::Client::new(member.client).over(old);
    assert!({ told }.get("/v1/whoami").is_err());
}

#[test]
fn a_certificate_that_expired_is_told_with_its_file_and_the_next_call_shows_another() {
    let _machine = machine::shared();
    let place = Workplace::new();
    let client = place.client(place.write(&place.issue(4)));
    let runtime = runtime();
    let put = || runtime.block_on(soon(client.put("load", "x").into_future()));
    put().expect("it is put");
    let error = wait::until("the certificate expires", SOON, || put().err());
    assert_eq!(error.code(), Some(Code::Unauthenticated), "{error}");
    let told = error.to_string();
    assert!(
        told.contains("certificate has expired") && told.contains("no other certificate in"),
        "{told}"
    );
    place.write(&place.issue(3_600));
    put().expect("another is shown");
}
