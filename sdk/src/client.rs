//! The client: what all calls of a program share.
//!
//! Owns the connections, what is known of the members and the one task that renews. Holds nothing in the cluster.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tenure_api::header;

use crate::call::{Answer, Call, perform};
use crate::certificate::Shown;
use crate::clock::Clock;
use crate::credential::Credential;
use crate::endpoint::{Chosen, Endpoints};
use crate::error::Error;
use crate::keeper::Keeper;
use crate::transport::Transport;

/// How long a call goes on by default: a cluster that has lost its leader has another one long before.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longer than anybody means, and so short that sums of it are times still.
const LONGEST_PATIENCE: Duration = Duration::from_secs(365 * 86_400);

/// A client of one cluster. Clones share connections, the knowledge of members, and renewal.
///
/// Leases are renewed by a small task on each runtime on which the client is used: while one of them runs, all leases of
/// the client are renewed, whichever granted them. Where none runs any more, as where a runtime of one thread is between
/// two calls of `block_on`, nothing is renewed until the client is used again, and what runs out meanwhile is lost.
/// [`blocking::Client`](crate::blocking::Client) has a thread of its own for that.
///
/// It keeps to the cluster that answered it first. One that was restored from a backup is another cluster: calls then fail
/// with [`Code::WrongCluster`](tenure_api::Code::WrongCluster) until a client is made anew, which is all that it takes. Holds
/// and leases do not outlive their cluster, and what was read before may be ahead of what there is now.
///
/// ```
/// # tenure_doctest::run(async |url| {
/// let client = tenure::Client::connect(["http://10.0.0.1:7379", "http://10.0.0.2:7379"])?;
/// # let client = tenure::Client::connect([url])?;
/// client.put("config/colour", "green").await?;
/// # Ok(()) });
/// ```
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
    pub(crate) patience: Duration,
}

/// What clones share.
pub(crate) struct Inner {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) endpoints: Endpoints,
    /// The cluster that answered first. Another one, behind the same address, is refused by its members.
    pub(crate) cluster: OnceLock<HeaderValue>,
    /// Who asks.
    pub(crate) credential: Credential,
    pub(crate) keeper: Keeper,
}

impl Inner {
    /// Whoever sent this, or showed that, is refused as nobody that is known: whether there is another token, or certificate,
    /// now. Where a token is sent, members look at no certificate.
    ///
    /// # Errors
    ///
    /// Where there is none, with what to add to the words of the refusal.
    pub(crate) async fn renewed(
        &self,
        who: Option<&HeaderValue>,
        shown: Option<&Shown>,
    ) -> Result<(), String> {
        match who {
            Some(_) => self.credential.renewed(who).await,
            None => self.transport.renewed(shown).await,
        }
    }
}

impl Client {
    /// A client of the cluster whose members serve these URLs; one is enough, more survive the loss of one.
    ///
    /// Nothing is sent before the first call, so this neither waits nor fails because the cluster is away.
    ///
    /// # Errors
    ///
    /// Where there is no URL, or one that is not `http://host:port` or `https://host:port`; where this machine has no
    /// root certificates, which `https` needs: [`Client::builder`] takes an authority of your own.
    pub fn connect<U: Into<String>>(urls: impl IntoIterator<Item = U>) -> Result<Client, Error> {
        Client::builder(urls).build()
    }

    pub(crate) fn with<U: Into<String>>(
        urls: impl IntoIterator<Item = U>,
        transport: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
        credential: Credential,
    ) -> Result<Client, Error> {
        let inner = Inner {
            transport,
            clock,
            endpoints: Endpoints::new(urls.into_iter().map(Into::into), credential.is_secret())?,
            cluster: OnceLock::new(),
            credential,
            keeper: Keeper::default(),
        };
        Ok(Client {
            inner: Arc::new(inner),
            patience: PATIENCE,
        })
    }

    /// The same client with another time (10 s unless told otherwise) within which a call must succeed, all its tries
    /// together. Waiting in a queue comes on top of it. What is recorded under an idempotency key, as writes
    /// of keys are, stops after 45 s at the latest, time in which the machine was suspended included: its record ends
    /// after 60, unless an operator changed `idempotency_retention_ms`. Where that is less, only
    /// a patience below it keeps a write from being applied twice.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// use std::time::Duration;
    /// let impatient = client.clone().with_patience(Duration::from_millis(500));
    /// match impatient.get("config/colour").await {
    ///     Ok(value) => println!("{value:?}"),
    ///     Err(error) => println!("not now: {error}"),
    /// }
    /// # assert!(impatient.get("config/colour").await?.is_none());
    /// # Ok(()) });
    /// ```
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Client {
        self.patience = patience.min(LONGEST_PATIENCE);
        self
    }

    /// The same client, and all its clones, asking only the members that were given. Unless told so, a client also
    /// asks the leader at the URL that members tell, which may not lead there from another network. An `http` URL that was
    /// not given is never asked by a client that was given `https` URLs only, or that has a token.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| {
    /// let client = tenure::Client::connect(["http://127.0.0.1:17379"])?.at_given_urls_only();
    /// # let client = tenure::Client::connect([url])?.at_given_urls_only();
    /// client.put("config/colour", "green").await?;
    /// # Ok(()) });
    /// ```
    #[must_use]
    pub fn at_given_urls_only(self) -> Client {
        self.inner.endpoints.stay();
        self
    }

    /// Does something that nobody waits for: on the runtime of this task, else on one that renews. Where all have
    /// ended, nothing is done.
    pub(crate) fn in_background(&self, work: impl Future<Output = ()> + Send + 'static) {
        let current = tokio::runtime::Handle::try_current().ok();
        if let Some(runtime) = current.or_else(|| self.inner.keeper.runtime()) {
            runtime.spawn(work);
        }
    }

    /// What has only what clones share, with a patience of its own.
    pub(crate) fn over(inner: Arc<Inner>, patience: Duration) -> Client {
        Client { inner, patience }
    }

    pub(crate) async fn perform(&self, call: &Call) -> Result<Answer, Error> {
        self.inner.attend();
        perform(&self.inner, call).await
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("cluster", &self.inner.cluster.get())
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// A member of ours answered with these headers.
    pub(crate) fn learn(&self, chosen: Chosen, headers: &HeaderMap) {
        let leader = headers.get(header::LEADER);
        let leader = leader.and_then(|leader| leader.to_str().ok());
        self.endpoints.answered(chosen, leader);
        if let Some(cluster) = headers.get(header::CLUSTER) {
            let _ = self.cluster.set(cluster.clone());
        }
    }
}
