//! Ports with real certificates: what is read, what is taken, and who trusts whom.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::authority::{Authority, Issued, Wanted, write};
use super::*;

/// One day, in seconds.
const DAY: i64 = 24 * 3600;

fn dir() -> TempDir {
    tempfile::tempdir().expect("there is room for a directory")
}

/// The files of a port in a directory, where `NAME.pem` and `NAME.key` have been written.
fn files(dir: &Path, name: &str) -> Files {
    let at = |file: String| dir.join(file);
    let revoked = at(format!("{name}.crl"));
    Files {
        certificate: at(format!("{name}.pem")),
        key: at(format!("{name}.key")),
        authorities: Some(at("ca.pem".to_owned())),
        revoked: revoked.exists().then_some(revoked),
    }
}

fn port(dir: &Path, name: &str, with: With) -> Port {
    Port::open(with, files(dir, name), false).expect("its files fit")
}

fn issue(dir: &Path, authority: &Authority, name: &str, wanted: Wanted) -> Issued {
    write(dir, "ca.pem", &authority.pem);
    let issued = authority.issue(wanted);
    issued.write(dir, name);
    issued
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_what_is_wrong() {
    let (dir, authority) = (dir(), Authority::new());
    issue(dir.path(), &authority, "a", Wanted::named(&["a.example"]));
    issue(dir.path(), &authority, "b", Wanted::named(&["b.example"]));
    let check = |change: &dyn Fn(&mut Files), setting: &str, what: &str| {
        let mut files = files(dir.path(), "a");
        change(&mut files);
        let error = Port::open(With::Members, files, false)
            .expect_err(what)
            .to_string();
        assert!(
            error.starts_with(&format!("{setting} is ")) && error.contains(what),
            "{error}"
        );
        assert!(!error.contains("PRIVATE"), "{error}");
    };
    let at = |name: &str| dir.path().join(name);
    check(
        &|files| files.key = at("b.key"),
        "peer_key_file",
        "not the key of the certificate",
    );
    check(
        &|files| files.key = at("a.pem"),
        "peer_key_file",
        "no private key",
    );
    check(
        &|files| files.certificate = at("a.key"),
        "peer_cert_file",
        "no certificate",
    );
    check(
        &|files| files.certificate = at("gone"),
        "peer_cert_file",
        "cannot be read",
    );
    check(
        &|files| files.certificate = at(""),
        "peer_cert_file",
        "no file",
    );
    check(
        &|files| files.authorities = Some(at("a.key")),
        "peer_ca_file",
        "no certificate",
    );
    check(
        &|files| files.revoked = Some(at("ca.pem")),
        "peer_crl_file",
        "no certificate revocation list",
    );
    fs::write(at("torn.pem"), "-----BEGIN CERTIFICATE-----\nMIIB\n").expect("it can be written");
    check(
        &|files| files.certificate = at("torn.pem"),
        "peer_cert_file",
        "PEM",
    );
    let senseless = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    fs::write(at("senseless.pem"), senseless).expect("it can be written");
    check(
        &|files| files.certificate = at("senseless.pem"),
        "peer_cert_file",
        "cannot be read",
    );
    check(
        &|files| files.authorities = Some(at("senseless.pem")),
        "peer_ca_file",
        "none of an authority",
    );
}

#[test]
fn a_pair_of_which_one_half_is_written_changes_nothing_and_is_taken_when_it_fits() {
    let (dir, authority) = (dir(), Authority::new());
    issue(dir.path(), &authority, "a", Wanted::named(&["a.example"]));
    let port = port(dir.path(), "a", With::Clients);
    let until = port.valid_until();
    port.look();
    assert!(port.in_words(until - 100 * DAY).is_empty());
    let next = authority.issue(Wanted::named(&["a.example"]).valid(-1, 500));
    write(dir.path(), "a.pem", &next.certificate);
    port.look();
    assert_eq!(port.valid_until(), until);
    let words = port.in_words(until - 100 * DAY);
    assert!(
        words.len() == 1 && words[0].contains("not the key of the certificate"),
        "{words:?}"
    );
    // Nothing has changed since: it is not read again, and the trouble stays.
    port.look();
    assert_eq!(port.in_words(until - 100 * DAY).len(), 1);
    write(dir.path(), "a.key", &next.key);
    port.look();
    assert!(until < port.valid_until());
    assert!(port.in_words(until - 100 * DAY).is_empty());
    let after = port.fitting().expect("they fit");
    assert!(after.is_none(), "they are in force already");
    let last = issue(dir.path(), &authority, "a", Wanted::named(&["a.example"]));
    let fitting = port.fitting().expect("they fit").expect("they are new");
    let told = port.take(fitting);
    let named = format!("client_cert_file (serial {}, valid until ", last.serial);
    assert!(
        told[0].starts_with(&named) && told[1] == "client_key_file",
        "{told:?}"
    );
}

#[test]
fn an_end_that_is_near_is_told_with_the_file_and_sooner_where_it_lives_long() {
    let (dir, authority) = (dir(), Authority::new());
    let check = |from: i64, until: i64, left: i64, expected: Option<&str>| {
        issue(
            dir.path(),
            &authority,
            "a",
            Wanted::named(&["a.example"]).valid(from, until),
        );
        let port = port(dir.path(), "a", With::Members);
        let words = port.in_words(port.valid_until() - left);
        match expected {
            None => assert!(words.is_empty(), "{words:?}"),
            Some(begin) => {
                assert!(words.len() == 1 && words[0].starts_with(begin), "{words:?}");
                let file = dir.path().join("a.pem").display().to_string();
                assert!(
                    words[0].contains(&file) && words[0].contains("peer_cert_file"),
                    "{words:?}"
                );
            }
        }
    };
    check(0, 365, 22 * DAY, None);
    check(0, 365, 20 * DAY, Some("certificate expires soon"));
    check(0, 365, 0, Some("certificate expired"));
    check(0, 9, 4 * DAY, None);
    check(0, 9, 2 * DAY, Some("certificate expires soon"));
    check(5, 365, 361 * DAY, Some("certificate not valid yet"));
}

#[test]
fn a_list_that_is_outdated_and_a_key_that_anybody_may_read_are_told() {
    use std::os::unix::fs::PermissionsExt as _;
    let (dir, authority) = (dir(), Authority::new());
    issue(dir.path(), &authority, "a", Wanted::named(&["a.example"]));
    write(dir.path(), "a.crl", &authority.revoked(&[], -1));
    let key = dir.path().join("a.key");
    let open_to = |mode| {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    open_to(0o644);
    let port = port(dir.path(), "a", With::Members);
    let words = port.in_words(port.valid_until() - 100 * DAY);
    let begins = ["revocation list outdated", "key readable by everybody"];
    assert!(
        words.len() == 2
            && begins
                .iter()
                .zip(&words)
                .all(|(begin, words)| words.starts_with(begin)),
        "{words:?}"
    );
    // Whoever does what it says is not told so any more, though the key is the same, and is where it is undone.
    for (mode, expected) in [(0o640, 1), (0o644, 2)] {
        open_to(mode);
        port.look();
        let words = port.in_words(port.valid_until() - 100 * DAY);
        assert_eq!(words.len(), expected, "{mode:o}: {words:?}");
    }
}

#[test]
fn what_fits_is_taken_at_the_next_look_where_a_reload_failed_for_the_other_port() {
    let (dir, authority) = (dir(), Authority::new());
    let named = || Wanted::named(&["a.example"]);
    issue(dir.path(), &authority, "clients", named());
    issue(dir.path(), &authority, "members", named());
    let tls = Tls::open(
        Some(&files(dir.path(), "clients")),
        Some(&files(dir.path(), "members")),
        false,
    )
    .expect("they fit");
    let (clients, members) = match (&tls.clients, &tls.members) {
        (Some(clients), Some(members)) => (clients, members),
        _ => panic!("{tls:?}"),
    };
    let (until, before) = (clients.valid_until(), members.valid_until());
    issue(dir.path(), &authority, "clients", named().valid(-1, 500));
    let torn = authority.issue(named().valid(-1, 500));
    write(dir.path(), "members.pem", &torn.certificate);
    let error = tls.reload().expect_err("half of a pair is new");
    assert!(error.to_string().contains("peer_key_file"), "{error}");
    assert_eq!(
        clients.valid_until(),
        until,
        "a reload takes all or nothing"
    );
    tls.ports().for_each(|port| port.look());
    assert!(until < clients.valid_until());
    assert_eq!(members.valid_until(), before);
}

#[test]
fn the_certificate_of_another_member_is_told_when_it_is_taken_and_as_long_as_it_is_in_force() {
    let (dir, authority) = (dir(), Authority::new());
    let named = |name: &str| Wanted::named(&[&format!("tenure://member/{name}"), "a.example"]);
    issue(dir.path(), &authority, "a", named("n1"));
    let port = port(dir.path(), "a", With::Members);
    port.belongs_to("n1", "https://a.example:7380");
    let far = port.valid_until() - 100 * DAY;
    assert!(port.in_words(far).is_empty());
    issue(dir.path(), &authority, "a", named("n2"));
    port.look();
    let words = port.in_words(far);
    let why = "its certificate is that of tenure://member/n2, not of tenure://member/n1";
    assert!(words.len() == 1 && words[0].contains(why), "{words:?}");
    issue(dir.path(), &authority, "a", named("n1"));
    port.look();
    assert!(port.in_words(far).is_empty());
}

/// What becomes of a handshake: what the one that dials says, and what the other says.
async fn shake(
    server: &Port,
    client: &Port,
    host: &str,
) -> (Result<(), String>, Result<(), String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("it has an address");
    let dialling = async {
        let stream = TcpStream::connect(address).await.expect("it listens");
        let dialled = client.dial(stream, host).await;
        let (mut wire, _) = dialled.map_err(|trouble| trouble.to_string())?;
        // With TLS 1.3 it is heard only now whether the other side is content.
        wire.write_all(b"x")
            .await
            .map_err(|error| error.to_string())?;
        let mut answer = [0];
        let read = wire.read_exact(&mut answer).await;
        read.map(drop).map_err(|error| error.to_string())
    };
    let accepting = async {
        let (stream, address) = listener.accept().await.expect("somebody dials");
        match server.accept(stream, address, false).await {
            Ok(Accepted::Secure(mut wire, _)) => {
                let mut said = [0];
                let _ = wire.read_exact(&mut said).await;
                let _ = wire.write_all(&said).await;
                Ok(())
            }
            Ok(Accepted::Plain(_)) => Err("plain".to_owned()),
            Err(trouble) => Err(trouble.to_string()),
        }
    };
    tokio::join!(dialling, accepting)
}

#[tokio::test]
async fn members_trust_whom_their_authority_signed_while_that_is_valid_and_not_revoked() {
    let dir = dir();
    let (ours, theirs) = (Authority::called("ours"), Authority::new());
    let namesake = Authority::called("ours");
    let named = || Wanted::named(&["localhost"]);
    issue(dir.path(), &ours, "good", named());
    issue(dir.path(), &ours, "expired", named().valid(-10, -1));
    issue(dir.path(), &ours, "early", named().valid(2, 10));
    issue(dir.path(), &ours, "client", named().for_clients());
    let revoked = issue(dir.path(), &ours, "revoked", named());
    theirs.issue(named()).write(dir.path(), "stranger");
    namesake.issue(named()).write(dir.path(), "namesake");
    write(dir.path(), "good.crl", &ours.revoked(&[&revoked], 10));
    let open = |name: &str| port(dir.path(), name, With::Members);
    let good = open("good");
    assert_eq!(
        shake(&good, &open("good"), "localhost").await,
        (Ok(()), Ok(()))
    );
    for (name, why) in [
        ("expired", "it expired at"),
        ("early", "it is not valid before"),
        ("revoked", "it is revoked"),
        ("stranger", "signed by none of the authorities known here"),
        ("namesake", "not that of the authority of that name"),
    ] {
        let bad = open(name);
        let (dialled, accepted) = shake(&good, &bad, "localhost").await;
        assert!(dialled.is_err(), "{name}: {dialled:?}");
        assert!(
            accepted.as_ref().is_err_and(|words| words.contains(why)),
            "{name}: {accepted:?}"
        );
        let (dialled, accepted) = shake(&bad, &good, "localhost").await;
        assert!(
            dialled.as_ref().is_err_and(|words| words.contains(why)),
            "{name}: {dialled:?}"
        );
        let alert = "the other side ends the TLS handshake with the alert";
        assert!(
            accepted
                .as_ref()
                .is_err_and(|words| words.starts_with(alert)),
            "{name}: {accepted:?}"
        );
        assert_eq!(bad.failures(), 1);
    }
    assert_eq!(good.failures(), 5);
    let (dialled, _) = shake(&good, &open("good"), "elsewhere.example").await;
    assert!(dialled.is_err_and(|words| words.contains("not valid for name \"elsewhere.example\"")));
    let (dialled, _) = shake(&open("client"), &good, "localhost").await;
    assert!(dialled.is_err_and(|words| words.contains("does not allow it to be used so")));
}

#[tokio::test]
async fn a_connection_ends_on_both_sides_when_the_certificate_of_the_other_is_taken_back() {
    let (dir, authority) = (dir(), Authority::new());
    let named = || Wanted::named(&["localhost"]);
    let mut issued = Vec::new();
    for name in ["a", "b"] {
        issued.push(issue(dir.path(), &authority, name, named()));
        write(
            dir.path(),
            &format!("{name}.crl"),
            &authority.revoked(&[], 10),
        );
    }
    // Who looks anew, whose certificate is taken back, and who notices.
    for (reloads, number) in [("a", 1), ("b", 0)] {
        let ports = ["a", "b"].map(|name| port(dir.path(), name, With::Members));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("it has an address");
        let dialling = async {
            let stream = TcpStream::connect(address).await.expect("it listens");
            ports[0]
                .dial(stream, "localhost")
                .await
                .expect("it is trusted")
                .0
        };
        let accepting = async {
            let (stream, address) = listener.accept().await.expect("somebody dials");
            match ports[1].accept(stream, address, false).await {
                Ok(Accepted::Secure(wire, _)) => wire,
                other => panic!("{:?}", other.err()),
            }
        };
        let mut wires: [Wire; 2] = tokio::join!(dialling, accepting).into();
        let list = |revoked: &[&Issued]| {
            let path = format!("{reloads}.crl");
            write(dir.path(), &path, &authority.revoked(revoked, 10));
        };
        let own = 1 - number;
        list(&[&issued[own]]);
        ports[own].look();
        wires[number].write_all(b"x").await.expect("it stands");
        let mut byte = [0];
        let read = wires[own].read_exact(&mut byte).await;
        read.expect("what is taken back is not what it was shown");
        list(&[&issued[number]]);
        let [first, second] = &mut wires;
        let waiting = match own {
            0 => first.read_exact(&mut byte),
            _ => second.read_exact(&mut byte),
        };
        let (read, ()) = tokio::join!(waiting, async { ports[own].look() });
        let error = read.expect_err("it is taken back");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
        let written = wires[own].write_all(b"x").await;
        written.expect_err("nothing is told to whoever it was, either");
        list(&[]);
    }
}

#[tokio::test]
async fn a_list_of_another_authority_lets_nobody_in() {
    let dir = dir();
    let (ours, theirs) = (Authority::new(), Authority::new());
    issue(dir.path(), &ours, "good", Wanted::named(&["localhost"]));
    issue(dir.path(), &ours, "other", Wanted::named(&["localhost"]));
    write(dir.path(), "good.crl", &theirs.revoked(&[], 10));
    let open = |name: &str| port(dir.path(), name, With::Members);
    let (_, accepted) = shake(&open("good"), &open("other"), "localhost").await;
    assert!(accepted.is_err_and(|words| words.contains("no revocation list of its authority")));
}

/// What a port says of bytes that come to it.
async fn said_of(port: &Port, bytes: &[u8]) -> Result<&'static str, Trouble> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address: SocketAddr = listener.local_addr().expect("it has an address");
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let (accepted, address) = listener.accept().await.expect("somebody is there");
    stream.write_all(bytes).await.expect("it can be written");
    stream.shutdown().await.expect("it can be ended");
    match port.accept(accepted, address, false).await? {
        Accepted::Secure(..) => Ok("secure"),
        Accepted::Plain(_) => Ok("plain"),
    }
}

#[tokio::test]
async fn what_is_no_tls_is_told_from_what_is_and_from_a_look_at_the_port() {
    let (dir, authority) = (dir(), Authority::new());
    issue(dir.path(), &authority, "a", Wanted::named(&["localhost"]));
    let port = port(dir.path(), "a", With::Clients);
    assert_eq!(said_of(&port, b"GET / HTTP/1.1\r\n\r\n").await, Ok("plain"));
    assert_eq!(said_of(&port, b"").await, Err(Trouble::SaidNothing));
    assert_eq!(
        port.failures(),
        0,
        "to look whether a port is open is no failure"
    );
    let torn = said_of(&port, b"\x16\x03\x01\x00\xc8\x01")
        .await
        .expect_err("it is cut off");
    assert!(
        torn.to_string()
            .contains("in the middle of the TLS handshake"),
        "{torn}"
    );
    let senseless = said_of(&port, &[0x16; 64])
        .await
        .expect_err("it is senseless");
    assert!(senseless.to_string().contains("no TLS"), "{senseless}");
    // The beginning of a hello of TLS 1.1, which offers nothing newer.
    let old = [
        &[0x16, 3, 1, 0, 47, 1, 0, 0, 43, 3, 2][..],
        &[7; 32],
        &[0, 0, 4, 0xc0, 0x13, 0, 0x2f, 1, 0],
    ]
    .concat();
    let old = said_of(&port, &old).await.expect_err("it is too old");
    assert!(old.to_string().contains("TLS"), "{old}");
    assert_eq!(port.failures(), 3);
}
