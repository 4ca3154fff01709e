//! What can be asked on the peer port: the three streams, `GET /hello` and `POST /form`.
//!
//! Owns the answers. Every body that is not a stream is bounded in size and time; every refusal is a JSON object
//! `{code, detail}`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Frame, Incoming as IncomingBody};
use serde::Serialize;
use tenure_replica::Lane;
use tokio::sync::oneshot;

use super::handshake::{self, Refusal};
use super::hello::{BODY_LIMIT, Form, Hello};
use super::server::Running;
use super::streams::Receiver;
use super::tasks::Tasks;
use crate::tls::MemberCertificate;

/// How long the body of an offer may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Who is on the other side of a connection.
#[derive(Debug)]
pub(super) enum Caller {
    /// Nobody is asked: nothing is secured.
    Anybody,
    /// Whoever has shown this certificate.
    Certified(MemberCertificate),
    /// Somebody without TLS where it is needed, who is told so and nothing else.
    Insecure,
}

impl Caller {
    fn certificate(&self) -> Option<&MemberCertificate> {
        match self {
            Caller::Certified(certificate) => Some(certificate),
            Caller::Anybody | Caller::Insecure => None,
        }
    }

    /// Why nothing is answered at all.
    fn check(&self) -> Result<(), Refusal> {
        match self {
            Caller::Anybody => Ok(()),
            Caller::Certified(certificate) => certificate.is_of_a_member().map_err(|why| {
                Refusal::new(
                    handshake::WRONG_CERTIFICATE,
                    format!("of the caller: {why}"),
                )
            }),
            Caller::Insecure => Err(Refusal::new(
                "tls-required",
                "members speak TLS with one another here: give the caller peer_cert_file, peer_key_file and peer_ca_file",
            )),
        }
    }
}

/// Answers one request. `running` lives as long as the answer.
pub(super) async fn answer(
    request: Request<IncomingBody>,
    (address, caller): (SocketAddr, Arc<Caller>),
    receiver: Arc<Receiver>,
    running: Running,
    tasks: Tasks,
) -> Result<Response<Answer>, Infallible> {
    if let Err(refusal) = caller.check() {
        receiver.log_refused(address, &refusal);
        return Ok(refused(StatusCode::FORBIDDEN, &refusal));
    }
    let shown = (address, caller.certificate());
    if let Some(lane) = handshake::lane_of(request.uri().path()) {
        return Ok(match request.method() {
            &Method::POST => open_stream(lane, request, shown, &receiver, running, &tasks),
            _ => method_not_allowed("POST"),
        });
    }
    Ok(match (request.uri().path(), request.method()) {
        ("/hello", &Method::GET) => json(StatusCode::OK, &Hello::of(receiver.directory())),
        ("/hello", _) => method_not_allowed("GET"),
        ("/form", &Method::POST) => match form(request, shown, &receiver).await {
            Ok(()) => json(StatusCode::OK, &serde_json::json!({"formed": true})),
            Err((status, refusal)) => refused(status, &refusal),
        },
        ("/form", _) => method_not_allowed("POST"),
        (_, _) => refused(
            StatusCode::NOT_FOUND,
            &Refusal::new(
                "route-not-found",
                "this is the peer port of a member of Tenure; clients use its client port",
            ),
        ),
    })
}

/// Admits a dialer and reads its stream in a task of its own, while the answer stays open.
fn open_stream(
    lane: Lane,
    request: Request<IncomingBody>,
    (address, shown): (SocketAddr, Option<&MemberCertificate>),
    receiver: &Arc<Receiver>,
    running: Running,
    tasks: &Tasks,
) -> Response<Answer> {
    let from = match handshake::admit(request.headers(), shown, receiver.directory()) {
        Ok(from) => from,
        Err((status, refusal)) => {
            receiver.log_refused(address, &refusal);
            if refusal.code == handshake::UNVOUCHED
                && let Some((stranger, name)) = handshake::stranger(request.headers())
            {
                receiver.ask_about(stranger, &name);
            }
            return refused(status, &refusal);
        }
    };
    let (last_words, ending) = oneshot::channel();
    let stream = receiver.enter(from, lane, tasks);
    let receiver = Arc::clone(receiver);
    tasks.spawn(async move {
        let reason = receiver.read(stream, request.into_body()).await;
        // Where the connection is gone there is nobody to tell.
        let _ = last_words.send(reason.map(|refusal| to_json(&refusal)));
        drop(running);
    });
    let mut response = Response::new(Answer::Stream(ending));
    handshake::tell_newest_kind(response.headers_mut());
    response
}

async fn form(
    request: Request<IncomingBody>,
    (address, shown): (SocketAddr, Option<&MemberCertificate>),
    receiver: &Receiver,
) -> Result<(), (StatusCode, Refusal)> {
    let invalid = |detail: String| {
        (
            StatusCode::BAD_REQUEST,
            Refusal::new("invalid-request", detail),
        )
    };
    let body = Limited::new(request.into_body(), BODY_LIMIT).collect();
    let body = tokio::time::timeout(BODY_TIMEOUT, body)
        .await
        .map_err(|_| invalid("the body did not arrive in time".into()))?;
    let body = body.map_err(|error| invalid(error.to_string()))?.to_bytes();
    let form: Form = serde_json::from_slice(&body).map_err(|error| invalid(error.to_string()))?;
    form.check().map_err(invalid)?;
    offered_by_one_of(&form, shown)
        .inspect_err(|(_, refusal)| receiver.log_refused(address, refusal))?;
    receiver
        .form(form)
        .await
        .map_err(|refusal| (StatusCode::CONFLICT, refusal))
}

/// A first configuration is offered by one of those who are in it.
fn offered_by_one_of(
    form: &Form,
    shown: Option<&MemberCertificate>,
) -> Result<(), (StatusCode, Refusal)> {
    let Some(shown) = shown else {
        return Ok(());
    };
    let mut why = String::new();
    for member in &form.members {
        match shown.is_of(&member.name, &member.peer_url) {
            Ok(()) => return Ok(()),
            Err(reason) => why = reason,
        }
    }
    let detail = format!("whoever offers a first configuration is none of its members: {why}");
    Err((
        StatusCode::FORBIDDEN,
        Refusal::new(handshake::WRONG_CERTIFICATE, detail),
    ))
}

fn method_not_allowed(allow: &'static str) -> Response<Answer> {
    let refusal = Refusal::new("method-not-allowed", format!("only {allow} is served here"));
    let mut response = refused(StatusCode::METHOD_NOT_ALLOWED, &refusal);
    response
        .headers_mut()
        .insert(header::ALLOW, header::HeaderValue::from_static(allow));
    response
}

fn refused(status: StatusCode, refusal: &Refusal) -> Response<Answer> {
    json(status, refusal)
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Answer> {
    let mut response = Response::new(Answer::Whole(Full::new(to_json(value))));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    response
}

fn to_json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value)
        .expect("these shapes have string keys and plain values")
        .into()
}

/// The body of an answer.
#[derive(Debug)]
pub(super) enum Answer {
    /// All of it at hand.
    Whole(Full<Bytes>),
    /// Nothing, as long as the stream is read; then perhaps why it is not any longer.
    Stream(oneshot::Receiver<Option<Bytes>>),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Answer::Whole(body) => Pin::new(body).poll_frame(cx),
            Answer::Stream(ending) => {
                let last_words = std::task::ready!(Pin::new(ending).poll(cx)).unwrap_or_default();
                *self = Answer::Whole(Full::default());
                Poll::Ready(last_words.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::Whole(body) => body.is_end_stream(),
            Answer::Stream(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tenure_raft::MemberId;

    use super::super::directory::ClusterId;
    use super::super::hello::FormMember;
    use super::*;

    #[test]
    fn a_first_configuration_is_taken_from_its_members_only() {
        let member = |id, name: &str| FormMember {
            id: MemberId(id),
            name: name.to_owned(),
            peer_url: format!("https://{name}.example:7380"),
            client_url: String::new(),
        };
        let form = Form {
            cluster: ClusterId(9),
            members: vec![member(1, "n1"), member(2, "n2")],
            limits: BTreeMap::new(),
            root: None,
            state_version: 2,
        };
        let offered = |certificate: Option<&MemberCertificate>| {
            let refused = offered_by_one_of(&form, certificate).err();
            refused.map(|(_, refusal)| refusal.code)
        };
        assert_eq!(offered(None), None);
        let second = MemberCertificate::named(&[], &["n2.example"]);
        assert_eq!(offered(Some(&second)), None);
        let third = MemberCertificate::named(&["tenure://member/n3"], &["n2.example"]);
        assert_eq!(offered(Some(&third)).as_deref(), Some("wrong-certificate"));
    }
}
