//! A small HTTP/1.1 client over one blocking connection, which shows exactly what was answered.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::cluster::SOON;
use super::wait;

/// Longer than every answer may take: a write is answered within 5 s beyond its poll.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; `null` where it is not JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub(crate) fn str(&self, field: &str) -> String {
        let value = self.json()[field].clone();
        value
            .as_str()
            .unwrap_or_else(|| panic!("{field} is a string in {}", self.text()))
            .to_owned()
    }

    pub(crate) fn u64(&self, field: &str) -> u64 {
        self.json()[field]
            .as_u64()
            .unwrap_or_else(|| panic!("{field} is a number in {}", self.text()))
    }

    /// The code of a problem; empty where the answer is none.
    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Whether a problem says that nothing was applied.
    pub(crate) fn not_applied(&self) -> bool {
        self.json()["outcome"] == "not_applied"
    }

    /// The state that the answer reflects.
    pub(crate) fn revision(&self) -> u64 {
        let header = self.header("tenure-revision").unwrap_or_default();
        header
            .parse()
            .unwrap_or_else(|_| panic!("tenure-revision is a number: {self:?}"))
    }

    /// Itself, where the status is the expected one.
    pub(crate) fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "the answer was {}", self.text());
        self
    }
}

/// Whoever calls a member. It keeps one connection and opens another after an error.
pub(crate) struct Client {
    address: SocketAddr,
    connection: Option<BufReader<Box<dyn Line>>>,
    patience: Duration,
    persistent: bool,
    secure: Option<Secure>,
    /// `Bearer` and the token by which it proves who it is.
    authorization: Option<String>,
}

/// A connection, secured or not.
pub(crate) trait Line: Read + Write + Send {
    /// What is beneath.
    fn tcp(&self) -> &TcpStream;
}

impl Line for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

/// Secures a connection.
pub(crate) type Secure = Arc<dyn Fn(TcpStream) -> io::Result<Box<dyn Line>> + Send + Sync>;

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Client {
        Client {
            address,
            connection: None,
            patience: PATIENCE,
            persistent: false,
            secure: None,
            authorization: None,
        }
    }

    /// The same, which proves who it is by a token.
    pub(crate) fn with_token(mut self, token: &str) -> Client {
        self.authorization = Some(format!("Bearer {token}"));
        self
    }

    /// The same over connections that are secured so.
    pub(crate) fn over(mut self, secure: Secure) -> Client {
        self.secure = Some(secure);
        self
    }

    fn connect(&self) -> io::Result<BufReader<Box<dyn Line>>> {
        let stream = TcpStream::connect_timeout(&self.address, self.patience)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(self.patience))?;
        let line: Box<dyn Line> = match &self.secure {
            Some(secure) => secure(stream)?,
            None => Box::new(stream),
        };
        Ok(BufReader::new(line))
    }

    /// The same, which asks again while the member says that it has no leader and that nothing was applied: for tests
    /// that are not about elections, of which a machine that is busy with other tests brings some.
    pub(crate) fn persistent(mut self) -> Client {
        self.persistent = true;
        self
    }

    /// The same, which gives up after another time.
    pub(crate) fn with_patience(mut self, patience: Duration) -> Client {
        self.patience = patience;
        self
    }

    pub(crate) fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.call("GET", path, &[], b"")
    }

    pub(crate) fn put(&mut self, path: &str, body: &[u8]) -> io::Result<Answer> {
        self.call("PUT", path, &[], body)
    }

    pub(crate) fn delete(&mut self, path: &str) -> io::Result<Answer> {
        self.call("DELETE", path, &[], b"")
    }

    pub(crate) fn post(&mut self, path: &str, body: &Value) -> io::Result<Answer> {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.call(
            "POST",
            path,
            &[("content-type", "application/json")],
            body.as_bytes(),
        )
    }

    /// Sends JSON by any method.
    pub(crate) fn json(&mut self, method: &str, path: &str, body: &Value) -> io::Result<Answer> {
        let headers = [("content-type", "application/json")];
        self.call(method, path, &headers, body.to_string().as_bytes())
    }

    /// Sends a request and reads its answer. After an error it is not known whether the request was served.
    pub(crate) fn call(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        let mut answer = self.call_once(method, path, headers, body)?;
        if self.persistent {
            let led = wait::found(SOON, || {
                let leaderless = answer.code() == "no-leader" && answer.not_applied();
                if leaderless && let Ok(next) = self.call_once(method, path, headers, body) {
                    answer = next;
                }
                (answer.code() != "no-leader").then_some(())
            });
            assert!(led.is_some(), "there is no leader within {SOON:?}");
        }
        Ok(answer)
    }

    fn call_once(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        let mut headers = headers.to_vec();
        if let Some(authorization) = &self.authorization {
            headers.push(("authorization", authorization));
        }
        let deadline = Instant::now() + self.patience;
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        send(
            connection.get_mut().as_mut(),
            self.address,
            method,
            path,
            &headers,
            body,
        )?;
        let answer = read_answer(&mut connection, method, deadline)?;
        let closing = answer
            .header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if !closing {
            self.connection = Some(connection);
        }
        Ok(answer)
    }

    /// Sends a request and hangs up without reading a byte of the answer, as soon as `sent` says so.
    pub(crate) fn send_and_hang_up(
        &self,
        path: &str,
        body: &Value,
        sent: impl FnOnce(),
    ) -> io::Result<()> {
        let mut connection = self.connect()?;
        let headers = [("content-type", "application/json")];
        send(
            connection.get_mut().as_mut(),
            self.address,
            "POST",
            path,
            &headers,
            body.to_string().as_bytes(),
        )?;
        sent();
        Ok(())
    }

    /// Sends a request whose answer is read later.
    pub(crate) fn begin(&self, method: &str, path: &str, body: &Value) -> io::Result<Pending> {
        let mut connection = self.connect()?;
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let mut headers = vec![("content-type", "application/json")];
        if let Some(authorization) = &self.authorization {
            headers.push(("authorization", authorization));
        }
        send(
            connection.get_mut().as_mut(),
            self.address,
            method,
            path,
            &headers,
            body.as_bytes(),
        )?;
        Ok(Pending {
            connection,
            method: method.to_owned(),
        })
    }
}

/// A request that was sent and whose answer was not read yet.
pub(crate) struct Pending {
    connection: BufReader<Box<dyn Line>>,
    method: String,
}

impl Pending {
    /// The answer where it begins within the time; it can be asked again where nothing of it has come.
    pub(crate) fn try_answer(&mut self, within: Duration) -> io::Result<Answer> {
        read_answer(&mut self.connection, &self.method, Instant::now() + within)
    }

    pub(crate) fn answer(mut self, patience: Duration) -> io::Result<Answer> {
        read_answer(
            &mut self.connection,
            &self.method,
            Instant::now() + patience,
        )
    }
}

fn send(
    stream: &mut dyn Line,
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<()> {
    let mut head = format!("{method} {path} HTTP/1.1\r\n");
    let named = |name: &str| {
        headers
            .iter()
            .any(|(key, _)| key.eq_ignore_ascii_case(name))
    };
    if !named("host") {
        head += &format!("host: {address}\r\n");
    }
    if !named("content-length") && (!body.is_empty() || method == "POST" || method == "PUT") {
        head += &format!("content-length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    // One write, so that a small request is one segment.
    let mut message = head.into_bytes();
    message.extend_from_slice(body);
    stream.write_all(&message)
}

fn read_answer(
    connection: &mut BufReader<Box<dyn Line>>,
    method: &str,
    deadline: Instant,
) -> io::Result<Answer> {
    let line = read_line(connection, deadline)?;
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status: u16 =
        status.ok_or_else(|| io::Error::other(format!("not a status line: {line:?}")))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(connection, deadline)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| io::Error::other("a header without a colon"))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut answer = Answer {
        status,
        headers,
        body: Vec::new(),
    };
    if method == "HEAD" || status == 204 || status == 304 {
        return Ok(answer);
    }
    answer.body = read_body(connection, &answer, deadline)?;
    Ok(answer)
}

fn read_body(
    connection: &mut BufReader<Box<dyn Line>>,
    head: &Answer,
    deadline: Instant,
) -> io::Result<Vec<u8>> {
    if let Some(length) = head.header("content-length") {
        let length = length.parse().map_err(io::Error::other)?;
        return read_exactly(connection, length, deadline);
    }
    if head.header("transfer-encoding") != Some("chunked") {
        return Err(io::Error::other("an answer without length"));
    }
    let mut body = Vec::new();
    loop {
        let size = read_line(connection, deadline)?;
        let size = usize::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
        body.extend(read_exactly(connection, size, deadline)?);
        read_line(connection, deadline)?;
        if size == 0 {
            return Ok(body);
        }
    }
}

/// Each single read may only take what is left until the deadline.
fn limit(connection: &BufReader<Box<dyn Line>>, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    connection.get_ref().tcp().set_read_timeout(Some(left))
}

fn read_line(connection: &mut BufReader<Box<dyn Line>>, deadline: Instant) -> io::Result<String> {
    limit(connection, deadline)?;
    let mut line = Vec::new();
    connection.read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map_err(io::Error::other)
}

fn read_exactly(
    connection: &mut BufReader<Box<dyn Line>>,
    length: usize,
    deadline: Instant,
) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        limit(connection, deadline)?;
        match connection.read(&mut bytes[filled..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
    }
    Ok(bytes)
}
