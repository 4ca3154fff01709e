//! Members that are asked by `https`, with a client certificate and a token, by the settings of a context.
//!
//! A front speaks TLS before a real member and passes on what it is told, in both versions of HTTP.

use std::fs;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use crate::authority::{Authority, server};
use crate::common::{Cluster, Setup};
use crate::support::{Ran, TENURE, run, tenure};

/// A front, until it is dropped.
struct Front {
    address: SocketAddr,
    /// What it was told over HTTP/1.1, up to the first head of each connection.
    heads: Arc<Mutex<Vec<String>>>,
    _runtime: Runtime,
}

impl Front {
    fn before(member: SocketAddr, authority: &Authority, clients: &Authority) -> Front {
        let name = member.ip().to_string();
        let mut config = server(authority, &name, Some(clients));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime = Runtime::new().expect("there are threads");
        let listener = runtime.block_on(TcpListener::bind((member.ip(), 0)));
        let listener = listener.expect("there is a port");
        let address = listener.local_addr().expect("it is bound");
        let heads = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&heads);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, told) = (acceptor.clone(), Arc::clone(&told));
                tokio::spawn(async move {
                    // Who is not trusted is told so by the handshake.
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let member = TcpStream::connect(member).await.expect("it runs");
                        pass_on(stream, member, &told).await;
                    }
                });
            }
        });
        Front {
            address,
            heads,
            _runtime: runtime,
        }
    }
}

async fn pass_on(
    client: impl AsyncRead + AsyncWrite,
    mut member: TcpStream,
    told: &Mutex<Vec<String>>,
) {
    let (mut from_client, mut to_client) = split(client);
    let mut head = vec![0; 4096];
    let Ok(count) = from_client.read(&mut head).await else {
        return;
    };
    let text = String::from_utf8_lossy(&head[..count]).into_owned();
    told.lock().expect("nobody panics").push(text);
    let (mut from_member, mut to_member) = member.split();
    let there = async {
        let _ = to_member.write_all(&head[..count]).await;
        let _ = copy(&mut from_client, &mut to_member).await;
        let _ = to_member.shutdown().await;
    };
    let back = async {
        let _ = copy(&mut from_member, &mut to_client).await;
        let _ = to_client.shutdown().await;
    };
    tokio::join!(there, back);
}

/// A front before the first member, and contexts that ask it: as it wants to be asked, by nobody, and in distrust.
fn fronted(cluster: &Cluster) -> Front {
    let (authority, clients) = (Authority::new(), Authority::new());
    let front = Front::before(cluster.members[0].client, &authority, &clients);
    let settings = cluster.dir().join("tenure");
    fs::create_dir(&settings).expect("it is made");
    let write = |name: &str, text: &str| {
        fs::write(settings.join(name), text).expect("it is written");
    };
    let issued = clients.issue("operator");
    write("ca.pem", &authority.pem);
    write("other.pem", &clients.pem);
    write("client.pem", &issued.chain);
    write("client.key", &issued.key);
    write("token", "ci.5ecre7\n");
    let url = format!("endpoints = [\"https://{}\"]", front.address);
    let shown = "certificate_file = \"client.pem\"\nkey_file = \"client.key\"";
    write(
        "config.toml",
        &format!(
            "[contexts.right]\n{url}\nca_file = \"ca.pem\"\n{shown}\ntoken_file = \"token\"\n\
             [contexts.nobody]\n{url}\nca_file = \"ca.pem\"\n\
             [contexts.distrust]\n{url}\nca_file = \"other.pem\"\n{shown}\n"
        ),
    );
    front
}

/// Runs it by a context of the settings beside the members.
pub(crate) fn with(cluster: &Cluster, context: &str, arguments: &str) -> Ran {
    let mut command = tenure(["--context", context, "--timeout", "2s"]);
    command.args(arguments.split(' '));
    run(command.env("XDG_CONFIG_HOME", cluster.dir()))
}

#[test]
fn bench_and_all_others_ask_by_https_with_a_certificate_and_a_token() {
    let cluster = Setup::of(1).start();
    let front = fronted(&cluster);
    let with = |context: &str, arguments: &str| with(&cluster, context, arguments);

    with("right", "put greeting hello").expect(0);
    assert_eq!(with("right", "get greeting").expect(0).stdout, "hello");
    for connections in ["", " --connections 2"] {
        let bench = "bench put lock watch --clients 4 --duration 300ms --warmup 0s -o json";
        let report = with("right", &format!("{bench}{connections}"))
            .expect(0)
            .json();
        let measurements = report["measurements"].as_array().expect("it is a list");
        assert_eq!(measurements.len(), 3);
        for measurement in measurements {
            let run = &measurement["runs"][0];
            assert!(run["operations"].as_u64() > Some(0), "{run}");
            assert_eq!(run["errors"], serde_json::json!({}), "{run}");
        }
    }
    let heads = front.heads.lock().expect("nobody panics").clone();
    let (http_2, http_1): (Vec<_>, Vec<_>) = heads
        .iter()
        .partition(|head| head.starts_with("PRI * HTTP/2.0"));
    assert!(http_2.len() >= 6, "two connections for each workload");
    assert!(http_1.len() > 6, "{heads:?}");
    for head in http_1 {
        assert!(
            head.contains("authorization: Bearer ci.5ecre7\r\n"),
            "{head}"
        );
    }

    for arguments in ["get greeting", "bench put --duration 300ms"] {
        let told = with("nobody", arguments).expect(69).stderr;
        assert!(told.to_lowercase().contains("certificate"), "{told}");
        let told = with("distrust", arguments).expect(69).stderr;
        assert!(told.contains("invalid peer certificate"), "{told}");
    }
}

#[test]
fn what_runs_under_a_lock_asks_the_same_cluster_with_the_same_certificates_and_token() {
    let cluster = Setup::of(1).start();
    let front = fronted(&cluster);
    with(&cluster, "right", "put greeting hello").expect(0);
    let before = front.heads.lock().expect("nobody panics").len();
    let nested = format!("lock a -- {TENURE} lock b -- {TENURE} get greeting");
    let told = with(&cluster, "right", &nested).expect(0);
    assert_eq!(told.stdout, "hello");
    let heads = front.heads.lock().expect("nobody panics").clone();
    let read = heads[before..]
        .iter()
        .find(|head| head.starts_with("GET /v1/keys/"));
    let read = read.expect("it went through the front");
    assert!(
        read.contains("authorization: Bearer ci.5ecre7\r\n"),
        "{read}"
    );
}

#[test]
fn a_log_filter_is_not_changed_by_http_where_https_was_given_and_a_token_could_be_read() {
    let cluster = Setup::of(1).start();
    let front = fronted(&cluster);
    let told = with(&cluster, "right", "log-filter debug")
        .expect(69)
        .stderr;
    assert!(
        told.contains("is not asked: only https URLs were given"),
        "{told}"
    );
    drop(front);
    let status = cluster.members[0].status().expect("it answers");
    assert_eq!(status["log_filter"], "info");
}

/// Members behind the front tell of themselves by http, where anybody could read a token.
#[test]
fn status_asks_no_member_by_http_where_https_was_given_and_none_but_the_given_ones_where_told_so() {
    let cluster = Setup::of(3).start();
    let front = fronted(&cluster);
    let table = with(&cluster, "right", "status").expect(0).stdout;
    assert!(
        table.starts_with("1 of 3 members are well, 2 not asked, "),
        "{table}"
    );
    assert_eq!(
        table
            .matches("is not asked: only https URLs were given")
            .count(),
        2,
        "{table}"
    );
    drop(front);

    let url = format!("http://{}", cluster.members[0].client);
    let flags = ["--endpoints", &url, "--only-given", "status"];
    let table = run(&mut tenure(flags)).expect(0).stdout;
    assert!(
        table.starts_with("1 of 3 members are well, 2 not asked, "),
        "{table}"
    );
    let wire = run(&mut tenure(flags.iter().chain(&["-o", "json"])))
        .expect(0)
        .json();
    let members = wire["members"].as_array().expect("it is a list");
    let unasked = members.iter().filter(|member| member["well"].is_null());
    let told = unasked.map(|member| member["error"].to_string());
    let told: Vec<String> = told.collect();
    assert_eq!(told.len(), 2, "{wire}");
    assert!(
        told.iter()
            .all(|why| why.contains("only the URLs that were given are")),
        "{told:?}"
    );
}
