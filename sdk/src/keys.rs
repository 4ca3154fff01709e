//! Keys.
//!
//! Owns reading and writing single keys, and deleting many. Writes carry an idempotency key and are applied once, however
//! often they are tried.

use std::pin::Pin;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use tenure_api::{Code, Deleted, Encoding, Entry, KeyEntry, KeyWritten};

use crate::call::{Call, Effect};
use crate::client::Client;
use crate::error::{Error, Failure};
use crate::lease::Lease;
use crate::name;
use crate::terms::{Terms, write_terms};

/// A key with its value.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// client.put("config/colour", "green").content_type("text/plain").await?;
/// let read = client.get("config/colour").await?.expect("it is there");
/// assert_eq!((&read.value[..], read.version), (&b"green"[..], 1));
/// assert_eq!(read.content_type.as_deref(), Some("text/plain"));
/// # Ok(()) });
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyValue {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Bytes,
    /// The type that was given with it.
    pub content_type: Option<String>,
    /// The revision that created the key.
    pub create_revision: u64,
    /// The revision of the last put.
    pub mod_revision: u64,
    /// Puts since it was created.
    pub version: u64,
    /// The lease it hangs on.
    pub lease: Option<String>,
}

impl Client {
    /// Reads a key as it is after everything that was answered before; none where it is absent.
    ///
    /// Dropped, it leaves nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`].
    pub async fn get(&self, key: &str) -> Result<Option<KeyValue>, Error> {
        self.read(key, None).await
    }

    /// Reads a key as it was at a revision; none where it was absent then.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// let before = client.put("config/colour", "green").await?.revision;
    /// client.put("config/colour", "blue").await?;
    /// let then = client.get_at("config/colour", before).await?.expect("it was there");
    /// assert_eq!(then.value, "green");
    /// # Ok(()) });
    /// ```
    ///
    /// Dropped, it leaves nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`], with [`Code::Compacted`](tenure_api::Code::Compacted) where that history is gone.
    pub async fn get_at(&self, key: &str, revision: u64) -> Result<Option<KeyValue>, Error> {
        self.read(key, Some(revision)).await
    }

    async fn read(&self, key: &str, revision: Option<u64>) -> Result<Option<KeyValue>, Error> {
        let revision = revision.map(|revision| revision.to_string());
        let mut parameters = vec![("entry", "true")];
        parameters.extend(revision.as_deref().map(|revision| ("revision", revision)));
        let path = name::with_query(name::path("keys", key), &parameters);
        match self.perform(&Call::read(path, self.patience)).await {
            Ok(answer) => key_value(answer.json::<KeyEntry>()?.entry).map(Some),
            Err(error) if error.code() == Some(Code::KeyNotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sets a key, when awaited. Dropped before it is done, it may have been set or may yet be.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// let put = client.put("config/colour", "green").content_type("text/plain").await?;
    /// // Only where nobody has put it since.
    /// let again = client.put("config/colour", "blue").if_revision(put.mod_revision).await;
    /// if let Err(error) = again {
    ///     assert_eq!(error.code(), Some(tenure::api::Code::ConditionFailed));
    /// }
    /// # Ok(()) });
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`], where a condition did not hold with
    /// [`Code::ConditionFailed`](tenure_api::Code::ConditionFailed); [`Error::Unknown`]; [`Error::Lost`] where the
    /// lease or the guard is not believed in any longer: nothing was sent then.
    pub fn put(&self, key: impl Into<String>, value: impl Into<Bytes>) -> Put<'_> {
        Put {
            write: Write::new(self, Method::PUT, key.into()),
            terms: Terms::default(),
            value: value.into(),
            lease: None,
        }
    }

    /// Deletes a key, when awaited; answers whether it was there.
    ///
    /// # Errors
    ///
    /// As for [`Client::put`].
    pub fn delete(&self, key: impl Into<String>) -> Delete<'_> {
        Delete {
            write: Write::new(self, Method::DELETE, key.into()),
            terms: Terms::default(),
        }
    }
}

impl Client {
    /// Deletes every key that begins so, at one revision, when awaited; answers how many there were. An empty prefix is
    /// refused: see [`Client::delete_all`].
    ///
    /// # Errors
    ///
    /// As for [`Client::put`], and with [`Code::TooLarge`](tenure_api::Code::TooLarge) where there are more than one
    /// revision may change.
    pub fn delete_prefix(&self, prefix: impl Into<String>) -> DeleteMany<'_> {
        DeleteMany {
            client: self,
            prefix: prefix.into(),
            all: false,
            terms: Terms::default(),
        }
    }

    /// Deletes every key there is, when awaited; answers how many there were.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// client.put("a", "1").await?;
    /// client.put("b", "2").await?;
    /// assert_eq!(client.delete_all().await?, 2);
    /// # Ok(()) });
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`Client::delete_prefix`].
    pub fn delete_all(&self) -> DeleteMany<'_> {
        DeleteMany {
            all: true,
            ..self.delete_prefix("")
        }
    }
}

/// A delete of many keys that is sent when it is awaited.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// client.put("old/a", "1").await?;
/// client.put("old/b", "2").await?;
/// assert_eq!(client.delete_prefix("old/").await?, 2);
/// assert!(client.delete_prefix("").await.is_err(), "that would be all keys: `delete_all`");
/// # Ok(()) });
/// ```
#[must_use = "nothing is sent before it is awaited"]
pub struct DeleteMany<'a> {
    client: &'a Client,
    prefix: String,
    all: bool,
    terms: Terms<'a>,
}

impl<'a> DeleteMany<'a> {
    write_terms!('a);

    async fn send(self) -> Result<u64, Error> {
        let mut parameters = vec![("prefix", self.prefix.as_str())];
        parameters.extend(self.all.then_some(("all", "true")));
        let path = name::with_query("/v1/keys".into(), &parameters);
        let patience = self.client.patience;
        let call = Call::new(Method::DELETE, path, Effect::Recorded, patience);
        let answer = self.client.perform(&self.terms.on(call)?).await?;
        Ok(answer.json::<Deleted>()?.deleted)
    }
}

impl<'a> IntoFuture for DeleteMany<'a> {
    type Output = Result<u64, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// What puts and deletes have in common.
struct Write<'a> {
    client: &'a Client,
    method: Method,
    key: String,
    conditions: Vec<(HeaderName, String)>,
    content_type: Option<String>,
}

impl<'a> Write<'a> {
    fn new(client: &'a Client, method: Method, key: String) -> Write<'a> {
        Write {
            client,
            method,
            key,
            conditions: Vec::new(),
            content_type: None,
        }
    }

    fn only_at(&mut self, mod_revision: u64) {
        let etag = format!("\"{mod_revision}\"");
        self.conditions.push((header::IF_MATCH, etag));
    }

    async fn send(
        &self,
        terms: &Terms<'_>,
        parameters: &[(&str, &str)],
        body: Bytes,
    ) -> Result<crate::call::Answer, Error> {
        let path = name::with_query(name::path("keys", &self.key), parameters);
        let patience = self.client.patience;
        let mut call =
            Call::new(self.method.clone(), path, Effect::Recorded, patience).with_body(body);
        for (name, value) in &self.conditions {
            call = call.with_header(name.clone(), value);
        }
        if let Some(content_type) = &self.content_type {
            if HeaderValue::from_str(content_type).is_err() {
                let detail = format!("{content_type:?} is no content type");
                return Err(Error::NotApplied(Failure::local(detail)));
            }
            call = call.with_header(header::CONTENT_TYPE, content_type);
        }
        self.client.perform(&terms.on(call)?).await
    }
}

/// A put that is sent when it is awaited.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// let lease = client.lease(std::time::Duration::from_secs(15)).grant().await?;
/// let put = client.put("workers/7", "here").lease(&lease).if_absent().await?;
/// println!("put at revision {}; it goes when the lease ends", put.mod_revision);
/// lease.revoke().await?;
/// assert!(client.get("workers/7").await?.is_none());
/// # Ok(()) });
/// ```
#[must_use = "nothing is sent before it is awaited"]
pub struct Put<'a> {
    write: Write<'a>,
    terms: Terms<'a>,
    value: Bytes,
    lease: Option<&'a Lease>,
}

impl<'a> Put<'a> {
    /// The type of the value.
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.write.content_type = Some(content_type.into());
        self
    }

    /// The key ends with this lease. A put without one detaches the key.
    pub fn lease(mut self, lease: &'a Lease) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Only where the key is absent.
    pub fn if_absent(mut self) -> Self {
        self.write
            .conditions
            .push((header::IF_NONE_MATCH, "*".into()));
        self
    }

    /// Only where the key's last put was at this revision.
    pub fn if_revision(mut self, mod_revision: u64) -> Self {
        self.write.only_at(mod_revision);
        self
    }

    write_terms!('a);

    async fn send(self) -> Result<KeyWritten, Error> {
        let mut parameters = Vec::new();
        if let Some(lease) = self.lease {
            if let crate::State::Lost(loss) = lease.state() {
                return Err(Error::Lost(loss));
            }
            parameters.push(("lease", lease.id()));
        }
        let answer = self
            .write
            .send(&self.terms, &parameters, self.value.clone())
            .await?;
        answer.json()
    }
}

impl<'a> IntoFuture for Put<'a> {
    type Output = Result<KeyWritten, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// A delete that is sent when it is awaited.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// let put = client.put("config/colour", "green").await?;
/// let deleted = client.delete("config/colour").if_revision(put.mod_revision).await?;
/// assert!(deleted, "it was there, and nobody had put it since");
/// # Ok(()) });
/// ```
#[must_use = "nothing is sent before it is awaited"]
pub struct Delete<'a> {
    write: Write<'a>,
    terms: Terms<'a>,
}

impl<'a> Delete<'a> {
    /// Only where the key's last put was at this revision.
    pub fn if_revision(mut self, mod_revision: u64) -> Self {
        self.write.only_at(mod_revision);
        self
    }

    write_terms!('a);

    async fn send(self) -> Result<bool, Error> {
        match self.write.send(&self.terms, &[], Bytes::new()).await {
            Ok(answer) => Ok(answer.json::<Deleted>()?.deleted > 0),
            Err(Error::NotApplied(failure)) if failure.code == Some(Code::KeyNotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl<'a> IntoFuture for Delete<'a> {
    type Output = Result<bool, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

pub(crate) fn key_value(entry: Entry) -> Result<KeyValue, Error> {
    let value = entry.value.unwrap_or_default();
    Ok(KeyValue {
        value: decoded(value, entry.encoding)?,
        key: entry.key,
        content_type: entry.content_type,
        create_revision: entry.create_revision,
        mod_revision: entry.mod_revision,
        version: entry.version,
        lease: entry.lease,
    })
}

/// The same as a member writes it.
pub(crate) fn entry(key: KeyValue) -> Entry {
    let (value, encoding) = encoded(&key.value);
    Entry {
        key: key.key,
        key_encoding: None,
        value: Some(value),
        encoding: Some(encoding),
        content_type: key.content_type,
        create_revision: key.create_revision,
        mod_revision: key.mod_revision,
        version: key.version,
        lease: key.lease,
    }
}

/// A value as JSON has it: as text where it is some.
pub(crate) fn encoded(value: &[u8]) -> (String, Encoding) {
    match std::str::from_utf8(value) {
        Ok(text) => (text.to_owned(), Encoding::Utf8),
        Err(_) => (STANDARD.encode(value), Encoding::Base64),
    }
}

/// The bytes of a value as events and entries write it.
///
/// # Errors
///
/// Where it is not of that encoding.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// use tenure::{Told, api::Change, decoded};
///
/// let mut watch = client.watch_one("keys/blob").begin();
/// # watch.next().await;
/// client.put("blob", &b"\xff\x00"[..]).await?;
/// if let Some(Told::Changes { events, .. }) = watch.next().await.transpose()? {
///     for event in events {
///         if let Change::Put { value, encoding, .. } = event.change {
///             assert_eq!(&decoded(value, Some(encoding))?[..], b"\xff\x00");
///         }
///     }
/// }
/// # Ok(()) });
/// ```
pub fn decoded(value: String, encoding: Option<Encoding>) -> Result<Bytes, Error> {
    match encoding {
        None | Some(Encoding::Utf8) => Ok(value.into()),
        Some(Encoding::Base64) => STANDARD.decode(value).map(Bytes::from).map_err(|error| {
            Error::Unknown(Failure::local(format!(
                "a member wrote base64 wrongly: {error}"
            )))
        }),
    }
}
