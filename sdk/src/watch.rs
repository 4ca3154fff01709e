//! Watching resources: every change once and in order, or the state anew where history is gone.
//!
//! Owns the cursor. It moves only with what was answered, so nothing is lost when a member, a leader or a waiting
//! future goes away. State of more than 8 MiB, which a member does not put into one answer, is read in pages where it is
//! of keys; a page is asked for again while the cluster is away, as all else.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use http::Method;
use tenure_api::{Code, Event, Events, Resource};

use crate::call::{Answer, Call, Effect, TRY};
use crate::client::Client;
use crate::clock::{Clock, Moment};
use crate::error::Error;
use crate::keys::entry;
use crate::transport::Boxed;

/// How long a member is asked to wait for news: one that stopped answering is left after this and a little more.
pub(crate) const POLL: Duration = Duration::from_secs(10);
/// How long one try may last once quicker ones were not answered: a state of 8 MiB takes so long on a line of 2.3 Mbit/s.
const LONGEST_TRY: Duration = Duration::from_secs(30);
/// What the resources that are keys begin with.
const KEYS: &str = "keys/";
/// Between askings that could not be made.
const PAUSE: Duration = Duration::from_millis(200);

/// What a watch tells.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// use tenure::{Told, api::Change};
///
/// let mut watch = client.watch_one("keys/config/colour").begin();
/// # let put = client.put("config/colour", "green").await?;
/// match watch.next().await.expect("it begins with the state")? {
///     Told::Resync { state, revision } => println!("{:?} as of {revision}", state.first()),
///     Told::Changes { events, .. } => {
///         for event in events {
///             if let Change::Put { value, .. } = event.change {
///                 println!("{value} since {}", event.revision);
///             }
///         }
///     }
/// }
/// # Ok(()) });
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// The whole state as of a revision: at the beginning, and where the history from the cursor on is gone. Whoever
    /// keeps a copy replaces it by this.
    Resync {
        /// Everything that matches and exists, is held or is waited for.
        state: Vec<Resource>,
        /// As of when.
        revision: u64,
    },
    /// All changes of one revision.
    Changes {
        /// In order; never none.
        events: Vec<Event>,
        /// Which: where a later watch goes on with [`Watching::after`].
        revision: u64,
    },
}

/// A watch to be begun.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// let seen = client.put("config/colour", "green").await?.revision;
/// client.put("config/colour", "blue").await?;
/// // Goes on where another watch, perhaps of another process, has ended; of two kinds of things at once.
/// let mut watch = client.watch("keys/config/").and("locks/jobs/").after(seen).with_previous().begin();
/// let told = watch.next().await.expect("there is a change")?;
/// # assert!(matches!(told, tenure::Told::Changes { ref events, .. } if events.len() == 1), "{told:?}");
/// # Ok(()) });
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is asked before `begin`"]
pub struct Watching {
    client: Client,
    selectors: tenure_api::Watch,
}

impl Client {
    /// A watch of all resources that begin so: `keys/config/`, `locks/jobs/`, `elections/`, `leases/`.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// use tenure::Told;
    /// let mut watch = client.watch("keys/config/").begin();
    /// while let Some(told) = watch.next().await {
    ///     match told? {
    ///         Told::Resync { state, revision } => println!("{} keys at {revision}", state.len()),
    ///         Told::Changes { events, revision } => println!("{} changes at {revision}", events.len()),
    ///     }
    ///     # if client.put("config/colour", "green").await?.version > 1 { break }
    /// }
    /// # Ok(()) });
    /// ```
    pub fn watch(&self, prefix: impl Into<String>) -> Watching {
        let selectors = tenure_api::Watch {
            prefixes: vec![prefix.into()],
            ..tenure_api::Watch::default()
        };
        Watching {
            client: self.clone(),
            selectors,
        }
    }

    /// A watch of one exact resource: `locks/jobs/nightly`.
    pub fn watch_one(&self, resource: impl Into<String>) -> Watching {
        let selectors = tenure_api::Watch::default();
        let watching = Watching {
            client: self.clone(),
            selectors,
        };
        watching.and_one(resource)
    }
}

impl Watching {
    /// Another prefix beside the first.
    pub fn and(mut self, prefix: impl Into<String>) -> Watching {
        self.selectors.prefixes.push(prefix.into());
        self
    }

    /// One exact resource beside it.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// let mut watch = client.watch_one("locks/jobs/nightly").and_one("keys/jobs/nightly/report").begin();
    /// watch.next().await.expect("it begins with the state")?;
    /// let lock = client.lock("jobs/nightly").acquire().await?;
    /// let told = watch.next().await.expect("it goes on")?;
    /// # assert!(matches!(told, tenure::Told::Changes { .. }), "{told:?}");
    /// # lock.release().await?;
    /// # Ok(()) });
    /// ```
    pub fn and_one(mut self, resource: impl Into<String>) -> Watching {
        self.selectors.resources.push(resource.into());
        self
    }

    /// Goes on behind a revision that was seen, in place of beginning with the state.
    pub fn after(mut self, revision: u64) -> Watching {
        self.selectors.after = Some(revision);
        self
    }

    /// Events of keys also tell what was before.
    pub fn with_previous(mut self) -> Watching {
        self.selectors.previous = true;
        self
    }

    /// The stream. Nothing is asked before it is polled.
    pub fn begin(self) -> Watch {
        let heard = Heard::of(&self);
        self.begin_heard_by(&heard)
    }

    /// The stream, of which somebody else wants to know when a member last answered.
    pub(crate) fn begin_heard_by(self, heard: &Heard) -> Watch {
        let heard = heard.clone();
        Watch {
            client: self.client,
            cursor: self.selectors.after,
            selectors: self.selectors,
            told: VecDeque::new(),
            asking: None,
            heard,
            ended: false,
        }
    }
}

/// A stream of what happens to resources. It goes on while members and leaders change and while the cluster is away;
/// it ends only after an error that asking again would not mend.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// let mut watch = client.watch("keys/config/").begin();
/// watch.next().await.expect("it begins with the state")?;
/// println!("seen up to {:?}; a member answered {:?} ago", watch.revision(), watch.heard());
/// # assert!(watch.revision().is_some());
/// # Ok(()) });
/// ```
pub struct Watch {
    client: Client,
    selectors: tenure_api::Watch,
    /// Everything up to here has been asked for and answered; none before the first answer.
    cursor: Option<u64>,
    /// What was answered and is still to be told.
    told: VecDeque<Told>,
    asking: Option<Boxed<'static, Result<Events, Error>>>,
    heard: Heard,
    ended: bool,
}

impl Watch {
    /// What comes next; none after an error. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Told, Error>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Everything up to here was seen, if all that was told so far is done with. It moves on in quiet times, too.
    pub fn revision(&self) -> Option<u64> {
        self.cursor.filter(|_| self.told.is_empty())
    }

    /// How long ago a member last answered; none before the first answer. In quiet times one answers every 10 s, a member
    /// that has lost its leader none; so a longer time than that means that the cluster is away.
    pub fn heard(&self) -> Option<Duration> {
        self.heard.ago()
    }

    /// What keeps members from answering, since the last one that did: none, while that is not known. The watch goes on
    /// all the same. Where nobody was heard yet, it is known once the [patience](Client::with_patience) of the client has
    /// passed.
    ///
    /// ```
    /// # tenure_doctest::run(async |_| {
    /// use std::time::Duration;
    /// // Nobody listens there.
    /// let client = tenure::Client::connect(["http://127.0.0.1:1"])?.with_patience(Duration::from_millis(200));
    /// let mut watch = client.watch("keys/config/").begin();
    /// while tokio::time::timeout(Duration::from_millis(100), watch.next()).await.is_err() {
    ///     if let (None, Some(error)) = (watch.heard(), watch.trouble()) {
    ///         eprintln!("nothing to be watched: {error}");
    ///         break;
    ///     }
    /// }
    /// # assert!(watch.trouble().is_some());
    /// # Ok(()) });
    /// ```
    pub fn trouble(&self) -> Option<Error> {
        self.heard.trouble()
    }

    fn ask(&self) -> Boxed<'static, Result<Events, Error>> {
        let mut body = self.selectors.clone();
        body.after = self.cursor;
        body.snapshot = self.cursor.is_none();
        // Until somebody was heard, whoever watches wants to know soon that nobody is there, or that somebody is: that is
        // what the first tries are for.
        let call = match self.heard.ago() {
            None => {
                let patience = self.client.patience;
                let try_for = (patience / 3).clamp(TRY, LONGEST_TRY);
                Call::new(Method::POST, "/v1/watch".into(), Effect::Read, patience)
                    .with_tries_of(try_for)
            }
            Some(_) => {
                body.wait_ms = self.cursor.map(|_| crate::lease::millis(POLL));
                let patience = self.client.patience + POLL;
                Call::new(Method::POST, "/v1/watch".into(), Effect::Read, patience).held_for(POLL)
            }
        };
        let call = call.with_json(&body).at_any_member();
        let (client, heard) = (self.client.clone(), self.heard.clone());
        Box::pin(async move {
            // News are short, a state may be large.
            let answer = match body.snapshot {
                true => heard.perform(&client, &call).await?,
                false => heard.until_answered(|| client.perform(&call)).await?,
            };
            answer.json()
        })
    }

    fn is_of_keys(&self) -> bool {
        let selectors = self
            .selectors
            .prefixes
            .iter()
            .chain(&self.selectors.resources);
        selectors
            .into_iter()
            .all(|selector| selector.starts_with(KEYS))
    }

    /// The state of keys, in place of the answer that would hold it.
    fn read_in_pages(&self) -> Boxed<'static, Result<Events, Error>> {
        let (client, selectors) = (self.client.clone(), self.selectors.clone());
        let heard = self.heard.clone();
        let name = |selector: &String| selector[KEYS.len()..].to_owned();
        Box::pin(async move {
            let (mut found, mut at) = (BTreeMap::new(), None);
            for prefix in selectors.prefixes.iter().map(name) {
                let list = client.list(prefix).heard_by(&heard);
                let list = match at {
                    Some(revision) => list.at(revision),
                    None => list,
                };
                let listed = list.await?;
                at = Some(listed.revision);
                found.extend(listed.keys.into_iter().map(|key| (key.key.clone(), key)));
            }
            let at = match at {
                Some(at) => at,
                None => {
                    let any = client.list("").limit(1).keys_only();
                    any.heard_by(&heard).await?.revision
                }
            };
            for key in selectors.resources.iter().map(name) {
                let read = heard.until_answered(|| client.get_at(&key, at)).await?;
                found.extend(read.map(|read| (key, read)));
            }
            let state = found.into_values().map(|key| Resource {
                resource: format!("{KEYS}{}", key.key),
                state: serde_json::to_value(entry(key)).expect("an entry has a form in JSON"),
            });
            let events = Events {
                snapshot: Some(state.collect()),
                events: Vec::new(),
                revision: at,
                more: false,
            };
            Ok(events)
        })
    }

    fn take(&mut self, answer: Events) {
        if let Some(state) = answer.snapshot {
            let revision = answer.revision;
            self.told.push_back(Told::Resync { state, revision });
        }
        for event in answer.events {
            match self.told.back_mut() {
                Some(Told::Changes { events, revision }) if *revision == event.revision => {
                    events.push(event);
                }
                _ => self.told.push_back(Told::Changes {
                    revision: event.revision,
                    events: vec![event],
                }),
            }
        }
        self.cursor = Some(answer.revision);
    }
}

/// When a member last answered a watch, and what has kept them from it since.
#[derive(Clone)]
pub(crate) struct Heard {
    clock: Arc<dyn Clock>,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    at: Option<Moment>,
    trouble: Option<Error>,
}

impl Heard {
    pub(crate) fn of(watching: &Watching) -> Heard {
        Heard {
            clock: Arc::clone(&watching.client.inner.clock),
            known: Arc::default(),
        }
    }

    pub(crate) fn ago(&self) -> Option<Duration> {
        let at = self.known().at;
        at.map(|at| self.clock.now().since(at))
    }

    fn trouble(&self) -> Option<Error> {
        self.known().trouble.clone()
    }

    fn set(&self, at: Moment) {
        *self.known() = Known {
            at: Some(at),
            trouble: None,
        };
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a call again for as long as the cluster is away: at first as it is, which finds soon who answers, then with
    /// tries that last as long as a large answer takes on a slow line.
    pub(crate) async fn perform(&self, client: &Client, call: &Call) -> Result<Answer, Error> {
        let (again, patience) = (call.clone(), client.patience.max(LONGEST_TRY));
        let again = again.with_tries_of(LONGEST_TRY).with_patience(patience);
        let has_asked = AtomicBool::new(false);
        let ask = || match has_asked.swap(true, Ordering::Relaxed) {
            false => client.perform(call),
            true => client.perform(&again),
        };
        self.until_answered(ask).await
    }

    /// Asks again for as long as the cluster is away.
    async fn until_answered<T, A>(&self, ask: impl Fn() -> A) -> Result<T, Error>
    where
        A: Future<Output = Result<T, Error>>,
    {
        loop {
            match ask().await {
                Ok(told) => {
                    self.set(self.clock.now());
                    return Ok(told);
                }
                Err(error) if error.may_pass() => {
                    self.known().trouble = Some(error);
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Stream for Watch {
    type Item = Result<Told, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(told) = self.told.pop_front() {
                return Poll::Ready(Some(Ok(told)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let mut asking = self.asking.take().unwrap_or_else(|| self.ask());
            let Poll::Ready(answer) = asking.as_mut().poll(cx) else {
                self.asking = Some(asking);
                return Poll::Pending;
            };
            match answer {
                Ok(events) => self.take(events),
                // The only way to lose history, and it is told: the state is asked for in place of it.
                Err(error)
                    if matches!(error.code(), Some(Code::Compacted | Code::RevisionAhead)) =>
                {
                    self.cursor = None;
                }
                // Too much for one answer: keys are read in pages of one revision, and watched from there on.
                Err(error)
                    if error.code() == Some(Code::TooLarge)
                        && self.cursor.is_none()
                        && self.is_of_keys() =>
                {
                    self.asking = Some(self.read_in_pages());
                }
                Err(error) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}
