//! TLS: whom a client trusts, and who it says that it is.
//!
//! Owns how certificates and keys are read (`certificate` when those in files are read again). By rustls with `ring`, which needs a C compiler and no library. The roots of
//! the machine are read only where no authority is given.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};

use crate::certificate::CertificateFiles;
use crate::error::{Error, Failure};

/// What was given for TLS, in PEM.
#[derive(Clone, Default)]
pub(crate) struct Tls {
    pub(crate) authorities: Vec<Vec<u8>>,
    pub(crate) with_machine_roots: bool,
    pub(crate) identity: Option<Identity>,
}

/// By which certificate a client says who it is, and the key of that.
#[derive(Clone)]
pub(crate) enum Identity {
    Given(Vec<u8>, Vec<u8>),
    Files(PathBuf, PathBuf),
}

/// How a client speaks TLS.
#[derive(Clone)]
pub(crate) struct Speaking {
    pub(crate) config: ClientConfig,
    /// Where its certificate lies, if it lies in files.
    pub(crate) files: Option<Arc<CertificateFiles>>,
}

impl Tls {
    /// # Errors
    ///
    /// Where something given is no PEM of its kind, a key does not belong to its certificate, or there are no roots; where a
    /// file cannot be read.
    pub(crate) fn speaking(&self) -> Result<Speaking, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| refused(format!("TLS cannot be set up: {error}")))?
            .with_root_certificates(self.roots()?);
        let resolver: Arc<dyn ResolvesClientCert> = match &self.identity {
            None => {
                let config = builder.with_no_client_auth();
                return Ok(Speaking {
                    config,
                    files: None,
                });
            }
            Some(Identity::Given(chain, key)) => {
                let certified = certified(chain, key).map_err(refused)?;
                Arc::new(SingleCertAndKey::from(certified))
            }
            Some(Identity::Files(chain, key)) => {
                let files = CertificateFiles::open(chain.clone(), key.clone())?;
                return Ok(Speaking {
                    config: builder.with_client_cert_resolver(Arc::clone(&files) as _),
                    files: Some(files),
                });
            }
        };
        Ok(Speaking {
            config: builder.with_client_cert_resolver(resolver),
            files: None,
        })
    }

    fn roots(&self) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        for authority in &self.authorities {
            let read = certificates("the certificate authority", authority).map_err(refused)?;
            for certificate in read {
                roots.add(certificate).map_err(|error| {
                    refused(format!("a certificate authority cannot be used: {error}"))
                })?;
            }
        }
        if self.authorities.is_empty() || self.with_machine_roots {
            let machine = rustls_native_certs::load_native_certs();
            let (added, _) = roots.add_parsable_certificates(machine.certs);
            if added == 0 && roots.is_empty() {
                return Err(refused(format!(
                    "this machine has no root certificates ({:?}); give the certificate authority of the cluster",
                    machine.errors
                )));
            }
        }
        Ok(roots)
    }
}

/// A certificate with those between it and its authority, and its key.
///
/// # Errors
///
/// Where they are no PEM of their kind or do not belong together, in words.
pub(crate) fn certified(chain: &[u8], key: &[u8]) -> Result<CertifiedKey, String> {
    let chain = certificates("the client certificate", chain)?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| format!("the key of the client is no private key in PEM: {error}"))?;
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(chain, key, &provider)
        .map_err(|error| format!("the client certificate and its key cannot be used: {error}"))
}

fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|error| format!("{what} is no PEM: {error}"))?;
    match read.is_empty() {
        true => Err(format!(
            "{what} has no certificate in it; PEM that begins with -----BEGIN CERTIFICATE----- is expected"
        )),
        false => Ok(read),
    }
}

fn refused(detail: String) -> Error {
    Error::NotApplied(Failure::local(detail))
}
