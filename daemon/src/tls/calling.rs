//! How a member calls a cluster that it does not belong to yet, by the port of clients.
//!
//! Owns whom it trusts there, and the token that it shows. The token goes to nobody whose certificate is not verified, but to
//! this machine.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;
use tokio::net::TcpStream;

use super::configs;
use super::files::{FileError, roots_of, secret_of};
use super::identity::host_of;
use super::port::secure;
use super::trouble::Trouble;
use super::wire::Wire;

/// Where it is said.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CallingFiles {
    /// The authorities of the certificates that clients are shown; those of the machine where none are named.
    pub authorities: Option<PathBuf>,
    /// The token.
    pub token: Option<PathBuf>,
}

/// What is known of calling clusters. Cheap to clone.
#[derive(Clone, Default)]
pub struct Calling {
    /// None where the roots of this machine are to be used and there are none; they are looked for when they are needed.
    config: Arc<OnceLock<Option<Arc<ClientConfig>>>>,
    token: Option<Arc<str>>,
}

impl CallingFiles {
    /// Reads what they hold.
    ///
    /// # Errors
    /// Where a file cannot be used.
    pub fn read(&self) -> Result<Calling, FileError> {
        let token = self.token.as_deref();
        let token = token
            .map(|path| secret_of("join_token_file", path))
            .transpose()?;
        let calling = Calling {
            token: token.map(Arc::from),
            ..Calling::default()
        };
        if let Some(path) = &self.authorities {
            let config = configs::calling(Some(roots_of("join_ca_file", path)?));
            calling.config.get_or_init(|| config.map(Arc::new));
        }
        Ok(calling)
    }
}

impl Calling {
    /// The token that may be shown at a URL.
    pub(crate) fn token_for(&self, url: &str) -> Option<&str> {
        self.token
            .as_deref()
            .filter(|_| is_secure(url) || is_of_this_machine(url))
    }

    /// Makes a connection for a URL what the URL says.
    ///
    /// # Errors
    /// Where it is to be secure and cannot be made so.
    pub(crate) async fn secure(&self, stream: TcpStream, url: &str) -> Result<Wire, Trouble> {
        if !is_secure(url) {
            return Ok(Wire::Plain(stream));
        }
        let config = self
            .config
            .get_or_init(|| configs::calling(None).map(Arc::new));
        let config = config.as_ref().ok_or_else(|| {
            Trouble::Distrust(
                "this machine has no root certificates: name the authority of the cluster by join_ca_file"
                    .to_owned(),
            )
        })?;
        let stream = secure(Arc::clone(config), stream, &host_of(url)).await?;
        Ok(Wire::secure(stream.into(), None))
    }
}

/// Whether a URL asks for TLS.
pub(crate) fn is_secure(url: &str) -> bool {
    url.get(..8)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
}

/// Whether a URL leads to an address that only this machine has.
pub(crate) fn is_of_this_machine(url: &str) -> bool {
    host_of(url)
        .parse::<IpAddr>()
        .is_ok_and(|host| host.is_loopback())
}

impl std::fmt::Debug for Calling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calling").finish_non_exhaustive()
    }
}
