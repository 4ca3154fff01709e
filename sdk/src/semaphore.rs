//! Semaphores: permits of a limited number.

use std::collections::BTreeMap;

use tenure_api::AcquireSemaphore;

use crate::ask::{Acquire, holdable, labelled};
use crate::client::Client;
use crate::guard::{Guard, Single};
use crate::hold::Kind;

/// Says of a [`Guard`] or an [`Acquire`] that it is of permits.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// let permits: tenure::Guard<tenure::Permitted> = client.semaphore("downloads", 10).acquire().await?;
/// assert_eq!(permits.name(), "downloads");
/// # permits.release().await?;
/// # Ok(()) });
/// ```
#[derive(Debug)]
pub enum Permitted {}

holdable!(Permitted, AcquireSemaphore, Kind::Semaphore, owner);
labelled!(Permitted, AcquireSemaphore);
impl Single for Permitted {}

/// Permits to be acquired. Where they are held with another limit, that is
/// [`Code::LimitMismatch`](tenure_api::Code::LimitMismatch).
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// let asked: tenure::AcquirePermits = client.semaphore("downloads", 10).permits(3);
/// let permits = asked.acquire().await?;
/// let refused = client.semaphore("downloads", 11).acquire().await.expect_err("the limit is 10 now");
/// assert_eq!(refused.code(), Some(tenure::api::Code::LimitMismatch));
/// # permits.release().await?;
/// # Ok(()) });
/// ```
pub type AcquirePermits<'a> = Acquire<'a, Permitted>;

/// Permits that are held.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// let permits: tenure::Permits = client.semaphore("downloads", 2).permits(2).acquire().await?;
/// assert!(client.semaphore("downloads", 2).acquire().await.is_err(), "all are held");
/// permits.release().await?;
/// # Ok(()) });
/// ```
pub type Permits = Guard<Permitted>;

impl Client {
    /// Permits of a semaphore of this limit to be acquired: one, and without waiting, unless told otherwise. The limit of
    /// the first holder stands until all are free.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// use std::time::Duration;
    /// let permits = client.semaphore("downloads", 10).wait(Duration::from_secs(60)).acquire().await?;
    /// permits.run(download()).await?;
    /// permits.release().await?;
    /// # async fn download() {}
    /// # Ok(()) });
    /// ```
    pub fn semaphore(&self, name: impl Into<String>, limit: u64) -> AcquirePermits<'static> {
        let wanted = AcquireSemaphore {
            lease: None,
            ttl_ms: None,
            owner: String::new(),
            permits: 1,
            limit,
            wait_ms: 0,
            poll_ms: None,
            priority: 0,
            metadata: BTreeMap::new(),
            lock_delay_ms: 0,
        };
        Acquire::of(self, vec![name.into()], wanted)
    }
}

impl Acquire<'_, Permitted> {
    /// How many are wanted.
    pub fn permits(mut self, permits: u64) -> Self {
        self.body.permits = permits;
        self
    }
}
