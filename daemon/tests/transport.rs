//! The transport over real sockets: order, independence of lanes, loss, refusal and garbage.

#[allow(dead_code, reason = "each test binary uses a part")]
mod authority;
mod transport_support;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tenure_raft::{
    Body, Configuration, LogPosition, MemberId, MemberInfo, Message, SnapshotFile, SnapshotMeta,
};
use tenure_replica::{ForwardKind, ForwardedRequest, Lane, PeerMessage};
use tenured::tls::{Files, Port, With};
use tenured::transport::{ClusterId, Identity, ask_hello};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use authority::{Authority, Wanted, write};
use transport_support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_one_lane_arrive_in_order_and_from_whom_they_are() {
    let (a, mut b, _) = pair().await;
    for round in 0..1500 {
        assert!(a.send_raft(b.id, heartbeat(round)));
        assert!(a.send_raft(b.id, append(round, 100)));
    }
    let (mut urgent, mut appends) = (0, 0);
    while urgent + appends < 3000 {
        let received = b.receive().await;
        assert_eq!(received.from, a.id);
        let PeerMessage::Raft(Message { from, to, .. }) = &received.message else {
            panic!("{received:?}")
        };
        assert_eq!((*from, *to), (a.id, b.id));
        let (lane, round) = round_of(&received);
        let next = if lane == Lane::Urgent {
            &mut urgent
        } else {
            &mut appends
        };
        assert_eq!(round, *next, "{lane:?}");
        *next += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_all_reach_each_other() {
    let (mut nodes, configuration) = nodes(3).await;
    nodes.iter().for_each(|node| {
        node.transport
            .update(CLUSTER, &configuration, &configuration)
    });
    for node in &nodes {
        for to in configuration.voters.iter().filter(|to| **to != node.id) {
            node.connected(*to).await;
            assert!(node.send_raft(*to, heartbeat(node.id.0)));
        }
    }
    for node in &mut nodes {
        let rounds = BTreeSet::from([
            round_of(&node.receive().await).1,
            round_of(&node.receive().await).1,
        ]);
        let expected = (1..=3).filter(|id| *id != node.id.0).collect();
        assert_eq!(rounds, expected);
    }
    for node in nodes {
        within("stops", node.transport.stop()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_is_not_read_drops_and_holds_up_no_other() {
    let (mut a, mut b, _) = pair().await;
    let mut held = Vec::new();
    let mut sent = 0;
    let begun = Instant::now();
    // Nobody frees the budget of what arrived, so that sooner or later the queue is full.
    while a.send_raft(b.id, append(sent, 1 << 20)) {
        sent += 1;
        assert!(sent < 500, "sending never said that the queue is full");
    }
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "sending waited: {:?}",
        begun.elapsed()
    );
    assert_eq!(a.unreachable().await, b.id);

    assert!(a.send_raft(b.id, heartbeat(7)));
    let mut appends = 0;
    loop {
        let received = b.receive().await;
        let (lane, round) = round_of(&received);
        if lane == Lane::Urgent {
            assert_eq!(round, 7);
            break;
        }
        assert_eq!(round, appends);
        appends += 1;
        held.push(received);
    }
    assert!(appends < sent, "the lane was not held up at all");

    drop(held);
    while appends < sent {
        let received = b.receive().await;
        assert_eq!(round_of(&received), (Lane::Append, appends));
        appends += 1;
    }
    assert!(a.send_raft(b.id, append(sent, 10)));
    assert_eq!(round_of(&b.receive().await), (Lane::Append, sent));
}

fn forward(token: u64) -> PeerMessage {
    let request = Bytes::from_static(b"request");
    PeerMessage::Forward(vec![ForwardedRequest {
        token,
        kind: ForwardKind::Command,
        request,
        trace: None,
    }])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_restarts_is_found_again_and_nothing_is_sent_twice() {
    let (mut a, mut b, configuration) = pair().await;
    let mut seen = BTreeSet::new();
    let mut note = |received: &PeerMessage| {
        if let PeerMessage::Forward(requests) = received {
            assert!(
                seen.insert(requests[0].token),
                "token {} came twice",
                requests[0].token
            );
        }
    };
    for token in 0..200 {
        assert!(a.transport.send(b.id, forward(token)));
    }
    note(&b.receive().await.message);
    let url = b.url.clone();
    b.transport.stop().await;
    while let Ok(event) = b.incoming.try_recv() {
        if let tenured::transport::Incoming::Message(received) = event {
            note(&received.message);
        }
    }
    assert_eq!(a.unreachable().await, b.id);
    until("the loss is noticed", || {
        a.link(b.id).connected_for.is_empty()
    })
    .await;
    assert!(
        !a.transport.send(b.id, forward(1000)),
        "a message is not kept for a member that is away"
    );

    let mut b = Node::start(identity(2, "n2", None), listen_again(&url).await, &url);
    b.transport.update(CLUSTER, &configuration, &configuration);
    a.connected(b.id).await;
    assert!(a.transport.send(b.id, forward(2000)));
    let received = b.receive().await;
    note(&received.message);
    assert_eq!(received.message, forward(2000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pieces_of_a_snapshot_arrive_whole() {
    const PIECE: usize = 1 << 20;
    let (a, mut b, configuration) = pair().await;
    let position = LogPosition {
        term: tenure_raft::Term(1),
        index: tenure_raft::LogIndex(5),
    };
    let meta = SnapshotMeta {
        position,
        configuration: Arc::new(configuration),
        ..SnapshotMeta::default()
    };
    let file = SnapshotFile {
        meta,
        size: 24 * PIECE as u64,
        digest: 3,
    };
    for number in 0..24u64 {
        let data = Bytes::from(
            (0..PIECE)
                .map(|place| (place as u64 * (number + 1)) as u8)
                .collect::<Vec<_>>(),
        );
        let body = Body::Snapshot {
            file: file.clone(),
            offset: number * PIECE as u64,
            data,
            round: number,
        };
        assert!(a.send_raft(b.id, body.clone()));
        let received = b.receive().await;
        let PeerMessage::Raft(Message { body: arrived, .. }) = received.message else {
            panic!("a piece")
        };
        assert!(arrived == body, "piece {number} differs");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clusters_that_are_crossed_refuse_each_other() {
    let (mut nodes, configuration) = nodes(2).await;
    let other = ClusterId(0xc2);
    nodes[0]
        .transport
        .update(CLUSTER, &configuration, &configuration);
    nodes[1]
        .transport
        .update(other, &configuration, &configuration);
    for (node, to) in [(&nodes[0], MemberId(2)), (&nodes[1], MemberId(1))] {
        let refusal = node.refused(to).await;
        assert_eq!(refusal.code, "wrong-cluster");
        assert!(refusal.detail.contains(&CLUSTER.to_string()), "{refusal}");
        assert!(refusal.detail.contains(&other.to_string()), "{refusal}");
        assert!(!node.send_raft(to, heartbeat(1)));
    }
    for node in &mut nodes {
        while let Ok(event) = node.incoming.try_recv() {
            assert!(
                matches!(event, tenured::transport::Incoming::Unreachable(_)),
                "{event:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_in_anothers_place_is_refused_with_both_names() {
    let (nodes, mut configuration) = nodes(2).await;
    nodes[1]
        .transport
        .update(CLUSTER, &configuration, &configuration);
    let info = configuration.info.remove(&MemberId(2)).expect("a member");
    configuration.info.insert(MemberId(0xbad), info);
    nodes[0]
        .transport
        .update(CLUSTER, &configuration, &configuration);
    let refusal = nodes[0].refused(MemberId(0xbad)).await;
    assert_eq!(refusal.code, "wrong-member");
    assert!(
        refusal.detail.contains(&MemberId(0xbad).to_string()),
        "{refusal}"
    );
    assert!(
        refusal.detail.contains(&MemberId(2).to_string()),
        "{refusal}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_removed_is_cut_off_and_told() {
    let (mut a, b, mut configuration) = pair().await;
    configuration.voters.remove(&a.id);
    configuration.info.remove(&a.id);
    configuration.removed.insert(a.id);
    b.transport.update(CLUSTER, &configuration, &configuration);
    let refusal = a.refused(b.id).await;
    assert_eq!(refusal.code, "removed");
    assert!(refusal.detail.contains("was removed"), "{refusal}");
    a.told_removed().await;
    assert!(b.transport.links().is_empty());
    until("all lanes are cut", || {
        a.link(b.id).connected_for.is_empty()
    })
    .await;
}

/// A member whose certificate says where it is at home, and not who it is.
async fn at_home(authority: &Authority, dir: &Path, id: u64) -> Node {
    let name = format!("n{id}");
    let issued = authority.issue(Wanted::named(&["127.0.0.1"]));
    let (certificate, key) = issued.write(dir, &name);
    let files = Files {
        certificate,
        key,
        authorities: Some(write(dir, "ca.pem", &authority.pem)),
        revoked: None,
    };
    let port = Port::open(With::Members, files, false).expect("its files fit");
    let (listener, url) = listener().await;
    let identity = Identity {
        peer_url: url.clone(),
        ..identity(id, &name, None)
    };
    Node::start_by(Some(port), identity, listener, &url)
}

/// Any machine has a certificate for its own host, where one authority signs those of all machines.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_with_a_good_certificate_is_no_guest_unless_a_member_that_is_known_knows_it() {
    let dir = tempfile::tempdir().expect("there is room for a directory");
    let authority = Authority::new();
    let mut nodes = Vec::new();
    for id in 1..=4 {
        nodes.push(at_home(&authority, dir.path(), id).await);
    }
    // The second was away when the third came; the fourth is a machine that came to know the others' ids.
    let all = configuration_of(&nodes);
    let of_members = configuration_of(&nodes[..3]);
    let from_before = configuration_of(&nodes[..2]);
    for (node, known) in nodes
        .iter()
        .zip([&of_members, &from_before, &of_members, &all])
    {
        node.transport.update(CLUSTER, known, known);
    }
    let [_, second, third, stranger] = &nodes[..] else {
        panic!("there are four");
    };
    third.connected(second.id).await;
    second.connected(third.id).await;
    for refusing in &nodes[..3] {
        let refusal = stranger.refused(refusing.id).await;
        assert_eq!(refusal.code, "unvouched-member", "{refusal}");
    }
    let admits_it = |node: &Node| {
        let links = node.transport.links();
        links.iter().any(|link| link.member == stranger.id)
    };
    assert!(!nodes[..3].iter().any(admits_it));
    for node in &nodes {
        within("stops", node.transport.stop()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_member_takes_no_stream_and_says_hello() {
    let (nodes, configuration) = nodes(2).await;
    nodes[0]
        .transport
        .update(CLUSTER, &configuration, &configuration);
    assert_eq!(nodes[0].refused(MemberId(2)).await.code, "not-formed");
    let hello = ask_hello(None, &nodes[1].url).await.expect("it answers");
    assert_eq!(
        (hello.member, hello.name.as_str(), hello.cluster),
        (MemberId(2), "n2", None)
    );
    let hello = ask_hello(None, &nodes[0].url).await.expect("it answers");
    assert_eq!(hello.cluster, Some(CLUSTER));
    assert_eq!(
        hello.known_names.get("n2").map(|known| known.0),
        Some(MemberId(2))
    );
}

/// Sends bytes to the port and waits until it closes the connection.
async fn poke(url: &str, bytes: &[u8]) {
    let address = url.strip_prefix("http://").expect("a URL of ours");
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    // It may close before it has read everything: both are fine, as long as it closes.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = within("garbage is hung up on", stream.read_to_end(&mut answer)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_the_port_is_hung_up_on_and_harms_nobody() {
    let (a, mut b, _) = pair().await;
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let random: Vec<u8> = (0..20_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let endless_headers = [
        PREFACE,
        &[0, 0, 0, 4, 0, 0, 0, 0, 0],
        &[0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 1],
    ]
    .concat();
    let after_preface = [PREFACE, random.as_slice()].concat();
    tokio::join!(
        poke(&b.url, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        poke(&b.url, &random),
        poke(&b.url, &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
        poke(&b.url, PREFACE),
        poke(&b.url, &PREFACE[..10]),
        poke(&b.url, b""),
        poke(&b.url, &endless_headers),
        poke(&b.url, &after_preface),
    );
    assert!(a.send_raft(b.id, heartbeat(5)));
    assert_eq!(round_of(&b.receive().await), (Lane::Urgent, 5));
}

/// Opens a stream as member `from` would, sends `body` on it and returns what it is told at the end.
async fn stream_as(from: MemberId, to: &Node, body: Vec<u8>) -> String {
    stream_saying(from, to, "", body).await
}

/// The same, and says that it is reached at `peer_url`.
async fn stream_saying(from: MemberId, to: &Node, peer_url: &str, body: Vec<u8>) -> String {
    let address = to.url.strip_prefix("http://").expect("a URL of ours");
    let stream = TcpStream::connect(address).await.expect("it listens");
    let (mut sender, connection) = hyper::client::conn::http2::handshake::<
        _,
        _,
        http_body_util::combinators::BoxBody<Bytes, Infallible>,
    >(TokioExecutor::new(), TokioIo::new(stream))
    .await
    .expect("HTTP/2");
    let driver = tokio::spawn(connection);
    let request = Request::post(format!("{}/raft/append", to.url))
        .header("tenure-cluster", CLUSTER.to_string())
        .header("tenure-from", from.to_string())
        .header("tenure-to", to.id.to_string())
        .header("tenure-wire-version", "1")
        .header("tenure-peer-url", peer_url)
        .body(Full::new(Bytes::from(body)).boxed())
        .expect("a request");
    let response = within("an answer", sender.send_request(request))
        .await
        .expect("an answer");
    assert_eq!(response.status(), 200);
    let told = within("the end of the stream", response.into_body().collect())
        .await
        .expect("a clean end");
    drop(sender);
    driver.abort();
    String::from_utf8_lossy(&told.to_bytes()).into_owned()
}

/// Where nothing is secured anybody may say that a member has moved: a connection to that member outlives all of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_says_in_the_name_of_a_member_ends_no_connection_to_it_and_is_followed_when_it_is_gone()
 {
    let (a, mut b, mut configuration) = pair().await;
    let begun = Instant::now();
    for round in 0..20 {
        let elsewhere = format!("http://127.0.0.1:{}", 1 + round % 2);
        stream_saying(b.id, &a, &elsewhere, Vec::new()).await;
        assert!(a.send_raft(b.id, heartbeat(round)));
        assert_eq!(round_of(&b.receive().await), (Lane::Urgent, round));
    }
    let lasted = begun.elapsed();
    let link = a.link(b.id);
    assert_eq!(link.connected_for.len(), 3, "{link:?}");
    let outlived = |age: &Duration| lasted <= *age;
    assert!(link.connected_for.values().all(outlived), "{link:?}");
    within("stops", b.transport.stop()).await;
    // Else what is sent below might be lost with what was connected before.
    let is_lost = || a.link(b.id).connected_for.is_empty();
    until("the connections to it have ended", is_lost).await;

    // It is gone, and at neither of the places that were named; then it says itself where it is.
    let (listener, url) = listener().await;
    let identity = Identity {
        peer_url: url.clone(),
        ..identity(2, "n2", None)
    };
    let mut moved = Node::start(identity, listener, &url);
    let known = configuration.info.get_mut(&moved.id).expect("a member");
    known.peer_url.clone_from(&url);
    moved
        .transport
        .update(CLUSTER, &configuration, &configuration);
    a.connected(moved.id).await;
    assert!(a.send_raft(moved.id, heartbeat(99)));
    assert_eq!(round_of(&moved.receive().await), (Lane::Urgent, 99));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corrupt_frame_closes_its_stream_and_delivers_nothing() {
    let (nodes, mut configuration) = nodes(1).await;
    let mut b = nodes.into_iter().next().expect("one");
    let stranger = MemberId(77);
    // A member whose port nobody listens on: only its streams count here.
    let info = MemberInfo {
        name: "n77".into(),
        peer_url: "http://127.0.0.1:1".into(),
        client_url: String::new(),
        start: None,
    };
    configuration.info.insert(stranger, info);
    b.transport.update(CLUSTER, &configuration, &configuration);

    let mut whole = bytes::BytesMut::new();
    let message = Message {
        from: stranger,
        to: b.id,
        term: tenure_raft::Term(9),
        body: append(1, 100),
    };
    tenured::transport::encode(&PeerMessage::Raft(message), &mut whole).expect("fits");
    let mut flipped = whole.to_vec();
    flipped[40] ^= 1;
    let mut lying = whole.to_vec();
    lying[..4].copy_from_slice(&(8u32 << 20).to_be_bytes());
    let mut enormous = whole.to_vec();
    enormous[..4].copy_from_slice(&u32::MAX.to_be_bytes());
    let half = whole[..whole.len() - 3].to_vec();
    for (body, detail) in [
        (flipped, "checksum"),
        (lying, "ended"),
        (enormous, "frame of"),
        (half, "ended"),
    ] {
        let told = stream_as(stranger, &b, body).await;
        assert!(
            told.contains("corrupt-frame") && told.contains(detail),
            "{told}"
        );
    }
    assert_eq!(stream_as(stranger, &b, whole.to_vec()).await, "");
    let received = b.receive().await;
    assert_eq!(
        (received.from, round_of(&received)),
        (stranger, (Lane::Append, 1))
    );
    while let Ok(event) = b.incoming.try_recv() {
        assert!(
            matches!(event, tenured::transport::Incoming::Unreachable(_)),
            "{event:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_idle_connections_does_not_keep_members_out() {
    let (listener_of_b, url) = listener().await;
    let address = url
        .strip_prefix("http://")
        .expect("a URL of ours")
        .to_owned();
    let b = Node::start(identity(2, "n2", None), listener_of_b, &url);
    let mut crowd = Vec::new();
    for _ in 0..300 {
        crowd.push(TcpStream::connect(&address).await.expect("it listens"));
    }
    let (listener_of_a, url_of_a) = listener().await;
    let a = Node::start(identity(1, "n1", None), listener_of_a, &url_of_a);
    let nodes = [a, b];
    let configuration: Configuration = configuration_of(&nodes);
    nodes.iter().for_each(|node| {
        node.transport
            .update(CLUSTER, &configuration, &configuration)
    });
    nodes[0].connected(MemberId(2)).await;
    nodes[1].connected(MemberId(1)).await;
}
