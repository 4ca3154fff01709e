//! Tenure as a system under test, over its REST API.
//!
//! In place of the SDK this is a client that does nothing but ask: it neither retries nor follows leaders, so that what
//! is measured is the cluster, and an error is seen as one.

mod events;
mod link;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tenure::api::JSON;

use self::events::{Events, Message, heads};
use self::link::{Link, Member, Shared, Stream};
use super::busy::HEAD;
use super::system::{Done, Failure, Reading, Session, System, Watching};
use crate::settings::Access;

/// How long one asking for a lock is held open; the place in the queue is kept between two.
const POLL_MS: u64 = 20_000;
/// As long as a wait may be: a lock or a leadership is waited for until the run is over.
const WAIT_MS: u64 = tenure::api::MAX_QUEUE_WAIT_MS;

/// A cluster of Tenure.
pub(crate) struct Tenure {
    members: Vec<Arc<Member>>,
    /// Connections to be shared; without any, each client has its own.
    shared: Vec<Shared>,
    /// What it calls itself.
    pub(crate) version: String,
}

#[derive(Deserialize)]
struct Status {
    version: String,
    role: String,
}

impl Tenure {
    /// Asks the members who leads. `connections` below the number of clients are shared by them over HTTP/2.
    ///
    /// # Errors
    ///
    /// Where a URL is none, or its member does not answer.
    pub(crate) async fn connect(
        access: &Access,
        clients: usize,
        connections: usize,
    ) -> Result<Tenure, Failure> {
        let mut members = Vec::new();
        let mut version = String::new();
        for url in &access.endpoints {
            let member = Arc::new(Member::new(url, access)?);
            let mut asking = Asking(Link::new(Arc::clone(&member), None));
            let request = asking.0.request(Method::GET, "/v1/status", Bytes::new());
            let status: Status = asking.json(request).await?;
            let place = if status.role == "leader" {
                0
            } else {
                members.len()
            };
            members.insert(place, member);
            version = status.version;
        }
        let shared = if connections < clients {
            (0..connections).map(|_| Shared::default()).collect()
        } else {
            Vec::new()
        };
        Ok(Tenure {
            members,
            shared,
            version,
        })
    }
}

impl System for Tenure {
    type Session = Asking;

    async fn open(&self, number: usize) -> Result<Asking, Failure> {
        let connection = if self.shared.is_empty() {
            number
        } else {
            number % self.shared.len()
        };
        let member = &self.members[connection % self.members.len()];
        let shared = self.shared.get(connection).cloned();
        let mut link = Link::new(Arc::clone(member), shared);
        link.open().await?;
        Ok(Asking(link))
    }
}

/// One client of Tenure.
pub(crate) struct Asking(Link);

/// What a client holds.
pub(crate) struct Hold {
    /// What ends it.
    target: String,
}

/// What is needed of the answer to an acquire or a campaign.
#[derive(Deserialize)]
struct Granted {
    fence: Option<u64>,
}

#[derive(Deserialize)]
struct Lease {
    lease: String,
}

#[derive(Deserialize)]
struct Renewed {
    results: Vec<OneRenewed>,
}

#[derive(Deserialize)]
struct OneRenewed {
    error: Option<String>,
}

#[derive(Deserialize)]
struct Problem {
    code: String,
    detail: String,
}

fn problem(status: StatusCode, body: &Bytes) -> Failure {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => Failure::new(problem.code, problem.detail),
        Err(_) => Failure::new(
            format!("http-{}", status.as_u16()),
            String::from_utf8_lossy(&body[..body.len().min(200)]),
        ),
    }
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Failure> {
    serde_json::from_slice(body)
        .map_err(|error| Failure::answer(format!("an answer cannot be read: {error}")))
}

impl Asking {
    async fn ask(&mut self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), Failure> {
        let (status, body) = self.0.call(request).await?;
        if status.is_success() {
            Ok((status, body))
        } else {
            Err(problem(status, &body))
        }
    }

    async fn json<T: DeserializeOwned>(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<T, Failure> {
        let (_, body) = self.ask(request).await?;
        read(&body)
    }

    fn post(&self, target: &str, body: &serde_json::Value) -> Request<Full<Bytes>> {
        let mut request = self
            .0
            .request(Method::POST, target, body.to_string().into());
        let json = HeaderValue::from_static(JSON);
        request.headers_mut().insert(header::CONTENT_TYPE, json);
        request
    }

    /// Asks for a lock or a leadership until it is granted.
    async fn wait_for(
        &mut self,
        target: &str,
        body: &serde_json::Value,
        identity: &str,
    ) -> Result<Hold, Failure> {
        loop {
            let request = self.post(target, body);
            let (status, answer) = self.ask(request).await?;
            if status == StatusCode::ACCEPTED {
                continue;
            }
            let granted: Granted = read(&answer)?;
            let fence = granted
                .fence
                .ok_or_else(|| Failure::answer("a grant has no fence"))?;
            let target = format!("{target}?{identity}&fence={fence}");
            return Ok(Hold { target });
        }
    }

    async fn end(&mut self, target: &str) -> Result<(), Failure> {
        let request = self.0.request(Method::DELETE, target, Bytes::new());
        self.ask(request).await.map(|_| ())
    }
}

impl Session for Asking {
    type Lease = String;
    type Hold = Hold;
    type Watch = Watch;

    async fn put(&mut self, key: &str, value: Bytes) -> Result<(), Failure> {
        let request = self
            .0
            .request(Method::PUT, &format!("/v1/keys/{key}"), value);
        self.ask(request).await.map(|_| ())
    }

    async fn get(&mut self, key: &str, reading: Reading) -> Result<(), Failure> {
        let query = match reading {
            Reading::Linearizable => "",
            Reading::Local => "?consistency=local",
        };
        let target = format!("/v1/keys/{key}{query}");
        let request = self.0.request(Method::GET, &target, Bytes::new());
        self.ask(request).await.map(|_| ())
    }

    async fn delete(&mut self, prefix: &str) -> Result<(), Failure> {
        self.end(&format!("/v1/keys?prefix={prefix}")).await
    }

    async fn grant(&mut self, ttl: Duration) -> Result<String, Failure> {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let request = self.post("/v1/leases", &json!({ "ttl_ms": ttl_ms, "name": "bench" }));
        let granted: Lease = self.json(request).await?;
        Ok(granted.lease)
    }

    async fn renew(&mut self, leases: &[String]) -> Result<Done, Failure> {
        let request = self.post("/v1/leases/renew", &json!({ "leases": leases }));
        let renewed: Renewed = self.json(request).await?;
        if renewed.results.len() != leases.len() {
            let detail = format!(
                "{} results for {} leases",
                renewed.results.len(),
                leases.len()
            );
            return Err(Failure::answer(detail));
        }
        let mut done = Done::default();
        for result in renewed.results {
            match result.error {
                None => done.operations += 1,
                Some(code) => done.refuse(code),
            }
        }
        Ok(done)
    }

    async fn revoke(&mut self, lease: &String) -> Result<(), Failure> {
        match self.end(&format!("/v1/leases/{lease}")).await {
            Err(failure)
                if matches!(failure.code.as_str(), "lease-expired" | "lease-not-found") =>
            {
                Ok(())
            }
            revoked => revoked,
        }
    }

    async fn acquire(&mut self, lock: &str, lease: &String) -> Result<Hold, Failure> {
        let body = json!({ "lease": lease, "wait_ms": WAIT_MS, "poll_ms": POLL_MS });
        let identity = format!("lease={lease}");
        self.wait_for(&format!("/v1/locks/{lock}"), &body, &identity)
            .await
    }

    async fn release(&mut self, hold: Hold) -> Result<(), Failure> {
        self.end(&hold.target).await
    }

    async fn campaign(
        &mut self,
        election: &str,
        lease: &String,
        value: &str,
    ) -> Result<Hold, Failure> {
        let body = json!({
            "lease": lease,
            "candidate": "bench",
            "value": value,
            "wait_ms": WAIT_MS,
            "poll_ms": POLL_MS,
        });
        let identity = format!("lease={lease}&candidate=bench");
        self.wait_for(&format!("/v1/elections/{election}"), &body, &identity)
            .await
    }

    async fn resign(&mut self, hold: Hold) -> Result<(), Failure> {
        self.end(&hold.target).await
    }

    async fn watch(&mut self, key: &str) -> Result<Watch, Failure> {
        let target = format!("/v1/watch?resource=keys/{key}");
        let mut request = self.0.request(Method::GET, &target, Bytes::new());
        let stream = HeaderValue::from_static("text/event-stream");
        request.headers_mut().insert(header::ACCEPT, stream);
        let mut stream = self.0.stream(request).await?;
        if !stream.status.is_success() {
            let body = stream.piece().await?.unwrap_or_default();
            return Err(problem(stream.status, &body));
        }
        let mut watch = Watch {
            stream,
            events: Events::default(),
        };
        match watch.message().await? {
            Message::Start => Ok(watch),
            other => Err(Failure::answer(format!("a stream began with {other:?}"))),
        }
    }
}

/// A stream of events.
pub(crate) struct Watch {
    stream: Stream,
    events: Events,
}

impl Watch {
    async fn message(&mut self) -> Result<Message, Failure> {
        loop {
            if let Some(message) = self.events.message() {
                return Ok(message);
            }
            let piece = self.stream.piece().await?;
            let piece = piece.ok_or_else(|| Failure::connection("the stream has ended"))?;
            self.events.push(&piece)?;
        }
    }
}

impl Watching for Watch {
    async fn next(&mut self, found: &mut Vec<Bytes>) -> Result<(), Failure> {
        loop {
            match self.message().await? {
                Message::Change(change) => heads(&change, HEAD, found)?,
                Message::Error(body) => return Err(problem(StatusCode::GONE, &body)),
                Message::Start | Message::Alive => {}
            }
            if !found.is_empty() {
                return Ok(());
            }
        }
    }
}
