//! A client over TLS, against a member that is made here: whom it trusts, who it says it is, and what it says where that
//! fails.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tenure::{Client, ClientBuilder, Error};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

mod authority;
use authority::{Authority, Issued, server};

/// A member that answers every request over TLS with a key, and remembers the heads of requests.
struct Member {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Member {
    /// With a certificate for this name; where `clients` is given, only for clients of that authority.
    async fn start(authority: &Authority, name: &str, clients: Option<&Authority>) -> Member {
        let config = server(authority, name, clients);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("there is a port");
        let address = listener.local_addr().expect("it is bound");
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(acceptor.clone(), stream, Arc::clone(&seen)));
            }
        });
        Member { address, heads }
    }

    fn client(&self) -> ClientBuilder {
        Client::builder([format!("https://{}", self.address)]).patience(Duration::from_secs(2))
    }
}

async fn answer(acceptor: TlsAcceptor, stream: TcpStream, heads: Arc<Mutex<Vec<String>>>) {
    let Ok(mut stream) = acceptor.accept(stream).await else {
        return;
    };
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(char::from(byte)),
            Err(_) => return,
        }
    }
    heads.lock().expect("nobody panics").push(head);
    let body = r#"{"key":"a","value":"v","encoding":"utf-8","content_type":null,"create_revision":3,"mod_revision":3,
        "version":1,"lease":null,"revision":3}"#;
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

async fn read(client: ClientBuilder) -> Result<String, Error> {
    let client = client.build()?;
    let key = client.get("a").await?.expect("it is there");
    Ok(String::from_utf8_lossy(&key.value).into_owned())
}

/// That a client cannot read, and what it says.
async fn refused(client: ClientBuilder, why: &str) {
    let error = read(client).await.expect_err("it is refused");
    assert!(matches!(error, Error::NotApplied(_)), "{error:?}");
    assert!(error.to_string().contains(why), "{error}");
}

#[tokio::test]
async fn a_member_is_trusted_by_the_authority_that_was_given_and_told_the_token() {
    let authority = Authority::new();
    let member = Member::start(&authority, "127.0.0.1", None).await;
    let client = member
        .client()
        .authority(authority.pem.clone())
        .token("ci.5ecre7");
    assert_eq!(read(client).await.expect("it is trusted"), "v");
    let heads = member.heads.lock().expect("nobody panics");
    assert!(
        heads[0].contains("authorization: Bearer ci.5ecre7\r\n"),
        "{heads:?}"
    );
}

#[tokio::test]
async fn a_member_of_another_authority_is_asked_nothing() {
    let member = Member::start(&Authority::new(), "127.0.0.1", None).await;
    let other = member.client().authority(Authority::new().pem);
    refused(other, "invalid peer certificate").await;
    assert!(member.heads.lock().expect("nobody panics").is_empty());
}

#[tokio::test]
async fn a_member_with_a_certificate_for_another_name_is_asked_nothing() {
    let authority = Authority::new();
    let member = Member::start(&authority, "n1.internal", None).await;
    let client = member.client().authority(authority.pem.clone());
    refused(client, "not valid for name").await;
    assert!(member.heads.lock().expect("nobody panics").is_empty());
}

#[tokio::test]
async fn a_member_that_wants_to_know_its_clients_is_shown_a_certificate() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let member = Member::start(&authority, "127.0.0.1", Some(&clients)).await;
    let nobody = || member.client().authority(authority.pem.clone());
    let error = read(nobody()).await.expect_err("it wants a certificate");
    assert!(
        error.to_string().to_lowercase().contains("certificate"),
        "{error}"
    );
    let Issued { chain, key } = clients.issue("worker-7");
    assert_eq!(
        read(nobody().identity(chain, key))
            .await
            .expect("it is known"),
        "v"
    );
}

#[tokio::test]
async fn what_is_no_certificate_key_or_token_is_refused_before_anything_is_sent() {
    let authority = Authority::new();
    let client = || Client::builder(["https://127.0.0.1:1"]).patience(Duration::from_millis(100));
    let Issued { chain, key } = authority.issue("a");
    let other = authority.issue("b");
    refused(client().authority("rubbish"), "no certificate in it").await;
    let cut = "-----BEGIN CERTIFICATE-----\nAAAA";
    refused(
        client().authority(cut),
        "the certificate authority is no PEM",
    )
    .await;
    let known = || client().authority(authority.pem.clone());
    refused(
        known().identity(chain.clone(), "rubbish"),
        "no private key in PEM",
    )
    .await;
    refused(known().identity(chain, other.key), "cannot be used").await;
    refused(
        known().identity("", key),
        "the client certificate has no certificate",
    )
    .await;
    refused(known().token("a b"), "visible ASCII").await;
    let plain = Client::builder(["http://127.0.0.1:1"]).authority(authority.pem.clone());
    refused(plain, "begins with https://").await;
}
