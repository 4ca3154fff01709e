//! Lists of keys: ranges of them, in pages that are all of one revision.

use std::pin::Pin;

use tenure_api::KeyPage;

use crate::call::Call;
use crate::client::Client;
use crate::error::{Error, Failure};
use crate::keys::{KeyValue, key_value};
use crate::name;
use crate::watch::Heard;

/// Keys as they were at one revision.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// client.put("jobs/1", "a").await?;
/// client.put("jobs/2", "b").await?;
/// let before = client.list("jobs/").await?;
/// client.delete_prefix("jobs/").await?;
/// // As it was then, while that history is kept.
/// let again = client.list("jobs/").at(before.revision).await?;
/// assert_eq!((again.keys, again.count, again.more), (before.keys, 2, false));
/// # Ok(()) });
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listed {
    /// The keys, in order.
    pub keys: Vec<KeyValue>,
    /// How many match in all, also where [`List::limit`] left some out.
    pub count: u64,
    /// Whether there are more behind them.
    pub more: bool,
    /// When: a [watch](Client::watch) from here on misses nothing.
    pub revision: u64,
}

/// A list of keys that is asked for when it is awaited, in as many requests as it takes.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// # client.put("jobs/2024-1", "1").await?;
/// let newest = client.range("jobs/2024", None).descending().limit(10).keys_only().await?;
/// println!("{} of {} at revision {}", newest.keys.len(), newest.count, newest.revision);
/// # assert_eq!(newest.count, 1);
/// # Ok(()) });
/// ```
#[derive(Clone)]
#[must_use = "nothing is asked before it is awaited"]
pub struct List<'a> {
    client: &'a Client,
    which: Vec<(&'static str, String)>,
    limit: Option<u64>,
    revision: Option<u64>,
    start_after: Option<String>,
    /// The watch of which it is the beginning: then its pages are asked for again while the cluster is away.
    heard: Option<Heard>,
}

impl Client {
    /// All keys that begin so, as they were at one revision. Dropping the future changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`], also where the history of that revision was compacted before the last page was read.
    pub fn list(&self, prefix: impl Into<String>) -> List<'_> {
        self.listing(vec![("prefix", prefix.into())])
    }

    /// All keys from `start` on and before `end`, where one is given.
    ///
    /// # Errors
    ///
    /// As for [`Client::list`].
    pub fn range<'e>(&self, start: impl Into<String>, end: impl Into<Option<&'e str>>) -> List<'_> {
        let mut which = vec![("start", start.into())];
        which.extend(end.into().map(|end| ("end", end.to_owned())));
        self.listing(which)
    }

    fn listing(&self, which: Vec<(&'static str, String)>) -> List<'_> {
        List {
            client: self,
            which,
            limit: None,
            revision: None,
            start_after: None,
            heard: None,
        }
    }
}

impl List<'_> {
    /// No more than so many.
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }

    /// From the greatest key to the least.
    pub fn descending(mut self) -> Self {
        self.which.push(("order", "desc".into()));
        self
    }

    /// Without their values, which are empty then.
    pub fn keys_only(mut self) -> Self {
        self.which.push(("keys_only", "true".into()));
        self
    }

    /// As they were at a revision, while that is not compacted.
    pub fn at(mut self, revision: u64) -> Self {
        self.revision = Some(revision);
        self
    }

    /// Only those behind this key, in the order in which they are listed.
    pub fn start_after(mut self, key: impl Into<String>) -> Self {
        self.start_after = Some(key.into());
        self
    }

    pub(crate) fn heard_by(mut self, heard: &Heard) -> Self {
        self.heard = Some(heard.clone());
        self
    }

    async fn read(self) -> Result<Listed, Error> {
        check_limit(self.limit == Some(0))?;
        let (mut revision, mut after) = (self.revision, self.start_after.clone());
        let mut listed = Listed {
            keys: Vec::new(),
            count: 0,
            more: true,
            revision: 0,
        };
        loop {
            let left = self.limit.map(|limit| limit - count(&listed.keys));
            if left == Some(0) {
                return Ok(listed);
            }
            let page = self.page(revision, after.as_deref(), left).await?;
            if listed.keys.is_empty() {
                listed.count = page.count;
            }
            // All further pages are read as of the first.
            listed.revision = *revision.get_or_insert(page.revision);
            for entry in page.keys {
                listed.keys.push(key_value(entry)?);
            }
            listed.more = page.more;
            after = page.next.filter(|_| page.more);
            if after.is_none() {
                return Ok(listed);
            }
        }
    }

    async fn page(
        &self,
        revision: Option<u64>,
        after: Option<&str>,
        limit: Option<u64>,
    ) -> Result<KeyPage, Error> {
        /// A member gives no longer page.
        const PAGE_MOST: u64 = 10_000;
        let revision = revision.map(|revision| revision.to_string());
        let limit = limit.map(|limit| limit.min(PAGE_MOST).to_string());
        let mut parameters: Vec<(&str, &str)> = self
            .which
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        parameters.extend(revision.as_deref().map(|revision| ("revision", revision)));
        parameters.extend(after.map(|after| ("start_after", after)));
        parameters.extend(limit.as_deref().map(|limit| ("limit", limit)));
        let path = name::with_query("/v1/keys".into(), &parameters);
        let call = Call::read(path, self.client.patience);
        let answer = match &self.heard {
            Some(heard) => heard.perform(self.client, &call).await?,
            None => self.client.perform(&call).await?,
        };
        answer.json()
    }
}

impl<'a> IntoFuture for List<'a> {
    type Output = Result<Listed, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.read())
    }
}

/// # Errors
///
/// Where no more than nothing is asked for.
pub(crate) fn check_limit(is_zero: bool) -> Result<(), Error> {
    match is_zero {
        false => Ok(()),
        true => Err(Error::NotApplied(Failure::local(
            "a limit of 0 leaves nothing to be listed; 1 and more are accepted",
        ))),
    }
}

fn count(keys: &[KeyValue]) -> u64 {
    u64::try_from(keys.len()).unwrap_or(u64::MAX)
}
