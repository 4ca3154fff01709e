//! The cluster and its members, as an operator sees them.

use http::Method;
use tenure_api::{ChangeLimits, ChangeStatus, Cluster, Compact, Compacted, LimitsInForce, Status};

use crate::call::{Call, Effect, ask};
use crate::client::Client;
use crate::error::Error;
use crate::name;

impl Client {
    /// The members, who leads, and how far each is, as the leader knows. Dropping the future changes nothing; that holds
    /// for every read here.
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`], also where there is no leader: [`Client::local_cluster`] answers then, too.
    pub async fn cluster(&self) -> Result<Cluster, Error> {
        let call = Call::read("/v1/cluster".into(), self.patience);
        self.perform(&call).await?.json()
    }

    /// The members as some member knows them by itself, also while there is no leader.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// let known = match client.cluster().await {
    ///     Ok(cluster) => cluster,
    ///     // What one member remembers, perhaps from before.
    ///     Err(_) => client.local_cluster().await?,
    /// };
    /// println!("{} members", known.members.len());
    /// # assert_eq!(client.local_cluster().await?.members.len(), 1);
    /// # Ok(()) });
    /// ```
    ///
    /// Dropped, it leaves nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`] where no member answers.
    pub async fn local_cluster(&self) -> Result<Cluster, Error> {
        let path = name::with_query("/v1/cluster".into(), &[("consistency", "local")]);
        self.perform(&Call::read(path, self.patience)).await?.json()
    }

    /// The URLs of the members that this client knows: those that were given, and leaders that it learnt of.
    pub fn urls(&self) -> Vec<String> {
        self.inner.endpoints.urls()
    }

    /// Whether this client would ask a member at a URL that others told, as [`Client::cluster`] does: not by `http` where
    /// it has a token, or was given `https` URLs only, and [nowhere else](Client::at_given_urls_only) where it was told so.
    /// What was given is always asked.
    ///
    /// ```
    /// # fn main() -> Result<(), tenure::Error> {
    /// let client = tenure::Client::builder(["https://n1.internal:7379"]).token("ci.c2VjcmV0");
    /// # let authority = tenure_doctest::certificates().expect("they are made");
    /// # let authority = std::fs::read(authority.path().join("ca.pem")).expect("it is there");
    /// # let client = client.authority(authority);
    /// let client = client.build()?;
    /// assert!(client.may_ask("https://n2.internal:7379").is_ok());
    /// let refused = client.may_ask("http://n2.internal:7379").expect_err("the token could be read");
    /// println!("{refused}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`] where the URL is none, or would not be asked: it says why.
    pub fn may_ask(&self, url: &str) -> Result<(), Error> {
        let url = crate::endpoint::checked(url)?;
        self.inner.endpoints.may_ask(&url)
    }

    /// What a member says of itself, whoever leads. It is asked once.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// for member in client.cluster().await?.members {
    ///     match client.status_of(&member.client_url).await {
    ///         Ok(status) => println!("{} runs {}, ready: {}", member.name, status.version, status.ready),
    ///         Err(error) => println!("{}: {error}", member.name),
    ///     }
    ///     # assert!(client.status_of(&member.client_url).await?.ready);
    /// }
    /// # Ok(()) });
    /// ```
    ///
    /// Dropped, it leaves nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`] where the URL is none or [would not be asked](Client::may_ask), or the member does not answer.
    pub async fn status_of(&self, url: &str) -> Result<Status, Error> {
        let url = crate::endpoint::checked(url)?;
        self.inner.endpoints.may_ask(&url)?;
        let call = Call::read("/v1/status".into(), self.patience);
        ask(&self.inner, &call, &url).await?.json()
    }

    /// Changes which log lines a member writes, until it is started again or its settings are read again. It is asked
    /// once. Dropped before it is done, it may have been applied or may yet be.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// for member in client.cluster().await?.members {
    ///     let status = client.set_log_filter_of(&member.client_url, "info,tenured=debug").await?;
    ///     println!("{} writes {}", status.name, status.log_filter);
    ///     # assert_eq!(status.log_filter, "info,tenured=debug");
    /// }
    /// # Ok(()) });
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`] where the URL is none or [would not be asked](Client::may_ask), the member is not reached, or
    /// it accepts no such filter; [`Error::Unknown`] where it was asked and did not answer.
    pub async fn set_log_filter_of(&self, url: &str, filter: &str) -> Result<Status, Error> {
        let url = crate::endpoint::checked(url)?;
        self.inner.endpoints.may_ask(&url)?;
        let path = "/v1/status".to_owned();
        let call = Call::new(Method::PATCH, path, Effect::Repeatable, self.patience);
        let log_filter = filter.to_owned();
        let call = call.with_json(&ChangeStatus { log_filter });
        ask(&self.inner, &call, &url).await?.json()
    }

    /// Every limit in force.
    ///
    /// Dropped, it leaves nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`].
    pub async fn limits(&self) -> Result<LimitsInForce, Error> {
        let call = Call::read("/v1/limits".into(), self.patience);
        self.perform(&call).await?.json()
    }

    /// Changes the limits that are given. Dropped before it is done, it may have been applied or may yet be.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// use tenure::api::ChangeLimits;
    /// let before = client.limits().await?.limits;
    /// let half = ChangeLimits { value_bytes: Some(before.value_bytes / 2), ..ChangeLimits::default() };
    /// let now = client.change_limits(&half).await?.limits;
    /// assert_eq!(now.value_bytes, before.value_bytes / 2);
    /// # Ok(()) });
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`], [`Error::Unknown`].
    pub async fn change_limits(&self, limits: &ChangeLimits) -> Result<LimitsInForce, Error> {
        let path = "/v1/limits".to_owned();
        let call = Call::new(Method::PATCH, path, Effect::Recorded, self.patience);
        self.perform(&call.with_json(limits)).await?.json()
    }

    /// Forgets the history up to a revision; the cluster does so by itself, too. Dropped before it is done, it may have
    /// been applied or may yet be.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// let old = client.put("config/colour", "green").await?.revision;
    /// let new = client.put("config/colour", "blue").await?.revision;
    /// client.compact(new).await?;
    /// let gone = client.get_at("config/colour", old).await.expect_err("that history is gone");
    /// assert_eq!(gone.code(), Some(tenure::api::Code::Compacted));
    /// # Ok(()) });
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`], [`Error::Unknown`].
    pub async fn compact(&self, revision: u64) -> Result<Compacted, Error> {
        let path = "/v1/compact".to_owned();
        let call = Call::new(Method::POST, path, Effect::Recorded, self.patience);
        self.perform(&call.with_json(&Compact { revision }))
            .await?
            .json()
    }
}
