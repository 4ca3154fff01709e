//! Why a connection is not secured, in words.

use std::io;
use std::time::Duration;

use rustls::{CertificateError, Error};

/// Longest reason that is told: names in it come from the other side.
const MOST_CHARS: usize = 512;

/// So many kinds of trouble there are.
pub(super) const KINDS: usize = 4;

/// Why a handshake did not come to its end.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Trouble {
    /// The other side closed the connection before it said anything.
    #[error("the connection was closed before anything was said")]
    SaidNothing,
    /// It did not end in time.
    #[error("the TLS handshake took longer than {} s", .0.as_secs())]
    TookTooLong(Duration),
    /// A certificate was missing or not accepted, on either side.
    #[error("{0}")]
    Distrust(String),
    /// It was under way for long, and another was to have its place.
    #[error("its TLS handshake was under way for long, and others wait for theirs")]
    MadeRoom,
    /// There was no room for its handshake.
    #[error("too many TLS handshakes are under way")]
    NoTurn,
    /// The other side speaks without TLS.
    #[error("it speaks without TLS, and only TLS is spoken here")]
    Plain,
    /// It failed otherwise.
    #[error("{0}")]
    Failed(String),
}

impl Trouble {
    pub(super) fn of(error: &io::Error) -> Trouble {
        let of_tls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<Error>());
        if let Some(error) = of_tls {
            return Trouble::of_tls(error);
        }
        Trouble::Failed(shown(&match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                "the connection was closed in the middle of the TLS handshake".to_owned()
            }
            _ => format!("the TLS handshake failed: {error}"),
        }))
    }

    /// Why, where rustls says it.
    pub(crate) fn of_tls(error: &Error) -> Trouble {
        let words = shown(&in_words(error));
        match error {
            Error::InvalidCertificate(_)
            | Error::NoCertificatesPresented
            | Error::AlertReceived(_) => Trouble::Distrust(words),
            _ => Trouble::Failed(words),
        }
    }

    /// Of which kind it is: a line of the log of one kind holds back none of another.
    pub(super) fn kind(&self) -> usize {
        match self {
            Trouble::Distrust(_) => 0,
            Trouble::TookTooLong(_) | Trouble::MadeRoom | Trouble::NoTurn => 1,
            Trouble::Plain => 2,
            Trouble::SaidNothing | Trouble::Failed(_) => 3,
        }
    }
}

fn shown(words: &str) -> String {
    let printable = words
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c });
    printable.take(MOST_CHARS).collect()
}

fn in_words(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(why) => {
            format!("its certificate is not accepted: {}", reason(why))
        }
        Error::NoCertificatesPresented => {
            "it shows no certificate, and one is required here".to_owned()
        }
        Error::AlertReceived(alert) => format!(
            "the other side ends the TLS handshake with the alert {alert:?}; where that is about a certificate, it is the one of this member"
        ),
        Error::InvalidMessage(_) => {
            "what came is no TLS: it is perhaps spoken without on the other side".to_owned()
        }
        error => format!("the TLS handshake failed: {error}"),
    }
}

/// The same sentence at every attempt, so that it is said once.
fn time(seconds: u64) -> String {
    super::files::time(i64::try_from(seconds).unwrap_or(i64::MAX))
}

fn reason(why: &CertificateError) -> String {
    if let CertificateError::ExpiredContext { not_after, .. } = why {
        return format!("it expired at {}", time(not_after.as_secs()));
    }
    if let CertificateError::NotValidYetContext { not_before, .. } = why {
        return format!("it is not valid before {}", time(not_before.as_secs()));
    }
    let plain = match why {
        CertificateError::UnknownIssuer => "it is signed by none of the authorities known here",
        CertificateError::Revoked => "it is revoked",
        CertificateError::UnknownRevocationStatus => {
            "no revocation list of its authority is known, though there are lists"
        }
        CertificateError::BadSignature => {
            "its signature is not that of the authority of that name which is known here"
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its extended key usage does not allow it to be used so"
        }
        other => return other.to_string(),
    };
    plain.to_owned()
}
