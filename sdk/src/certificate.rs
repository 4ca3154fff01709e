//! The certificate by which a client says who it is, in files that may get another at any time.
//!
//! Owns what is shown in handshakes. A pair of which only one half is written yet changes nothing: what was shown before
//! stays until both fit. A connection goes on with what it began with; new ones are made once there is another (`transport`).

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;

use crate::error::{Error, Failure};
use crate::reread::Reread;
use crate::tls;

/// A certificate with its key and those between it and its authority. Two are the same where the certificates are.
#[derive(Clone)]
pub(crate) struct Shown(Arc<CertifiedKey>);

impl PartialEq for Shown {
    fn eq(&self, other: &Shown) -> bool {
        self.0.cert == other.0.cert
    }
}

/// Two files, and what was in them when they fitted last.
pub(crate) struct CertificateFiles {
    chain: PathBuf,
    shown: Arc<Reread<Shown>>,
}

impl CertificateFiles {
    /// # Errors
    ///
    /// Where one of them cannot be read, or they do not fit.
    pub(crate) fn open(chain: PathBuf, key: PathBuf) -> Result<Arc<CertificateFiles>, Error> {
        let of_chain = chain.clone();
        let shown = Reread::new(move || read(&of_chain, &key));
        let shown = shown.map_err(|why| Error::NotApplied(Failure::local(why)))?;
        Ok(Arc::new(CertificateFiles { chain, shown }))
    }

    /// What is shown now. Must be called on a runtime.
    pub(crate) fn current(&self) -> Shown {
        self.shown.current()
    }

    /// What was shown is refused: reads the files again, and answers whether another is shown now.
    ///
    /// # Errors
    ///
    /// Where it is not, with what to add to the words of the refusal.
    pub(crate) async fn renewed(&self, refused: Option<&Shown>) -> Result<(), String> {
        let is_another = || refused != Some(&self.shown.known());
        if is_another() {
            return Ok(());
        }
        let shown = self.chain.display();
        match self.shown.again().await {
            Some(Ok(())) if is_another() => Ok(()),
            Some(Ok(())) => Err(format!("; there is no other certificate in {shown}")),
            Some(Err(why)) => Err(format!("; {why}")),
            None => Err(format!("; {shown} could not be read again in time")),
        }
    }
}

impl ResolvesClientCert for CertificateFiles {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.shown.known().0)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl fmt::Debug for CertificateFiles {
    /// Without what is in them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateFiles")
            .field("chain", &self.chain)
            .finish_non_exhaustive()
    }
}

fn read(chain: &Path, key: &Path) -> Result<Shown, String> {
    let bytes = |what: &str, path: &Path| {
        std::fs::read(path)
            .map_err(|error| format!("the {what} {} cannot be read: {error}", path.display()))
    };
    let pair = (
        bytes("client certificate", chain)?,
        bytes("key of the client", key)?,
    );
    let shown = tls::certified(&pair.0, &pair.1);
    let shown = shown.map_err(|why| format!("{} and {}: {why}", chain.display(), key.display()))?;
    Ok(Shown(Arc::new(shown)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::reread::READ_EVERY;

    /// A certificate and its key in PEM.
    fn pair() -> (String, String) {
        let key = KeyPair::generate().expect("keys are made");
        let params = CertificateParams::new(["worker".to_owned()]).expect("it is a name");
        let certificate = params.self_signed(&key).expect("it is signed");
        (certificate.pem(), key.serialize_pem())
    }

    #[tokio::test(start_paused = true)]
    async fn another_pair_is_shown_once_both_halves_fit_and_a_refusal_waits_for_it() {
        let dir = tempfile::tempdir().expect("there is room");
        let (chain, key) = (dir.path().join("c.pem"), dir.path().join("c.key"));
        let write = |path: &Path, text: &str| std::fs::write(path, text).expect("it is written");
        let (first, second) = (pair(), pair());
        write(&chain, &first.0);
        write(&key, &first.1);
        let files = CertificateFiles::open(chain.clone(), key.clone()).expect("they fit");
        let shown = files.current();
        let why = files
            .renewed(Some(&shown))
            .await
            .expect_err("it is the same");
        assert!(why.contains("no other certificate in"), "{why}");
        // Half of the next pair.
        write(&chain, &second.0);
        tokio::time::sleep(READ_EVERY).await;
        files.current();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(files.current() == shown);
        let why = files
            .renewed(Some(&shown))
            .await
            .expect_err("they do not fit");
        assert!(
            why.contains("cannot be used") && !why.contains("PRIVATE"),
            "{why}"
        );
        write(&key, &second.1);
        files.renewed(Some(&shown)).await.expect("they fit");
        assert!(files.current() != shown);
        std::fs::remove_file(&key).expect("it is there");
        let now = files.current();
        let why = files.renewed(Some(&now)).await.expect_err("it is gone");
        assert!(why.contains("cannot be read"), "{why}");
        assert!(CertificateFiles::open(chain, key).is_err());
    }
}
