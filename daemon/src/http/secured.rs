//! Connections of clients by TLS.
//!
//! Owns what is done with whoever speaks without TLS where it is needed: such a client is told so, in the language that it
//! speaks, once, and its connection ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tenure_api::Code;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::tls::{Accepted, ClientCertificate, Crowd, MOST_HANDSHAKES, Port, Tls, Trouble, Wire};

/// How long a client that speaks without TLS may take to read why that is wrong.
const READING: Duration = Duration::from_secs(1);
/// So much of what it has said is read first: an end while something lies unread would take the answer away with it.
const MOST_UNREAD: usize = 64 << 10;
/// A handshake begins within this time; waiting for a turn at it is not waiting for the client.
const TURN: Duration = Duration::from_secs(10);

/// How connections are made what they must be. Cheap to clone.
#[derive(Clone)]
pub(super) struct Securing {
    port: Option<Arc<Port>>,
    crowd: Arc<Crowd>,
}

impl Securing {
    pub(super) fn by(tls: &Tls) -> Securing {
        Securing {
            port: tls.clients.clone(),
            crowd: Crowd::of(MOST_HANDSHAKES),
        }
    }

    /// The connection, with the certificate of the client where it showed one; none where it is refused or gone.
    pub(super) async fn secure(
        &self,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Option<(Wire, Option<ClientCertificate>)> {
        let Some(port) = &self.port else {
            return Some((Wire::Plain(stream), None));
        };
        let Ok(place) = timeout(TURN, self.crowd.enter(address.ip())).await else {
            port.refused(address, &Trouble::NoTurn);
            return None;
        };
        tokio::select! {
            () = place.is_needed() => {
                port.refused(address, &Trouble::MadeRoom);
                None
            }
            secured = secure(port, stream, address, false) => secured,
        }
    }
}

/// Makes one connection what it must be.
pub(super) async fn secure(
    port: &Port,
    stream: TcpStream,
    address: SocketAddr,
    only_http1: bool,
) -> Option<(Wire, Option<ClientCertificate>)> {
    match port.accept(stream, address, only_http1).await.ok()? {
        Accepted::Secure(wire, certificate) => {
            let client = certificate.map(|certificate| port.client(&certificate));
            Some((wire, client))
        }
        Accepted::Plain(stream) => {
            port.refused(address, &Trouble::Plain);
            // Who does not read it is not waited for.
            let _ = timeout(READING, tell(stream)).await;
            None
        }
    }
}

/// Says in HTTP/1.1 that TLS is needed.
async fn tell(mut stream: TcpStream) -> std::io::Result<()> {
    let code = Code::InvalidRequest;
    let body = json!({
        "type": format!("urn:tenure:problem:{}", code.as_str()),
        "title": code.title(),
        "status": code.status(),
        "detail": "this port speaks TLS: ask the same by a URL that begins with https://",
        "code": code.as_str(),
        "outcome": code.outcome(),
        "retry": code.retry(),
    })
    .to_string();
    let head = format!(
        "HTTP/1.1 {} Bad Request\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        code.status(),
        tenure_api::PROBLEM_JSON,
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await?;
    stream.shutdown().await?;
    let mut unread = stream.take(MOST_UNREAD as u64);
    let mut buffer = [0; 4096];
    while unread.read(&mut buffer).await? > 0 {}
    Ok(())
}
