//! What rustls is told to do with the certificates of a port.
//!
//! Owns the choices: TLS 1.2 and 1.3 by ring, which is named wherever it is used, since a provider of the process could
//! be set from afar; whose certificates are asked for; and that no session is resumed where a certificate of the other
//! side counts, because it would not be looked at again.

use std::sync::{Arc, LazyLock};

use hyper_rustls::ConfigBuilderExt as _;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{ClientConfig, InconsistentKeys, RootCertStore, ServerConfig};

use super::files::{Facts, FileError, Material, Read, Which, With};
use super::standing::Shown;

static RING: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));

/// What connections of a port are made with, until its files change.
pub(super) struct Current {
    /// What the files held.
    pub(super) bytes: [Option<Vec<u8>>; 4],
    pub(super) accept: Arc<ServerConfig>,
    /// The same for who serves nothing but HTTP/1.1.
    pub(super) accept_http1: Arc<ServerConfig>,
    /// How other members are dialled.
    pub(super) dial: Option<Arc<ClientConfig>>,
    /// By which it is looked at what those show that dial, and those that are dialled.
    diallers: Arc<dyn ClientCertVerifier>,
    dialled: Option<Arc<WebPkiServerVerifier>>,
    pub(super) facts: Facts,
}

impl Current {
    /// # Errors
    /// Where the files do not fit together, naming one of them.
    pub(super) fn of(with: With, read: Read) -> Result<Current, FileError> {
        let material = read.material()?;
        let dialled = match with {
            With::Clients => None,
            With::Members => Some(server_verifier(&read, &material)?),
        };
        let dial = dialled
            .clone()
            .map(|verifier| dialling(&read, &material, verifier));
        let dial = dial.transpose()?.map(Arc::new);
        let diallers = client_verifier(with, &read, &material)?;
        let accept = accepting(with, &read, &material, Arc::clone(&diallers))?;
        let mut accept_http1 = accept.clone();
        accept_http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Current {
            accept: Arc::new(accept),
            accept_http1: Arc::new(accept_http1),
            dial,
            diallers,
            dialled,
            facts: material.facts,
            bytes: read.bytes,
        })
    }
}

impl Current {
    /// Whether what somebody has shown before is good now.
    ///
    /// # Errors
    /// Why it is not.
    pub(super) fn holds(&self, shown: &Shown) -> Result<(), rustls::Error> {
        let Some((first, others)) = shown.chain.split_first() else {
            return Err(rustls::Error::NoCertificatesPresented);
        };
        let now = UnixTime::now();
        match (&shown.dialled, &self.dialled) {
            (Some(name), Some(verifier)) => verifier
                .verify_server_cert(first, others, name, &[], now)
                .map(drop),
            _ => self
                .diallers
                .verify_client_cert(first, others, now)
                .map(drop),
        }
    }
}

fn accepting(
    with: With,
    read: &Read,
    material: &Material,
    verifier: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, FileError> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(&RING))
        .with_safe_default_protocol_versions()
        .map_err(|error| read.error(Which::Certificate, error.to_string()))?;
    let looks = material.roots.is_some();
    let mut config = builder
        .with_client_cert_verifier(verifier)
        .with_single_cert(material.chain.clone(), material.key.clone_key())
        .map_err(|error| unfit(read, &error))?;
    config.alpn_protocols = match with {
        With::Clients => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        With::Members => vec![b"h2".to_vec()],
    };
    if looks {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

/// A member must show a certificate; a client may, and then it must be good.
fn client_verifier(
    with: With,
    read: &Read,
    material: &Material,
) -> Result<Arc<dyn ClientCertVerifier>, FileError> {
    let Some(roots) = &material.roots else {
        return Ok(WebPkiClientVerifier::no_client_auth());
    };
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(&RING))
        .with_crls(material.revoked.iter().cloned());
    let builder = match with {
        With::Clients => builder.allow_unauthenticated(),
        With::Members => builder,
    };
    builder.build().map_err(|error| unusable(read, &error))
}

fn server_verifier(
    read: &Read,
    material: &Material,
) -> Result<Arc<WebPkiServerVerifier>, FileError> {
    let roots = material.roots.clone();
    let roots = roots.unwrap_or_else(|| Arc::new(RootCertStore::empty()));
    WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&RING))
        .with_crls(material.revoked.iter().cloned())
        .build()
        .map_err(|error| unusable(read, &error))
}

fn dialling(
    read: &Read,
    material: &Material,
    verifier: Arc<WebPkiServerVerifier>,
) -> Result<ClientConfig, FileError> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&RING))
        .with_safe_default_protocol_versions()
        .map_err(|error| read.error(Which::Certificate, error.to_string()))?
        .with_webpki_verifier(verifier)
        .with_client_auth_cert(material.chain.clone(), material.key.clone_key())
        .map_err(|error| unfit(read, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// How a cluster is called that this member does not belong to yet: by whom these authorities have signed, or those of this
/// machine; none where it has none.
pub(super) fn calling(roots: Option<RootCertStore>) -> Option<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(&RING))
        .with_safe_default_protocol_versions()
        .ok()?;
    let builder = match roots {
        Some(roots) => builder.with_root_certificates(roots),
        None => builder.with_native_roots().ok()?,
    };
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Some(config)
}

fn unfit(read: &Read, error: &rustls::Error) -> FileError {
    match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            read.error(Which::Key, "it is not the key of the certificate")
        }
        rustls::Error::General(_) => {
            read.error(Which::Key, "it is a key of a kind that is not supported: RSA, ECDSA on P-256 or P-384 and Ed25519 are")
        }
        error => read.error(Which::Certificate, error.to_string()),
    }
}

fn unusable(read: &Read, error: &VerifierBuilderError) -> FileError {
    let which = match error {
        VerifierBuilderError::InvalidCrl(_) => Which::Revoked,
        _ => Which::Authorities,
    };
    read.error(which, error.to_string())
}
