//! Bytes as they are sent and as they come back, with nothing in between that would correct them.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long an answer may take that is expected to come.
const PATIENCE: Duration = Duration::from_secs(8);
/// A member that answers more than this to one request has lost its mind.
const MOST: usize = 32 << 20;

/// A connection that says whatever it is told to.
pub(super) struct Wire(pub(super) TcpStream);

/// What came back until the connection ended or the time was up.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) bytes: Vec<u8>,
    pub(super) closed: bool,
}

impl Wire {
    pub(super) fn open(address: SocketAddr) -> Wire {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the member accepts");
        stream.set_nodelay(true).expect("a connection has options");
        stream
            .set_write_timeout(Some(PATIENCE))
            .expect("a connection has options");
        Wire(stream)
    }

    /// Sends bytes. A member may have hung up already, which is its right; what it said before is still read.
    pub(super) fn send(&mut self, bytes: &[u8]) -> &mut Wire {
        let _ = self.0.write_all(bytes);
        self
    }

    /// Says that no more will come, and leaves the other direction open.
    pub(super) fn finish(&mut self) -> &mut Wire {
        let _ = self.0.shutdown(Shutdown::Write);
        self
    }

    /// What comes until the connection ends.
    pub(super) fn listen(&mut self) -> Heard {
        self.listen_until(PATIENCE, |_| false)
    }

    /// What comes until the connection ends, the time is up or it is enough.
    pub(super) fn listen_until(
        &mut self,
        patience: Duration,
        enough: impl Fn(&[u8]) -> bool,
    ) -> Heard {
        let deadline = Instant::now() + patience;
        let mut heard = Heard {
            bytes: Vec::new(),
            closed: false,
        };
        let mut piece = [0; 16 << 10];
        while heard.bytes.len() < MOST && !enough(&heard.bytes) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.0
                .set_read_timeout(Some(left))
                .expect("a connection has options");
            match self.0.read(&mut piece) {
                Ok(0) => heard.closed = true,
                Ok(read) => heard.bytes.extend_from_slice(&piece[..read]),
                Err(error) if is_patience(&error) => {}
                Err(_) => heard.closed = true,
            }
            if heard.closed {
                break;
            }
        }
        heard
    }
}

fn is_patience(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

/// Sends bytes over a connection of their own and hears what comes of them.
pub(super) fn say(address: SocketAddr, bytes: &[u8]) -> Heard {
    Wire::open(address).send(bytes).listen()
}

/// A request with a host, which asks that the connection be closed behind the answer.
pub(super) fn request(method: &str, target: &[u8], headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} ").into_bytes();
    bytes.extend_from_slice(target);
    bytes.extend_from_slice(b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    bytes.extend_from_slice(headers.as_bytes());
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// A request with a body and its true length.
pub(super) fn with_body(method: &str, target: &[u8], headers: &str, body: &[u8]) -> Vec<u8> {
    let headers = format!("{headers}Content-Length: {}\r\n", body.len());
    request(method, target, &headers, body)
}

impl Heard {
    /// The statuses of all answers, in order. No body of ours holds the words that begin an answer.
    pub(super) fn statuses(&self) -> Vec<u16> {
        let text = String::from_utf8_lossy(&self.bytes);
        let lines = text.split("HTTP/1.").skip(1);
        lines
            .filter_map(|line| line.get(2..5)?.parse().ok())
            .collect()
    }

    /// The status of the only answer.
    pub(super) fn status(&self, of: &str) -> u16 {
        let statuses = self.statuses();
        assert_eq!(statuses.len(), 1, "{of} has one answer: {}", self.text());
        statuses[0]
    }

    pub(super) fn body(&self) -> &[u8] {
        let head = self.bytes.windows(4).position(|four| four == b"\r\n\r\n");
        head.map_or(&[], |at| &self.bytes[at + 4..])
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(self.body()).unwrap_or(Value::Null)
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes)
            .chars()
            .take(2000)
            .collect()
    }

    /// Checks a refusal that we have words for: its status, its code, and a sentence without control characters.
    pub(super) fn is_problem(&self, of: &str, status: u16, code: &str) {
        assert_eq!(self.status(of), status, "{of}: {}", self.text());
        let problem = self.json();
        assert_eq!(problem["code"], code, "{of}: {}", self.text());
        assert_eq!(problem["outcome"], "not_applied", "{of}: {}", self.text());
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(
            !detail.is_empty() && !detail.contains(char::is_control) && detail.len() < 2000,
            "{of}: {detail:?}"
        );
    }
}
