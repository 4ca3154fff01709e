//! The names that a certificate gives to whoever holds its key.
//!
//! Owns reading them. What they allow is decided elsewhere: `identity` for members, the HTTP side for clients. The common
//! name is no name unless somebody asks for it, since authorities put there whatever they like.

use rustls::pki_types::CertificateDer;
use std::net::IpAddr;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Longest name that counts, and most names of one certificate: what comes from the network is bounded also where an
/// authority has signed it.
const NAME_BYTES: usize = 1024;
const MOST_NAMES: usize = 256;

/// The certificate of a client, verified against `client_ca_file` when its connection was made. It is in the extensions
/// of each of its requests; a client that showed none has none there.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClientCertificate {
    /// Its names in the order in which they are tried: URIs, then DNS names, then, where `client_cert_cn` is set, the
    /// common name.
    pub names: Vec<String>,
    /// When it ends, in milliseconds of Unix time.
    pub not_after: Option<u64>,
}

/// The names of a certificate by their kinds.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Names {
    /// Of the subject alternative names, the URIs.
    pub uris: Vec<String>,
    /// The DNS names.
    pub dns: Vec<String>,
    /// The addresses.
    pub ips: Vec<IpAddr>,
    /// The common name of the subject.
    pub common_name: Option<String>,
    /// When it ends, in milliseconds of Unix time. One that ended before 1970 ended in that year.
    pub not_after: Option<u64>,
}

impl Names {
    /// The names of a certificate. One that cannot be read has none, and with it nobody is anybody.
    pub fn of(certificate: &CertificateDer<'_>) -> Names {
        let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
            return Names::default();
        };
        let seconds = certificate.validity().not_after.timestamp();
        let seconds = u64::try_from(seconds).unwrap_or(0);
        let mut names = Names {
            not_after: Some(seconds.saturating_mul(1_000)),
            ..Names::default()
        };
        let mut common = certificate.subject().iter_common_name();
        names.common_name = common
            .next()
            .and_then(|name| name.as_str().ok())
            .filter(|name| is_name(name))
            .map(str::to_owned);
        let Ok(Some(alternatives)) = certificate.subject_alternative_name() else {
            return names;
        };
        for name in alternatives.value.general_names.iter().take(MOST_NAMES) {
            match name {
                GeneralName::URI(uri) if is_name(uri) => names.uris.push((*uri).to_owned()),
                GeneralName::DNSName(name) if is_name(name) => names.dns.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => names.ips.extend(address(bytes)),
                _ => {}
            }
        }
        names
    }

    /// The names by which a client is known.
    pub fn of_client(self, with_common_name: bool) -> ClientCertificate {
        let common = self.common_name.filter(|_| with_common_name);
        let names = self.uris.into_iter().chain(self.dns).chain(common);
        ClientCertificate {
            names: names.collect(),
            not_after: self.not_after,
        }
    }
}

/// A text that could be cut, or could forge a line of a log, is no name.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_BYTES && !text.chars().any(char::is_control)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(names: Vec<SanType>) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params
            .distinguished_name
            .push(DnType::CommonName, "deployer");
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").into()
    }

    #[test]
    fn a_client_is_called_by_its_uris_then_its_dns_names_and_by_the_common_name_only_where_that_is_set()
     {
        let text = |text: &str| text.try_into().expect("ASCII");
        let certificate = certificate(vec![
            SanType::DnsName(text("ci.example")),
            SanType::URI(text("spiffe://example/deploy")),
            SanType::IpAddress([10, 0, 0, 1].into()),
        ]);
        let names = Names::of(&certificate);
        assert_eq!(names.ips, [IpAddr::from([10, 0, 0, 1])]);
        let of = |with| names.clone().of_client(with).names;
        assert_eq!(of(false), ["spiffe://example/deploy", "ci.example"]);
        assert_eq!(
            of(true),
            ["spiffe://example/deploy", "ci.example", "deployer"]
        );
        // The end that the maker of these certificates gives them, 4096-01-01.
        let ends = names.clone().of_client(false).not_after;
        assert_eq!(ends, Some(67_090_118_400_000));
    }

    #[test]
    fn a_certificate_without_names_or_sense_names_nobody() {
        let names = Names::of(&certificate(Vec::new())).of_client(false);
        assert!(names.names.is_empty(), "{names:?}");
        let senseless = CertificateDer::from(vec![0x30, 3, 1, 2, 3]);
        assert_eq!(Names::of(&senseless), Names::default());
        let uri = "tenure://member/n1\ntenure://member/n2".try_into();
        let forged = certificate(vec![SanType::URI(uri.expect("ASCII"))]);
        assert!(Names::of(&forged).uris.is_empty());
    }
}
