//! TLS: whom a client trusts, and who it says that it is.
//!
//! Owns how certificates and keys are read. By rustls with `ring`, which needs a C compiler and no library. The roots of
//! the machine are read only where no authority is given.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::error::{Error, Failure};

/// What was given for TLS, in PEM.
#[derive(Clone, Default)]
pub(crate) struct Tls {
    pub(crate) authorities: Vec<Vec<u8>>,
    pub(crate) with_machine_roots: bool,
    pub(crate) identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl Tls {
    /// # Errors
    ///
    /// Where something given is no PEM of its kind, a key does not belong to its certificate, or there are no roots.
    pub(crate) fn config(&self) -> Result<ClientConfig, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| refused(format!("TLS cannot be set up: {error}")))?
            .with_root_certificates(self.roots()?);
        let Some((chain, key)) = &self.identity else {
            return Ok(builder.with_no_client_auth());
        };
        let chain = certificates("the client certificate", chain)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| {
            refused(format!(
                "the key of the client is no private key in PEM: {error}"
            ))
        })?;
        builder.with_client_auth_cert(chain, key).map_err(|error| {
            refused(format!(
                "the client certificate and its key cannot be used: {error}"
            ))
        })
    }

    fn roots(&self) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        for authority in &self.authorities {
            for certificate in certificates("the certificate authority", authority)? {
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

fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|error| refused(format!("{what} is no PEM: {error}")))?;
    match read.is_empty() {
        true => Err(refused(format!(
            "{what} has no certificate in it; PEM that begins with -----BEGIN CERTIFICATE----- is expected"
        ))),
        false => Ok(read),
    }
}

fn refused(detail: String) -> Error {
    Error::NotApplied(Failure::local(detail))
}
