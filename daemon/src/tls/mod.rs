//! TLS for clients and for members, by rustls.
//!
//! Owns certificates: reading their files, the configurations made of them, taking new ones without a restart, and who
//! a certificate says that somebody is. What is said on a connection is its caller's. Must never let a key, or a token, into
//! an error or a line of the log.

#[cfg(test)]
#[path = "../../tests/authority/mod.rs"]
mod authority;
mod calling;
mod configs;
mod crowd;
mod files;
mod identity;
mod names;
mod port;
mod standing;
#[cfg(test)]
mod tests;
mod trouble;
mod wire;

use std::sync::Arc;
use std::time::Duration;

pub use calling::{Calling, CallingFiles};
pub(crate) use calling::{is_of_this_machine, is_secure};
pub(crate) use crowd::{Crowd, MOST as MOST_HANDSHAKES};
pub use files::{FileError, Files, Validity, With};
pub(crate) use files::{own_of, roots_of};
pub use identity::MemberCertificate;
pub use names::{ClientCertificate, Names};
pub(crate) use port::Accepted;
pub use port::Port;
pub use trouble::Trouble;
pub use wire::Wire;

/// How often it is looked whether files have changed.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What secures the connections of a member: nothing where it is told of no certificates. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Those of clients.
    pub clients: Option<Arc<Port>>,
    /// Those of other members, in both directions.
    pub members: Option<Arc<Port>>,
}

impl Tls {
    /// Reads the files that the settings name. Clients are also known by the common name of their certificates where that
    /// is said.
    ///
    /// # Errors
    /// Where one cannot be used.
    pub fn open(
        clients: Option<&Files>,
        members: Option<&Files>,
        common_name: bool,
    ) -> Result<Tls, FileError> {
        let open = |with, files: Option<&Files>| {
            let port = files.map(|files| Port::open(with, files.clone(), common_name));
            port.transpose().map(|port| port.map(Arc::new))
        };
        Ok(Tls {
            clients: open(With::Clients, clients)?,
            members: open(With::Members, members)?,
        })
    }

    /// The ports that are secured.
    pub fn ports(&self) -> impl Iterator<Item = &Arc<Port>> {
        self.clients.iter().chain(&self.members)
    }

    /// Reads all files again and takes what is new, if all of it fits. Says what was taken. May block.
    ///
    /// # Errors
    /// Where some do not fit; then what is in force stays. A port whose own files fit takes them at its next look.
    pub fn reload(&self) -> Result<Vec<String>, FileError> {
        let found: Result<Vec<_>, _> = self
            .ports()
            .map(|port| port.fitting().map(|fitting| (port, fitting)))
            .collect();
        let taken = found?
            .into_iter()
            .filter_map(|(port, fitting)| Some(port.take(fitting?)));
        Ok(taken.flatten().collect())
    }

    /// What an operator should know of certificates, and what to do.
    pub fn warnings(&self) -> Vec<String> {
        let now = port::now_seconds();
        let words = self.ports().map(|port| port.in_words(now));
        words.flatten().collect()
    }

    /// Says the same in the log.
    pub fn warn(&self) {
        let now = port::now_seconds();
        self.ports().for_each(|port| port.warn(now));
    }

    /// Takes files that have changed, until it is dropped.
    pub async fn keep_looking(self) {
        if self.ports().next().is_none() {
            return;
        }
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let ports: Vec<_> = self.ports().cloned().collect();
            let looking =
                tokio::task::spawn_blocking(move || ports.iter().for_each(|port| port.look()));
            if let Err(error) = looking.await {
                tracing::error!(%error, "the TLS files could not be looked at");
            }
        }
    }
}
