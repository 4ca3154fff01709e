//! What the tests share: processes, clusters, a client, relays and waiting.

pub(crate) mod binary;
pub(crate) mod cluster;
pub(crate) mod collector;
pub(crate) mod events;
pub(crate) mod http;
pub(crate) mod machine;
pub(crate) mod offline;
pub(crate) mod printed;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod queue;
pub(crate) mod wait;

pub(crate) use cluster::{Cluster, ELECTION_TIMEOUT, Member, SOON, Setup, acquire, grant};
pub(crate) use http::{Answer, Client, Line, PATIENCE, Pending, Secure};
pub(crate) use process::Process;
