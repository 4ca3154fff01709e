//! An HTTP client for a collector, over the daemon's own stack, and what a collector says of what it was sent.
//!
//! The library tells no more of a failure than that there was one, and takes an answer for a success that rejects spans.
//! Here both are kept for whoever sent them.

use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_http::{HttpClient, HttpError};
use prost::Message as _;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;

use crate::config::{Encoding, TraceSettings};
use crate::tls::{self, Trouble};

/// An answer of a collector has no more than this.
const MOST_ANSWER: usize = 1 << 20;
/// So much is shown of what a collector says, which may be anything.
const MOST_SHOWN: usize = 200;

/// What came of the spans that were last sent.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Heard {
    /// Why no answer came, with all causes.
    pub(super) trouble: Option<String>,
    /// What an answer did not take.
    pub(super) rejected: Rejected,
}

/// Spans that a collector has received and does not keep (`ExportTracePartialSuccess`).
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Rejected {
    pub(super) count: usize,
    /// In the words of the collector.
    pub(super) why: String,
}

/// Keeps what was heard until it is asked for. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Listener(Arc<Mutex<Heard>>);

impl Listener {
    /// What was heard since this was last asked.
    pub(super) fn take(&self) -> Heard {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn keep(&self, heard: Heard) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = heard;
    }
}

/// Sends what the library has encoded.
#[derive(Debug)]
pub(super) struct Collector {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    encoding: Encoding,
    headers: HeaderMap,
    heard: Listener,
}

impl Collector {
    /// The one of these settings; what it says is kept in `heard`.
    ///
    /// # Errors
    ///
    /// Where the certificates that the settings name, or those of this machine, cannot be used.
    pub(super) fn of(settings: &TraceSettings, heard: Listener) -> Result<Collector, String> {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(trusting(settings)?)
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Collector {
            client: Client::builder(TokioExecutor::new()).build(connector),
            encoding: settings.encoding,
            headers: settings.headers.clone(),
            heard,
        })
    }

    async fn answer(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        // The library reads them too, but takes an empty variable for traces for one that says that there are none.
        request.headers_mut().extend(self.headers.clone());
        let answer = self.client.request(request.map(Full::new)).await?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MOST_ANSWER).collect().await?.to_bytes();
        Ok(Response::from_parts(head, body))
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.answer(request).await;
        self.heard.keep(match &answer {
            Ok(answer) if answer.status().is_success() => Heard {
                trouble: None,
                rejected: rejected(answer.body(), self.encoding),
            },
            Ok(answer) => Heard {
                trouble: Some(format!("the collector answered {}", answer.status())),
                ..Heard::default()
            },
            Err(error) => Heard {
                trouble: Some(in_words(error.as_ref())),
                ..Heard::default()
            },
        });
        answer
    }
}

/// Whom it is believed that it is the collector, and what it is shown.
fn trusting(settings: &TraceSettings) -> Result<ClientConfig, String> {
    let unusable = |error: &dyn std::fmt::Display| {
        let endpoint = settings.shown_endpoint();
        format!("certificates for {endpoint} cannot be checked: {error}")
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?;
    let certificates = &settings.certificates;
    let config = match &certificates.authorities {
        Some(named) => {
            let roots = tls::roots_of(named.variable, &named.path);
            config.with_root_certificates(roots.map_err(|error| error.to_string())?)
        }
        None if tls::is_secure(&settings.endpoint) => config
            .with_native_roots()
            .map_err(|error| unusable(&error))?,
        // Where nothing is encrypted, nobody is trusted for it.
        None => config.with_root_certificates(RootCertStore::empty()),
    };
    let Some((certificate, key)) = &certificates.own else {
        return Ok(config.with_no_client_auth());
    };
    let own = tls::own_of(
        (certificate.variable, &certificate.path),
        (key.variable, &key.path),
    );
    let (chain, private) = own.map_err(|error| error.to_string())?;
    config
        .with_client_auth_cert(chain, private)
        .map_err(|error| {
            let (variable, path) = (key.variable, &key.path);
            format!(
                "{variable} is {path:?}: it does not fit {}: {error}",
                certificate.variable
            )
        })
}

/// What is wrong with a certificate is for people who see no more than this; of all else the interesting part is in the
/// last cause.
fn in_words(error: &(dyn Error + 'static)) -> String {
    match of_tls(error).map(Trouble::of_tls) {
        Some(Trouble::Distrust(why)) => {
            format!("no trust between this member and the collector: {why}")
        }
        _ => with_causes(error),
    }
}

/// What rustls says, wherever it is among the causes.
fn of_tls<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(found) = error.downcast_ref() {
        return Some(found);
    }
    // An error of I/O does not call that its cause which it is made of.
    let within = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref);
    let within = within.and_then(|error| of_tls(error));
    within.or_else(|| error.source().and_then(of_tls))
}

fn with_causes(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    let causes: Vec<_> = causes.map(ToString::to_string).collect();
    causes.join(": ")
}

/// `ExportTraceServiceResponse`, as far as it is looked at.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Answer {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    #[serde(deserialize_with = "number")]
    rejected_spans: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

/// JSON of protobuf has numbers of 64 bits as text, and takes them as numbers too.
fn number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(i64),
        Text(String),
    }
    match Written::deserialize(deserializer)? {
        Written::Number(number) => Ok(number),
        Written::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

/// What an answer rejects. One that cannot be understood rejects nothing: many collectors answer with no more than
/// their status.
fn rejected(body: &Bytes, encoding: Encoding) -> Rejected {
    let answer = match encoding {
        Encoding::Protobuf => Answer::decode(body.clone()).ok(),
        Encoding::Json => serde_json::from_slice(body).ok(),
    };
    let rejected = answer.and_then(|answer: Answer| answer.partial_success);
    let rejected = rejected.unwrap_or_default();
    Rejected {
        count: usize::try_from(rejected.rejected_spans).unwrap_or(0),
        why: rejected.error_message.chars().take(MOST_SHOWN).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_certificate_is_found_among_the_causes_and_all_else_is_told_with_them() {
        let unknown = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let nested = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, unknown));
        assert_eq!(
            in_words(&nested),
            "no trust between this member and the collector: its certificate is not accepted: it is signed by none of the \
             authorities known here"
        );
        let refused = io::Error::new(io::ErrorKind::ConnectionRefused, "Connection refused");
        assert_eq!(in_words(&io::Error::other(refused)), "Connection refused");
    }

    #[test]
    fn what_a_collector_rejects_is_read_in_both_encodings() {
        let some = |count| Rejected {
            count,
            why: "too late".to_owned(),
        };
        let json = |text: &str| rejected(&Bytes::copy_from_slice(text.as_bytes()), Encoding::Json);
        let text = r#"{"partialSuccess":{"rejectedSpans":"5","errorMessage":"too late"}}"#;
        assert_eq!(json(text), some(5));
        let number = r#"{"partialSuccess":{"rejectedSpans":6,"errorMessage":"too late"},"more":1}"#;
        assert_eq!(json(number), some(6));
        let bytes = Bytes::from_static(b"\x0a\x0c\x08\x07\x12\x08too late");
        assert_eq!(rejected(&bytes, Encoding::Protobuf), some(7));
    }

    #[test]
    fn an_answer_that_rejects_nothing_or_is_none_is_a_success() {
        for text in [
            "",
            "{}",
            r#"{"partialSuccess":{}}"#,
            r#"{"partialSuccess":null}"#,
            "ok",
            r#"{"partialSuccess":{"rejectedSpans":-1}}"#,
        ] {
            let bytes = Bytes::copy_from_slice(text.as_bytes());
            assert_eq!(
                rejected(&bytes, Encoding::Json),
                Rejected::default(),
                "{text}"
            );
        }
        for bytes in [&b""[..], b"\xff\xff", b"\x0a\x00"] {
            let bytes = Bytes::copy_from_slice(bytes);
            assert_eq!(rejected(&bytes, Encoding::Protobuf), Rejected::default());
        }
    }
}
