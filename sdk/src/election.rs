//! Elections: one of many candidates leads.
//!
//! Owns what only a leadership can do: proclaim a value, and pass itself on.

use std::time::Duration;

use http::Method;
use tenure_api::{Campaign as Wanted, Elected, HandOver, HandedOver, Proclaim};

use crate::ask::{Acquire, holdable};
use crate::belief::State;
use crate::call::{Call, Effect};
use crate::client::Client;
use crate::error::{Error, Loss};
use crate::guard::{Guard, Single};
use crate::held::{Grant, is_over};
use crate::hold::{Kind, Part};
use crate::lease::try_for;
use crate::name;
use crate::shown::{Shown, Within, look_at};

/// The longest wait that a campaign can have.
const FOR_A_DAY: Duration = Duration::from_secs(86_400);

/// Says of a [`Guard`] or an [`Acquire`] that it is of a leadership.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// let leadership: tenure::Guard<tenure::Led> = client.campaign("service/api", "host-a").lead().await?;
/// assert_eq!(leadership.election(), "service/api");
/// # leadership.resign().await?;
/// # Ok(()) });
/// ```
#[derive(Debug)]
pub enum Led {}

holdable!(Led, Wanted, Kind::Election, candidate);
impl Single for Led {}

/// A campaign to be made: waiting for up to 24 h, unless told otherwise.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// let leadership = client.campaign("service/api", "host-a").value("http://host-a:80").lead().await?;
/// leadership.run(serve()).await?;
/// leadership.resign().await?;
/// # async fn serve() {}
/// # Ok(()) });
/// ```
pub type Campaign<'a> = Acquire<'a, Led>;

/// A leadership. Its fence is its term.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// let leadership: tenure::Leadership = client.campaign("service/api", "host-a").lead().await?;
/// leadership.proclaim("http://host-a:80").await?;
///
/// let seen = client.election("service/api").await?.leader.expect("somebody leads");
/// assert_eq!((seen.candidate.as_str(), seen.value.as_str()), ("host-a", "http://host-a:80"));
/// assert_eq!(seen.fence, leadership.fence());
/// leadership.resign().await?;
/// # Ok(()) });
/// ```
pub type Leadership = Guard<Led>;

impl Client {
    /// A campaign for an election, under the name by which others know this candidate.
    pub fn campaign(
        &self,
        election: impl Into<String>,
        candidate: impl Into<String>,
    ) -> Campaign<'static> {
        let wanted = Wanted {
            lease: None,
            ttl_ms: None,
            candidate: candidate.into(),
            value: String::new(),
            wait_ms: 0,
            poll_ms: None,
            priority: 0,
        };
        Acquire::of(self, vec![election.into()], wanted).wait(FOR_A_DAY)
    }
}

impl Acquire<'_, Led> {
    /// What the leadership says to those who look.
    pub fn value(mut self, value: impl Into<String>) -> Self {
        self.body.value = value.into();
        self
    }

    /// Waits until this candidate leads: [`Acquire::acquire`] by another name. [`Acquire::acquire_unless`] withdraws
    /// the candidacy when it is told to.
    ///
    /// Dropping the future withdraws it in the background as [`Acquire::acquire`] leaves a queue.
    ///
    /// # Errors
    ///
    /// As for [`Acquire::acquire`].
    pub async fn lead(self) -> Result<Leadership, Error> {
        self.acquire().await
    }
}

impl Guard<Led> {
    /// The name of the election.
    pub fn election(&self) -> &str {
        self.name()
    }

    /// The name by which others know this leader.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// let leadership = client.campaign("service/api", "host-a").lead().await?;
    /// assert_eq!((leadership.election(), leadership.candidate()), ("service/api", "host-a"));
    /// # leadership.resign().await?;
    /// # Ok(()) });
    /// ```
    pub fn candidate(&self) -> &str {
        &self.held.hold.owner
    }

    /// Gives the leadership a new value. Dropped before it is done, it may have been given or may yet be.
    ///
    /// # Errors
    ///
    /// [`Error::Lost`] where this program does not lead any longer; [`Error::NotApplied`], [`Error::Unknown`].
    pub async fn proclaim(&self, value: impl Into<String>) -> Result<(), Error> {
        if let State::Lost(loss) = self.state() {
            return Err(Error::Lost(loss));
        }
        let body = Proclaim {
            lease: self.lease_id().to_owned(),
            candidate: self.candidate().to_owned(),
            fence: self.fence(),
            value: value.into(),
        };
        let call = self.call(Method::PUT).with_json(&body);
        match self.held.client.perform(&call).await {
            Ok(answer) => answer.json::<Elected>().map(drop),
            Err(error) if is_over(error.code()) => {
                self.held.hold.belief.end(Loss::Broken);
                Err(Error::Lost(Loss::Broken))
            }
            Err(error) => Err(error),
        }
    }

    /// Resigns: [`Guard::release`] by another name.
    ///
    /// Dropped, it goes on in the background, else it ends with the lease; it is not believed in any longer.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn resign(self) -> Result<(), Error> {
        self.release().await
    }

    /// Passes the leadership to a candidate that waits, at one revision: there is no vacancy in between. From this call
    /// on this program does not lead any longer, but where it was refused: then [`NotHandedOver::leadership`] leads on.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// # let leadership = client.campaign("service/api", "host-a").lead().await?;
    /// if let Err(refused) = leadership.hand_over("host-b").await {
    ///     eprintln!("{refused}");
    ///     if let Some(leadership) = refused.leadership {
    ///         leadership.resign().await?;
    ///     }
    /// }
    /// # assert!(client.election("service/api").await?.leader.is_none());
    /// # Ok(()) });
    /// ```
    ///
    /// Dropped before it is done, this resigns in the background, unless the leadership was passed on.
    ///
    /// # Errors
    ///
    /// Where it was lost before; where no candidate of that name waits; where no answer told whether it was passed on.
    pub async fn hand_over(self, to: &str) -> Result<HandedOver, Box<NotHandedOver>> {
        let refused = |error, leadership| Err(Box::new(NotHandedOver { error, leadership }));
        let body = HandOver {
            lease: self.lease_id().to_owned(),
            candidate: self.candidate().to_owned(),
            fence: self.fence(),
            handover_to: to.to_owned(),
        };
        if let Err(lost) = self.held.stop_believing() {
            return refused(lost, None);
        }
        let call = self.call(Method::PATCH).with_json(&body);
        let told = self.held.client.perform(&call).await;
        match told.and_then(|answer| answer.json::<HandedOver>()) {
            Ok(handed_over) => {
                self.held.let_go();
                Ok(handed_over)
            }
            Err(error @ Error::NotApplied(_)) => {
                let leadership = self.look_again().await;
                refused(error, leadership)
            }
            // It may have been passed on or not; a release by its fence is right in either case.
            Err(error) => refused(error, None),
        }
    }

    /// Leads on, where the cluster shows that this leadership lasts. Else it is given up.
    async fn look_again(self) -> Option<Leadership> {
        let within = Within {
            patience: self.held.hold.lease.belief.remaining(),
            each: try_for(self.held.hold.lease.ttl),
        };
        let client = self.held.client.clone();
        let of = (Kind::Election, self.election());
        let by = (self.lease_id(), self.candidate());
        let seen = look_at(&client.inner, of, by, within).await.ok()?;
        let Shown::Held {
            fence,
            remaining_ms,
        } = seen.shown
        else {
            return None;
        };
        if fence != self.fence() {
            return None;
        }
        let part = Part::new(self.election().to_owned(), fence, self.first_part().mode);
        let held = self.held.anew(Grant {
            sent: seen.sent,
            remaining_ms,
            parts: vec![part],
            revision: seen.revision,
        });
        let leadership = Guard::of(held);
        leadership.is_held().then_some(leadership)
    }

    fn call(&self, method: Method) -> Call {
        let path = name::path(Kind::Election.collection(), self.election());
        // A member that does not answer is left while the leadership may still be believed in.
        Call::new(method, path, Effect::Recorded, self.held.client.patience)
            .with_tries_of(try_for(self.held.hold.lease.ttl))
    }
}

/// Why a leadership was not passed on, and what became of it.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// let leadership = client.campaign("service/api", "host-a").lead().await?;
/// let refused = leadership.hand_over("host-b").await.expect_err("nobody of that name waits");
/// assert_eq!(refused.error.code(), Some(tenure::api::Code::NotHeld));
/// let leadership = refused.leadership.expect("it leads on");
/// leadership.resign().await?;
/// # Ok(()) });
/// ```
#[derive(Debug)]
pub struct NotHandedOver {
    /// Why.
    pub error: Error,
    /// The leadership, where it is certain that it lasts.
    pub leadership: Option<Leadership>,
}

impl std::fmt::Display for NotHandedOver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let leads = match self.leadership {
            Some(_) => "leads on",
            None => "does not lead any longer",
        };
        write!(f, "this program {leads}: {}", self.error)
    }
}

impl std::error::Error for NotHandedOver {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl From<Box<NotHandedOver>> for Error {
    /// The leadership, where there is one, is given up.
    fn from(refused: Box<NotHandedOver>) -> Error {
        refused.error
    }
}
