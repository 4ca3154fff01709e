//! A collector of traces: takes OTLP over HTTP as JSON, with TLS too, says that it rejects some, or takes connections and never
//! answers.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::cluster::SOON;
use super::http::{Line, Secure};
use super::wait;

/// What came to it.
#[derive(Default)]
struct Received {
    requests: Vec<Vec<u8>>,
    /// The heads of the requests.
    heads: String,
    connections: usize,
}

/// A collector on a loopback address of its own.
pub(crate) struct Collector {
    scheme: &'static str,
    address: SocketAddr,
    received: Arc<Mutex<Received>>,
}

/// One span, with the member that told it.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) span: Value,
    /// `service.instance.id` and its like.
    pub(crate) resource: BTreeMap<String, String>,
}

impl Told {
    pub(crate) fn str(&self, field: &str) -> &str {
        self.span[field].as_str().unwrap_or_default()
    }

    /// The value of an attribute, as text.
    pub(crate) fn attribute(&self, key: &str) -> Option<String> {
        attributes(&self.span["attributes"]).remove(key)
    }
}

impl Collector {
    /// One that takes everything.
    pub(crate) fn start() -> Collector {
        Collector::answering(Some("{}"), None)
    }

    /// The same over connections that are secured so.
    pub(crate) fn over(secure: Secure) -> Collector {
        Collector::answering(Some("{}"), Some(secure))
    }

    /// One that takes connections and requests, and answers none.
    pub(crate) fn that_hangs() -> Collector {
        Collector::answering(None, None)
    }

    /// One that takes everything, and says of each request that it rejects one span.
    pub(crate) fn that_rejects() -> Collector {
        let rejected =
            r#"{"partialSuccess":{"rejectedSpans":"1","errorMessage":"one is too old"}}"#;
        Collector::answering(Some(rejected), None)
    }

    fn answering(answer: Option<&'static str>, secure: Option<Secure>) -> Collector {
        let scheme = match secure {
            Some(_) => "https",
            None => "http",
        };
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let address = listener.local_addr().expect("it has an address");
        let received = Arc::<Mutex<Received>>::default();
        let shared = Arc::clone(&received);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                lock(&shared).connections += 1;
                let (shared, secure) = (Arc::clone(&shared), secure.clone());
                std::thread::spawn(move || {
                    let line = match secure {
                        Some(secure) => secure(stream),
                        None => Ok(Box::new(stream) as Box<dyn Line>),
                    };
                    // Whoever does not trust this collector goes.
                    if let Ok(line) = line {
                        serve(line, answer, &shared);
                    }
                });
            }
        });
        Collector {
            scheme,
            address,
            received,
        }
    }

    /// Where it is, as `OTEL_EXPORTER_OTLP_ENDPOINT` has it.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// How many connections came to it.
    pub(crate) fn connections(&self) -> usize {
        lock(&self.received).connections
    }

    /// Everything that came to it, as it came.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        lock(&self.received).requests.concat()
    }

    /// The heads of all requests that came to it.
    pub(crate) fn heads(&self) -> String {
        lock(&self.received).heads.clone()
    }

    /// The spans of a trace.
    pub(crate) fn spans(&self, trace: &str) -> Vec<Told> {
        let requests: Vec<Value> = lock(&self.received)
            .requests
            .iter()
            .map(|request| serde_json::from_slice(request).expect("what is sent is JSON"))
            .collect();
        let mut spans = Vec::new();
        for of_resource in requests
            .iter()
            .flat_map(|request| list(request, "resourceSpans"))
        {
            let resource = attributes(&of_resource["resource"]["attributes"]);
            let scopes = list(of_resource, "scopeSpans");
            for span in scopes.iter().flat_map(|scope| list(scope, "spans")) {
                if span["traceId"] == trace {
                    spans.push(Told {
                        span: span.clone(),
                        resource: resource.clone(),
                    });
                }
            }
        }
        spans
    }

    /// The spans of a trace by name, when all of these have come; each name once.
    pub(crate) fn wait_for(&self, trace: &str, names: &[&str]) -> BTreeMap<String, Told> {
        let what = format!("spans {names:?} of trace {trace} are sent");
        wait::until(&what, SOON, || {
            let spans = self.spans(trace);
            let found = |name: &&str| spans.iter().any(|told| told.str("name") == *name);
            let count = spans.len();
            let by_name: BTreeMap<String, Told> = spans
                .iter()
                .map(|told| (told.str("name").to_owned(), told.clone()))
                .collect();
            assert_eq!(by_name.len(), count, "two spans of one name: {spans:#?}");
            names.iter().all(found).then_some(by_name)
        })
    }
}

fn lock(received: &Mutex<Received>) -> MutexGuard<'_, Received> {
    received.lock().unwrap_or_else(PoisonError::into_inner)
}

fn list<'a>(of: &'a Value, field: &str) -> &'a [Value] {
    of[field].as_array().map_or(&[], Vec::as_slice)
}

fn attributes(list: &Value) -> BTreeMap<String, String> {
    let pairs = list.as_array().into_iter().flatten();
    pairs
        .map(|pair| {
            let key = pair["key"].as_str().unwrap_or_default().to_owned();
            let mut values = pair["value"]
                .as_object()
                .into_iter()
                .flat_map(|o| o.values());
            let value = values.next().unwrap_or(&Value::Null);
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            (key, text)
        })
        .collect()
}

/// Takes the requests of a connection, one after the other.
fn serve(stream: Box<dyn Line>, answer: Option<&str>, received: &Mutex<Received>) {
    let mut reader = BufReader::new(stream);
    while let Some((head, body)) = request(&mut reader) {
        let mut received = lock(received);
        received.heads.push_str(&head);
        received.requests.push(body);
        drop(received);
        let Some(answer) = answer else { continue };
        let length = answer.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{answer}"
        );
        if reader.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn request(reader: &mut impl BufRead) -> Option<(String, Vec<u8>)> {
    let mut length = 0;
    let mut head = String::new();
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    assert!(line.starts_with("POST /v1/traces HTTP/1.1"), "{line}");
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        if line == "\r\n" {
            break;
        }
        let header = line.to_ascii_lowercase();
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((head, body))
}
