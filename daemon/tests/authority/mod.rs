//! A certificate authority for tests: what it issues, for whom and until when, and what it takes back.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};

const DAY: i64 = 24 * 3600;

/// An authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub(crate) pem: String,
}

/// What is to be in a certificate.
pub(crate) struct Wanted {
    params: CertificateParams,
    /// In seconds from now.
    from: i64,
    until: i64,
}

/// A certificate and its key in PEM.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
    /// As it is shown.
    pub(crate) serial: String,
    number: SerialNumber,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        Authority::called(&format!("authority {:016x}", fastrand::u64(..)))
    }

    /// One of this name, as others may be called, too.
    pub(crate) fn called(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        let issuer = Issuer::new(params, key);
        Authority { issuer, pem }
    }

    /// A certificate, which every one of these has with another serial number.
    pub(crate) fn issue(&self, wanted: Wanted) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let mut params = wanted.params;
        params.not_before = date_time_ymd(1970, 1, 1) + seconds(wanted.from);
        params.not_after = date_time_ymd(1970, 1, 1) + seconds(wanted.until);
        let mut serial: Vec<u8> = (0..8).map(|_| fastrand::u8(..)).collect();
        serial[0] = serial[0] & 0x3f | 0x40;
        let number = SerialNumber::from(serial.clone());
        params.serial_number = Some(number.clone());
        let certificate = params.signed_by(&key, &self.issuer);
        let hex: Vec<_> = serial.iter().map(|byte| format!("{byte:02x}")).collect();
        Issued {
            certificate: certificate.expect("a certificate").pem(),
            key: key.serialize_pem(),
            serial: hex.join(":"),
            number,
        }
    }

    /// The list of what is taken back, to be replaced in so many days.
    pub(crate) fn revoked(&self, issued: &[&Issued], days: i64) -> String {
        let taken_back = |issued: &&Issued| RevokedCertParams {
            serial_number: issued.number.clone(),
            revocation_time: date_time_ymd(1970, 1, 1) + seconds(-2 * DAY),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(1970, 1, 1) + seconds(-10 * DAY),
            next_update: date_time_ymd(1970, 1, 1) + seconds(days * DAY),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: issued.iter().map(taken_back).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).expect("a list");
        list.pem().expect("it can be written")
    }
}

impl Wanted {
    /// With these names: URIs have a scheme, addresses are such, and all else are DNS names. Valid for a year, for servers
    /// and clients.
    pub(crate) fn named(names: &[&str]) -> Wanted {
        let mut params = CertificateParams::default();
        let name = |name: &&str| match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) if name.contains("://") => SanType::URI((*name).try_into().expect("ASCII")),
            Err(_) => SanType::DnsName((*name).try_into().expect("ASCII")),
        };
        params.subject_alt_names = names.iter().map(name).collect();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        Wanted {
            params,
            from: -DAY,
            until: 364 * DAY,
        }
    }

    /// For clients only.
    pub(crate) fn for_clients(mut self) -> Wanted {
        self.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self
    }

    /// Valid from and until so many days from now.
    pub(crate) fn valid(self, from: i64, until: i64) -> Wanted {
        self.between(from * DAY, until * DAY)
    }

    /// Valid from and until so many seconds from now, or one less.
    pub(crate) fn between(self, from: i64, until: i64) -> Wanted {
        Wanted {
            from,
            until,
            ..self
        }
    }
}

impl Issued {
    /// Writes it and its key to `NAME.pem` and `NAME.key`, in place of what was there, as a rename does.
    pub(crate) fn write(&self, dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        let certificate = write(dir, &format!("{name}.pem"), &self.certificate);
        let key = write(dir, &format!("{name}.key"), &self.key);
        (certificate, key)
    }
}

/// Writes a file that nobody else may read, in place of another, as a rename does.
pub(crate) fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let (path, new) = (dir.join(name), dir.join(format!("{name}.new")));
    std::fs::write(&new, text).expect("it can be written");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&new, mode).expect("it is ours");
    std::fs::rename(&new, &path).expect("it can be put in place");
    path
}

/// So many seconds from now, since 1970.
fn seconds(from_now: i64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("it is after 1970");
    let away = Duration::from_secs(from_now.unsigned_abs());
    match from_now < 0 {
        true => now - away,
        false => now + away,
    }
}
