//! A client of server-sent events over one blocking connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A message of a stream.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Message {
    pub(crate) event: String,
    pub(crate) id: Option<u64>,
    pub(crate) data: String,
}

impl Message {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or(Value::Null)
    }
}

/// An open stream.
pub(crate) struct EventStream {
    connection: BufReader<TcpStream>,
    pub(crate) status: u16,
    pub(crate) head: String,
    /// What has come and is no whole message yet.
    coming: Vec<u8>,
    taken: usize,
    over: bool,
}

impl EventStream {
    /// Asks for a stream and reads the head of the answer.
    pub(crate) fn open(
        address: SocketAddr,
        path: &str,
        last_event_id: Option<u64>,
    ) -> io::Result<EventStream> {
        let id = last_event_id.map_or(String::new(), |id| format!("last-event-id: {id}\r\n"));
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {address}\r\naccept: text/event-stream\r\n{id}\r\n"
        );
        EventStream::send(address, request.as_bytes())
    }

    /// The same for whoever has a token.
    pub(crate) fn open_as(
        address: SocketAddr,
        token: &str,
        path: &str,
        last_event_id: Option<u64>,
    ) -> io::Result<EventStream> {
        let id = last_event_id.map_or(String::new(), |id| format!("last-event-id: {id}\r\n"));
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
             accept: text/event-stream\r\n{id}\r\n"
        );
        EventStream::send(address, request.as_bytes())
    }

    /// The same by `POST`.
    pub(crate) fn post(address: SocketAddr, path: &str, body: &Value) -> io::Result<EventStream> {
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\naccept: text/event-stream\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        EventStream::send(address, request.as_bytes())
    }

    fn send(address: SocketAddr, request: &[u8]) -> io::Result<EventStream> {
        const PATIENCE: Duration = Duration::from_secs(10);
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request)?;
        let mut connection = BufReader::with_capacity(16 << 10, stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if connection.read_line(&mut head)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let status = head.split(' ').nth(1).and_then(|text| text.parse().ok());
        Ok(EventStream {
            connection,
            status: status.ok_or_else(|| io::Error::other("not a status line"))?,
            head,
            coming: Vec::new(),
            taken: 0,
            over: false,
        })
    }

    /// The next message; none at the end of the stream.
    pub(crate) fn next(&mut self, patience: Duration) -> io::Result<Option<Message>> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(message) = self.take() {
                return Ok(Some(message));
            }
            if self.over {
                return Ok(None);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.connection.get_ref().set_read_timeout(Some(left))?;
            self.read_chunk()?;
        }
    }

    fn read_chunk(&mut self) -> io::Result<()> {
        let mut line = String::new();
        if self.connection.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        self.over = size == 0;
        let from = self.coming.len();
        self.coming.resize(from + size + 2, 0);
        self.connection.read_exact(&mut self.coming[from..])?;
        self.coming.truncate(from + size);
        Ok(())
    }

    fn take(&mut self) -> Option<Message> {
        let rest = &self.coming[self.taken..];
        let Some(end) = rest.windows(2).position(|two| two == b"\n\n") else {
            self.coming.drain(..self.taken);
            self.taken = 0;
            return None;
        };
        let mut message = Message::default();
        for line in String::from_utf8_lossy(&rest[..end]).lines() {
            match line.split_once(": ") {
                Some(("event", value)) => message.event = value.to_owned(),
                Some(("id", value)) => message.id = value.parse().ok(),
                Some(("data", value)) => message.data += value,
                _ => panic!("a line that is no field of a message: {line:?}"),
            }
        }
        self.taken += end + 2;
        Some(message)
    }
}
