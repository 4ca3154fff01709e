//! For tests of this crate: a clock that a test can suspend, and members that answer as they are told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::client::Client;
use crate::clock::{Clock, Moment};
use crate::credential::Credential;
use crate::transport::{Boxed, SendError, Streamed, Transport};

/// Shows the runtime's paused time, and the time in which the machine was suspended on one of its clocks.
pub(crate) struct TestClock {
    start: Instant,
    suspended: Mutex<Duration>,
}

impl Default for TestClock {
    fn default() -> TestClock {
        TestClock {
            start: Instant::now(),
            suspended: Mutex::default(),
        }
    }
}

impl TestClock {
    pub(crate) fn suspend(&self, time: Duration) {
        *self
            .suspended
            .lock()
            .unwrap_or_else(PoisonError::into_inner) += time;
    }
}

impl Clock for TestClock {
    fn now(&self) -> Moment {
        let suspended = *self
            .suspended
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let raw = self.start.elapsed();
        Moment {
            boot: raw + suspended,
            raw,
        }
    }
}

/// What a member does with a request.
pub(crate) enum Does {
    Answers(u16, Value),
    /// After so much time.
    Late(Duration, u16, Value),
    /// With these headers, too.
    Tells(u16, Value, Vec<(&'static str, String)>),
    Refuses,
    Breaks,
    Hangs,
}

pub(crate) fn problem(status: u16, code: &str, outcome: &str, retry: &str) -> Does {
    let body = json!({"type": format!("urn:tenure:problem:{code}"), "title": "t", "status": status, "detail": "d",
        "code": code, "outcome": outcome, "retry": retry});
    Does::Answers(status, body)
}

/// A request as a member got it.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) member: String,
    pub(crate) call: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Value,
}

type Script = dyn Fn(&Got) -> Does + Send + Sync;

/// Members that follow a script.
pub(crate) struct Members {
    script: Box<Script>,
    got: Mutex<Vec<Got>>,
}

impl Members {
    pub(crate) fn that(script: impl Fn(&Got) -> Does + Send + Sync + 'static) -> Arc<Members> {
        Arc::new(Members {
            script: Box::new(script),
            got: Mutex::default(),
        })
    }

    /// What was asked so far.
    pub(crate) fn got(&self) -> MutexGuard<'_, Vec<Got>> {
        self.got.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often this was asked.
    pub(crate) fn count(&self, call: &str) -> usize {
        self.got().iter().filter(|got| got.call == call).count()
    }

    /// A client of three of them.
    pub(crate) fn client(self: &Arc<Self>, clock: &Arc<TestClock>) -> Client {
        self.client_that_is(Credential::None, clock)
    }

    /// The same, which says who it is.
    pub(crate) fn client_that_is(
        self: &Arc<Self>,
        credential: Credential,
        clock: &Arc<TestClock>,
    ) -> Client {
        let urls = ["http://a:1", "http://b:1", "http://c:1"];
        let transport = Arc::clone(self) as Arc<dyn Transport>;
        let clock = Arc::clone(clock) as Arc<dyn Clock>;
        Client::with(urls, transport, clock, credential).expect("they are URLs")
    }
}

impl Transport for Members {
    fn open(
        &self,
        request: Request<Bytes>,
    ) -> Boxed<'static, Result<Response<Streamed>, SendError>> {
        let answer = self.send(request);
        Box::pin(async move {
            let whole = |bytes| {
                Full::new(bytes)
                    .map_err(|never| match never {})
                    .boxed_unsync()
            };
            Ok(answer.await?.map(whole))
        })
    }

    fn send(&self, request: Request<Bytes>) -> Boxed<'static, Result<Response<Bytes>, SendError>> {
        let uri = request.uri().clone();
        let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.to_string(), value)
        };
        let got = Got {
            member: uri.host().unwrap_or_default().to_owned(),
            call: format!(
                "{} {}",
                request.method(),
                uri.path_and_query().map_or("", |path| path.as_str())
            ),
            headers: request.headers().iter().map(header).collect(),
            body: serde_json::from_slice(request.body()).unwrap_or_default(),
        };
        self.got().push(got.clone());
        let does = (self.script)(&got);
        Box::pin(async move {
            match does {
                Does::Answers(status, body) => Ok(answer(status, &body, &[])),
                Does::Tells(status, body, headers) => Ok(answer(status, &body, &headers)),
                Does::Late(after, status, body) => {
                    tokio::time::sleep(after).await;
                    Ok(answer(status, &body, &[]))
                }
                Does::Refuses => Err(SendError::NotSent("refused".into())),
                Does::Breaks => Err(SendError::Broken("reset".into())),
                Does::Hangs => std::future::pending().await,
            }
        })
    }
}

fn answer(status: u16, body: &Value, headers: &[(&str, String)]) -> Response<Bytes> {
    let mut answer = Response::builder().status(status);
    for (name, value) in headers {
        answer = answer.header(*name, value);
    }
    answer
        .body(Bytes::from(body.to_string()))
        .expect("it is an answer")
}
