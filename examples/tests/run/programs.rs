//! Starting the examples beside a cluster.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::common::Cluster;

/// Files with tokens.
pub(crate) struct Tokens {
    /// Of somebody who may do everything.
    pub(crate) admin: PathBuf,
    /// Of somebody with the grants that were asked for.
    pub(crate) holder: PathBuf,
}

/// Switches access control on. A grant is written as for `tenure role put`.
pub(crate) fn guarded(cluster: &Cluster, grants: &[&str]) -> Tokens {
    let mut client = cluster.members[0].client().persistent();
    let mut ask = |method: &str, path: &str, body| {
        let answer = client.json(method, path, &body).expect("it answers");
        assert!(answer.status < 300, "{path}: {}", answer.text());
        answer
    };
    let mut token = |identity: &str, grants: &[&str]| {
        let grants = grants.iter().map(|grant| {
            let (verbs, resource) = grant.split_once(':').expect("it has both");
            json!({"verbs": verbs.split(',').collect::<Vec<_>>(), "resource": resource})
        });
        let role = json!({"grants": grants.collect::<Vec<_>>()});
        ask("PUT", &format!("/v1/roles/{identity}"), role);
        let whole = json!({"roles": [identity]});
        ask("PUT", &format!("/v1/identities/{identity}"), whole);
        let created = ask("POST", "/v1/tokens", json!({"identity": identity}));
        let file = cluster.dir().join(format!("{identity}.token"));
        std::fs::write(&file, created.str("token")).expect("it is written");
        file
    };
    let tokens = Tokens {
        admin: token("admin", &["admin:"]),
        holder: token("holder", grants),
    };
    ask("PATCH", "/v1/access", json!({"enabled": true}));
    tokens
}

/// The client URLs of all members, as the examples take them.
pub(crate) fn endpoints(cluster: &Cluster) -> String {
    let members = cluster.members.iter();
    let urls: Vec<String> = members
        .map(|member| format!("http://{}", member.client))
        .collect();
    urls.join(",")
}

/// A program that asks these members.
pub(crate) fn program(path: impl AsRef<Path>, endpoints: &str) -> Command {
    let mut command = Command::new(path.as_ref());
    command.env("TENURE_ENDPOINTS", endpoints);
    command
}

/// A file of this folder.
pub(crate) fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// An address beside the members, which is the cluster's alone.
pub(crate) fn address(cluster: &Cluster, last: u8, port: u16) -> SocketAddr {
    let IpAddr::V4(member) = cluster.members[0].client.ip() else {
        panic!("members listen on 127.0.0.0/8");
    };
    let [first, second, third, _] = member.octets();
    SocketAddr::new(Ipv4Addr::new(first, second, third, last).into(), port)
}
