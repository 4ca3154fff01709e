//! What a client is made of: URLs, and where they are `https`, whom to trust; a token.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use crate::client::Client;
use crate::clock::SystemClock;
use crate::credential::Credential;
use crate::error::{Error, Failure};
use crate::tls::{Identity, Speaking, Tls};
use crate::transport::Http;

/// A client to be made.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{fs, path::Path};
///
/// let files = Path::new("/etc/tenure");
/// # let written = tenure_doctest::certificates()?;
/// # let files = written.path();
/// let client = tenure::Client::builder(["https://n1.internal:7379", "https://n2.internal:7379"])
///     .authority(fs::read(files.join("ca.pem"))?)
///     .identity(fs::read(files.join("client.pem"))?, fs::read(files.join("client.key"))?)
///     .token_file(files.join("token"))
///     .build()?;
/// # assert_eq!(client.urls().len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
#[must_use = "nothing is made before `build`"]
pub struct ClientBuilder {
    urls: Vec<String>,
    tls: Tls,
    who: Who,
    patience: Option<Duration>,
    stay: bool,
}

/// By what it says who asks.
#[derive(Clone, Default)]
enum Who {
    #[default]
    Nobody,
    Token(String),
    File(PathBuf),
}

impl Client {
    /// A client to be made, with more to be said than [`Client::connect`] takes.
    pub fn builder<U: Into<String>>(urls: impl IntoIterator<Item = U>) -> ClientBuilder {
        ClientBuilder {
            urls: urls.into_iter().map(Into::into).collect(),
            ..ClientBuilder::default()
        }
    }
}

impl ClientBuilder {
    /// Trusts certificates that this authority issued, given in PEM; may be said again for another one. Then the root
    /// certificates of this machine are not trusted, unless [`ClientBuilder::and_machine_roots`] is said, too. Only for
    /// `https` URLs.
    pub fn authority(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.tls.authorities.push(pem.into());
        self
    }

    /// Trusts the root certificates of this machine beside the authorities that are given. Where none is given, they are
    /// trusted anyway.
    ///
    /// ```
    /// # fn main() -> Result<(), tenure::Error> {
    /// # let written = tenure_doctest::certificates().expect("they are made");
    /// # let ca = std::fs::read(written.path().join("ca.pem")).expect("it is there");
    /// // One of them has a certificate of ours, and one that of an authority which everybody knows.
    /// let urls = ["https://n1.internal:7379", "https://n2.example.org:7379"];
    /// # let machine = std::path::Path::new("/etc/ssl/certs/ca-certificates.crt").exists();
    /// # if !machine { return Ok(()) }
    /// let client = tenure::Client::builder(urls).authority(ca).and_machine_roots().build()?;
    /// # assert_eq!(client.urls().len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn and_machine_roots(mut self) -> Self {
        self.tls.with_machine_roots = true;
        self
    }

    /// Shows this certificate, with those between it and its authority, to members that ask for one: both in PEM. Only
    /// for `https` URLs. In place of [`ClientBuilder::identity_files`] that were given before.
    pub fn identity(mut self, chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.tls.identity = Some(Identity::Given(chain.into(), key.into()));
        self
    }

    /// The same with a certificate and a key that are in files. While calls are made the files are read again every second, and
    /// at once where members say that the certificate has expired: whoever replaces both, by those of the same identity,
    /// changes them without this program being started again. Connections are made anew then. What cannot be read later, or does not fit
    /// together, changes nothing. In place of a [`ClientBuilder::identity`] that was given before.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::path::Path;
    ///
    /// let files = Path::new("/etc/tenure");
    /// # let written = tenure_doctest::certificates()?;
    /// # let files = written.path();
    /// let client = tenure::Client::builder(["https://n1.internal:7379"])
    ///     .authority(std::fs::read(files.join("ca.pem"))?)
    ///     .identity_files(files.join("client.pem"), files.join("client.key"))
    ///     .build()?;
    /// # assert_eq!(client.urls().len(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn identity_files(mut self, chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.tls.identity = Some(Identity::Files(chain.into(), key.into()));
        self
    }

    /// Says who asks by a token, `<id>.<secret>`, in every request. Over `http` URLs anybody on the way reads it: it is
    /// sent only to those `http` URLs that are given here, not to a leader or a member that others name. In place of a
    /// [`ClientBuilder::token_file`] that was given before.
    ///
    /// ```
    /// # fn main() -> Result<(), tenure::Error> {
    /// # let secret = || "00000000000000a1.5ecre7".to_owned();
    /// let token: String = secret();                     // from wherever this program keeps its secrets
    /// let client = tenure::Client::builder(["http://10.0.0.1:7379"]).token(token).build()?;
    /// # let _ = tenure_doctest::certificates;
    /// # let _ = client;
    /// # Ok(())
    /// # }
    /// ```
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.who = Who::Token(token.into());
        self
    }

    /// The same with a token that is in a file, alone but for blanks around it. While calls are made the file is read again
    /// every second, and at once where members refuse the token: whoever writes another one to it, of the same identity,
    /// changes it without this program being started again. What cannot be read later, or is no token, changes nothing.
    /// In place of a [`ClientBuilder::token`] that was given before.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| {
    /// let client = tenure::Client::builder(["http://10.0.0.1:7379"]).token_file("/run/secrets/tenure-token");
    /// # let files = tenure_doctest::certificates()?;
    /// # let client = tenure::Client::builder([url]).token_file(files.path().join("token"));
    /// let client = client.build()?;
    /// client.put("config/colour", "green").await?;
    /// # Ok(()) });
    /// ```
    pub fn token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.who = Who::File(path.into());
        self
    }

    /// See [`Client::with_patience`].
    ///
    /// ```
    /// # tenure_doctest::run(async |url| {
    /// use std::time::Duration;
    /// let client = tenure::Client::builder(["http://10.0.0.1:7379"]).patience(Duration::from_secs(3)).build()?;
    /// # let client = tenure::Client::builder([url]).patience(Duration::from_secs(3)).build()?;
    /// client.put("config/colour", "green").await?;
    /// # Ok(()) });
    /// ```
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// See [`Client::at_given_urls_only`].
    ///
    /// ```
    /// # tenure_doctest::run(async |url| {
    /// // Through a tunnel, beside which the URLs that members tell lead nowhere.
    /// let client = tenure::Client::builder(["http://127.0.0.1:17379"]).at_given_urls_only().build()?;
    /// # let client = tenure::Client::builder([url]).at_given_urls_only().build()?;
    /// client.put("config/colour", "green").await?;
    /// # Ok(()) });
    /// ```
    pub fn at_given_urls_only(mut self) -> Self {
        self.stay = true;
        self
    }

    /// How the client would speak TLS, for a program that asks the same members by an HTTP client of its own; none where no
    /// URL is `https`. A certificate that is in files is read now, and not again.
    ///
    /// ```
    /// # fn main() -> Result<(), tenure::Error> {
    /// # let written = tenure_doctest::certificates().expect("they are made");
    /// # let ca = std::fs::read(written.path().join("ca.pem")).expect("it is there");
    /// let builder = tenure::Client::builder(["https://n1.internal:7379"]).authority(ca);
    /// let tls = builder.tls_config()?.expect("one of the URLs is https");
    /// # assert!(tls.alpn_protocols.is_empty());
    /// let client = builder.build()?;
    /// # let _ = client;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`ClientBuilder::build`] that are of certificates and keys.
    pub fn tls_config(&self) -> Result<Option<ClientConfig>, Error> {
        Ok(self.speaking()?.map(|speaking| speaking.config))
    }

    fn speaking(&self) -> Result<Option<Speaking>, Error> {
        let secure = self.urls.iter().any(|url| url.starts_with("https:"));
        let for_tls = !self.tls.authorities.is_empty() || self.tls.identity.is_some();
        match (secure, for_tls) {
            (true, _) => self.tls.speaking().map(Some),
            (false, false) => Ok(None),
            (false, true) => Err(Error::NotApplied(Failure::local(format!(
                "certificates are given, but none of the URLs {:?} begins with https://",
                self.urls
            )))),
        }
    }

    /// The client. Nothing is sent before the first call.
    ///
    /// # Errors
    ///
    /// Where there is no URL, or one that is none; where certificates or keys cannot be read or do not fit, or are given
    /// though no URL is `https`; where the token is none, or its file cannot be read.
    pub fn build(self) -> Result<Client, Error> {
        let http = self.speaking()?.map_or_else(Http::plain, Http::secure);
        let credential = match self.who {
            Who::Nobody => Credential::None,
            Who::Token(token) => Credential::token(&token)?,
            Who::File(path) => Credential::file(path)?,
        };
        let clock = Arc::new(SystemClock);
        let mut client = Client::with(self.urls, Arc::new(http), clock, credential)?;
        if let Some(patience) = self.patience {
            client = client.with_patience(patience);
        }
        Ok(match self.stay {
            true => client.at_given_urls_only(),
            false => client,
        })
    }
}

impl std::fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("urls", &self.urls)
            .finish_non_exhaustive()
    }
}
