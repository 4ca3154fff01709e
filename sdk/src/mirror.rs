//! Mirrors of configuration: a typed view of a prefix of keys, or of one key, that is always current.
//!
//! Owns the present view. A value that cannot be read is told of and takes nothing away: the last one that could be
//! read stays, as the whole view stays while the cluster is away.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tenure_api::{Change, Entry, Event, Resource};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::endpoint::backoff;
use crate::error::{Error, Failure};
use crate::keys::{decoded, key_value};
use crate::watch::{Heard, Told, Watching};

/// Until the next try, after an error that asking again does not mend by itself: a right that is missing may be given.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

type Decode<T> = dyn Fn(&str, &[u8]) -> Result<T, String> + Send + Sync;

/// A mirror to be begun.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// # client.put("config/motd", "hello").await?;
/// let mirror = client
///     .mirror_key::<String>("config/motd")
///     .decode_with(|_, value| String::from_utf8(value.to_vec()).map_err(|error| error.to_string()))
///     .begin();
/// mirror.ready().await?;
/// assert_eq!(mirror.value().as_deref().map(String::as_str), Some("hello"));
/// # Ok(()) });
/// ```
#[must_use = "nothing is asked before `begin`"]
pub struct Mirroring<T> {
    watching: Watching,
    /// What the names of keys begin with, and views leave out.
    prefix: String,
    decode: Box<Decode<T>>,
}

impl Client {
    /// A mirror of all keys that begin so, each value read from JSON as a `T`.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// # client.put("config/backends/a", r#"{"url": "http://a", "weight": 1}"#).await?;
    /// #[derive(serde::Deserialize)]
    /// struct Backend {
    ///     url: String,
    ///     weight: u32,
    /// }
    ///
    /// let backends = client.mirror::<Backend>("config/backends/").begin();
    /// let mut views = backends.watch();
    /// backends.ready().await?;
    /// loop {
    ///     if let Some(view) = views.borrow_and_update().clone() {
    ///         for (name, backend) in &view.values {
    ///             println!("{name}: {} with weight {}", backend.url, backend.weight);
    ///         }
    ///         for (name, bad) in &view.bad {
    ///             eprintln!("{name} keeps its last good value: {}", bad.why);
    ///         }
    ///     }
    ///     # assert_eq!(backends.get("a").map(|a| a.weight), Some(1));
    ///     # if true { break }
    ///     if views.changed().await.is_err() {
    ///         return Ok(());
    ///     }
    /// }
    /// # Ok(()) });
    /// ```
    pub fn mirror<T: DeserializeOwned + 'static>(&self, prefix: impl Into<String>) -> Mirroring<T> {
        let prefix = prefix.into();
        Mirroring {
            watching: self.watch(format!("keys/{prefix}")),
            prefix,
            decode: Box::new(from_json),
        }
    }

    /// A mirror of one key, whose value is read from JSON as a `T`: [`ConfigMirror::value`].
    pub fn mirror_key<T: DeserializeOwned + 'static>(
        &self,
        key: impl Into<String>,
    ) -> Mirroring<T> {
        let prefix = key.into();
        Mirroring {
            watching: self.watch_one(format!("keys/{prefix}")),
            prefix,
            decode: Box::new(from_json),
        }
    }
}

fn from_json<T: DeserializeOwned>(_: &str, value: &[u8]) -> Result<T, String> {
    serde_json::from_slice(value).map_err(|error| error.to_string())
}

impl<T> Mirroring<T> {
    /// Reads values in another way than from JSON; what is refused is told with the reason. The name is that of the key
    /// behind the prefix.
    pub fn decode_with<U>(
        self,
        decode: impl Fn(&str, &[u8]) -> Result<U, String> + Send + Sync + 'static,
    ) -> Mirroring<U> {
        Mirroring {
            watching: self.watching,
            prefix: self.prefix,
            decode: Box::new(decode),
        }
    }
}

impl<T: Send + Sync + 'static> Mirroring<T> {
    /// Begins it, by a task that ends when the mirror is dropped. Must be called on a runtime.
    pub fn begin(self) -> ConfigMirror<T> {
        let (views, heard) = (watch::Sender::new(None), Heard::of(&self.watching));
        let shared = Arc::new(Shared {
            views,
            heard,
            trouble: Mutex::default(),
        });
        let task = tokio::spawn(follow(self, Arc::clone(&shared)));
        ConfigMirror { shared, task }
    }
}

/// A typed view of configuration that is always current: see [`Client::mirror`].
///
/// It keeps what it has seen while the cluster is away; [`ConfigMirror::staleness`] tells for how long that has been.
/// Dropping it ends it.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// # client.put("config/rate", "10").await?;
/// let rate = client.mirror_key::<u32>("config/rate").begin();
/// rate.ready().await?;
/// println!("{:?}, confirmed {:?} ago", rate.value(), rate.staleness());
/// # assert_eq!(rate.value().as_deref(), Some(&10));
/// # Ok(()) });
/// ```
pub struct ConfigMirror<T> {
    shared: Arc<Shared<T>>,
    task: JoinHandle<()>,
}

struct Shared<T> {
    views: watch::Sender<Option<Arc<View<T>>>>,
    heard: Heard,
    trouble: Mutex<Option<Error>>,
}

/// Configuration as of a revision.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// client.put("config/rates/a", "10").await?;
/// client.put("config/rates/b", "none of your business").await?;
/// let rates = client.mirror::<u32>("config/rates/").begin();
/// let view = rates.ready().await?;
/// assert_eq!(*view.values["a"], 10);
/// println!("b cannot be read: {}", view.bad["b"].why);
/// # Ok(()) });
/// ```
#[derive(Debug)]
pub struct View<T> {
    /// The last good value of each key that is there, by its name behind the prefix.
    pub values: BTreeMap<String, Arc<T>>,
    /// The keys whose present value could not be read.
    pub bad: BTreeMap<String, Bad>,
    /// The revision of the last change, or of the beginning.
    pub revision: u64,
}

/// A value that could not be read.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// let put = client.put("config/rates/a", "ten").await?;
/// let rates = client.mirror::<u32>("config/rates/").begin();
/// let bad = &rates.ready().await?.bad["a"];
/// assert_eq!(bad.mod_revision, put.mod_revision);
/// println!("since revision {}: {}", bad.mod_revision, bad.why);
/// # Ok(()) });
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bad {
    /// Why.
    pub why: String,
    /// The revision at which it was put.
    pub mod_revision: u64,
}

impl<T> ConfigMirror<T> {
    /// Waits for the first view. Dropping the future does nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`] where the cluster refuses to be watched; the mirror goes on asking. While the cluster is
    /// away this waits: bound it by a time-out of your own.
    pub async fn ready(&self) -> Result<Arc<View<T>>, Error> {
        let mut views = self.shared.views.subscribe();
        loop {
            if let Some(view) = views.borrow_and_update().clone() {
                return Ok(view);
            }
            if let Some(error) = self.trouble() {
                return Err(error);
            }
            let ended = || Error::NotApplied(Failure::local("the task of this mirror has ended"));
            views.changed().await.map_err(|_| ended())?;
        }
    }

    /// The present view; none before the first.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// # client.put("config/rates/a", "10").await?;
    /// let rates = client.mirror::<u32>("config/rates/").begin();
    /// assert!(rates.view().is_none(), "nobody was asked yet");
    /// rates.ready().await?;
    /// let view = rates.view().expect("it was ready");
    /// println!("{:?} at revision {}", view.values, view.revision);
    /// # Ok(()) });
    /// ```
    pub fn view(&self) -> Option<Arc<View<T>>> {
        self.shared.views.borrow().clone()
    }

    /// The last good value of a key, by its name behind the prefix.
    pub fn get(&self, name: &str) -> Option<Arc<T>> {
        self.view()?.values.get(name).cloned()
    }

    /// The last good value of the key, where one key is mirrored.
    pub fn value(&self) -> Option<Arc<T>> {
        self.get("")
    }

    /// The revision of the present view.
    pub fn revision(&self) -> Option<u64> {
        self.view().map(|view| view.revision)
    }

    /// How long ago a member last confirmed the view; none before the first. In quiet times one does so every 10 s.
    pub fn staleness(&self) -> Option<Duration> {
        self.shared.heard.ago()
    }

    /// Why the cluster does not let itself be watched, while that is so.
    pub fn trouble(&self) -> Option<Error> {
        let trouble = self.shared.trouble.lock();
        trouble.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The views, as they follow one another. One that comes fast behind another may take its place.
    pub fn watch(&self) -> watch::Receiver<Option<Arc<View<T>>>> {
        self.shared.views.subscribe()
    }
}

impl<T> Drop for ConfigMirror<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<T> std::fmt::Debug for ConfigMirror<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConfigMirror")
            .field("revision", &self.revision())
            .field("staleness", &self.staleness())
            .finish_non_exhaustive()
    }
}

impl<T> Shared<T> {
    fn tell(&self, view: View<T>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.views.send_replace(Some(Arc::new(view)));
    }

    fn tell_trouble(&self, error: Error) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        // Whoever waits for the first view is woken.
        self.views.send_modify(|_| ());
    }
}

async fn follow<T>(mirroring: Mirroring<T>, shared: Arc<Shared<T>>) {
    let mut failures = 0;
    loop {
        let mut watch = mirroring.watching.clone().begin_heard_by(&shared.heard);
        while let Some(told) = watch.next().await {
            let present = shared.views.borrow().clone();
            let view = told.and_then(|told| mirroring.view_after(present.as_deref(), told));
            match view {
                Ok(view) => {
                    failures = 0;
                    shared.tell(view);
                }
                Err(error) => {
                    shared.tell_trouble(error);
                    break;
                }
            }
        }
        tokio::time::sleep(backoff(FIRST_PAUSE, failures, LONGEST_PAUSE)).await;
        failures += 1;
    }
}

impl<T> Mirroring<T> {
    fn view_after(&self, present: Option<&View<T>>, told: Told) -> Result<View<T>, Error> {
        let values = present.map(|view| view.values.clone()).unwrap_or_default();
        match told {
            Told::Resync { state, revision } => {
                let mut view = View {
                    values: BTreeMap::new(),
                    bad: BTreeMap::new(),
                    revision,
                };
                for resource in state {
                    let key = key_value(entry(resource)?)?;
                    let name = self.name(&key.key);
                    if let Some(value) = values.get(&name) {
                        view.values.insert(name.clone(), Arc::clone(value));
                    }
                    self.put(&mut view, name, &key.value, key.mod_revision);
                }
                Ok(view)
            }
            Told::Changes { events, revision } => {
                let mut view = View {
                    values,
                    bad: present.map(|view| view.bad.clone()).unwrap_or_default(),
                    revision,
                };
                for event in events {
                    self.change(&mut view, event)?;
                }
                Ok(view)
            }
        }
    }

    fn change(&self, view: &mut View<T>, event: Event) -> Result<(), Error> {
        match event.change {
            Change::Put {
                key,
                value,
                encoding,
                mod_revision,
                ..
            } => {
                let value = decoded(value, Some(encoding))?;
                self.put(view, self.name(&key), &value, mod_revision);
            }
            Change::Delete { key, .. } => {
                let name = self.name(&key);
                view.values.remove(&name);
                view.bad.remove(&name);
            }
            _ => {}
        }
        Ok(())
    }

    fn put(&self, view: &mut View<T>, name: String, value: &[u8], mod_revision: u64) {
        match (self.decode)(&name, value) {
            Ok(value) => {
                view.bad.remove(&name);
                view.values.insert(name, Arc::new(value));
            }
            Err(why) => {
                view.bad.insert(name, Bad { why, mod_revision });
            }
        }
    }

    fn name(&self, key: &str) -> String {
        key.strip_prefix(&self.prefix).unwrap_or(key).to_owned()
    }
}

/// A resource in a snapshot is what a `GET` of it answers, without its revision.
fn entry(resource: Resource) -> Result<Entry, Error> {
    serde_json::from_value(resource.state).map_err(|error| {
        let name = resource.resource;
        let detail =
            format!("a member showed {name} in a way that this version cannot read: {error}");
        Error::NotApplied(Failure::local(detail))
    })
}
