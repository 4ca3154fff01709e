//! Observing an election: who leads, told at each change.
//!
//! Owns the present leadership as a watch tells it. A vacancy is told like a leader, and where history was compacted
//! the present state is told in place of it, so that whoever observes is never left with a leader that is no more.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use tenure_api::{Change, Election, Event, Resource};

use crate::client::Client;
use crate::error::{Error, Failure};
use crate::watch::{Told, Watch};

/// Who leads an election, as of a revision.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// # let campaign = client.campaign("service/api", "host-a").value("http://host-a:80");
/// # let leadership = campaign.lead().await?;
/// let seat = client.observe("service/api").next().await.expect("it begins with the present")?;
/// match seat.leader {
///     Some(leader) => println!("as of {}: {}", seat.revision, leader.value),
///     None => println!("as of {} nobody leads", seat.revision),
/// }
/// # leadership.resign().await?;
/// # Ok(()) });
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Seat {
    /// The leadership; none while the election is vacant.
    pub leader: Option<Leading>,
    /// As of when.
    pub revision: u64,
}

/// A leadership as others see it.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// # let campaign = client.campaign("service/api", "host-a").value("http://host-a:80");
/// # let leadership = campaign.lead().await?;
/// let seat = client.observe("service/api").next().await.expect("it begins with the present")?;
/// let leader = seat.leader.expect("somebody leads");
/// println!("{} leads at {}, by term {}", leader.candidate, leader.value, leader.fence);
/// # assert_eq!(leader.fence, leadership.fence());
/// # leadership.resign().await?;
/// # Ok(()) });
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Leading {
    /// Who.
    pub candidate: String,
    /// What the leadership says.
    pub value: String,
    /// On which lease.
    pub lease: String,
    /// The fence of the leadership: its term.
    pub fence: u64,
}

/// A stream of who leads: at the beginning, and at each change of the leader or of what the leadership says. It goes on
/// while members and leaders of the cluster change and while the cluster is away, which [`Observe::heard`] tells; it
/// ends only after an error that asking again would not mend.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// let mut seats = client.observe("service/api");
/// let vacant = seats.next().await.expect("it begins with the present")?;
/// assert!(vacant.leader.is_none());
/// let leadership = client.campaign("service/api", "host-a").lead().await?;
/// let led = seats.next().await.expect("it goes on")?;
/// assert_eq!(led.leader.map(|leader| leader.fence), Some(leadership.fence()));
/// # leadership.resign().await?;
/// # Ok(()) });
/// ```
pub struct Observe {
    watch: Watch,
    told: Option<Seat>,
}

impl Client {
    /// Observes who leads an election.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// let mut seats = client.observe("service/api");
    /// while let Some(seat) = seats.next().await {
    ///     match seat?.leader {
    ///         Some(leader) => println!("{} leads at {}", leader.candidate, leader.value),
    ///         None => println!("nobody leads"),
    ///     }
    ///     # break;
    /// }
    /// # Ok(()) });
    /// ```
    pub fn observe(&self, election: &str) -> Observe {
        Observe {
            watch: self.watch_one(format!("elections/{election}")).begin(),
            told: None,
        }
    }
}

impl Observe {
    /// What comes next; none after an error. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Seat, Error>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// What was told last.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// let mut seats = client.observe("service/api");
    /// assert!(seats.seat().is_none(), "nothing was told yet");
    /// seats.next().await.expect("it begins with the present")?;
    /// println!("{:?} leads", seats.seat().and_then(|seat| seat.leader.as_ref()));
    /// # assert!(seats.seat().is_some());
    /// # Ok(()) });
    /// ```
    pub fn seat(&self) -> Option<&Seat> {
        self.told.as_ref()
    }

    /// How long ago a member last answered; see [`Watch::heard`].
    pub fn heard(&self) -> Option<Duration> {
        self.watch.heard()
    }

    /// What keeps members from answering; see [`Watch::trouble`].
    pub fn trouble(&self) -> Option<Error> {
        self.watch.trouble()
    }

    /// The seat after what a watch told, where that is another than was told before.
    fn news(&mut self, told: Told) -> Result<Option<Seat>, Error> {
        let before = self.told.as_ref();
        let (leader, revision) = match told {
            Told::Resync { state, revision } => (shown(state)?, revision),
            Told::Changes { events, revision } => {
                let mut leader = before.and_then(|seat| seat.leader.clone());
                events
                    .into_iter()
                    .for_each(|event| follow(&mut leader, event));
                (leader, revision)
            }
        };
        let same = before.is_some_and(|seat| seat.leader == leader);
        Ok((!same).then_some(Seat { leader, revision }))
    }
}

impl Stream for Observe {
    type Item = Result<Seat, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let told = match Pin::new(&mut self.watch).poll_next(cx) {
                Poll::Ready(Some(Ok(told))) => told,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            };
            match self.news(told) {
                Ok(Some(seat)) => {
                    self.told = Some(seat.clone());
                    return Poll::Ready(Some(Ok(seat)));
                }
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}

/// The leadership that a snapshot shows: an election that nobody uses is not in it.
fn shown(state: Vec<Resource>) -> Result<Option<Leading>, Error> {
    let Some(resource) = state.into_iter().next() else {
        return Ok(None);
    };
    let mut state = resource.state;
    // A resource in a snapshot is what a `GET` of it answers, without its revision.
    if let Some(fields) = state.as_object_mut() {
        fields.insert("revision".into(), 0.into());
    }
    let election: Election = serde_json::from_value(state).map_err(|error| {
        let detail = format!("a member showed an election that this version cannot read: {error}");
        Error::NotApplied(Failure::local(detail))
    })?;
    Ok(election.leader.map(|leader| Leading {
        candidate: leader.candidate,
        value: leader.value,
        lease: leader.lease,
        fence: leader.fence,
    }))
}

fn follow(leader: &mut Option<Leading>, event: Event) {
    match event.change {
        Change::Elected {
            candidate,
            lease,
            fence,
            value,
            ..
        } => {
            *leader = Some(Leading {
                candidate,
                value,
                lease,
                fence,
            });
        }
        Change::Proclaimed { fence, value, .. } => {
            if let Some(leader) = leader.as_mut().filter(|leader| leader.fence == fence) {
                leader.value = value;
            }
        }
        Change::Resigned { fence, .. } => {
            leader.take_if(|leader| leader.fence == fence);
        }
        _ => {}
    }
}
