//! The workloads: what each client does again and again.
//!
//! Owns what is prepared before a run and what is cleaned up after it. Written against [`Session`] alone, so that every
//! system does the same work. Counts and times nothing but what only it can know: how long a hand-off or a delivery
//! took.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;
use tokio::time::{sleep, timeout_at};

use super::busy::{Busy, HEAD};
use super::system::{Done, Failure, Reading, Session, Watching};

/// The most leases that are renewed in one request.
const TOGETHER: usize = tenure::api::MAX_RENEWED_TOGETHER;
/// How long one step of preparing or cleaning up may take.
const STEP: Duration = Duration::from_secs(10);
/// How often a client that is ready looks whether all are.
const LOOK: Duration = Duration::from_millis(50);

/// Between two tries of one that a cluster without a leader refused.
const AGAIN: Duration = Duration::from_millis(100);

/// A step of preparing or cleaning up, repeated while it is refused for a reason that passes. (A macro, since no closure
/// can lend a session to a future again and again that must be `Send`.)
macro_rules! in_time {
    ($step:expr) => {{
        use tokio::time::Instant;
        let end = Instant::now() + STEP;
        loop {
            match timeout_at(end, $step).await {
                Ok(Err(failure)) if failure.passes() && Instant::now() + AGAIN < end => {
                    sleep(AGAIN).await;
                }
                Ok(done) => break done,
                Err(_) => {
                    let detail = format!("the cluster did not do what was asked within {STEP:?}");
                    break Err(Failure::new("no-answer", detail));
                }
            }
        }
    }};
}

/// What is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Workload {
    /// Write a key of its own
    Put,
    /// Read a key of its own, linearizable
    Get,
    /// Read a key of its own from the state of the member that is asked
    GetLocal,
    /// Take and give back a lock of its own
    Lock,
    /// Take and give back one lock that all clients want
    Handoff,
    /// Win and give back one election that all clients want
    Election,
    /// Watch one busy key
    Watch,
    /// Renew many leases
    Renew,
}

impl Workload {
    /// What is counted, in the plural.
    pub(crate) fn counts(self) -> &'static str {
        match self {
            Workload::Put => "writes",
            Workload::Get | Workload::GetLocal => "reads",
            Workload::Lock => "locks",
            Workload::Handoff => "hand-offs",
            Workload::Election => "leaderships",
            Workload::Watch => "deliveries",
            Workload::Renew => "renewals",
        }
    }

    /// What a latency of it is.
    pub(crate) fn latency(self) -> &'static str {
        match self {
            Workload::Put | Workload::Get | Workload::GetLocal => "from request to answer",
            Workload::Lock => "of an acquire and its release together",
            Workload::Handoff | Workload::Election => {
                "from the sending of a release until the next holder knows"
            }
            Workload::Watch => "from the sending of a write until a watcher has it",
            Workload::Renew => "of a request with up to 1000 leases, counted for each of them",
        }
    }

    /// Whether keys with values are written.
    pub(crate) fn has_values(self) -> bool {
        matches!(
            self,
            Workload::Put | Workload::Get | Workload::GetLocal | Workload::Watch
        )
    }
}

/// One run.
pub(crate) struct Plan {
    pub(crate) workload: Workload,
    pub(crate) clients: usize,
    pub(crate) value_size: usize,
    /// How many leases all clients together renew.
    pub(crate) leases: usize,
    /// Of leases: those that are not renewed outlast the run.
    pub(crate) ttl: Duration,
    /// Of all names of this run.
    pub(crate) prefix: String,
    busy: Busy,
    /// When the lock or the election that all want was last given back.
    given_back: Mutex<Option<Instant>>,
    ready: AtomicUsize,
    given_up: AtomicBool,
}

impl Plan {
    pub(crate) fn new(
        workload: Workload,
        clients: usize,
        value_size: usize,
        leases: usize,
        ttl: Duration,
        prefix: String,
    ) -> Plan {
        Plan {
            workload,
            clients,
            value_size,
            leases,
            ttl,
            prefix,
            busy: Busy::new(clients),
            given_back: Mutex::new(None),
            ready: AtomicUsize::new(0),
            given_up: AtomicBool::new(false),
        }
    }

    /// Waits until all watchers were told what was written last.
    pub(crate) async fn complete(&self) -> Result<(), Failure> {
        self.busy.complete().await
    }

    /// Preparations end as soon as they can.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::SeqCst);
    }

    fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::SeqCst)
    }

    /// How many of the leases are this client's.
    fn share(&self, number: usize) -> usize {
        match self.workload {
            Workload::Renew => {
                self.leases / self.clients + usize::from(number < self.leases % self.clients)
            }
            Workload::Lock | Workload::Handoff | Workload::Election => 1,
            Workload::Put | Workload::Get | Workload::GetLocal | Workload::Watch => 0,
        }
    }

    /// What a client works on: its own, or what all have in common.
    fn name(&self, number: usize) -> String {
        match self.workload {
            Workload::Handoff | Workload::Election | Workload::Watch => {
                format!("{}/all", self.prefix)
            }
            _ => format!("{}/{number}", self.prefix),
        }
    }

    fn swap_given_back(&self, now: Option<Instant>) -> Option<Instant> {
        let mut given_back = self
            .given_back
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *given_back, now)
    }
}

/// One client of a run.
pub(crate) struct Client<S: Session> {
    pub(crate) session: S,
    plan: Arc<Plan>,
    number: usize,
    name: String,
    value: Bytes,
    leases: Vec<S::Lease>,
    /// The first lease of the next request to renew.
    turn: usize,
    watch: Option<S::Watch>,
    /// What a watcher was told and has not counted yet, the oldest last.
    heads: Vec<Bytes>,
    /// The last value that a watcher was told since its watch began.
    told: Option<u64>,
}

impl<S: Session> Client<S> {
    pub(crate) fn new(session: S, plan: Arc<Plan>, number: usize) -> Client<S> {
        Client {
            session,
            number,
            name: plan.name(number),
            value: Bytes::from(vec![b'x'; plan.value_size]),
            leases: Vec::new(),
            turn: 0,
            watch: None,
            heads: Vec::new(),
            told: None,
            plan,
        }
    }

    /// Makes what the workload needs. What was made before a failure is known, and goes with [`Client::leave`].
    pub(crate) async fn prepare(&mut self) -> Result<(), Failure> {
        match self.plan.workload {
            Workload::Put => {
                in_time!(self.session.put(&self.name, self.value.clone()))?;
            }
            Workload::Get | Workload::GetLocal => {
                in_time!(self.session.put(&self.name, self.value.clone()))?;
                // The member that will be asked for its own state has the key from here on.
                in_time!(self.session.get(&self.name, Reading::Linearizable))?;
            }
            Workload::Watch => {
                self.watch = Some(in_time!(self.session.watch(&self.name))?);
            }
            Workload::Lock | Workload::Handoff | Workload::Election | Workload::Renew => {
                self.grant().await?;
            }
        }
        self.plan.ready.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Grants its leases, and keeps those alive that it has, for there may be many.
    async fn grant(&mut self) -> Result<(), Failure> {
        let mut renewed = Instant::now();
        for _ in 0..self.plan.share(self.number) {
            if self.plan.is_given_up() {
                return Ok(());
            }
            let lease = in_time!(self.session.grant(self.plan.ttl))?;
            self.leases.push(lease);
            self.keep_alive(&mut renewed).await?;
        }
        Ok(())
    }

    async fn keep_alive(&mut self, renewed: &mut Instant) -> Result<(), Failure> {
        if renewed.elapsed() < self.plan.ttl / 3 {
            return Ok(());
        }
        *renewed = Instant::now();
        for together in self.leases.chunks(TOGETHER) {
            let done = in_time!(self.session.renew(together))?;
            if let Some((code, times)) = done.refused.first() {
                let detail = format!(
                    "{times} leases ended while others were granted: fewer --leases or a longer --ttl are needed"
                );
                return Err(Failure::new(code, detail));
            }
        }
        Ok(())
    }

    /// Waits until all clients are ready; leases do not run out meanwhile.
    pub(crate) async fn wait_for_others(&mut self) -> Result<(), Failure> {
        let mut renewed = Instant::now();
        while !self.plan.is_given_up() && self.plan.ready.load(Ordering::SeqCst) < self.plan.clients
        {
            sleep(LOOK).await;
            self.keep_alive(&mut renewed).await?;
        }
        Ok(())
    }

    /// How many operations it does at once.
    pub(crate) fn weight(&self) -> usize {
        match self.plan.workload {
            Workload::Renew => self.together(),
            _ => 1,
        }
    }

    /// The part of all operations that is this client's.
    pub(crate) fn part(&self) -> f64 {
        match self.plan.workload {
            Workload::Renew => self.leases.len() as f64 / self.plan.leases as f64,
            _ => 1.0 / self.plan.clients as f64,
        }
    }

    /// As few requests as possible, and all about as large.
    fn together(&self) -> usize {
        let requests = self.leases.len().div_ceil(TOGETHER).max(1);
        self.leases.len().div_ceil(requests).max(1)
    }

    /// Does its work once.
    pub(crate) async fn once(&mut self) -> Result<Done, Failure> {
        match self.plan.workload {
            Workload::Put => self.session.put(&self.name, self.value.clone()).await?,
            Workload::Get => self.session.get(&self.name, Reading::Linearizable).await?,
            Workload::GetLocal => self.session.get(&self.name, Reading::Local).await?,
            Workload::Lock => {
                let hold = self.session.acquire(&self.name, &self.leases[0]).await?;
                self.session.release(hold).await?;
            }
            Workload::Handoff => {
                let hold = self.session.acquire(&self.name, &self.leases[0]).await?;
                let took = self.pass_on();
                self.session.release(hold).await?;
                return Ok(handed_on(took));
            }
            Workload::Election => {
                let value = "http://127.0.0.1";
                let hold = self
                    .session
                    .campaign(&self.name, &self.leases[0], value)
                    .await?;
                let took = self.pass_on();
                self.session.resign(hold).await?;
                return Ok(handed_on(took));
            }
            Workload::Watch => return self.told().await,
            Workload::Renew => {
                let end = (self.turn + self.together()).min(self.leases.len());
                let turn = std::mem::replace(&mut self.turn, end % self.leases.len());
                return self.session.renew(&self.leases[turn..end]).await;
            }
        }
        Ok(Done::one())
    }

    /// How long ago the last holder began to give back what this client has just been granted; it gives it back now.
    fn pass_on(&self) -> Option<Duration> {
        let now = Instant::now();
        let given_back = self.plan.swap_given_back(Some(now))?;
        Some(now.saturating_duration_since(given_back))
    }

    /// The next delivery to a watcher.
    async fn told(&mut self) -> Result<Done, Failure> {
        if self.heads.is_empty() {
            // A watch that failed has gone with the failure, and the next begins anew.
            let mut watch = match self.watch.take() {
                Some(watch) => watch,
                None => {
                    self.told = None;
                    self.session.watch(&self.name).await?
                }
            };
            watch.next(&mut self.heads).await?;
            self.watch = Some(watch);
            self.heads.reverse();
        }
        let head = self.heads.pop().unwrap_or_default();
        let (number, age) = self.plan.busy.delivered(&head)?;
        let last = self.told.replace(number);
        if last.is_some_and(|last| last + 1 != number) {
            let detail = format!("a watcher was told value {number} after {last:?}");
            return Err(Failure::new("not-in-order", detail));
        }
        Ok(Done::one().took(age))
    }

    /// Writes the key that all others watch.
    pub(crate) async fn write_for_watchers(&mut self) -> Result<Done, Failure> {
        let value = self.plan.busy.value(self.plan.value_size.max(HEAD));
        let sent = Instant::now();
        self.session.put(&self.name, value).await?;
        Ok(Done::one().took(sent.elapsed()))
    }

    /// Ends its leases. Answers how many could not be ended, and why the first could not.
    pub(crate) async fn leave(mut self) -> (usize, Option<Failure>) {
        self.watch = None;
        let mut left = 0;
        let mut why = None;
        for lease in &self.leases {
            // A cluster that is away takes no more time than one step from each client.
            let ended = match &why {
                None => in_time!(self.session.revoke(lease)),
                Some(failure) => Err(Failure::clone(failure)),
            };
            if let Err(failure) = ended {
                left += 1;
                why.get_or_insert(failure);
            }
        }
        (left, why)
    }
}

/// A hand-off, or the first grant, which nobody handed on and which has no time of its own.
fn handed_on(took: Option<Duration>) -> Done {
    took.map_or_else(Done::default, |took| Done::one().took(took))
}

/// Deletes the keys of a run.
pub(crate) async fn delete_keys<S: Session>(session: &mut S, plan: &Plan) -> Result<(), Failure> {
    if plan.workload.has_values() {
        in_time!(session.delete(&format!("{}/", plan.prefix)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_step_is_repeated_while_its_refusal_passes_and_no_longer_than_its_time() {
        let answer = async |code: &str| -> Result<(), Failure> { Err(Failure::new(code, "")) };
        let mut tries = 0;
        let third = in_time!(async {
            tries += 1;
            if tries < 3 {
                answer("no-leader").await?;
            }
            Ok::<u32, Failure>(tries)
        });
        assert_eq!(third, Ok(3));

        let began = tokio::time::Instant::now();
        let refused = in_time!(answer("too-large"));
        assert_eq!(
            refused.map_err(|failure| failure.code),
            Err("too-large".into())
        );
        assert!(
            began.elapsed() < AGAIN,
            "what does not pass is told at once"
        );
        let refused = in_time!(answer("unavailable"));
        assert_eq!(
            refused.map_err(|failure| failure.code),
            Err("unavailable".into())
        );
        assert!(began.elapsed() <= STEP, "{:?}", began.elapsed());
        let silent = in_time!(std::future::pending::<Result<(), Failure>>());
        assert_eq!(
            silent.map_err(|failure| failure.code),
            Err("no-answer".into())
        );
    }
}
