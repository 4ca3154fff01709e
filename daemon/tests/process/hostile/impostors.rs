//! Strangers at a port that is secured: whoever has a certificate is the member that it names and no other, and whoever
//! begins handshakes by the hundred ends those of nobody else.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::Value;
use tokio::net::TcpSocket;

use super::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, block, frame, greeting, parse};
use crate::authority::{Issued, Wanted};
use crate::common::{Cluster, Setup, machine, wait};
use crate::tls::{Trust, certificate, form_by_tls, trusting};

/// How long a member may take to answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// How whoever has this certificate of a member's authority connects to the port of members.
fn showing(trust: &Trust, issued: &Issued) -> Arc<ClientConfig> {
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("a key");
    let shown = vec![certificate(&issued.certificate)];
    let config = trusting(&trust.members.pem).with_client_auth_cert(shown, key);
    let mut config = config.expect("a pair");
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

fn connection(config: &Arc<ClientConfig>, address: SocketAddr) -> ClientConnection {
    let name = ServerName::from(address.ip());
    ClientConnection::new(Arc::clone(config), name).expect("it is a name")
}

/// The problem with which a member refuses a stream; null where it says nothing in time.
fn refusal(line: &mut impl Read) -> Value {
    let began = Instant::now();
    let (mut heard, mut piece) = (Vec::new(), [0; 4096]);
    let said = |heard: &[u8]| {
        let frames = parse(heard);
        let body = frames.iter().filter(|came| came.kind == DATA);
        let body: Vec<u8> = body.flat_map(|came| came.payload.clone()).collect();
        let ends = |kind, flags| matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
        let ended = frames.iter().any(|came| ends(came.kind, came.flags));
        ended.then(|| serde_json::from_slice(&body).unwrap_or(Value::Null))
    };
    while began.elapsed() < ANSWERED_WITHIN {
        match line.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(read) => heard.extend_from_slice(&piece[..read]),
        }
        if let Some(said) = said(&heard) {
            return said;
        }
    }
    Value::Null
}

/// Who somebody says that he is.
struct Claim<'a> {
    id: &'a str,
    name: &'a str,
    peer_url: &'a str,
}

#[test]
fn a_certificate_lets_in_the_member_whose_it_is_and_nobody_who_says_that_he_is_another() {
    let _machine = machine::half();
    let trust = Trust::new();
    let mut cluster = Setup::of(3).prepare();
    for number in 0..3 {
        trust.secure_peers(&mut cluster, number);
    }
    form_by_tls(&mut cluster);
    cluster.leader();
    let status = |cluster: &Cluster, number: usize| {
        let member = &cluster.members[number];
        member.status().expect("it answers")
    };
    let text = |value: &Value| value.as_str().expect("it is text").to_owned();
    let [first, second, third] = [0, 1, 2].map(|number| text(&status(&cluster, number)["member"]));
    let id = text(&status(&cluster, 0)["cluster"]);
    let address = cluster.members[0].peer;
    let refused = |issued: &Issued, claim: &Claim<'_>, lane: &str| {
        let config = showing(&trust, issued);
        let stream = TcpStream::connect(address).expect("the member listens");
        let patience = stream.set_read_timeout(Some(ANSWERED_WITHIN));
        patience.expect("a time limit");
        let mut line = StreamOwned::new(connection(&config, address), stream);
        let headers = [
            ("tenure-cluster", id.as_str()),
            ("tenure-from", claim.id),
            ("tenure-to", &first),
            ("tenure-wire-version", "1"),
            ("tenure-name", claim.name),
            ("tenure-peer-url", claim.peer_url),
        ];
        let asked = block("POST", lane, &headers);
        // What is no message behind it, so that whoever is let in is told that.
        let bytes = [
            greeting(&[]),
            frame(HEADERS, END_HEADERS, 1, &asked),
            frame(DATA, END_STREAM, 1, &[0xff; 64]),
        ];
        line.write_all(&bytes.concat()).expect("it is trusted");
        text(&refusal(&mut line)["code"])
    };
    let stranger = "00000000000000aa";
    let own_url = cluster.members[1].peer_url();
    let nine_url = format!("https://{}:7380", cluster.members[2].peer.ip());
    let claim = |id, name, peer_url| Claim { id, name, peer_url };
    let named = |name: &str| trust.members.issue(trust.member(&cluster, name));
    let host = trust
        .members
        .issue(Wanted::named(&[&cluster.members[2].peer.ip().to_string()]));
    let (n2, n3, n9) = (named("n2"), named("n3"), named("n9"));
    for lane in ["/raft/urgent", "/raft/append", "/raft/snapshot"] {
        let check = |issued: &Issued, claim: Claim<'_>, expected: &str| {
            let code = refused(issued, &claim, lane);
            assert_eq!(code, expected, "{lane}: {} {}", claim.id, claim.name);
        };
        // Known ids that are not the certificate's, whatever else is said.
        check(&n3, claim(&second, "n2", &own_url), "wrong-certificate");
        check(&n3, claim(&second, "n3", &nine_url), "wrong-certificate");
        check(&n2, claim(&third, "n2", &own_url), "wrong-certificate");
        check(&n9, claim(&second, "n9", &nine_url), "wrong-certificate");
        // Ids that nobody knows: of the member that the certificate names, which says not where it is; of another; and of
        // whoever is at home at the host of a member.
        check(&n9, claim(stranger, "n9", ""), "unknown-member");
        check(&n9, claim(stranger, "n8", &nine_url), "wrong-certificate");
        check(&n2, claim(stranger, "n9", &own_url), "wrong-certificate");
        check(&host, claim(stranger, "n9", &nine_url), "unvouched-member");
    }
    // Its own certificate is good, and what it sends is looked at: where its loss is felt least.
    let own = claim(&second, "n2", &own_url);
    assert_eq!(refused(&n2, &own, "/raft/snapshot"), "corrupt-frame");
    let mut client = cluster.members[0].client().persistent();
    let put = client.put("/v1/keys/after", b"x").expect("an answer");
    put.expect(201);
    cluster.wait_until_equal();
}

/// Connections from another address, each of which begins a handshake and says no more.
fn flood(from: IpAddr, to: SocketAddr, count: usize) -> Vec<TcpStream> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("there is a thread");
    let open = async || {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(from, 0))?;
        let stream = socket.connect(to).await?.into_std()?;
        stream.set_nonblocking(false)?;
        (&stream).write_all(b"\x16\x03\x01\x00\xc8\x01\x00")?;
        std::io::Result::Ok(stream)
    };
    let opened = (0..count).map(|_| runtime.block_on(open()));
    // Whoever is cut off before it has said that is one of them, too.
    opened.filter_map(Result::ok).collect()
}

#[test]
fn a_handshake_that_is_slow_outlasts_a_flood_of_them_from_another_address() {
    let _machine = machine::shared();
    let trust = Trust::new();
    let mut cluster = Setup::of(1).prepare();
    trust.secure_peers(&mut cluster, 0);
    trust.secure_clients(&mut cluster, 0);
    form_by_tls(&mut cluster);
    let member = &cluster.members[0];
    let stranger: IpAddr = [127, 77, 77, 77].into();
    let as_member = trust.members.issue(trust.member(&cluster, "n1"));
    let as_client = trusting(&trust.clients.pem).with_no_client_auth();
    let ports = [
        (member.peer, showing(&trust, &as_member), 600, greeting(&[])),
        (
            member.client,
            Arc::new(as_client),
            300,
            b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        ),
    ];
    for (address, config, count, says) in ports {
        let mut connection = connection(&config, address);
        let mut stream = TcpStream::connect(address).expect("the member listens");
        let patience = stream.set_read_timeout(Some(ANSWERED_WITHIN));
        patience.expect("a time limit");
        // It says hello, and is slow to look at what it is answered.
        connection.write_tls(&mut stream).expect("it is sent");
        let crowd = flood(stranger, address, count);
        assert!(crowd.len() > count / 2, "{}", crowd.len());
        // Longer than any handshake goes on undisturbed where others wait.
        wait::pass(Duration::from_millis(1_500), || false);
        let mut line = StreamOwned::new(connection, stream);
        line.write_all(&says).expect("its handshake is made");
        let mut answer = [0; 9];
        line.read_exact(&mut answer)
            .unwrap_or_else(|error| panic!("{address}: it is cut off: {error}"));
        // Others from where it comes are let in beside the flood, too.
        let began = Instant::now();
        let mut client = member.client();
        client.get("/livez").expect("an answer").expect(200);
        assert!(began.elapsed() < Duration::from_secs(3));
        drop(crowd);
    }
}
