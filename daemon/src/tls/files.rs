//! Certificates, keys, authorities and revocation lists, as they lie in files.
//!
//! Owns reading and judging them: what leaves here fits together. A key is never part of an error or a line of a log.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

use crate::given_file;

/// The largest file that is read: a list of hundreds of thousands of revoked certificates.
const MOST_BYTES: u64 = 16 << 20;

/// With whom connections are secured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum With {
    /// Clients.
    Clients,
    /// Other members.
    Members,
}

impl With {
    /// The word for it in settings and metrics.
    pub fn word(self) -> &'static str {
        match self {
            With::Clients => "client",
            With::Members => "peer",
        }
    }
}

/// Where the files of one port lie.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Files {
    /// The certificate that is shown, and those that lead from it to the authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authorities that the certificates of the other side must lead to, where these are looked at.
    pub authorities: Option<PathBuf>,
    /// The revocation lists of these authorities.
    pub revoked: Option<PathBuf>,
}

/// A file that cannot be used. The text names the setting and the file.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{setting} is {path:?}: {reason}")]
pub struct FileError {
    setting: String,
    path: PathBuf,
    reason: String,
}

/// Which file of a port, with the setting that says where it lies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Which {
    Certificate,
    Key,
    Authorities,
    Revoked,
}

impl Which {
    pub(super) const ALL: [Which; 4] = [
        Which::Certificate,
        Which::Key,
        Which::Authorities,
        Which::Revoked,
    ];

    pub(super) fn setting(self, with: With) -> String {
        let what = match self {
            Which::Certificate => "cert",
            Which::Key => "key",
            Which::Authorities => "ca",
            Which::Revoked => "crl",
        };
        format!("{}_{what}_file", with.word())
    }
}

impl Files {
    pub(super) fn path(&self, which: Which) -> Option<&Path> {
        match which {
            Which::Certificate => Some(&self.certificate),
            Which::Key => Some(&self.key),
            Which::Authorities => self.authorities.as_deref(),
            Which::Revoked => self.revoked.as_deref(),
        }
    }
}

/// For how long something is valid, in seconds since the epoch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Validity {
    /// From when on.
    pub from: i64,
    /// Until when.
    pub until: i64,
}

impl Validity {
    /// The end, for people.
    pub fn end(self) -> String {
        time(self.until)
    }
}

/// A moment, for people.
pub(super) fn time(seconds: i64) -> String {
    ASN1Time::from_timestamp(seconds).map_or_else(|_| seconds.to_string(), |at| at.to_string())
}

/// What the files of a port hold.
pub(super) struct Material {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) roots: Option<Arc<RootCertStore>>,
    pub(super) revoked: Vec<CertificateRevocationListDer<'static>>,
    pub(super) facts: Facts,
}

/// What is told of them.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// The serial number of the certificate.
    pub(super) serial: String,
    /// Of the chain, where the certificate that ends first decides.
    pub(super) certificate: Validity,
    /// Of the authority that lasts longest.
    pub(super) authorities: Option<Validity>,
    /// When the revocation list that is oldest should have been replaced.
    pub(super) next_list: Option<i64>,
}

/// The bytes of the files of a port, and how they lay there before they were read.
pub(super) struct Read {
    with: With,
    files: Files,
    pub(super) bytes: [Option<Vec<u8>>; 4],
    /// Any user of the machine may read the key.
    pub(super) key_is_open: bool,
}

/// By which it is seen that a file was changed, replaced or made readable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Stamp {
    inode: (u64, u64),
    changed: (i64, i64),
}

/// How the files lie there now.
pub(super) fn stamps(files: &Files) -> [Option<Stamp>; 4] {
    Which::ALL.map(|which| {
        let metadata = fs::metadata(files.path(which)?).ok()?;
        Some(Stamp {
            inode: (metadata.dev(), metadata.ino()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    })
}

impl Read {
    /// # Errors
    /// Where one cannot be read.
    pub(super) fn now(with: With, files: &Files) -> Result<Read, FileError> {
        let mut bytes = [const { None }; 4];
        for (which, bytes) in Which::ALL.into_iter().zip(&mut bytes) {
            let Some(path) = files.path(which) else {
                continue;
            };
            let read = read(path).map_err(|reason| FileError {
                setting: which.setting(with),
                path: path.to_owned(),
                reason,
            })?;
            *bytes = Some(read);
        }
        Ok(Read {
            with,
            files: files.clone(),
            bytes,
            key_is_open: given_file::is_open_to_others(&files.key),
        })
    }

    /// What they hold.
    ///
    /// # Errors
    /// Where one holds something else than it should.
    pub(super) fn material(&self) -> Result<Material, FileError> {
        let chain = self.chain()?;
        let (serial, certificate) = self.facts_of(&chain)?;
        let roots = self.roots()?;
        let (revoked, next_list) = self.revoked()?;
        Ok(Material {
            key: self.key()?,
            facts: Facts {
                serial,
                certificate,
                authorities: roots.as_ref().map(|(_, validity)| *validity),
                next_list,
            },
            chain,
            roots: roots.map(|(roots, _)| Arc::new(roots)),
            revoked,
        })
    }

    /// An error of one of the files.
    pub(super) fn error(&self, which: Which, reason: impl Into<String>) -> FileError {
        FileError {
            setting: which.setting(self.with),
            path: self.files.path(which).unwrap_or(Path::new("")).to_owned(),
            reason: reason.into(),
        }
    }

    fn of(&self, which: Which) -> Option<&[u8]> {
        self.bytes[which as usize].as_deref()
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, FileError> {
        certificates(self.of(Which::Certificate).unwrap_or_default())
            .map_err(|reason| self.error(Which::Certificate, reason))
    }

    fn facts_of(&self, chain: &[CertificateDer<'static>]) -> Result<(String, Validity), FileError> {
        let parsed: Result<Vec<_>, _> = chain.iter().map(|der| parsed(der)).collect();
        let parsed = parsed.map_err(|reason| self.error(Which::Certificate, reason))?;
        let shortest = parsed.iter().map(validity).min_by_key(|valid| valid.until);
        let (Some(first), Some(shortest)) = (parsed.first(), shortest) else {
            return Err(self.error(Which::Certificate, "it holds no certificate"));
        };
        Ok((first.raw_serial_as_string(), shortest))
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, FileError> {
        private_key(self.of(Which::Key).unwrap_or_default())
            .map_err(|reason| self.error(Which::Key, reason))
    }

    fn roots(&self) -> Result<Option<(RootCertStore, Validity)>, FileError> {
        let Some(bytes) = self.of(Which::Authorities) else {
            return Ok(None);
        };
        let read = roots(bytes).and_then(|(store, certificates)| {
            let validities: Result<Vec<_>, _> = certificates
                .iter()
                .map(|der| parsed(der).map(|certificate| validity(&certificate)))
                .collect();
            let longest = validities?.into_iter().max_by_key(|valid| valid.until);
            Ok((store, longest.ok_or("it holds no certificate")?))
        });
        read.map(Some)
            .map_err(|reason| self.error(Which::Authorities, reason))
    }

    fn revoked(
        &self,
    ) -> Result<(Vec<CertificateRevocationListDer<'static>>, Option<i64>), FileError> {
        let Some(bytes) = self.of(Which::Revoked) else {
            return Ok((Vec::new(), None));
        };
        let wrong = |reason: String| self.error(Which::Revoked, reason);
        let lists: Result<Vec<_>, _> =
            CertificateRevocationListDer::pem_slice_iter(bytes).collect();
        let lists = lists.map_err(|error| wrong(format!("it is no PEM: {error}")))?;
        if lists.is_empty() {
            return Err(wrong(
                "it holds no certificate revocation list in PEM".into(),
            ));
        }
        let mut next = None;
        for list in &lists {
            let (_, list) = CertificateRevocationList::from_der(list).map_err(|error| {
                wrong(format!("a revocation list of it cannot be read: {error}"))
            })?;
            let of_this = list.next_update().map(|at| at.timestamp());
            next = [next, of_this].into_iter().flatten().min();
        }
        Ok((lists, next))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error: std::io::Error| format!("it cannot be read: {error}");
    let mut bytes = Vec::new();
    let file = given_file::open(path).map_err(unreadable)?;
    file.take(MOST_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if MOST_BYTES < bytes.len() as u64 {
        return Err(format!("it has more than {MOST_BYTES} bytes"));
    }
    Ok(bytes)
}

/// The certificates of a file.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|error| format!("it is no PEM: {error}"))?;
    match read.is_empty() {
        true => Err("it holds no certificate in PEM".to_owned()),
        false => Ok(read),
    }
}

/// The authorities of a file.
fn roots(pem: &[u8]) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), String> {
    let certificates = certificates(pem)?;
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        roots
            .add(certificate.clone())
            .map_err(|error| format!("a certificate of it is none of an authority: {error}"))?;
    }
    Ok((roots, certificates))
}

/// A certificate with those that lead from it to its authority, and its key.
pub(crate) type Own = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A certificate and its key that no port has, each with the setting that names its file. Whether they fit is not looked at.
///
/// # Errors
/// Where a file cannot be used.
pub(crate) fn own_of(certificate: (&str, &Path), key: (&str, &Path)) -> Result<Own, FileError> {
    let error = |(setting, path): (&str, &Path), reason| FileError {
        setting: setting.to_owned(),
        path: path.to_owned(),
        reason,
    };
    let chain = read(certificate.1).and_then(|bytes| certificates(&bytes));
    let read_key = read(key.1).and_then(|bytes| private_key(&bytes));
    Ok((
        chain.map_err(|reason| error(certificate, reason))?,
        read_key.map_err(|reason| error(key, reason))?,
    ))
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    // In its own words an error might show what the file holds.
    PrivateKeyDer::from_pem_slice(pem)
        .map_err(|_| "it holds no private key in PEM that is not encrypted".to_owned())
}

/// The authorities of a file that no port has.
///
/// # Errors
/// Where it cannot be used.
pub(crate) fn roots_of(setting: &str, path: &Path) -> Result<RootCertStore, FileError> {
    let found = read(path).and_then(|bytes| roots(&bytes));
    found.map(|(roots, _)| roots).map_err(|reason| FileError {
        setting: setting.to_owned(),
        path: path.to_owned(),
        reason,
    })
}

/// The one line of a file that holds a secret.
///
/// # Errors
/// Where it cannot be read, or holds something else; what it holds is not told.
pub(super) fn secret_of(setting: &str, path: &Path) -> Result<String, FileError> {
    let text = read(path).and_then(|bytes| {
        let text = String::from_utf8(bytes).unwrap_or_default();
        let line = text.trim();
        let is_token = !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_graphic());
        is_token
            .then(|| line.to_owned())
            .ok_or_else(|| "it holds something else than one line with a token".to_owned())
    });
    text.map_err(|reason| FileError {
        setting: setting.to_owned(),
        path: path.to_owned(),
        reason,
    })
}

fn parsed<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    let parsed = X509Certificate::from_der(der);
    parsed
        .map(|(_, certificate)| certificate)
        .map_err(|error| format!("a certificate of it cannot be read: {error}"))
}

fn validity(certificate: &X509Certificate<'_>) -> Validity {
    Validity {
        from: certificate.validity().not_before.timestamp(),
        until: certificate.validity().not_after.timestamp(),
    }
}
