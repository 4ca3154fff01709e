//! Members on loopback with real sockets, for the tests of the transport and of forming.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tenure_raft::{
    Body, Configuration, Entry, LogIndex, LogPosition, MemberId, MemberInfo, Message, Payload,
    Stamp, Term,
};
use tenure_replica::{Lane, PeerMessage};
use tenured::tls::Port;
use tenured::transport::{Budgets, ClusterId, Identity, Incoming, PeerLink, Received, Transport};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// No condition of these tests takes longer, on the slowest machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Waits for something that must happen.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("did not happen in time: {what}"),
    }
}

/// Waits until a condition that nobody announces holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let look = async {
        let mut interval = tokio::time::interval(Duration::from_millis(5));
        while !holds() {
            interval.tick().await;
        }
    };
    within(what, look).await;
}

/// A listener on a free port, and its URL.
pub(crate) async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    (listener, url)
}

/// The listener of a member that starts again.
pub(crate) async fn listen_again(url: &str) -> TcpListener {
    let address = url.strip_prefix("http://").expect("a URL of ours");
    TcpListener::bind(address).await.expect("the port was ours")
}

/// A member's transport and what it has reported.
pub(crate) struct Node {
    pub(crate) transport: Transport,
    pub(crate) incoming: mpsc::UnboundedReceiver<Incoming>,
    pub(crate) url: String,
    pub(crate) id: MemberId,
}

pub(crate) fn identity(
    id: u64,
    name: &str,
    initial_members: Option<BTreeMap<String, String>>,
) -> Identity {
    let client_url = format!("http://client-of-{name}");
    Identity {
        member: MemberId(id),
        name: name.to_owned(),
        client_url,
        peer_url: String::new(),
        initial_members,
        state_version_at_most: tenure_state::STATE_VERSION,
    }
}

impl Node {
    pub(crate) fn start(identity: Identity, listener: TcpListener, url: &str) -> Node {
        Node::start_by(None, identity, listener, url)
    }

    /// The same, with what secures its connections.
    pub(crate) fn start_by(
        tls: Option<Port>,
        identity: Identity,
        listener: TcpListener,
        url: &str,
    ) -> Node {
        let (sender, incoming) = mpsc::unbounded_channel();
        let sink = Arc::new(move |event| drop(sender.send(event)));
        let id = identity.member;
        let transport = Transport::start(
            identity,
            listener,
            tls.map(Arc::new),
            Budgets {
                append_bytes: 0,
                ..Budgets::default()
            },
            sink,
        )
        .expect("a transport starts");
        Node {
            transport,
            incoming,
            url: url.to_owned(),
            id,
        }
    }

    /// The next message, with its budget, passing over reports of lost ones.
    pub(crate) async fn receive(&mut self) -> Received {
        loop {
            match within("a message arrives", self.incoming.recv()).await {
                Some(Incoming::Message(received)) => return received,
                Some(Incoming::Unreachable(_)) => {}
                Some(Incoming::Removed) => panic!("nobody is removed here"),
                Some(Incoming::Panicked) => panic!("the thread of the transport panicked"),
                None => panic!("the transport is gone"),
            }
        }
    }

    pub(crate) async fn unreachable(&mut self) -> MemberId {
        loop {
            match within("a report of lost messages", self.incoming.recv()).await {
                Some(Incoming::Unreachable(member)) => return member,
                Some(Incoming::Message(_)) => {}
                Some(Incoming::Removed) => panic!("nobody is removed here"),
                Some(Incoming::Panicked) => panic!("the thread of the transport panicked"),
                None => panic!("the transport is gone"),
            }
        }
    }

    pub(crate) async fn told_removed(&mut self) {
        loop {
            match within("word of the removal", self.incoming.recv()).await {
                Some(Incoming::Removed) => return,
                Some(Incoming::Message(_) | Incoming::Unreachable(_)) => {}
                Some(Incoming::Panicked) => panic!("the thread of the transport panicked"),
                None => panic!("the transport is gone"),
            }
        }
    }

    pub(crate) fn link(&self, to: MemberId) -> PeerLink {
        self.transport
            .links()
            .into_iter()
            .find(|link| link.member == to)
            .expect("a peer")
    }

    pub(crate) async fn connected(&self, to: MemberId) {
        until("all lanes are connected", || {
            self.link(to).connected_for.len() == 3
        })
        .await;
    }

    pub(crate) async fn refused(&self, to: MemberId) -> tenured::transport::Refusal {
        until("a refusal", || self.link(to).refusal.is_some()).await;
        self.link(to).refusal.expect("as just seen")
    }

    pub(crate) fn send_raft(&self, to: MemberId, body: Body) -> bool {
        self.transport.send(
            to,
            PeerMessage::Raft(Message {
                from: self.id,
                to,
                term: Term(9),
                body,
            }),
        )
    }
}

/// Members 1, 2, … that know each other, not yet connected.
pub(crate) async fn nodes(count: u64) -> (Vec<Node>, Configuration) {
    let mut nodes = Vec::new();
    for id in 1..=count {
        let (listener, url) = listener().await;
        nodes.push(Node::start(
            identity(id, &format!("n{id}"), None),
            listener,
            &url,
        ));
    }
    let configuration = configuration_of(&nodes);
    (nodes, configuration)
}

pub(crate) fn configuration_of(nodes: &[Node]) -> Configuration {
    let info = |node: &Node| MemberInfo {
        name: node.transport.directory().identity().name.clone(),
        peer_url: node.url.clone(),
        client_url: String::new(),
        start: None,
    };
    Configuration {
        voters: nodes.iter().map(|node| node.id).collect(),
        info: nodes.iter().map(|node| (node.id, info(node))).collect(),
        ..Configuration::default()
    }
}

pub(crate) const CLUSTER: ClusterId = ClusterId(0xc1);

/// Two members that are connected both ways.
pub(crate) async fn pair() -> (Node, Node, Configuration) {
    let (mut nodes, configuration) = nodes(2).await;
    for node in &nodes {
        node.transport
            .update(CLUSTER, &configuration, &configuration);
    }
    let (b, a) = (nodes.pop().expect("two"), nodes.pop().expect("two"));
    a.connected(b.id).await;
    b.connected(a.id).await;
    (a, b, configuration)
}

pub(crate) fn heartbeat(round: u64) -> Body {
    Body::Heartbeat {
        commit: LogIndex(0),
        round,
    }
}

pub(crate) fn append(round: u64, bytes: usize) -> Body {
    let previous = LogPosition {
        term: Term(1),
        index: LogIndex(1),
    };
    let payload = Payload::Command(Bytes::from(vec![round as u8; bytes]));
    let entry = Entry {
        index: LogIndex(2),
        term: Term(1),
        stamp: Stamp(3),
        payload,
    };
    Body::Append {
        previous,
        entries: vec![entry],
        commit: LogIndex(1),
        round,
    }
}

/// The round of a heartbeat or append.
pub(crate) fn round_of(received: &Received) -> (Lane, u64) {
    match &received.message {
        PeerMessage::Raft(Message {
            body: Body::Heartbeat { round, .. } | Body::Append { round, .. },
            ..
        }) => (received.message.lane(), *round),
        other => panic!("{other:?}"),
    }
}
