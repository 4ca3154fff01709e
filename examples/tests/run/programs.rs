//! Starting the examples beside a cluster.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::Cluster;

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
