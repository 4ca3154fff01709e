//! What a member tells whoever asks, and the offer of a first configuration.
//!
//! Owns two small JSON calls on the peer port beside the streams: `GET /hello` and `POST /form`, both sides. Whether
//! to form a cluster is decided elsewhere (`forming`); nothing here changes a member.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use serde::{Deserialize, Serialize};
use tenure_raft::{Configuration, MemberId, MemberInfo};
use tenure_state::{FIRST_STATE_VERSION, Limits, RootToken, TokenId};

use super::dial::{self, Connection, DialError, Whom};
use super::directory::{ClusterId, Directory, parse_member_id};
use super::frame::WIRE_VERSION;
use super::handshake::Refusal;
use crate::tls::{Calling, Port};
use crate::token::hex;

/// Greatest body of either call: thousands of members with long URLs.
pub(super) const BODY_LIMIT: usize = 256 << 10;

/// How long one call may take from the connection to the last byte.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// How long an offer may take: its receiver answers when it is on disk.
const FORM_TIMEOUT: Duration = Duration::from_secs(15);

/// Longest name or URL that a member is believed.
const LABEL_BYTES: usize = 1024;

/// A member's answer to `GET /hello`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Hello {
    /// The version of streams that it speaks.
    pub wire_version: u8,
    /// What it is called.
    pub name: String,
    /// Its id.
    #[serde(with = "member_id")]
    pub member: MemberId,
    /// Where clients reach it.
    pub client_url: String,
    /// The cluster it belongs to; none while it is empty.
    #[serde(with = "optional_cluster_id")]
    pub cluster: Option<ClusterId>,
    /// The members that it was told to form a cluster with, names to peer URLs.
    pub initial_members: Option<BTreeMap<String, String>>,
    /// The members of its cluster, names to ids.
    pub known_names: BTreeMap<String, KnownMember>,
    /// Where these are reached, names to peer URLs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub known_urls: BTreeMap<String, String>,
    /// The newest version of the rules that it can follow; members of before there were versions say nothing.
    #[serde(default = "of_before")]
    pub state_version_at_most: u64,
}

/// The rules of members that say nothing of versions.
fn of_before() -> u64 {
    FIRST_STATE_VERSION
}

/// A member id, as in `known_names`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct KnownMember(#[serde(with = "member_id")] pub MemberId);

impl Hello {
    /// What this member says now.
    pub(super) fn of(directory: &Directory) -> Hello {
        let identity = directory.identity();
        let membership = directory.membership();
        // Who takes the place of a member of the same name is the one that is spoken of from then on.
        let known = |learns: bool| {
            let members = membership.iter().flat_map(|known| &known.members);
            let learners = membership.as_ref().map(|known| &known.learners);
            members.filter(move |(id, _)| {
                learners.is_some_and(|learners| learners.contains(id)) == learns
            })
        };
        let all = || known(false).chain(known(true));
        Hello {
            wire_version: WIRE_VERSION,
            name: identity.name.clone(),
            member: identity.member,
            client_url: identity.client_url.clone(),
            cluster: membership.as_ref().map(|membership| membership.cluster),
            initial_members: identity.initial_members.clone(),
            known_names: all()
                .map(|(id, info)| (info.name.clone(), KnownMember(*id)))
                .collect(),
            known_urls: all()
                .map(|(_, info)| (info.name.clone(), info.peer_url.clone()))
                .collect(),
            state_version_at_most: identity.state_version_at_most,
        }
    }

    /// Everything in it that is logged or kept is bounded and free of control characters.
    pub(super) fn check(self) -> Result<Hello, DialError> {
        let lists = self
            .initial_members
            .iter()
            .flatten()
            .chain(&self.known_urls)
            .flat_map(|(name, url)| [name, url]);
        let texts = lists
            .chain(self.known_names.keys())
            .chain([&self.name, &self.client_url]);
        let sound = texts.into_iter().all(|text| is_label(text));
        let unsound = || {
            DialError::Answer(
                "hello with a name or URL that is too long or not printable".to_owned(),
            )
        };
        sound.then_some(self).ok_or_else(unsound)
    }
}

fn is_label(text: &str) -> bool {
    text.len() <= LABEL_BYTES && !text.chars().any(char::is_control)
}

/// The first configuration of a cluster, as it is offered to members that are empty.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Form {
    /// The cluster.
    #[serde(with = "cluster_id")]
    pub cluster: ClusterId,
    /// Its first members, all of them voters.
    pub members: Vec<FormMember>,
    /// The limits it begins with, every one of them by name.
    pub limits: BTreeMap<String, u64>,
    /// The token that may do everything, where it begins with access control on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<FormRoot>,
    /// The version of the rules that it begins with; members of before there were versions say nothing.
    #[serde(default = "of_before")]
    pub state_version: u64,
}

/// The token of a first configuration, less its secret.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FormRoot {
    /// Its id, in 16 hex digits.
    pub id: String,
    /// The SHA-256 of its secret, in 64 hex digits.
    pub sha256: String,
}

impl FormRoot {
    fn of(root: &RootToken) -> FormRoot {
        FormRoot {
            id: root.id.to_string(),
            sha256: root.hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }

    fn token(&self) -> Option<RootToken> {
        Some(RootToken {
            id: TokenId(u64::from_be_bytes(hex(self.id.as_bytes())?)),
            hash: hex(self.sha256.as_bytes())?,
        })
    }
}

/// One member of a first configuration.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FormMember {
    /// Its id.
    #[serde(with = "member_id")]
    pub id: MemberId,
    /// What it is called.
    pub name: String,
    /// Where other members reach it.
    pub peer_url: String,
    /// Where clients reach it.
    pub client_url: String,
}

impl Form {
    /// The offer of a configuration of voters and of limits.
    pub fn new(
        cluster: ClusterId,
        configuration: &Configuration,
        limits: &Limits,
        (root, state_version): (Option<&RootToken>, u64),
    ) -> Form {
        let members = configuration.info.iter().map(|(id, info)| FormMember {
            id: *id,
            name: info.name.clone(),
            peer_url: info.peer_url.clone(),
            client_url: info.client_url.clone(),
        });
        Form {
            cluster,
            members: members.collect(),
            limits: limits
                .named()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            root: root.map(FormRoot::of),
            state_version,
        }
    }

    /// The token that is offered.
    ///
    /// # Errors
    /// Where what is there instead is none: a cluster that was to begin with access control on never begins without.
    pub fn root(&self) -> Result<Option<RootToken>, String> {
        let read = |root: &FormRoot| {
            root.token()
                .ok_or("the offer has a root token that is none")
        };
        Ok(self.root.as_ref().map(read).transpose()?)
    }

    /// The limits that are offered.
    ///
    /// # Errors
    /// Where they are not exactly those that this member has, each with a value that it accepts: members that begin
    /// with different limits decide differently.
    pub fn limits(&self) -> Result<Limits, String> {
        let mut limits = Limits::default();
        if let Some((missing, _)) = limits
            .named()
            .find(|(name, _)| !self.limits.contains_key(*name))
        {
            return Err(format!("the offer has no limit {missing}"));
        }
        for (name, value) in &self.limits {
            limits
                .set(name, *value)
                .map_err(|error| error.to_string())?;
        }
        limits.check().map_err(|error| error.to_string())?;
        Ok(limits)
    }

    /// The configuration that is offered.
    pub fn configuration(&self) -> Configuration {
        let info = |member: &FormMember| MemberInfo {
            name: member.name.clone(),
            peer_url: member.peer_url.clone(),
            client_url: member.client_url.clone(),
            start: None,
        };
        Configuration {
            voters: self.members.iter().map(|member| member.id).collect(),
            info: self
                .members
                .iter()
                .map(|member| (member.id, info(member)))
                .collect(),
            ..Configuration::default()
        }
    }

    /// Says what makes it no first configuration at all, whoever it is offered to.
    pub(crate) fn check(&self) -> Result<(), String> {
        let names: std::collections::BTreeSet<_> =
            self.members.iter().map(|member| &member.name).collect();
        let ids: std::collections::BTreeSet<_> =
            self.members.iter().map(|member| member.id).collect();
        if self.members.is_empty() || self.cluster == ClusterId(0) || ids.contains(&MemberId(0)) {
            return Err("the offer has no members, or an id that is zero".to_owned());
        }
        if names.len() != self.members.len() || ids.len() != self.members.len() {
            return Err("the offer has two members of one name or id".to_owned());
        }
        let texts = self
            .members
            .iter()
            .flat_map(|m| [&m.name, &m.peer_url, &m.client_url]);
        let sound = texts.into_iter().all(|text| is_label(text));
        if !sound {
            return Err("the offer has a name or URL that is too long or not printable".to_owned());
        }
        self.root()?;
        self.limits().map(|_| ())
    }
}

/// Asks the member at `peer_url` about itself, by TLS where `tls` is given. Then it must be who it says.
///
/// # Errors
/// Where it cannot be reached within three seconds, or answers something else.
pub async fn ask_hello(tls: Option<&Port>, peer_url: &str) -> Result<Hello, DialError> {
    let work = async {
        let mut connection = dial::connect(peer_url, Whom::Member(tls), &dial::CALL).await?;
        let (status, body) = exchange(&mut connection, get("/hello")).await?;
        if status != StatusCode::OK {
            return Err(DialError::Refused(Refusal::from_peer(status, &body)));
        }
        let hello: Hello =
            serde_json::from_slice(&body).map_err(|error| DialError::Answer(error.to_string()))?;
        let hello = hello.check()?;
        connection.check(&hello.name, peer_url)?;
        Ok(hello)
    };
    within(CALL_TIMEOUT, work).await
}

/// Offers the member of this name, at `peer_url`, its first configuration, by TLS where `tls` is given; returns when it has
/// it on disk.
///
/// # Errors
/// Where it cannot be reached, or refuses; then nothing was changed there, unless the connection broke.
pub async fn offer_form(
    tls: Option<&Port>,
    (name, peer_url): (&str, &str),
    form: &Form,
) -> Result<(), DialError> {
    let body = serde_json::to_vec(form).map_err(|error| DialError::Answer(error.to_string()))?;
    let work = async {
        let mut connection = dial::connect(peer_url, Whom::Member(tls), &dial::CALL).await?;
        connection.check(name, peer_url)?;
        let call = Call {
            method: Method::POST,
            body: body.into(),
            ..get("/form")
        };
        let (status, body) = exchange(&mut connection, call).await?;
        match status {
            StatusCode::OK => Ok(()),
            _ => Err(DialError::Refused(Refusal::from_peer(status, &body))),
        }
    };
    within(FORM_TIMEOUT, work).await
}

/// Calls the public API of the member whose clients reach it at `client_url`.
///
/// # Errors
/// Where it cannot be reached, or does not answer in time.
pub async fn call_client(
    calling: &Calling,
    client_url: &str,
    (method, path, body): (Method, &'static str, Bytes),
    timeout: Duration,
) -> Result<(StatusCode, Bytes), DialError> {
    let work = async {
        let whom = Whom::AsClient(calling);
        let mut connection = dial::connect(client_url, whom, &dial::CALL).await?;
        let call = Call {
            method,
            path,
            body,
            token: calling.token_for(client_url),
        };
        exchange(&mut connection, call).await
    };
    within(timeout, work).await
}

/// What is asked.
struct Call<'a> {
    method: Method,
    path: &'static str,
    body: Bytes,
    token: Option<&'a str>,
}

fn get(path: &'static str) -> Call<'static> {
    Call {
        method: Method::GET,
        path,
        body: Bytes::new(),
        token: None,
    }
}

/// One call on a connection.
async fn exchange(
    connection: &mut Connection<Full<Bytes>>,
    call: Call<'_>,
) -> Result<(StatusCode, Bytes), DialError> {
    let request = Request::builder()
        .method(call.method)
        .uri(connection.uri(call.path))
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(call.body));
    let mut request = request.map_err(|error| DialError::Answer(error.to_string()))?;
    if let Some(token) = call.token
        && let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {token}"))
    {
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    let response = connection.send(request).await?;
    let status = response.status();
    let body = dial::read_body(response.into_body(), BODY_LIMIT).await?;
    Ok((status, body))
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, DialError>>,
) -> Result<T, DialError> {
    tokio::time::timeout(limit, work)
        .await
        .map_err(|_| DialError::TimedOut(limit))?
}

/// Member ids as 16 hex digits.
mod member_id {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::{MemberId, parse_member_id};

    pub(super) fn serialize<S: Serializer>(
        id: &MemberId,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<MemberId, D::Error> {
        parse_member_id(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// Cluster ids as 32 hex digits.
mod cluster_id {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::ClusterId;

    pub(super) fn serialize<S: Serializer>(
        id: &ClusterId,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<ClusterId, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

/// The same, or null.
mod optional_cluster_id {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use super::ClusterId;

    pub(super) fn serialize<S: Serializer>(
        id: &Option<ClusterId>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        id.map(|id| id.to_string()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<ClusterId>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(D::Error::custom))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::service::service_fn;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::net::TcpListener;

    use super::*;
    use crate::tls::CallingFiles;

    /// The token that whoever listens here is shown by a call to this host.
    async fn shown_to(host: &str, calling: &Calling) -> Option<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let port = listener.local_addr().expect("it has an address").port();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let serving = async move {
            let (stream, _) = listener.accept().await.expect("somebody calls");
            let answer = service_fn(move |request: Request<hyper::body::Incoming>| {
                let token = request.headers().get(AUTHORIZATION).cloned();
                let _ = tell.send(token);
                async { Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::new()))) }
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), answer).await;
        };
        let url = format!("http://{host}:{port}");
        let request = (Method::GET, "/v1/cluster", Bytes::new());
        let called = call_client(calling, &url, request, Duration::from_secs(10));
        let (called, ()) = tokio::join!(called, serving);
        called.expect("it is answered");
        let token = told.recv().await.expect("it was asked")?;
        Some(token.to_str().expect("it is text").to_owned())
    }

    #[tokio::test]
    async fn a_token_is_shown_without_tls_to_an_address_of_this_machine_and_to_no_name() {
        let dir = tempfile::tempdir().expect("there is room for a directory");
        let file = dir.path().join("token");
        std::fs::write(&file, "s3cret\n").expect("it can be written");
        let files = CallingFiles {
            token: Some(file.clone()),
            ..CallingFiles::default()
        };
        let calling = files.read().expect("it is a token");
        assert!(!format!("{calling:?}").contains("s3cret"));
        let shown = shown_to("127.0.0.1", &calling).await;
        assert_eq!(shown.as_deref(), Some("Bearer s3cret"));
        assert_eq!(shown_to("localhost", &calling).await, None);
        assert_eq!(shown_to("127.0.0.1", &Calling::default()).await, None);
        std::fs::write(&file, "two words\n").expect("it can be written");
        let error = files.read().expect_err("it is no token").to_string();
        assert!(
            error.starts_with("join_token_file is") && !error.contains("two"),
            "{error}"
        );
    }
}
