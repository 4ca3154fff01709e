//! Whether a certificate is a certain member's.
//!
//! Owns the rule that keeps one member from speaking as another: that an authority has signed a certificate says only that
//! its holder is some member. Where it names members by URIs `tenure://member/NAME`, one of them must be the member's
//! name, and nothing else counts; where it names none so, a DNS name or an address of it must be the host of the URL by
//! which the cluster knows the member. No wildcard, no common name and no reverse look-up is anybody's name here.

use std::fmt::Write as _;
use std::net::IpAddr;

use http::Uri;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::names::Names;

/// With this, and its name behind it, a URI names a member.
const MEMBER: &str = "tenure://member/";
const FOR_CLIENTS: &str =
    "its certificate is for clients only: its extended key usage has no serverAuth";
/// So many names of a certificate are told.
const MOST_TOLD: usize = 5;

/// The certificate of whoever is on the other side of a connection between members, verified against the authorities.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MemberCertificate {
    names: Names,
    /// It says what it may be used for, and to be a server is not among that: a client's.
    is_of_client: bool,
}

impl MemberCertificate {
    /// What is looked at of a certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> MemberCertificate {
        let usage = X509Certificate::from_der(certificate)
            .ok()
            .and_then(|(_, certificate)| {
                let usage = certificate.extended_key_usage().ok()??;
                Some(usage.value.any || usage.value.server_auth)
            });
        MemberCertificate {
            names: Names::of(certificate),
            is_of_client: usage == Some(false),
        }
    }

    /// One with these URIs and DNS names.
    #[cfg(test)]
    pub(crate) fn named(uris: &[&str], dns: &[&str]) -> MemberCertificate {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        MemberCertificate {
            names: Names {
                uris: owned(uris),
                dns: owned(dns),
                ..Names::default()
            },
            is_of_client: false,
        }
    }

    /// Says why it is no member's at all.
    ///
    /// # Errors
    /// Where it is for clients only, or names nobody.
    pub fn is_of_a_member(&self) -> Result<(), String> {
        if self.is_of_client {
            return Err(FOR_CLIENTS.to_owned());
        }
        let Names { uris, dns, ips, .. } = &self.names;
        let named = uris.iter().any(|uri| uri.starts_with(MEMBER));
        match named || !dns.is_empty() || !ips.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "its certificate names nobody: it has neither a URI {MEMBER}NAME nor a DNS name or address"
            )),
        }
    }

    /// Whether it has the URI of the member of this name, and is for members.
    pub fn has_uri_of(&self, name: &str) -> bool {
        !self.is_of_client && self.names.uris.contains(&member_uri(name))
    }

    /// Says why it is not the certificate of the member of this name, which is reached at this URL.
    ///
    /// # Errors
    /// Where it is not.
    pub fn is_of(&self, name: &str, peer_url: &str) -> Result<(), String> {
        if self.is_of_client {
            return Err(FOR_CLIENTS.to_owned());
        }
        let own = member_uri(name);
        let uris = self.names.uris.iter();
        let of_members: Vec<_> = uris.filter(|uri| uri.starts_with(MEMBER)).collect();
        if !of_members.is_empty() {
            return match of_members.contains(&&own) {
                true => Ok(()),
                false => Err(format!(
                    "its certificate is that of {}, not of {own}",
                    told(of_members)
                )),
            };
        }
        let host = host_of(peer_url);
        let is_host = match host.parse::<IpAddr>() {
            Ok(address) => self.names.ips.contains(&address),
            Err(_) => self
                .names
                .dns
                .iter()
                .any(|dns| dns.eq_ignore_ascii_case(&host)),
        };
        if is_host && !host.is_empty() {
            return Ok(());
        }
        let addresses = self.names.ips.iter().map(ToString::to_string);
        let hosts: Vec<_> = self.names.dns.iter().cloned().chain(addresses).collect();
        Err(match hosts.is_empty() {
            true => format!(
                "its certificate names no member: it has neither the URI {own} nor the DNS name or address {host}"
            ),
            false => format!(
                "its certificate is that of {}, and {name} is known at {host}; it needs that name, or the URI {own}",
                told(&hosts)
            ),
        })
    }
}

/// The URI by which a certificate names a member.
fn member_uri(name: &str) -> String {
    name.bytes().fold(MEMBER.to_owned(), |mut uri, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(uri, "%{byte:02X}");
        }
        uri
    })
}

/// The host of a URL, an address without its brackets.
pub(super) fn host_of(url: &str) -> String {
    let parsed = url.parse::<Uri>().unwrap_or_default();
    let host = parsed.host().unwrap_or_default();
    host.trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned()
}

fn told<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    let names: Vec<_> = names
        .into_iter()
        .map(|name| name.as_ref().to_owned())
        .collect();
    let more = match names.len().saturating_sub(MOST_TOLD) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let first: Vec<_> = names.into_iter().take(MOST_TOLD).collect();
    first.join(", ") + &more
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://n1.example:7380";

    fn certificate(uris: &[&str], dns: &[&str], ips: &[&str]) -> MemberCertificate {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let names = Names {
            uris: owned(uris),
            dns: owned(dns),
            ips: ips
                .iter()
                .map(|ip| ip.parse().expect("an address"))
                .collect(),
            common_name: Some("n1".to_owned()),
            not_after: None,
        };
        MemberCertificate {
            names,
            is_of_client: false,
        }
    }

    fn check(certificate: &MemberCertificate, url: &str, expected: Result<(), &str>) {
        match (certificate.is_of("n1", url), expected) {
            (Ok(()), Ok(())) => {}
            (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
            (found, expected) => panic!("{certificate:?}: {found:?} and not {expected:?}"),
        }
    }

    #[test]
    fn a_uri_of_a_member_decides_alone_and_a_host_only_where_there_is_none() {
        let (n1, n2) = ("tenure://member/n1", "tenure://member/n2");
        let host = "n1.example";
        check(&certificate(&[n1], &[], &[]), URL, Ok(()));
        check(&certificate(&[n2, n1], &["x"], &[]), URL, Ok(()));
        check(
            &certificate(&[n2], &[host], &[]),
            URL,
            Err("that of tenure://member/n2"),
        );
        check(
            &certificate(&["tenure://member/"], &[host], &[]),
            URL,
            Err("not of"),
        );
        check(
            &certificate(&["tenure://member/n1/"], &[host], &[]),
            URL,
            Err("not of"),
        );
        check(
            &certificate(&["spiffe://x/n1"], &["N1.Example"], &[]),
            URL,
            Ok(()),
        );
        check(
            &certificate(&[], &["n2.example"], &[]),
            URL,
            Err("known at n1.example"),
        );
    }

    #[test]
    fn neither_a_wildcard_nor_the_common_name_nor_an_address_behind_a_name_is_a_member() {
        check(
            &certificate(&[], &["*.example"], &[]),
            URL,
            Err("that of *.example"),
        );
        check(&certificate(&[], &[], &[]), URL, Err("names no member"));
        check(
            &certificate(&[], &[], &["10.0.0.1"]),
            URL,
            Err("that of 10.0.0.1"),
        );
        check(
            &certificate(&[], &["10.0.0.1"], &[]),
            "https://10.0.0.1:1",
            Err("needs"),
        );
        check(
            &certificate(&[], &[], &["10.0.0.1"]),
            "https://10.0.0.1:1",
            Ok(()),
        );
        check(&certificate(&[], &[], &["::1"]), "https://[::1]:1", Ok(()));
        check(&certificate(&[], &[""], &[]), "nonsense", Err("known at"));
    }

    #[test]
    fn the_certificate_of_a_client_is_no_members_whatever_it_is_called() {
        let mut of_client = certificate(&["tenure://member/n1"], &["n1.example"], &[]);
        of_client.is_of_client = true;
        check(&of_client, URL, Err("for clients only"));
        let is_refused = |certificate: MemberCertificate| certificate.is_of_a_member().is_err();
        assert!(is_refused(of_client));
        assert!(is_refused(certificate(&["spiffe://x/n1"], &[], &[])));
        assert!(!is_refused(certificate(&[], &["anything"], &[])));
    }

    #[test]
    fn a_name_is_percent_encoded_in_its_uri() {
        assert_eq!(member_uri("n-1._~"), "tenure://member/n-1._~");
        assert_eq!(member_uri("a/b é"), "tenure://member/a%2Fb%20%C3%A9");
    }
}
