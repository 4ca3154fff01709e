//! A certificate authority for tests, and how a server shows what it issues.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};

/// An authority, and what it issues.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// A certificate and its key in PEM.
pub(crate) struct Issued {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no name is wrong");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("keys are made");
        let pem = params.self_signed(&key).expect("it is signed").pem();
        let issuer = Issuer::new(params, key);
        Authority { issuer, pem }
    }

    pub(crate) fn issue(&self, name: &str) -> Issued {
        let key = KeyPair::generate().expect("keys are made");
        let params = CertificateParams::new([name.to_owned()]).expect("it is a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("it is signed");
        Issued {
            chain: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

/// A server with a certificate for this name; where `clients` is given, only for clients of that authority.
pub(crate) fn server(
    authority: &Authority,
    name: &str,
    clients: Option<&Authority>,
) -> ServerConfig {
    let issued = authority.issue(name);
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("there are versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            roots
                .add(certificate(&clients.pem))
                .expect("it is an authority");
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().expect("there is a root"))
        }
    };
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("it is a key");
    builder
        .with_single_cert(vec![certificate(&issued.chain)], key)
        .expect("they belong together")
}

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("it is a certificate")
}
