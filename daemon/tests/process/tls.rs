//! TLS for clients and members: who is trusted, who is not, and certificates that change while a member runs.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, StreamOwned};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::authority::{Authority, Issued, Wanted, write};
use crate::common::{Client, Cluster, Line, Member, Process, SOON, Secure, Setup, machine, wait};

/// The authorities of a test: of members, and of clients and what clients are shown.
pub(crate) struct Trust {
    pub(crate) members: Authority,
    pub(crate) clients: Authority,
}

impl Trust {
    pub(crate) fn new() -> Trust {
        Trust {
            members: Authority::new(),
            clients: Authority::new(),
        }
    }

    /// How a client that shows this makes its connections secure.
    pub(crate) fn client(&self, shows: Option<&Issued>) -> Secure {
        over(self.config(shows))
    }

    /// How it knows whom it calls.
    fn config(&self, shows: Option<&Issued>) -> ClientConfig {
        let builder = trusting(&self.clients.pem);
        let Some(issued) = shows else {
            return builder.with_no_client_auth();
        };
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes());
        let chain = vec![certificate(&issued.certificate)];
        let authenticated = builder.with_client_auth_cert(chain, key.expect("a key"));
        authenticated.expect("a pair")
    }

    /// The serial number of the certificate that a member shows to a new connection of a client.
    fn serial_shown(&self, member: &Member) -> String {
        let stream = TcpStream::connect(member.client).expect("the member listens");
        let secured = secure(&Arc::new(self.config(None)), stream).expect("it is trusted");
        let shown = secured.0.conn.peer_certificates().and_then(<[_]>::first);
        let shown = shown.expect("a server shows a certificate");
        let (_, shown) = X509Certificate::from_der(shown).expect("it is a certificate");
        shown.raw_serial_as_string()
    }

    /// What a member shows to others: all of the cluster have each other's addresses, so that only the URI tells them
    /// apart.
    pub(crate) fn member(&self, cluster: &Cluster, name: &str) -> Wanted {
        let mut names = vec![format!("tenure://member/{name}")];
        names.extend(
            cluster
                .members
                .iter()
                .map(|member| member.peer.ip().to_string()),
        );
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        Wanted::named(&names)
    }

    /// Makes a member speak TLS with others.
    pub(crate) fn secure_peers(&self, cluster: &mut Cluster, number: usize) {
        let (name, dir) = (
            cluster.members[number].name.clone(),
            dir_of(cluster, number),
        );
        let issued = self.members.issue(self.member(cluster, &name));
        let (certificate, key) = issued.write(&dir, "peer");
        let member = &mut cluster.members[number];
        member.peers_by_tls = true;
        let authorities = write(&dir, "peer-ca.pem", &self.members.pem);
        for (setting, path) in [
            ("peer-cert-file", certificate),
            ("peer-key-file", key),
            ("peer-ca-file", authorities),
        ] {
            member.settings.push((setting, path.display().to_string()));
        }
    }

    /// Makes a member serve clients by TLS.
    pub(crate) fn secure_clients(&self, cluster: &mut Cluster, number: usize) {
        let dir = dir_of(cluster, number);
        let address = cluster.members[number].client.ip().to_string();
        let issued = self.clients.issue(Wanted::named(&[&address]));
        let (certificate, key) = issued.write(&dir, "client");
        // By which it calls the others as clients do, when it is replaced.
        let authority = write(&dir, "join-ca.pem", &self.clients.pem);
        let member = &mut cluster.members[number];
        member.secure = Some(self.client(None));
        for (setting, path) in [
            ("client-cert-file", certificate),
            ("client-key-file", key),
            ("join-ca-file", authority),
        ] {
            member.settings.push((setting, path.display().to_string()));
        }
    }
}

pub(crate) fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")
}

/// A client that trusts this authority.
pub(crate) fn trusting(authority: &str) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(authority)).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("there are versions")
        .with_root_certificates(roots)
}

/// Secures connections so.
fn over(config: ClientConfig) -> Secure {
    let config = Arc::new(config);
    Arc::new(move |stream| Ok(Box::new(secure(&config, stream)?)))
}

/// A connection by TLS.
struct Secured(StreamOwned<ClientConnection, TcpStream>);

/// Secures a connection with whoever is at home at its address.
fn secure(config: &Arc<ClientConfig>, stream: TcpStream) -> io::Result<Secured> {
    let name = ServerName::from(stream.peer_addr()?.ip());
    stream.set_read_timeout(Some(SOON))?;
    let connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(Secured(stream))
}

impl io::Read for Secured {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl io::Write for Secured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Line for Secured {
    fn tcp(&self) -> &TcpStream {
        &self.0.sock
    }
}

/// Where the certificates of a member lie.
pub(crate) fn dir_of(cluster: &Cluster, number: usize) -> PathBuf {
    let dir = cluster
        .dir()
        .join(format!("tls-{}", cluster.members[number].name));
    std::fs::create_dir_all(&dir).expect("there is room for a directory");
    dir
}

pub(crate) fn form_by_tls(cluster: &mut Cluster) {
    let list = cluster.initial_members();
    for member in &mut cluster.members {
        member.initial_members.clone_from(&list);
        member.start();
    }
    cluster.wait_until_ready();
}

fn reload(member: &Member) -> Output {
    let data_dir = member.data_dir.display().to_string();
    let mut command = Process::tenured(["reload", "--data-dir", &data_dir]);
    command.output().expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn warnings(member: &Member) -> String {
    let status = member.status().expect("it answers");
    status["warnings"].to_string()
}

/// Waits until the member has written a line with all of this.
fn line(member: &Member, parts: &[&str]) {
    let what = format!("{} writes {parts:?}", member.name);
    wait::until(&what, SOON, || {
        let output = member.output();
        let is_it = |line: &str| parts.iter().all(|part| line.contains(part));
        output.lines().any(is_it).then_some(())
    });
}

fn put(member: &Member, key: &str) {
    let answer = member
        .client()
        .persistent()
        .put(&format!("/v1/keys/{key}"), b"x");
    let answer = answer.expect("the member answers");
    assert!([200, 201].contains(&answer.status), "{}", answer.text());
}

#[test]
fn members_and_clients_speak_tls_and_certificates_change_while_they_do() {
    let _machine = machine::shared();
    let trust = Trust::new();
    let mut cluster = Setup::of(3).prepare();
    for number in 0..3 {
        trust.secure_peers(&mut cluster, number);
        trust.secure_clients(&mut cluster, number);
    }
    let known = trust
        .clients
        .issue(Wanted::named(&["ci.example"]).for_clients());
    let revoked = trust
        .clients
        .issue(Wanted::named(&["old.example"]).for_clients());
    let first_dir = dir_of(&cluster, 0);
    for (setting, name, pem) in [
        ("client-ca-file", "ca.pem", trust.clients.pem.clone()),
        ("client-crl-file", "crl.pem", trust.clients.revoked(&[], 10)),
    ] {
        let path = write(&first_dir, name, &pem);
        let settings = &mut cluster.members[0].settings;
        settings.push((setting, path.display().to_string()));
    }
    form_by_tls(&mut cluster);
    let [first, second, third] = &cluster.members[..] else {
        panic!("there are three");
    };
    for member in &cluster.members {
        put(member, &member.name);
        assert!(member.output().contains("ready: https://"));
        let found = warnings(member);
        assert!(!found.contains("certificate"), "{found}");
    }
    let plain = Client::new(first.client).get("/v1/status");
    let plain = plain.expect("it is told what is wrong").expect(400);
    assert!(
        plain.json()["detail"].to_string().contains("https://"),
        "{}",
        plain.text()
    );
    let page = third
        .client()
        .get("/metrics")
        .expect("the member answers")
        .text();
    for certificate in ["client", "peer"] {
        let series = format!(
            "tenure_tls_certificate_expiry_timestamp_seconds{{certificate=\"{certificate}\"}} "
        );
        let found = page.lines().find_map(|line| line.strip_prefix(&series));
        let until: f64 = found
            .and_then(|value| value.parse().ok())
            .expect("it is told");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let days = (until - now.expect("it is after 1970").as_secs_f64()) / 86_400.0;
        assert!((363.0..364.1).contains(&days), "{days}");
    }

    // Whose certificate is looked at, and whose is not.
    let shows = |issued: &Issued| {
        let client = Client::new(first.client).over(trust.client(Some(issued)));
        client
            .with_patience(Duration::from_secs(5))
            .get("/v1/status")
    };
    shows(&known).expect("it is known").expect(200);
    shows(&revoked).expect("it is not revoked yet").expect(200);
    let stranger = Authority::new().issue(Wanted::named(&["ci.example"]).for_clients());
    shows(&stranger).expect_err("nobody knows who signed it");
    line(first, &["signed by none of the authorities known here"]);
    write(
        &first_dir,
        "crl.pem",
        &trust.clients.revoked(&[&revoked], 10),
    );
    let reloaded = reload(first);
    assert_eq!(text(&reloaded.stdout), "in force now: client_crl_file\n");
    shows(&revoked).expect_err("it is revoked now");
    shows(&known).expect("it is still known").expect(200);

    change_certificates(&trust, first, second, (&first_dir, &dir_of(&cluster, 1)));
    refuse_what_does_not_fit(&trust, first, &first_dir);
    join_and_leave(&trust, &mut cluster);
}

/// Certificates change under load: by a reload, and by themselves.
fn change_certificates(trust: &Trust, first: &Member, second: &Member, dirs: (&Path, &Path)) {
    let stop = AtomicBool::new(false);
    let load = |member: &Member, kept: bool| {
        let mut client = member.client();
        let mut count = 0;
        while !stop.load(Ordering::Relaxed) {
            if !kept {
                client = member.client();
            }
            let answer = client.put("/v1/keys/load", b"x").expect("no request fails");
            assert!([200, 201].contains(&answer.status), "{}", answer.text());
            count += 1;
        }
        count
    };
    std::thread::scope(|scope| {
        let loads = [(first, true), (first, false), (second, false)]
            .map(|(member, kept)| scope.spawn(move || load(member, kept)));
        let changed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for (member, dir, by_hand) in [(first, dirs.0, true), (second, dirs.1, false)] {
                let address = member.client.ip().to_string();
                let next = trust
                    .clients
                    .issue(Wanted::named(&[&address]).valid(-360, 5));
                write(dir, "client.key", &next.key);
                write(dir, "client.pem", &next.certificate);
                if by_hand {
                    let told = text(&reload(member).stdout);
                    let serial = format!("client_cert_file (serial {}, valid until", next.serial);
                    assert!(
                        told.contains(&serial) && told.contains("client_key_file"),
                        "{told}"
                    );
                }
                wait::until("the new certificate is shown", SOON, || {
                    let shown = trust.serial_shown(member);
                    (shown == next.serial).then_some(())
                });
                let found = warnings(member);
                assert!(
                    found.contains("certificate expires soon: client_cert_file"),
                    "{found}"
                );
            }
        }));
        stop.store(true, Ordering::Relaxed);
        let counts = loads.map(|load| load.join().expect("no request fails"));
        assert!(counts.iter().all(|count| *count > 10), "{counts:?}");
        changed.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// What is no certificate is refused, and that in force stays.
fn refuse_what_does_not_fit(trust: &Trust, member: &Member, dir: &Path) {
    let before = trust.serial_shown(member);
    let file = write(dir, "client.pem", "-----BEGIN CERTIFICATE-----\n");
    let refused = reload(member);
    let told = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{told}");
    assert!(
        told.contains("client_cert_file") && told.contains(&file.display().to_string()),
        "{told}"
    );
    assert_eq!(trust.serial_shown(member), before);
    let found = warnings(member);
    assert!(
        found.contains("TLS files not taken: client_cert_file"),
        "{found}"
    );
    let address = member.client.ip().to_string();
    let good = trust.clients.issue(Wanted::named(&[&address]));
    good.write(dir, "client");
    assert_eq!(reload(member).status.code(), Some(0));
    let found = warnings(member);
    assert!(!found.contains("not taken"), "{found}");
}

/// One more member joins by https and is removed again, which its open connections do not outlive; and one is replaced.
fn join_and_leave(trust: &Trust, cluster: &mut Cluster) {
    let number = cluster.newcomer();
    let first = cluster.members[0].client;
    let name = cluster.members[number].name.clone();
    let settings = &mut cluster.members[number].settings;
    settings.retain(|(setting, _)| !setting.contains("-file"));
    trust.secure_peers(cluster, number);
    let dir = dir_of(cluster, number);
    let authorities = write(&dir, "join-ca.pem", &trust.clients.pem);
    let newcomer = &mut cluster.members[number];
    newcomer.join = Some(format!("https://{first}"));
    let join_ca = ("join-ca-file", authorities.display().to_string());
    newcomer.settings.push(join_ca);
    newcomer.start();
    newcomer.wait_until_ready();
    put(&cluster.members[0], "after-the-join");
    // Its promotion may still be under way.
    wait::until("the member is removed", SOON, || {
        let path = format!("/v1/cluster/members/{name}");
        let removed = cluster.members[1].client().delete(&path).ok()?;
        assert!(
            [200, 204, 409, 503].contains(&removed.status),
            "{}",
            removed.text()
        );
        (removed.status < 300).then_some(())
    });
    assert_eq!(cluster.members[number].exit_code(SOON), 3);

    // The same for one whose disk is lost, with the settings that it had.
    let third = &cluster.members[2];
    let id = third.status().expect("it answers")["member"].clone();
    third.lose_disk();
    third.start();
    wait::until("the member is replaced", SOON, || {
        let path = format!("/v1/cluster/members/{}/replace", id.as_str()?);
        let asked = serde_json::json!({
            "name": third.name,
            "peer_url": third.peer_url(),
            "client_url": format!("https://{}", third.client),
        });
        let replaced = cluster.members[1].client().post(&path, &asked).ok()?;
        (replaced.status < 300).then_some(())
    });
    third.wait_until_ready();
}

#[test]
fn a_cluster_is_switched_to_tls_and_a_certificate_that_is_not_its_members_is_refused_on_both_sides()
{
    let _machine = machine::shared();
    let trust = Trust::new();
    let mut cluster = Setup::of(3).start();
    put(&cluster.members[0], "before");
    // Whoever begins TLS where it is not spoken yet hears at once that it is not.
    let began = Instant::now();
    let by_tls = Arc::new(trusting(&trust.clients.pem).with_no_client_auth());
    for address in [cluster.members[0].client, cluster.members[0].peer] {
        let stream = TcpStream::connect(address).expect("the member listens");
        assert!(secure(&by_tls, stream).is_err());
    }
    let waited = began.elapsed();
    assert!(waited < Duration::from_secs(5), "{waited:?}");
    for number in 0..3 {
        cluster.members[number].signal(Signal::TERM);
        assert_eq!(cluster.members[number].exit_code(SOON), 0);
        trust.secure_peers(&mut cluster, number);
        // It has data: how the cluster was formed is of no effect any more.
        cluster.members[number].initial_members.clear();
        let list = write(
            &dir_of(&cluster, number),
            "crl.pem",
            &trust.members.revoked(&[], 10),
        );
        let setting = ("peer-crl-file", list.display().to_string());
        cluster.members[number].settings.push(setting);
        cluster.members[number].start();
        if number == 0 {
            // Whoever has not changed yet hears what is wrong.
            line(
                &cluster.members[1],
                &["peer refuses this member", "members speak TLS"],
            );
        }
    }
    cluster.wait_until_ready();
    let (first, third) = (&cluster.members[0], &cluster.members[2]);
    let kept = first.client().persistent().get("/v1/keys/before");
    kept.expect("the member answers").expect(200);

    let member = |name: &str| trust.member(&cluster, name);
    let revoked = trust.members.issue(member("n3"));
    for (number, member) in cluster.members.iter().enumerate() {
        let list = trust.members.revoked(&[&revoked], 10);
        write(&dir_of(&cluster, number), "crl.pem", &list);
        assert_eq!(
            text(&reload(member).stdout),
            "in force now: peer_crl_file\n"
        );
    }
    let good = trust.members.issue(member("n3"));
    let cases = [
        (
            trust.members.issue(member("n2")),
            "its certificate is that of tenure://member/n2, not of tenure://member/n3",
        ),
        (
            trust.members.issue(member("n3").valid(-10, -1)),
            "it expired at",
        ),
        (
            trust.members.issue(member("n3").for_clients()),
            "does not allow it to be used so",
        ),
        (
            Authority::new().issue(member("n3")),
            "it is signed by none of the authorities known here",
        ),
        (
            trust.members.issue(Wanted::named(&[])),
            "is not valid for any names",
        ),
        (revoked, "it is revoked"),
    ];
    let dir = dir_of(&cluster, 2);
    for (issued, why) in cases {
        third.kill();
        issued.write(&dir, "peer");
        third.start();
        line(first, &["no trust between this member and n3", why]);
        wait::until("the member hears that it is not trusted", SOON, || {
            let output = third.output();
            let heard = [
                "no trust between this member and n1",
                "peer refuses this member",
            ];
            heard
                .iter()
                .any(|words| output.contains(words))
                .then_some(())
        });
        put(first, "without-the-third");
        assert!(!third.is_ready(), "{why}");
    }
    third.kill();
    good.write(&dir, "peer");
    third.start();
    third.wait_until_ready();
    cluster.wait_until_equal();
}

#[test]
fn handshakes_that_never_end_are_cut_and_keep_nobody_out() {
    let _machine = machine::shared();
    let trust = Trust::new();
    let mut cluster = Setup::of(1).prepare();
    trust.secure_peers(&mut cluster, 0);
    trust.secure_clients(&mut cluster, 0);
    form_by_tls(&mut cluster);
    let member = &cluster.members[0];
    let open = |address| -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(address)?;
        // The beginning of a hello, and no more.
        stream.write_all(b"\x16\x03\x01\x00\xc8\x01\x00")?;
        stream.set_read_timeout(Some(SOON))?;
        Ok(stream)
    };
    let began = Instant::now();
    let lonely = open(member.client).expect("the member listens");
    // More than may shake hands at a time, on either port.
    let mut stalled: Vec<_> = (0..300)
        .map(|number| {
            if number < 280 {
                member.client
            } else {
                member.peer
            }
        })
        .map(|address| open(address).expect("the member listens"))
        .collect();
    put(member, "in-the-crowd");
    let waited = began.elapsed();
    assert!(waited < Duration::from_secs(5), "{waited:?}");
    // Each is cut: the first to make room, those of members after their time, and the last of all in the same way.
    for (which, stream) in [lonely].iter_mut().chain(&mut stalled).enumerate() {
        let read = stream.read(&mut [0; 64]);
        let is_cut = match &read {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        };
        assert!(is_cut, "{which}: {read:?}");
    }
    let waited = began.elapsed();
    let limits = Duration::from_secs(4)..Duration::from_secs(20);
    assert!(limits.contains(&waited), "{waited:?}");
    put(member, "afterwards");
    only_a_hello_arrives_where_it_is_made_to_dial(member);
    let answer = member.client().get("/metrics").expect("the member answers");
    let refused = "tenure_tls_refused_connections_total{listener=\"client\"} ";
    let page = answer.text();
    let refused = page.lines().find_map(|line| line.strip_prefix(refused));
    let refused: f64 = refused
        .and_then(|value| value.parse().ok())
        .expect("it is told");
    assert!(refused >= 281.0, "{refused}");
}

/// Whoever may add members can make one dial any address, and sends nothing there but the beginning of TLS.
fn only_a_hello_arrives_where_it_is_made_to_dial(member: &Member) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("it has an address");
    let ask = |scheme: &str| {
        let asked = serde_json::json!({
            "name": "n9",
            "peer_url": format!("{scheme}://{address}"),
            "client_url": format!("https://{address}"),
        });
        let answer = member.client().post("/v1/cluster/members", &asked);
        let answer = answer.expect("the member answers").expect(409);
        assert_eq!(answer.code(), "membership-unsafe", "{}", answer.text());
        answer.text()
    };
    let told = ask("http");
    assert!(told.contains("its https URL"), "{told}");
    let heard = std::thread::scope(|scope| {
        let hearing = scope.spawn(|| {
            let (mut stream, _) = listener.accept().expect("somebody dials");
            let mut heard = vec![0; 4096];
            let read = stream.read(&mut heard).expect("something is said");
            heard.truncate(read);
            heard
        });
        ask("https");
        hearing.join().expect("it hears")
    });
    let length = usize::from(u16::from_be_bytes([heard[3], heard[4]]));
    // One record of a handshake, in it a hello of a client, and nothing behind it.
    assert_eq!((heard[0], heard[5], heard.len()), (0x16, 1, length + 5));
}

#[test]
fn settings_of_tls_that_cannot_be_used_end_the_start_and_name_the_file() {
    let _machine = machine::shared();
    let trust = Trust::new();
    let mut cluster = Setup::of(1).prepare();
    trust.secure_peers(&mut cluster, 0);
    trust.secure_clients(&mut cluster, 0);
    let list = cluster.initial_members();
    cluster.members[0].initial_members = list;
    let dir = dir_of(&cluster, 0);
    let member = &cluster.members[0];
    let arguments = |change: &dyn Fn(&mut Vec<String>)| {
        let mut arguments = member.arguments();
        change(&mut arguments);
        arguments
    };
    let without = |flag: &'static str| {
        move |arguments: &mut Vec<String>| {
            let at = arguments.iter().position(|argument| argument == flag);
            arguments.drain(at.expect("it is there")..=at.expect("it is there") + 1);
        }
    };
    let other_key = dir.join("client.key").display().to_string();
    let with_other_key = |arguments: &mut Vec<String>| {
        let at = arguments
            .iter()
            .position(|argument| argument == "--peer-key-file");
        arguments[at.expect("it is there") + 1].clone_from(&other_key);
    };
    let plain = |arguments: &mut Vec<String>| {
        let url = format!("http://{}", member.client);
        arguments.extend(["--client-advertise".to_owned(), url]);
    };
    for (arguments, named) in [
        (
            arguments(&without("--peer-key-file")),
            "peer_key_file is missing",
        ),
        (
            arguments(&without("--peer-ca-file")),
            "peer_ca_file is missing",
        ),
        (
            arguments(&with_other_key),
            "it is not the key of the certificate",
        ),
        (arguments(&plain), "an https URL is needed"),
    ] {
        let output = Process::tenured(arguments).output().expect("it runs");
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{named}: {told}");
        assert!(told.contains(named), "{told}");
        assert!(!told.contains("PRIVATE"), "{told}");
    }
}

/// The commands under a heading of the page for operators, block by block.
fn commands_of_the_page(heading: &str) -> Vec<String> {
    let page = include_str!("../../../systemd/README.md");
    let (_, section) = page.split_once(heading).expect("there is such a heading");
    let ends = ["\n## ", "\n### "].map(|next| section.find(next).unwrap_or(section.len()));
    let blocks = section[..ends[0].min(ends[1])].split("```sh\n").skip(1);
    let commands = |block: &str| block.split_once("```\n").expect("it ends").0.to_owned();
    blocks.map(commands).collect()
}

fn run(dir: &Path, commands: &str) {
    let mut shell = Command::new("sh");
    shell.args(["-euc", commands]).current_dir(dir);
    let output = shell.output().expect("there is a shell");
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn the_commands_of_the_page_for_operators_make_certificates_and_take_them_back() {
    if !machine::succeeds("openssl", &["version"]) {
        let test = "the_commands_of_the_page_for_operators_make_certificates_and_take_them_back";
        return machine::skip(test, "there is no openssl");
    }
    let _machine = machine::shared();
    let mut cluster = Setup::of(3).prepare();
    let dir = cluster.dir().join("made");
    std::fs::create_dir(&dir).expect("there is room for a directory");
    let mut commands = commands_of_the_page("## TLS\n")[0].clone();
    for (number, member) in cluster.members.iter().enumerate() {
        let printed = format!("IP:10.0.0.{}\n", number + 1);
        assert_eq!(commands.matches(&printed).count(), 2);
        commands = commands.replace(&printed, &format!("IP:{}\n", member.peer.ip()));
    }
    run(&dir, &commands);
    let authority = std::fs::read_to_string(dir.join("client-ca.pem")).expect("it was made");
    let clients = over(trusting(&authority).with_no_client_auth());
    let taken_back = commands_of_the_page("### A certificate is taken back\n");
    let [lists, _, revoke, _] = &taken_back[..] else {
        panic!(
            "lists are made and brought, and certificates of two members taken back: {taken_back:#?}"
        );
    };
    // At first there is nothing in them.
    run(&dir, lists);
    for member in &mut cluster.members {
        let name = member.name.clone();
        member.peers_by_tls = true;
        member.secure = Some(Arc::clone(&clients));
        for (setting, file) in [
            ("peer-cert-file", format!("peer-{name}.pem")),
            ("peer-key-file", format!("peer-{name}.key")),
            ("peer-ca-file", "peer-ca.pem".to_owned()),
            ("peer-crl-file", "peer-ca.crl".to_owned()),
            ("client-cert-file", format!("client-{name}.pem")),
            ("client-key-file", format!("client-{name}.key")),
        ] {
            let path = dir.join(file).display().to_string();
            member.settings.push((setting, path));
        }
    }
    form_by_tls(&mut cluster);
    put(&cluster.members[0], "by-the-page");
    // The member goes on with the old one.
    let lines = revoke.lines().filter(|line| !line.starts_with("issue"));
    let revoke = lines.collect::<Vec<_>>().join("\n");
    run(&dir, &format!("{lists}\n{revoke}"));
    let (first, second, third) = (
        &cluster.members[0],
        &cluster.members[1],
        &cluster.members[2],
    );
    for member in [first, third] {
        // It may have been taken already.
        assert_eq!(reload(member).status.code(), Some(0));
    }
    second.kill();
    second.start();
    line(
        first,
        &["no trust between this member and n2", "it is revoked"],
    );
    put(first, "without-the-second");
}
