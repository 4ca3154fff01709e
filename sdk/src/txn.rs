//! Transactions: all or nothing, at one revision.
//!
//! Owns the shape of a transaction. Conditions come first, then what is done where all of them hold, then what is done
//! where one does not; the type of the builder says how far it is, so that another order does not compile. Nor does a
//! comparison that makes no sense: a lease is equal or not, and a version is no string.
//!
//! ```
//! # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
//! # let lock = client.lock("jobs/nightly").acquire().await?;
//! use tenure::txn::{delete_prefix, get, held, key, put};
//!
//! let done = client
//!     .txn()
//!     .when(held(&lock))
//!     .when(key("jobs/next").mod_revision().eq(131))
//!     .then(put("jobs/running", "17"))
//!     .then(delete_prefix("jobs/old/"))
//!     .otherwise(get("jobs/next"))
//!     .await?;
//! if !done.succeeded {
//!     println!("somebody else was faster: {:?}", done.results);
//! }
//! # assert!(!done.succeeded);
//! # lock.release().await?;
//! # Ok(()) });
//! ```
//!
//! What is out of order does not compile:
//!
//! ```compile_fail,E0599
//! # fn example(client: tenure::Client) {
//! use tenure::txn::{key, put};
//! let _ = client.txn().then(put("a", "1")).when(key("a").version().eq(0));
//! # }
//! ```
//!
//! ```compile_fail,E0599
//! # fn example(client: tenure::Client) {
//! let _ = client.txn().when(tenure::txn::key("a").lease().gt(Some("00000000000000ff")));
//! # }
//! ```

use std::marker::PhantomData;
use std::pin::Pin;

use bytes::Bytes;
use http::Method;
use serde_json::Value;
use tenure_api::{
    Compare, Condition, DeleteKeys, Encoding, Field, GetKey, KeyGot, Operation, OperationResult,
    PutKey, Transact,
};

use crate::call::{Call, Effect};
use crate::client::Client;
use crate::error::Error;
use crate::guarded::Fenced;
use crate::hold::Kind;
use crate::keys::{KeyValue, encoded, key_value};
use crate::lease::Lease;
use crate::multi::MultiLock;
use crate::terms::{Terms, write_terms};

/// Conditions may still be added.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// use tenure::txn::{If, Then, Txn, key, put};
/// let begun: Txn<'_, If> = client.txn().when(key("a").is_absent());
/// let more: Txn<'_, Then> = begun.then(put("a", "1"));
/// assert!(more.await?.succeeded);
/// # Ok(()) });
/// ```
pub enum If {}
/// The operations of success are being added.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// use tenure::txn::{Then, Txn, get, put};
/// let writes: Txn<'_, Then> = client.txn().then(put("a", "1"));
/// let done = writes.then(get("a")).await?;
/// assert_eq!(done.results.len(), 2);
/// # Ok(()) });
/// ```
pub enum Then {}
/// The operations of the other branch are being added.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// use tenure::txn::{Else, Txn, get, key};
/// let reads: Txn<'_, Else> = client.txn().when(key("a").exists()).otherwise(get("b"));
/// assert!(!reads.await?.succeeded);
/// # Ok(()) });
/// ```
pub enum Else {}

/// The operations of the first branch may still be added.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// use tenure::txn::{BeforeElse, Then, Txn, put};
///
/// /// Has a note written beside whatever else is done.
/// fn noted<'a>(txn: Txn<'a, impl BeforeElse>, note: &str) -> Txn<'a, Then> {
///     txn.then(put("note", note.to_owned()))
/// }
///
/// noted(client.txn().then(put("a", "1")), "a was set").await?;
/// assert_eq!(client.get("note").await?.expect("it is there").value, "a was set");
/// # Ok(()) });
/// ```
#[expect(private_bounds, reason = "a builder has the places that it has")]
pub trait BeforeElse: Place {}
impl BeforeElse for If {}
impl BeforeElse for Then {}

trait Place {}
impl Place for If {}
impl Place for Then {}

/// A transaction that is sent when it is awaited. See the [module](self).
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// use tenure::txn::put;
/// let txn = client.txn().then(put("imported/7", "yes")).idempotency_key("import-7");
/// assert!(txn.await?.succeeded);
/// // A program that was started again, and does it once more, is told what was decided first.
/// let again = client.txn().then(put("imported/7", "yes")).idempotency_key("import-7").await?;
/// assert_eq!(client.get("imported/7").await?.map(|key| key.version), Some(1));
/// # assert!(again.succeeded);
/// # Ok(()) });
/// ```
#[must_use = "nothing is sent before it is awaited"]
pub struct Txn<'a, At = If> {
    client: &'a Client,
    body: Transact,
    terms: Terms<'a>,
    at: PhantomData<fn() -> At>,
}

impl Client {
    /// A transaction: see [`txn`](crate::txn). Awaited, it is applied exactly once however often it is tried. Dropped
    /// before it is done, it may have been applied or may yet be.
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`], [`Error::Unknown`]; [`Error::Lost`] where its guard is not believed in any longer. That a
    /// condition does not hold is no error.
    pub fn txn(&self) -> Txn<'_> {
        Txn {
            client: self,
            body: Transact::default(),
            terms: Terms::default(),
            at: PhantomData,
        }
    }
}

impl Txn<'_, If> {
    /// Adds a condition; all must hold. Without one, the first branch is done.
    pub fn when(self, condition: impl Into<When>) -> Self {
        self.when_all([condition])
    }

    /// Adds conditions, as many as there are.
    pub fn when_all(mut self, conditions: impl IntoIterator<Item = impl Into<When>>) -> Self {
        let conditions = conditions.into_iter().map(|condition| condition.into().0);
        self.body.conditions.extend(conditions);
        self
    }
}

impl<'a, At: BeforeElse> Txn<'a, At> {
    /// Where all conditions hold, does this, behind what was added before.
    pub fn then(self, operation: impl Into<Op>) -> Txn<'a, Then> {
        self.then_all([operation])
    }

    /// Where all conditions hold, does these, in order.
    pub fn then_all(
        mut self,
        operations: impl IntoIterator<Item = impl Into<Op>>,
    ) -> Txn<'a, Then> {
        self.body.then.extend(listed(operations));
        self.go_on()
    }
}

impl<'a, At> Txn<'a, At> {
    /// Where one of the conditions does not hold, does this, behind what was added before.
    pub fn otherwise(self, operation: impl Into<Op>) -> Txn<'a, Else> {
        self.otherwise_all([operation])
    }

    /// Where one of the conditions does not hold, does these, in order.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// use tenure::txn::{get, key};
    /// let read = ["config/colour", "config/size"].map(get);
    /// let done = client.txn().when(key("config/ready").exists()).otherwise_all(read).await?;
    /// assert_eq!(done.results.len(), 2);
    /// # Ok(()) });
    /// ```
    pub fn otherwise_all(
        mut self,
        operations: impl IntoIterator<Item = impl Into<Op>>,
    ) -> Txn<'a, Else> {
        self.body.otherwise.extend(listed(operations));
        self.go_on()
    }
}

fn listed(operations: impl IntoIterator<Item = impl Into<Op>>) -> impl Iterator<Item = Operation> {
    operations.into_iter().map(|operation| operation.into().0)
}

impl<'a, At> Txn<'a, At> {
    write_terms!('a);

    fn go_on<Next>(self) -> Txn<'a, Next> {
        Txn {
            client: self.client,
            body: self.body,
            terms: self.terms,
            at: PhantomData,
        }
    }

    async fn send(self) -> Result<Done, Error> {
        let operations = || self.body.then.iter().chain(&self.body.otherwise);
        // Values are not kept for repeats, so that what only reads is better read anew.
        let reads = operations().all(|operation| matches!(operation, Operation::Get(_)));
        let effect = match reads && self.terms.idempotency_key.is_none() {
            true => Effect::Read,
            false => Effect::Recorded,
        };
        let path = "/v1/txn".to_owned();
        let call = Call::new(Method::POST, path, effect, self.client.patience);
        let call = self.terms.on(call.with_json(&self.body))?;
        let told: tenure_api::Transacted = self.client.perform(&call).await?.json()?;
        let results: Result<Vec<Did>, Error> = told.results.into_iter().map(did).collect();
        Ok(Done {
            succeeded: told.succeeded,
            results: results?,
            revision: told.revision,
        })
    }
}

impl<'a, At: 'a> IntoFuture for Txn<'a, At> {
    type Output = Result<Done, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.go_on::<If>().send())
    }
}

/// What a transaction did.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// use tenure::txn::{delete, get, key};
/// let done = client.txn().when(key("a").exists()).then(delete("a")).otherwise(get("b")).await?;
/// println!("{} at revision {}: {:?}", done.succeeded, done.revision, done.results);
/// # assert!(!done.succeeded);
/// # Ok(()) });
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Done {
    /// Whether all conditions held.
    pub succeeded: bool,
    /// One for each operation of the branch that was done, in order.
    pub results: Vec<Did>,
    /// The revision after it: a new one where it changed something.
    pub revision: u64,
}

/// What an operation did.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// use tenure::txn::{Did, delete_prefix, get, put};
/// let done = client.txn().then(put("a", "1")).then(get("a")).then(delete_prefix("b/")).await?;
/// for did in done.results {
///     match did {
///         Did::Put { key, created, .. } => println!("{key} was {}", if created { "made" } else { "changed" }),
///         Did::Delete { deleted } => println!("{deleted} keys went"),
///         Did::Got(Some(key)) => println!("{} is {:?}", key.key, key.value),
///         Did::Got(None) => println!("it is absent"),
///         Did::NotKept { key } => println!("{key} was read when this was first applied"),
///     }
/// }
/// # Ok(()) });
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Did {
    /// A put.
    Put {
        /// Which key.
        key: String,
        /// Whether it was absent before.
        created: bool,
        /// The revision of this put.
        mod_revision: u64,
        /// Puts since it was created.
        version: u64,
    },
    /// A delete, of so many keys.
    Delete {
        /// How many keys went.
        deleted: u64,
    },
    /// A get, as the operations before it left the key; none where it is absent.
    Got(Option<KeyValue>),
    /// A get of a transaction that was applied, whose answer did not come: what was decided is kept for repeats, what
    /// was read is not.
    NotKept {
        /// Which key.
        key: String,
    },
}

fn did(result: OperationResult) -> Result<Did, Error> {
    Ok(match result {
        OperationResult::Put(put) => Did::Put {
            key: put.key,
            created: put.created,
            mod_revision: put.mod_revision,
            version: put.version,
        },
        OperationResult::Delete(delete) => Did::Delete {
            deleted: delete.deleted,
        },
        OperationResult::Get(KeyGot::Seen { entry, .. }) => {
            Did::Got(entry.map(key_value).transpose()?)
        }
        OperationResult::Get(KeyGot::Replayed { key, .. }) => Did::NotKept { key },
    })
}

/// A condition.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// use tenure::txn::{When, key, lives_id, put};
/// let mut conditions: Vec<When> = vec![key("a").is_absent()];
/// # let lease = client.lease(std::time::Duration::from_secs(15)).grant().await?;
/// conditions.push(lives_id(lease.id()));
/// assert!(client.txn().when_all(conditions).then(put("a", "1")).await?.succeeded);
/// # lease.revoke().await?;
/// # Ok(()) });
/// ```
#[derive(Clone, Debug)]
pub struct When(Condition);

impl From<Condition> for When {
    /// One that was written elsewhere in the form of the REST API.
    fn from(condition: Condition) -> When {
        When(condition)
    }
}

/// Whether this is held while the transaction is applied.
pub fn held(held: &impl Fenced) -> When {
    let fencing = held.fencing();
    fenced(
        fencing.hold.kind,
        fencing.part.name.clone(),
        fencing.part.fence,
    )
}

/// Whether each of several locks is held while the transaction is applied, but for those that were released: for
/// [`Txn::when_all`].
pub fn all_held(locks: &MultiLock) -> Vec<When> {
    locks.parts().map(|part| held(&part)).collect()
}

/// Whether a live holder has this fence of a lock.
pub fn lock(name: impl Into<String>, fence: u64) -> When {
    fenced(Kind::Lock, name.into(), fence)
}

/// Whether a live holder has this fence of a semaphore.
pub fn semaphore(name: impl Into<String>, fence: u64) -> When {
    fenced(Kind::Semaphore, name.into(), fence)
}

/// Whether the leadership with this fence lasts.
pub fn election(name: impl Into<String>, fence: u64) -> When {
    fenced(Kind::Election, name.into(), fence)
}

/// Whether a lease lives.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// use std::time::Duration;
/// use tenure::txn::{lives, put};
/// let lease = client.lease(Duration::from_secs(15)).grant().await?;
/// let done = client.txn().when(lives(&lease)).then(put("workers/7", "here")).await?;
/// assert!(done.succeeded);
/// # lease.revoke().await?;
/// # Ok(()) });
/// ```
pub fn lives(lease: &Lease) -> When {
    lives_id(lease.id())
}

/// Whether the lease of this id lives.
pub fn lives_id(lease: impl Into<String>) -> When {
    When(Condition {
        lease: Some(lease.into()),
        ..Condition::default()
    })
}

fn fenced(kind: Kind, name: String, fence: u64) -> When {
    let mut condition = Condition {
        fence: Some(fence),
        ..Condition::default()
    };
    let field = match kind {
        Kind::Lock => &mut condition.lock,
        Kind::Semaphore => &mut condition.semaphore,
        Kind::Election => &mut condition.election,
    };
    *field = Some(name);
    When(condition)
}

/// A key, one field of which is to be compared.
pub fn key(key: impl Into<String>) -> KeyIs {
    KeyIs(key.into())
}

/// A key, one field of which is to be compared.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// use tenure::txn::{key, put};
/// client.put("a", "1").await?;
/// let grown = client.txn().when(key("a").value().eq("1")).when(key("a").version().lt(5)).then(put("a", "2"));
/// assert!(grown.await?.succeeded);
/// # Ok(()) });
/// ```
#[derive(Clone, Debug)]
pub struct KeyIs(String);

impl KeyIs {
    /// Its value. Of an absent key every comparison is false but `ne`.
    pub fn value(self) -> Compared<Bytes> {
        self.compared(Field::Value)
    }

    /// How often it was put since it was created; 0 where it is absent.
    pub fn version(self) -> Compared<u64> {
        self.compared(Field::Version)
    }

    /// The revision that created it; 0 where it is absent.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// use tenure::txn::{key, put};
    /// let made = client.put("config/colour", "green").await?.create_revision;
    /// // However often it was put since: it is still the one that was made then.
    /// let same = key("config/colour").create_revision().eq(made);
    /// assert!(client.txn().when(same).then(put("seen", "yes")).await?.succeeded);
    /// # Ok(()) });
    /// ```
    pub fn create_revision(self) -> Compared<u64> {
        self.compared(Field::CreateRevision)
    }

    /// The revision of its last put; 0 where it is absent.
    pub fn mod_revision(self) -> Compared<u64> {
        self.compared(Field::ModRevision)
    }

    /// The id of the lease that it hangs on, or none.
    pub fn lease(self) -> Compared<OnLease> {
        self.compared(Field::Lease)
    }

    /// Whether it is there.
    pub fn exists(self) -> When {
        self.version().gt(0)
    }

    /// Whether it is not there.
    pub fn is_absent(self) -> When {
        self.version().eq(0)
    }

    fn compared<T>(self, field: Field) -> Compared<T> {
        Compared {
            key: self.0,
            field,
            with: PhantomData,
        }
    }
}

/// A field of a key that is compared with a value of its type.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// use tenure::txn::{Compared, key, put};
/// let version: Compared<u64> = key("a").version();
/// assert!(client.txn().when(version.eq(0)).then(put("a", "1")).await?.succeeded);
/// # Ok(()) });
/// ```
#[derive(Clone, Debug)]
pub struct Compared<T> {
    key: String,
    field: Field,
    with: PhantomData<fn(T)>,
}

/// The id of a lease, or none.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// use tenure::txn::{Compared, OnLease, get, key};
/// let lease = client.lease(std::time::Duration::from_secs(15)).grant().await?;
/// client.put("workers/7", "here").lease(&lease).await?;
/// let on: Compared<OnLease> = key("workers/7").lease();
/// assert!(client.txn().when(on.eq(lease.id())).then(get("workers/7")).await?.succeeded);
/// # lease.revoke().await?;
/// # Ok(()) });
/// ```
#[derive(Clone, Debug)]
pub enum OnLease {}

impl Compared<u64> {
    /// Equal to this.
    pub fn eq(self, number: u64) -> When {
        self.with(Compare::Equal, (number.into(), None))
    }

    /// Another than this.
    pub fn ne(self, number: u64) -> When {
        self.with(Compare::NotEqual, (number.into(), None))
    }

    /// Less than this.
    pub fn lt(self, number: u64) -> When {
        self.with(Compare::Less, (number.into(), None))
    }

    /// Greater than this.
    pub fn gt(self, number: u64) -> When {
        self.with(Compare::Greater, (number.into(), None))
    }
}

impl Compared<Bytes> {
    /// Equal to this.
    pub fn eq(self, value: impl Into<Bytes>) -> When {
        self.with(Compare::Equal, written(value))
    }

    /// Another than this, or absent.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// use tenure::txn::{key, put};
    /// let not_yet = key("config/colour").value().ne("green");
    /// assert!(client.txn().when(not_yet).then(put("config/colour", "green")).await?.succeeded);
    /// # Ok(()) });
    /// ```
    pub fn ne(self, value: impl Into<Bytes>) -> When {
        self.with(Compare::NotEqual, written(value))
    }

    /// Before this in the order of bytes.
    pub fn lt(self, value: impl Into<Bytes>) -> When {
        self.with(Compare::Less, written(value))
    }

    /// Behind this in the order of bytes.
    pub fn gt(self, value: impl Into<Bytes>) -> When {
        self.with(Compare::Greater, written(value))
    }
}

impl Compared<OnLease> {
    /// On this lease; none: on no lease.
    pub fn eq<'l>(self, lease: impl Into<Option<&'l str>>) -> When {
        self.with(Compare::Equal, (lease.into().into(), None))
    }

    /// Not on this lease; none: on some lease.
    pub fn ne<'l>(self, lease: impl Into<Option<&'l str>>) -> When {
        self.with(Compare::NotEqual, (lease.into().into(), None))
    }
}

impl<T> Compared<T> {
    fn with(self, op: Compare, (value, encoding): (Value, Option<Encoding>)) -> When {
        When(Condition {
            key: Some(self.key),
            field: Some(self.field),
            op: Some(op),
            value: Some(value),
            encoding,
            ..Condition::default()
        })
    }
}

/// A value as JSON has it.
fn written(value: impl Into<Bytes>) -> (Value, Option<Encoding>) {
    let (text, encoding) = encoded(&value.into());
    (text.into(), Some(encoding))
}

/// An operation.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// use tenure::txn::{Op, delete, get, put};
/// let operations: Vec<Op> = vec![put("a", "1").into(), get("a"), delete("b")];
/// assert_eq!(client.txn().then_all(operations).await?.results.len(), 3);
/// # Ok(()) });
/// ```
#[derive(Clone, Debug)]
pub struct Op(Operation);

impl From<Operation> for Op {
    /// One that was written elsewhere in the form of the REST API.
    fn from(operation: Operation) -> Op {
        Op(operation)
    }
}

/// Sets a key. One that is put on no lease hangs on none from then on.
pub fn put(key: impl Into<String>, value: impl Into<Bytes>) -> PutOp {
    let (value, encoding) = encoded(&value.into());
    PutOp(PutKey {
        key: key.into(),
        value,
        encoding: Some(encoding),
        content_type: None,
        lease: None,
    })
}

/// Deletes a key; one that is absent is no error.
pub fn delete(key: impl Into<String>) -> Op {
    Op(Operation::Delete(DeleteKeys {
        key: Some(key.into()),
        prefix: None,
    }))
}

/// Deletes every key that begins so.
pub fn delete_prefix(prefix: impl Into<String>) -> Op {
    Op(Operation::Delete(DeleteKeys {
        key: None,
        prefix: Some(prefix.into()),
    }))
}

/// Reads a key as the operations before it left it.
pub fn get(key: impl Into<String>) -> Op {
    Op(Operation::Get(GetKey { key: key.into() }))
}

/// A put of a transaction.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// use tenure::txn::put;
/// let lease = client.lease(std::time::Duration::from_secs(15)).grant().await?;
/// let here = put("workers/7", r#"{"port": 80}"#).content_type("application/json").lease(&lease);
/// client.txn().then(here).await?;
/// let read = client.get("workers/7").await?.expect("it is there");
/// assert_eq!(read.lease.as_deref(), Some(lease.id()));
/// lease.revoke().await?;
/// # Ok(()) });
/// ```
#[derive(Clone, Debug)]
pub struct PutOp(PutKey);

impl PutOp {
    /// The type of the value.
    pub fn content_type(mut self, content_type: impl Into<String>) -> PutOp {
        self.0.content_type = Some(content_type.into());
        self
    }

    /// The key ends with this lease.
    pub fn lease(mut self, lease: &Lease) -> PutOp {
        self.0.lease = Some(lease.id().to_owned());
        self
    }
}

impl From<PutOp> for Op {
    fn from(put: PutOp) -> Op {
        Op(Operation::Put(put.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn conditions_and_operations_are_written_as_the_contract_has_them() {
        let condition = |when: When| serde_json::to_value(when.0).expect("it has a form in JSON");
        assert_eq!(
            condition(key("a").mod_revision().eq(3)),
            json!({"key": "a", "field": "mod_revision", "op": "=", "value": 3})
        );
        assert_eq!(
            condition(key("a").value().lt(&b"\xff"[..])),
            json!({"key": "a", "field": "value", "op": "<", "value": "/w==", "encoding": "base64"})
        );
        assert_eq!(
            condition(key("a").lease().ne(None)),
            json!({"key": "a", "field": "lease", "op": "!=", "value": null})
        );
        assert_eq!(
            condition(lock("jobs/nightly", 121)),
            json!({"lock": "jobs/nightly", "fence": 121})
        );
        assert_eq!(condition(lives_id("00ff")), json!({"lease": "00ff"}));

        let operation =
            |op: Op| serde_json::to_value(op.0).expect("an operation has a form in JSON");
        assert_eq!(
            operation(put("a", "x").content_type("text/plain").into()),
            json!({"put": {"key": "a", "value": "x", "encoding": "utf-8", "content_type": "text/plain"}})
        );
        assert_eq!(
            operation(delete_prefix("c/")),
            json!({"delete": {"prefix": "c/"}})
        );
        assert_eq!(operation(get("a")), json!({"get": {"key": "a"}}));
    }
}
