//! One port and its certificates: connections are secured by those that its files held last, as far as they fitted.
//!
//! Owns taking new files without a restart. A pair of which only one half is written yet changes nothing: what was taken
//! stays until everything fits. Connections that stand go on as they began, but those whose certificate does not hold any more.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::configs::Current;
use super::files::{FileError, Files, Read, Stamp, Which, With, stamps};
use super::names::{ClientCertificate, Names};
use super::standing::{Shown, Standing};
use super::trouble::{KINDS, Trouble};
use super::wire::Wire;
use crate::throttle::Throttle;

/// How long a handshake may take (`api.md` names no time; a client on a bad line needs a few round trips).
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);
/// What a certificate has left when it is time to say so, at most.
const NOTICE: i64 = 21 * 24 * 3600;
/// The first byte of whoever begins a handshake.
const IS_HANDSHAKE: u8 = 0x16;

/// What secures the connections of one listener.
pub struct Port {
    with: With,
    files: Files,
    common_name: bool,
    current: RwLock<Arc<Current>>,
    looked: Mutex<Looked>,
    /// The name of the member whose port this is, and where others reach it, once that is known.
    owner: OnceLock<(String, String)>,
    standing: Standing,
    failed: AtomicU64,
    refusals: [Throttle; KINDS],
}

/// How the files lie there, which says nothing of those in force.
struct Looked {
    stamps: [Option<Stamp>; 4],
    /// Why the files are not taken as they are now.
    trouble: Option<String>,
    /// Any user of the machine may read the key.
    key_is_open: bool,
}

/// Files that fit together and differ from those in force, and how they lay there.
pub(crate) struct Fitting {
    current: Current,
    stamps: [Option<Stamp>; 4],
}

/// A connection that was accepted.
pub(crate) enum Accepted {
    /// The handshake is done; with the certificate of the other side, where it showed one.
    Secure(Wire, Option<CertificateDer<'static>>),
    /// Whoever is there speaks without TLS, and has said something.
    Plain(TcpStream),
}

impl Port {
    /// Reads the files of a port. Clients are also known by the common name of their certificates where that is said.
    ///
    /// # Errors
    /// Where they cannot be read, or do not fit together.
    pub fn open(with: With, files: Files, common_name: bool) -> Result<Port, FileError> {
        let stamps = stamps(&files);
        let read = Read::now(with, &files)?;
        let key_is_open = read.key_is_open;
        let current = Current::of(with, read)?;
        Ok(Port {
            with,
            files,
            common_name,
            current: RwLock::new(Arc::new(current)),
            looked: Mutex::new(Looked {
                stamps,
                trouble: None,
                key_is_open,
            }),
            owner: OnceLock::new(),
            standing: Standing::default(),
            failed: AtomicU64::new(0),
            refusals: Default::default(),
        })
    }

    /// With whom.
    pub fn with(&self) -> With {
        self.with
    }

    /// Whether certificates of clients are looked at.
    pub fn verifies(&self) -> bool {
        self.files.authorities.is_some()
    }

    /// Until when the certificate in force is valid, in seconds since the epoch.
    pub fn valid_until(&self) -> i64 {
        self.current().facts.certificate.until
    }

    /// How many connections were refused.
    pub fn failures(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Says whose port it is that others connect to: where a certificate is somebody else's, that is told from now on. It
    /// is no reason not to start: how the others know this member is theirs to say, and they look.
    pub(crate) fn belongs_to(&self, name: &str, peer_url: &str) {
        let owner = (name.to_owned(), peer_url.to_owned());
        if self.owner.set(owner).is_ok()
            && let Some(words) = self.of_another()
        {
            tracing::error!("{words}");
        }
    }

    /// What is to be done where the certificate in force is not that of the member whose port this is.
    fn of_another(&self) -> Option<String> {
        let (name, peer_url) = self.owner.get()?;
        let why = self.is_of(name, peer_url).err()?;
        Some(format!(
            "other members will refuse this one, {name} at {peer_url}: {why}; give it its own certificate by peer_cert_file"
        ))
    }

    /// Whether the certificate in force is that of the member of this name, which is reached at this URL.
    ///
    /// # Errors
    /// Why it is not.
    pub(crate) fn is_of(&self, name: &str, peer_url: &str) -> Result<(), String> {
        let current = self.current();
        let chain = current.bytes[Which::Certificate as usize].as_deref();
        let chain = super::files::certificates(chain.unwrap_or_default())?;
        let first = chain.first().ok_or("it holds no certificate")?;
        super::identity::MemberCertificate::of(first).is_of(name, peer_url)
    }

    fn current(&self) -> Arc<Current> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current)
    }

    fn looked(&self) -> MutexGuard<'_, Looked> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the files again. May block.
    ///
    /// # Errors
    /// Where they cannot be read or do not fit together; what is in force stays.
    pub(crate) fn fitting(&self) -> Result<Option<Fitting>, FileError> {
        let stamps = stamps(&self.files);
        let found = Read::now(self.with, &self.files).and_then(|read| {
            self.looked().key_is_open = read.key_is_open;
            if read.bytes == self.current().bytes {
                return Ok(None);
            }
            let current = Current::of(self.with, read)?;
            Ok(Some(Fitting { current, stamps }))
        });
        let mut looked = self.looked();
        looked.trouble = found.as_ref().err().map(ToString::to_string);
        // What fits and is not taken after all, since what another port has does not fit, is new at the next look, too.
        if !matches!(found, Ok(Some(_))) {
            looked.stamps = stamps;
        }
        found
    }

    /// Puts files into force, and says which.
    pub(crate) fn take(&self, fitting: Fitting) -> Vec<String> {
        let before = self.current();
        let now = Arc::new(fitting.current);
        let changed = Which::ALL
            .into_iter()
            .filter(|which| before.bytes[*which as usize] != now.bytes[*which as usize]);
        let told = changed.map(|which| match which {
            Which::Certificate => format!(
                "{} (serial {}, valid until {})",
                which.setting(self.with),
                now.facts.serial,
                now.facts.certificate.end()
            ),
            which => which.setting(self.with),
        });
        let told = told.collect();
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&now);
        self.looked().stamps = fitting.stamps;
        tracing::info!(taken = ?told, "new TLS files are in force for new connections");
        let differs = |which: Which| before.bytes[which as usize] != now.bytes[which as usize];
        if (differs(Which::Authorities) || differs(Which::Revoked))
            && let Some((count, why)) = self.standing.cut_unless(|shown| now.holds(shown))
        {
            let listener = self.with.word();
            tracing::warn!(listener, count, %why, "connections were cut whose certificates do not hold any more");
        }
        self.warn(now_seconds());
        told
    }

    /// Takes new files where there are some. May block.
    pub(super) fn look(&self) {
        if self.looked().stamps == stamps(&self.files) {
            return;
        }
        match self.fitting() {
            Ok(None) => {}
            Ok(Some(fitting)) => {
                self.take(fitting);
            }
            Err(error) => tracing::warn!(
                "new TLS files are not taken, and those before stay in force: {error}"
            ),
        }
    }

    /// Says in the log what an operator should know.
    pub(super) fn warn(&self, now: i64) {
        for words in self.in_words(now) {
            tracing::warn!("{words}");
        }
    }

    /// What an operator should know of these files, and what to do.
    pub(super) fn in_words(&self, now: i64) -> Vec<String> {
        let current = self.current();
        let facts = &current.facts;
        let named = |which: Which| {
            let path = self.files.path(which).unwrap_or(std::path::Path::new(""));
            format!("{} {}", which.setting(self.with), path.display())
        };
        let ends = [
            Some((Which::Certificate, facts.certificate)),
            facts.authorities.map(|valid| (Which::Authorities, valid)),
        ];
        let mut words = Vec::new();
        for (which, valid) in ends.into_iter().flatten() {
            let notice = NOTICE.min((valid.until - valid.from) / 3);
            let what = match which {
                Which::Certificate => "certificate",
                _ => "certificate authority",
            };
            let end = valid.end();
            if valid.until <= now {
                words.push(format!(
                    "{what} expired: {} ended at {end}, and nobody who looks at it connects any more; replace the file, no restart is needed",
                    named(which)
                ));
            } else if now < valid.from {
                words.push(format!(
                    "{what} not valid yet: {} is in the future by the clock of this machine; set the clock, or replace the file",
                    named(which)
                ));
            } else if valid.until - now < notice {
                words.push(format!(
                    "{what} expires soon: {} ends at {end}; replace the file before that, no restart is needed",
                    named(which)
                ));
            }
        }
        if facts.next_list.is_some_and(|next| next <= now) {
            words.push(format!(
                "revocation list outdated: {} should have been replaced; it still counts, but what was revoked since is let in",
                named(Which::Revoked)
            ));
        }
        if self.looked().key_is_open {
            words.push(format!(
                "key readable by everybody: {} can be read by any user of this machine; make it mode 0640, and draw a new key where others use the machine",
                named(Which::Key)
            ));
        }
        words.extend(self.of_another());
        if let Some(trouble) = &self.looked().trouble {
            words.push(format!(
                "TLS files not taken: {trouble}; those before stay in force"
            ));
        }
        words
    }

    /// Makes the connection of whoever has connected a secure one, within [`HANDSHAKE`].
    ///
    /// # Errors
    /// Where that fails. It was counted, and said in the log, unless somebody only looked whether the port is open.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        only_http1: bool,
    ) -> Result<Accepted, Trouble> {
        let work = self.shake_hands(stream, only_http1);
        let accepted = tokio::time::timeout(HANDSHAKE, work).await;
        let accepted = accepted.unwrap_or(Err(Trouble::TookTooLong(HANDSHAKE)));
        if let Err(trouble) = &accepted
            && *trouble != Trouble::SaidNothing
        {
            self.refused(address, trouble);
        }
        accepted
    }

    /// Counts a connection that is not taken, and says so.
    pub(crate) fn refused(&self, address: SocketAddr, why: &Trouble) {
        self.count_refusal();
        let listener = self.with.word();
        self.refusals[why.kind()].warn(|held_back| {
            tracing::warn!(%address, listener, held_back, "refused a connection: {why}");
        });
    }

    /// Counts a connection of which it turned out later that it is not who it says.
    pub(crate) fn count_refusal(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    async fn shake_hands(&self, stream: TcpStream, only_http1: bool) -> Result<Accepted, Trouble> {
        let mut first = [0];
        let read = stream.peek(&mut first).await;
        if read.map_err(|error| Trouble::of(&error))? == 0 {
            return Err(Trouble::SaidNothing);
        }
        if first[0] != IS_HANDSHAKE {
            return Ok(Accepted::Plain(stream));
        }
        let current = self.current();
        let config = match only_http1 {
            true => &current.accept_http1,
            false => &current.accept,
        };
        let accepted = TlsAcceptor::from(Arc::clone(config)).accept(stream).await;
        let stream = accepted.map_err(|error| Trouble::of(&error))?;
        let shown = Shown::of(stream.get_ref().1.peer_certificates(), None);
        let certificate = shown
            .as_ref()
            .and_then(|shown| shown.chain.first().cloned());
        self.keep(shown.as_ref(), &current);
        let wire = Wire::secure(stream.into(), shown);
        Ok(Accepted::Secure(wire, certificate))
    }

    /// Keeps what was shown when these files were in force.
    fn keep(&self, shown: Option<&Arc<Shown>>, then: &Arc<Current>) {
        let Some(shown) = shown else {
            return;
        };
        self.standing.add(shown);
        // Others may have been taken since the handshake began, before it was among those that stand.
        let now = self.current();
        if !Arc::ptr_eq(&now, then) && now.holds(shown).is_err() {
            shown.cut.cancel();
        }
    }

    /// The names of a client's certificate.
    pub(crate) fn client(&self, certificate: &CertificateDer<'_>) -> ClientCertificate {
        Names::of(certificate).of_client(self.common_name)
    }

    /// Makes a connection to another member a secure one, and answers its certificate too.
    ///
    /// # Errors
    /// Where that fails, or the other side is not at home at `host`.
    pub(crate) async fn dial(
        &self,
        stream: TcpStream,
        host: &str,
    ) -> Result<(Wire, CertificateDer<'static>), Trouble> {
        let current = self.current();
        let config = current.dial.clone();
        let config = config.expect("a port of members dials");
        let stream = secure(config, stream, host).await?;
        let name = ServerName::try_from(host.to_owned()).ok();
        let shown = Shown::of(stream.get_ref().1.peer_certificates(), name);
        // Without one the handshake fails.
        let shown = shown.ok_or(Trouble::SaidNothing)?;
        self.keep(Some(&shown), &current);
        let certificate = shown.chain[0].clone();
        Ok((Wire::secure(stream.into(), Some(shown)), certificate))
    }
}

/// Begins TLS as a client, with whoever is called `host`.
pub(super) async fn secure(
    config: Arc<rustls::ClientConfig>,
    stream: TcpStream,
    host: &str,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Trouble> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Trouble::Failed(format!("{host:?} is neither a DNS name nor an address")))?;
    let connected = TlsConnector::from(config).connect(name, stream).await;
    connected.map_err(|error| Trouble::of(&error))
}

/// Now, in seconds since the epoch.
pub(super) fn now_seconds() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
}

impl std::fmt::Debug for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Port")
            .field("with", &self.with)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}
