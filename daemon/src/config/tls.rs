//! Settings of TLS: which files secure the connections of clients and of members.
//!
//! Owns which of them may stand beside which. What the files hold is looked at in `tls`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{ConfigError, TakesEffect};
use crate::tls::{CallingFiles, Files, With, is_of_this_machine, is_secure};

/// The settings of TLS as flags; each is also an environment variable and a key of the file.
#[derive(Args, Clone, Debug, Default, Eq, PartialEq)]
pub struct TlsFlags {
    /// Serve clients by TLS, with this certificate and those that lead from it to its authority (PEM)
    #[arg(long, value_name = "FILE", env = "TENURED_CLIENT_CERT_FILE")]
    pub client_cert_file: Option<PathBuf>,
    /// The key of that certificate (PEM)
    #[arg(long, value_name = "FILE", env = "TENURED_CLIENT_KEY_FILE")]
    pub client_key_file: Option<PathBuf>,
    /// Let clients show certificates, which these authorities have signed (PEM); one without is let in all the same
    #[arg(long, value_name = "FILE", env = "TENURED_CLIENT_CA_FILE")]
    pub client_ca_file: Option<PathBuf>,
    /// Refuse certificates of clients that are in these revocation lists, one of each authority (PEM)
    #[arg(long, value_name = "FILE", env = "TENURED_CLIENT_CRL_FILE")]
    pub client_crl_file: Option<PathBuf>,
    /// Know clients also by the common name of their certificates, after URIs and DNS names
    #[arg(long, value_name = "BOOL", env = "TENURED_CLIENT_CERT_CN", num_args = 0..=1, default_missing_value = "true")]
    pub client_cert_cn: Option<bool>,
    /// Speak TLS with other members, and show them this certificate and those that lead from it to its authority (PEM)
    #[arg(long, value_name = "FILE", env = "TENURED_PEER_CERT_FILE")]
    pub peer_cert_file: Option<PathBuf>,
    /// The key of that certificate (PEM)
    #[arg(long, value_name = "FILE", env = "TENURED_PEER_KEY_FILE")]
    pub peer_key_file: Option<PathBuf>,
    /// The authorities that have signed the certificates of all members (PEM)
    #[arg(long, value_name = "FILE", env = "TENURED_PEER_CA_FILE")]
    pub peer_ca_file: Option<PathBuf>,
    /// Refuse certificates of members that are in these revocation lists, one of each authority (PEM)
    #[arg(long, value_name = "FILE", env = "TENURED_PEER_CRL_FILE")]
    pub peer_crl_file: Option<PathBuf>,
    /// The authorities that have signed the certificates which clients of the cluster to be joined are shown (PEM)
    /// [default: those of this machine]
    #[arg(long, value_name = "FILE", env = "TENURED_JOIN_CA_FILE")]
    pub join_ca_file: Option<PathBuf>,
    /// A file with the token that allows to join the cluster
    #[arg(long, value_name = "FILE", env = "TENURED_JOIN_TOKEN_FILE")]
    pub join_token_file: Option<PathBuf>,
}

/// The settings of TLS, checked against one another.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TlsSettings {
    /// The files of the port of clients.
    pub clients: Option<Files>,
    /// The files of the port of members.
    pub members: Option<Files>,
    /// Whether clients are known by the common name of their certificates, too.
    pub common_name: bool,
    /// What calling a cluster that is joined needs.
    pub calling: CallingFiles,
}

impl TlsFlags {
    /// These, and where one is not given the other's.
    pub(super) fn or(self, other: TlsFlags) -> TlsFlags {
        TlsFlags {
            client_cert_file: self.client_cert_file.or(other.client_cert_file),
            client_key_file: self.client_key_file.or(other.client_key_file),
            client_ca_file: self.client_ca_file.or(other.client_ca_file),
            client_crl_file: self.client_crl_file.or(other.client_crl_file),
            client_cert_cn: self.client_cert_cn.or(other.client_cert_cn),
            peer_cert_file: self.peer_cert_file.or(other.peer_cert_file),
            peer_key_file: self.peer_key_file.or(other.peer_key_file),
            peer_ca_file: self.peer_ca_file.or(other.peer_ca_file),
            peer_crl_file: self.peer_crl_file.or(other.peer_crl_file),
            join_ca_file: self.join_ca_file.or(other.join_ca_file),
            join_token_file: self.join_token_file.or(other.join_token_file),
        }
    }

    /// Checks them against one another.
    ///
    /// # Errors
    /// Where one is given without another that it needs.
    pub(super) fn check(self) -> Result<TlsSettings, ConfigError> {
        let clients = files(
            CLIENT,
            self.client_cert_file,
            self.client_key_file,
            self.client_ca_file,
            self.client_crl_file,
        )?;
        let members = files(
            PEER,
            self.peer_cert_file,
            self.peer_key_file,
            self.peer_ca_file,
            self.peer_crl_file,
        )?;
        if members
            .as_ref()
            .is_some_and(|files| files.authorities.is_none())
        {
            return Err(missing(
                PEER.ca,
                "members show one another certificates: name the authorities that have signed those of all members",
            ));
        }
        let common_name = self.client_cert_cn.unwrap_or_default();
        let verified = clients
            .as_ref()
            .is_some_and(|files| files.authorities.is_some());
        if common_name && !verified {
            return Err(missing(
                CLIENT.ca,
                "client_cert_cn is set, and certificates of clients are looked at only where it is said which authorities have signed them",
            ));
        }
        Ok(TlsSettings {
            clients,
            members,
            common_name,
            calling: CallingFiles {
                authorities: self.join_ca_file,
                token: self.join_token_file,
            },
        })
    }
}

impl TlsSettings {
    /// The flags that say the same.
    #[cfg(any(test, fuzzing))]
    pub(super) fn as_flags(&self) -> TlsFlags {
        let (clients, members) = (self.clients.as_ref(), self.members.as_ref());
        let certificate = |files: Option<&Files>| files.map(|files| files.certificate.clone());
        let key = |files: Option<&Files>| files.map(|files| files.key.clone());
        let ca = |files: Option<&Files>| files.and_then(|files| files.authorities.clone());
        let crl = |files: Option<&Files>| files.and_then(|files| files.revoked.clone());
        TlsFlags {
            client_cert_file: certificate(clients),
            client_key_file: key(clients),
            client_ca_file: ca(clients),
            client_crl_file: crl(clients),
            client_cert_cn: Some(self.common_name),
            peer_cert_file: certificate(members),
            peer_key_file: key(members),
            peer_ca_file: ca(members),
            peer_crl_file: crl(members),
            join_ca_file: self.calling.authorities.clone(),
            join_token_file: self.calling.token.clone(),
        }
    }

    /// The settings that are others there. That they name other files takes effect at the next start; what lies in the
    /// files is looked at again by each reload.
    pub(super) fn differences(&self, there: &TlsSettings) -> Vec<(&'static str, TakesEffect)> {
        use TakesEffect::{AtForming, AtNextStart};
        let TlsSettings {
            clients,
            members,
            common_name,
            calling,
        } = there;
        let mut differences = Vec::new();
        let mut note = |setting, differs, effect| {
            if differs {
                differences.push((setting, effect));
            }
        };
        for (names, here, there) in [
            (CLIENT, &self.clients, clients),
            (PEER, &self.members, members),
        ] {
            let differs = |of: fn(&Files) -> Option<&Path>| {
                here.as_ref().and_then(of) != there.as_ref().and_then(of)
            };
            note(
                names.cert,
                differs(|files| Some(&files.certificate)),
                AtNextStart,
            );
            note(names.key, differs(|files| Some(&files.key)), AtNextStart);
            note(
                names.ca,
                differs(|files| files.authorities.as_deref()),
                AtNextStart,
            );
            note(
                names.crl,
                differs(|files| files.revoked.as_deref()),
                AtNextStart,
            );
        }
        note(
            "client_cert_cn",
            self.common_name != *common_name,
            AtNextStart,
        );
        note(
            "join_ca_file",
            self.calling.authorities != calling.authorities,
            AtForming,
        );
        note(
            "join_token_file",
            self.calling.token != calling.token,
            AtForming,
        );
        differences
    }
}

/// The names of the settings of a port.
struct Names {
    cert: &'static str,
    key: &'static str,
    ca: &'static str,
    crl: &'static str,
}

const CLIENT: Names = Names {
    cert: "client_cert_file",
    key: "client_key_file",
    ca: "client_ca_file",
    crl: "client_crl_file",
};
const PEER: Names = Names {
    cert: "peer_cert_file",
    key: "peer_key_file",
    ca: "peer_ca_file",
    crl: "peer_crl_file",
};

fn missing(setting: &'static str, needed: &'static str) -> ConfigError {
    ConfigError::Missing { setting, needed }
}

fn files(
    names: Names,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    ca: Option<PathBuf>,
    crl: Option<PathBuf>,
) -> Result<Option<Files>, ConfigError> {
    let (certificate, key) = match (cert, key) {
        (Some(certificate), Some(key)) => (certificate, key),
        (Some(_), None) => {
            return Err(missing(
                names.key,
                "a certificate is given, and needs its key beside it",
            ));
        }
        (None, Some(_)) => {
            return Err(missing(
                names.cert,
                "a key is given, and needs its certificate beside it",
            ));
        }
        (None, None) if ca.is_some() || crl.is_some() => {
            return Err(missing(
                names.cert,
                "certificates of the other side are looked at only where this side shows one: give it and its key",
            ));
        }
        (None, None) => return Ok(None),
    };
    if crl.is_some() && ca.is_none() {
        return Err(missing(
            names.ca,
            "a revocation list is given, and needs its authorities beside it",
        ));
    }
    Ok(Some(Files {
        certificate,
        key,
        authorities: ca,
        revoked: crl,
    }))
}

/// A URL at which this member, or another that is a member like it, is reached must say whether TLS is spoken there.
pub(super) fn check_scheme(
    setting: &'static str,
    url: &str,
    with: With,
    is_on: bool,
) -> Result<(), ConfigError> {
    if is_secure(url) == is_on {
        return Ok(());
    }
    let (cert, key) = match with {
        With::Clients => (CLIENT.cert, CLIENT.key),
        With::Members => (PEER.cert, PEER.key),
    };
    let accepted = match is_on {
        true => format!("with {cert} it is reached by https only: an https URL is needed"),
        false => format!(
            "an http URL is needed, or {cert} and {key}, without which it does not speak TLS"
        ),
    };
    Err(ConfigError::Value {
        setting,
        value: url.to_owned(),
        accepted,
    })
}

/// A token is shown to nobody who may be anybody: not to a URL that others read on the way, nor, where no URL is given, to one
/// that anybody may have told who answers at the address of a member.
pub(super) fn check_token(
    calling: &CallingFiles,
    join: Option<&str>,
    members_by_tls: bool,
) -> Result<(), ConfigError> {
    match join {
        None if calling.token.is_some() && !members_by_tls => Err(ConfigError::Missing {
            setting: "peer_cert_file",
            needed: "join_token_file is given without join, so that the token is shown where other members say that they are reached, which only members may: give peer_cert_file, peer_key_file and peer_ca_file, or take join_token_file away",
        }),
        Some(url) if calling.token.is_some() && !is_secure(url) && !is_of_this_machine(url) => {
            Err(ConfigError::Value {
                setting: "join",
                value: url.to_owned(),
                accepted: "join_token_file is given, and a token is sent by https only, or to an address of loopback"
                    .to_owned(),
            })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(change: impl FnOnce(&mut TlsFlags)) -> Result<TlsSettings, String> {
        let mut flags = TlsFlags::default();
        change(&mut flags);
        flags.check().map_err(|error| error.to_string())
    }

    fn path() -> Option<PathBuf> {
        Some("x".into())
    }

    #[test]
    fn a_setting_that_needs_another_names_it() {
        let check = |change: fn(&mut TlsFlags), missing: &str| {
            let error = checked(change).expect_err(missing);
            assert!(
                error.starts_with(&format!("{missing} is missing")),
                "{error}"
            );
        };
        check(|flags| flags.client_cert_file = path(), "client_key_file");
        check(|flags| flags.client_key_file = path(), "client_cert_file");
        check(|flags| flags.client_ca_file = path(), "client_cert_file");
        check(|flags| flags.peer_crl_file = path(), "peer_cert_file");
        check(|flags| flags.client_cert_cn = Some(true), "client_ca_file");
        check(
            |flags| (flags.peer_cert_file, flags.peer_key_file) = (path(), path()),
            "peer_ca_file",
        );
        check(
            |flags| {
                (flags.client_cert_file, flags.client_key_file) = (path(), path());
                flags.client_crl_file = path();
            },
            "client_ca_file",
        );
        assert_eq!(checked(|_| ()), Ok(TlsSettings::default()));
        let whole =
            checked(|flags| (flags.client_cert_file, flags.client_key_file) = (path(), path()));
        assert!(whole.is_ok_and(|settings| settings.clients.is_some()));
    }

    #[test]
    fn a_token_goes_by_https_or_to_this_machine() {
        let calling = CallingFiles {
            token: path(),
            ..CallingFiles::default()
        };
        let is_ok = |url: &str| check_token(&calling, Some(url), false).is_ok();
        assert!(is_ok("https://n1:7379") && is_ok("http://127.0.0.1:1") && is_ok("http://[::1]:1"));
        assert!(!is_ok("http://n1:7379") && !is_ok("http://10.0.0.1:7379"));
        assert!(check_token(&CallingFiles::default(), Some("http://n1:7379"), false).is_ok());
        // Where the others say that they are reached.
        assert!(check_token(&calling, None, true).is_ok());
        let refused = check_token(&calling, None, false).expect_err("anybody may say so");
        assert!(refused.to_string().starts_with("peer_cert_file is missing"));
        assert!(check_token(&CallingFiles::default(), None, false).is_ok());
    }
}
