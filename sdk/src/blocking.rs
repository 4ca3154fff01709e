//! For programs without a runtime of their own: a client that waits.
//!
//! Owns a small runtime, on which leases are renewed while the program does something else. It has no second list of
//! calls: every future of this crate is waited for by [`Client::wait`].

use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};

use crate::error::{Error, Failure};

/// A client for programs that do not run on tokio. Clones share all but their patience.
///
/// ```
/// # tenure_doctest::run_blocking(|url| {
/// # let mut steps = 2;
/// # let mut work_is_left = || { steps -= 1; steps > 0 };
/// use std::time::Duration;
/// use tenure::blocking::Client;
///
/// let client = Client::connect(["http://127.0.0.1:7379"])?;
/// # let client = Client::connect([url])?;
/// let lock = client.wait(client.lock("jobs/nightly").wait(Duration::from_secs(60)).acquire())?;
/// while work_is_left() && lock.is_held() {
///     one_step();                                      // short against lock.remaining()
/// }
/// client.wait(client.put("jobs/nightly/done", "yes").guard(&lock))?;
/// client.wait(lock.release())?;
/// # fn one_step() {}
/// # Ok(()) });
/// ```
///
/// Nothing can stop a thread, so there is no `run` that does: between two steps it asks whether it still holds. What is
/// dropped is given up in the background as elsewhere, as long as a clone of the client is there.
#[derive(Clone)]
pub struct Client {
    client: crate::Client,
    runtime: Arc<Runtime>,
}

impl Client {
    /// As [`Client::connect`](crate::Client::connect).
    ///
    /// # Errors
    ///
    /// As there, and where no thread can be started.
    pub fn connect<U: Into<String>>(urls: impl IntoIterator<Item = U>) -> Result<Client, Error> {
        Client::over(crate::Client::connect(urls)?)
    }

    /// The same over a client that was [built](crate::Client::builder).
    ///
    /// ```
    /// # tenure_doctest::run_blocking(|url| {
    /// use std::time::Duration;
    /// let client = tenure::Client::builder(["http://127.0.0.1:7379"]).patience(Duration::from_secs(3));
    /// # let client = tenure::Client::builder([url]).patience(Duration::from_secs(3));
    /// let client = tenure::blocking::Client::over(client.build()?)?;
    /// client.wait(client.put("config/colour", "green"))?;
    /// # Ok(()) });
    /// ```
    ///
    /// # Errors
    ///
    /// Where no thread can be started.
    pub fn over(client: crate::Client) -> Result<Client, Error> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("tenure")
            .enable_io()
            .enable_time()
            .build();
        let runtime = runtime.map_err(|error| {
            let detail = format!("no thread can be started for the client: {error}");
            Error::NotApplied(Failure::local(detail))
        })?;
        Ok(Client {
            client,
            runtime: Arc::new(runtime),
        })
    }

    /// Waits for anything that this crate has to be awaited.
    ///
    /// # Panics
    ///
    /// Where it is called on a runtime, which must not wait: programs that have one use [`tenure::Client`](crate::Client).
    pub fn wait<F: IntoFuture>(&self, what: F) -> F::Output {
        self.runtime.block_on(async { what.await })
    }
}

impl std::ops::Deref for Client {
    type Target = crate::Client;

    fn deref(&self) -> &crate::Client {
        &self.client
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.client.fmt(f)
    }
}
